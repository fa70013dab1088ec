/** LAMB (You et al. 2020, arXiv 1904.00962) as timm has it: what the spike-driven transformers are trained with on ImageNet. */

import type { Parameter } from "../nn/module.ts";
import { tilesFor } from "../runtime/device.ts";
import { device } from "../runtime/engine.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { detachedScope } from "../tensor/scope.ts";
import { type Tensor, zeros } from "../tensor/tensor.ts";
import { gradNorm, normOf, Optimizer, type Parameters } from "./optimizer.ts";
import { biasCorrection, type Given } from "./settings.ts";

export interface LAMBSettings {
  /** Default 1e-3. */
  lr: number;
  /** Default [0.9, 0.999]. */
  betas: readonly [number, number];
  /** Default 1e-6. */
  eps: number;
  /** Part of the step that the trust ratio scales; default 0.01. A group with 0 has no trust ratio. */
  weightDecay: number;
  /** Gradients are divided by their common norm over this, where it is larger; 0 for never. Default 1. */
  maxGradNorm: number;
  /** Trust ratios of at most 1; default false. */
  trustClip: boolean;
  /** Trust ratios for groups without decay too; default false. */
  alwaysAdapt: boolean;
}

/**
 * With gradients g / max(1, |all g| / maxGradNorm), moments m and v as Adam's and k the parameter's own updates:
 * u = (m / (1 - beta1^k)) / (sqrt(v / (1 - beta2^k)) + eps) + weightDecay p; p -= lr (|p| / |u|) u. The ratio is 1 where a norm is 0.
 */
export class LAMB extends Optimizer<LAMBSettings> {
  protected readonly slots = ["exp_avg", "exp_avg_sq"];

  constructor(parameters: Parameters, settings: Given<LAMBSettings> = {}) {
    const defaults: LAMBSettings = {
      lr: 1e-3,
      betas: [0.9, 0.999],
      eps: 1e-6,
      weightDecay: 0.01,
      maxGradNorm: 1,
      trustClip: false,
      alwaysAdapt: false,
    };
    super("LAMB", parameters, defaults, settings);
  }

  /** @throws SpikeloomError for a gradient that is not finite, which would spoil every parameter; nothing is changed then */
  override step(): void {
    const { maxGradNorm } = this.settings;
    if (maxGradNorm) {
      const norm = gradNorm(this.parameters()) * this.gradScale;
      if (!Number.isFinite(norm)) throw new SpikeloomError(`LAMB: the norm of the gradients is ${norm}. Lower the learning rate`);
      this.gradScale /= Math.max(1, norm / maxGradNorm);
    }
    super.step();
  }

  protected update(p: Parameter, gradient: Tensor, settings: LAMBSettings): void {
    const { lr, betas, eps, weightDecay, trustClip, alwaysAdapt } = settings;
    const [beta1, beta2] = betas;
    const { size: n, storage } = p;
    const m = this.slot(p, "exp_avg").tensor;
    const v = this.slot(p, "exp_avg_sq").tensor;
    const updates = this.updates.get(p) as number;
    const tiles = tilesFor(n, 1);
    detachedScope(() => {
      // Adam's step of rate 1 from zero is -u before decay.
      const step = zeros(p.shape);
      device().run(
        "adamw",
        {
          p: step.storage,
          g: gradient.storage,
          m: m.storage,
          v: v.storage,
          n,
          lr: 1,
          beta1,
          beta2,
          eps,
          weightDecay: 0,
          bias1: biasCorrection(beta1, updates),
          bias2: biasCorrection(beta2, updates),
          gradScale: this.gradScale,
        },
        tilesFor(n, 4),
      );
      if (weightDecay) device().run("accumulate", { x: storage, y: step.storage, n, alpha: -weightDecay }, tiles);
      let trust = 1;
      if (weightDecay || alwaysAdapt) {
        const [own, length] = [normOf(p), normOf(step)];
        if (own > 0 && length > 0) trust = own / length;
        if (trustClip) trust = Math.min(trust, 1);
      }
      device().run("accumulate", { x: step.storage, y: storage, n, alpha: lr * trust }, tiles);
    });
  }
}
