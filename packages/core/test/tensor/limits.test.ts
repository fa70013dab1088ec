// The ends of what operations take: windows as large as the kernels' tables, spikes of long window rows, tensors without elements.
import { beforeEach, describe, expect, it } from "vitest";
import { BatchNorm1d, Conv2d, Linear } from "../../src/nn/index.ts";
import { engineInfo } from "../../src/runtime/engine.ts";
import { SpikeloomError } from "../../src/runtime/error.ts";
import { CONV_LIMITS } from "../../src/runtime/kernel-table.ts";
import { defineNeuron } from "../../src/spiking/custom.ts";
import { IF, ILIF, LIF, PLIF, Quant } from "../../src/spiking/neurons.ts";
import { denseViews, resetDenseViews } from "../../src/tensor/ops/common.ts";
import { conv1d, conv2d } from "../../src/tensor/ops/conv.ts";
import { toDense } from "../../src/tensor/ops/elementwise.ts";
import { linear, matmul } from "../../src/tensor/ops/matmul.ts";
import { adaptiveAvgPool2d, avgPool2d, maxPool2d } from "../../src/tensor/ops/pool.ts";
import { argmax, max, mean, sum } from "../../src/tensor/ops/reduce.ts";
import { scope } from "../../src/tensor/scope.ts";
import { type Shape, sizeOf } from "../../src/tensor/shape.ts";
import { backward } from "../../src/tensor/tape.ts";
import { emptySpikes, ones, type Tensor, zeros } from "../../src/tensor/tensor.ts";
import { close, compiled, leaf, on, sameEverywhere, spikes, values, withGradients } from "./support.ts";

const devices = ["reference", ...compiled] as const;

/** Spikes and their dense values must give the same product and gradients; was the event-driven kernel used? */
function matchesDense(x: Tensor, weight: Tensor, dilation: number): boolean {
  const run = (input: Tensor) => withGradients((a, w) => conv1d(a, w, null, { dilation }), leaf(input), leaf(weight));
  resetDenseViews();
  conv1d(x, weight, null, { dilation });
  const events = denseViews().size === 0;
  const expected = run(toDense(x).alias());
  run(x).forEach((list, i) => {
    close(list, expected[i] as number[], 2e-5, `result ${i}`);
  });
  return events;
}

describe.each(compiled)("spikes of a long window row on %s", (name) => {
  beforeEach(() => on(name));

  it("are unpacked where three taps 3000 apart meet [1, 6100, 32]", () => {
    scope(() => void expect(matchesDense(spikes([1, 6100, 32], 1), values([3, 32, 4], 2), 3000)).toBe(false));
  });

  it("are unpacked where two taps 2048 apart meet [1, 4096, 512]", () => {
    scope(() => void expect(matchesDense(spikes([1, 4096, 512], 1), values([2, 512, 4], 2), 2048)).toBe(false));
  });

  it.each([1, 2])("go through the event-driven kernel up to the limit, with %i words a position", (words) => {
    scope(() => {
      const last = CONV_LIMITS.words / words - 1; // the distance of two taps whose window row is as long as the limit
      const c = 32 * words;
      expect(matchesDense(spikes([1, last + 20, c], 1), values([2, c, 5], 2), last)).toBe(true);
      expect(matchesDense(spikes([1, last + 20, c], 1), values([2, c, 5], 2), last + 1)).toBe(false);
      // An image narrower than the window's reach sets the length instead.
      const x = spikes([1, 1, last + 1, c], 3);
      const w = values([1, 2, c, 5], 4);
      const wide = { dilation: [1, 9000], padding: [0, 4500] } as const;
      close(conv2d(x, w, null, wide).dataSync(), conv2d(toDense(x), w, null, wide).dataSync(), 2e-5);
    });
  });
});

describe("windows at the limit", () => {
  const taps = CONV_LIMITS.taps;

  it("are summed in full, dense, by group and depth-wise, with the weight's gradient", async () => {
    await sameEverywhere(() => [
      ...withGradients((x, w) => conv1d(x, w), values([1, taps + 1, 1], 1), leaf(values([taps, 1, 2], 2))),
      ...withGradients((x, w) => conv1d(x, w, null, { groups: 2 }), values([1, taps + 1, 2], 3), leaf(values([taps, 1, 4], 4))),
      ...withGradients((x, w) => conv1d(x, w, null, { groups: 2 }), values([1, taps + 1, 2], 5), leaf(values([taps, 1, 2], 6))),
    ]);
  });

  it.each(devices)("and above are refused by name on %s", async (name) => {
    await on(name);
    scope(() => {
      const message = `of a window of 1 to ${taps} taps, found [1, ${taps + 1}] (${taps + 1} taps)`;
      expect(() => conv1d(zeros([1, taps + 1, 1]), zeros([taps + 1, 1, 1]))).toThrow(message);
      expect(() => conv2d(zeros([1, 700, 700, 1]), zeros([300, 300, 1, 1]), null, { dilation: 2 })).toThrow(SpikeloomError);
      expect(() => conv2d(zeros([1, 300, 300, 2]), zeros([300, 300, 1, 2]), null, { groups: 2 })).toThrow("conv2d: weight must be");
      expect(() => conv2d(zeros([1, 4, 4, 2]), zeros([0, 3, 2, 2]))).toThrow("[0, 3] (0 taps)");
    });
  });
});

