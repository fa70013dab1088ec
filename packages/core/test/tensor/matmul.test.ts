// Matrix products against plain loops: batches, broadcasting, transposes, spikes; gradients by differences; wrong shapes.
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { denseViews, resetDenseViews } from "../../src/tensor/ops/common.ts";
import { linear, matmul } from "../../src/tensor/ops/matmul.ts";
import { backward } from "../../src/tensor/tape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
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
  spikes,
  start,
} from "../gradcheck.ts";

beforeAll(() => start("reference"));

const size = fc.integer({ min: 1, max: 5 });

/** Batch axes that broadcast: none, the same, ones, or missing. */
const batches = fc.constantFrom<[number[], number[]]>(
  [[], []],
  [[3], []],
  [[3], [3]],
  [[], [2]],
  [[2, 1], [3]],
  [
    [2, 3],
    [1, 3],
  ],
  [[1], [4]],
);

/** The product of one pair of matrices, given as rows. */
function plain(a: number[][], b: number[][]): number[][] {
  return a.map((row) => (b[0] as number[]).map((_, j) => row.reduce((sum, v, k) => sum + v * ((b[k] as number[])[j] as number), 0)));
}

/** Matrix number `index` of the broadcast batch, as rows, transposed where asked. */
function matrix(x: Tensor, lead: number[], index: number, transposed: boolean): number[][] {
  const [r, c] = x.shape.slice(-2) as [number, number];
  const own = x.shape.slice(0, -2);
  let rest = index;
  let at = 0;
  let step = 1;
  for (let k = lead.length - 1; k >= 0; k--) {
    const i = rest % (lead[k] as number);
    rest = Math.floor(rest / (lead[k] as number));
    const d = own[k - lead.length + own.length] ?? 1;
    if (d > 1) at += i * step;
    step *= d;
  }
  const values = x.dataSync().slice(at * r * c, (at + 1) * r * c);
  const rows = Array.from({ length: r }, (_, i) => [...values.slice(i * c, (i + 1) * c)]);
  return transposed ? Array.from({ length: c }, (_, j) => rows.map((row) => row[j] as number)) : rows;
}

describe("matmul", () => {
  it("batched, broadcast, transposed: value and gradient", () => {
    fc.assert(
      fc.property(batches, size, size, size, fc.boolean(), fc.boolean(), ([la, lb], m, n, k, transposeA, transposeB) => {
        const a = draw([...la, ...(transposeA ? [k, m] : [m, k])], 1);
        const b = draw([...lb, ...(transposeB ? [n, k] : [k, n])], 2);
        const y = matmul(a, b, { transposeA, transposeB });
        const rank = Math.max(la.length, lb.length);
        const lead = Array.from({ length: rank }, (_, i) => Math.max(la[i - rank + la.length] ?? 1, lb[i - rank + lb.length] ?? 1));
        expect(y.shape).toEqual([...lead, m, n]);
        const batch = lead.reduce((p, d) => p * d, 1);
        const expected = Array.from({ length: batch }, (_, i) =>
          plain(matrix(a, lead, i, transposeA), matrix(b, lead, i, transposeB)),
        ).flat(2);
        expectClose(y, expected, 9);
        gradcheck((p, q) => matmul(p, q, { transposeA, transposeB }), [a, b]);
      }),
      { ...RUNS, numRuns: 40 },
    );
  });

  it("an empty inner axis gives zeros", () => {
    expect([...matmul(draw([2, 0], 1), draw([0, 3], 1)).dataSync()]).toEqual([0, 0, 0, 0, 0, 0]);
    expect(matmul(draw([0, 2], 1), draw([2, 3], 1)).shape).toEqual([0, 3]);
  });

  it("wrong arguments", () => {
    expect(() => matmul(draw([2, 3], 1), draw([4, 5], 1))).toThrow(
      "matmul: the right argument must be of shape [.., 3, n] to go with [2, 3], found [4, 5]",
    );
    expect(() => matmul(draw([2, 3], 1), draw([4, 5], 1), { transposeA: true, transposeB: true })).toThrow(
      "matmul: the right argument must be of shape [.., n, 2] to go with [2, 3] transposed, found [4, 5]",
    );
    expect(() => matmul(draw([3], 1), draw([3, 2], 1))).toThrow("matmul: the left argument must be of rank 2 or more, found [3]");
    expect(() => matmul(draw([2, 3, 4], 1), draw([3, 4, 5], 1))).toThrow(
      "matmul: the second argument must be broadcastable with [2], found [3]",
    );
    expect(() => matmul(integers([2, 2], 1, 2), draw([2, 2], 1))).toThrow(
      "matmul: the left argument must be of dtype f32 or spikes, found i32",
    );
  });
});

