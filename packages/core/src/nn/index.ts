/** Networks: modules, layers, containers, initialisers, losses. */

export { type Conv1dOptions, type Conv2dOptions, conv1d, conv2d } from "../tensor/ops/conv.ts";
export { type DropoutOptions, dropout } from "../tensor/ops/dropout.ts";
export { type BatchNormCall, batchNorm, type GroupNormOptions, groupNorm, layerNorm, rmsNorm } from "../tensor/ops/norm.ts";
export {
  type AvgPool2dOptions,
  adaptiveAvgPool2d,
  avgPool2d,
  globalAvgPool2d,
  type MaxPool2dOptions,
  maxPool2d,
} from "../tensor/ops/pool.ts";
export type { Pair } from "../tensor/ops/window.ts";
export { inTurn, ModuleList, Sequential } from "./containers.ts";
export { Conv1d, Conv2d, type ConvOptions } from "./conv.ts";
export { DropPath } from "./drop-path.ts";
export * as init from "./init.ts";
export { Embedding, Linear } from "./linear.ts";
export * from "./losses.ts";
export * from "./module.ts";
export { BatchNorm1d, BatchNorm2d, type BatchNormOptions, GroupNorm, LayerNorm, RMSNorm } from "./norm.ts";
export { AdaptiveAvgPool2d, AvgPool2d, MaxPool2d } from "./pooling.ts";
export { sinCosPositions } from "./positions.ts";
export { Dropout, Flatten, GELU, Identity, ReLU, Sigmoid, SiLU, Tanh } from "./simple.ts";
