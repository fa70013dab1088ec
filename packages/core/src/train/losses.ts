/** Losses of spiking classifiers: of the mean over time, or of every step (temporal efficient training). */

import { nearest, SpikeloomError } from "../runtime/error.ts";
import { add, affine, mul } from "../tensor/ops/elementwise.ts";
import { oneHot } from "../tensor/ops/index.ts";
import { bceWithLogits, crossEntropy, mse } from "../tensor/ops/loss.ts";
import { mean } from "../tensor/ops/reduce.ts";
import { scope } from "../tensor/scope.ts";
import { show } from "../tensor/shape.ts";
import { full, type Tensor } from "../tensor/tensor.ts";

export interface ClassificationLoss {
  /** Cross-entropy (default), or binary cross-entropy of every class by itself, averaged over items and classes. */
  base?: "ce" | "bce" | undefined;
  /** Share of the target spread evenly over all classes, of class numbers and of soft targets. Default 0. */
  labelSmoothing?: number | undefined;
  /** For "bce": targets above it, smoothed, count as 1, the others as 0 (timm's target_threshold). */
  targetThreshold?: number | undefined;
  /** TET (Deng et al. 2022, arXiv 2202.11946): loss of every step, and a pull of the logits towards `means`. */
  tet?: { means: number; lambda: number } | undefined;
}

const BASES = ["ce", "bce"] as const;

/**
 * Mean loss of logits [B, K] or [T, B, K] against class numbers i32 [B] or soft targets f32 [B, K].
 * Without TET: the base loss of the mean over T. With TET:
 * (1 - lambda) mean_t base(logits[t], y) + lambda mean((logits - means)^2); lambda = 0 leaves out the pull.
 * @throws SpikeloomError for shapes that do not fit, and for an unknown base
 */
export function classificationLoss(logits: Tensor, targets: Tensor, options: ClassificationLoss = {}): Tensor {
  const { base = "ce", tet, targetThreshold } = options;
  if (!BASES.includes(base)) {
    const near = nearest(base, BASES);
    throw new SpikeloomError(`loss: base must be one of ${BASES.join(", ")}, found "${base}"${near ? `, did you mean "${near}"?` : ""}`);
  }
  if (targetThreshold !== undefined && base !== "bce") throw new SpikeloomError('loss: targetThreshold needs base "bce"');
  if (logits.rank !== 2 && logits.rank !== 3)
    throw new SpikeloomError(`loss: logits must be of shape [B, K] or [T, B, K], found ${show(logits.shape)}`);
  return scope(() => {
    if (!tet) return baseLoss(logits.rank === 3 ? mean(logits, 0) : logits, targets, options);
    const steps = logits.rank === 3 ? logits : logits.reshape([1, ...logits.shape]);
    const [t, , k] = steps.shape as [number, number, number];
    // The base averages over its items; every step has as many, so the mean of one call is the mean of the steps' means.
    const repeated = targets.reshape([1, ...targets.shape]).expand([t, ...targets.shape]);
    const rows = repeated.reshape([-1, ...targets.shape.slice(1)]);
    const loss = baseLoss(steps.reshape([-1, k]), rows, options);
    if (tet.lambda === 0) return loss;
    return add(mul(loss, 1 - tet.lambda), mul(mse(steps, full(steps.shape, tet.means)), tet.lambda));
  });
}

function baseLoss(logits: Tensor, targets: Tensor, { base, labelSmoothing = 0, targetThreshold }: ClassificationLoss): Tensor {
  if (base !== "bce") return crossEntropy(logits, targets, { labelSmoothing });
  const k = logits.shape[1] as number;
  const soft = targets.dtype === "i32" ? oneHot(targets, k) : targets;
  const smoothed = labelSmoothing ? affine(soft, 1 - labelSmoothing, labelSmoothing / k) : soft;
  return bceWithLogits(logits, smoothed, { targetThreshold });
}
