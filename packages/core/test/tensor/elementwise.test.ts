// Element-wise operations: gradients by differences, values against plain JavaScript, broadcasting, spikes, wrong arguments.
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { denseViews, resetDenseViews } from "../../src/tensor/ops/common.ts";
import * as e from "../../src/tensor/ops/elementwise.ts";
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
  ints,
  RUNS,
  shapes,
  spikes,
  start,
} from "../gradcheck.ts";

beforeAll(() => start("reference"));

/** Each function of one argument with a range where it is smooth. */
const UNARY: Record<string, [f: (x: Tensor) => Tensor, low: number, high: number, plain: (x: number) => number]> = {
  neg: [e.neg, -2, 2, (x) => -x],
  abs: [e.abs, -2, 2, Math.abs],
  square: [e.square, -2, 2, (x) => x * x],
  sqrt: [e.sqrt, 0.1, 4, Math.sqrt],
  rsqrt: [e.rsqrt, 0.1, 4, (x) => 1 / Math.sqrt(x)],
  reciprocal: [e.reciprocal, 0.2, 3, (x) => 1 / x],
  exp: [e.exp, -3, 3, Math.exp],
  log: [e.log, 0.1, 4, Math.log],
  tanh: [e.tanh, -3, 3, Math.tanh],
  sigmoid: [e.sigmoid, -4, 4, (x) => 1 / (1 + Math.exp(-x))],
  relu: [e.relu, -2, 2, (x) => Math.max(x, 0)],
  leakyRelu: [(x) => e.leakyRelu(x, 0.2), -2, 2, (x) => (x < 0 ? 0.2 * x : x)],
  gelu: [e.gelu, -3, 3, (x) => x / (1 + Math.exp(-1.5957691216 * (x + 0.044715 * x ** 3)))],
  silu: [e.silu, -4, 4, (x) => x / (1 + Math.exp(-x))],
  softplus: [e.softplus, -4, 4, (x) => Math.log1p(Math.exp(x))],
  erf: [e.erf, -2, 2, (x) => Math.tanh((2 / Math.sqrt(Math.PI)) * (x + 0.0894 * x ** 3))],
  sin: [e.sin, -3, 3, Math.sin],
  cos: [e.cos, -3, 3, Math.cos],
  clamp: [(x) => e.clamp(x, -1, 0.5), -2, 2, (x) => Math.min(Math.max(x, -1), 0.5)],
  affine: [(x) => e.affine(x, 1.5, -2), -2, 2, (x) => 1.5 * x - 2],
  "pow 3": [(x) => e.pow(x, 3), -2, 2, (x) => x ** 3],
  "pow 2": [(x) => e.pow(x, 2), -2, 2, (x) => x ** 2],
  "pow -0.5": [(x) => e.pow(x, -0.5), 0.2, 2, (x) => x ** -0.5],
  clone: [e.clone, -2, 2, (x) => x],
  toDense: [e.toDense, -2, 2, (x) => x],
};

/** Approximations that the test itself makes of functions which JavaScript has not. */
const ROUGH = new Set(["gelu", "erf"]);

describe("functions of one argument", () => {
  it.each(Object.entries(UNARY))("%s: value and gradient", (name, [f, low, high, plain]) => {
    fc.assert(
      fc.property(shapes(), fc.nat(1000), (shape, seed) => {
        const x = draw(shape, seed, low, high);
        const y = f(x);
        expect(y.shape).toEqual(shape);
        const values = x.dataSync();
        expectClose(y, Array.from(values, plain), ROUGH.has(name) ? 2 : 9);
        gradcheck(f, [x]);
      }),
      RUNS,
    );
  });

  it("steps have values and pass no gradient", () => {
    const x = tensor([-1.5, -0.5, 0.5, 1.5, 2.5, 0]);
    x.requiresGrad = true;
    expect([...e.floor(x).dataSync()]).toEqual([-2, -1, 0, 1, 2, 0]);
    expect([...e.ceil(x).dataSync()].map((v) => v + 0)).toEqual([-1, 0, 1, 2, 3, 0]);
    expect([...e.round(x).dataSync()].map((v) => v + 0)).toEqual([-2, 0, 0, 2, 2, 0]);
    expect([...e.sign(x).dataSync()]).toEqual([-1, -1, 1, 1, 1, 0]);
    e.round(x).sum().backward();
    expect(x.grad).toBeNull();
  });

  it("know their limits", () => {
    expect([...e.softplus(tensor([-800, 800])).dataSync()]).toEqual([0, 800]);
    expect([...e.clamp(tensor([-5, 5]), undefined, 1).dataSync()]).toEqual([-5, 1]);
    expect(() => e.clamp(tensor([1]), 2, 1)).toThrow("clamp: low must be at most high (1), found 2");
    expect(() => e.exp(tensor(Int32Array.of(1)))).toThrow("exp: the argument must be of dtype f32 or spikes, found i32");
  });
});

