/** Losses and functions under the names that `nn` gives them. */

export { flatten } from "../tensor/ops/layout.ts";
export { type BCEOptions, bceWithLogits, type CrossEntropyOptions, crossEntropy, mse, type Reduction } from "../tensor/ops/loss.ts";
export { logSoftmax, softmax } from "../tensor/ops/softmax.ts";
