/**
 * Learning-rate schedules: pure functions of time, in epochs. `lrAt(schedule, t)` with a whole t is timm's schedule of that
 * epoch; a fractional t moves it every step. Warm-up is not subtracted from the decay (timm's default) unless asked for.
 */
import { nearest, SpikeloomError } from "../runtime/error.ts";
import { cos, pow } from "../runtime/math.ts";

const NAMES = ["constant", "cosine", "step", "multistep", "linear", "polynomial"] as const;

export interface Schedule {
  name: (typeof NAMES)[number];
  /** Peak learning rate. */
  lr: number;
  /** E: epochs until the schedule has run out; later times keep its last value. */
  epochs: number;
  /** Epochs of cool-down at that last value, after E; see `totalEpochs`. Default 0. */
  cooldownEpochs?: number;
  /** W: epochs of linear warm-up from `warmupLr` to `lr`; default 0. */
  warmupEpochs?: number;
  /** Default 0. */
  warmupLr?: number;
  /**
   * Time counts from the end of the warm-up, and so does E, which is then E - W long (timm's warmup_prefix; the schedule of MAE and of
   * the spike-driven transformers V2 and V3). Default false.
   */
  warmupPrefix?: boolean;
  /** Cosine, linear and polynomial: the value at E and after; step and multistep: a lower bound. Default 0. */
  minLr?: number;
  /** Step: multiply by `decayRate` every `decayEpochs` (default 30). */
  decayEpochs?: number;
  /** Multistep: multiply by `decayRate` at each of these times; default none. */
  milestones?: readonly number[];
  /** Default 0.1. */
  decayRate?: number;
  /** Polynomial: default 1, which is linear. */
  power?: number;
}

/** Epochs to train: those of the schedule and of its cool-down (timm's E + 10 in the published recipes). */
export function totalEpochs({ epochs, cooldownEpochs = 0 }: Schedule): number {
  return epochs + cooldownEpochs;
}

/**
 * Learning rate at a time t (epochs, >= 0). Cosine: minLr + (lr - minLr) (1 + cos(pi t / E)) / 2; polynomial:
 * minLr + (lr - minLr) (1 - t / E)^power.
 */
export function lrAt(schedule: Schedule, time: number): number {
  const { name, lr, warmupEpochs = 0, warmupLr = 0, minLr = 0, decayRate = 0.1 } = schedule;
  if (time < warmupEpochs) return warmupLr + (time * (lr - warmupLr)) / warmupEpochs;
  const before = schedule.warmupPrefix ? warmupEpochs : 0;
  const [t, epochs] = [time - before, schedule.epochs - before];
  switch (name) {
    case "constant":
      return lr;
    case "cosine":
      return t < epochs ? minLr + 0.5 * (lr - minLr) * (1 + cos((Math.PI * t) / epochs)) : minLr;
    case "linear":
      return t < epochs ? lr + ((minLr - lr) * t) / epochs : minLr;
    case "polynomial":
      return t < epochs ? minLr + (lr - minLr) * pow(1 - t / epochs, schedule.power ?? 1) : minLr;
    case "step":
      return Math.max(minLr, lr * pow(decayRate, Math.floor(t / (schedule.decayEpochs ?? 30))));
    case "multistep":
      return Math.max(minLr, lr * pow(decayRate, (schedule.milestones ?? []).filter((at) => at <= t).length));
    default: {
      const near = nearest(name, NAMES);
      throw new SpikeloomError(`schedule: unknown name "${name}"${near ? `, did you mean "${near}"?` : ""} (one of ${NAMES.join(", ")})`);
    }
  }
}
