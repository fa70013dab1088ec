/** Published sizes of the large family and of its pre-training, by name (official folder Model_Large), and small ones. */
import { type CommonConfig, checkCommon, wrongSetting } from "./configs.ts";

/** What the classifier and its pre-training have in common. */
export interface LargeEncoderConfig extends Omit<CommonConfig, "family" | "numClasses"> {
  /** Time steps for still images. They are all the same: neurons have no state. */
  T: number;
  /** Channels of the stages; half of the first in the stem. */
  embedDims: readonly [number, number, number];
  /** Strides of the four down-samplings; one patch is their product. 2 each as published. */
  strides: readonly [number, number, number, number];
  /** Transformer blocks. */
  depths: number;
  /** "base" (83M) has a chain of two 1 x 1 convolutions in front of attention, "large" (171M) has not. */
  choice: "base" | "large";
}

export interface LargeConfig extends LargeEncoderConfig {
  family: "large";
  numClasses: number;
  /** A second head, which reads integers, for distillation. */
  kd: boolean;
  /** Does the first head read integers too? As published it reads real numbers, so that it is not spike-driven. */
  spikeBeforeHead: boolean;
  /** First value of the scales of each block's branches. */
  layerScale: number;
  /** Probability with which the last block's branches are left out in training; it rises linearly from 0 in the first. */
  dropPath: number;
  /** Is that drawn for each time step, for the whole batch at once (as the official code does), or for each sample? */
  dropPathPer: "step" | "sample";
}

/** What stands in the decoder for a patch that was not seen, see `SpikeMaskedAutoencoder`. */
export const TOKEN_ORDERS = ["official", "raster", "mask-token"] as const;

export interface MaeConfig extends LargeEncoderConfig {
  family: "mae";
  decoderDim: number;
  decoderDepth: number;
  decoderHeads: number;
  /** Share of the patches that are hidden. */
  maskRatio: number;
  tokenOrder: (typeof TOKEN_ORDERS)[number];
}

const encoder: LargeEncoderConfig = {
  T: 1,
  inChannels: 3,
  embedDims: [128, 256, 512],
  strides: [2, 2, 2, 2],
  depths: 12,
  numHeads: 8,
  mlpRatio: 4,
  choice: "base",
  levels: 4,
  imageSize: [224, 224],
};
const large: LargeConfig = {
  ...encoder,
  family: "large",
  numClasses: 1000,
  kd: false,
  spikeBeforeHead: false,
  layerScale: 1e-6,
  dropPath: 0.1,
  dropPathPer: "step",
};
const mae: MaeConfig = {
  ...encoder,
  family: "mae",
  decoderDim: 256,
  decoderDepth: 4,
  decoderHeads: 4,
  maskRatio: 0.5,
  tokenOrder: "official",
};
/** For images of 28 x 28 in one colour; patches of 4 x 4. */
const small: Pick<LargeEncoderConfig, "inChannels" | "embedDims" | "strides" | "depths" | "numHeads" | "imageSize"> = {
  inChannels: 1,
  embedDims: [16, 32, 64],
  strides: [1, 2, 2, 1],
  depths: 2,
  numHeads: 4,
  imageSize: [28, 28],
};

export const largeConfigs = {
  "83m": large,
  "171m": { ...large, embedDims: [196, 384, 768], choice: "large" },
  "large-tiny": { ...large, ...small, numClasses: 10, dropPath: 0 },
} as const satisfies Readonly<Record<string, LargeConfig>>;

export const maeConfigs = {
  "mae-83m": mae,
  "mae-173m": { ...mae, embedDims: [192, 384, 768], choice: "large" },
  "mae-tiny": { ...mae, ...small, decoderDim: 32, decoderDepth: 2, tokenOrder: "mask-token" },
} as const satisfies Readonly<Record<string, MaeConfig>>;

const positive = (n: unknown): n is number => Number.isInteger(n) && (n as number) > 0;
const positives = (v: unknown, n: number) => Array.isArray(v) && v.length === n && v.every(positive);

function checkEncoder(config: LargeEncoderConfig): void {
  const { T, embedDims, strides, depths, numHeads, choice } = config;
  for (const field of ["T", "depths"] as const) if (!positive({ T, depths }[field])) wrongSetting(config, field, "a positive integer");
  if (!positives(embedDims, 3)) wrongSetting(config, "embedDims", "three positive integers");
  if (embedDims[0] % 2) wrongSetting(config, "embedDims", "even in its first number, half of which is the width of the stem");
  if (embedDims[2] % numHeads) wrongSetting(config, "embedDims", `a multiple of numHeads = ${numHeads} in its last number`);
  if (!positives(strides, 4)) wrongSetting(config, "strides", "four positive integers");
  if (choice !== "base" && choice !== "large") wrongSetting(config, "choice", '"base" or "large"');
}

/** Check a configuration of the large family. @throws SettingError naming the field, what it must be and what it is */
export function checkLarge(config: LargeConfig): LargeConfig {
  checkCommon(config);
  checkEncoder(config);
  const { layerScale, dropPath, dropPathPer } = config;
  for (const field of ["kd", "spikeBeforeHead"] as const)
    if (typeof config[field] !== "boolean") wrongSetting(config, field, "true or false");
  if (typeof layerScale !== "number" || !Number.isFinite(layerScale)) wrongSetting(config, "layerScale", "a finite number");
  if (typeof dropPath !== "number" || !(dropPath >= 0 && dropPath < 1)) wrongSetting(config, "dropPath", "in [0, 1)");
  if (dropPathPer !== "step" && dropPathPer !== "sample") wrongSetting(config, "dropPathPer", '"step" or "sample"');
  return config;
}

/** Pixels of one patch along an axis. */
export const patchOf = ({ strides }: Pick<LargeEncoderConfig, "strides">): number => strides.reduce((a, b) => a * b, 1);

/** Check a configuration of the masked auto-encoder. Throws as `checkLarge`. */
export function checkMae(config: MaeConfig): MaeConfig {
  checkCommon({ ...config, family: "large", numClasses: 1 });
  checkEncoder(config);
  const { decoderDim, decoderHeads, maskRatio, tokenOrder, imageSize } = config;
  for (const field of ["decoderDim", "decoderDepth", "decoderHeads"] as const)
    if (!positive(config[field])) wrongSetting(config, field, "a positive integer");
  if (decoderDim % 4 || decoderDim % decoderHeads)
    wrongSetting(config, "decoderDim", `a multiple of 4 and of decoderHeads = ${decoderHeads}`);
  if (config.embedDims[2] % 4) wrongSetting(config, "embedDims", "a multiple of 4 in its last number, for positions");
  const patch = patchOf(config);
  if (imageSize.some((n) => n % patch)) wrongSetting(config, "imageSize", `multiples of a patch, the product of strides, ${patch}`);
  const patches = (imageSize[0] * imageSize[1]) / patch ** 2;
  const kept = typeof maskRatio === "number" ? Math.floor(patches * (1 - maskRatio)) : 0;
  if (!(kept >= 1 && kept < patches)) wrongSetting(config, "maskRatio", `such that some of the ${patches} patches are seen, and not all`);
  if (!TOKEN_ORDERS.includes(tokenOrder)) wrongSetting(config, "tokenOrder", `one of ${TOKEN_ORDERS.map((o) => `"${o}"`).join(", ")}`);
  return config;
}
