/**
 * Reductions: sums, means, extrema, products, norms, positions of extrema, cumulative sums.
 *
 * `axis` is one axis, a list of axes, or nothing (all of them). A long reduction runs in two passes, over chunks and then over
 * the chunks' results: the chunks go to different threads, and short sums of short sums keep f32 accurate. The number of chunks
 * follows from the shape alone.
 */
import { checkOptions, kindOf } from "../../runtime/check.ts";
import { REDUCE } from "../../runtime/kernel-table.ts";
import { scope } from "../scope.ts";
import { aroundAxis, axisOf, type Shape, sameShape, show, sizeOf, wrong } from "../shape.ts";
import { apply, noGrad, type OpDefinition } from "../tape.ts";
import { empty, expectTensor, type Tensor } from "../tensor.ts";
import { dense, expectFloat, run, tilesFor } from "./common.ts";
import { affine, cast, div, eq, mul, sqrt, square, sub, where } from "./elementwise.ts";
import { expand, reshape } from "./layout.ts";

/** One axis, several, or (undefined) all. */
export type Axes = number | readonly number[] | undefined;

type ReduceName = (typeof REDUCE)[number];

// ------------------------------------------------------------------------------------------ the two passes

/** Elements that one tile reads at least, and entries that one chunk adds up at most. */
const TILE = 16384;
const LONGEST = 8192;

function chunksOf(outer: number, n: number, inner: number): number {
  const forThreads = Math.ceil(Math.min(64, (outer * n * inner) / TILE) / Math.max(1, outer));
  return Math.max(1, Math.min(n, Math.max(forThreads, Math.ceil(n / LONGEST))));
}

/** f32 [outer, inner] = scale * op over the middle of x [outer, n, inner]. */
function reduceMiddle(x: Tensor, outer: number, n: number, inner: number, name: ReduceName, scale: number): Tensor {
  const op = REDUCE.indexOf(name);
  const pass = (from: Tensor, length: number, chunks: number, factor: number): Tensor => {
    const y = empty([outer, chunks, inner]);
    if (y.size)
      run(
        "reduce",
        { x: from.storage, y: y.storage, outer, n: length, inner, chunks, op, scale: factor },
        tilesFor(outer * chunks, Math.ceil(length / chunks) * inner),
      );
    return y;
  };
  const chunks = chunksOf(outer, n, inner);
  return chunks === 1 ? pass(x, n, 1, scale) : pass(pass(x, n, chunks, 1), chunks, 1, scale);
}

/** Runs of reduced axes as [first, end), the last run first; axes of size 1 belong to any run. */
function runsOf(shape: Shape, axes: readonly number[]): [number, number][] {
  const runs: [number, number][] = [];
  let joins = false;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] === 1) continue;
    const reduced = axes.includes(i);
    if (reduced && joins) (runs[runs.length - 1] as [number, number])[0] = i;
    else if (reduced) runs.push([i, i + 1]);
    joins = reduced;
  }
  return runs;
}

/** Reduce `axes` of x, keeping them as size 1. Runs of axes that do not touch are reduced one after the other. */
function reduceAxes(x: Tensor, axes: readonly number[], name: ReduceName, scale: number): Tensor {
  const runs = runsOf(x.shape, axes);
  const last = x.rank - 1;
  const [from, to] = runs[0] ?? [0, 0];
  // Spikes are counted over positions first, then over channels.
  if (x.spikes && to > last && from < last) runs.splice(0, 1, [from, last], [last, to]);
  const sizes = [...x.shape];
  let current = x;
  runs.forEach(([start, end], i) => {
    const factor = i === runs.length - 1 ? scale : 1;
    const [outer, n, inner] = [sizes.slice(0, start), sizes.slice(start, end), sizes.slice(end)].map(sizeOf) as [number, number, number];
    const counted = name === "sum" ? spikeCounts(current, sizes, start, end, factor) : null;
    current = counted ?? reduceMiddle(dense(name, current), outer, n, inner, name, factor);
    sizes.fill(1, start, end);
  });
  return (runs.length ? current : dense(name, x)).alias(sizes);
}

/**
 * The sum over axes [from, to) of a binary spike tensor by counting bits, or null where the bits do not lie so: what stays
 * behind the summed axes must be the channels alone, or whole words.
 */
