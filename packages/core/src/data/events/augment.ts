/**
 * Augmentation of event frames as the spike-driven transformer's training offers it (BICLab/Spike-Driven-Transformer,
 * dvs_utils/dvs_augment.py): one geometric change for all frames of a recording, a square hole for a whole batch, flip and roll.
 * Each as a plain function of its amounts, and as a transform that draws them.
 */
import { SpikeloomError } from "../../runtime/error.ts";
import { cos, roundHalfEven, sin } from "../../runtime/math.ts";
import type { BatchTransform, Sample, Transform } from "../dataset.ts";

/** Values of an image or of frames. */
export type Pixels = Uint8Array | Float32Array;

/** The geometric changes that `trivialAugment` chooses from. */
export type GeometricOp = "Identity" | "ShearX" | "TranslateX" | "TranslateY" | "Rotate";

/** Largest magnitudes: shear as the angle in radians, translation in pixels, rotation in degrees. */
const LARGEST = { Identity: 0, ShearX: 0.3, TranslateX: 5, TranslateY: 5, Rotate: 30 } as const satisfies Record<GeometricOp, number>;
const OPS = Object.keys(LARGEST) as GeometricOp[];
const BINS = 31;

/**
 * The 31 magnitudes of an operation, evenly from -max to max, rounded as torch.linspace rounds them in float32 (in blocks of eight up
 * to the middle). The last bit shows, since translations are cut to whole pixels: -1.9999999 moves by one.
 */
export function magnitudes(op: GeometricOp): number[] {
  const f = Math.fround;
  const largest = f(LARGEST[op]);
  const step = f((2 * largest) / (BINS - 1));
  return Array.from({ length: BINS }, (_, i) =>
    i < 16 ? f(f(-largest + step * (i & 8)) + f(step * (i & 7))) : f(largest - step * (BINS - 1 - i)),
  );
}

/** Height, width and channels of [..., H, W, C]. */
function plane(shape: readonly number[], what: string): [height: number, width: number, channels: number] {
  if (shape.length < 3) throw new SpikeloomError(`${what}: expected a shape [..., H, W, C], found [${shape.join(", ")}].`);
  return shape.slice(-3) as [number, number, number];
}

/** Each pixel from `source(y, x)`, a place y * W + x, or from nowhere (-1, zeros). */
function rearrange<T extends Pixels>(data: T, shape: readonly number[], what: string, source: (y: number, x: number) => number): T {
  const [h, w, c] = plane(shape, what);
  const from = Int32Array.from({ length: h * w }, (_, i) => source(Math.floor(i / w), i % w));
  const out = data.slice().fill(0) as T;
  for (let first = 0; first < data.length; first += h * w * c)
    for (let i = 0; i < from.length; i++) {
      if (from[i]! < 0) continue;
      for (let k = 0; k < c; k++) out[first + i * c + k] = data[first + from[i]! * c + k]!;
    }
  return out;
}

/**
 * One geometric change of all planes of [..., H, W, C]: nearest pixel, zeros from outside. A positive shear moves the lower half to
 * the left, a positive translation right or down (by whole pixels, cut towards zero), a positive rotation counter-clockwise.
 * @param magnitude radians (ShearX, used as the tangent's angle), pixels, or degrees
 */
export function geometric<T extends Pixels>(data: T, shape: readonly number[], op: GeometricOp, magnitude: number): T {
  if (op === "Identity") return data;
  const [h, w] = plane(shape, op);
  const angle = op === "Rotate" ? (magnitude * Math.PI) / 180 : magnitude;
  const [c, s] = [cos(angle), sin(angle)];
  const tan = s / c;
  const k = Math.trunc(magnitude);
  return rearrange(data, shape, op, (y, x) => {
    const u = x + 0.5 - w / 2;
    const v = y + 0.5 - h / 2;
    const [fromU, fromV] =
      op === "ShearX" ? [u + v * tan, v] : op === "Rotate" ? [u * c - v * s, u * s + v * c] : op === "TranslateX" ? [u - k, v] : [u, v - k];
    const fromX = roundHalfEven(fromU + w / 2 - 0.5);
    const fromY = roundHalfEven(fromV + h / 2 - 0.5);
    return fromX >= 0 && fromX < w && fromY >= 0 && fromY < h ? fromY * w + fromX : -1;
  });
}

