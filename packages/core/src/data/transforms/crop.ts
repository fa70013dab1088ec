/** Windows of an image, which may reach beyond it: pad, centre crop, random crop and shift. Frames of a recording move together. */
import { SpikeloomError } from "../../runtime/error.ts";
import { roundHalfEven } from "../../runtime/math.ts";
import type { Sample, Transform } from "../dataset.ts";
import { type Fill, fillOf, framesOf, heightWidth, like, type Size, transform, wholeNumber, withPixels } from "./image.ts";

/** Pixels on each side, one number for all of them. */
export type Padding = number | readonly [left: number, top: number, right: number, bottom: number];

/** The window of `height` x `width` pixels whose corner is at (top, left); what lies outside the image is `fill`. */
export function crop(sample: Sample, name: string, top: number, left: number, height: number, width: number, fill: Fill = 0): Sample {
  const { frames, height: h, width: w, channels } = framesOf(sample, name);
  const { data } = sample;
  const out = like(data, frames * height * width * channels);
  const values = fillOf(name, fill, channels);
  if (values.some((v) => v !== 0)) for (let p = 0; p < out.length; p++) out[p] = values[p % channels]!;
  const first = Math.max(0, -left);
  const last = Math.min(width, w - left);
  if (last > first)
    for (let t = 0; t < frames; t++)
      for (let row = Math.max(0, -top); row < Math.min(height, h - top); row++) {
        const from = ((t * h + row + top) * w + left) * channels;
        const to = (t * height + row) * width * channels;
        out.set(data.subarray(from + first * channels, from + last * channels), to + first * channels);
      }
  return withPixels(sample, out, height, width);
}

function sides(name: string, padding: Padding): readonly [number, number, number, number] {
  const all = typeof padding === "number" ? ([padding, padding, padding, padding] as const) : padding;
  if (all.length !== 4)
    throw new SpikeloomError(`${name}: expected padding as one number or [left, top, right, bottom], found ${padding}.`);
  for (const n of all) wholeNumber(`${name} padding`, n, 0);
  return all;
}

/**
 * Add pixels on the sides.
 * `fill` is their value in the sample's own units: 0..255 for bytes.
 */
export function pad(padding: Padding, { fill = 0 }: { fill?: Fill | undefined } = {}): Transform {
  const [left, top, right, bottom] = sides("pad", padding);
  return transform("pad", (sample) => {
    const { height, width } = framesOf(sample, "pad");
    return crop(sample, "pad", -top, -left, height + top + bottom, width + left + right, fill);
  });
}

/** The middle of the image; a smaller image gets zeros around it. Where the border is odd, the middle is torchvision's. */
export function centerCrop(size: Size): Transform {
  const [height, width] = heightWidth("centerCrop", size);
  const start = (whole: number, part: number) => (part > whole ? -Math.floor((part - whole) / 2) : roundHalfEven((whole - part) / 2));
  return transform("centerCrop", (sample) => {
    const { height: h, width: w } = framesOf(sample, "centerCrop");
    return crop(sample, "centerCrop", start(h, height), start(w, width), height, width);
  });
}

/**
 * A window at a random place of the padded image: the usual augmentation of CIFAR-10 with a padding of 4.
 * `size` is that of the window, the image's own where not given;
 * `fill` the value of the padding in the sample's own units: 0..255 for bytes.
 */
export function randomCrop({
  size,
  padding = 0,
  fill = 0,
}: {
  size?: Size | undefined;
  padding?: Padding | undefined;
  fill?: Fill | undefined;
}): Transform {
  const window = size === undefined ? undefined : heightWidth("randomCrop", size);
  const [left, top, right, bottom] = sides("randomCrop", padding);
  return transform("randomCrop", (sample, rng) => {
    const { height: h, width: w } = framesOf(sample, "randomCrop");
    const [height, width] = window ?? [h, w];
    const [down, across] = [h + top + bottom - height, w + left + right - width];
    if (down < 0 || across < 0)
      throw new SpikeloomError(
        `randomCrop: expected an image of at least ${height} x ${width} with its padding, found ${h + top + bottom} x ${w + left + right}. Pad or resize it first.`,
      );
    return crop(sample, "randomCrop", rng.uniformInt(down + 1) - top, rng.uniformInt(across + 1) - left, height, width, fill);
  });
}

/** Move the image by whole pixels, -most to most in each direction, and fill with zeros. */
export function randomShift(most: number): Transform {
  wholeNumber("randomShift", most, 1);
  return transform("randomShift", (sample, rng) => {
    const { height, width } = framesOf(sample, "randomShift");
    const down = rng.uniformInt(2 * most + 1) - most;
    return crop(sample, "randomShift", -down, most - rng.uniformInt(2 * most + 1), height, width);
  });
}
