/** Windows over images: what convolution and pooling share. Sizes of the output, and the geometry that their kernels take. */
import { kindOf } from "../../runtime/check.ts";
import { type Shape, show, sizeOf, wrong } from "../shape.ts";

/** One number for both axes, or [height, width]. */
export type Pair = number | readonly [number, number];

/** The WINDOW arguments of the kernel table. */
export interface Window {
  n: number;
  h: number;
  w: number;
  ci: number;
  oh: number;
  ow: number;
  co: number;
  kh: number;
  kw: number;
  sh: number;
  sw: number;
  ph: number;
  pw: number;
  dh: number;
  dw: number;
}

/** Both numbers of a pair, checked to be integers of at least `least`. */
export function pair(op: string, argument: string, value: Pair, least: number): [number, number] {
  const [a, b] = typeof value === "number" ? [value, value] : Array.isArray(value) ? (value as [number, number]) : [Number.NaN, Number.NaN];
  for (const v of [a, b])
    if (!Number.isInteger(v) || v < least)
      wrong(op, argument, `an integer >= ${least}, or two`, Array.isArray(value) ? show(value) : kindOf(value));
  return [a, b];
}

/** Sizes of images [..., H, W, C]; all leading axes count as batch. */
export function imageSizes(op: string, shape: Shape): { leading: Shape; n: number; h: number; w: number; c: number } {
  if (shape.length < 3) wrong(op, "x", "of shape [..., H, W, C]", show(shape));
  const leading = shape.slice(0, -3);
  const [h, w, c] = shape.slice(-3) as [number, number, number];
  return { leading, n: sizeOf(leading), h, w, c };
}

/** How many windows fit along an axis. With `ceil` a last window may hang over the padded end, if it begins before it (PyTorch's rule). */
export function windowCount(
  size: number,
  window: { kernel: number; stride: number; padding: number; dilation: number; ceil?: boolean },
): number {
  const { kernel, stride, padding, dilation, ceil = false } = window;
  const room = size + 2 * padding - dilation * (kernel - 1) - 1;
  if (!ceil) return Math.floor(room / stride) + 1;
  const count = Math.ceil(room / stride) + 1;
  return (count - 1) * stride >= size + padding ? count - 1 : count;
}

/** Throw where no window fits. */
export function expectWindows(
  op: string,
  shape: Shape,
  count: { oh: number; ow: number },
  kernel: readonly number[],
  padding: readonly number[],
): void {
  if (count.oh < 1 || count.ow < 1)
    wrong(op, "x", `at least as large as the window ${show(kernel)} with padding ${show(padding)} and its dilation`, `${show(shape)}`);
}
