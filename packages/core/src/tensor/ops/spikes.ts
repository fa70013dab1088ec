/**
 * Operations that keep spikes as bits: products of binary spikes, masks over rows, counts. What is stated for binary spikes works for
 * any other input too, through dense tensors.
 */
import { device } from "../../runtime/engine.ts";
import { scope } from "../scope.ts";
import { sameShape, show, sizeOf, wrong } from "../shape.ts";
import { apply, type OpDefinition } from "../tape.ts";
import { empty, emptySpikes, expectTensor, type SpikeFormat, type Tensor, wordsOf } from "../tensor.ts";
import { expectDType, expectFloat, run, tilesFor } from "./common.ts";
import { affine, mul } from "./elementwise.ts";
import { reshape } from "./layout.ts";
import { sum } from "./reduce.ts";
import { inSteps, withoutSteps } from "./steps.ts";

const formatOf = (t: Tensor): SpikeFormat => t.spikes as SpikeFormat;

/** Spikes of one bit plane. */
export function isBinary(t: Tensor): boolean {
  expectTensor("isBinary", "its argument", t);
  return t.dtype === "spikes" && formatOf(t).planes === 1;
}

const product: OpDefinition<void> = {
  name: "and",
  forward(ctx, inputs) {
    const [a, b] = inputs as [Tensor, Tensor];
    ctx.save(a, b);
    const y = emptySpikes(a.shape, { planes: 1, scale: formatOf(a).scale * formatOf(b).scale });
    const n = y.storage.length;
    run("spike_and", { a: a.storage, b: b.storage, y: y.storage, n }, tilesFor(n, 1));
    return y;
  },
  backward(ctx, grads) {
    const gy = grads[0] as Tensor;
    const [a, b] = ctx.saved as [Tensor, Tensor];
    return [ctx.needs[0] ? masked(gy, b) : null, ctx.needs[1] ? masked(gy, a) : null];
  },
};

/** g * spikes of the same shape. */
function masked(g: Tensor, spikes: Tensor): Tensor {
  const y = empty(g.shape);
  const c = g.shape[g.rank - 1] as number;
  const rows = sizeOf(g.shape.slice(0, -1));
  const sizes = { outer: rows, n: 1, gn: 1, xn: 1, c };
  run("spike_mask", { g: g.storage, x: spikes.storage, y: y.storage, ...sizes, scale: formatOf(spikes).scale }, tilesFor(rows, c));
  return y;
}

/**
 * Product of two spike tensors. Binary spikes stay bits (scales multiply).
 *
 * @param a binary spikes [..., C]
 * @param b binary spikes of the same shape
 * @returns binary spikes; f32 where an input is not binary
 */
export function and(a: Tensor, b: Tensor): Tensor {
  expectFloat("and", "a", a);
  expectFloat("and", "b", b);
  if (!sameShape(a.shape, b.shape)) wrong("and", "b", `of shape ${show(a.shape)}`, show(b.shape));
  return isBinary(a) && isBinary(b) ? apply(product, [a, b], undefined) : mul(a, b);
}

interface Rows {
  outer: number;
  n: number;
  c: number;
}

function rowsOf(op: string, x: Tensor): Rows {
  if (x.rank < 2) wrong(op, "the first argument", "of shape [..., N, C]", show(x.shape));
  const [n, c] = x.shape.slice(-2) as [number, number];
  return { outer: sizeOf(x.shape.slice(0, -2)), n, c };
}

