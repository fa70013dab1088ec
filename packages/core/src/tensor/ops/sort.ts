/**
 * Sorting along the last axis. Every device gives the same order: equal values (-0 and 0 too) keep their order, and NaN counts as above every
 * number, so that it comes last in rising order and first in falling order, as in PyTorch.
 */
import { checkOptions } from "../../runtime/check.ts";
import { scope } from "../scope.ts";
import { type Shape, show, wrong } from "../shape.ts";
import { applyMany, noGrad, type OpDefinition } from "../tape.ts";
import { empty, full, type Tensor } from "../tensor.ts";
import { dense, expectFloat, run, tilesFor } from "./common.ts";

/** Values in order, and where in the last axis each was. */
export interface Sorted {
  /** f32; the gradient goes back to where each value came from. */
  values: Tensor;
  /** i32, of the shape of `values`. */
  indices: Tensor;
}

interface SortSettings {
  rows: number;
  n: number;
  k: number;
  descending: boolean;
  from: Shape;
}

const SORT: OpDefinition<SortSettings> = {
  name: "sort",
  forward(ctx, [input], { rows, n, k, descending, from }) {
    const x = dense("sort", input as Tensor);
    const shape = from.with(-1, k);
    const [y, index] = [empty(shape), empty(shape, "i32")];
    const results = { y: y.storage, index: index.storage };
    const cost = n * Math.ceil(Math.log2(k + 1));
    if (y.size) run("sort", { x: x.storage, ...results, rows, n, k, descending: descending ? 1 : 0 }, tilesFor(rows, cost));
    ctx.save(index);
    return [y, index];
  },
  backward(ctx, [g], { rows, n, k, from }) {
    const index = ctx.saved[0] as Tensor;
    const gx = full(from, 0);
    if (g?.size)
      run("scatter_add", { gy: g.storage, index: index.storage, gx: gx.storage, outer: rows, xn: n, n: k, inner: 1 }, tilesFor(rows, k));
    return [gx];
  },
};

function sorted(op: string, x: Tensor, k: number | null, descending: boolean): Sorted {
  expectFloat(op, "the tensor", x);
  if (x.rank < 1) wrong(op, "the tensor", "of rank 1 or more", show(x.shape));
  const n = x.shape[x.rank - 1] as number;
  if (k !== null && (!Number.isInteger(k) || k < 1 || k > n))
    wrong(op, "k", `an integer from 1 to ${n}, the size of the last axis`, String(k));
  return scope(() => {
    const settings = { rows: n ? x.size / n : 0, n, k: k ?? n, descending, from: x.shape };
    const [values, indices] = applyMany(SORT, [x], settings) as [Tensor, Tensor];
    return { values, indices: indices.alias() };
  });
}

/** The entries of the last axis in rising (or falling) order, stable. @param x f32 or spikes [..., N] */
export function sort(x: Tensor, options: { descending?: boolean | undefined } = {}): Sorted {
  checkOptions("sort", options, ["descending"]);
  return sorted("sort", x, null, options.descending ?? false);
}

/** The positions that put the last axis in order: `sort(x).indices`. @returns i32 of x's shape */
export function argsort(x: Tensor, options: { descending?: boolean | undefined } = {}): Tensor {
  checkOptions("argsort", options, ["descending"]);
  return scope(() => noGrad(() => sorted("argsort", x, null, options.descending ?? false).indices));
}

/**
 * The k largest (or smallest) entries of the last axis, in order, best first; of equal ones those that come first.
 * @param x f32 or spikes [..., N]
 * @returns values and indices [..., k]
 * @throws SpikeloomError when k is not from 1 to N
 */
export function topk(x: Tensor, k: number, options: { largest?: boolean | undefined } = {}): Sorted {
  checkOptions("topk", options, ["largest"]);
  return sorted("topk", x, k, options.largest ?? true);
}
