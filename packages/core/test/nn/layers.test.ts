// Layers: state-dict keys and shapes, initial values, what forward computes, what is trained.
import { beforeEach, describe, expect, it } from "vitest";
import * as nn from "../../src/nn/index.ts";
import { device, init, onDevice, randomness } from "../../src/runtime/engine.ts";
import { Phantom } from "../../src/runtime/phantom.ts";
import { profileKernels } from "../../src/runtime/profile.ts";
import { checkpoint } from "../../src/tensor/checkpoint.ts";
import { batchNorm } from "../../src/tensor/ops/norm.ts";
import { sum } from "../../src/tensor/ops/reduce.ts";
import { scope } from "../../src/tensor/scope.ts";
import { backward } from "../../src/tensor/tape.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { ADDON } from "../gradcheck.ts";
import { checkGradients, close, compiled, leaf, on, sameEverywhere, spikes, values } from "../tensor/support.ts";

beforeEach(() => on("reference"));

const shapesOf = (m: nn.Module): Record<string, number[]> =>
  Object.fromEntries([...m.stateShapes()].map(([key, shape]) => [key, [...shape]]));

describe("state dicts", () => {
  it("have PyTorch's keys and shapes", () => {
    expect(shapesOf(new nn.Conv2d(6, 8, [3, 5], { groups: 2 }))).toEqual({ weight: [8, 3, 3, 5], bias: [8] });
    expect(shapesOf(new nn.Conv2d(6, 8, 3, { bias: false }))).toEqual({ weight: [8, 6, 3, 3] });
    expect(shapesOf(new nn.Conv1d(4, 6, 3))).toEqual({ weight: [6, 4, 3], bias: [6] });
    expect(shapesOf(new nn.Linear(5, 7))).toEqual({ weight: [7, 5], bias: [7] });
    expect(shapesOf(new nn.Embedding(5, 7))).toEqual({ weight: [5, 7] });
    const norm = { weight: [3], bias: [3], running_mean: [3], running_var: [3], num_batches_tracked: [] };
    expect(shapesOf(new nn.BatchNorm2d(3))).toEqual(norm);
    expect(Object.keys(shapesOf(new nn.BatchNorm1d(3)))).toEqual(["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]);
    expect(shapesOf(new nn.BatchNorm1d(3, { affine: false }))).toEqual({ running_mean: [3], running_var: [3], num_batches_tracked: [] });
    expect(shapesOf(new nn.BatchNorm2d(3, { trackRunningStats: false }))).toEqual({ weight: [3], bias: [3] });
    expect(shapesOf(new nn.LayerNorm([2, 3]))).toEqual({ weight: [2, 3], bias: [2, 3] });
    expect(shapesOf(new nn.LayerNorm(3, { affine: false }))).toEqual({});
    for (const m of [new nn.ReLU(), new nn.GELU(), new nn.MaxPool2d(2), new nn.Dropout(), new nn.Flatten(), new nn.Identity()])
      expect(shapesOf(m)).toEqual({});
    expect(new nn.BatchNorm2d(3).stateDict().get("num_batches_tracked")).toEqual({ dtype: "i64", shape: [], data: BigInt64Array.of(0n) });
  });

  it("name the parts of containers by number", () => {
    const net = new nn.Sequential(new nn.Linear(2, 3), new nn.ReLU(), new nn.Sequential(new nn.Linear(3, 1, { bias: false })));
    expect([...net.stateShapes().keys()]).toEqual(["0.weight", "0.bias", "2.0.weight"]);
    const list = new nn.ModuleList([new nn.Linear(1, 1, { bias: false }), new nn.Linear(1, 2, { bias: false })]);
    expect(shapesOf(list)).toEqual({ "0.weight": [1, 1], "1.weight": [2, 1] });
    expect([list.length, [...list].length, list.at(-1)]).toEqual([2, 2, list.modules[1]]);
    expect(() => list.at(2)).toThrow("ModuleList: index must be in [-2, 2), found 2");
    expect(() => list.forward()).toThrow("ModuleList: has no forward of its own");
  });

  it("hold PyTorch's axis order, in both directions", () => {
    const conv = new nn.Conv2d(4, 6, [2, 3], { groups: 2 });
    const state = conv.stateDict();
    const file = state.get("weight") as nn.StateEntry;
    const memory = conv.weight.dataSync();
    for (let o = 0; o < 6; o++)
      for (let i = 0; i < 2; i++)
        for (let y = 0; y < 2; y++)
          for (let x = 0; x < 3; x++) expect(file.data[((o * 2 + i) * 2 + y) * 3 + x]).toBe(memory[((y * 3 + x) * 2 + i) * 6 + o]);
    const other = new nn.Conv2d(4, 6, [2, 3], { groups: 2 });
    expect([...other.weight.dataSync()]).not.toEqual([...memory]);
    other.loadStateDict(state);
    expect([...other.weight.dataSync()]).toEqual([...memory]);
    expect([...other.bias!.dataSync()]).toEqual([...conv.bias!.dataSync()]);
  });
});

describe("initial values", () => {
  it("are PyTorch's defaults, drawn in the file's order: weight, then bias, within 1 / sqrt(fan in)", () => {
    for (const [make, fanIn] of [
      [() => new nn.Conv2d(4, 6, 3, { groups: 2 }), 18],
      [() => new nn.Conv1d(4, 6, 3), 12],
      [() => new nn.Linear(10, 6), 10],
    ] as const) {
      randomness().stream("init").restore({ block: 0, word: 0 });
      const state = make().stateDict();
      randomness().stream("init").restore({ block: 0, word: 0 });
      const stream = randomness().stream("init");
      const bound = 1 / Math.sqrt(fanIn);
      for (const key of ["weight", "bias"]) {
        const { data: drawn } = state.get(key) as nn.StateEntry;
        const data = Array.from(drawn as Float64Array);
        stream.reserve(0); // a tensor begins at a fresh block
        close(
          data,
          data.map(() => bound * (2 * stream.uniform() - 1)),
          1e-12,
          key,
        );
      }
    }
  });

  it("do not depend on the device", async () => {
    await sameEverywhere(() => {
      const net = new nn.Sequential(new nn.Conv2d(3, 5, 3), new nn.BatchNorm2d(5), new nn.Linear(5, 7), new nn.Embedding(4, 3));
      const result = [...net.stateDict().values()].map(({ data }) => Array.from(data as Float64Array, Number));
      net.dispose();
      return result;
    }, 1e-6);
  });

  it("can be set by the initialisers, with fans in PyTorch's sense", () => {
    const { weight, bias } = new nn.Conv2d(50, 40, 3, { groups: 2 });
    expect(nn.init.fans(weight)).toEqual({ fanIn: 25 * 9, fanOut: 40 * 9 });
    const spread = (): { std: number; most: number } => {
      const data = [...weight.dataSync()];
      return {
        std: Math.sqrt(data.reduce((s, v) => s + v * v, 0) / data.length),
        most: data.reduce((m, v) => Math.max(m, Math.abs(v)), 0),
      };
    };
    const near = (expected: number): void => expect(Math.abs(spread().std / expected - 1)).toBeLessThan(0.03);
    const version = weight.version;
    nn.init.kaimingNormal_(weight);
    expect(weight.version).toBe(version + 1);
    near(Math.sqrt(2 / 225));
    nn.init.kaimingNormal_(weight, { mode: "fanOut", a: 1 });
    near(Math.sqrt(1 / 360));
    nn.init.kaimingUniform_(weight);
    near(Math.sqrt(2 / 225));
    expect(spread().most).toBeLessThanOrEqual(Math.sqrt(6 / 225));
    nn.init.xavierUniform_(weight);
    near(Math.sqrt(2 / 585));
    nn.init.xavierNormal_(weight, 2);
    near(2 * Math.sqrt(2 / 585));
    nn.init.truncNormal_(weight, { std: 0.02, a: -0.02, b: 0.02 });
    expect(spread().most).toBeLessThanOrEqual(0.02);
    nn.init.uniform_(weight, 1, 2);
    expect([...weight.dataSync()].every((v) => v >= 1 && v < 2)).toBe(true);
    nn.init.ones_(weight);
    expect(new Set(weight.dataSync())).toEqual(new Set([1]));
    nn.init.zeros_(bias!);
    expect(new Set(bias!.dataSync())).toEqual(new Set([0]));
    expect(() => nn.init.kaimingUniform_(bias!)).toThrow("init: fans need a weight of two or more axes, found [40]");
  });

  it("are not drawn where only shapes are wanted, and the stream stays where it was", () => {
    const before = randomness().state();
    const net = nn.init.withoutDraws(() => new nn.Sequential(new nn.Linear(3, 4), new nn.BatchNorm1d(4)));
    expect(randomness().state()).toEqual(before);
    expect(shapesOf(net)).toMatchObject({ "0.weight": [4, 3], "1.running_var": [4] });
    expect([...(net.stateDict().get("1.weight") as nn.StateEntry).data]).toEqual([1, 1, 1, 1]);
    expect(() =>
      nn.init.withoutDraws(() => {
        throw new Error("x");
      }),
    ).toThrow("x");
    new nn.Linear(3, 4);
    expect(randomness().state()).not.toEqual(before);
  });
});

describe("forward and gradients", () => {
  /** Finite differences for the input and for every parameter of a layer, the others held. */
  function check(layer: nn.Module, x: Tensor): void {
    const parameters = layer.parameters();
    for (const p of parameters) p.requiresGrad = false;
    checkGradients((a) => layer.forward(a) as Tensor, x);
    for (const p of parameters) checkGradients((value) => withParameter(layer, p, value, x), p);
  }

  /** The layer's output with `value` in the place of parameter p. */
  function withParameter(layer: nn.Module, p: nn.Parameter, value: Tensor, x: Tensor): Tensor {
    for (const [, m] of layer.namedModules()) {
      const fields = m as unknown as Record<string, unknown>;
      for (const [name, field] of Object.entries(fields))
        if (field === p) {
          fields[name] = value;
          try {
            return layer.forward(x) as Tensor;
          } finally {
            fields[name] = p;
          }
        }
    }
    throw new Error("no such parameter");
  }

  it.each([
    ["Conv2d", () => new nn.Conv2d(2, 3, 3, { padding: 1, stride: 2 }), [1, 4, 5, 2]],
    ["Conv2d with groups", () => new nn.Conv2d(4, 4, [2, 1], { groups: 2, dilation: 2, padding: "same" }), [1, 4, 3, 4]],
    ["Conv1d", () => new nn.Conv1d(2, 3, 2, { padding: 1, dilation: 2 }), [2, 5, 2]],
    ["Linear", () => new nn.Linear(3, 4), [2, 2, 3]],
    ["BatchNorm1d", () => new nn.BatchNorm1d(3), [2, 4, 3]],
    ["BatchNorm2d", () => new nn.BatchNorm2d(3), [2, 2, 2, 3]],
    ["BatchNorm2d in eval", () => new nn.BatchNorm2d(3).eval(), [2, 2, 2, 3]],
    ["LayerNorm", () => new nn.LayerNorm([2, 3]), [4, 2, 3]],
    ["MaxPool2d", () => new nn.MaxPool2d(2), [1, 4, 4, 2]],
    ["AvgPool2d", () => new nn.AvgPool2d(2, { stride: 1 }), [1, 3, 3, 2]],
    ["AdaptiveAvgPool2d", () => new nn.AdaptiveAvgPool2d([2, 1]), [1, 3, 3, 2]],
    ["GELU", () => new nn.GELU(), [2, 3]],
    ["SiLU", () => new nn.SiLU(), [2, 3]],
    ["Sigmoid", () => new nn.Sigmoid(), [2, 3]],
    ["Tanh", () => new nn.Tanh(), [2, 3]],
    ["ReLU", () => new nn.ReLU(), [2, 3]],
    ["Flatten", () => new nn.Flatten(), [2, 2, 3, 2]],
    [
      "Sequential",
      () => new nn.Sequential(new nn.Conv2d(2, 3, 2), new nn.BatchNorm2d(3), new nn.Tanh(), new nn.Flatten(), new nn.Linear(12, 2)),
      [2, 3, 3, 2],
    ],
  ] as [string, () => nn.Module, number[]][])("%s has the gradients of finite differences", (_name, make, shape) => {
    const layer = make();
    for (const p of layer.parameters()) p.set(values([p.size], 3).dataSync());
    check(layer, values(shape, 1));
  });

  it("a convolution of an image equals PyTorch's by its own layout", () => {
    // 1 x 1 image of 2 channels: y[o] = sum_i weight[o, i] x[i] + bias[o]
    const conv = new nn.Conv2d(2, 3, 1);
    conv.loadStateDict(
      new Map([
        ["weight", { shape: [3, 2, 1, 1], data: [1, 2, 3, 4, 5, 6] }],
        ["bias", { shape: [3], data: [10, 20, 30] }],
      ]),
    );
    expect([...(conv.forward(tensor([[[[1, 10]]]])) as Tensor).dataSync()]).toEqual([31, 63, 95]);
    const linear = new nn.Linear(2, 3);
    linear.loadStateDict(
      new Map([
        ["weight", { shape: [3, 2], data: [1, 2, 3, 4, 5, 6] }],
        ["bias", { shape: [3], data: [10, 20, 30] }],
      ]),
    );
    expect([...(linear.forward(tensor([[1, 10]])) as Tensor).dataSync()]).toEqual([31, 63, 95]);
  });

  it("Flatten walks channels first, as PyTorch's Linear weights expect", () => {
    const x = tensor([
      [
        [
          [0, 10],
          [1, 11],
        ],
        [
          [2, 12],
          [3, 13],
        ],
      ],
    ]);
    expect([...(new nn.Flatten().forward(x) as Tensor).dataSync()]).toEqual([0, 1, 2, 3, 10, 11, 12, 13]);
  });

  it("Embedding looks vectors up, and trains those alone", () => {
    const layer = new nn.Embedding(4, 2);
    layer.weight.set([0, 1, 10, 11, 20, 21, 30, 31]);
    const y = layer.forward(tensor(Int32Array.from([2, 0, 2]))) as Tensor;
    expect([...y.dataSync()]).toEqual([20, 21, 0, 1, 20, 21]);
    backward(sum(y));
    expect([...(layer.weight.grad as Tensor).dataSync()]).toEqual([1, 1, 0, 0, 2, 2, 0, 0]);
  });

  it("layers take spikes", () => {
    const x = spikes([2, 4, 4, 2], 1);
    for (const layer of [
      new nn.Conv2d(2, 3, 3),
      new nn.Linear(2, 3),
      new nn.BatchNorm2d(2),
      new nn.MaxPool2d(2),
      new nn.AvgPool2d(2),
      new nn.Flatten(),
    ])
      close((layer.forward(x) as Tensor).dataSync(), (layer.eval().train().forward(x.toDense()) as Tensor).dataSync(), 1e-12);
  });
});

describe("BatchNorm", () => {
  const x = (): Tensor => values([4, 3], 1);

  it("moves its running statistics in training, and uses them afterwards", () => {
    const norm = new nn.BatchNorm1d(3, { momentum: 0.3 });
    norm.forward(x());
    norm.forward(values([4, 3], 2));
    expect(norm.num_batches_tracked?.itemSync()).toBe(2);
    expect([...norm.running_mean!.dataSync()]).not.toEqual([0, 0, 0]);
    norm.eval();
    const before = [...norm.running_mean!.dataSync()];
    const y = norm.forward(x()) as Tensor;
    const expected = batchNorm(x(), norm.weight, norm.bias, norm.running_mean, norm.running_var, { training: false });
    close(y.dataSync(), expected.dataSync(), 0);
    expect([...norm.running_mean!.dataSync()]).toEqual(before);
    expect(norm.num_batches_tracked?.itemSync()).toBe(2);
  });

  it("in eval works out its coefficients once, and again when anything that they follow from changes", () => {
    const norm = new nn.BatchNorm1d(3).eval();
    const coefficientKernels = () =>
      profileKernels(() => {
        const found = (norm.forward(x()) as Tensor).dataSync();
        const [gamma, beta, mean, variance] = [norm.weight!, norm.bias!, norm.running_mean!, norm.running_var!].map((t) => t.dataSync());
        const at = (values: ArrayLike<number> | undefined, i: number) => values?.[i % 3] as number;
        const expected = [...x().dataSync()].map(
          (v, i) => ((v - at(mean, i)) / Math.sqrt(at(variance, i) + norm.eps)) * at(gamma, i) + at(beta, i),
        );
        close(found, expected, 1e-12);
      }).kernels.filter((k) => k.kernel === "bn_coefficients").length;
    const changes = [
      () => norm.weight!.set([2, 3, -1]),
      () => norm.bias!.set([1, 0.5, 4]),
      () => norm.running_mean!.set([0.1, 0.2, -0.3]),
      () => norm.running_var!.set([1, 2, 0.5]),
      () => norm.loadStateDict(new nn.BatchNorm1d(3).stateDict()),
      () => void norm.train().forward(values([4, 3], 2)),
    ];
    expect(coefficientKernels()).toBe(1);
    for (const change of changes) {
      expect(coefficientKernels()).toBe(0);
      change();
      norm.eval();
      expect(coefficientKernels()).toBe(1);
    }
    onDevice(new Phantom(device()), () => void scope(() => norm.forward(tensor([1, 2, 3], [1, 3]))));
    expect(coefficientKernels()).toBe(1);
  });

  it("averages over all batches with momentum null", () => {
    const norm = new nn.BatchNorm1d(1, { momentum: null });
    for (const batch of [
      [1, 3],
      [5, 7],
      [0, 2],
    ])
      norm.forward(tensor(batch, [2, 1]));
    close(norm.running_mean!.dataSync(), [3], 1e-12);
    close(norm.running_var!.dataSync(), [2], 1e-12);
  });

  it("counts a checkpointed batch once", () => {
    const norm = new nn.BatchNorm1d(3);
    backward(sum(checkpoint((a) => norm.forward(a) as Tensor, leaf(x()))));
    expect(norm.num_batches_tracked?.itemSync()).toBe(1);
  });

  it("without running statistics uses the batch's in eval too", () => {
    const norm = new nn.BatchNorm1d(3, { trackRunningStats: false, affine: false }).eval();
    close((norm.forward(x()) as Tensor).dataSync(), batchNorm(x(), null, null, null, null, { training: true }).dataSync(), 0);
  });

  it("returns a value that is not computed yet", () => {
    expect((new nn.BatchNorm1d(3).forward(x()) as Tensor).made).toBe(false);
  });
});

describe("Dropout", () => {
  it("acts in training only", () => {
    const layer = new nn.Dropout(0.5);
    const x = values([8, 8], 1);
    expect([...(layer.forward(x) as Tensor).dataSync()].some((v) => v === 0)).toBe(true);
    expect(layer.eval().forward(x)).toBe(x);
  });
});

describe("memory", () => {
  it("parameters made inside a scope outlive it", () => {
    const layer = scope(() => ({ layer: new nn.Conv2d(2, 3, 3) })).layer;
    expect(layer.weight.disposed).toBe(false);
    expect((layer.forward(values([1, 3, 3, 2], 1)) as Tensor).shape).toEqual([1, 1, 1, 3]);
  });

  it("is flat over training steps", () => {
    const net = new nn.Sequential(
      new nn.Conv2d(2, 4, 3, { padding: 1 }),
      new nn.BatchNorm2d(4),
      new nn.ReLU(),
      new nn.MaxPool2d(2),
      new nn.Dropout(0.1),
      new nn.Flatten(),
      new nn.Linear(16, 3),
    );
    const step = (): number =>
      scope(() => {
        net.zeroGrad();
        const loss = nn.crossEntropy(net.forward(values([5, 4, 4, 2], 1)), tensor(Int32Array.from([0, 1, 2, 1, 0])), {
          labelSmoothing: 0.1,
        });
        backward(loss);
        return loss.itemSync();
      });
    step();
    const used = device().memory().used;
    for (let i = 0; i < 20; i++) step();
    expect(device().memory().used).toBe(used);
    net.zeroGrad();
    net.dispose();
    expect(device().memory().used).toBe(0);
  });
});

describe("threads", () => {
  it.each(compiled)("do not change a bit of loss and gradients on %s", async (name) => {
    const results: number[][][] = [];
    for (const threads of [1, 3]) {
      await init({ device: name, threads, seed: 3, native: ADDON });
      const net = new nn.Sequential(
        new nn.Conv2d(3, 24, 3, { padding: 1 }),
        new nn.BatchNorm2d(24),
        new nn.ReLU(),
        new nn.MaxPool2d(2),
        new nn.Conv2d(24, 24, 3, { groups: 24, padding: 1 }),
        new nn.Dropout(0.2),
        new nn.AdaptiveAvgPool2d(1),
        new nn.Flatten(),
        new nn.Linear(24, 10),
      );
      const loss = nn.crossEntropy(net.forward(values([6, 20, 20, 3], 1)), tensor(Int32Array.from([0, 1, 2, 3, 4, 9])));
      backward(loss);
      results.push([loss, ...net.parameters().map((p) => p.grad as Tensor)].map((t) => [...t.dataSync()]));
    }
    expect(results[1]).toEqual(results[0]);
  });
});

describe("errors", () => {
  it("name the layer and the argument", () => {
    expect(() => new nn.Conv2d(3, 4, 3, { groups: 2 })).toThrow(
      "Conv2d: groups must be a divisor of inChannels (3) and outChannels (4), found 2",
    );
    expect(() => new nn.Conv1d(0, 4, 3)).toThrow("Conv1d: inChannels must be an integer >= 1, found 0");
    expect(() => new nn.Conv2d(3, 4, 0)).toThrow("Conv2d: kernelSize must be an integer >= 1, or two, found 0");
    expect(() => new nn.Linear(3, 1.5)).toThrow("Linear: outFeatures must be an integer >= 1, found 1.5");
    expect(() => new nn.Dropout(2)).toThrow("Dropout: p must be in [0, 1], found 2");
    expect(() => new nn.BatchNorm2d(3).forward(values([2, 2, 2, 4], 1))).toThrow(
      "BatchNorm2d: x must be of shape [B, H, W, C] or [..., B, H, W, C] with C = 3, found [2, 2, 2, 4]",
    );
    expect(() => new nn.BatchNorm2d(3).forward(values([2, 3], 1))).toThrow("BatchNorm2d: x must be of shape");
    expect(() => new nn.Conv2d(3, 4, 3).forward(values([1, 5, 5, 2], 1))).toThrow("conv2d: x must be of 3 channels");
  });
});
