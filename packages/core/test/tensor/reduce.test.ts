// Reductions against plain loops, over any axes; gradients by differences; ties, zeros, spikes, long sums; wrong arguments.
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { denseViews, resetDenseViews } from "../../src/tensor/ops/common.ts";
import * as r from "../../src/tensor/ops/reduce.ts";
import { backward } from "../../src/tensor/tape.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import {
  acrossDevices,
  type Case,
  compiledDevices,
  draw,
  drawSpikes,
  expectClose,
  floats,
  gradcheck,
  integers,
  RUNS,
  shapes,
  spikes,
  start,
} from "../gradcheck.ts";

beforeAll(() => start("reference"));

/** The values that each element of the result is made of, found by walking x. */
function groups(x: Tensor, axes: readonly number[]): number[][] {
  const out = new Map<string, number[]>();
  x.dataSync().forEach((v, i) => {
    let rest = i;
    const index: number[] = [];
    for (let k = x.rank - 1; k >= 0; k--) {
      index[k] = axes.includes(k) ? 0 : rest % (x.shape[k] as number);
      rest = Math.floor(rest / (x.shape[k] as number));
    }
    const key = index.join();
    const group = out.get(key);
    if (group) group.push(v);
    else out.set(key, [v]);
  });
  return [...out.values()];
}

const average = (v: number[]) => v.reduce((a, b) => a + b, 0) / v.length;
const OPS: Record<string, [f: (x: Tensor, axes?: r.Axes, keepDims?: boolean) => Tensor, plain: (v: number[]) => number]> = {
  sum: [r.sum, (v) => v.reduce((a, b) => a + b, 0)],
  mean: [r.mean, average],
  max: [r.max, (v) => Math.max(...v)],
  min: [r.min, (v) => Math.min(...v)],
  prod: [r.prod, (v) => v.reduce((a, b) => a * b, 1)],
  norm: [r.norm, (v) => Math.hypot(...v)],
  variance: [
    (x, axes, keepDims) => r.variance(x, axes, { correction: 0, keepDims: keepDims ?? false }),
    (v) => average(v.map((a) => (a - average(v)) ** 2)),
  ],
};

/** A shape and some of its axes (possibly none, meaning all). */
const reductions = shapes().chain((shape) => fc.tuple(fc.constant(shape), fc.subarray(shape.map((_, i) => i)), fc.boolean(), fc.nat(1000)));

