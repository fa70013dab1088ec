/**
 * Mixing of images with their targets: mixup (Zhang et al. 2018, "mixup: beyond empirical risk minimization") and cutmix (Yun et al.
 * 2019, "CutMix: regularization strategy to train strong classifiers with localizable features"), as timm does it for whole batches.
 */
import { SpikeloomError } from "../../runtime/error.ts";
import type { Stream } from "../../runtime/random.ts";
import type { BatchTransform } from "../dataset.ts";
import { beta } from "./beta.ts";
import { numberIn, wholeNumber } from "./image.ts";

export interface MixupOptions {
  /** The share of an image in its mixture is a draw of Beta(alpha, alpha); 0 for no mixup. Default 0.8, timm's usual. */
  readonly mixupAlpha?: number | undefined;
  /** The same for the area that cutmix leaves; 0 for no cutmix. Default 0. */
  readonly cutmixAlpha?: number | undefined;
  /** That a batch is mixed. Default 1. */
  readonly probability?: number | undefined;
  /** That cutmix is taken where both are on. Default 0.5. */
  readonly switchProbability?: number | undefined;
  /** No mixing from this epoch on. */
  readonly offEpoch?: number | undefined;
}

/**
 * Each image is mixed with its partner at the other end of the batch. Mixup: x = share x + (1 - share) partner. Cutmix: a rectangle
 * of the partner replaces the image's, and the share is the area that is left. Targets are mixed by the share.
 */
export function mixup({
  mixupAlpha = 0.8,
  cutmixAlpha = 0,
  probability = 1,
  switchProbability = 0.5,
  offEpoch,
}: MixupOptions = {}): BatchTransform {
  numberIn("mixup mixupAlpha", mixupAlpha, 0, Infinity);
  numberIn("mixup cutmixAlpha", cutmixAlpha, 0, Infinity);
  numberIn("mixup probability", probability, 0, 1);
  numberIn("mixup switchProbability", switchProbability, 0, 1);
  if (offEpoch !== undefined) wholeNumber("mixup offEpoch", offEpoch, 0);
  if (mixupAlpha === 0 && cutmixAlpha === 0) throw new SpikeloomError("mixup: expected mixupAlpha or cutmixAlpha > 0, found 0 for both.");
  return {
    name: "mixup",
    apply(x, targets, shape, rng, epoch) {
      if ((offEpoch !== undefined && epoch >= offEpoch) || rng.uniform() >= probability) return false;
      const cut = cutmixAlpha > 0 && (mixupAlpha === 0 || rng.uniform() < switchProbability);
      let share = cut ? beta(rng, cutmixAlpha, cutmixAlpha) : beta(rng, mixupAlpha, mixupAlpha);
      const [batch, height, width, channels] = shape.slice(-4) as [number, number, number, number];
      const size = height * width * channels;
      if (cut) {
        const box = drawBox(rng, share, height, width);
        share = 1 - ((box.bottom - box.top) * (box.right - box.left)) / (height * width);
        for (let first = 0; first < x.length; first += batch * size)
          exchange(x.subarray(first, first + batch * size), batch, size, width * channels, channels, box);
      } else for (let first = 0; first < x.length; first += batch * size) blend(x.subarray(first, first + batch * size), batch, share);
      if (share === 1) return false;
      blend(targets, batch, share);
      return true;
    },
  };
}

/** Rows of a matrix with those from the other end; rounded to float32 after each operation, as timm's are. */
function blend(values: Float32Array, rows: number, share: number): void {
  const size = values.length / rows;
  const [own, other] = [Math.fround(share), Math.fround(1 - share)];
  for (let row = 0; row < (rows + 1) >> 1; row++) {
    const [p, q] = [row * size, (rows - 1 - row) * size];
    for (let k = 0; k < size; k++) {
      const [a, b] = [values[p + k]!, values[q + k]!];
      values[p + k] = Math.fround(a * own) + Math.fround(b * other);
      values[q + k] = Math.fround(b * own) + Math.fround(a * other);
    }
  }
}

interface Box {
  readonly top: number;
  readonly bottom: number;
  readonly left: number;
  readonly right: number;
}

/** A rectangle of the image's shape and 1 - share of its area around a uniform centre, cut off at the border. */
function drawBox(rng: Stream, share: number, height: number, width: number): Box {
  const ratio = Math.sqrt(1 - share);
  const side = (length: number): [number, number] => {
    const half = Math.floor(Math.trunc(length * ratio) / 2);
    const center = rng.uniformInt(length);
    return [Math.max(0, center - half), Math.min(length, center + half)];
  };
  const [top, bottom] = side(height);
  const [left, right] = side(width);
  return { top, bottom, left, right };
}

/** Inside the box, each image of a batch gets its partner's pixels. */
function exchange(x: Float32Array, batch: number, size: number, row: number, channels: number, { top, bottom, left, right }: Box): void {
  for (let i = 0; i < batch >> 1; i++) {
    const [p, q] = [i * size, (batch - 1 - i) * size];
    for (let y = top; y < bottom; y++)
      for (let k = y * row + left * channels; k < y * row + right * channels; k++) {
        const kept = x[p + k]!;
        x[p + k] = x[q + k]!;
        x[q + k] = kept;
      }
  }
}
