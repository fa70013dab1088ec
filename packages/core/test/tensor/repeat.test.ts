/** What is repeated over time steps and was not computed yet: layers make it once, and nothing else can tell. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { init, noGrad, scope, snn, type Tensor, tensor, zeros } from "../../src/index.ts";

import { device } from "../../src/runtime/engine.ts";
import { conv1d, conv2d } from "../../src/tensor/ops/conv.ts";
import { expand } from "../../src/tensor/ops/layout.ts";
import { linear } from "../../src/tensor/ops/matmul.ts";
import { batchNorm } from "../../src/tensor/ops/norm.ts";

const STEPS = 3;
const numbers = (n: number, seed: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(seed + i * 12.9898) * 1.5);
const values = (shape: readonly number[], seed: number) =>
  tensor(
    numbers(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ),
    shape,
  );

/** The same steps in memory, which no layer can know to be the same. */
const copied = (x: Tensor) => expand(x.reshape([1, ...x.shape]), [STEPS, ...x.shape]);

type Layers = (x: Tensor, weights: readonly Tensor[]) => Tensor;

/** Values and gradients of the layers on repeated and on copied steps. */
function both(layers: Layers, input: readonly number[], shapes: readonly (readonly number[])[]): number[][][] {
  return [(x: Tensor) => snn.repeat(x, STEPS), copied].map((repeated) =>
    scope(() => {
      const source = values(input, 1);
      source.requiresGrad = true;
      const weights = shapes.map((shape, i) => values(shape, 2 + i));
      for (const w of weights) w.requiresGrad = true;
      // Not the leaf itself: what is repeated has a graph behind it.
      const y = layers(repeated(source.mul(0.5)), weights);
      const by = values(y.shape, 9);
      y.mul(by).sum().backward();
      return noGrad(() => [y, source.grad as Tensor, ...weights.map((w) => w.grad as Tensor)].map((t) => [...t.dataSync()]));
    }),
  );
}

const CASES: Record<string, [Layers, readonly number[], readonly (readonly number[])[]]> = {
  "a convolution": [(x, [w, b]) => conv2d(x, w as Tensor, b as Tensor, { padding: 1 }), [2, 4, 5, 3], [[3, 3, 3, 6], [6]]],
  "a convolution over time itself": [(x, [w]) => conv2d(x, w as Tensor), [5, 3], [[2, 2, 3, 4]]],
  "a 1-d convolution": [(x, [w]) => conv1d(x, w as Tensor), [2, 6, 3], [[3, 3, 4]]],
  "a linear layer": [(x, [w, b]) => linear(x, w as Tensor, b as Tensor), [4, 5], [[5, 3], [3]]],
  "a batch norm": [(x, [g, b]) => batchNorm(x, g as Tensor, b as Tensor, null, null, { training: true }), [6, 4], [[4], [4]]],
  "a batch norm of one row": [(x, [g, b]) => batchNorm(x, g as Tensor, b as Tensor, null, null, { training: true }), [1, 4], [[4], [4]]],
  "a neuron": [(x) => new snn.LIF({ vThreshold: 0.3 }).forward(x), [4, 40], []],
  "a quantiser": [(x) => new snn.Quant().forward(x), [4, 40], []],
  "all of them": [
    (x, [w, g, b]) => {
      const h = batchNorm(conv2d(x, w as Tensor), g as Tensor, b as Tensor, null, null, { training: true });
      return new snn.LIF({ detachReset: true }).forward(h);
    },
    [2, 4, 4, 3],
    [[2, 2, 3, 40], [40], [40]],
  ],
};

describe.each(["reference", "wasm"] as const)("repeat before a layer on %s", (name) => {
  beforeAll(() => init({ device: name, threads: 1 }));

  for (const [what, [layers, input, shapes]] of Object.entries(CASES))
    it(`does not change ${what}, nor its gradients`, () => {
      const [once, often] = both(layers, input, shapes) as [number[][], number[][]];
      once.forEach((found, i) => {
        const expected = often[i] as number[];
        expect(found.length).toBe(expected.length);
        found.forEach((v, j) => {
          const e = expected[j] as number;
          expect(Math.abs(v - e)).toBeLessThanOrEqual(2e-5 * Math.max(1, Math.abs(e)));
        });
      });
    });

  it("counts every step in the running variance", () => {
    const variance = (x: Tensor) => {
      const [mean, running] = [zeros([4]), zeros([4])];
      batchNorm(x, null, null, mean, running, { training: true, momentum: 1 });
      return [...running.dataSync()];
    };
    scope(() => {
      const x = values([3, 4], 1);
      const [once, often] = [variance(snn.repeat(x, STEPS)), variance(copied(x))];
      once.forEach((v, i) => {
        expect(v).toBeCloseTo(often[i] as number, 5);
      });
    });
  });

  it("gives a leaf its gradient", () => {
    scope(() => {
      const x = values([2, 3], 1);
      const w = values([3, 4], 2);
      x.requiresGrad = true;
      linear(snn.repeat(x, STEPS), w).sum().backward();
      const expected = w.sum(1).mul(STEPS).dataSync();
      [...(x.grad as Tensor).dataSync()].forEach((v, i) => {
        expect(v).toBeCloseTo(expected[i % 3] as number, 5);
      });
    });
  });

  it("leaves nothing in memory", () => {
    const before = device().memory().used;
    both(CASES["all of them"]![0], [2, 4, 4, 3], CASES["all of them"]![2]);
    scope(() => void snn.repeat(values([2, 3], 1), STEPS));
    expect(device().memory().used).toBe(before);
  });
});

describe("a residual connection behind a batch norm", () => {
  beforeAll(() => init({ device: "wasm", threads: 1 }));

  it("is one pass, with the sum of the two", () => {
    scope(() => {
      const [x, other] = [values([7, 5], 1), values([7, 5], 2)];
      const norm = () => batchNorm(x, values([5], 3), values([5], 4), null, null, { training: true });
      const made = norm();
      const expected = [...made.dataSync()].map((v, i) => v + (other.dataSync()[i] as number));
      for (const sum of [norm().add(other), other.add(norm())])
        [...sum.dataSync()].forEach((v, i) => {
          expect(v).toBeCloseTo(expected[i] as number, 5);
        });
      const twice = norm();
      [...twice.add(twice).dataSync()].forEach((v, i) => {
        expect(v).toBeCloseTo(2 * (made.dataSync()[i] as number), 5);
      });
    });
  });
});

afterAll(() => init({ device: "wasm", threads: 1 }));
