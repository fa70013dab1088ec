/**
 * Layout operations: the same values under another shape or in another order. Any dtype; the result has the dtype of the
 * argument.
 *
 * Spikes move as whole words where the last axis is not touched. Elsewhere they are unpacked, moved and packed again, and the
 * profile counts it (`denseViews`).
 */

import { kindOf } from "../../runtime/check.ts";
import { device } from "../../runtime/engine.ts";
import { Repeated, sourceOf, twin } from "../lazy.ts";
import { keep, scope } from "../scope.ts";
import { axisOf, broadcastShape, broadcastStrides, expectList, type Shape, sameShape, show, sizeOf, stridesOf, wrong } from "../shape.ts";
import { apply, applyMany, isRecording, type OpDefinition } from "../tape.ts";
import { empty, emptySpikes, expectTensor, full, type SpikeFormat, sameFormat, Tensor, wordsOf } from "../tensor.ts";
import { dense } from "./common.ts";
import { pack } from "./elementwise.ts";
import { unbroadcast } from "./reduce.ts";
import { copyStrided } from "./strided.ts";

// ------------------------------------------------------------------------------------------ reshape

const lastOf = (shape: Shape): number => shape[shape.length - 1] ?? 1;

/** May spikes of shape `from` be read as `to` where they lie? */
function spikesAlias({ planes }: SpikeFormat, from: Shape, to: Shape): boolean {
  if (to.length === 0) return false;
  return lastOf(from) === lastOf(to) || (planes === 1 && lastOf(from) % 32 === 0 && lastOf(to) % 32 === 0);
}

/** Spikes again, unless the shape has no axis to pack along. */
function repack(y: Tensor, format: SpikeFormat): Tensor {
  return y.rank ? pack(y, format) : y;
}

const reshapeOp: OpDefinition<{ from: Shape; to: Shape }> = {
  name: "reshape",
  forward(_ctx, [input], { from, to }) {
    const x = input as Tensor;
    // A value not made yet stays so: a neuron behind the reshape can still take it in its own pass.
    if (x.affine && lastOf(from) === lastOf(to) && to.length > 0) return x.handle(to);
    if (x.spikes && !spikesAlias(x.spikes, from, to)) return repack(dense("reshape", x).alias(to), x.spikes);
    return x.alias(to);
  },
  backward(_ctx, [g], { from, to }) {
    const gy = g as Tensor;
    const gx = gy.alias(from);
    // Sums over all rows stay what they are when the rows do.
    if (lastOf(from) === lastOf(to)) [gx.normSums, gy.normSums] = [gy.normSums, null];
    return [gx];
  },
};

/**
 * The same elements in row-major order under another shape; shares memory where it can.
 * @param shape one size may be -1: what is left
 */
export function reshape(x: Tensor, shape: Shape): Tensor {
  expectTensor("reshape", "the tensor", x);
  expectList("reshape", "the shape", shape);
  const known = sizeOf(shape.filter((d) => d !== -1));
  const open = shape.filter((d) => d === -1).length;
  const to = shape.map((d) => (d === -1 ? x.size / known : d));
  if (open > 1 || to.some((d) => !Number.isInteger(d) || d < 0) || sizeOf(to) !== x.size)
    wrong("reshape", "the shape", `of ${x.size} elements, as ${show(x.shape)} (with -1 at most once)`, show(shape));
  return apply(reshapeOp, [x], { from: x.shape, to });
}

/** Without the axes of size 1, or without one of them. @throws SpikeloomError when the named axis has another size. */
export function squeeze(x: Tensor, axis?: number): Tensor {
  expectTensor("squeeze", "the tensor", x);
  if (axis === undefined)
    return reshape(
      x,
      x.shape.filter((d) => d !== 1),
    );
  const a = axisOf("squeeze", axis, x.rank);
  if (x.shape[a] !== 1) wrong("squeeze", `axis ${axis} of ${show(x.shape)}`, "of size 1", String(x.shape[a]));
  return reshape(x, x.shape.toSpliced(a, 1));
}

/** With a new axis of size 1 at `axis` (in [-rank - 1, rank]). */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  expectTensor("unsqueeze", "the tensor", x);
  return reshape(x, x.shape.toSpliced(axisOf("unsqueeze", axis, x.rank + 1), 0, 1));
}

