// Optimisers against the published update rules in float64 loops, on every device; clipping; parameter groups; their state.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import * as nn from "../../src/nn/index.ts";
import { type Parameter, parameterFrom } from "../../src/nn/module.ts";
import { AdamW, clipGradNorm, gradNorm, LAMB, type Optimizer, type Parameters, SGD, weightDecayGroups } from "../../src/optim/index.ts";
import type { DeviceName } from "../../src/runtime/device.ts";
import { device } from "../../src/runtime/engine.ts";
import { SpikeloomError } from "../../src/runtime/error.ts";
import { PLIF } from "../../src/spiking/index.ts";
import { keep, scope } from "../../src/tensor/scope.ts";
import { backward } from "../../src/tensor/tape.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { compiledDevices, numbers, start } from "../gradcheck.ts";
import { close } from "../tensor/support.ts";
import "../../src/tensor/methods.ts";

const DEVICES: [DeviceName, number][] = [["reference", 12], ...compiledDevices().map((name): [DeviceName, number] => [name, 5])];
const STEPS = 6;

function make(size: number, seed: number): Parameter {
  return parameterFrom(Float64Array.from(numbers(size, seed, -1, 1)), [size], null);
}

function setGradient(p: Parameter, values: ArrayLike<number> | null): void {
  p.grad?.dispose();
  p.grad = values && keep(tensor(Float64Array.from(values), p.shape, "f32"));
}

const gradientOf = (size: number, step: number) => numbers(size, 100 + step, -2, 2);

/** Run `STEPS` updates on the device and in plain numbers; one rate for every step. */
function compare(
  optimizer: Optimizer<{ lr: number; weightDecay: number }>,
  p: Parameter,
  rule: (value: number, gradient: number, step: number, state: number[], lr: number) => number,
  digits: number,
): void {
  const values = [...p.dataSync()];
  const state = values.map(() => [0, 0]);
  for (let step = 1; step <= STEPS; step++) {
    const gradient = gradientOf(p.size, step);
    setGradient(p, gradient);
    optimizer.lr = 0.1 / step;
    optimizer.step();
    for (let i = 0; i < values.length; i++)
      values[i] = rule(values[i] as number, gradient[i] as number, step, state[i] as number[], 0.1 / step);
    close(p.dataSync(), values, 10 ** -digits, `step ${step}`);
  }
  expect(optimizer.steps).toBe(STEPS);
}