function spikeCounts(x: Tensor, shape: Shape, from: number, to: number, scale: number): Tensor | null {
  if (x.spikes?.planes !== 1 || to >= shape.length) return null;
  const c = shape[shape.length - 1] as number;
  const rows = sizeOf(shape.slice(to, -1));
  if (rows !== 1 && c % 32 !== 0) return null;
  const [outer, n] = [shape.slice(0, from), shape.slice(from, to)].map(sizeOf) as [number, number];
  const y = empty([outer, rows * c]);
  if (y.size)
    run(
      "spike_count_rows",
      { x: x.storage, y: y.storage, outer, n, c: rows * c, scale: scale * x.spikes.scale },
      tilesFor(outer, (n * rows * c) / 8),
    );
  return y;
}

function axesOf(op: string, axis: Axes, rank: number): number[] {
  const list = axis === undefined ? [] : typeof axis === "number" ? [axis] : axis;
  if (!Array.isArray(list)) wrong(op, "axis", "an axis or a list of axes", kindOf(list));
  if (list.length === 0) return Array.from({ length: rank }, (_, i) => i);
  const axes = list.map((a) => axisOf(op, a, rank)).sort((a, b) => a - b);
  if (new Set(axes).size !== axes.length) wrong(op, "axis", "a list of different axes", show(list));
  return axes;
}

/** Shape with the axes as size 1, and the shape of the result. */
function shapesOf(shape: Shape, axes: readonly number[], keepDims: boolean): { kept: Shape; shape: Shape } {
  const kept = shape.map((d, i) => (axes.includes(i) ? 1 : d));
  return { kept, shape: keepDims ? kept : shape.filter((_, i) => !axes.includes(i)) };
}

interface ReduceSettings {
  axes: readonly number[];
  scale: number;
  from: Shape;
  kept: Shape;
  shape: Shape;
}

function settingsOf(op: string, x: Tensor, axis: Axes, keepDims: boolean, scale = 1): ReduceSettings {
  const axes = axesOf(op, axis, x.rank);
  return { axes, scale, from: x.shape, ...shapesOf(x.shape, axes, keepDims) };
}

// ------------------------------------------------------------------------------------------ sums

function sumOp(name: string): OpDefinition<ReduceSettings> {
  return {
    name,
    forward: (_ctx, [x], { axes, scale, shape }) => reduceAxes(x as Tensor, axes, "sum", scale).alias(shape),
    backward(_ctx, [g], { scale, from, kept }) {
      const scaled = scale === 1 ? (g as Tensor) : affine(g as Tensor, scale);
      return [expand(reshape(scaled, kept), from)];
    },
  };
}

const SUM = sumOp("sum");
const MEAN = sumOp("mean");

/** Integers and booleans are counted as f32. */
function countable(x: Tensor): Tensor {
  return x.dtype === "f32" || x.dtype === "spikes" ? x : cast(x, "f32");
}

/** Sum over axes; f32 (integers, booleans and spikes are counted as f32). */
export function sum(x: Tensor, axis?: Axes, keepDims = false): Tensor {
  expectTensor("sum", "the argument", x);
  return scope(() => apply(SUM, [countable(x)], settingsOf("sum", x, axis, keepDims)));
}

/** Mean over axes; f32 (integers, booleans and spikes are counted as f32). */
export function mean(x: Tensor, axis?: Axes, keepDims = false): Tensor {
  expectTensor("mean", "the argument", x);
  const axes = axesOf("mean", axis, x.rank);
  const n = axes.reduce((product, a) => product * (x.shape[a] as number), 1);
  return scope(() => apply(MEAN, [countable(x)], settingsOf("mean", x, axis, keepDims, 1 / n)));
}

/** The gradient of a tensor of shape `to` that was broadcast to g's shape: summed over the axes it was repeated along. For ops. */
export function unbroadcast(g: Tensor, to: Shape): Tensor {
  if (sameShape(g.shape, to)) return g;
  const lead = g.rank - to.length;
  const axes = g.shape.map((_, i) => i).filter((i) => i < lead || to[i - lead] === 1);
  return reduceAxes(g, axes, "sum", 1).alias(to);
}