/** Value and gradients of `f` at spikes are those at their dense values. */
function sameAsDense(f: (s: Tensor, w: Tensor) => Tensor, s: Tensor, weight: Tensor): void {
  const x = s.toDense();
  const results = [s, x].map((input) => {
    const [leaf, w] = [input.detach(), weight.detach()];
    leaf.requiresGrad = w.requiresGrad = true;
    const y = f(leaf, w);
    backward(y, { gradient: draw(y.shape, 9) });
    return [y, leaf.grad as Tensor, w.grad as Tensor].map((t) => [...t.dataSync()]);
  });
  (results[0] as number[][]).forEach((values, i) => {
    values.forEach((v, k) => {
      expect(v).toBeCloseTo(results[1]?.[i]?.[k] as number, 9);
    });
  });
}

describe("spikes on the left", () => {
  it("give what their dense values give, without unpacking for the product", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(1, 32, 45, 70),
        size,
        fc.constantFrom({ planes: 1, scale: 1 }, { planes: 3, scale: 0.5 }),
        fc.boolean(),
        (k, n, format, transposeB) => {
          const s = drawSpikes([2, 3, k], k, format);
          sameAsDense((a, w) => matmul(a, w, { transposeB }), s, draw(transposeB ? [n, k] : [k, n], 2));
          sameAsDense((a, w) => matmul(a, w), s, draw([2, k, n], 3));
          sameAsDense((a, w) => matmul(w, a, { transposeB: true }), s, draw([4, k], 4));
        },
      ),
      RUNS,
    );
    resetDenseViews();
    const s = drawSpikes([5, 45], 1);
    const w = draw([45, 3], 2);
    s.requiresGrad = w.requiresGrad = true;
    matmul(s, w).sum().backward();
    linear(s, w).sum().backward();
    expect([...denseViews()]).toEqual([]);
  });
});

describe("linear", () => {
  it("value and gradient, with and without bias", () => {
    for (const shape of [[3], [2, 3], [2, 2, 3]]) {
      const [x, w, b] = [draw(shape, 1), draw([3, 4], 2), draw([4], 3)];
      gradcheck((p, q, r) => linear(p, q, r), [x, w, b]);
      gradcheck((p, q) => linear(p, q), [x, w]);
      const y = linear(x, w, b);
      expect(y.shape).toEqual([...shape.slice(0, -1), 4]);
      const expected = matmul(x.reshape([-1, 3]), w)
        .add(b)
        .dataSync();
      expectClose(y, expected, 12);
    }
  });

  it("spikes give what their dense values give", () => {
    sameAsDense((s, w) => linear(s, w, draw([6], 5)), drawSpikes([7, 45], 1, { planes: 2, scale: 0.5 }), draw([45, 6], 2));
  });

  it("wrong arguments", () => {
    const w = draw([3, 4], 1);
    expect(() => linear(draw([2, 5], 1), w)).toThrow("linear: the input must be of shape [.., 3] to go with weight [3, 4], found [2, 5]");
    expect(() => linear(draw([3], 1), draw([3], 1))).toThrow("linear: the weight must be f32 of shape [in, out], found f32 [3]");
    expect(() => linear(draw([3], 1), w, draw([3], 1))).toThrow("linear: the bias must be f32 of shape [4], found f32 [3]");
  });
});

const cases: Record<string, Case> = {
  square: { inputs: [floats([70, 65], 1), floats([65, 130], 2)], run: (a, b) => matmul(a, b), atol: 1e-4 },
  "both transposed": {
    inputs: [floats([65, 70], 1), floats([130, 65], 2)],
    run: (a, b) => matmul(a, b, { transposeA: true, transposeB: true }),
    atol: 1e-4,
  },
  batched: { inputs: [floats([3, 17, 9], 1), floats([3, 9, 33], 2)], run: (a, b) => matmul(a, b), atol: 1e-4 },
  "broadcast batches": { inputs: [floats([2, 1, 5, 9], 1), floats([3, 9, 7], 2)], run: (a, b) => matmul(a, b), atol: 1e-4 },
  "many rows": { inputs: [floats([3000, 17], 1), floats([17, 9], 2)], run: (a, b) => matmul(a, b), atol: 1e-3 },
  "empty inner axis": { inputs: [floats([3, 0], 1), floats([0, 4], 2)], run: (a, b) => matmul(a, b) },
  "spike rows": { inputs: [spikes([600, 70], 1), floats([70, 45], 2)], run: (a, b) => matmul(a, b), atol: 1e-4 },
  "integer spikes": {
    inputs: [spikes([60, 70], 1, { planes: 3, scale: 0.5 }), floats([45, 70], 2)],
    run: (a, b) => matmul(a, b, { transposeB: true }),
    atol: 1e-4,
  },
  linear: { inputs: [floats([4, 10, 33], 1), floats([33, 20], 2), floats([20], 3)], run: (x, w, b) => linear(x, w, b), atol: 1e-4 },
  "spiking linear": {
    inputs: [spikes([4, 10, 33], 1), floats([33, 20], 2), floats([20], 3)],
    run: (x, w, b) => linear(x, w, b),
    atol: 1e-4,
  },
};

it.each(compiledDevices())("%s agrees with the reference", (name) => acrossDevices(name, cases));