/** Two shapes that broadcast to a third: some axes of either are 1 or missing. */
const pairs = fc
  .tuple(shapes(), fc.array(fc.integer({ min: 0, max: 2 }), { minLength: 4, maxLength: 4 }), fc.nat(4))
  .map(([shape, how, drop]) => {
    const a = shape.map((d, i) => (how[i] === 1 ? 1 : d));
    const b = shape.map((d, i) => (how[i] === 2 ? 1 : d)).slice(Math.min(drop, shape.length));
    return { a, b };
  });

const BINARY: Record<string, [f: (a: Tensor, b: Tensor) => Tensor, low: number, high: number, plain: (a: number, b: number) => number]> = {
  add: [e.add, -2, 2, (a, b) => a + b],
  sub: [e.sub, -2, 2, (a, b) => a - b],
  mul: [e.mul, -2, 2, (a, b) => a * b],
  div: [e.div, 0.3, 2, (a, b) => a / b],
  maximum: [e.maximum, -2, 2, Math.max],
  minimum: [e.minimum, -2, 2, Math.min],
  pow: [e.pow, 0.3, 2, (a, b) => a ** b],
};

describe("functions of two arguments", () => {
  it.each(Object.entries(BINARY))("%s: value, broadcasting, gradient", (_name, [f, low, high, plain]) => {
    fc.assert(
      fc.property(pairs, fc.nat(1000), ({ a, b }, seed) => {
        const [x, y] = [draw(a, seed, low, high), draw(b, seed + 1, low, high)];
        const z = f(x, y);
        const rank = Math.max(a.length, b.length);
        const shape = Array.from({ length: rank }, (_, i) => Math.max(a[i - rank + a.length] ?? 1, b[i - rank + b.length] ?? 1));
        expect(z.shape).toEqual(shape);
        const at = (index: number[], own: number[], values: ArrayLike<number>) =>
          values[own.reduce((k, d, i) => k * d + (d === 1 ? 0 : (index[i + rank - own.length] as number)), 0)] as number;
        const [xs, ys] = [x.dataSync(), y.dataSync()];
        z.dataSync().forEach((v, i) => {
          const index: number[] = [];
          let rest = i;
          for (let k = rank - 1; k >= 0; k--) {
            index[k] = rest % (shape[k] as number);
            rest = Math.floor(rest / (shape[k] as number));
          }
          expect(v).toBeCloseTo(plain(at(index, a, xs), at(index, b, ys)), 9);
        });
        gradcheck(f, [x, y]);
      }),
      RUNS,
    );
  });

  it("take numbers on either side", () => {
    const x = tensor([1, 2, 4]);
    const cases: [Tensor, number[]][] = [
      [e.add(x, 1), [2, 3, 5]],
      [e.add(1, x), [2, 3, 5]],
      [e.sub(x, 1), [0, 1, 3]],
      [e.sub(1, x), [0, -1, -3]],
      [e.mul(x, 3), [3, 6, 12]],
      [e.mul(3, x), [3, 6, 12]],
      [e.div(x, 4), [0.25, 0.5, 1]],
      [e.div(4, x), [4, 2, 1]],
      [e.maximum(x, 2), [2, 2, 4]],
      [e.minimum(2, x), [1, 2, 2]],
      [e.pow(x, 2), [1, 4, 16]],
      [e.pow(2, x), [2, 4, 16]],
      [e.add(1, 2), [3]],
    ];
    for (const [y, expected] of cases) expect([...y.dataSync()].map((v) => Math.round(v * 1e12) / 1e12)).toEqual(expected);
    for (const f of [(t: Tensor) => e.sub(1, t), (t: Tensor) => e.div(4, t), (t: Tensor) => e.div(t, 4), (t: Tensor) => e.pow(2, t)])
      gradcheck(f, [x]);
  });

  it("maximum and minimum share the gradient of a tie in halves", () => {
    for (const f of [e.maximum, e.minimum]) {
      const [a, b] = [tensor([1, 2, 3]), tensor([3, 2, 1])];
      a.requiresGrad = b.requiresGrad = true;
      backward(f(a, b).sum());
      const ga = [...(a.grad as Tensor).dataSync()];
      expect(ga).toEqual(f === e.maximum ? [0, 0.5, 1] : [1, 0.5, 0]);
      expect([...(b.grad as Tensor).dataSync()]).toEqual([...ga].reverse());
    }
  });

  it("powers of zero have finite gradients", () => {
    const [a, b] = [tensor([0, 0, 2]), tensor([0, 2, 0])];
    a.requiresGrad = b.requiresGrad = true;
    e.pow(a, b).sum().backward();
    expect([...(a.grad as Tensor).dataSync()]).toEqual([0, 0, 0]);
    expect([...(b.grad as Tensor).dataSync()]).toEqual([0, 0, Math.log(2)]);
  });

  it("refuse shapes that do not broadcast, and integers", () => {
    expect(() => e.add(draw([2, 3], 1), draw([4], 1))).toThrow("add: the second argument must be broadcastable with [2, 3], found [4]");
    expect(() => e.mul(tensor(Int32Array.of(1)), draw([1], 1))).toThrow(
      "mul: the first argument must be of dtype f32 or spikes, found i32",
    );
  });
});