const rowProduct: OpDefinition<Rows> = {
  name: "andRows",
  forward(ctx, inputs, { outer, n, c }) {
    const [a, mask] = inputs as [Tensor, Tensor];
    ctx.save(a, mask);
    const y = emptySpikes(a.shape, { planes: 1, scale: formatOf(a).scale * formatOf(mask).scale });
    const words = wordsOf(c);
    run("spike_and_rows", { a: a.storage, mask: mask.storage, y: y.storage, outer, n, words }, tilesFor(outer, n * words));
    return y;
  },
  backward(ctx, grads, { outer, n, c }) {
    const gy = grads[0] as Tensor;
    const [a, mask] = ctx.saved as [Tensor, Tensor];
    let ga: Tensor | null = null;
    let gmask: Tensor | null = null;
    if (ctx.needs[0]) {
      ga = empty(a.shape);
      const sizes = { outer, n, gn: n, xn: 1, c };
      run("spike_mask", { g: gy.storage, x: mask.storage, y: ga.storage, ...sizes, scale: formatOf(mask).scale }, tilesFor(outer, n * c));
    }
    if (ctx.needs[1]) {
      gmask = empty(mask.shape);
      run("spike_mask_reduce", { g: gy.storage, x: a.storage, y: gmask.storage, outer, n, c }, tilesFor(outer, n * c));
      const { scale } = formatOf(a);
      if (scale !== 1) gmask = affine(gmask, scale);
    }
    return [ga, gmask];
  },
};

/**
 * Product of every row of `a` with one mask: channels that the mask leaves out fall silent in all rows (the mask of spike-driven
 * self-attention, Yao et al. 2023).
 *
 * @param a binary spikes [..., N, C]
 * @param mask binary spikes [..., 1, C] or [..., C]
 * @returns binary spikes [..., N, C]; f32 where an input is not binary
 */
export function andRows(a: Tensor, mask: Tensor): Tensor {
  const op = "andRows";
  expectFloat(op, "a", a);
  expectFloat(op, "mask", mask);
  const rows = rowsOf(op, a);
  const leading = a.shape.slice(0, -2);
  const kept = [...leading, 1, rows.c];
  if (!sameShape(mask.shape, kept) && !sameShape(mask.shape, [...leading, rows.c]))
    wrong(op, "mask", `of shape ${show(kept)} or ${show([...leading, rows.c])}`, show(mask.shape));
  if (isBinary(a) && isBinary(mask)) return apply(rowProduct, [a, mask], rows);
  return mul(a, reshape(mask, kept));
}

/**
 * Sum over the last axis but one (the tokens). Binary spikes are counted, not unpacked.
 *
 * @param x binary spikes [..., N, C]; or other spikes or f32, through a dense sum
 * @param keepDims keep the summed axis with size 1
 * @returns f32 [..., C], or [..., 1, C]
 */
export function countRows(x: Tensor, keepDims = false): Tensor {
  expectTensor("countRows", "x", x);
  rowsOf("countRows", x);
  return sum(x, -2, keepDims);
}

/** How many spikes a tensor holds. */
export interface SpikeStats {
  /** Sum of the integer values (without the scale); for binary spikes the number of spikes. */
  sum: number;
  /** Number of elements that are not zero. */
  nonZero: number;
  /** Number of elements. */
  size: number;
}

/** Count the spikes of a spike tensor: firing rates without unpacking. @throws SpikeloomError for another dtype */
export function spikeStats(t: Tensor): SpikeStats {
  expectDType("spikeStats", "the tensor", t, "spikes");
  if (inSteps(t)) return scope(() => spikeStats(withoutSteps(t)));
  const { planes } = formatOf(t);
  const c = t.shape[t.rank - 1] as number;
  const rows = c === 0 ? 0 : t.size / c;
  // Partial sums are f32: each must stay below 2^24 to be exact.
  const chunks = Math.min(Math.max(rows, 1), Math.max(tilesFor(rows, c / 8), Math.ceil((t.size * (2 ** planes - 1)) / 2 ** 23)));
  const partial = empty([chunks, 2]);
  run("spike_stats", { x: t.storage, partial: partial.storage, rows, c, planes, chunks }, chunks);
  const values = device().view(partial.storage);
  let [total, nonZero] = [0, 0];
  for (let q = 0; q < chunks; q++) {
    total += values[2 * q] as number;
    nonZero += values[2 * q + 1] as number;
  }
  partial.dispose();
  return { sum: total, nonZero, size: t.size };
}
