/**
 * RandAugment (Cubuk et al. 2020) as timm has it and as most published vision models, SDT V1 among them, were trained with: its
 * fifteen operations with their ranges, each applied with probability 1/2 at a magnitude drawn around a common one.
 */
import { SpikeloomError } from "../../runtime/error.ts";
import type { Stream } from "../../runtime/random.ts";
import type { Sample, Transform } from "../dataset.ts";
import { type Affine, affine, rotation } from "./affine.ts";
import { brightness, color, contrast, sharpness } from "./enhance.ts";
import { type Fill, fillOf, imageOf, oneOf, transform, uniformIn } from "./image.ts";
import { autoContrast, equalize, invert, posterize, solarize, solarizeAdd } from "./tone.ts";

type Image = ReturnType<typeof imageOf>;

/** What an operation is given besides the image. */
interface Draw {
  readonly rng: Stream;
  /** Strength from 0, at 10 the usual largest. */
  readonly magnitude: number;
  /** Whether operations grow stronger with the magnitude where timm's plain set does not. */
  readonly increasing: boolean;
  readonly interpolation: "bilinear" | "bicubic" | "random";
  readonly fill: readonly number[];
}

export type RandAugmentOperation = keyof typeof OPERATIONS;

const OPERATIONS = {
  AutoContrast: ({ bytes, channels }: Image, _: Draw) => autoContrast(bytes, channels),
  Equalize: ({ bytes, channels }: Image, _: Draw) => equalize(bytes, channels),
  Invert: ({ bytes }: Image, _: Draw) => invert(bytes),
  Rotate: (image: Image, draw: Draw) =>
    moved(image, draw, rotation(signed(draw.rng, (draw.magnitude / 10) * 30), image.height, image.width)),
  Posterize({ bytes }: Image, { magnitude, increasing }: Draw) {
    const bits = Math.trunc((magnitude / 10) * 4);
    return posterize(bytes, increasing ? Math.max(0, 4 - bits) : Math.min(8, bits));
  },
  Solarize({ bytes }: Image, { magnitude, increasing }: Draw) {
    const threshold = Math.trunc((magnitude / 10) * 256);
    return solarize(bytes, increasing ? 256 - threshold : threshold);
  },
  SolarizeAdd: ({ bytes }: Image, { magnitude }: Draw) => solarizeAdd(bytes, Math.trunc((magnitude / 10) * 110)),
  Color: ({ bytes, channels }: Image, draw: Draw) => color(bytes, channels, factor(draw)),
  Contrast: ({ bytes, channels }: Image, draw: Draw) => contrast(bytes, channels, factor(draw)),
  Brightness: ({ bytes }: Image, draw: Draw) => brightness(bytes, factor(draw)),
  Sharpness: ({ bytes, height, width, channels }: Image, draw: Draw) => sharpness(bytes, height, width, channels, factor(draw)),
  ShearX: (image: Image, draw: Draw) => moved(image, draw, [1, signed(draw.rng, (draw.magnitude / 10) * 0.3), 0, 0, 1, 0]),
  ShearY: (image: Image, draw: Draw) => moved(image, draw, [1, 0, 0, signed(draw.rng, (draw.magnitude / 10) * 0.3), 1, 0]),
  TranslateXRel: (image: Image, draw: Draw) =>
    moved(image, draw, [1, 0, signed(draw.rng, (draw.magnitude / 10) * 0.45) * image.width, 0, 1, 0]),
  TranslateYRel: (image: Image, draw: Draw) =>
    moved(image, draw, [1, 0, 0, 0, 1, signed(draw.rng, (draw.magnitude / 10) * 0.45) * image.height]),
};

/** The operations in timm's order. */
export const randAugmentOperations = Object.keys(OPERATIONS) as readonly RandAugmentOperation[];

function signed(rng: Stream, value: number): number {
  return rng.uniform() > 0.5 ? -value : value;
}

/** Of a blend: 1 changes nothing. */
function factor({ rng, magnitude, increasing }: Draw): number {
  return increasing ? Math.max(0.1, 1 + signed(rng, (magnitude / 10) * 0.9)) : (magnitude / 10) * 1.8 + 0.1;
}

