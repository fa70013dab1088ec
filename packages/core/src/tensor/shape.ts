/** Shapes: sizes, strides, broadcasting, axes; and the errors that name op, argument, expected and found. */
import { kindOf } from "../runtime/check.ts";
import { SpikeloomError } from "../runtime/error.ts";

export type Shape = readonly number[];

/** Number of elements. */
export function sizeOf(shape: Shape): number {
  let n = 1;
  for (const d of shape) n *= d;
  return n;
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i]);
}

export function show(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i] as number;
  }
  return strides;
}

/** Throw the error of an argument: `op: argument expected ..., found ...`. */
export function wrong(op: string, argument: string, expected: string, found: string): never {
  throw new SpikeloomError(`${op}: ${argument} must be ${expected}, found ${found}`);
}

/** Check that an argument is a list, as shapes and axes are. */
export function expectList(op: string, argument: string, value: readonly unknown[]): void {
  if (!Array.isArray(value)) wrong(op, argument, "a list, such as [2, 3]", kindOf(value));
}

/** Check settings that may be any finite number. */
export function expectFinite(op: string, settings: Readonly<Record<string, number>>): void {
  for (const name in settings) if (!Number.isFinite(settings[name])) wrong(op, name, "a finite number", kindOf(settings[name]));
}

/** Check that `shape` matches `pattern`, where null stands for any size. */
export function expectShape(op: string, argument: string, shape: Shape, pattern: readonly (number | null)[]): void {
  if (shape.length !== pattern.length || pattern.some((d, i) => d !== null && d !== shape[i]))
    wrong(op, argument, `of shape [${pattern.map((d) => d ?? "*").join(", ")}]`, show(shape));
}

/** Axis in [0, rank), negative ones from the end. */
export function axisOf(op: string, axis: number, rank: number): number {
  const a = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || a < 0 || a >= rank) wrong(op, "axis", `an integer in [${-rank}, ${rank})`, kindOf(axis));
  return a;
}

/** Shape of the broadcast of two shapes (NumPy's rule). */
export function broadcastShape(op: string, a: Shape, b: Shape): number[] {
  const rank = Math.max(a.length, b.length);
  const out = new Array<number>(rank);
  for (let i = 0; i < rank; i++) {
    const da = a[a.length - rank + i] ?? 1;
    const db = b[b.length - rank + i] ?? 1;
    if (da !== db && da !== 1 && db !== 1) wrong(op, "the second argument", `broadcastable with ${show(a)}`, show(b));
    out[i] = da === 1 ? db : da;
  }
  return out;
}

/** Strides of a tensor of shape `from` walked as `to`: 0 along the axes it is broadcast over. */
export function broadcastStrides(from: Shape, to: Shape): number[] {
  const strides = stridesOf(from);
  const lead = to.length - from.length;
  return to.map((_, i) => (i < lead || from[i - lead] === 1 ? 0 : (strides[i - lead] as number)));
}

/**
 * Write `shape` and the operands' strides as six dimensions for the kernels, joining neighbours that every operand walks
 * without a gap. @throws SpikeloomError when more than six dimensions remain.
 */
export function sixDimensions(op: string, shape: Shape, strides: readonly (readonly number[])[]): { dims: number[]; strides: number[][] } {
  const dims: number[] = [];
  const joined: number[][] = strides.map(() => []);
  for (let i = 0; i < shape.length; i++) {
    const d = shape[i] as number;
    if (d === 1) continue;
    const last = dims.length - 1;
    const joins = last >= 0 && strides.every((s, k) => (joined[k] as number[])[last] === (s[i] as number) * d);
    if (joins) {
      dims[last] = (dims[last] as number) * d;
      for (let k = 0; k < strides.length; k++) (joined[k] as number[])[last] = strides[k]?.[i] as number;
    } else {
      dims.push(d);
      for (let k = 0; k < strides.length; k++) (joined[k] as number[]).push(strides[k]?.[i] as number);
    }
  }
  if (dims.length > 6)
    throw new SpikeloomError(`${op}: more than six dimensions that cannot be joined: ${show(shape)}. Reshape or permute in steps`);
  while (dims.length < 6) {
    dims.unshift(1);
    for (const s of joined) s.unshift(0);
  }
  return { dims, strides: joined };
}

/** [outer, n, inner] of a shape around one axis. */
export function aroundAxis(shape: Shape, axis: number): { outer: number; n: number; inner: number } {
  return { outer: sizeOf(shape.slice(0, axis)), n: shape[axis] as number, inner: sizeOf(shape.slice(axis + 1)) };
}
