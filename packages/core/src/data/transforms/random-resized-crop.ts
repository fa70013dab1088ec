/** A random part of the image at one size: the augmentation of ImageNet models (Szegedy et al. 2015, "Going deeper with convolutions"). */
import { exp, log, roundHalfEven } from "../../runtime/math.ts";
import type { Stream } from "../../runtime/random.ts";
import type { Transform } from "../dataset.ts";
import { crop } from "./crop.ts";
import { framesOf, heightWidth, oneOf, rangeAbove0, type Size, transform, uniformIn, withPixels } from "./image.ts";
import { INTERPOLATIONS, type Interpolation, resizePixels } from "./resize.ts";

export interface RandomResizedCropOptions {
  /** Of the result. */
  readonly size: Size;
  /** Smallest and largest area of the part, of the whole image's. */
  readonly scale?: readonly [number, number] | undefined;
  /** Smallest and largest width / height of the part. */
  readonly ratio?: readonly [number, number] | undefined;
  /** "random" is bilinear or bicubic, drawn anew for each image. Default bicubic. */
  readonly interpolation?: Interpolation | "random" | undefined;
}

/**
 * The area is uniform in `scale` and the logarithm of the ratio in that of `ratio`. If ten draws do not fit into the image, the
 * part is the largest centred one of the nearest allowed ratio.
 */
export function randomResizedCrop({
  size,
  scale = [0.08, 1],
  ratio = [3 / 4, 4 / 3],
  interpolation = "bicubic",
}: RandomResizedCropOptions): Transform {
  const name = "randomResizedCrop";
  const [height, width] = heightWidth(name, size);
  rangeAbove0(`${name} scale`, scale);
  rangeAbove0(`${name} ratio`, ratio);
  oneOf(`${name} interpolation`, interpolation, [...INTERPOLATIONS, "random"]);
  return transform(name, (sample, rng) => {
    const { frames, height: h, width: w, channels } = framesOf(sample, name);
    const part = choosePart(rng, h, w, scale, ratio);
    const cut = crop(sample, name, part.top, part.left, part.height, part.width);
    const by = interpolation === "random" ? (rng.uniformInt(2) ? "bicubic" : "bilinear") : interpolation;
    const data = resizePixels(cut.data, { frames, height: part.height, width: part.width, channels }, height, width, by);
    return withPixels(sample, data, height, width);
  });
}

interface Part {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
}

function choosePart(rng: Stream, h: number, w: number, scale: readonly [number, number], ratio: readonly [number, number]): Part {
  for (let attempt = 0; attempt < 10; attempt++) {
    const area = uniformIn(rng, ...scale) * h * w;
    const aspect = exp(uniformIn(rng, log(ratio[0]), log(ratio[1])));
    const width = roundHalfEven(Math.sqrt(area * aspect));
    const height = roundHalfEven(Math.sqrt(area / aspect));
    if (width >= 1 && height >= 1 && width <= w && height <= h)
      return { top: rng.uniformInt(h - height + 1), left: rng.uniformInt(w - width + 1), height, width };
  }
  const height = w / h < ratio[0] ? Math.max(1, Math.min(h, roundHalfEven(w / ratio[0]))) : h;
  const width = w / h > ratio[1] ? Math.max(1, Math.min(w, roundHalfEven(h * ratio[1]))) : w;
  return { top: Math.floor((h - height) / 2), left: Math.floor((w - width) / 2), height, width };
}
