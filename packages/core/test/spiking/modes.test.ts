// Spike firing approximation: integers and their binary virtual steps give the same outputs, whatever the network and device.
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { compareModes } from "../../src/measure/index.ts";
import { linearAttention } from "../../src/models/linear-attention.ts";
import { BatchNorm2d, Conv1d, Conv2d, crossEntropy, Linear, Module } from "../../src/nn/index.ts";
import { AdamW } from "../../src/optim/index.ts";
import "../../src/tensor/methods.ts";
import { init } from "../../src/runtime/engine.ts";
import { profileKernels } from "../../src/runtime/profile.ts";
import { ILIF, LIF, type Neuron, Quant, setMode } from "../../src/spiking/neurons.ts";
import { denseViews, resetDenseViews } from "../../src/tensor/ops/common.ts";
import { conv2d } from "../../src/tensor/ops/conv.ts";
import { add, mul, toDense } from "../../src/tensor/ops/elementwise.ts";
import { permute, repeat, reshape } from "../../src/tensor/ops/layout.ts";
import { matmul } from "../../src/tensor/ops/matmul.ts";
import { maxPool2d } from "../../src/tensor/ops/pool.ts";
import { mean } from "../../src/tensor/ops/reduce.ts";
import { spikeStats } from "../../src/tensor/ops/spikes.ts";
import { inSteps, toSteps, virtualSteps } from "../../src/tensor/ops/steps.ts";
import { scope } from "../../src/tensor/scope.ts";
import { noGrad } from "../../src/tensor/tape.ts";
import { planesOf, type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { ADDON, compiledDevices, draw, integers, leakless, RUNS } from "../gradcheck.ts";
import { leaf, withGradients } from "../tensor/support.ts";

beforeEach(() => init({ device: "reference" }));

/** Integer spikes of 0..levels. */
const levelled = (shape: number[], seed: number, levels: number, scale = 1) =>
  scope(() =>
    integers(shape, seed, levels + 1)
      .to("f32")
      .mul(scale)
      .toSpikes({ planes: planesOf(levels), scale }),
  );

interface Plan {
  levels: number;
  norm: number;
  rounding: "even" | "up";
  channels: number;
  groups: number;
  kernel: number;
  stride: number;
  size: number;
  T: number;
  stateful: boolean;
  bias: boolean;
}

const plans: fc.Arbitrary<Plan> = fc.record({
  levels: fc.integer({ min: 2, max: 9 }),
  norm: fc.constantFrom(1, 2, 4, 8),
  rounding: fc.constantFrom("even", "up"),
  channels: fc.constantFrom(2, 4, 34, 64),
  groups: fc.constantFrom(1, 2),
  kernel: fc.constantFrom(1, 3),
  stride: fc.constantFrom(1, 2),
  size: fc.integer({ min: 3, max: 6 }),
  T: fc.constantFrom(1, 2, 3),
  stateful: fc.boolean(),
  bias: fc.boolean(),
});

/** Convolutions (whole, depth-wise, grouped), pooling, a shortcut, attention in both orders, a linear head. */
class Net extends Module {
  stem: Conv2d;
  first: Neuron;
  deep: Conv2d;
  depthwise: Conv2d;
  second: Neuron;
  third: Neuron;
  q: Conv1d;
  kv: Conv1d;
  heads: Neuron;
  out: Neuron;
  head: Linear;

  constructor({ levels, norm, rounding, channels: c, groups, kernel, stride, stateful, bias }: Plan) {
    super();
    const neuron = () => (stateful ? new ILIF({ levels, norm, rounding }) : new Quant({ levels, norm, rounding }));
    this.stem = new Conv2d(3, c, 3, { padding: 1 });
    this.first = neuron();
    this.deep = new Conv2d(c, c, kernel, { stride, padding: kernel >> 1, groups, bias });
    this.second = neuron();
    this.depthwise = new Conv2d(c, c, 3, { padding: 1, groups: c, bias });
    this.third = neuron();
    this.q = new Conv1d(c, c, 1, { bias });
    this.kv = new Conv1d(c, c, 1, { bias });
    this.heads = neuron();
    this.out = neuron();
    this.head = new Linear(c, 5);
  }

  forward(x: Tensor): Tensor {
    const u = this.stem.forward(x);
    const s = maxPool2d(this.first.forward(u), 3, { stride: 1, padding: 1 });
    let v = this.deep.forward(s);
    v = add(v, this.depthwise.forward(this.second.forward(v)));
    const [steps, b, h, w, c] = v.shape as [number, number, number, number, number];
    const tokens = reshape(v, [steps, b, h * w, c]);
    const t = this.third.forward(tokens);
    const split = (y: Tensor) => permute(reshape(y, [steps, b, h * w, 2, c / 2]), [0, 1, 3, 2, 4]);
    const q = split(this.heads.forward(this.q.forward(t)));
    const k = split(this.heads.forward(this.kv.forward(t)));
    const quadratic = matmul(matmul(q, k, { transposeB: true }), k);
    const linear = matmul(q, matmul(k, q, { transposeA: true }));
    const o = mul(add(quadratic, linear), 2 ** -6);
    const merged = reshape(permute(o, [0, 1, 3, 2, 4]), tokens.shape);
    return this.head.forward(this.out.forward(mean(add(merged, tokens), 2)));
  }
}

/** Weights that are multiples of 2^-6 below 1: every sum is exact. */
function dyadic(net: Module, seed: number): void {
  let i = 0;
  for (const p of net.parameters()) {
    const values = draw(p.shape, seed + i++, -1, 1).dataSync();
    p.set(Float64Array.from(values, (v) => Math.round(v * 64) / 64));
  }
}

const image = ({ T, size }: Plan, seed: number) => scope(() => mul(integers([T, 2, size, size, 3], seed, 64).to("f32"), 1 / 16));

/** Outputs of a network in both modes. */
function bothModes(net: Module, x: Tensor): [number[], number[]] {
  net.eval();
  const run = () => scope(() => noGrad(() => [...(net.forward(x) as Tensor).dataSync()]));
  const integer = run();
  const restore = setMode(net, "spikes");
  const spikes = run();
  restore();
  expect(run()).toEqual(integer);
  return [integer, spikes];
}

describe("integer and spikes", () => {
  it("give the same bits on the reference device, for any network", () => {
    let alive = 0;
    fc.assert(
      fc.property(plans, fc.nat(1000), (plan, seed) => {
        leakless(() => {
          const net = new Net(plan);
          dyadic(net, seed);
          const [integer, spikes] = bothModes(net, image(plan, seed));
          expect(spikes).toEqual(integer);
          if (new Set(integer).size > 5) alive++;
          net.dispose();
        });
      }),
      { ...RUNS, numRuns: 30 },
    );
    // Not because nothing fired.
    expect(alive).toBeGreaterThan(15);
  });

  it.each(compiledDevices())(
    "give the same numbers on %s, within the order of sums, and never unpack for a product with weights",
    async (name) => {
      await init({ device: name, native: ADDON, threads: 2 });
      fc.assert(
        fc.property(plans, fc.nat(1000), (plan, seed) => {
          scope(() => {
            const net = new Net(plan);
            dyadic(net, seed);
            // Sums of dyadic numbers of so few bits are exact in float32 too.
            const [integer, spikes] = bothModes(net, image(plan, seed));
            expect(spikes).toEqual(integer);
            net.dispose();
          });
        }),
        { ...RUNS, numRuns: 20 },
      );
      const net = new Net({
        levels: 4,
        norm: 4,
        rounding: "even",
        channels: 64,
        groups: 1,
        kernel: 3,
        stride: 1,
        size: 6,
        T: 1,
        stateful: false,
        bias: true,
      });
      net.eval();
      setMode(net, "spikes");
      const kernels = scope(() => {
        const x = draw([1, 2, 6, 6, 3], 1);
        resetDenseViews();
        return profileKernels(() => noGrad(() => net.forward(x))).kernels.map((k) => k.kernel);
      });
      expect([...denseViews().keys()].filter((op) => op !== "reshape" && op !== "permute" && op !== "matmul")).toEqual([]);
      expect(kernels).toContain("spike_matmul");
      expect(kernels).not.toContain("gemm");
      net.dispose();
    },
  );

  it("leave what is trained, and what is binary, as it is", () => {
    const [quant, lif] = [new Quant(), new LIF()];
    const x = draw([2, 3, 40], 3, -1, 6);
    setMode(quant, "spikes");
    setMode(lif, "spikes");
    expect(quant.forward(x).spikes).toEqual({ planes: 3, scale: 0.25 });
    quant.eval();
    lif.eval();
    expect(quant.forward(x).spikes).toEqual({ planes: 4, scale: 0.25, steps: true });
    expect(lif.forward(x).spikes).toEqual({ planes: 1, scale: 1 });
    expect(() => setMode(quant, "spike" as "spikes")).toThrow('setMode: the mode must be one of "integer", "spikes", found "spike"');
  });

  it("are compared over batches, and the network is left as it was", async () => {
    const net = new Net({
      ...{ levels: 4, norm: 4, rounding: "even", channels: 4, groups: 1, kernel: 3, stride: 1, size: 4, T: 1, stateful: false, bias: true },
    });
    dyadic(net, 3);
    const restore = setMode(net, "spikes");
    class Logits extends Module {
      net = net;
      forward(x: Tensor): Tensor {
        return mean(this.net.forward(reshape(x, [1, ...x.shape])), 0);
      }
    }
    const model = new Logits();
    const batches = [draw([3, 4, 4, 3], 1), draw([2, 4, 4, 3], 2)];
    const found = await compareModes(model, batches);
    expect(found).toEqual({ samples: 5, same: 5, moved: 0, difference: 0, rounding: 0, largest: expect.any(Number) });
    expect(found.largest).toBeGreaterThan(0.1);
    expect([net.training, net.first.training, (net.first as Quant).mode]).toEqual([true, true, "spikes"]);
    restore();
    await expect(compareModes(model, [])).rejects.toThrow("found none");
  });

  it("are compared from rest, where membranes go on from batch to batch", async () => {
    class Carrying extends Module {
      neuron = new ILIF({ levels: 4, norm: 1, beta: 1, carry: true });
      forward(x: Tensor): Tensor {
        return mean(this.neuron.forward(x), 0);
      }
    }
    // A membrane of 0.4 that goes on is one of 0.8 at the next call, which fires.
    const x = tensor(new Float32Array(8).fill(0.4), [1, 2, 4]);
    const model = new Carrying();
    expect(await compareModes(model, [x, x])).toMatchObject({ samples: 4, same: 4, moved: 0, difference: 0 });
    expect(noGrad(() => model.eval().forward(x)).dataSync()).toEqual(new Float64Array(8));
  });

  it.each(compiledDevices())("predict the same with a trained network on %s", async (name) => {
    await init({ device: name, native: ADDON, threads: 1, seed: 3 });
    // Four kinds of noisy stripes.
    const batch = (seed: number) => {
      const noise = draw([32, 8, 8, 1], seed, 0, 2).dataSync();
      const kind = (i: number) => i % 4;
      const stripe = (i: number, y: number, x: number) => Number([y % 2, x % 2, (x + y) % 2, (x + 2 * y) % 3][kind(i)] === 0);
      const pixels = Float32Array.from(noise, (v, at) => v + 2 * stripe(Math.floor(at / 64), (at >> 3) % 8, at % 8));
      return { x: tensor(pixels, [32, 8, 8, 1]), y: tensor(Int32Array.from({ length: 32 }, (_, i) => kind(i))) };
    };
    class Stripes extends Module {
      stem = new Conv2d(1, 12, 3, { padding: 1 });
      bn = new BatchNorm2d(12);
      s1 = new Quant();
      conv = new Conv2d(12, 16, 3, { padding: 1, stride: 2 });
      bn2 = new BatchNorm2d(16);
      s2 = new ILIF({ norm: 4 });
      head = new Linear(16, 4);
      forward(x: Tensor): Tensor {
        const h = this.bn2.forward(this.conv.forward(this.s1.forward(this.bn.forward(this.stem.forward(x)))));
        return this.head.forward(mean(this.s2.forward(reshape(h, [1, ...h.shape])), [0, 2, 3]));
      }
    }
    const net = new Stripes();
    const optimizer = new AdamW(net.parameters(), { lr: 0.02 });
    for (let step = 0; step < 30; step++)
      scope(() => {
        const { x, y } = batch(step);
        optimizer.zeroGrad();
        crossEntropy(net.forward(x), y).backward();
        optimizer.step();
      });
    const { x, y } = batch(99);
    net.eval();
    const logits = noGrad(() => net.forward(x).dataSync());
    const right = [...y.dataSync()].filter((label, i) =>
      [0, 1, 2, 3].every((k) => (logits[4 * i + k] as number) <= (logits[4 * i + label] as number)),
    );
    expect(right.length).toBeGreaterThan(28);
    const found = await compareModes(net, x);
    expect(found).toMatchObject({ samples: 32, same: 32, moved: 0 });
    expect(found.difference).toBeLessThan(1e-5 * found.largest);
  });

  it("normalise once, after the sum: a batch norm behind a convolution sees the same", () => {
    class Normed extends Module {
      s = new Quant();
      conv = new Conv2d(8, 8, 3, { padding: 1 });
      bn = new BatchNorm2d(8);
      forward(x: Tensor): Tensor {
        return this.bn.forward(this.conv.forward(this.s.forward(repeat(x, 2))));
      }
    }
    const net = new Normed();
    dyadic(net, 4);
    const [integer, spikes] = bothModes(net, draw([2, 5, 5, 8], 5, -1, 6));
    expect(spikes).toEqual(integer);
  });
});

describe("toSteps", () => {
  it("is the thermometer of the integers, counted by step, and any other operation sees the integers", () => {
    for (const [c, levels] of [
      [5, 4],
      [40, 3],
      [70, 8],
    ] as const) {
      const x = levelled([3, 4, c], c, levels, 0.25);
      const steps = toSteps(x, levels);
      const n = [...x.dataSync()].map((v) => 4 * v);
      expect([...steps.dataSync()]).toEqual([...x.dataSync()]);
      const thermometer = Array.from({ length: levels }, (_, d) => n.map((v) => (v > d ? 0.25 : 0))).flat();
      expect(virtualSteps(steps).spikes).toEqual({ planes: 1, scale: 0.25 });
      expect(virtualSteps(steps).shape).toEqual([levels, 3, 4, c]);
      expect([...virtualSteps(steps).dataSync()]).toEqual(thermometer);
      expect(virtualSteps(x).shape).toEqual([1, 3, 4, c]);
      expect(spikeStats(steps)).toEqual(spikeStats(x));
      for (const moved of [steps.transpose(), steps.reshape([12, c]), steps.slice([1, 2]), steps.reshape([3, 4 * c])])
        expect(inSteps(moved)).toBe(true);
      expect([...steps.transpose().dataSync()]).toEqual([...x.transpose().dataSync()]);
      expect([...steps.reshape([3, 4 * c]).dataSync()]).toEqual([...x.dataSync()]);
      expect([...add(steps, 1).dataSync()]).toEqual([...add(x, 1).dataSync()]);
    }
  });

  it("is added up in linear attention too", () => {
    const [q, k, v] = [1, 2, 3].map((seed) => levelled([2, 5, 12], seed, 4, 0.25)) as [Tensor, Tensor, Tensor];
    const steps = profileKernels(() => linearAttention(toSteps(q, 4), toSteps(k, 4), toSteps(v, 4), 3).dataSync());
    expect([...steps.result]).toEqual([...linearAttention(q, k, v, 3).dataSync()]);
    expect(steps.kernels.map(({ kernel }) => kernel)).not.toContain("gemm");
  });

  it("has the gradients of the integers", () => {
    const w = leaf(draw([3, 3, 6, 4], 1));
    const x = leaf(scope(() => toDense(levelled([2, 5, 5, 6], 2, 5, 0.5)).alias()));
    const packed = (v: Tensor) => v.toSpikes({ planes: 3, scale: 0.5 });
    const product = (v: Tensor, k: Tensor) => add(conv2d(v, k), matmul(maxPool2d(v, 3, { stride: 1 }), reshape(k, [54, 4]).slice([0, 6])));
    const expected = withGradients((v, k) => product(packed(v), k), x, w);
    const found = withGradients((v, k) => product(toSteps(packed(v), 5), k), x, w);
    expect(found).toEqual(expected);
  });

  it("names a wrong argument", () => {
    expect(() => toSteps(tensor([1]), 4)).toThrow("toSteps: x must be of dtype spikes, found f32");
    expect(() => toSteps(levelled([3], 1, 4), 8)).toThrow("toSteps: levels must be an integer from 1 to 7, found 8");
    expect(() => toSteps(levelled([3], 1, 4), 0)).toThrow("toSteps: levels must be an integer from 1 to 7, found 0");
  });
});
