/** Mirror images. Frames of a recording are mirrored together. */
import type { Transform } from "../dataset.ts";
import { framesOf, like, numberIn, transform } from "./image.ts";

/** Left becomes right with probability `p`. */
export function randomHorizontalFlip(p = 0.5): Transform {
  return flip("randomHorizontalFlip", p, true);
}

/** Up becomes down with probability `p`. */
export function randomVerticalFlip(p = 0.5): Transform {
  return flip("randomVerticalFlip", p, false);
}

function flip(name: string, p: number, horizontal: boolean): Transform {
  numberIn(`${name} p`, p, 0, 1);
  return transform(name, (sample, rng) => {
    const { frames, height, width, channels } = framesOf(sample, name);
    if (rng.uniform() >= p) return sample;
    const { data } = sample;
    const out = like(data, data.length);
    // A row of single pixels is mirrored pixel by pixel, a picture of rows row by row.
    const [groups, count, size] = horizontal ? [frames * height, width, channels] : [frames, height, width * channels];
    for (let g = 0; g < groups; g++)
      for (let i = 0; i < count; i++) {
        const from = (g * count + count - 1 - i) * size;
        const to = (g * count + i) * size;
        for (let k = 0; k < size; k++) out[to + k] = data[from + k]!;
      }
    return { ...sample, data: out };
  });
}
