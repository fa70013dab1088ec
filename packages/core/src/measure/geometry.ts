/** Weight layers seen as one 2-d convolution, so that their operations are counted by one rule. */
import { Conv1d, Conv2d } from "../nn/conv.ts";
import { Linear } from "../nn/linear.ts";
import type { Module } from "../nn/module.ts";
import type { Tensor } from "../tensor/tensor.ts";

export type WeightLayer = Conv2d | Conv1d | Linear;

export function isWeightLayer(m: Module): m is WeightLayer {
  return m instanceof Conv2d || m instanceof Conv1d || m instanceof Linear;
}

export interface Geometry {
  /** Axes of the input that are the layer's own; all before them are steps, samples and positions that share the weights. */
  axes: number;
  h: number;
  w: number;
  oh: number;
  ow: number;
  kh: number;
  kw: number;
  cin: number;
  cout: number;
  groups: number;
  /** How many output rows (columns) each input row (column) reaches. */
  rows: Int32Array;
  columns: Int32Array;
  /** Input row (column) of an output's kernel tap; it may lie outside. */
  rowOf(output: number, tap: number): number;
  columnOf(output: number, tap: number): number;
}

export function geometryOf(m: WeightLayer, x: Tensor, output: Tensor): Geometry {
  const cin = x.shape[x.rank - 1] as number;
  const cout = output.shape[output.rank - 1] as number;
  if (m instanceof Linear) return geometry(1, [1, 1], [1, 1], [1, 1], cin, cout, 1, [1, 1], [0, 0], [1, 1]);
  if (m instanceof Conv1d)
    return geometry(
      2,
      [1, x.shape[x.rank - 2] as number],
      [1, output.shape[output.rank - 2] as number],
      [1, m.kernelSize],
      cin,
      cout,
      m.groups,
      [1, m.stride],
      [0, m.padding],
      [1, m.dilation],
    );
  return geometry(
    3,
    x.shape.slice(-3, -1),
    output.shape.slice(-3, -1),
    m.kernelSize,
    cin,
    cout,
    m.groups,
    m.stride,
    m.padding === "same" ? ["same", "same"] : m.padding,
    m.dilation,
  );
}

type Two<T = number> = readonly T[];

function geometry(
  axes: number,
  [h, w]: Two,
  [oh, ow]: Two,
  [kh, kw]: Two,
  cin: number,
  cout: number,
  groups: number,
  [sh, sw]: Two,
  [ph, pw]: Two<number | "same">,
  [dh, dw]: Two,
): Geometry {
  const top = before(ph as number | "same", kh as number, dh as number);
  const left = before(pw as number | "same", kw as number, dw as number);
  return {
    ...{ axes, h: h as number, w: w as number, oh: oh as number, ow: ow as number, kh: kh as number, kw: kw as number, cin, cout, groups },
    rows: reach(h as number, oh as number, kh as number, sh as number, top, dh as number),
    columns: reach(w as number, ow as number, kw as number, sw as number, left, dw as number),
    rowOf: (output, tap) => output * (sh as number) - top + tap * (dh as number),
    columnOf: (output, tap) => output * (sw as number) - left + tap * (dw as number),
  };
}

/** Zeros before the first position; "same" puts the smaller half there. */
function before(value: number | "same", kernel: number, dilation: number): number {
  return value === "same" ? Math.floor((dilation * (kernel - 1)) / 2) : value;
}

/** How many output positions each input position of an axis reaches. */
function reach(size: number, out: number, kernel: number, stride: number, padding: number, dilation: number): Int32Array {
  const counts = new Int32Array(size);
  for (let o = 0; o < out; o++)
    for (let k = 0; k < kernel; k++) {
      const i = o * stride - padding + k * dilation;
      if (i >= 0 && i < size) counts[i] = (counts[i] as number) + 1;
    }
  return counts;
}

/** Steps T and samples B of a forward pass. */
export interface Clock {
  steps: number;
  samples: number;
}

/**
 * How the axes before a layer's own divide: `steps` and `samples`, and how many further positions share the weights. `[T, B, ...]`,
 * `[T * B, ...]` and `[B, ...]` (a layer after time has been averaged away, or before it) are told apart by the clock.
 */
export function divide(leading: readonly number[], { steps, samples }: Clock): Clock & { positions: number } {
  const all = leading.reduce((a, b) => a * b, 1);
  const [first = 1, second] = leading;
  const split = (t: number, b: number) => ({ steps: t, samples: b, positions: t * b ? all / (t * b) : 0 });
  if (first === steps && second === samples) return split(steps, samples);
  if (first === samples) return split(1, samples);
  // One step of a recurrent layer: [1, B, ...], T times.
  if (first === 1 && second === samples) return split(1, samples);
  if (steps * samples > 0 && first % (steps * samples) === 0) return split(steps, samples);
  if (first === steps && second !== undefined) return split(steps, second);
  return split(1, first);
}
