/** Every published size of Spike-driven Transformer V3, by name (repository BICLab/Spike-Driven-Transformer-V3, folder SDT_V3). */
import { SettingError } from "../../runtime/error.ts";
import type { MembraneState } from "./neuron.ts";

/** What all families have. */
export interface CommonConfig {
  family: "base" | "large" | "dvs";
  inChannels: number;
  numClasses: number;
  numHeads: number;
  mlpRatio: number;
  /** D: the largest integer that a neuron emits at a step. */
  levels: number;
  /** Image size [H, W] that the configuration was made for. */
  imageSize: readonly [number, number];
}

/** Built from scratch (official folder Model_Base). */
export interface BaseConfig extends CommonConfig {
  family: "base";
  /** Channels at strides 4, 8 and 16, and of the last stage (stride 16 too); half of the first at stride 2. */
  embedDims: readonly [number, number, number, number];
  /** Transformer blocks of the third and the fourth stage. */
  blocks: readonly [number, number];
}

/** For event frames (official folder DVS). */
export interface DVSConfig extends Omit<BaseConfig, "family"> {
  family: "dvs";
  /** What the integers are divided by; the clip stays at `levels`. */
  norm: number;
  /** What a membrane outlives. "none": nothing, as when the official network is reset after every batch. */
  state: MembraneState;
}

export type SDT3Config = BaseConfig | DVSConfig;

const base: BaseConfig = {
  family: "base",
  inChannels: 3,
  numClasses: 1000,
  embedDims: [64, 128, 256, 360],
  blocks: [6, 2],
  numHeads: 8,
  mlpRatio: 4,
  levels: 4,
  imageSize: [224, 224],
};
const dvs: DVSConfig = { ...base, family: "dvs", inChannels: 2, numClasses: 300, norm: 1, state: "none" };

/**
 * A model of 52.0M parameters is in the paper's table, without code or weights: embedDims [112, 224, 448, 560], which the segmentation code
 * mentions as 50M, come to 53,416,264 parameters and are no configuration of it.
 */
export const configs: Readonly<Record<string, SDT3Config>> = {
  "10m": { ...base, embedDims: [48, 96, 192, 240] },
  tiny: { ...base, embedDims: [24, 48, 96, 128] },
  "5m": { ...base, embedDims: [32, 64, 128, 192] },
  "19m": base,
  "dvs-19m": dvs,
  "dvs-gesture": { ...dvs, numClasses: 11, blocks: [1, 0], norm: 8, imageSize: [128, 128] },
  "dvs-30m": { ...dvs, inChannels: 3, numClasses: 1000, embedDims: [96, 192, 384, 480], norm: 4 },
  "dvs-50m": { ...dvs, inChannels: 3, numClasses: 1000, embedDims: [120, 240, 480, 600], norm: 4 },
};

/** Say what is wrong with a setting. */
export function wrongSetting(config: object, field: string, expected: string): never {
  throw new SettingError(
    field,
    `sdt-v3 config: ${field} must be ${expected}, found ${JSON.stringify((config as Record<string, unknown>)[field])}`,
  );
}

/** Check what all families have. @throws SettingError naming the field, what it must be and what it is. */
export function checkCommon(config: CommonConfig): void {
  const positive = (n: unknown) => Number.isInteger(n) && (n as number) > 0;
  for (const field of ["inChannels", "numClasses", "numHeads"] as const)
    if (!positive(config[field])) wrongSetting(config, field, "a positive integer");
  const { levels, mlpRatio, imageSize } = config;
  if (!positive(levels) || levels > 255) wrongSetting(config, "levels", "an integer from 1 to 255");
  if (typeof mlpRatio !== "number" || !(mlpRatio >= 1 && Number.isFinite(mlpRatio)))
    wrongSetting(config, "mlpRatio", "a number of at least 1");
  if (!Array.isArray(imageSize) || imageSize.length !== 2 || !imageSize.every(positive))
    wrongSetting(config, "imageSize", "two positive integers [H, W]");
}

/** Check a configuration of the base or the DVS family. Throws as `checkCommon`. */
export function checkConfig<C extends SDT3Config>(config: C): C {
  checkCommon(config);
  const { embedDims, blocks, numHeads } = config;
  const list = (v: unknown, n: number, least: number) =>
    Array.isArray(v) && v.length === n && v.every((d) => Number.isInteger(d) && d >= least);
  if (!list(embedDims, 4, 1)) wrongSetting(config, "embedDims", "four positive integers");
  if (embedDims[0] % 2) wrongSetting(config, "embedDims", "even in its first number, half of which is the width of the first stage");
  if (embedDims[2] % numHeads || embedDims[3] % numHeads)
    wrongSetting(config, "embedDims", `multiples of numHeads = ${numHeads} in its last two numbers`);
  if (!list(blocks, 2, 0)) wrongSetting(config, "blocks", "two integers of at least 0");
  if (config.family !== "base" && config.family !== "dvs") wrongSetting(config, "family", '"base" or "dvs"');
  if (config.family === "dvs") {
    if (typeof config.norm !== "number" || !(config.norm > 0 && Number.isFinite(config.norm)))
      wrongSetting(config, "norm", "a number above 0");
    if (!["none", "calls", "frames"].includes(config.state)) wrongSetting(config, "state", '"none", "calls" or "frames"');
  }
  return config;
}
