/** Losses of spiking classifiers: cross-entropy on the mean over time, or on every step (temporal efficient training). */

import { add, mul } from "../tensor/ops/elementwise.ts";
import { crossEntropy, mse } from "../tensor/ops/loss.ts";
import { mean } from "../tensor/ops/reduce.ts";
import { full, type Tensor } from "../tensor/tensor.ts";

export interface ClassificationLoss {
  /** Default 0. */
  labelSmoothing?: number | undefined;
  /** TET (Deng et al. 2022, arXiv 2202.11946): loss of every step, and a pull of the logits towards `means`. */
  tet?: { means: number; lambda: number } | undefined;
}

/**
 * Mean loss of logits [B, K] or [T, B, K] against class numbers i32 [B] or soft targets [B, K].
 * Without TET: cross-entropy of the mean over T. With TET:
 * (1 - lambda) mean_t CE(logits[t], y) + lambda mean((logits - means)^2).
 */
export function classificationLoss(logits: Tensor, targets: Tensor, { labelSmoothing = 0, tet }: ClassificationLoss = {}): Tensor {
  if (!tet) return crossEntropy(logits.rank === 3 ? mean(logits, 0) : logits, targets, { labelSmoothing });
  const steps = logits.rank === 3 ? logits : logits.reshape([1, ...logits.shape]);
  const t = steps.shape[0] as number;
  // CE averages over B; every step has the same B, so the mean over T and B of one call is the mean of the steps' means.
  const repeated = targets.reshape([1, ...targets.shape]).expand([t, ...targets.shape]);
  const flat = steps.reshape([-1, steps.shape[2] as number]);
  const ce = crossEntropy(flat, repeated.reshape(targets.dtype === "i32" ? [-1] : [-1, targets.shape[1] as number]), { labelSmoothing });
  if (tet.lambda === 0) return ce;
  const pull = mse(steps, full(steps.shape, tet.means));
  return add(mul(ce, 1 - tet.lambda), mul(pull, tet.lambda));
}
