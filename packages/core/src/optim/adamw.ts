/** AdamW. */

import type { Parameter } from "../nn/module.ts";
import { tilesFor } from "../runtime/device.ts";
import { device } from "../runtime/engine.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Optimizer, type Parameters } from "./optimizer.ts";
import { biasCorrection, type Given } from "./settings.ts";

export interface AdamWSettings {
  /** Default 1e-3. */
  lr: number;
  /** Default [0.9, 0.999]. */
  betas: readonly [number, number];
  /** Default 1e-8. */
  eps: number;
  /** Decoupled; default 0.01. */
  weightDecay: number;
}

/** AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), as torch.optim.AdamW. */
export class AdamW extends Optimizer<AdamWSettings> {
  protected readonly slots = ["exp_avg", "exp_avg_sq"];

  constructor(parameters: Parameters, settings: Given<AdamWSettings> = {}) {
    super("AdamW", parameters, { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.01 }, settings);
  }

  protected update(p: Parameter, gradient: Tensor, { lr, betas: [beta1, beta2], eps, weightDecay }: AdamWSettings): void {
    const m = this.slot(p, "exp_avg").tensor;
    const v = this.slot(p, "exp_avg_sq").tensor;
    const updates = this.updates.get(p) as number;
    device().run(
      "adamw",
      {
        p: p.storage,
        g: gradient.storage,
        m: m.storage,
        v: v.storage,
        n: p.size,
        lr,
        beta1,
        beta2,
        eps,
        weightDecay,
        bias1: biasCorrection(beta1, updates),
        bias2: biasCorrection(beta2, updates),
        gradScale: this.gradScale,
      },
      tilesFor(p.size, 4),
    );
  }
}