describe("comparison, logic, selection", () => {
  const compares: [string, (a: Tensor, b: Tensor | number) => Tensor, (a: number, b: number) => boolean][] = [
    ["eq", e.eq, (a, b) => a === b],
    ["ne", e.ne, (a, b) => a !== b],
    ["lt", e.lt, (a, b) => a < b],
    ["le", e.le, (a, b) => a <= b],
    ["gt", e.gt, (a, b) => a > b],
    ["ge", e.ge, (a, b) => a >= b],
  ];

  it.each(compares)("%s on floats, integers and bytes", (_name, f, plain) => {
    const a = [1, 2, 3];
    const b = [3, 2, 1];
    for (const dtype of ["f32", "i32", "u8"] as const) {
      const y = f(tensor(a, [3], dtype), tensor(b, [3], dtype));
      expect(y.dtype).toBe("bool");
      expect([...y.dataSync()]).toEqual(a.map((v, i) => Number(plain(v, b[i] as number))));
      expect([...f(tensor(a, [3], dtype), 2).dataSync()]).toEqual(a.map((v) => Number(plain(v, 2))));
    }
    expect(f(tensor(a, [3, 1]), tensor(b)).shape).toEqual([3, 3]);
  });

  it("comparisons stay off the tape and refuse mixed dtypes", () => {
    const x = tensor([1, 2]);
    x.requiresGrad = true;
    expect(e.gt(x, 1).node).toBeNull();
    expect(() => e.eq(x, tensor(Int32Array.of(1, 2)))).toThrow(
      "eq: the second argument must be of dtype f32, as the first (cast one of them), found i32",
    );
    expect(() => e.eq(tensor(Int32Array.of(1)), 0.5)).toThrow(
      /eq: the second argument must be an integer in \[-2147483648, 2147483647\] for dtype i32, found 0.5/,
    );
  });

  it("logic", () => {
    const a = tensor([0, 0, 1, 1], [4], "bool");
    const b = tensor([0, 1, 0, 1], [4], "bool");
    expect([...e.logicalAnd(a, b).dataSync()]).toEqual([0, 0, 0, 1]);
    expect([...e.logicalOr(a, b).dataSync()]).toEqual([0, 1, 1, 1]);
    expect([...e.logicalXor(a, b).dataSync()]).toEqual([0, 1, 1, 0]);
    expect([...e.logicalNot(a).dataSync()]).toEqual([1, 1, 0, 0]);
    expect(e.logicalOr(e.eq(draw([2, 1], 1), 0), a).shape).toEqual([2, 4]);
    expect(() => e.logicalAnd(a, draw([4], 1))).toThrow("logical and: argument 2 must be of dtype bool or u8, found f32");
  });

  it("where: value and gradient over broadcast axes", () => {
    fc.assert(
      fc.property(pairs, fc.nat(1000), ({ a, b }, seed) => {
        const cond = e.gt(draw(b, seed), 0);
        gradcheck((x, y) => e.where(cond, x, y), [draw(a, seed + 1), draw(b, seed + 2)]);
        gradcheck((x) => e.where(cond, x, -1), [draw(a, seed + 1)]);
      }),
      RUNS,
    );
    const picked = e.where(tensor([1, 0], [2], "bool"), tensor([1, 2]), 7);
    expect([...picked.dataSync()]).toEqual([1, 7]);
    expect(() => e.where(draw([1], 1), 1, 2)).toThrow("where: the condition must be of dtype bool or u8, found f32");
  });
});

