/** Tensors, scopes and the tape: what stands at the top level of the package. */
import "./methods.ts";

export { checkpoint } from "./checkpoint.ts";
export { denseViews, resetDenseViews } from "./ops/common.ts";
export type { Operand } from "./ops/elementwise.ts";
export type { Range } from "./ops/layout.ts";
export type { MatmulOptions } from "./ops/matmul.ts";

export { type RandomOptions, rand, randn, truncNormal, uniform } from "./ops/random.ts";
export type { Axes } from "./ops/reduce.ts";
export { argsort, type Sorted, sort, topk } from "./ops/sort.ts";
export { keep, scope } from "./scope.ts";
export type { Shape } from "./shape.ts";
export {
  applyMany,
  type BackwardOptions,
  backward,
  Context,
  defineOp,
  grad,
  isRecording,
  noGrad,
  type OpDefinition,
} from "./tape.ts";
export { type DType, empty, full, type NestedNumbers, ones, type SpikeFormat, Tensor, tensor, zeros } from "./tensor.ts";
