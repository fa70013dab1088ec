/** The integer neurons of Spike-driven Transformer V3: what a place in the network is given, so that one block serves every family. */
import type { Module } from "../../nn/module.ts";
import { ILIF, Quant } from "../../spiking/neurons.ts";
import { window } from "../../spiking/surrogate.ts";
import { reshape } from "../../tensor/ops/layout.ts";
import type { Tensor } from "../../tensor/tensor.ts";

/** A neuron for one place: `norm` is what the integer is divided by there (default: what the family divides by). */
export type MakeNeuron = (norm?: number) => Module;

/** Base family: ties to even, gradient on [0, D], no state. */
export const evenNeuron =
  (levels: number): MakeNeuron =>
  (norm = levels) =>
    new Quant({ levels, norm, rounding: "even" });

/** Large family: ties up, gradient on (0, D), no state. */
export const upNeuron =
  (levels: number): MakeNeuron =>
  (norm = levels) =>
    new Quant({ levels, norm, rounding: "up" });

/** What the membrane of a DVS neuron outlives: nothing, one forward (official: until `snn.reset`), or one frame (not official). */
export type MembraneState = "none" | "calls" | "frames";

/** The integrating neuron of the DVS models whose membrane goes on from one forward to the next; all frames are one step of it. */
class BetweenCalls extends ILIF {
  override forward(x: Tensor): Tensor {
    return reshape(super.forward(reshape(x, [1, ...x.shape])), x.shape);
  }
}

/**
 * DVS family (`Q_IFNode`): v + x is rounded (ties to even) and clipped to 0..D, and what was emitted is taken off; gradient on [0, D], also
 * through what is taken off. From rest, and for one step, that is the base family's neuron.
 */
export const integratingNeuron =
  (levels: number, divisor: number, state: MembraneState): MakeNeuron =>
  (norm = divisor) => {
    if (state === "none") return evenNeuron(levels)(norm);
    const rule = { levels, norm, beta: 1, detachReset: false, surrogate: window({ lo: 0, hi: levels }) };
    return state === "frames" ? new ILIF(rule) : new BetweenCalls({ ...rule, carry: true });
  };