describe("conversion", () => {
  it("cuts floats to integers, saturating", () => {
    const x = tensor([-1.7, 0, 2.9, 300, Number.NaN]);
    expect([...e.cast(x, "i32").dataSync()]).toEqual([-1, 0, 2, 300, 0]);
    expect([...e.cast(x, "u8").dataSync()]).toEqual([0, 0, 2, 255, 0]);
    expect([...e.cast(x, "bool").dataSync()]).toEqual([1, 0, 1, 1, 1]);
    expect([...e.cast(tensor(Int32Array.of(3, 0)), "f32").dataSync()]).toEqual([3, 0]);
    expect([...e.cast(tensor(Int32Array.of(3, 0)), "bool").dataSync()]).toEqual([1, 0]);
    const same = e.cast(x, "f32");
    expect(same).not.toBe(x);
    expect(() => e.cast(x, "spikes")).toThrow(/toSpikes makes spikes/);
  });

  it("spikes and back, for any number of channels, with the gradient straight through", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 70 }), fc.integer({ min: 1, max: 8 }), fc.constantFrom(1, 0.5, 0.25), (c, planes, scale) => {
        const t = drawSpikes([3, c], c, { planes, scale });
        const values = t.dataSync();
        const x = tensor(values, [3, c], "f32");
        x.requiresGrad = true;
        const s = e.toSpikes(x, { planes, scale });
        expect(s.spikes).toEqual({ planes, scale });
        expect(s.dataSync()).toEqual(values);
        expect(e.clone(s).dataSync()).toEqual(values);
        const g = draw([3, c], 5);
        backward(e.toDense(s), { gradient: g });
        expect((x.grad as Tensor).dataSync()).toEqual(g.dataSync());
      }),
      RUNS,
    );
    expect([...e.toSpikes(e.gt(tensor([1, -1]), 0)).dataSync()]).toEqual([1, 0]);
    expect([...e.cast(drawSpikes([40], 3), "bool").dataSync()]).toEqual([...drawSpikes([40], 3).dataSync()]);
  });

  it("refuses values that are no spikes", () => {
    expect(() => e.toSpikes(tensor([0, 0.5]))).toThrow("toSpikes: every value must be 1 times an integer from 0 to 1, found 0.5");
    expect(() => e.toSpikes(tensor([4]), { planes: 2 })).toThrow(/integer from 0 to 3, found 4/);
    expect(() => e.toSpikes(tensor([Number.NaN]))).toThrow(/found NaN/);
    expect(() => e.toSpikes(tensor(1))).toThrow("toSpikes: the tensor must be of rank 1 or more, found []");
    expect(() => e.toSpikes(tensor([1]), { planes: 9 })).toThrow(/planes must be an integer from 1 to 8/);
  });

  it("spikes in arithmetic count as their values, and the profile says so", () => {
    resetDenseViews();
    const s = drawSpikes([2, 37], 1, { planes: 2, scale: 0.5 });
    const x = draw([37], 2);
    s.requiresGrad = true;
    const y = e.mul(s, x);
    expect(denseViews().get("mul")).toBe(1);
    expect(y.dataSync()).toEqual(e.mul(e.toDense(s), x).dataSync());
    y.sum().backward();
    expect((s.grad as Tensor).dtype).toBe("f32");
    expect((s.grad as Tensor).dataSync()).toEqual(x.expand([2, 37]).dataSync());
  });
});

const cases: Record<string, Case> = {
  ...Object.fromEntries(Object.entries(UNARY).map(([name, [f, low, high]]) => [name, { inputs: [floats([3, 41], 1, low, high)], run: f }])),
  ...Object.fromEntries(
    Object.entries(BINARY).flatMap(([name, [f, low, high]]) => [
      [name, { inputs: [floats([5, 2, 33], 1, low, high), floats([5, 2, 33], 2, low, high)], run: f }],
      [`${name}, broadcast`, { inputs: [floats([5, 1, 33], 1, low, high), floats([7, 1], 2, low, high)], run: f }],
      [`${name}, long`, { inputs: [floats([40000], 1, low, high), floats([40000], 2, low, high)], run: f }],
    ]),
  ),
  eq: { inputs: [ints([300], 1, 3), ints([300], 2, 3)], run: e.eq },
  gt: { inputs: [floats([3, 100], 1), floats([100], 2)], run: e.gt },
  "logical xor": { inputs: [ints([70], 1, 2), ints([70], 2, 2)], run: (a, b) => e.logicalXor(e.cast(a, "bool"), e.cast(b, "bool")) },
  where: { inputs: [ints([9, 1], 1, 2), floats([9, 20], 2), floats([20], 3)], run: (c, a, b) => e.where(e.cast(c, "bool"), a, b) },
  "to i32": { inputs: [floats([77], 1, -300, 300)], run: (x) => e.cast(x, "i32") },
  "to u8": { inputs: [floats([77], 1, -300, 600)], run: (x) => e.cast(x, "u8") },
  "u8 to f32": { inputs: [floats([77], 1, 0, 255)], run: (x) => e.cast(e.cast(x, "u8"), "f32") },
  "to spikes": {
    inputs: [{ ...spikes([5, 70], 1, { planes: 3, scale: 0.5 }) }],
    run: (x) => e.toSpikes(e.toDense(x), { planes: 3, scale: 0.5 }),
  },
  "spikes times floats": { inputs: [spikes([5, 45], 1), floats([45], 2)], run: e.mul },
  empty: { inputs: [floats([0, 3], 1), floats([3], 2)], run: e.add },
};

it.each(compiledDevices())("%s agrees with the reference", (name) => acrossDevices(name, cases));