// ------------------------------------------------------------------------------------------ strided copies

/** y[i] = x[offset + i.strides] for i in `axes`; y is then read as `shape`. */
interface Walk {
  axes: Shape;
  strides: readonly number[];
  offset: number;
  shape: Shape;
}

/** The same walk over rows of words instead of rows of elements, or null where it does not keep rows whole. */
function onWords(x: Tensor, { axes, strides, offset, shape }: Walk): Walk | null {
  const { planes } = x.spikes as SpikeFormat;
  const c = lastOf(x.shape);
  const last = axes.length - 1;
  const whole = c > 0 && last >= 0 && axes[last] === c && lastOf(shape) === c && strides[last] === 1;
  if (!whole || offset % c !== 0 || strides.some((s, i) => i < last && s % c !== 0)) return null;
  const row = planes * wordsOf(c);
  const scaled = strides.map((s, i) => (i < last ? (s / c) * row : 1));
  return { axes: axes.with(last, row), strides: scaled, offset: (offset / c) * row, shape };
}

function stridedCopy(op: string, x: Tensor, walk: Walk): Tensor {
  const words = x.spikes && onWords(x, walk);
  if (x.spikes && !words) return repack(stridedCopy(op, dense(op, x), walk), x.spikes);
  const { axes, strides, offset, shape } = words ?? walk;
  const y = x.dtype === "spikes" ? emptySpikes(shape, x.spikes as SpikeFormat) : empty(shape, x.dtype);
  copyStrided(op, axes, { storage: x.storage, strides, offset }, { storage: y.storage, strides: stridesOf(axes), offset: 0 });
  return y;
}

/** Where the gradient of a walk goes: to every element once, to some elements once, or to elements read several times. */
type Adjoint = "cover" | "scatter" | "sum";

/** An op that reads its argument by strides. `from` is the argument's shape. */
function walkOp(name: string, adjoint: Adjoint): OpDefinition<Walk & { from: Shape }> {
  return {
    name,
    forward: (_ctx, [x], walk) => stridedCopy(name, x as Tensor, walk),
    backward(_ctx, [g], { axes, strides, offset, from }) {
      const gy = g as Tensor;
      if (adjoint === "sum") return [unbroadcast(gy, from)];
      const gx = adjoint === "cover" ? empty(from) : full(from, 0);
      copyStrided(name, axes, { storage: gy.storage, strides: stridesOf(axes), offset: 0 }, { storage: gx.storage, strides, offset });
      return [gx];
    },
  };
}

const permuteOp = walkOp("permute", "cover");
const flattenOp = walkOp("flatten", "cover");
const flipOp = walkOp("flip", "cover");
const sliceOp = walkOp("slice", "scatter");
const expandOp = walkOp("expand", "sum");

/** Axis i of the result is axis `axes[i]` of x. */
export function permute(x: Tensor, axes: readonly number[]): Tensor {
  expectTensor("permute", "the tensor", x);
  expectList("permute", "axes", axes);
  const order = axes.map((a) => axisOf("permute", a, x.rank));
  if (new Set(order).size !== x.rank || order.length !== x.rank)
    wrong("permute", "axes", `every axis of ${show(x.shape)} once`, show(axes));
  const shape = order.map((a) => x.shape[a] as number);
  const moved = order.filter((a) => x.shape[a] !== 1);
  if (moved.every((a, i) => i === 0 || a > (moved[i - 1] as number))) return reshape(x, shape);
  const strides = stridesOf(x.shape);
  return apply(permuteOp, [x], { axes: shape, strides: order.map((a) => strides[a] as number), offset: 0, shape, from: x.shape });
}

/** Two axes exchanged, by default the last two. */
export function transpose(x: Tensor, first = -2, second = -1): Tensor {
  expectTensor("transpose", "the tensor", x);
  const a = axisOf("transpose", first, x.rank);
  const b = axisOf("transpose", second, x.rank);
  const order = x.shape.map((_, i) => (i === a ? b : i === b ? a : i));
  return permute(x, order);
}

/**
 * Join the axes from `start` on, in PyTorch's order: the channels, which are last here, come first, so that `[.., H, W, C]` is
 * walked as (C, H, W) and `[.., N, C]` as (C, N). With more than three axes to join, the last three are walked so.
 * `reshape` joins axes in memory order.
 */
