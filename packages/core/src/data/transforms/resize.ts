/**
 * Resizing as Pillow does it, which is what the published models were trained and tested with: each output pixel is a weighted mean
 * of the input pixels below the filter, which is widened when the picture shrinks (antialiasing); first along the rows, then along
 * the columns. Bytes are summed with weights of 22 binary places and rounded after each direction; floats are summed in double.
 */
import type { Sample, Transform } from "../dataset.ts";
import { type Frames, framesOf, heightWidth, like, oneOf, type Pixels, type Size, transform, wholeNumber, withPixels } from "./image.ts";

export type Interpolation = "nearest" | "bilinear" | "bicubic";
export const INTERPOLATIONS: readonly Interpolation[] = ["nearest", "bilinear", "bicubic"];

/** Filters over a distance of at most `reach` pixels; the cubic one is Keys' with a = -1/2. */
const FILTERS = {
  bilinear: { reach: 1, weight: (x: number) => (x < 1 ? 1 - x : 0) },
  bicubic: {
    reach: 2,
    weight: (x: number) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0),
  },
};

/** For each output position the first input position and the weights of that and the following ones. */
interface Taps {
  readonly first: Int32Array;
  readonly count: Int32Array;
  /** `most` for each output position. */
  readonly weights: Float64Array;
  readonly most: number;
}

const BYTE_PLACES = 22;
const ONE = 2 ** BYTE_PLACES;
const HALF = ONE / 2;

function taps(from: number, to: number, interpolation: Interpolation, bytes: boolean): Taps {
  const scale = from / to;
  const first = new Int32Array(to);
  const count = new Int32Array(to).fill(1);
  if (interpolation === "nearest") {
    // Added up rather than multiplied, since the last bit decides at the borders between pixels.
    for (let i = 0, x = scale * 0.5; i < to; i++, x += scale) first[i] = Math.min(from - 1, Math.floor(x));
    return { first, count, weights: new Float64Array(to).fill(bytes ? ONE : 1), most: 1 };
  }
  const { reach, weight } = FILTERS[interpolation];
  const widening = Math.max(scale, 1);
  const support = reach * widening;
  const most = Math.ceil(support) * 2 + 1;
  const weights = new Float64Array(to * most);
  for (let i = 0; i < to; i++) {
    const center = (i + 0.5) * scale;
    const low = Math.max(0, Math.trunc(center - support + 0.5));
    const high = Math.min(from, Math.trunc(center + support + 0.5));
    let sum = 0;
    for (let k = low; k < high; k++) {
      const w = weight(Math.abs((k - center + 0.5) / widening));
      weights[i * most + k - low] = w;
      sum += w;
    }
    first[i] = low;
    count[i] = high - low;
    for (let k = i * most; k < i * most + high - low; k++) {
      const w = weights[k]! / sum;
      weights[k] = bytes ? Math.trunc(w * ONE + (w < 0 ? -0.5 : 0.5)) : w;
    }
  }
  return { first, count, weights, most };
}

/** Along the middle axis of [outer, from, inner]. */
function resample(data: Pixels, outer: number, from: number, inner: number, to: number, interpolation: Interpolation): Pixels {
  const bytes = data instanceof Uint8Array;
  const { first, count, weights, most } = taps(from, to, interpolation, bytes);
  const out = like(data, outer * to * inner);
  // One row of sums at a time, so that the innermost loop runs along memory; integers are exact in double.
  const sums = new Float64Array(inner);
  for (let o = 0; o < outer; o++)
    for (let i = 0; i < to; i++) {
      sums.fill(bytes ? HALF : 0);
      const n = count[i]!;
      for (let j = 0; j < n; j++) {
        const source = (o * from + first[i]! + j) * inner;
        const weight = weights[i * most + j]!;
        for (let k = 0; k < inner; k++) sums[k] = sums[k]! + data[source + k]! * weight;
      }
      const place = (o * to + i) * inner;
      if (bytes) for (let k = 0; k < inner; k++) out[place + k] = Math.max(0, Math.min(255, sums[k]! >> BYTE_PLACES));
      else out.set(sums, place);
    }
  return out;
}

/** Pixels [frames, height, width, channels] at another height and width. */
export function resizePixels(data: Pixels, shape: Frames, height: number, width: number, interpolation: Interpolation): Pixels {
  const { frames, height: h, width: w, channels } = shape;
  const rows = w === width ? data : resample(data, frames * h, w, channels, width, interpolation);
  return h === height ? rows : resample(rows, frames, h, width * channels, height, interpolation);
}

/**
 * Resize.
 * @param size [height, width], or one number: the shorter side becomes that and the other keeps its proportion, rounded down
 * `interpolation` is bicubic where not given, as the published image models use.
 */
export function resize(size: Size, { interpolation = "bicubic" }: { interpolation?: Interpolation | undefined } = {}): Transform {
  oneOf("resize interpolation", interpolation, INTERPOLATIONS);
  if (typeof size === "number") wholeNumber("resize", size, 1);
  else heightWidth("resize", size);
  return transform("resize", (sample: Sample) => {
    const shape = framesOf(sample, "resize");
    const { height: h, width: w } = shape;
    const long = (side: number, short: number, shorter: number) => Math.floor((shorter * side) / short);
    const [height, width] =
      typeof size !== "number" ? size : h <= w ? ([size, long(w, h, size)] as const) : ([long(h, w, size), size] as const);
    return withPixels(sample, resizePixels(sample.data, shape, height, width, interpolation), height, width);
  });
}
