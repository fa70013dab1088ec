/** What the transforms share: the parts of a sample's shape, and checks of their settings. */
import { SpikeloomError } from "../../runtime/error.ts";
import type { Stream } from "../../runtime/random.ts";
import type { Sample, Transform } from "../dataset.ts";

export type Pixels = Uint8Array | Float32Array;

/** One image, or the frames of a recording: `frames` images of `height` x `width` x `channels` behind one another. */
export interface Frames {
  readonly frames: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

/** A size in pixels: one number for a square, or [height, width]. */
export type Size = number | readonly [height: number, width: number];

/** The parts of [H, W, C] or [T, H, W, C]. */
export function framesOf({ data, shape }: Sample, name: string): Frames {
  const [height, width, channels] = shape.slice(-3) as [number, number, number];
  const frames = shape.length === 4 ? (shape[0] as number) : 1;
  if (!(shape.length === 3 || shape.length === 4) || frames * height * width * channels !== data.length)
    throw new SpikeloomError(
      `${name}: expected a sample [H, W, C] or [T, H, W, C], found ${data.length} values with shape [${shape.join(", ")}].`,
    );
  return { frames, height, width, channels };
}

/** As `framesOf`, of an image of bytes with one or three channels: what operations that are defined on 0..255 need. */
export function imageOf(sample: Sample, name: string): { bytes: Uint8Array; height: number; width: number; channels: 1 | 3 } {
  const { height, width, channels } = framesOf(sample, name);
  if (!(sample.data instanceof Uint8Array))
    throw new SpikeloomError(`${name}: expected pixels as bytes (0..255), found floats. Put ${name} before normalize.`);
  if (sample.shape.length !== 3 || (channels !== 1 && channels !== 3))
    throw new SpikeloomError(`${name}: expected an image [H, W, 1] or [H, W, 3], found [${sample.shape.join(", ")}].`);
  return { bytes: sample.data, height, width, channels };
}

/** The sample with other pixels of another height and width. */
export function withPixels({ shape, label }: Sample, data: Pixels, height: number, width: number): Sample {
  return { data, shape: [...shape.slice(0, -3), height, width, shape.at(-1) as number], label };
}

/** An empty array of the same kind. */
export function like(data: Pixels, length: number): Pixels {
  return data instanceof Uint8Array ? new Uint8Array(length) : new Float32Array(length);
}

/** A transform under its own name. */
export function transform(name: string, apply: (sample: Sample, rng: Stream) => Sample): Transform {
  return { name, apply };
}

export function wholeNumber(name: string, value: number, least: number): number {
  if (!Number.isSafeInteger(value) || value < least)
    throw new SpikeloomError(`${name}: expected a whole number >= ${least}, found ${value}.`);
  return value;
}

export function numberIn(name: string, value: number, low: number, high: number): number {
  if (!(value >= low && value <= high) || value === Infinity)
    throw new SpikeloomError(`${name}: expected a number ${high === Infinity ? `>= ${low}` : `from ${low} to ${high}`}, found ${value}.`);
  return value;
}

/** [low, high] with 0 < low <= high. */
export function rangeAbove0(name: string, range: readonly [number, number]): readonly [number, number] {
  const [low, high] = range;
  if (range.length !== 2 || !(low > 0 && high >= low && high < Infinity))
    throw new SpikeloomError(`${name}: expected two numbers [low, high] with 0 < low <= high, found [${range.join(", ")}].`);
  return range;
}

export function oneOf<T extends string>(name: string, value: T, among: readonly T[]): T {
  if (!among.includes(value)) throw new SpikeloomError(`${name}: expected ${among.join(", ")}, found ${value}.`);
  return value;
}

export function heightWidth(name: string, size: Size): readonly [number, number] {
  const [height, width] = typeof size === "number" ? [size, size] : size;
  return [wholeNumber(name, height, 1), wholeNumber(name, width, 1)];
}

/** What pixels outside the image become: one value for all channels, or one each. */
export type Fill = number | readonly number[];

/** A fill for as many channels. */
export function fillOf(name: string, fill: Fill, channels: number): readonly number[] {
  const values = typeof fill === "number" ? Array<number>(channels).fill(fill) : fill;
  if (values.length !== channels)
    throw new SpikeloomError(`${name}: expected fill as one number or ${channels}, one a channel, found [${values.join(", ")}].`);
  return values;
}

/** A number in [low, high). */
export function uniformIn(rng: Stream, low: number, high: number): number {
  return low + (high - low) * rng.uniform();
}