// ------------------------------------------------------------------------------------------ extrema, product

function extremumOp(name: "max" | "min"): OpDefinition<ReduceSettings> {
  return {
    name,
    forward(ctx, [x], { axes, shape }) {
      const y = reduceAxes(x as Tensor, axes, name, 1);
      ctx.save(x as Tensor, y);
      return y.alias(shape);
    },
    backward(ctx, [g], { axes, kept, from }) {
      const [x, y] = ctx.saved as [Tensor, Tensor];
      const hit = eq(x, y);
      const count = sum(hit, axes, true);
      const each = div(reshape(g as Tensor, kept), count);
      return [where(hit, expand(each, from), 0)];
    },
  };
}

const MAX = extremumOp("max");
const MIN = extremumOp("min");

function extremum(op: OpDefinition<ReduceSettings>, x: Tensor, axis: Axes, keepDims: boolean): Tensor {
  expectFloat(op.name, "the argument", x);
  const settings = settingsOf(op.name, x, axis, keepDims);
  if (settings.axes.some((a) => x.shape[a] === 0)) wrong(op.name, "the reduced axes", "of size 1 or more", show(x.shape));
  return apply(op, [x], settings);
}

/** Largest value over axes; equal largest values share the gradient evenly (torch.amax). */
export function max(x: Tensor, axis?: Axes, keepDims = false): Tensor {
  return extremum(MAX, x, axis, keepDims);
}

/** Smallest value over axes; equal smallest values share the gradient evenly (torch.amin). */
export function min(x: Tensor, axis?: Axes, keepDims = false): Tensor {
  return extremum(MIN, x, axis, keepDims);
}

const PROD: OpDefinition<ReduceSettings> = {
  name: "prod",
  forward(ctx, [x], { axes, shape }) {
    ctx.save(x as Tensor);
    return reduceAxes(x as Tensor, axes, "prod", 1).alias(shape);
  },
  backward(ctx, [g], { axes, kept }) {
    // The product of the others: all / x without zeros; with one zero only that entry has any, the product of the rest.
    const [saved] = ctx.saved as [Tensor];
    const x = dense("prod", saved);
    const zero = eq(x, 0);
    const filled = where(zero, 1, x);
    const product = reduceAxes(filled, axes, "prod", 1);
    const zeros = sum(zero, axes, true);
    const others = where(zero, where(eq(zeros, 1), product, 0), where(eq(zeros, 0), div(product, filled), 0));
    return [mul(others, reshape(g as Tensor, kept))];
  },
};

/** Product over axes. */
export function prod(x: Tensor, axis?: Axes, keepDims = false): Tensor {
  expectFloat("prod", "the argument", x);
  return apply(PROD, [x], settingsOf("prod", x, axis, keepDims));
}

function argOp(name: "argmax" | "argmin"): OpDefinition<{ axis: number; shape: Shape }> {
  return {
    name,
    forward(_ctx, [input], { axis, shape }) {
      const x = dense(name, input as Tensor);
      const { outer, n, inner } = aroundAxis(x.shape, axis);
      const y = empty(shape, "i32");
      const op = REDUCE.indexOf(name === "argmax" ? "max" : "min");
      if (y.size) run("argreduce", { x: x.storage, y: y.storage, outer, n, inner, op }, tilesFor(outer, n * inner));
      return y;
    },
    backward: () => [null],
  };
}

const ARGMAX = argOp("argmax");
const ARGMIN = argOp("argmin");

function positions(op: typeof ARGMAX, input: Tensor, axis: number | undefined, keepDims: boolean): Tensor {
  expectFloat(op.name, "the argument", input);
  return noGrad(() =>
    scope(() => {
      const x = axis === undefined ? reshape(input, [input.size]) : input;
      const a = axisOf(op.name, axis ?? 0, x.rank);
      if (x.shape[a] === 0) wrong(op.name, "the axis", "of size 1 or more", show(x.shape));
      const { kept, shape } = shapesOf(x.shape, [a], false);
      const result = !keepDims ? shape : axis === undefined ? input.shape.map(() => 1) : kept;
      return apply(op, [x], { axis: a, shape: result });
    }),
  );
}

