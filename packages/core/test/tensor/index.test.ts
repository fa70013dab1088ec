// Indexing against plain loops; gradients by differences; positions out of range never reach a kernel.
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { SpikeloomError } from "../../src/runtime/error.ts";
import { denseViews, resetDenseViews } from "../../src/tensor/ops/common.ts";
import * as ix from "../../src/tensor/ops/index.ts";
import { sizeOf } from "../../src/tensor/shape.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import {
  acrossDevices,
  type Case,
  compiledDevices,
  draw,
  drawSpikes,
  floats,
  gradcheck,
  integers,
  ints,
  RUNS,
  shapes,
  spikes,
  start,
} from "../gradcheck.ts";

beforeAll(() => start("reference"));

const indexed = fc.tuple(shapes(1, 3), fc.nat(2), fc.integer({ min: 1, max: 5 }), fc.nat(100)).map(([shape, pick, n, seed]) => {
  const axis = pick % shape.length;
  return { shape, axis, n, seed, size: shape[axis] as number };
});

/** [outer, inner] around an axis. */
function around(shape: readonly number[], axis: number): [number, number] {
  return [sizeOf(shape.slice(0, axis)), sizeOf(shape.slice(axis + 1))];
}

describe("indexSelect", () => {
  it("takes entries of an axis, of any dtype", () => {
    fc.assert(
      fc.property(indexed, ({ shape, axis, n, seed, size }) => {
        const index = integers([n], seed, size);
        const at = index.dataSync();
        const [outer, inner] = around(shape, axis);
        for (const x of [
          draw(shape, seed),
          integers(shape, seed, 99),
          drawSpikes(shape, seed),
          drawSpikes(shape, seed, { planes: 3, scale: 0.5 }),
        ]) {
          const values = x.dataSync();
          const expected: number[] = [];
          for (let o = 0; o < outer; o++)
            for (const j of at) for (let i = 0; i < inner; i++) expected.push(values[(o * size + j) * inner + i] as number);
          const y = ix.indexSelect(x, axis, index);
          expect(y.dtype).toBe(x.dtype);
          expect(y.shape).toEqual(shape.with(axis, n));
          expect([...y.dataSync()]).toEqual(expected);
          expect([...ix.indexSelect(x, axis, [...at]).dataSync()]).toEqual(expected);
        }
        gradcheck((x) => ix.indexSelect(x, axis, index), [draw(shape, seed)]);
      }),
      RUNS,
    );
  });

  it("moves rows of spikes as words", () => {
    resetDenseViews();
    const s = drawSpikes([4, 45], 1);
    expect([...ix.indexSelect(s, 0, [3, 3]).dataSync()]).toEqual([...ix.indexSelect(s.toDense(), 0, [3, 3]).dataSync()]);
    expect(denseViews().get("indexSelect")).toBeUndefined();
  });
});

describe("gather and scatterAdd", () => {
  it("gather reads along an axis", () => {
    fc.assert(
      fc.property(indexed, ({ shape, axis, n, seed, size }) => {
        const index = integers(shape.with(axis, n), seed, size);
        const x = draw(shape, seed);
        const [values, at] = [x.dataSync(), index.dataSync()];
        const [outer, inner] = around(shape, axis);
        const expected: number[] = [];
        for (let o = 0; o < outer; o++)
          for (let j = 0; j < n; j++)
            for (let i = 0; i < inner; i++)
              expected.push(values[(o * size + (at[(o * n + j) * inner + i] as number)) * inner + i] as number);
        expect([...ix.gather(x, axis, index).dataSync()]).toEqual(expected);
        gradcheck((t) => ix.gather(t, axis, index), [x]);
      }),
      RUNS,
    );
  });

  it("scatterAdd adds along an axis and leaves x alone", () => {
    fc.assert(
      fc.property(indexed, ({ shape, axis, n, seed, size }) => {
        const index = integers(shape.with(axis, n), seed, size);
        const [x, v] = [draw(shape, seed), draw(index.shape, seed + 1)];
        const before = x.dataSync();
        const expected = x.dataSync();
        const [values, at] = [v.dataSync(), index.dataSync()];
        const [outer, inner] = around(shape, axis);
        for (let o = 0; o < outer; o++)
          for (let j = 0; j < n; j++)
            for (let i = 0; i < inner; i++) {
              const k = (o * n + j) * inner + i;
              expected[(o * size + (at[k] as number)) * inner + i]! += values[k] as number;
            }
        expect(ix.scatterAdd(x, axis, index, v).dataSync()).toEqual(expected);
        expect(x.dataSync()).toEqual(before);
        gradcheck((a, b) => ix.scatterAdd(a, axis, index, b), [x, v]);
      }),
      RUNS,
    );
  });
});