describe.each(DEVICES)("on %s", (name, digits) => {
  beforeEach(() => start(name));

  // 20011 elements are several tiles and no multiple of a vector.
  it.each([
    [1, {}],
    [37, { betas: [0.8, 0.95], eps: 1e-4, weightDecay: 0.1 }],
    [20011, { weightDecay: 0 }],
  ] as const)("AdamW of %d elements %o", (size, settings) => {
    const p = make(size, 1);
    const {
      betas: [b1, b2] = [0.9, 0.999],
      eps = 1e-8,
      weightDecay = 0.01,
    } = settings as { betas?: [number, number]; eps?: number; weightDecay?: number };
    compare(
      new AdamW([p], settings),
      p,
      (value, g, step, state, lr) => {
        state[0] = b1 * (state[0] as number) + (1 - b1) * g;
        state[1] = b2 * (state[1] as number) + (1 - b2) * g * g;
        const m = (state[0] as number) / (1 - b1 ** step);
        const v = (state[1] as number) / (1 - b2 ** step);
        return value * (1 - lr * weightDecay) - (lr * m) / (Math.sqrt(v) + eps);
      },
      digits,
    );
  });

  it.each([
    [1, {}],
    [37, { weightDecay: 0.05 }],
    [37, { momentum: 0.9, weightDecay: 0.05 }],
    [37, { momentum: 0.9, dampening: 0.3 }],
    [20011, { momentum: 0.8, nesterov: true, weightDecay: 0.01 }],
  ] as const)("SGD of %d elements %o", (size, settings) => {
    const p = make(size, 2);
    const {
      momentum = 0,
      dampening = 0,
      weightDecay = 0,
      nesterov = false,
    } = settings as Partial<ConstructorParameters<typeof SGD>[1] & object>;
    compare(
      new SGD([p], settings),
      p,
      (value, gradient, step, state, lr) => {
        let g = gradient + weightDecay * value;
        if (momentum) {
          state[0] = step === 1 ? g : momentum * (state[0] as number) + (1 - dampening) * g;
          g = nesterov ? g + momentum * (state[0] as number) : (state[0] as number);
        }
        return value - lr * g;
      },
      digits,
    );
  });

  it("clips by the norm of all gradients together", () => {
    const [a, b, c] = [make(3, 1), make(20011, 2), make(5, 3)];
    const optimizer = new SGD([a, b, c], { lr: 1 });
    const before = [a, b].map((p) => [...p.dataSync()]);
    const gradients = [gradientOf(3, 1), gradientOf(20011, 2)];
    const set = () => [a, b].forEach((p, i) => setGradient(p, gradients[i] as number[]));
    const norm = Math.sqrt(gradients.flat().reduce((n, g) => n + g * g, 0));
    set();
    expect(gradNorm([a, b, c]) / norm).toBeCloseTo(1, 5);
    // Below the limit nothing changes.
    expect(clipGradNorm(optimizer, norm * 2) / norm).toBeCloseTo(1, 5);
    expect(optimizer.gradScale).toBe(1);
    expect(clipGradNorm(optimizer, 3) / norm).toBeCloseTo(1, 5);
    optimizer.step();
    expect(optimizer.gradScale).toBe(1);
    [a, b].forEach((p, k) => {
      const expected = before[k]?.map((v, i) => v - (gradients[k]?.[i] as number) * (3 / (norm + 1e-6))) as number[];
      close(p.dataSync(), expected, 10 ** -digits, `parameter ${k}`);
    });
    // With accumulated batches the norm is that of their mean.
    set();
    optimizer.gradScale = 0.25;
    expect(clipGradNorm(optimizer, 3) / norm).toBeCloseTo(0.25, 5);
    expect(optimizer.gradScale).toBeCloseTo(3 / norm, 6);
  });
});

