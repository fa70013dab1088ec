/** Reference kernels: random numbers. */
import { cos, log, sin } from "../math.ts";
import { philoxBlock, wordToUniform } from "../random.ts";
import type { ReferenceArgs } from "./args.ts";
import { setSpike, words } from "./spikes.ts";

const block = new Uint32Array(4);

/** Word i of the sequence that begins at block `offset`, in [0, 1). */
function uniformAt(i: number, key0: number, key1: number, offset: number): number {
  philoxBlock(offset + Math.floor(i / 4), key0, key1, block);
  return wordToUniform(block[i % 4]!);
}

export const random = {
  random_uniform({ y, n, key0, key1, offset, lo, hi }: ReferenceArgs<"random_uniform">): void {
    for (let i = 0; i < n; i++) y[i] = lo + (hi - lo) * uniformAt(i, key0, key1, offset);
  },

  random_normal({ y, n, key0, key1, offset, mean, std, lo, hi }: ReferenceArgs<"random_normal">): void {
    for (let i = 0; i < n; i++) {
      const first = i % 4 < 2 ? 0 : 2;
      for (let attempt = 0; ; attempt++) {
        philoxBlock(offset + Math.floor(i / 4) + attempt * 2 ** 40, key0, key1, block);
        const radius = Math.sqrt(-2 * log((block[first]! + 0.5) / 2 ** 32));
        const theta = (2 * Math.PI * block[first + 1]!) / 2 ** 32;
        const value = mean + std * radius * (i % 2 === 0 ? cos(theta) : sin(theta));
        y[i] = value;
        if (value >= lo && value <= hi) break;
      }
    }
  },

  dropout({ x, y, n, key0, key1, offset, p }: ReferenceArgs<"dropout">): void {
    for (let i = 0; i < n; i++) y[i] = uniformAt(i, key0, key1, offset) >= p ? x[i]! / (1 - p) : 0;
  },

  spike_bernoulli({ x, y, steps, rows, c, key0, key1, offset }: ReferenceArgs<"spike_bernoulli">): void {
    y.fill(0, 0, steps * rows * words(c));
    for (let i = 0; i < steps * rows * c; i++)
      if (uniformAt(i, key0, key1, offset) < x[i % (rows * c)]!) setSpike(y, Math.floor(i / c), 1, c, i % c, 1);
  },
};
