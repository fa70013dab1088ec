/** What a network takes in memory, and how much of it is zero. */
import type { Module } from "../nn/module.ts";
import type { FiringRate } from "./firing.ts";
import type { Operations } from "./operations.ts";

export interface Footprint {
  /** Bytes of the parameters as float32. */
  parameters: number;
  /** Bytes of the saved buffers: running statistics as float32, counters as int64. */
  buffers: number;
  /** Bytes of all spikes of one sample over T steps, as bits. */
  spikes: number;
  /** The same as one float32 a spike. */
  spikesAsFloats: number;
}

/** Bytes of weights, and of the spikes that one sample leaves between the layers. */
export function footprint(model: Module, rates: readonly FiringRate[]): Footprint {
  const parameters = 4 * model.parameterCount();
  let saved = 0;
  for (const [key, shape] of model.stateShapes()) saved += shape.reduce((a, b) => a * b, 1) * (key.endsWith("num_batches_tracked") ? 8 : 4);
  let spikes = 0;
  let spikesAsFloats = 0;
  for (const { perStep, neurons, bits } of rates) {
    spikes += perStep.length * Math.ceil((neurons * bits) / 8);
    spikesAsFloats += 4 * perStep.length * neurons;
  }
  return { parameters, buffers: saved - parameters, spikes, spikesAsFloats };
}

export interface Sparsity {
  /** Fraction of neuron-steps without a spike. */
  activations: number;
  /** Fraction of the weights of convolutions and linear layers that are zero. */
  weights: number;
}

export function sparsity({ layers }: Operations, rates: readonly FiringRate[]): Sparsity {
  const whole = rates.reduce((n, r) => n + r.neurons * r.perStep.length, 0);
  const fired = rates.reduce((n, r) => n + r.rate * r.neurons * r.perStep.length, 0);
  const weights = layers.reduce((n, l) => n + l.weights, 0);
  const zeros = layers.reduce((n, l) => n + l.zeroWeights, 0);
  return { activations: whole ? 1 - fired / whole : 0, weights: weights ? zeros / weights : 0 };
}