describe("groups", () => {
  beforeEach(() => start("reference"));

  it("of timm's kind: no decay for biases and what has one axis or none", () => {
    const net = new nn.Sequential(new nn.Conv2d(2, 3, 3), new nn.BatchNorm2d(3), new nn.Linear(3, 4), new PLIF());
    const [none, decay] = weightDecayGroups(net, 0.2);
    const names = new Map([...net.namedParameters()].map(([name, p]) => [p, name]));
    const listed = (parameters: readonly Parameter[] = []) => parameters.map((p) => names.get(p)).sort();
    expect([none?.weightDecay, decay?.weightDecay]).toEqual([0, 0.2]);
    expect(listed(none?.parameters)).toEqual(["0.bias", "1.bias", "1.weight", "2.bias", "3.w"]);
    expect(listed(decay?.parameters)).toEqual(["0.weight", "2.weight"]);
  });

  it("decay everything where asked", () => {
    const net = new nn.Sequential(new nn.Linear(3, 4), new nn.BatchNorm2d(3));
    const groups = weightDecayGroups(net, 0.2, { decayAll: true });
    expect(groups).toEqual([{ parameters: net.parameters(), weightDecay: 0.2 }]);
  });

  it("of a layer decay: rates fall from the head down, and with them what a step moves", () => {
    const net = new nn.Sequential(new nn.Linear(3, 4), new nn.Linear(4, 4), new nn.Linear(4, 2));
    const layers = { count: 2, of: (key: string) => Number(key[0]) };
    const groups = weightDecayGroups(net, 0.2, { layerDecay: 0.5, layers });
    expect(groups.map(({ lrScale, weightDecay, parameters }) => [lrScale, weightDecay, parameters.length])).toEqual(
      [0.25, 0.5, 1].flatMap((scale) => [
        [scale, 0, 1],
        [scale, 0.2, 1],
      ]),
    );
    const before = net.parameters().map((p) => p.dataSync()[0] as number);
    for (const p of net.parameters()) setGradient(p, new Array<number>(p.size).fill(1));
    const optimizer = new SGD(groups, { lr: 0.1, weightDecay: 0 });
    optimizer.lr = 0.01;
    optimizer.step();
    net.parameters().forEach((p, i) => {
      const scale = [0.25, 0.5, 1][Math.floor(i / 2)] as number;
      const decay = i % 2 ? 0 : 0.2 * (before[i] as number);
      expect(p.dataSync()[0]).toBeCloseTo((before[i] as number) - 0.01 * scale * (1 + decay), 12);
    });
  });

  it("refuse a layer decay without layers, outside (0, 1], and layers that are none", () => {
    const net = new nn.Linear(3, 4);
    const wrong = (options: object) => () => weightDecayGroups(net, 0.2, options);
    expect(wrong({ layerDecay: 0.5 })).toThrow("layerDecay needs layers { count, of(key) }");
    expect(wrong({ layerDecay: 0 })).toThrow("layerDecay must be in (0, 1], found 0");
    expect(wrong({ layerdecay: 0.5 })).toThrow('did you mean "layerDecay"?');
    expect(wrong({ layerDecay: 0.5, layers: { count: 1, of: () => 2 } })).toThrow('the layer of "weight" must be from 0 to 1, found 2');
    expect(() => new SGD([{ parameters: net.parameters(), lrScale: -1 }])).toThrow("lrScale must be a number >= 0, found -1");
  });

  it("have settings of their own; a parameter without gradient stays", () => {
    const [a, b, c] = [make(1, 1), make(1, 2), make(1, 3)];
    const before = [a, b, c].map((p) => p.itemSync());
    const optimizer = new SGD(
      [
        { parameters: [a], lr: 0.5 },
        { parameters: [b, c], weightDecay: 0 },
      ],
      { lr: 0.1, weightDecay: 1 },
    );
    setGradient(a, [2]);
    setGradient(b, [2]);
    const versions = [a, b, c].map((p) => p.version);
    optimizer.step();
    const [va, vb, vc] = before as [number, number, number];
    expect(a.itemSync()).toBeCloseTo(va - 0.5 * (2 + va), 12);
    expect(b.itemSync()).toBeCloseTo(vb - 0.2, 12);
    expect(c.itemSync()).toBe(vc);
    expect([a, b, c].map((p, i) => p.version - (versions[i] as number))).toEqual([1, 1, 0]);
    optimizer.zeroGrad();
    expect([a.grad, b.grad]).toEqual([null, null]);
  });

  it.each<[string, () => unknown, string]>([
    ["no parameters", () => new SGD([]), "SGD: no parameters were given"],
    ["a parameter twice", () => ((p) => new AdamW([p, p]))(make(1, 1)), "AdamW: a parameter is listed twice"],
    ["a negative rate", () => new SGD([make(1, 1)], { lr: -1 }), "SGD: lr must be a number >= 0, found -1"],
    ["NaN", () => new AdamW([make(1, 1)], { eps: Number.NaN }), "AdamW: eps must be a number >= 0, found NaN"],
    ["betas of 1", () => new AdamW([make(1, 1)], { betas: [1, 0.9] }), "AdamW: betas must be in [0, 1), found [1, 0.9]"],
    [
      "betas of three",
      () => new LAMB([make(1, 1)], { betas: [0.1, 0.2, 0.3] as never }),
      "LAMB: betas must be in [0, 1), found [0.1, 0.2, 0.3]",
    ],
    ["text for a number", () => new LAMB([make(1, 1)], { eps: "1e-6" as never }), "LAMB: eps must be a number >= 0, found 1e-6"],
    ["a number for a switch", () => new LAMB([make(1, 1)], { trustClip: 1 as never }), "LAMB: trustClip must be true or false, found 1"],
    [
      "PyTorch's spelling",
      () => new AdamW([make(1, 1)], { weight_decay: 0.1 } as never),
      'AdamW: unknown setting "weight_decay", did you mean "weightDecay"?',
    ],
    [
      "a setting of nobody",
      () => new SGD([make(1, 1)], { amsgrad: true } as never),
      'SGD: unknown setting "amsgrad" (one of lr, momentum, dampening, weightDecay, nesterov)',
    ],
    [
      "PyTorch's groups",
      () => new AdamW([{ params: [make(1, 1)] }] as never),
      'AdamW: a parameter group: unknown setting "params" (one of parameters, lr, lrScale, weightDecay)',
    ],
    [
      "a group's negative decay",
      () => new SGD([{ parameters: [make(1, 1)], weightDecay: -1 }]),
      "SGD: a parameter group: weightDecay must be a number >= 0, found -1",
    ],
    ["what is no parameter", () => new SGD([make(1, 1), 3] as unknown as Parameters), "SGD: parameters must be a list of parameters"],
    ["nesterov without momentum", () => new SGD([make(1, 1)], { nesterov: true }), "SGD: nesterov needs momentum > 0 and dampening 0"],
  ])("refuse %s", (_, build, message) => {
    expect(build).toThrow(SpikeloomError);
    expect(build).toThrow(message);
  });
});