export function flatten(x: Tensor, start = 0): Tensor {
  expectTensor("flatten", "the tensor", x);
  if (x.rank === 0) return reshape(x, [1]);
  const from = axisOf("flatten", start, x.rank);
  const shape = [...x.shape.slice(0, from), sizeOf(x.shape.slice(from))];
  const channelsTo = Math.max(from, x.rank - 3);
  const last = x.rank - 1;
  const order = x.shape.map((_, i) => (i < channelsTo ? i : i === channelsTo ? last : i - 1));
  const spatial = sizeOf(x.shape.slice(channelsTo, last));
  if (spatial === 1 || x.shape[last] === 1) return reshape(x, shape);
  const strides = stridesOf(x.shape);
  const axes = order.map((a) => x.shape[a] as number);
  return apply(flattenOp, [x], { axes, strides: order.map((a) => strides[a] as number), offset: 0, shape, from: x.shape });
}

/** The order along the axes reversed. */
export function flip(x: Tensor, axes: number | readonly number[]): Tensor {
  expectTensor("flip", "the tensor", x);
  const flipped = new Set([axes].flat().map((a) => axisOf("flip", a as number, x.rank)));
  let offset = 0;
  const strides = stridesOf(x.shape).map((s, i) => {
    if (!flipped.has(i)) return s;
    offset += s * Math.max(0, (x.shape[i] as number) - 1);
    return -s;
  });
  return apply(flipOp, [x], { axes: x.shape, strides, offset, shape: x.shape, from: x.shape });
}

/**
 * What `slice` takes of one axis: null, all of it; a number, that entry, and the axis goes; `[start, end, step]`, with end
 * excluded (left out or null: to the end), step at least 1. Negative positions count from the end; ranges are cut to the axis.
 */
export type Range = null | number | readonly [start: number, end?: number | null, step?: number];

/** A part of x: one range an axis, in order; axes without one are taken whole. */
export function slice(x: Tensor, ...ranges: Range[]): Tensor {
  expectTensor("slice", "the tensor", x);
  if (ranges.length > x.rank) wrong("slice", "ranges", `at most ${x.rank}, one an axis of ${show(x.shape)}`, String(ranges.length));
  const full = stridesOf(x.shape);
  const axes: number[] = [];
  const strides: number[] = [];
  let offset = 0;
  x.shape.forEach((d, i) => {
    const range = ranges[i] ?? null;
    const s = full[i] as number;
    if (range === null) {
      axes.push(d);
      strides.push(s);
    } else if (typeof range === "number") {
      const at = range < 0 ? range + d : range;
      if (!Number.isInteger(at) || at < 0 || at >= d)
        wrong("slice", `the index of axis ${i}`, `an integer in [${-d}, ${d})`, String(range));
      offset += at * s;
    } else {
      if (!Array.isArray(range)) wrong("slice", `the range of axis ${i}`, "null, an integer or [start, end, step]", kindOf(range));
      const [start, end, step = 1] = range as Exclude<Range, null | number>;
      for (const v of [start, end ?? d, step])
        if (!Number.isInteger(v)) wrong("slice", `the range of axis ${i}`, "of integers", show(range as Shape));
      if (step < 1) wrong("slice", `the step of axis ${i}`, "at least 1 (flip reverses)", String(step));
      const clip = (v: number) => Math.min(Math.max(v < 0 ? v + d : v, 0), d);
      const from = clip(start);
      axes.push(Math.max(0, Math.ceil((clip(end ?? d) - from) / step)));
      strides.push(s * step);
      offset += from * s;
    }
  });
  return apply(sliceOp, [x], { axes, strides, offset, shape: axes, from: x.shape });
}

/** `length` entries of one axis from `start` on. @throws SpikeloomError when they do not all exist. */
export function narrow(x: Tensor, axis: number, start: number, length: number): Tensor {
  expectTensor("narrow", "the tensor", x);
  const a = axisOf("narrow", axis, x.rank);
  const d = x.shape[a] as number;
  if (!Number.isInteger(start) || !Number.isInteger(length) || start < 0 || length < 0 || start + length > d)
    wrong("narrow", "start and length", `within axis ${axis} of size ${d}`, `${start} and ${length}`);
  return slice(x, ...x.shape.map((_, i): Range => (i === a ? [start, start + length] : null)));
}

