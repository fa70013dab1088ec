/** Firing rates: how often the neurons of each spiking layer fire, per step and in total. */
import type { Module } from "../nn/module.ts";
import { withForwardHook } from "../nn/module.ts";
import { scope } from "../tensor/scope.ts";
import { noGrad } from "../tensor/tape.ts";
import { Tensor } from "../tensor/tensor.ts";

export interface FiringRate {
  /** Path of the neuron module. */
  layer: string;
  shape: readonly number[];
  /** Fraction of neuron-steps with a spike (integer spikes count once). */
  rate: number;
  /** Mean spike value (equal to `rate` for binary spikes). */
  value: number;
  /** `rate` of each time step (the first axis). */
  perStep: number[];
}

/** Rates of a tensor of spikes or floats [T, ...]: entries that are not zero, in all and in each of `steps` equal parts. */
export function firingOf(t: Tensor, steps = t.rank > 1 ? (t.shape[0] as number) : 1): { rate: number; value: number; perStep: number[] } {
  const values = t.dataSync();
  const n = values.length / steps;
  let total = 0;
  let sum = 0;
  const perStep = Array.from({ length: steps }, (_, step) => {
    let count = 0;
    for (let i = step * n; i < (step + 1) * n; i++) {
      const v = values[i] as number;
      if (v !== 0) count++;
      sum += v;
    }
    total += count;
    return count / n;
  });
  return { rate: total / values.length, value: sum / values.length, perStep };
}

/** Run `model` on `input` in eval mode and measure every module that gives spikes. */
export function firingRates(model: Module, input: Tensor): FiringRate[] {
  const names = new Map([...model.namedModules()].map(([name, m]) => [m, name]));
  const out: FiringRate[] = [];
  const restore = model.modes();
  model.eval();
  try {
    scope(() =>
      noGrad(() =>
        withForwardHook(
          (m, _inputs, output) => {
            // Containers hand on what their last part gave: count neurons only.
            if (!(output instanceof Tensor) || output.dtype !== "spikes" || !m.children().next().done) return;
            out.push({ layer: names.get(m) ?? "", shape: output.shape, ...firingOf(output) });
          },
          () => model.forward(input),
        ),
      ),
    );
  } finally {
    restore();
  }
  return out;
}
