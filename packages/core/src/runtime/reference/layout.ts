/** Reference kernels: strided copies, indexing; and `walk`, the six-dimensional loop behind every broadcast. */
import type { ReferenceArgs } from "./args.ts";

type Six<Prefix extends string> = Record<`${Prefix}${0 | 1 | 2 | 3 | 4 | 5}`, number>;

/**
 * Visit every index of DIMS, outermost first: `visit(i, ia, ib, ic)` with i counting up from 0 and the positions in the operands
 * by their strides (0 where the kernel has no third operand).
 */
export function walk(
  s: Six<"d"> & Six<"a"> & Six<"b"> & Partial<Six<"c">>,
  visit: (i: number, ia: number, ib: number, ic: number) => void,
): void {
  const { c0 = 0, c1 = 0, c2 = 0, c3 = 0, c4 = 0, c5 = 0 } = s;
  let i = 0;
  for (let i0 = 0; i0 < s.d0; i0++)
    for (let i1 = 0; i1 < s.d1; i1++)
      for (let i2 = 0; i2 < s.d2; i2++)
        for (let i3 = 0; i3 < s.d3; i3++)
          for (let i4 = 0; i4 < s.d4; i4++)
            for (let i5 = 0; i5 < s.d5; i5++)
              visit(
                i++,
                i0 * s.a0 + i1 * s.a1 + i2 * s.a2 + i3 * s.a3 + i4 * s.a4 + i5 * s.a5,
                i0 * s.b0 + i1 * s.b1 + i2 * s.b2 + i3 * s.b3 + i4 * s.b4 + i5 * s.b5,
                i0 * c0 + i1 * c1 + i2 * c2 + i3 * c3 + i4 * c4 + i5 * c5,
              );
}

export const layout = {
  copy_strided(args: ReferenceArgs<"copy_strided">): void {
    const { x, y, offsetA, offsetB } = args;
    walk(args, (_i, ia, ib) => {
      y[offsetB + ib] = x[offsetA + ia]!;
    });
  },

  accumulate_strided(args: ReferenceArgs<"accumulate_strided">): void {
    const { x, y, offsetA, offsetB } = args;
    walk(args, (_i, ia, ib) => {
      y[offsetB + ib]! += x[offsetA + ia]!;
    });
  },

  index_select({ x, index, y, outer, xn, n, inner }: ReferenceArgs<"index_select">): void {
    for (let o = 0; o < outer; o++)
      for (let j = 0; j < n; j++) for (let i = 0; i < inner; i++) y[(o * n + j) * inner + i] = x[(o * xn + index[j]!) * inner + i]!;
  },

  index_add({ gy, index, gx, outer, xn, n, inner }: ReferenceArgs<"index_add">): void {
    gx.fill(0, 0, outer * xn * inner);
    for (let o = 0; o < outer; o++)
      for (let j = 0; j < n; j++) for (let i = 0; i < inner; i++) gx[(o * xn + index[j]!) * inner + i]! += gy[(o * n + j) * inner + i]!;
  },

  gather({ x, index, y, outer, xn, n, inner }: ReferenceArgs<"gather">): void {
    for (let o = 0; o < outer; o++)
      for (let j = 0; j < n; j++)
        for (let i = 0; i < inner; i++) {
          const at = (o * n + j) * inner + i;
          y[at] = x[(o * xn + index[at]!) * inner + i]!;
        }
  },

  scatter_add({ gy, index, gx, outer, xn, n, inner }: ReferenceArgs<"scatter_add">): void {
    for (let o = 0; o < outer; o++)
      for (let j = 0; j < n; j++)
        for (let i = 0; i < inner; i++) {
          const at = (o * n + j) * inner + i;
          gx[(o * xn + index[at]!) * inner + i]! += gy[at]!;
        }
  },
};