/** x repeated along axes of size 1, and along new leading axes, until it has `shape` (-1 keeps a size). */
export function expand(x: Tensor, shape: Shape): Tensor {
  expectTensor("expand", "the tensor", x);
  expectList("expand", "the shape", shape);
  const to = shape.map((d, i) => (d === -1 ? (x.shape[x.rank - shape.length + i] ?? -1) : d));
  if (to.some((d) => !Number.isInteger(d) || d < 0) || to.length < x.rank || !sameShape(broadcastShape("expand", x.shape, to), to))
    wrong("expand", "the shape", `one that ${show(x.shape)} broadcasts to`, show(shape));
  if (sizeOf(to) === x.size) return reshape(x, to);
  return apply(expandOp, [x], { axes: to, strides: broadcastStrides(x.shape, to), offset: 0, shape: to, from: x.shape });
}

const repeatOp: OpDefinition<number> = {
  name: "repeat",
  forward(ctx, [input], steps) {
    const x = input as Tensor;
    const shape = [steps, ...x.shape];
    if (x.dtype !== "f32") return stridedCopy("repeat", x, { axes: shape, strides: [0, ...stridesOf(x.shape)], offset: 0, shape });
    // A layer that works on what is repeated alone goes on into the graph by this handle.
    return new Tensor(shape, "f32", null, null, new Repeated(keep(ctx.needs[0] ? twin(x) : x.handle()), steps));
  },
  backward(_ctx, [g]) {
    const gy = g as Tensor;
    const gx = unbroadcast(gy, gy.shape.slice(1));
    // Sums over all rows of all steps are those of the sum over steps.
    [gx.normSums, gy.normSums] = [gy.normSums, null];
    return [gx];
  },
};

/**
 * x at each of `steps` time steps: `[steps, ...x.shape]`. Made on first use; a convolution, linear layer or batch norm that comes next
 * works on x once, and a neuron reads x at every step.
 */
export function repeat(x: Tensor, steps: number): Tensor {
  expectTensor("repeat", "x", x);
  if (!Number.isInteger(steps) || steps < 1) wrong("repeat", "steps", "an integer of at least 1", kindOf(steps));
  return scope(() => {
    // A leaf is reached through an op, which a layer that works on it alone finds behind its handle.
    const y = apply(repeatOp, [isRecording() && x.requiresGrad && !x.node ? reshape(x, x.shape) : x], steps);
    if (y.repeated) y.repeated.direct = true;
    return y;
  });
}

/**
 * What a layer that takes the leading axes as batch makes of a repeated tensor: made once, and repeated. Null where nothing is repeated, or
 * where the layer needs the axis of steps among its `rank` own ones. For ops.
 */
export function once(x: Tensor, rank: number, layer: (x: Tensor) => Tensor): Tensor | null {
  const source = sourceOf(x);
  return source && source.x.rank >= rank ? scope(() => repeat(layer(source.x), source.steps)) : null;
}

// ------------------------------------------------------------------------------------------ joining and cutting

/** Spikes of one format whose parts can be joined along `axis` as words. */
function joinsAsWords(format: SpikeFormat, shapes: readonly Shape[], axis: number): boolean {
  const inRow = axis === (shapes[0] as Shape).length - 1;
  return !inRow || (format.planes === 1 && shapes.every((s) => lastOf(s) % 32 === 0));
}

/** Shape of the storage: rows of words for spikes. */
function storedShape(t: Tensor): Shape {
  return t.spikes ? t.shape.with(-1, t.spikes.planes * wordsOf(lastOf(t.shape))) : t.shape;
}

/** Copy between `part` and the entries of `whole` from `at` on along `axis`; both dense, or both spikes that meet at words. */
function copyPart(op: string, whole: Tensor, part: Tensor, axis: number, at: number, into: "whole" | "part"): void {
  const stored = storedShape(part);
  const strides = stridesOf(storedShape(whole));
  const words = part.spikes && axis === part.rank - 1 ? at / 32 : at;
  const inWhole = { storage: whole.storage, strides, offset: words * (strides[axis] as number) };
  const inPart = { storage: part.storage, strides: stridesOf(stored), offset: 0 };
  copyStrided(op, stored, into === "whole" ? inPart : inWhole, into === "whole" ? inWhole : inPart);
}