it("undefined settings are the defaults", async () => {
  await start("reference");
  expect(new AdamW([make(1, 1)], { lr: undefined, eps: 1e-3 }).settings).toEqual({
    lr: 1e-3,
    betas: [0.9, 0.999],
    eps: 1e-3,
    weightDecay: 0.01,
  });
});

describe("state", () => {
  beforeEach(() => start("wasm"));

  type Any = AdamW | SGD | LAMB;
  const run = (optimizer: Any, p: Parameter, from: number, to: number) => {
    for (let step = from; step <= to; step++) {
      setGradient(p, gradientOf(p.size, step));
      optimizer.step();
    }
  };

  it.each<[string, (p: Parameter) => Any]>([
    ["AdamW", (p) => new AdamW([p], { lr: 0.05 })],
    ["SGD", (p) => new SGD([p], { lr: 0.05, momentum: 0.9, dampening: 0.2 })],
    ["LAMB", (p) => new LAMB([p], { lr: 0.05 })],
  ])("of %s goes on bit for bit in another optimiser", (_, build) => {
    const whole = make(50, 1);
    run(build(whole), whole, 1, 6);
    const [first, second] = [make(50, 1), make(50, 1)];
    const one = build(first);
    run(one, first, 1, 3);
    second.set(first.dataSync());
    const two = build(second);
    two.loadState(one.stateTensors(), one.steps);
    run(two, second, 4, 6);
    expect(second.dataSync()).toEqual(whole.dataSync());
  });

  it("of another model or optimiser is refused, and nothing changes", () => {
    const p = make(4, 1);
    const optimizer = new AdamW([p]);
    run(optimizer, p, 1, 2);
    const before = optimizer.stateTensors();
    const data = new Float32Array(4);
    const bad: [string, number][] = [
      ["1.exp_avg", 4],
      ["0.exp_avg", 5],
      ["0.momentum_buffer", 4],
      ["x", 4],
    ];
    for (const [key, length] of bad) {
      const state = new Map([
        ["0.exp_avg", { shape: [4], data }],
        [key, { shape: [length], data: new Float32Array(length) }],
      ]);
      if (key === "0.exp_avg") state.delete("0.exp_avg_sq");
      expect(() => optimizer.loadState(state, 7)).toThrow(`AdamW: state "${key}" of ${length} values fits no parameter of this model`);
      expect([optimizer.steps, optimizer.stateTensors()]).toEqual([2, before]);
    }
  });

  it("is kept by scopes and freed by dispose", () => {
    const p = make(1000, 1);
    const optimizer = new AdamW([p]);
    const used = device().memory().used;
    scope(() => {
      const loss = p.mul(p).sum() as Tensor;
      backward(loss);
      optimizer.step();
    });
    expect(optimizer.stateTensors().get("0.exp_avg")?.data[0]).not.toBe(0);
    expect(device().memory().used).toBeGreaterThan(used);
    optimizer.zeroGrad();
    optimizer.dispose();
    expect(device().memory().used).toBe(used);
  });
});

afterEach(() => start("reference"));
