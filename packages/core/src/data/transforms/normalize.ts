/** From pixels to what a network sees: (x - mean) / std in each channel. */
import { SpikeloomError } from "../../runtime/error.ts";
import type { Transform } from "../dataset.ts";
import { framesOf, transform } from "./image.ts";

/**
 * Bytes are divided by 255 first. Rounded to float32 after each operation, so that the result is that of torchvision's ToTensor and
 * Normalize bit for bit.
 * `mean` and `std`: one number a channel, of pixels in 0..1.
 */
export function normalize({ mean, std }: { mean: readonly number[]; std: readonly number[] }): Transform {
  if (!mean.length || mean.length !== std.length)
    throw new SpikeloomError(`normalize: expected as many means as deviations, one a channel, found ${mean.length} and ${std.length}.`);
  if (!mean.every(Number.isFinite) || !std.every((s) => s > 0 && s < Infinity))
    throw new SpikeloomError(
      `normalize: expected finite means and deviations > 0, found mean [${mean.join(", ")}] and std [${std.join(", ")}].`,
    );
  const count = mean.length;
  const m = Float32Array.from(mean);
  const s = Float32Array.from(std);
  const scaled = (value: number, c: number) => Math.fround(value - m[c]!) / s[c]!;
  const table = new Float32Array(256 * count);
  for (let i = 0; i < table.length; i++) table[i] = scaled(Math.fround(Math.floor(i / count) / 255), i % count);
  return transform("normalize", (sample) => {
    const { channels } = framesOf(sample, "normalize");
    if (channels !== count)
      throw new SpikeloomError(
        `normalize: expected samples of ${count} channels, as mean and std have, found [${sample.shape.join(", ")}].`,
      );
    const { data } = sample;
    const out = new Float32Array(data.length);
    const bytes = data instanceof Uint8Array;
    for (let p = 0; p < data.length; p += count)
      for (let c = 0; c < count; c++) out[p + c] = bytes ? table[data[p + c]! * count + c]! : scaled(data[p + c]!, c);
    return { ...sample, data: out };
  });
}
