/** What the network was shown, as a picture again: normalisation undone; event frames added up over time. */
import type { Tensor } from "spikeloom";
import type { ReportImage } from "./report-data.ts";

/**
 * Sample `i` of a batch [B, H, W, C] or [T, B, H, W, 2] as bytes. Grey and colour images are denormalised by `mean` and `std`; of
 * event frames the picture is white, blue where polarity 0 and red where the other one had events.
 */
export function pictureOf(x: Tensor, i: number, { mean, std }: { mean: readonly number[]; std: readonly number[] }): ReportImage {
  const values = x.dataSync();
  const [height, width, channels] = x.shape.slice(-3) as [number, number, number];
  const size = height * width * channels;
  const base = { width, height };
  if (x.rank === 4) {
    const shown = channels === 3 ? 3 : 1;
    const bytes = new Uint8Array(height * width * shown);
    for (let p = 0; p < height * width; p++)
      for (let c = 0; c < shown; c++) {
        const v = (values[i * size + p * channels + c] as number) * (std[c] ?? 1) + (mean[c] ?? 0);
        bytes[p * shown + c] = Math.max(0, Math.min(255, Math.round(255 * v)));
      }
    return { ...base, channels: shown, pixels: Buffer.from(bytes).toString("base64") };
  }
  const [steps, batch] = x.shape as [number, number];
  const events = new Float64Array(size);
  for (let t = 0; t < steps; t++)
    for (let p = 0; p < size; p++) events[p] = (events[p] as number) + (values[(t * batch + i) * size + p] as number);
  const most = events.reduce((a, b) => Math.max(a, b), 0) || 1;
  const bytes = new Uint8Array(height * width * 3);
  for (let p = 0; p < height * width; p++) {
    const [off, on] = [Math.sqrt((events[2 * p] as number) / most), Math.sqrt((events[2 * p + 1] as number) / most)];
    bytes.set([255 * (1 - off), 255 * (1 - Math.max(off, on)), 255 * (1 - on)].map(Math.round), 3 * p);
  }
  return { ...base, channels: 3, pixels: Buffer.from(bytes).toString("base64") };
}
