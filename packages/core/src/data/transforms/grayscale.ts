/** Colour to one channel. */
import type { Transform } from "../dataset.ts";
import { luma } from "./enhance.ts";
import { imageOf, transform } from "./image.ts";

/** One channel, the luma of ITU-R BT.601 as Pillow rounds it; an image of one channel stays as it is. For images of bytes. */
export function grayscale(): Transform {
  return transform("grayscale", (sample) => {
    const { bytes, height, width, channels } = imageOf(sample, "grayscale");
    return { ...sample, data: luma(bytes, channels), shape: [height, width, 1] };
  });
}
