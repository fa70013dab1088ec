/** Reference kernels: reductions over the middle axis of [outer, n, inner]. */
import { REDUCE } from "../kernel-table.ts";
import type { ReferenceArgs } from "./args.ts";

const reduceOps: Record<(typeof REDUCE)[number], { start: number; combine(sum: number, x: number): number }> = {
  sum: { start: 0, combine: (sum, x) => sum + x },
  max: { start: -Infinity, combine: Math.max },
  min: { start: Infinity, combine: Math.min },
  prod: { start: 1, combine: (product, x) => product * x },
};

/** First entry of chunk q when n entries are cut into chunks; `chunkStart(n, q + 1, chunks)` is its end. */
export function chunkStart(n: number, q: number, chunks: number): number {
  return Math.floor((n * q) / chunks);
}

export const reduce = {
  reduce({ x, y, outer, n, inner, chunks, op, scale }: ReferenceArgs<"reduce">): void {
    const { start, combine } = reduceOps[REDUCE[op]!];
    for (let o = 0; o < outer; o++)
      for (let q = 0; q < chunks; q++)
        for (let i = 0; i < inner; i++) {
          let result = start;
          for (let j = chunkStart(n, q, chunks); j < chunkStart(n, q + 1, chunks); j++)
            result = combine(result, x[(o * n + j) * inner + i]!);
          y[(o * chunks + q) * inner + i] = scale * result;
        }
  },

  argreduce({ x, y, outer, n, inner, op }: ReferenceArgs<"argreduce">): void {
    const better = REDUCE[op] === "max" ? (a: number, b: number) => a > b : (a: number, b: number) => a < b;
    for (let o = 0; o < outer; o++)
      for (let i = 0; i < inner; i++) {
        let best = 0;
        for (let j = 1; j < n; j++) if (better(x[(o * n + j) * inner + i]!, x[(o * n + best) * inner + i]!)) best = j;
        y[o * inner + i] = best;
      }
  },

  sort({ x, y, index, rows, n, k, descending }: ReferenceArgs<"sort">): void {
    for (let r = 0; r < rows; r++) {
      const at = (i: number): number => x[r * n + i]!;
      const above = (i: number, j: number): boolean => at(i) > at(j) || (Number.isNaN(at(i)) && !Number.isNaN(at(j)));
      const rising = (i: number, j: number): number => Number(above(i, j)) - Number(above(j, i));
      const order = Array.from({ length: n }, (_, i) => i).sort((i, j) => (descending ? rising(j, i) : rising(i, j)) || i - j);
      for (let i = 0; i < k; i++) {
        index[r * k + i] = order[i]!;
        y[r * k + i] = at(order[i]!);
      }
    }
  },

  cumsum({ x, y, outer, n, inner, reverse }: ReferenceArgs<"cumsum">): void {
    for (let o = 0; o < outer; o++)
      for (let i = 0; i < inner; i++) {
        let sum = 0;
        for (let step = 0; step < n; step++) {
          const j = reverse ? n - 1 - step : step;
          sum += x[(o * n + j) * inner + i]!;
          y[(o * n + j) * inner + i] = sum;
        }
      }
  },

  sum_squares({ x, partial, n, chunks }: ReferenceArgs<"sum_squares">): void {
    for (let q = 0; q < chunks; q++) {
      let sum = 0;
      for (let i = chunkStart(n, q, chunks); i < chunkStart(n, q + 1, chunks); i++) sum += x[i]! * x[i]!;
      partial[q] = sum;
    }
  },
};