function moved({ bytes, height, width, channels }: Image, { rng, interpolation, fill }: Draw, map: Affine): Uint8Array {
  const by = interpolation === "random" ? (rng.uniformInt(2) ? "bicubic" : "bilinear") : interpolation;
  return affine(bytes, height, width, channels, map, by, fill);
}

/** One operation, always applied; sign, and interpolation where it is "random", are drawn. */
export function randAugmentOperation(operation: RandAugmentOperation, sample: Sample, draw: Omit<Draw, "fill"> & { fill: Fill }): Sample {
  const image = imageOf(sample, "randAugment");
  return { ...sample, data: OPERATIONS[operation](image, { ...draw, fill: fillOf("randAugment", draw.fill, image.channels) }) };
}

interface Setting {
  magnitude: number;
  operations: number;
  deviation: number;
  largest: number;
  increasing: boolean;
}

const HOW = 'Write it as timm does, such as "rand-m9-n2-mstd0.5-inc1".';

function parse(text: string): Setting {
  const setting: Setting = { magnitude: 10, operations: 2, deviation: 0, largest: 10, increasing: false };
  const [kind, ...parts] = text.split("-");
  if (kind !== "rand") throw new SpikeloomError(`randAugment: expected a setting that begins with "rand", found "${text}". ${HOW}`);
  for (const part of parts) {
    const [, key = "", number = ""] = /^([a-z]+)(\d+(?:\.\d+)?)$/.exec(part) ?? [];
    const value = Number(number);
    const whole = Number.isSafeInteger(value);
    if (key === "m" && whole) setting.magnitude = value;
    else if (key === "n" && whole && value >= 1 && value <= 100) setting.operations = value;
    else if (key === "mstd") setting.deviation = value;
    else if (key === "mmax" && whole && value >= 1) setting.largest = value;
    else if (key === "inc" && number === "1") setting.increasing = true;
    else if (key === "inc" && number === "0")
      throw new SpikeloomError(
        `randAugment: timm takes "inc0" for "inc1", so it is not clear what "${text}" means. Leave it out, or write inc1.`,
      );
    else
      throw new SpikeloomError(
        `randAugment: expected m and a whole number, n (1 to 100), mstd, mmax or inc1, found "${part}" in "${text}". ${HOW}`,
      );
  }
  return setting;
}

export interface RandAugmentOptions {
  /** What comes in from outside the image, 0..255; timm's choice is the data set's mean colour. Default 128. */
  readonly fill?: Fill | undefined;
  /** Of rotations, shears and translations; "random", the default, draws bilinear or bicubic anew each time. */
  readonly interpolation?: "bilinear" | "bicubic" | "random" | undefined;
}

/**
 * For images of bytes with one or three channels.
 * @param setting as timm writes it, "rand" and, joined by "-": `m9` magnitude 0 to 10 (default 10); `n2` operations an image, drawn
 * with replacement (default 2); `mstd0.5` standard deviation of the magnitude, above 100: uniform from 0 (default 0); `mmax15` largest
 * magnitude (default 10); `inc1` the operations that grow stronger with the magnitude (default: timm's plain set)
 * @throws SpikeloomError for a setting that is none
 */
export function randAugment(setting: string, { fill = 128, interpolation = "random" }: RandAugmentOptions = {}): Transform {
  const { magnitude: mean, operations, deviation, largest, increasing } = parse(setting);
  oneOf("randAugment interpolation", interpolation, ["bilinear", "bicubic", "random"]);
  return transform("randAugment", (sample, rng) => {
    imageOf(sample, "randAugment");
    const chosen = Array.from({ length: operations }, () => rng.uniformInt(randAugmentOperations.length));
    for (const number of chosen) {
      if (rng.uniform() >= 0.5) continue;
      let magnitude = mean;
      if (deviation > 100) magnitude = uniformIn(rng, 0, mean);
      else if (deviation > 0) magnitude += deviation * rng.normal();
      magnitude = Math.max(0, Math.min(largest, magnitude));
      sample = randAugmentOperation(randAugmentOperations[number]!, sample, { rng, magnitude, increasing, interpolation, fill });
    }
    return sample;
  });
}
