// Sorting: against the host's stable sort on every device, ties, NaN and signed zeros, gradients, and the errors.
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { argsort, sort, topk } from "../../src/tensor/ops/sort.ts";
import { scope } from "../../src/tensor/scope.ts";
import { backward } from "../../src/tensor/tape.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { numbers } from "../gradcheck.ts";
import "../../src/tensor/methods.ts";
import { checkGradients, compiled, leaf, on, sameEverywhere, spikes, values, withGradients } from "./support.ts";

beforeEach(() => on("reference"));

const list = (t: Tensor): number[] => [...t.dataSync()];
/** Distinct values, so that differences do not change the order. */
const distinct = (shape: number[], seed: number): Tensor => {
  const n = shape.reduce((a, b) => a * b, 1);
  const order = numbers(n, seed).map((v, i) => [v, i] as const);
  const ranks = new Float64Array(n);
  order
    .sort((a, b) => a[0] - b[0])
    .forEach(([, i], rank) => {
      ranks[i] = rank / 8 - 1;
    });
  return tensor(ranks, shape);
};

describe.each(["reference", ...compiled] as const)("on %s", (name) => {
  it("is the host's stable sort, either way, whole or the first k", async () => {
    await on(name);
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.integer({ min: -3, max: 3 }), fc.constantFrom(Infinity, -Infinity)), { minLength: 1, maxLength: 40 }),
        fc.nat(),
        fc.boolean(),
        (row, pick, descending) =>
          scope(() => {
            const order = row
              .map((_, i) => i)
              .sort((a, b) => {
                const [p, q] = [row[a] as number, row[b] as number];
                return p === q ? 0 : p < q === descending ? 1 : -1;
              });
            const x = tensor(row);
            const { values: y, indices } = sort(x, { descending });
            expect([indices.dtype, list(indices)]).toEqual(["i32", order]);
            expect(list(y)).toEqual(order.map((i) => row[i]));
            expect(list(argsort(x, { descending }))).toEqual(order);
            const k = 1 + (pick % row.length);
            const best = topk(x, k, { largest: descending });
            expect(list(best.indices)).toEqual(order.slice(0, k));
            expect(list(best.values)).toEqual(order.slice(0, k).map((i) => row[i]));
          }),
      ),
      { seed: 1, numRuns: 60 },
    );
  });

  it("puts NaN above all numbers, and keeps the order of zeros and of NaN", async () => {
    await on(name);
    scope(() => {
      const x = tensor([Number.NaN, 1, 0, -0, Number.NaN, -Infinity, Infinity]);
      expect(list(argsort(x))).toEqual([5, 2, 3, 1, 6, 0, 4]);
      expect(list(argsort(x, { descending: true }))).toEqual([0, 4, 6, 1, 2, 3, 5]);
      expect(list(sort(x).values).map((v) => (Object.is(v, -0) ? "-0" : String(v)))).toEqual([
        "-Infinity",
        "0",
        "-0",
        "1",
        "Infinity",
        "NaN",
        "NaN",
      ]);
      expect(list(topk(x, 2).values)).toEqual([Number.NaN, Number.NaN]);
    });
  });
});

describe("gradients and shapes", () => {
  it("has the gradients of finite differences", () => {
    checkGradients((x) => sort(x).values, leaf(distinct([2, 3, 5], 1)));
    checkGradients((x) => topk(x, 2).values, leaf(distinct([4, 6], 2)));
    checkGradients((x) => topk(x, 3, { largest: false }).values, leaf(distinct([7], 3)));
  });

  it("is the same on every device, over many rows and long ones", async () => {
    for (const shape of [
      [300, 33],
      [2, 5000],
      [2, 3, 1],
    ])
      await sameEverywhere(() => {
        const x = leaf(values(shape, 1));
        const k = Math.min(20, shape[shape.length - 1] as number);
        return [
          ...withGradients((a) => sort(a).values, x),
          ...withGradients((a) => topk(a, k).values, x),
          list(argsort(x, { descending: true })),
        ];
      }, 0);
  });

  it("sorts rows of spikes, takes empty tensors, and hangs no graph on the positions", () => {
    scope(() => {
      const s = spikes([3, 40], 1);
      const ones = list(s.sum(-1));
      expect(list(topk(s, 40).values.sum(-1))).toEqual(ones);
      expect(sort(tensor(new Float64Array(0), [0, 3])).values.shape).toEqual([0, 3]);
      expect(sort(tensor(new Float64Array(0), [3, 0])).indices.shape).toEqual([3, 0]);
      const x = leaf(values([4], 1));
      const { values: y, indices } = sort(x);
      expect(indices.node).toBe(null);
      backward(y.sum());
      expect(list(x.grad as Tensor)).toEqual([1, 1, 1, 1]);
    });
  });

  it("says what is wrong", () => {
    scope(() => {
      expect(() => sort(tensor(1))).toThrow(/sort: the tensor must be of rank 1 or more, found \[\]/);
      expect(() => topk(values([2, 4], 1), 5)).toThrow(/topk: k must be an integer from 1 to 4, the size of the last axis, found 5/);
      expect(() => topk(values([4], 1), 0)).toThrow(/k must be/);
      expect(() => argsort(tensor(new Int32Array(3)))).toThrow(/argsort: the tensor must be of dtype f32 or spikes, found i32/);
    });
  });
});

it("is a method of a tensor as well", () =>
  scope(() => {
    const x = tensor([3, 1, 2]);
    expect(list(x.sort({ descending: true }).values)).toEqual([3, 2, 1]);
    expect(list(x.argsort())).toEqual([1, 2, 0]);
    expect(list(x.topk(2).indices)).toEqual([0, 2]);
  }));