const concatOp: OpDefinition<{ axis: number; shapes: readonly Shape[]; shape: Shape }> = {
  name: "concat",
  forward(_ctx, inputs, { axis, shapes, shape }) {
    const { spikes: format, dtype } = inputs[0] as Tensor;
    const alike = format && inputs.every((t) => sameFormat(t.spikes, format));
    const words = alike && joinsAsWords(format, shapes, axis);
    const floats = dtype === "f32" || dtype === "spikes";
    const parts = words || !floats ? inputs : inputs.map((t) => dense("concat", t));
    const y = words
      ? emptySpikes(shape, format as SpikeFormat)
      : empty(shape, (parts[0] as Tensor).dtype as Exclude<Tensor["dtype"], "spikes">);
    let at = 0;
    for (const part of parts) {
      copyPart("concat", y, part, axis, at, "whole");
      at += part.shape[axis] as number;
    }
    return alike && !words ? repack(y, format as SpikeFormat) : y;
  },
  backward(ctx, [g], { axis, shapes }) {
    let at = 0;
    return shapes.map((shape, i) => {
      const from = at;
      at += shape[axis] as number;
      if (!ctx.needs[i]) return null;
      const part = empty(shape);
      copyPart("concat", g as Tensor, part, axis, from, "part");
      return part;
    });
  },
};

function expectTensors(op: string, tensors: readonly Tensor[]): void {
  expectList(op, "tensors", tensors);
  for (const [i, t] of tensors.entries()) expectTensor(op, `tensor ${i}`, t);
}

/**
 * The tensors one after the other along an axis; all other sizes agree. All of one dtype, or f32 and spikes mixed, which gives
 * f32 (so do spikes of different formats).
 */
export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  expectTensors("concat", tensors);
  const first = tensors[0];
  if (!first) wrong("concat", "tensors", "at least one tensor", "none");
  const a = axisOf("concat", axis, first.rank);
  const float = (t: Tensor) => t.dtype === "f32" || t.dtype === "spikes";
  tensors.forEach((t, i) => {
    if (t.rank !== first.rank || t.shape.some((d, k) => k !== a && d !== first.shape[k]))
      wrong("concat", `tensor ${i}`, `of shape ${show(first.shape)} except for axis ${axis}`, show(t.shape));
    if (t.dtype !== first.dtype && !(float(t) && float(first))) wrong("concat", `tensor ${i}`, `of dtype ${first.dtype}`, t.dtype);
  });
  const shapes = tensors.map((t) => t.shape);
  const length = shapes.reduce((n, s) => n + (s[a] as number), 0);
  return apply(concatOp, tensors, { axis: a, shapes, shape: first.shape.with(a, length) });
}

/** The tensors, all of one shape, along a new axis. */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  expectTensors("stack", tensors);
  const first = tensors[0];
  if (!first) wrong("stack", "tensors", "at least one tensor", "none");
  tensors.forEach((t, i) => {
    if (!sameShape(t.shape, first.shape)) wrong("stack", `tensor ${i}`, `of shape ${show(first.shape)}`, show(t.shape));
  });
  const a = axisOf("stack", axis, first.rank + 1);
  return scope(() =>
    concat(
      tensors.map((t) => unsqueeze(t, a)),
      a,
    ),
  );
}

const splitOp: OpDefinition<{ axis: number; sizes: readonly number[]; from: Shape }> = {
  name: "split",
  forward(_ctx, [x], { axis, sizes, from }) {
    const strides = stridesOf(from);
    let at = 0;
    return sizes.map((n) => {
      const axes = from.with(axis, n);
      const part = stridedCopy("split", x as Tensor, { axes, strides, offset: at * (strides[axis] as number), shape: axes });
      at += n;
      return part;
    });
  },
  backward(_ctx, grads, { axis, sizes, from }) {
    const gx = grads.includes(null) ? full(from, 0) : empty(from);
    let at = 0;
    grads.forEach((g, i) => {
      if (g) copyPart("split", gx, g, axis, at, "whole");
      at += sizes[i] as number;
    });
    return [gx];
  },
};