describe.each(devices)("tensors without elements on %s", (name) => {
  beforeEach(() => on(name));

  /** Shape and values of fn(x) and x's gradient, which must be finite. */
  function check(x: Tensor, fn: (x: Tensor) => Tensor, shape: Shape, value = 0): void {
    scope(() => {
      leaf(x);
      const y = fn(x);
      expect(y.shape).toEqual(shape);
      expect([...y.dataSync()]).toEqual(Array(sizeOf(shape)).fill(value));
      if (!y.node) return;
      backward(y, { gradient: ones(y.shape) });
      if (x.grad) expect(x.grad.shape).toEqual(x.shape);
      x.grad?.dispose();
      x.grad = null;
    });
  }

  const Custom = defineNeuron({
    name: "Custom",
    state: { v: 0 },
    params: { beta: 0.5 },
    charge: ({ v, x, beta }) => ({ v: v.mul(beta).add(x) }),
    fire: ({ v }) => v.sub(1),
    reset: ({ v, s }) => ({ v: v.sub(s) }),
  });

  it.each([[[2, 3, 0]], [[2, 0, 5]], [[2, 0]], [[2, 0, 4, 40]]])("neurons take %j", (shape) => {
    for (const make of [
      () => new LIF(),
      () => new IF({ order: "delayedReset" }),
      () => new PLIF(),
      () => new ILIF(),
      () => new Quant(),
      () => Custom(),
      () => Custom({ learn: ["beta"] }),
    ]) {
      const neuron = make();
      check(zeros(shape), (x) => neuron.forward(x), shape);
      scope(() => expect(neuron.run(zeros(shape)).state.size).toBe(0));
      neuron.dispose();
    }
  });

  it("quantisers take no rows and no channels of any rank", () => {
    const neuron = new Quant();
    for (const shape of [[0], [3, 0], [0, 3]]) check(zeros(shape), (x) => neuron.forward(x), shape);
  });

  it("spikes without channels unpack", () => {
    scope(() => expect(toDense(emptySpikes([2, 3, 0])).dataSync().length).toBe(0));
  });

  it("a batch norm gives an empty batch back, through a neuron too", () => {
    const norm = new BatchNorm1d(4).eval();
    const neuron = new LIF();
    check(zeros([0, 4]), (x) => norm.forward(x), [0, 4]);
    check(zeros([2, 0, 4]), (x) => neuron.forward(norm.forward(x)), [2, 0, 4]);
  });

  it("convolutions of nothing are their bias, with gradients of zero", () => {
    for (const input of [zeros([0, 5, 5, 2]), zeros([2, 5, 5, 0]), emptySpikes([0, 5, 5, 2]), emptySpikes([2, 5, 5, 0])]) {
      const [n, , , c] = input.shape as [number, number, number, number];
      scope(() => {
        const [w, b] = [leaf(zeros([3, 3, c, 4])), leaf(ones([4]))];
        check(input, (x) => conv2d(x, w, b), [n, 3, 3, 4], 1);
        expect(w.grad?.dataSync().every((v) => v === 0)).toBe(true);
        expect([...(b.grad as Tensor).dataSync()]).toEqual(Array(4).fill(n * 9));
        for (const t of [w, b]) t.grad = null;
      });
      check(input, (x) => conv2d(x, zeros([3, 3, c, 4])), [n, 3, 3, 4]);
      check(input, (x) => conv2d(x, zeros([3, 3, c, 0])), [n, 3, 3, 0]);
    }
    // No columns, only padding.
    check(
      emptySpikes([1, 9000, 0, 32]),
      (x) => conv2d(x, ones([2, 1, 32, 1]), null, { padding: [0, 1], dilation: [6000, 1] }),
      [1, 3000, 2, 1],
    );
    check(zeros([0, 5, 5, 4]), (x) => conv2d(x, zeros([3, 3, 1, 4]), null, { groups: 4 }), [0, 3, 3, 4]);
    check(zeros([0, 9, 4]), (x) => conv1d(x, zeros([3, 2, 6]), null, { groups: 2 }), [0, 7, 6]);
  });

  it("layers of a network take an empty batch", () => {
    const layers = [new Conv2d(2, 3, 3), new Linear(3, 4)] as const;
    check(zeros([0, 5, 5, 2]), (x) => layers[1].forward(layers[0].forward(x)), [0, 3, 3, 4]);
    for (const layer of layers) layer.dispose();
  });

  it("products over nothing are the bias", () => {
    for (const x of [zeros([3, 0]), emptySpikes([3, 0])]) {
      check(x, (a) => linear(a, leaf(zeros([0, 5])), ones([5])), [3, 5], 1);
      check(x, (a) => matmul(a, leaf(zeros([0, 5]))), [3, 5]);
    }
    for (const x of [zeros([0, 4]), emptySpikes([0, 4])]) check(x, (a) => linear(a, leaf(zeros([4, 5]))), [0, 5]);
  });

  it("pooling and reductions give a result or say what is wrong", () => {
    for (const shape of [
      [0, 4, 4, 3],
      [2, 4, 4, 0],
    ])
      for (const pool of [(x: Tensor) => maxPool2d(x, 2), (x: Tensor) => avgPool2d(x, 2), (x: Tensor) => adaptiveAvgPool2d(x, 2)])
        for (const x of [zeros(shape), emptySpikes(shape)]) check(x, pool, [shape[0] as number, 2, 2, shape[3] as number]);
    for (const shape of [[0], [0, 3], [3, 0], [2, 0, 3]])
      for (const x of [zeros(shape), emptySpikes(shape)])
        for (const reduce of [sum, mean, max, argmax] as ((x: Tensor, axis?: number) => Tensor)[])
          for (const axis of [undefined, 0, shape.length - 1])
            scope(() => {
              try {
                expect(reduce(x, axis).dataSync().length).toBeLessThanOrEqual(3);
              } catch (error) {
                expect(error).toBeInstanceOf(SpikeloomError);
              }
            });
    check(zeros([0, 3]), (x) => sum(x, 0), [3]);
    expect(engineInfo().device).toBe(name);
  });
});
