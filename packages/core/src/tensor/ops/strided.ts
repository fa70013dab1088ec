/** Six-dimensional walks: kernel arguments and tiles for every op that broadcasts or moves elements by strides. */
import type { Storage } from "../../runtime/device.ts";
import { ELEMENT } from "../../runtime/kernel-table.ts";
import { type Shape, sixDimensions, sizeOf } from "../shape.ts";
import type { Tensor } from "../tensor.ts";
import { run, tilesFor } from "./common.ts";

/** Dimensions, and strides of up to three operands, under the kernels' argument names. */
export type WalkArgs = Record<`${"d" | "a" | "b" | "c"}${0 | 1 | 2 | 3 | 4 | 5}`, number>;

const OPERANDS = ["a", "b", "c"] as const;

/**
 * Arguments and tile count of a walk over `shape` with the operands' strides (in elements, one list an operand).
 * @throws SpikeloomError when more than six dimensions cannot be joined.
 */
export function walkArgs(op: string, shape: Shape, operands: readonly (readonly number[])[]): { args: WalkArgs; tiles: number } {
  const { dims, strides } = sixDimensions(op, shape, operands);
  const args: Record<string, number> = {};
  dims.forEach((d, i) => {
    args[`d${i}`] = d;
    strides.forEach((s, k) => {
      args[`${OPERANDS[k]}${i}`] = s[i] as number;
    });
  });
  const row = dims[5] as number;
  const rows = sizeOf(dims) / row;
  return { args: args as WalkArgs, tiles: rows === 1 ? tilesFor(row, 1) : tilesFor(rows, row) };
}

/** Where a strided copy reads or writes: a buffer, the position of its first element, and a stride for each axis walked. */
export interface Place {
  storage: Storage;
  strides: readonly number[];
  offset: number;
}

/** A place in a tensor's memory. */
export function at(t: Tensor, strides: readonly number[], offset = 0): Place {
  return { storage: t.storage, strides, offset };
}

/** `to[offset + i.strides] = from[offset + i.strides]` for every index i of `shape`. */
export function copyStrided(op: string, shape: Shape, from: Place, to: Place): void {
  if (sizeOf(shape) === 0) return;
  const { args, tiles } = walkArgs(op, shape, [from.strides, to.strides]);
  run(
    "copy_strided",
    { x: from.storage, y: to.storage, type: ELEMENT.indexOf(from.storage.type), offsetA: from.offset, offsetB: to.offset, ...args },
    tiles,
  );
}