/** Cut an axis into parts of the given sizes, or of `size` each (the last may be smaller). */
export function split(x: Tensor, size: number | readonly number[], axis = 0): Tensor[] {
  expectTensor("split", "the tensor", x);
  if (typeof size !== "number") expectList("split", "sizes", size);
  const a = axisOf("split", axis, x.rank);
  const d = x.shape[a] as number;
  if (typeof size === "number" && !(Number.isInteger(size) && size > 0)) wrong("split", "size", "an integer above 0", String(size));
  const sizes = typeof size === "number" ? Array.from({ length: Math.ceil(d / size) }, (_, i) => Math.min(size, d - i * size)) : size;
  if (sizes.length === 0 || sizes.some((n) => !Number.isInteger(n) || n < 0) || sizes.reduce((n, s) => n + s, 0) !== d)
    wrong("split", "sizes", `integers that sum to ${d}, the size of axis ${axis}`, show(sizes));
  return applyMany(splitOp, [x], { axis: a, sizes, from: x.shape });
}

/** Cut an axis into at most `parts` equal parts (the last may be smaller), as torch.chunk. */
export function chunk(x: Tensor, parts: number, axis = 0): Tensor[] {
  expectTensor("chunk", "the tensor", x);
  if (!Number.isInteger(parts) || parts < 1) wrong("chunk", "parts", "an integer of at least 1", String(parts));
  const d = x.shape[axisOf("chunk", axis, x.rank)] as number;
  return split(x, Math.max(1, Math.ceil(d / parts)), axis);
}

/** The entries of an axis, each without it. */
export function unbind(x: Tensor, axis = 0): Tensor[] {
  return scope(() => split(x, 1, axis).map((part) => squeeze(part, axis)));
}

const padOp: OpDefinition<{ widths: readonly (readonly [number, number])[]; value: number; from: Shape; shape: Shape }> = {
  name: "pad",
  forward(_ctx, [input], { widths, value, shape }) {
    const x = input as Tensor;
    const [before, after] = widths[widths.length - 1] ?? [0, 0];
    const words = x.spikes && before + after === 0 && value === 0;
    if (x.spikes && !words) {
      const y = padded(dense("pad", x), widths, value, shape);
      return value === 0 ? repack(y, x.spikes) : y;
    }
    return padded(x, widths, value, shape);
  },
  backward(_ctx, [g], { widths, from, shape }) {
    const strides = stridesOf(shape);
    const gx = empty(from);
    copyStrided(
      "pad",
      from,
      { storage: (g as Tensor).storage, strides, offset: offsetOf(widths, strides) },
      { storage: gx.storage, strides: stridesOf(from), offset: 0 },
    );
    return [gx];
  },
};

function offsetOf(widths: readonly (readonly [number, number])[], strides: readonly number[]): number {
  return widths.reduce((sum, [before], i) => sum + before * (strides[i] as number), 0);
}

function padded(x: Tensor, widths: readonly (readonly [number, number])[], value: number, shape: Shape): Tensor {
  const y = x.spikes ? emptySpikes(shape, x.spikes) : empty(shape, x.dtype as Exclude<Tensor["dtype"], "spikes">);
  device().view(y.storage).fill(value);
  const strides = stridesOf(storedShape(y));
  const axes = storedShape(x);
  copyStrided(
    "pad",
    axes,
    { storage: x.storage, strides: stridesOf(axes), offset: 0 },
    { storage: y.storage, strides, offset: offsetOf(widths, strides) },
  );
  return y;
}

/**
 * x with `value` around it.
 * @param widths [before, after] of each axis, in order
 */
export function pad(x: Tensor, widths: readonly (readonly [before: number, after: number])[], value = 0): Tensor {
  expectTensor("pad", "the tensor", x);
  expectList("pad", "widths", widths);
  if (widths.length !== x.rank)
    wrong("pad", "widths", `one pair for each of the ${x.rank} axes of ${show(x.shape)}`, `${widths.length} pairs`);
  for (const n of widths.flat()) if (!Number.isInteger(n) || n < 0) wrong("pad", "every width", "an integer of at least 0", String(n));
  const shape = x.shape.map((d, i) => d + (widths[i]?.[0] ?? 0) + (widths[i]?.[1] ?? 0));
  return apply(padOp, [x], { widths, value, from: x.shape, shape });
}
