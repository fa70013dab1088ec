/** Reference kernels: bit-packed spikes, packing, logic, counting; and the two functions that know the layout of a spike row. */
import type { ReferenceArgs } from "./args.ts";
import { chunkStart } from "./reduce.ts";

/** u32 words of one bit plane of c channels. */
export function words(c: number): number {
  return Math.ceil(c / 32);
}

/** The integer sum_p 2^p bit_p of one channel of spike row `row` in x [rows, planes, words(c)]. */
export function spikeAt(x: Uint32Array, row: number, planes: number, c: number, channel: number): number {
  let value = 0;
  for (let p = 0; p < planes; p++) {
    const word = x[(row * planes + p) * words(c) + (channel >>> 5)]!;
    value += ((word >>> (channel & 31)) & 1) * 2 ** p;
  }
  return value;
}

/** Set one channel of a spike row, whose bits must be zero before, to an integer. */
export function setSpike(y: Uint32Array, row: number, planes: number, c: number, channel: number, value: number): void {
  for (let p = 0; p < planes; p++) {
    if (Math.floor(value / 2 ** p) % 2 === 1) y[(row * planes + p) * words(c) + (channel >>> 5)]! |= 1 << (channel & 31);
  }
}

export const spikes = {
  spike_pack({ x, y, rows, c, planes, scale }: ReferenceArgs<"spike_pack">): void {
    y.fill(0, 0, rows * planes * words(c));
    for (let r = 0; r < rows; r++) for (let j = 0; j < c; j++) setSpike(y, r, planes, c, j, Math.round(x[r * c + j]! / scale));
  },

  spike_unpack({ x, y, rows, c, planes, scale }: ReferenceArgs<"spike_unpack">): void {
    for (let r = 0; r < rows; r++) for (let j = 0; j < c; j++) y[r * c + j] = scale * spikeAt(x, r, planes, c, j);
  },

  spike_and({ a, b, y, n }: ReferenceArgs<"spike_and">): void {
    for (let i = 0; i < n; i++) y[i] = a[i]! & b[i]!;
  },

  spike_and_rows({ a, mask, y, outer, n, words }: ReferenceArgs<"spike_and_rows">): void {
    for (let o = 0; o < outer; o++)
      for (let j = 0; j < n; j++)
        for (let w = 0; w < words; w++) y[(o * n + j) * words + w] = a[(o * n + j) * words + w]! & mask[o * words + w]!;
  },

  spike_count_rows({ x, y, outer, n, c, scale }: ReferenceArgs<"spike_count_rows">): void {
    for (let o = 0; o < outer; o++)
      for (let channel = 0; channel < c; channel++) {
        let count = 0;
        for (let j = 0; j < n; j++) count += spikeAt(x, o * n + j, 1, c, channel);
        y[o * c + channel] = scale * count;
      }
  },

  spike_mask({ g, x, y, outer, n, gn, xn, c, scale }: ReferenceArgs<"spike_mask">): void {
    for (let o = 0; o < outer; o++)
      for (let j = 0; j < n; j++)
        for (let channel = 0; channel < c; channel++) {
          const value = g[(o * gn + (gn === 1 ? 0 : j)) * c + channel]!;
          y[(o * n + j) * c + channel] = scale * value * spikeAt(x, o * xn + (xn === 1 ? 0 : j), 1, c, channel);
        }
  },

  spike_mask_reduce({ g, x, y, outer, n, c }: ReferenceArgs<"spike_mask_reduce">): void {
    for (let o = 0; o < outer; o++)
      for (let channel = 0; channel < c; channel++) {
        let sum = 0;
        for (let j = 0; j < n; j++) sum += g[(o * n + j) * c + channel]! * spikeAt(x, o * n + j, 1, c, channel);
        y[o * c + channel] = sum;
      }
  },

  spike_stats({ x, partial, rows, c, planes, chunks }: ReferenceArgs<"spike_stats">): void {
    for (let q = 0; q < chunks; q++) {
      let sum = 0;
      let active = 0;
      for (let r = chunkStart(rows, q, chunks); r < chunkStart(rows, q + 1, chunks); r++)
        for (let channel = 0; channel < c; channel++) {
          const value = spikeAt(x, r, planes, c, channel);
          sum += value;
          if (value > 0) active++;
        }
      partial[2 * q] = sum;
      partial[2 * q + 1] = active;
    }
  },

  spike_steps({ x, y, rows, words, planes, steps }: ReferenceArgs<"spike_steps">): void {
    y.fill(0, 0, rows * steps * words);
    for (let r = 0; r < rows; r++)
      for (let channel = 0; channel < 32 * words; channel++) {
        const n = spikeAt(x, r, planes, 32 * words, channel);
        for (let d = 0; d < steps; d++) if (n > d) setSpike(y, r * steps + d, 1, 32 * words, channel, 1);
      }
  },

  spike_levels({ x, y, rows, words, planes, steps }: ReferenceArgs<"spike_levels">): void {
    y.fill(0, 0, rows * planes * words);
    for (let r = 0; r < rows; r++)
      for (let channel = 0; channel < 32 * words; channel++) {
        let n = 0;
        for (let d = 0; d < steps; d++) n += spikeAt(x, r * steps + d, 1, 32 * words, channel);
        setSpike(y, r, planes, 32 * words, channel, n);
      }
  },

  spike_matmul({ x, w, y, batch, m, k, n, steps, scale }: ReferenceArgs<"spike_matmul">): void {
    for (let row = 0; row < batch * m; row++) {
      const sum = new Float64Array(n);
      const first = Math.floor(row / m) * k;
      for (let d = 0; d < steps; d++)
        for (let l = 0; l < k; l++)
          if (spikeAt(x, row * steps + d, 1, k, l)) for (let j = 0; j < n; j++) sum[j]! += w[(first + l) * n + j]!;
      for (let j = 0; j < n; j++) y[row * n + j] = scale * sum[j]!;
    }
  },
};
