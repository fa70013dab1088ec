/** Tensors, scopes and the tape: what stands at the top level of the package. */
import "./methods.ts";

export { keep, scope } from "./scope.ts";
export type { Shape } from "./shape.ts";
export { applyMany, backward, type BackwardOptions, checkpoint, Context, defineOp, grad, isRecording, noGrad, type OpDefinition } from "./tape.ts";
export { type DType, empty, full, ones, type SpikeFormat, Tensor, tensor, zeros } from "./tensor.ts";
export { denseViews, resetDenseViews } from "./ops/common.ts";
export { rand, randn, type RandomOptions, truncNormal, uniform } from "./ops/random.ts";
