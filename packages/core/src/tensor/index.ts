/** Tensors, scopes and the tape: what stands at the top level of the package. */
import "./methods.ts";

export { denseViews, resetDenseViews } from "./ops/common.ts";
export { type RandomOptions, rand, randn, truncNormal, uniform } from "./ops/random.ts";
export { argsort, type Sorted, sort, topk } from "./ops/sort.ts";
export { keep, scope } from "./scope.ts";
export type { Shape } from "./shape.ts";
export {
  applyMany,
  type BackwardOptions,
  backward,
  Context,
  checkpoint,
  defineOp,
  grad,
  isRecording,
  noGrad,
  type OpDefinition,
} from "./tape.ts";
export { type DType, empty, full, ones, type SpikeFormat, Tensor, tensor, zeros } from "./tensor.ts";
