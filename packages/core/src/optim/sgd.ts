/** Stochastic gradient descent. */

import type { Parameter } from "../nn/module.ts";
import { tilesFor } from "../runtime/device.ts";
import { device } from "../runtime/engine.ts";
import { SpikeloomError } from "../runtime/error.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Optimizer, type Parameters } from "./optimizer.ts";
import type { Given } from "./settings.ts";

export interface SGDSettings {
  /** Default 1e-3. */
  lr: number;
  /** Default 0. */
  momentum: number;
  /** Default 0. */
  dampening: number;
  /** Coupled (added to the gradient); default 0. */
  weightDecay: number;
  /** Default false. */
  nesterov: boolean;
}

/** Stochastic gradient descent with momentum, as torch.optim.SGD. */
export class SGD extends Optimizer<SGDSettings> {
  protected readonly slots = ["momentum_buffer"];

  constructor(parameters: Parameters, settings: Given<SGDSettings> = {}) {
    super("SGD", parameters, { lr: 1e-3, momentum: 0, dampening: 0, weightDecay: 0, nesterov: false }, settings);
    const { nesterov, momentum, dampening } = this.settings;
    if (nesterov && (momentum <= 0 || dampening !== 0)) throw new SpikeloomError("SGD: nesterov needs momentum > 0 and dampening 0");
  }

  protected update(p: Parameter, gradient: Tensor, { lr, momentum, dampening, weightDecay, nesterov }: SGDSettings): void {
    const buffer = momentum ? this.slot(p, "momentum_buffer") : null;
    device().run(
      "sgd",
      {
        p: p.storage,
        g: gradient.storage,
        buf: buffer?.tensor.storage ?? null,
        n: p.size,
        lr,
        momentum,
        dampening,
        weightDecay,
        nesterov: nesterov ? 1 : 0,
        first: buffer?.fresh ? 1 : 0,
        gradScale: this.gradScale,
      },
      tilesFor(p.size, 2),
    );
  }
}