/** i32 position of the first largest value along an axis, or (no axis) in the flattened tensor. */
export function argmax(x: Tensor, axis?: number, keepDims = false): Tensor {
  return positions(ARGMAX, x, axis, keepDims);
}

/** i32 position of the first smallest value along an axis, or (no axis) in the flattened tensor. */
export function argmin(x: Tensor, axis?: number, keepDims = false): Tensor {
  return positions(ARGMIN, x, axis, keepDims);
}

// ------------------------------------------------------------------------------------------ moments, norms, running sums

const VAR: OpDefinition<ReduceSettings & { divisor: number }> = {
  name: "variance",
  forward(ctx, [input], { axes, divisor, shape }) {
    const x = dense("variance", input as Tensor);
    const centre = mean(x, axes, true);
    ctx.save(input as Tensor, centre);
    return affine(sum(square(sub(x, centre)), axes), 1 / divisor).alias(shape);
  },
  backward(ctx, [g], { divisor, kept }) {
    const [x, centre] = ctx.saved as [Tensor, Tensor];
    return [mul(affine(reshape(g as Tensor, kept), 2 / divisor), sub(x, centre))];
  },
};

/**
 * Variance over axes, in two passes: sum of squared deviations from the mean over n - correction.
 * @param correction 1 (default) is the unbiased estimate, 0 the biased one
 */
export function variance(
  x: Tensor,
  axis?: Axes,
  options: { correction?: number | undefined; keepDims?: boolean | undefined } = {},
): Tensor {
  expectFloat("variance", "the argument", x);
  checkOptions("variance", options, ["correction", "keepDims"]);
  const { correction = 1, keepDims = false } = options;
  const settings = settingsOf("variance", x, axis, keepDims);
  const n = settings.axes.reduce((product, a) => product * (x.shape[a] as number), 1);
  return apply(VAR, [x], { ...settings, divisor: n - correction });
}

const NORM: OpDefinition<ReduceSettings> = {
  name: "norm",
  forward(ctx, [input], { axes, shape, kept, from }) {
    const x = dense("norm", input as Tensor);
    const y = sqrt(axes.length === from.length ? sumOfSquares(x) : reduceAxes(square(x), axes, "sum", 1)).alias(kept);
    ctx.save(input as Tensor, y);
    return y.alias(shape);
  },
  backward(ctx, [g], { kept }) {
    const [x, y] = ctx.saved as [Tensor, Tensor];
    return [mul(x, where(eq(y, 0), 0, div(reshape(g as Tensor, kept), y)))];
  },
};

/** Sum of the squares of all elements, each chunk added up in float64. */
function sumOfSquares(x: Tensor): Tensor {
  const n = x.size;
  const chunks = chunksOf(1, n, 1);
  const partial = empty([chunks]);
  run("sum_squares", { x: x.storage, partial: partial.storage, n, chunks }, tilesFor(chunks, Math.ceil(n / chunks)));
  return reduceMiddle(partial, 1, chunks, 1, "sum", 1);
}

/** Euclidean norm over axes; gradient 0 where the norm is 0. */
export function norm(x: Tensor, axis?: Axes, keepDims = false): Tensor {
  expectFloat("norm", "the argument", x);
  return apply(NORM, [x], settingsOf("norm", x, axis, keepDims));
}

function cumulate(x: Tensor, axis: number, reverse: boolean): Tensor {
  const { outer, n, inner } = aroundAxis(x.shape, axis);
  const y = empty(x.shape);
  if (y.size) run("cumsum", { x: x.storage, y: y.storage, outer, n, inner, reverse: reverse ? 1 : 0 }, tilesFor(outer, n * inner));
  return y;
}

const CUMSUM: OpDefinition<{ axis: number }> = {
  name: "cumsum",
  forward: (_ctx, [x], { axis }) => cumulate(dense("cumsum", x as Tensor), axis, false),
  backward: (_ctx, [g], { axis }) => [cumulate(g as Tensor, axis, true)],
};

/** Running sum along an axis: y[j] = x[0] + ... + x[j]. */
export function cumsum(x: Tensor, axis: number): Tensor {
  expectFloat("cumsum", "the argument", x);
  return apply(CUMSUM, [x], { axis: axisOf("cumsum", axis, x.rank) });
}
