/** Losses and functions under the names that `nn` gives them. */
export { bceWithLogits, crossEntropy, type CrossEntropyOptions, mse, type Reduction } from "../tensor/ops/loss.ts";
export { flatten } from "../tensor/ops/layout.ts";
export { logSoftmax, softmax } from "../tensor/ops/softmax.ts";
