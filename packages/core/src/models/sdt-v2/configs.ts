/** Every size of Spike-driven Transformer V2 by name (repository BICLab/Spike-Driven-Transformer-V2, folder classification/). */
import { SettingError } from "../../runtime/error.ts";

export interface SDTV2Config {
  /** Time steps for still images; event frames bring their own. It may be changed after the model is built. */
  T: number;
  inChannels: number;
  numClasses: number;
  /** e1 to e4: channels of the four stages; the first half of stage 1 has e1 / 2. */
  embedDims: readonly number[];
  /** h, of both attention stages. */
  numHeads: number;
  /** Attention blocks of stages 3 and 4: 6 and 2 in the official code. */
  depths: readonly number[];
  /** A second classifier, which learns from a teacher. */
  kd: boolean;
  /** Image size [H, W] that the configuration was made for; any is accepted. */
  imageSize: readonly [number, number];
}

const base: SDTV2Config = {
  T: 1,
  inChannels: 3,
  numClasses: 1000,
  embedDims: [64, 128, 256, 360],
  numHeads: 8,
  depths: [6, 2],
  kd: false,
  imageSize: [224, 224],
};
const large: SDTV2Config = { ...base, embedDims: [128, 256, 512, 640] };

export const configs: Readonly<Record<string, SDTV2Config>> = {
  "15M": base,
  "31M": { ...base, embedDims: [96, 192, 384, 480] },
  "55M": large,
  "55M-kd": { ...large, T: 4, kd: true },
  "8-768": { ...base, embedDims: [192, 384, 768, 960] },
};

const positive = (n: unknown): boolean => Number.isInteger(n) && (n as number) > 0;

function lists(value: unknown, length: number): value is readonly number[] {
  return Array.isArray(value) && value.length === length && value.every(positive);
}

/** Check a configuration. @throws SettingError naming the field, what it must be and what it is. */
export function checkConfig(config: SDTV2Config): SDTV2Config {
  const fail = (field: keyof SDTV2Config, expected: string): never => {
    throw new SettingError(field, `sdt-v2 config: ${field} must be ${expected}, found ${JSON.stringify(config[field])}`);
  };
  for (const field of ["T", "inChannels", "numClasses", "numHeads"] as const)
    if (!positive(config[field])) fail(field, "a positive integer");
  const { embedDims, numHeads, depths, kd, imageSize } = config;
  if (!lists(embedDims, 4)) fail("embedDims", "four positive integers [e1, e2, e3, e4]");
  const [e1, , e3, e4] = embedDims as [number, number, number, number];
  if (e1 % 2) fail("embedDims", "even in e1 (stage 1 begins with e1 / 2 channels)");
  if (e3 % numHeads || e4 % numHeads) fail("numHeads", `a divisor of e3 = ${e3} and of e4 = ${e4}`);
  if (!lists(depths, 2)) fail("depths", "two positive integers, the blocks of stages 3 and 4");
  if (typeof kd !== "boolean") fail("kd", "true or false");
  if (!lists(imageSize, 2)) fail("imageSize", "two positive integers [H, W]");
  return config;
}
