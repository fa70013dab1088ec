/** Sizes of CAFormer, by name (repository sail-sg/metaformer): the published teacher of the spike-driven transformers, and a small one. */
import { SettingError } from "../../runtime/error.ts";

export interface CAFormerConfig {
  inChannels: number;
  numClasses: number;
  /** Channels of the four stages. */
  dims: readonly [number, number, number, number];
  /** Blocks of the four stages. */
  depths: readonly [number, number, number, number];
  /** Channels of an attention head; divides the dims of stages 3 and 4. */
  headDim: number;
  mlpRatio: number;
  /** Stride of the first convolution; 4 in the published ones. */
  stemStride: number;
  /** Image size [H, W] that the configuration was made for. */
  imageSize: readonly [number, number];
}

const b36: CAFormerConfig = {
  inChannels: 3,
  numClasses: 1000,
  dims: [128, 256, 512, 768],
  depths: [3, 12, 18, 3],
  headDim: 32,
  mlpRatio: 4,
  stemStride: 4,
  imageSize: [224, 224],
};

export const configs: Readonly<Record<string, CAFormerConfig>> = {
  b36,
  tiny: {
    ...b36,
    inChannels: 1,
    numClasses: 10,
    dims: [24, 32, 48, 64],
    depths: [1, 1, 2, 1],
    headDim: 16,
    stemStride: 2,
    imageSize: [28, 28],
  },
};

/** Check a configuration. @throws SettingError naming the field, what it must be and what it is */
export function checkConfig(config: CAFormerConfig): CAFormerConfig {
  const fail = (field: keyof CAFormerConfig, expected: string): never => {
    throw new SettingError(field, `caformer config: ${field} must be ${expected}, found ${JSON.stringify(config[field])}`);
  };
  const whole = (n: unknown) => Number.isInteger(n) && (n as number) >= 1;
  const { dims, headDim, mlpRatio } = config;
  for (const field of ["inChannels", "numClasses", "headDim", "stemStride"] as const)
    if (!whole(config[field])) fail(field, "a positive integer");
  for (const field of ["dims", "depths"] as const)
    if (!Array.isArray(config[field]) || config[field].length !== 4 || !config[field].every(whole)) fail(field, "four positive integers");
  if (dims[2] % headDim || dims[3] % headDim) fail("headDim", `a divisor of the dims of stages 3 and 4 (${dims[2]} and ${dims[3]})`);
  if (typeof mlpRatio !== "number" || !Number.isFinite(mlpRatio) || !dims.every((d) => whole(d * mlpRatio)))
    fail("mlpRatio", "a number that makes every one of dims a positive integer");
  const { imageSize } = config;
  if (!Array.isArray(imageSize) || imageSize.length !== 2 || !imageSize.every(whole)) fail("imageSize", "two positive integers [H, W]");
  return config;
}
