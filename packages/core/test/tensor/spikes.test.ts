import { beforeEach, describe, expect, it } from "vitest";
import { denseViews, resetDenseViews } from "../../src/tensor/ops/common.ts";
import { mul, toDense } from "../../src/tensor/ops/elementwise.ts";
import { sum } from "../../src/tensor/ops/reduce.ts";
import { and, andRows, countRows, spikeStats } from "../../src/tensor/ops/spikes.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { close, leaf, on, sameEverywhere, spikes, values, withGradients } from "./support.ts";

beforeEach(() => on("reference"));

const channels = [5, 32, 45, 70];
const dense = (t: Tensor): Tensor => leaf(toDense(t).alias());

function same(got: number[][], expected: number[][]): void {
  got.forEach((list, i) => {
    close(list, expected[i] as number[], 1e-12, `result ${i}`);
  });
}

describe("and", () => {
  it("is the product of binary spikes, kept as bits, with the product's gradients", () => {
    for (const c of channels) {
      const [a, b] = [leaf(spikes([2, 3, c], 1, { scale: 2 })), leaf(spikes([2, 3, c], 2, { scale: 0.25 }))];
      resetDenseViews();
      const y = and(a, b);
      expect(y.spikes).toEqual({ planes: 1, scale: 0.5 });
      expect(denseViews().size).toBe(0);
      same(withGradients(and, a, b), withGradients(mul, dense(a), dense(b)));
    }
  });

  it("is an ordinary product where an input is not binary", () => {
    const [a, b] = [leaf(spikes([2, 40], 1, { planes: 2 })), leaf(spikes([2, 40], 2))];
    expect(and(a, b).dtype).toBe("f32");
    same(withGradients(and, a, b), withGradients(mul, dense(a), dense(b)));
  });

  it("names a wrong shape", () => {
    expect(() => and(spikes([2, 4], 1), spikes([4], 1))).toThrow("and: b must be of shape [2, 4], found [4]");
  });
});

describe("andRows", () => {
  it.each([[[2, 1]], [[2]]] as const)("multiplies every row with the mask of leading shape %s, as bits", ([...leading]) => {
    for (const c of channels) {
      const a = leaf(spikes([2, 6, c], 1, { scale: 2 }));
      const mask = leaf(spikes([...leading, c], 2, { scale: 0.5 }));
      const y = andRows(a, mask);
      expect(y.spikes).toEqual({ planes: 1, scale: 1 });
      expect(y.shape).toEqual([2, 6, c]);
      same(
        withGradients(andRows, a, mask),
        withGradients((p, q) => mul(p, q.reshape([2, 1, c])), dense(a), dense(mask)),
      );
    }
  });

  it("is an ordinary product where an input is not binary", () => {
    const [a, mask] = [leaf(spikes([2, 6, 40], 1, { planes: 3 })), leaf(spikes([2, 40], 2))];
    expect(andRows(a, mask).dtype).toBe("f32");
    same(
      withGradients(andRows, a, mask),
      withGradients((p, q) => mul(p, q.reshape([2, 1, 40])), dense(a), dense(mask)),
    );
  });

  it("names a wrong shape", () => {
    expect(() => andRows(spikes([2, 6, 4], 1), spikes([6, 4], 1))).toThrow(
      "andRows: mask must be of shape [2, 1, 4] or [2, 4], found [6, 4]",
    );
    expect(() => andRows(spikes([4], 1), spikes([4], 1))).toThrow("andRows: the first argument must be of shape [..., N, C], found [4]");
  });
});

describe("countRows", () => {
  it("sums over the rows without unpacking binary spikes", () => {
    for (const c of channels)
      for (const keepDims of [false, true]) {
        const x = leaf(spikes([2, 3, 6, c], 1, { scale: 0.5 }));
        resetDenseViews();
        const y = countRows(x, keepDims);
        expect(denseViews().size).toBe(0);
        expect(y.shape).toEqual(keepDims ? [2, 3, 1, c] : [2, 3, c]);
        same(
          withGradients((a) => countRows(a, keepDims), x),
          withGradients((a) => sum(a, -2, keepDims), dense(x)),
        );
      }
  });

  it("sums integer spikes and floats too", () => {
    const x = leaf(spikes([2, 6, 40], 1, { planes: 3 }));
    same(
      withGradients((a) => countRows(a), x),
      withGradients((a) => sum(a, -2), dense(x)),
    );
    const y = leaf(values([2, 6, 4], 1));
    same(
      withGradients((a) => countRows(a), y),
      withGradients((a) => sum(a, -2), y),
    );
  });
});

it("are the same on every device", async () => {
  for (const c of channels)
    await sameEverywhere(() => {
      const [q, k, v] = [1, 2, 3].map((seed) => leaf(spikes([3, 7, c], seed))) as [Tensor, Tensor, Tensor];
      const mask = leaf(spikes([3, c], 4));
      return [
        ...withGradients(and, k, v),
        ...withGradients(andRows, q, mask),
        ...withGradients((a) => countRows(a), leaf(spikes([3, 7, c], 5))),
      ];
    });
});

describe("spikeStats", () => {
  it("counts integer values and non-zero elements", async () => {
    for (const planes of [1, 2, 4])
      await sameEverywhere(() => {
        const x = spikes([3, 5, 45], 1, { planes, scale: 0.5 });
        const data = [...x.dataSync()];
        const expected = { sum: data.reduce((a, b) => a + b) / 0.5, nonZero: data.filter((v) => v !== 0).length, size: 675 };
        const found = spikeStats(x);
        expect(found).toEqual(expected);
        return [[found.sum, found.nonZero]];
      }, 0);
  });

  it("refuses floats", () => {
    expect(() => spikeStats(values([2, 3], 1))).toThrow("spikeStats: the tensor must be of dtype spikes, found f32");
  });
});
