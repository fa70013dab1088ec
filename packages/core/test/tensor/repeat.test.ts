/** What is repeated over time steps and was not computed yet: layers make it once, and nothing else can tell. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkpoint, defineOp, init, nn, noGrad, scope, snn, type Tensor, tensor, zeros } from "../../src/index.ts";

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

describe.each(["reference", "wasm"] as const)("repeat and the graph on %s", (name) => {
  beforeAll(() => init({ device: name, threads: 1 }));

  const leaf = (shape: readonly number[], seed: number): Tensor => {
    const t = values(shape, seed);
    t.requiresGrad = true;
    return t;
  };
  const norm = (x: Tensor): Tensor => batchNorm(x, null, null, null, null, { training: true });
  const gradient = (t: Tensor) => t.grad && [...t.grad.dataSync()];
  const neuron = () => new snn.LIF({ vThreshold: 0.3 });
  const four = [4, 5];

  it("a repeated value that is a leaf has a gradient of its own", () =>
    scope(() => {
      const w = values([5, 3], 2);
      const [late, made] = [snn.repeat(values(four, 1), STEPS), copied(values(four, 1))];
      for (const r of [late, made]) {
        r.requiresGrad = true;
        linear(r, w).sum().backward();
      }
      expect(gradient(late)).not.toBeNull();
      expect(gradient(late)).toEqual(gradient(made));
    }));

  it("nothing flows through what was repeated without a graph", () =>
    scope(() => {
      const x = leaf(four, 1);
      const w = leaf([5, 3], 2);
      const h = x.mul(0.5);
      linear(
        noGrad(() => snn.repeat(h, STEPS)),
        w,
      )
        .sum()
        .backward();
      expect(x.grad).toBeNull();
      expect(w.grad).not.toBeNull();
    }));

  it("an op that returns what it repeats keeps its own backward", () =>
    scope(() => {
      const none = defineOp({ name: "none", forward: (_ctx, [x]) => snn.repeat(x as Tensor, STEPS), backward: () => [null] });
      const x = leaf(four, 1);
      const w = leaf([5, 3], 2);
      linear(none([x.mul(0.5)], undefined), w)
        .sum()
        .backward();
      expect(x.grad).toBeNull();
      expect(w.grad).not.toBeNull();
    }));

  // The part runs again in backward, or does not.
  type Run = (fn: (...inputs: Tensor[]) => Tensor, ...inputs: Tensor[]) => Tensor;
  const PARTS: Record<string, (x: Tensor, w: Tensor, run: Run) => Tensor> = {
    "a layer of repeated steps": (x, w, run) => run((a) => linear(a, w), snn.repeat(x.mul(0.5), STEPS)),
    "a layer of a repeated leaf": (x, w, run) => run((a) => linear(a, w), snn.repeat(x, STEPS)),
    "a norm of repeated steps": (x, _w, run) => run(norm, snn.repeat(x.mul(0.5), STEPS)),
    "a neuron of a repeated norm": (x, _w, run) => run((a) => neuron().forward(a), snn.repeat(norm(x), STEPS)),
    "a norm behind a part": (x, w, run) => norm(run((a) => linear(a, w), snn.repeat(x, STEPS))),
    "the repetition itself": (x, w, run) =>
      norm(
        linear(
          run((a) => snn.repeat(a, STEPS), x.mul(0.5)),
          w,
        ),
      ),
    "all, from the leaf on": (x, w, run) => run((a) => neuron().forward(norm(linear(snn.repeat(a, STEPS), w))), x),
    "what is handed on": (x, w, run) =>
      linear(
        run((a) => a, snn.repeat(x, STEPS)),
        w,
      ),
    "one tensor given twice": (x, _w, run) => {
      const r = snn.repeat(x.mul(0.5), STEPS);
      return run((a, b) => a.tanh().mul(b), r, r);
    },
    "a part in a part": (x, w, run) => run((a) => run(norm, linear(a, w)), snn.repeat(x.mul(0.5), STEPS)),
    "a part that uses its input from outside too": (x, w, run) => {
      const r = snn.repeat(x.mul(0.5), STEPS);
      return run((a) => linear(a.mul(r.detach()), w), r);
    },
  };
  for (const [what, build] of Object.entries(PARTS))
    it(`a checkpoint has the same bits: ${what}`, () => {
      const once: Run = (fn, ...inputs) => fn(...inputs);
      const [plain, again] = [once, checkpoint].map((run) =>
        scope(() => {
          const [x, w] = [leaf([4, 40], 1), leaf([40, 40], 2)];
          const y = build(x, w, run);
          y.mul(values(y.shape, 3)).sum().backward();
          return [[...y.dataSync()], gradient(x), gradient(w)];
        }),
      ) as [unknown[], unknown[]];
      expect(plain[1]).not.toBeNull();
      expect(again).toEqual(plain);
    });

  it("modules that run again have the gradients of those that do not", async () => {
    const gradients = async (which: "none" | "conv" | "bn") => {
      await init({ device: name, threads: 1, seed: 1 });
      return scope(() => {
        const [conv, bn] = [new nn.Conv2d(1, 2, 3, { padding: 1 }), new nn.BatchNorm2d(2)];
        conv.recompute = which === "conv";
        bn.recompute = which === "bn";
        const y = neuron().forward(bn.forward(conv.forward(snn.repeat(values([2, 4, 4, 1], 1), STEPS))));
        y.mul(values(y.shape, 3)).sum().backward();
        return [conv.weight, bn.weight].map((t) => gradient(t as Tensor));
      });
    };
    const plain = await gradients("none");
    expect(plain[0]).not.toBeNull();
    expect(await gradients("conv")).toEqual(plain);
    expect(await gradients("bn")).toEqual(plain);
  });

  it("is refused once its source was changed in place, whoever asks", () =>
    scope(() => {
      const changed = (): Tensor => {
        const x = values([2, 5], 1);
        const r = snn.repeat(x, STEPS);
        x.set(new Array(10).fill(0));
        return r;
      };
      const uses: ((r: Tensor) => unknown)[] = [
        (r) => r.dataSync(),
        (r) => linear(r, values([5, 3], 2)),
        norm,
        (r) => neuron().forward(r),
        (r) => checkpoint((a) => a.mul(2), r),
      ];
      for (const use of uses)
        expect(() => use(changed())).toThrow(/was changed in place: use the value \(or clone that tensor\) before it is set/);
      // One that was made by then has its value.
      const x = values([2, 5], 1);
      const made = snn.repeat(x, STEPS);
      const before = made.dataSync();
      x.set(new Array(10).fill(0));
      expect(made.dataSync()).toEqual(before);
      // And one that waits for backward.
      const [y, w] = [values([2, 5], 1), leaf([5, 3], 2)];
      const loss = checkpoint((a) => linear(a, w).tanh(), snn.repeat(y, STEPS)).sum();
      y.set(new Array(10).fill(0));
      expect(() => loss.backward()).toThrow(/was changed in place.*: step the optimiser after backward/);
    }));

  it("leaves nothing that only a scope would free", () => {
    const before = device().memory().used;
    const [x, w] = [values(four, 1), values([5, 3], 2)];
    const held = [snn.repeat(x, STEPS)];
    held.push(linear(held[0] as Tensor, w));
    held.push(checkpoint((a) => linear(a, w), held[0] as Tensor));
    for (const t of [...held, x, w]) t.dispose();
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