describe("tables", () => {
  it("embedding: rows by index of any shape", () => {
    const weight = draw([5, 3], 1);
    const index = tensor(
      [
        [0, 4],
        [4, 2],
      ],
      [2, 2],
      "i32",
    );
    const y = ix.embedding(weight, index);
    expect(y.shape).toEqual([2, 2, 3]);
    const rows = weight.dataSync();
    expect([...y.dataSync()]).toEqual([0, 4, 4, 2].flatMap((i) => [...rows.slice(3 * i, 3 * i + 3)]));
    gradcheck((w) => ix.embedding(w, index), [weight]);
    expect(ix.embedding(weight, tensor(3, [], "i32")).shape).toEqual([3]);
  });

  it("oneHot", () => {
    expect([...ix.oneHot(tensor(Int32Array.of(2, 0)), 3).dataSync()]).toEqual([0, 0, 1, 1, 0, 0]);
    expect(ix.oneHot(tensor(Int32Array.of(1, 2), [2, 1]), 4).shape).toEqual([2, 1, 4]);
    expect(() => ix.oneHot(tensor(Int32Array.of(1)), 0)).toThrow("oneHot: classes must be an integer of at least 1, found 0");
  });
});

describe("a bad index", () => {
  const x = () => draw([2, 3], 1);
  const bad: [string, () => Tensor, string][] = [
    ["indexSelect, too large", () => ix.indexSelect(x(), 1, [0, 3]), "indexSelect: every index must be in [0, 3), found 3"],
    ["indexSelect, negative", () => ix.indexSelect(x(), 0, [-1]), "indexSelect: every index must be in [0, 2), found -1"],
    ["indexSelect, floats", () => ix.indexSelect(x(), 0, draw([1], 1)), "indexSelect: the index must be of dtype i32, found f32"],
    ["indexSelect, rank", () => ix.indexSelect(x(), 0, integers([1, 1], 1, 1)), "indexSelect: the index must be of rank 1, found [1, 1]"],
    ["gather, range", () => ix.gather(x(), 1, tensor(Int32Array.of(0, 9), [2, 1])), "gather: every index must be in [0, 3), found 9"],
    [
      "gather, shape",
      () => ix.gather(x(), 1, integers([1, 3], 1, 2)),
      "gather: the index must be of shape [2, 3] except for axis 1, found [1, 3]",
    ],
    [
      "scatterAdd, range",
      () => ix.scatterAdd(x(), 1, tensor(Int32Array.of(0, 3), [2, 1]), draw([2, 1], 1)),
      "scatterAdd: every index must be in [0, 3), found 3",
    ],
    [
      "scatterAdd, values",
      () => ix.scatterAdd(x(), 1, integers([2, 1], 1, 2), x()),
      "scatterAdd: values must be of the index's shape [2, 1], found [2, 3]",
    ],
    ["embedding", () => ix.embedding(x(), tensor(Int32Array.of(2))), "embedding: every index must be in [0, 2), found 2"],
    [
      "embedding, weight",
      () => ix.embedding(draw([2], 1), tensor(Int32Array.of(0))),
      "embedding: the weight must be of shape [n, d], found [2]",
    ],
    ["oneHot", () => ix.oneHot(tensor(Int32Array.of(-1)), 3), "oneHot: every index must be in [0, 3), found -1"],
  ];
  it.each(bad)("%s", (_name, f, message) => {
    expect(f).toThrow(SpikeloomError);
    expect(f).toThrow(message);
  });
});

const cases: Record<string, Case> = {
  select: { inputs: [floats([4, 9, 5], 1), ints([30], 2, 9)], run: (x, i) => ix.indexSelect(x, 1, i) },
  "select integers": { inputs: [ints([9, 5], 1, 100), ints([30], 2, 9)], run: (x, i) => ix.indexSelect(x, 0, i) },
  "select bytes": { inputs: [ints([9, 5], 1, 100), ints([30], 2, 9)], run: (x, i) => ix.indexSelect(x.to("u8"), 0, i) },
  "select spikes": { inputs: [spikes([9, 45], 1), ints([30], 2, 9)], run: (x, i) => ix.indexSelect(x, 0, i) },
  "select spike channels": { inputs: [spikes([9, 45], 1), ints([30], 2, 45)], run: (x, i) => ix.indexSelect(x, 1, i) },
  gather: { inputs: [floats([4, 9, 5], 1), ints([4, 20, 5], 2, 9)], run: (x, i) => ix.gather(x, 1, i) },
  scatterAdd: {
    inputs: [floats([4, 9, 5], 1), ints([4, 20, 5], 2, 9), floats([4, 20, 5], 3)],
    run: (x, i, v) => ix.scatterAdd(x, 1, i, v),
  },
  embedding: { inputs: [floats([11, 33], 1), ints([50], 2, 11)], run: (w, i) => ix.embedding(w, i) },
  oneHot: { inputs: [ints([50], 2, 11)], run: (i) => ix.oneHot(i, 11) },
};

it.each(compiledDevices())("%s agrees with the reference", (name) => acrossDevices(name, cases));
