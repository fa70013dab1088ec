/** Firing rates: how often the neurons of each spiking layer fire, per step and in total, over any number of batches. */
import { Conv1d, Conv2d } from "../nn/conv.ts";
import type { Module } from "../nn/module.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { makesSpikes, Neuron, Quant } from "../spiking/neurons.ts";
import { Tensor } from "../tensor/tensor.ts";
import { type Inputs, type Listener, walk } from "./walk.ts";

export interface FiringRate {
  /** Path of the neuron module. */
  layer: string;
  /** Of the last batch. */
  shape: readonly number[];
  /** Samples that it is the mean of. */
  samples: number;
  /** Neurons for one sample and step, and bits that one step of one takes (32 for floats). */
  neurons: number;
  bits: number;
  /** Fraction of neuron-steps with a spike (integer spikes count once). */
  rate: number;
  /** Mean spike value (equal to `rate` for binary spikes), and what one spike is worth. */
  value: number;
  unit: number;
  /** `rate` of each time step. */
  perStep: number[];
  /** `value` of each time step. */
  valuePerStep: number[];
}

export interface FiringOptions {
  /** T, where the first axis of a layer's output is not T but T * B. */
  timeSteps?: number | undefined;
  /**
   * `"sdt-v1"`: the figure that the script firing_num.py of repository BICLab/Spike-Driven-Transformer prints: the sum of the batches'
   * means divided by their number less one, of the first four steps only. It is too large by n / (n - 1). Default: the mean over samples.
   */
  compat?: "sdt-v1" | undefined;
}

/** Entries that are not zero, and the sum, of each of `steps` equal parts of a tensor's first axis. */
function tally(t: Tensor, steps: number): { nonZero: Float64Array; sum: Float64Array; entries: number } {
  const values = t.dataSync();
  const entries = values.length / steps;
  const nonZero = new Float64Array(steps);
  const sum = new Float64Array(steps);
  for (let step = 0; step < steps; step++) {
    let count = 0;
    let total = 0;
    for (let i = step * entries; i < (step + 1) * entries; i++) {
      const v = values[i] as number;
      if (v !== 0) count++;
      total += v;
    }
    nonZero[step] = count;
    sum[step] = total;
  }
  return { nonZero, sum, entries };
}

/** Steps in a tensor's first axis: T, or T of T * B where `timeSteps` says so. */
function stepsOf(t: Tensor, timeSteps: number | undefined): number {
  if (t.rank < 2) return 1;
  const first = t.shape[0] as number;
  return timeSteps !== undefined && first % timeSteps === 0 ? timeSteps : first;
}

/** Rates of one tensor of spikes or floats [T, ...]: entries that are not zero, in all and in each of `steps` equal parts. */
export function firingOf(t: Tensor, steps = stepsOf(t, undefined)): { rate: number; value: number; perStep: number[] } {
  const { nonZero, sum, entries } = tally(t, steps);
  return {
    rate: ratio(total(nonZero), entries * steps),
    value: ratio(total(sum), entries * steps),
    perStep: Array.from(nonZero, (n) => ratio(n, entries)),
  };
}

const total = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0);
/** Nothing fires in a layer without neurons. */
const ratio = (part: number, whole: number) => (whole ? part / whole : 0);

interface Entry {
  layer: string;
  shape: readonly number[];
  samples: number;
  neurons: number;
  bits: number;
  unit: number;
  batches: number;
  /** Entries of a step, over all batches. */
  entries: number;
  nonZero: Float64Array;
  sum: Float64Array;
  /** Sums of the batches' means. */
  rates: Float64Array;
  values: Float64Array;
}

/** Averages firing rates over batches: every sample counts the same, also where the last batch is smaller. */
export class FiringMeter {
  readonly #timeSteps: number | undefined;
  readonly #entries = new Map<string, Entry>();

  constructor({ timeSteps }: { timeSteps?: number | undefined } = {}) {
    this.#timeSteps = timeSteps;
  }