describe("reductions", () => {
  it.each(Object.entries(OPS))("%s: value, shape and gradient", (_name, [f, plain]) => {
    fc.assert(
      fc.property(reductions, ([shape, axes, keepDims, seed]) => {
        const x = draw(shape, seed, 0.2, 2);
        const reduced = axes.length ? axes : shape.map((_, i) => i);
        const y = f(x, axes.length ? axes : undefined, keepDims);
        expect(y.shape).toEqual(
          keepDims ? shape.map((d, i) => (reduced.includes(i) ? 1 : d)) : shape.filter((_, i) => !reduced.includes(i)),
        );
        const expected = groups(x, reduced).map(plain);
        expectClose(y, expected, 9);
        gradcheck((t) => f(t, axes.length ? axes : undefined, keepDims), [x]);
      }),
      { ...RUNS, numRuns: 20 },
    );
  });

  it("axes apart, negative axes, one axis", () => {
    const x = draw([3, 4, 2, 5], 1);
    const expected = groups(x, [0, 2]).map((v) => v.reduce((a, b) => a + b, 0));
    expectClose(r.sum(x, [-2, 0]), expected, 12);
    expect(r.sum(x, -1).shape).toEqual([3, 4, 2]);
    expect(r.sum(x, []).shape).toEqual([]);
  });

  it("a long sum runs in chunks and is the same", () => {
    const x = draw([3, 50000], 1);
    const expected = groups(x, [1]).map((v) => v.reduce((a, b) => a + b, 0));
    expectClose(r.sum(x, 1), expected, 8);
    expect(r.max(x).itemSync()).toBe(Array.from(x.dataSync()).reduce((a, b) => Math.max(a, b)));
  });

  it("ties share the gradient of an extremum evenly", () => {
    const x = tensor([
      [1, 3, 3],
      [2, 2, 2],
    ]);
    x.requiresGrad = true;
    r.max(x, 1).sum().backward();
    expect([...(x.grad as Tensor).dataSync()]).toEqual([0, 0.5, 0.5, 1 / 3, 1 / 3, 1 / 3]);
  });

  it("the gradient of a product is right with one zero, and with two", () => {
    for (const row of [
      [0, 2, 3],
      [0, 2, 0],
      [1, 2, 3],
    ])
      gradcheck((t) => r.prod(t, 1), [tensor([row, [2, 0, 1]])]);
  });

  it("the gradient of a norm of zeros is zero", () => {
    const x = tensor([0, 0]);
    x.requiresGrad = true;
    r.norm(x).backward();
    expect([...(x.grad as Tensor).dataSync()]).toEqual([0, 0]);
  });

  it("the unbiased variance divides by n - 1", () => {
    expect(r.variance(tensor([1, 2, 3, 4])).itemSync()).toBeCloseTo(5 / 3, 12);
    gradcheck((t) => r.variance(t, 0), [draw([4, 3], 1)]);
  });

  it("integers and booleans are counted", () => {
    expect(r.sum(tensor(Int32Array.of(3, 4, -2))).itemSync()).toBe(5);
    expect(r.mean(integers([7], 1, 5).eq(2)).itemSync()).toBeCloseTo(
      [...integers([7], 1, 5).dataSync()].filter((v) => v === 2).length / 7,
      12,
    );
  });

  it("an empty sum is 0, an empty maximum an error", () => {
    expect([...r.sum(draw([2, 0], 1), 1).dataSync()]).toEqual([0, 0]);
    expect([...r.prod(draw([2, 0], 1), 1).dataSync()]).toEqual([1, 1]);
    expect(() => r.max(draw([2, 0], 1), 1)).toThrow("max: the reduced axes must be of size 1 or more, found [2, 0]");
  });

  it("wrong arguments", () => {
    expect(() => r.sum(draw([2, 3], 1), 2)).toThrow("sum: axis must be an integer in [-2, 2), found 2");
    expect(() => r.mean(draw([2, 3], 1), [0, -2])).toThrow("mean: axis must be a list of different axes, found [0, -2]");
    expect(() => r.max(tensor(Int32Array.of(1)))).toThrow("max: the argument must be of dtype f32 or spikes, found i32");
  });
});

describe("spikes", () => {
  it("sums of binary spikes count bits", () => {
    fc.assert(
      fc.property(shapes(0, 3), fc.constantFrom(1, 32, 45, 64), fc.nat(100), (lead, c, seed) => {
        const shape = [...lead, c];
        const s = drawSpikes(shape, seed, { planes: 1, scale: 0.5 });
        const x = s.toDense();
        for (const axes of [
          ...shape.map((_, i) => [i]),
          [],
          lead.map((_, i) => i),
          [0, shape.length - 1].filter((a, i, all) => all.indexOf(a) === i),
        ]) {
          const values = (t: Tensor) => [...r.sum(t, axes).dataSync()];
          expect(values(s)).toEqual(values(x));
          expect([...r.mean(s, axes).dataSync()].map((v) => v.toFixed(12))).toEqual(
            [...r.mean(x, axes).dataSync()].map((v) => v.toFixed(12)),
          );
        }
      }),
      RUNS,
    );
    resetDenseViews();
    const s = drawSpikes([2, 5, 3, 45], 1);
    r.sum(s, [1, 2]);
    r.sum(s);
    r.sum(drawSpikes([4, 5, 64], 2), 0);
    expect([...denseViews()]).toEqual([]);
  });

  it("the gradient is dense", () => {
    const s = drawSpikes([4, 45], 1);
    s.requiresGrad = true;
    backward(r.mean(s, 0), { gradient: draw([45], 2) });
    expect((s.grad as Tensor).dtype).toBe("f32");
    expect([...(s.grad as Tensor).dataSync()]).toEqual([...draw([45], 2).mul(0.25).expand([4, 45]).dataSync()]);
  });
});

