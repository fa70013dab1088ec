/**
 * Learning-rate schedules: pure functions of time, in epochs. `lrAt(schedule, t)` with a whole t is timm's schedule of that
 * epoch; a fractional t moves it every step. Warm-up is not subtracted from the decay (timm's default).
 */
import { SpikeloomError } from "../runtime/error.ts";
import { cos, pow } from "../runtime/math.ts";

export interface Schedule {
  name: "constant" | "cosine" | "step" | "linear";
  /** Peak learning rate. */
  lr: number;
  /** E: epochs until the schedule has run out; later times keep its last value (cool-down). */
  epochs: number;
  /** W: epochs of linear warm-up from `warmupLr` to `lr`; default 0. */
  warmupEpochs?: number;
  /** Default 0. */
  warmupLr?: number;
  /** Cosine and linear: the value at E and after; step: a lower bound. Default 0. */
  minLr?: number;
  /** Step: multiply by `decayRate` (default 0.1) every `decayEpochs` (default 30). */
  decayEpochs?: number;
  decayRate?: number;
}

/** Learning rate at time `t` (epochs, >= 0). Cosine: minLr + (lr - minLr) (1 + cos(pi t / E)) / 2. */
export function lrAt(schedule: Schedule, t: number): number {
  const { name, lr, epochs, warmupEpochs = 0, warmupLr = 0, minLr = 0, decayEpochs = 30, decayRate = 0.1 } = schedule;
  if (t < warmupEpochs) return warmupLr + (t * (lr - warmupLr)) / warmupEpochs;
  switch (name) {
    case "constant":
      return lr;
    case "cosine":
      return t < epochs ? minLr + 0.5 * (lr - minLr) * (1 + cos((Math.PI * t) / epochs)) : minLr;
    case "linear":
      return t < epochs ? lr + ((minLr - lr) * t) / epochs : minLr;
    case "step":
      return Math.max(minLr, lr * pow(decayRate, Math.floor(t / decayEpochs)));
    default:
      throw new SpikeloomError(`schedule: unknown name "${name}" (one of constant, cosine, step, linear)`);
  }
}