  /**
   * Add what a layer gave for one batch.
   * @param output [T, B, ...], spikes or floats
   * @param key tells layers of one name apart
   * @param still has the output no axis of steps: [B, ...]?
   * @throws SpikeloomError when T is not that of the batches before
   */
  add(layer: string, output: Tensor, key = layer, still = false): void {
    const whole = still && this.#timeSteps === undefined;
    const steps = whole ? 1 : stepsOf(output, this.#timeSteps);
    const { nonZero, sum, entries } = tally(output, steps);
    const [first, second] = output.shape as [number, number];
    const samples = whole || first !== steps ? first / steps : output.rank > 2 ? second : 1;
    let entry = this.#entries.get(key);
    if (!entry) {
      const zeros = () => new Float64Array(steps);
      entry = {
        ...{ layer, shape: output.shape, samples: 0, neurons: 0, bits: output.spikes?.planes ?? 32, unit: output.spikes?.scale ?? 1 },
        ...{ batches: 0, entries: 0 },
        ...{ nonZero: zeros(), sum: zeros(), rates: zeros(), values: zeros() },
      };
      this.#entries.set(key, entry);
    }
    if (entry.nonZero.length !== steps)
      throw new SpikeloomError(
        `firing rates: "${layer}" had ${entry.nonZero.length} time steps, and has ${steps} in a further batch. Measure batches of one T at a time`,
      );
    entry.shape = output.shape;
    entry.samples += samples;
    entry.neurons = ratio(entries, samples);
    entry.batches++;
    entry.entries += entries;
    for (let t = 0; t < steps; t++) {
      entry.nonZero[t] = (entry.nonZero[t] as number) + (nonZero[t] as number);
      entry.sum[t] = (entry.sum[t] as number) + (sum[t] as number);
      entry.rates[t] = (entry.rates[t] as number) + ratio(nonZero[t] as number, entries);
      entry.values[t] = (entry.values[t] as number) + ratio(sum[t] as number, entries);
    }
  }

  /** Rates of every layer, in the order in which they were first added. @throws SpikeloomError for `compat` of one batch. */
  rates({ compat }: Pick<FiringOptions, "compat"> = {}): FiringRate[] {
    return [...this.#entries.values()].map(
      ({ layer, shape, samples, neurons, bits, unit, batches, entries, nonZero, sum, rates, values }) => {
        if (!compat) {
          const steps = nonZero.length;
          return {
            ...{ layer, shape, samples, neurons, bits, unit },
            rate: ratio(total(nonZero), entries * steps),
            value: ratio(total(sum), entries * steps),
            perStep: Array.from(nonZero, (n) => ratio(n, entries)),
            valuePerStep: Array.from(sum, (n) => ratio(n, entries)),
          };
        }
        if (batches < 2)
          throw new SpikeloomError(`firing rates: compat "${compat}" divides by the number of batches less one, so it needs two or more`);
        const perStep = Array.from(rates.slice(0, 4), (r) => r / (batches - 1));
        const valuePerStep = Array.from(values.slice(0, 4), (v) => v / (batches - 1));
        const mean = (list: readonly number[]) => total(list) / list.length;
        return { layer, shape, samples, neurons, bits, unit, rate: mean(perStep), value: mean(valuePerStep), perStep, valuePerStep };
      },
    );
  }
}

/** A listener that gives a meter what neurons emit. */
export function meterNeurons(meter: FiringMeter): Listener {
  let calls = new Map<string, number>();
  // A network of stateless neurons may have no time steps at all: its first convolution then takes [B, ...].
  let still: boolean | undefined;
  return {
    module(name, m, input, output) {
      if ((m instanceof Conv2d || m instanceof Conv1d) && input instanceof Tensor) still ??= input.rank === (m instanceof Conv2d ? 4 : 3);
      if (m instanceof Neuron && !(m instanceof Quant)) still = false;
      if (!makesSpikes(m, input, output)) return;
      const call = calls.get(name) ?? 0;
      calls.set(name, call + 1);
      meter.add(name, output, `${name} ${call}`, still && m instanceof Quant);
    },
    batch() {
      still = undefined;
      calls = new Map();
    },
  };
}

/**
 * Run `model` in eval mode and measure every module that makes spikes.
 * @param inputs what the model's forward takes: one batch, or several, whose samples all count the same
 */
export async function firingRates(model: Module, inputs: Inputs, options: FiringOptions = {}): Promise<FiringRate[]> {
  const meter = new FiringMeter(options);
  await walk(model, inputs, meterNeurons(meter));
  return meter.rates(options);
}