describe("positions and running sums", () => {
  it("argmax and argmin find the first extremum", () => {
    fc.assert(
      fc.property(shapes(1), fc.nat(3), fc.nat(100), (shape, pick, seed) => {
        const axis = pick % shape.length;
        const x = integers(shape, seed, 3).to("f32");
        const sets = groups(x, [axis]);
        expect([...r.argmax(x, axis).dataSync()]).toEqual(sets.map((v) => v.indexOf(Math.max(...v))));
        expect([...r.argmin(x, axis).dataSync()]).toEqual(sets.map((v) => v.indexOf(Math.min(...v))));
        expect(r.argmax(x, axis, true).shape).toEqual(shape.with(axis, 1));
        const all = [...x.dataSync()];
        expect(r.argmax(x).itemSync()).toBe(all.indexOf(Math.max(...all)));
        expect(r.argmin(x, undefined, true).shape).toEqual(shape.map(() => 1));
      }),
      RUNS,
    );
    const x = draw([3], 1);
    x.requiresGrad = true;
    const y = r.argmax(x);
    expect(y.dtype).toBe("i32");
    expect(y.node).toBeNull();
    expect(() => r.argmax(draw([2, 0], 1), 1)).toThrow("argmax: the axis must be of size 1 or more, found [2, 0]");
  });

  it("cumsum", () => {
    expect([
      ...r
        .cumsum(
          tensor([
            [1, 2, 3],
            [4, 5, 6],
          ]),
          1,
        )
        .dataSync(),
    ]).toEqual([1, 3, 6, 4, 9, 15]);
    expect([
      ...r
        .cumsum(
          tensor([
            [1, 2, 3],
            [4, 5, 6],
          ]),
          0,
        )
        .dataSync(),
    ]).toEqual([1, 2, 3, 5, 7, 9]);
    fc.assert(
      fc.property(shapes(1), fc.nat(3), (shape, pick) => gradcheck((x) => r.cumsum(x, pick % shape.length), [draw(shape, 1)])),
      RUNS,
    );
  });
});

const cases: Record<string, Case> = {
  ...Object.fromEntries(
    Object.entries(OPS).flatMap(([name, [f]]) => [
      [`${name} of all`, { inputs: [floats([4, 5, 6], 1, 0.5, 1.5)], run: (x: Tensor) => f(x) }],
      [`${name} of rows`, { inputs: [floats([4, 33, 6], 1, 0.5, 1.5)], run: (x: Tensor) => f(x, [0, 1]) }],
      [`${name} of axes apart`, { inputs: [floats([4, 5, 6], 1, 0.5, 1.5)], run: (x: Tensor) => f(x, [0, 2], true) }],
    ]),
  ),
  "long sum": { inputs: [floats([100000], 1)], run: (x) => r.sum(x), rtol: 1e-5, atol: 1e-3 },
  "long norm": { inputs: [floats([100000], 1)], run: (x) => r.norm(x) },
  "column sums": { inputs: [floats([3000, 17], 1)], run: (x) => r.sum(x, 0), atol: 1e-3 },
  "long max": { inputs: [floats([50000], 1)], run: (x) => r.max(x) },
  argmax: { inputs: [floats([7, 9, 3], 1)], run: (x) => r.argmax(x, 1) },
  argmin: { inputs: [floats([7, 90], 1)], run: (x) => r.argmin(x, -1) },
  cumsum: { inputs: [floats([4, 50, 3], 1)], run: (x) => r.cumsum(x, 1) },
  "spikes over positions": { inputs: [spikes([4, 50, 45], 1)], run: (x) => r.sum(x, 1) },
  "spikes over steps": { inputs: [spikes([4, 5, 64], 1)], run: (x) => r.mean(x, 0) },
  "spikes over all": { inputs: [spikes([4, 5, 45], 1, { planes: 2, scale: 0.5 })], run: (x) => r.sum(x) },
};

it.each(compiledDevices())("%s agrees with the reference", (name) => acrossDevices(name, cases));