/** A mirror image of [..., H, W, C]: left for right. */
export function flipWidth<T extends Pixels>(data: T, shape: readonly number[]): T {
  const [, w] = plane(shape, "flipWidth");
  return rearrange(data, shape, "flipWidth", (y, x) => y * w + (w - 1 - x));
}

/** All pixels of [..., H, W, C] moved down and to the right; what leaves on one side comes in on the other. */
export function roll<T extends Pixels>(data: T, shape: readonly number[], down: number, right: number): T {
  const [h, w] = plane(shape, "roll");
  const wrap = (i: number, n: number) => ((i % n) + n) % n;
  return rearrange(data, shape, "roll", (y, x) => wrap(y - down, h) * w + wrap(x - right, w));
}

/** The square hole of side `size` around a centre, cut to the image: rows top to before bottom, columns left to before right. */
export function cutoutHole(height: number, width: number, centreY: number, centreX: number, size: number) {
  const half = Math.floor(size / 2);
  const clip = (i: number, n: number) => Math.min(Math.max(i, 0), n);
  return {
    top: clip(centreY - half, height),
    left: clip(centreX - half, width),
    bottom: clip(centreY + half, height),
    right: clip(centreX + half, width),
  };
}

/** One of five changes, 31 magnitudes and two signs, uniformly, the same for all frames of the recording. */
export function trivialAugment(): Transform {
  return {
    name: "trivialAugment",
    apply(sample, rng): Sample {
      const op = OPS[rng.uniformInt(OPS.length)]!;
      const magnitude = magnitudes(op)[rng.uniformInt(BINS)]!;
      const sign = rng.uniformInt(2) ? -1 : 1;
      return { ...sample, data: geometric(sample.data, sample.shape, op, sign * magnitude) };
    },
  };
}

/**
 * Mirror with probability `flip`, then roll by whole pixels from -`shift` to `shift` in both directions.
 * The published code's values are the defaults.
 */
export function flipRoll({ flip = 0.5, shift = 5 }: { flip?: number; shift?: number } = {}): Transform {
  if (!(flip >= 0 && flip <= 1)) throw new SpikeloomError(`flipRoll: expected flip from 0 to 1, found ${flip}.`);
  if (!Number.isSafeInteger(shift) || shift < 0)
    throw new SpikeloomError(`flipRoll: expected shift as a whole number >= 0, found ${shift}.`);
  return {
    name: "flipRoll",
    apply(sample, rng): Sample {
      const { data, shape } = sample;
      const mirrored = rng.uniform() < flip ? flipWidth(data, shape) : data;
      const [down, right] = [rng.uniformInt(2 * shift + 1) - shift, rng.uniformInt(2 * shift + 1) - shift];
      return { ...sample, data: roll(mirrored, shape, down, right) };
    },
  };
}

/** A square hole of zeros around a uniformly drawn centre, at the same place in every plane of the batch (DeVries and Taylor 2017). */
export function cutout({ size = 16 }: { size?: number } = {}): BatchTransform {
  if (!Number.isSafeInteger(size) || size < 1) throw new SpikeloomError(`cutout: expected size as a whole number >= 1, found ${size}.`);
  return {
    name: "cutout",
    apply(x, _targets, shape, rng): boolean {
      const [h, w, c] = plane(shape, "cutout");
      const { top, left, bottom, right } = cutoutHole(h, w, rng.uniformInt(h), rng.uniformInt(w), size);
      for (let first = 0; first < x.length; first += h * w * c)
        for (let y = top; y < bottom; y++) x.fill(0, first + (y * w + left) * c, first + (y * w + right) * c);
      return false;
    },
  };
}
