/**
 * The definitions of NeuroBench (Yik et al. 2025, "The neurobench framework for benchmarking neuromorphic computing algorithms and
 * systems"; repository NeuroBench/neurobench), as far as they can be read off a network: counts, no energy.
 */
import type { Footprint, Sparsity } from "./footprint.ts";
import type { Operations } from "./operations.ts";

export interface NeuroBench {
  /** Bytes of parameters and buffers. */
  footprint: number;
  connectionSparsity: number;
  activationSparsity: number;
  /** Of one sample over all steps. */
  synapticOperations: { effectiveMacs: number; effectiveAcs: number; dense: number };
  /** The same of each layer. */
  layers: { layer: string; effectiveMacs: number; effectiveAcs: number; dense: number }[];
  /** What each name means. */
  rules: Readonly<Record<"footprint" | "connectionSparsity" | "activationSparsity" | "effectiveMacs" | "effectiveAcs" | "dense", string>>;
}

const RULES: NeuroBench["rules"] = {
  footprint: "bytes of all parameters and buffers",
  connectionSparsity: "zero weights over all weights of convolutions and linear layers",
  activationSparsity: "zero outputs over all outputs of the neurons, over all layers, steps and samples",
  effectiveMacs: "operations with neither activation nor weight zero, in layers whose input holds other values than -1, 0 and 1",
  effectiveAcs: "the same in layers whose input holds only -1, 0 and 1",
  dense: "all operations inside the borders, zeros included, at every step",
};

/** Counts by NeuroBench's definitions. */
export function neurobench({ layers }: Operations, memory: Footprint, zeros: Sparsity): NeuroBench {
  const rows = layers.map(({ layer, ternary, effectiveOps, boundedOps, timeSteps }) => ({
    layer,
    effectiveMacs: ternary ? 0 : effectiveOps,
    effectiveAcs: ternary ? effectiveOps : 0,
    dense: boundedOps * timeSteps,
  }));
  const sum = (key: "effectiveMacs" | "effectiveAcs" | "dense") => rows.reduce((n, l) => n + l[key], 0);
  return {
    footprint: memory.parameters + memory.buffers,
    connectionSparsity: zeros.weights,
    activationSparsity: zeros.activations,
    synapticOperations: { effectiveMacs: sum("effectiveMacs"), effectiveAcs: sum("effectiveAcs"), dense: sum("dense") },
    layers: rows,
    rules: RULES,
  };
}
