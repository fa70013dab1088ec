/** Losses and functions under the names that `nn` gives them, and the loss of a student with a teacher. */

import { checkOptions, kindOf } from "../runtime/check.ts";
import { add, mul, sub } from "../tensor/ops/elementwise.ts";
import { reshape } from "../tensor/ops/layout.ts";
import { crossEntropy } from "../tensor/ops/loss.ts";
import { argmax, sum } from "../tensor/ops/reduce.ts";
import { logSoftmax, softmax } from "../tensor/ops/softmax.ts";
import { scope } from "../tensor/scope.ts";
import { expectShape, show, wrong } from "../tensor/shape.ts";
import { noGrad } from "../tensor/tape.ts";
import { expectTensor, type Tensor } from "../tensor/tensor.ts";

export { flatten } from "../tensor/ops/layout.ts";
export { type BCEOptions, bceWithLogits, type CrossEntropyOptions, crossEntropy, mse, type Reduction } from "../tensor/ops/loss.ts";
export { logSoftmax, softmax } from "../tensor/ops/softmax.ts";

/** Settings of `distillationLoss`. */
export interface DistillationOptions {
  /** "hard" (default): the class that the teacher finds likeliest is a label. "soft": the teacher's probabilities are. */
  kind?: "hard" | "soft" | undefined;
  /** Share of the teacher in the loss. Default 0.5. */
  alpha?: number | undefined;
  /** "soft" only: logits are divided by it before the softmax. Default 1. */
  temperature?: number | undefined;
}

/**
 * Loss of a student that learns from labels and from a teacher (Touvron et al. 2021, arXiv 2012.12877): (1 - alpha) base + alpha D.
 * D "hard": cross-entropy of the student with the teacher's argmax. D "soft": tau^2 / (B K) times the sum of p_T (log p_T - log p_S), with
 * p = softmax(logits / tau); the mean is over items and classes.
 *
 * @param base the loss of the labels, a scalar: any loss (smoothed or mixed labels too) of the head that learns from them
 * @param student f32 [..., K]: logits of the head that learns from the teacher
 * @param teacher f32 [..., K]: the teacher's logits; no gradient flows into them
 * @returns f32, a scalar
 * @throws SpikeloomError for shapes that do not fit and for an alpha outside [0, 1]
 */
export function distillationLoss(base: Tensor, student: Tensor, teacher: Tensor, options: DistillationOptions = {}): Tensor {
  const op = "distillationLoss";
  checkOptions(op, options, ["kind", "alpha", "temperature"]);
  const { kind = "hard", alpha = 0.5, temperature: tau = 1 } = options;
  for (const [name, value] of Object.entries({ base, student, teacher })) expectTensor(op, name, value);
  if (base.size !== 1) wrong(op, "base", "a loss: one number", show(base.shape));
  if (student.rank < 1 || student.size === 0) wrong(op, "student", "logits of shape [..., K]", show(student.shape));
  expectShape(op, "teacher", teacher.shape, student.shape);
  if (kind !== "hard" && kind !== "soft") wrong(op, "kind", '"hard" or "soft"', kindOf(kind));
  if (!(alpha >= 0 && alpha <= 1)) wrong(op, "alpha", "in [0, 1]", kindOf(alpha));
  if (!(tau > 0 && tau < Number.POSITIVE_INFINITY)) wrong(op, "temperature", "a number above 0", kindOf(tau));
  return scope(() => {
    const distilled =
      kind === "hard"
        ? crossEntropy(
            student,
            noGrad(() => argmax(teacher, -1)),
          )
        : divergence(student, teacher, tau);
    return add(mul(reshape(base, []), 1 - alpha), mul(distilled, alpha));
  });
}

/** tau^2 KL(teacher || student) at temperature tau, averaged over items and classes. */
function divergence(student: Tensor, teacher: Tensor, tau: number): Tensor {
  const { p, log } = noGrad(() => {
    const scaled = mul(teacher, 1 / tau);
    return { p: softmax(scaled), log: logSoftmax(scaled) };
  });
  return mul(sum(mul(p, sub(log, logSoftmax(mul(student, 1 / tau))))), tau ** 2 / student.size);
}
