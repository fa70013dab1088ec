/** Every published size of Spike-driven Transformer V1, by name (repository BICLab/Spike-Driven-Transformer, folder conf/). */
import { SettingError } from "../../runtime/error.ts";

export interface SDTConfig {
  /** Time steps for still images; event frames bring their own. */
  T: number;
  inChannels: number;
  numClasses: number;
  /** D, a multiple of 8 and of the heads. */
  embedDims: number;
  /** L. */
  depths: number;
  /** h; splits channels only where `dvsMode` pools inside heads. */
  numHeads: number;
  mlpRatio: number;
  /** Which of the four stem stages are followed by a 3 x 3 max pool of stride 2, as "1" or "0" each. */
  pooling: string;
  spikeMode: "lif" | "plif";
  /** Extra max pools inside attention (official CIFAR10-DVS configurations). */
  dvsMode: boolean;
  /** Temporal efficient training: return the logits of every step. */
  tet: boolean;
  /** Image size [H, W] that the configuration was made for. */
  imageSize: readonly [number, number];
}

const imagenet: SDTConfig = {
  T: 4,
  inChannels: 3,
  numClasses: 1000,
  embedDims: 512,
  depths: 8,
  numHeads: 8,
  mlpRatio: 4,
  pooling: "1111",
  spikeMode: "lif",
  dvsMode: false,
  tet: false,
  imageSize: [224, 224],
};
const cifar: SDTConfig = { ...imagenet, numClasses: 10, embedDims: 256, depths: 2, pooling: "0011", imageSize: [32, 32] };
const gesture: SDTConfig = { ...cifar, T: 10, inChannels: 2, numClasses: 11, pooling: "0111", imageSize: [128, 128] };

export const configs: Readonly<Record<string, SDTConfig>> = {
  "imagenet-8-384": { ...imagenet, embedDims: 384 },
  "imagenet-6-512": { ...imagenet, depths: 6 },
  "imagenet-8-512": imagenet,
  "imagenet-10-512": { ...imagenet, depths: 10 },
  "imagenet-8-768": { ...imagenet, embedDims: 768 },
  "cifar10-2-256": cifar,
  "cifar10-2-512": { ...cifar, embedDims: 512 },
  "cifar10-2-512-tet": { ...cifar, embedDims: 512, tet: true },
  "cifar100-2-256": { ...cifar, numClasses: 100 },
  "cifar100-2-512": { ...cifar, numClasses: 100, embedDims: 512 },
  "cifar10-dvs-2-256-tet": { ...cifar, T: 10, inChannels: 2, dvsMode: true, tet: true, imageSize: [64, 64] },
  "gesture-2-256-t10": gesture,
  "gesture-2-256-t16": { ...gesture, T: 16 },
};

/** Check a configuration. @throws SettingError naming the field, what it must be and what it is. */
export function checkConfig(config: SDTConfig): SDTConfig {
  const fail = (field: string, expected: string): never => {
    throw new SettingError(
      field,
      `sdt-v1 config: ${field} must be ${expected}, found ${JSON.stringify((config as unknown as Record<string, unknown>)[field])}`,
    );
  };
  for (const field of ["T", "inChannels", "numClasses", "embedDims", "depths", "numHeads"] as const)
    if (!Number.isInteger(config[field]) || config[field] < 1) fail(field, "a positive integer");
  if (config.embedDims % 8) fail("embedDims", "a multiple of 8 (the stem has D/8, D/4, D/2, D channels)");
  if (config.embedDims % config.numHeads) fail("numHeads", `a divisor of embedDims = ${config.embedDims}`);
  const { mlpRatio, pooling, imageSize } = config;
  if (typeof mlpRatio !== "number" || !(mlpRatio > 0 && Number.isFinite(mlpRatio))) fail("mlpRatio", "a positive number");
  if (config.embedDims * mlpRatio < 1) fail("mlpRatio", `at least 1 / embedDims = 1 / ${config.embedDims}`);
  if (typeof pooling !== "string" || !/^[01]{4}$/.test(pooling)) fail("pooling", 'four characters "0" or "1"');
  if (config.spikeMode !== "lif" && config.spikeMode !== "plif") fail("spikeMode", '"lif" or "plif"');
  if (typeof config.dvsMode !== "boolean") fail("dvsMode", "true or false");
  if (typeof config.tet !== "boolean") fail("tet", "true or false");
  if (!Array.isArray(imageSize) || imageSize.length !== 2 || !imageSize.every((n) => Number.isInteger(n) && n > 0))
    fail("imageSize", "two positive integers [H, W]");
  return config;
}
