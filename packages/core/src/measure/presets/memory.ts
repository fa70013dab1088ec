/**
 * An estimate with memory: what is computed and what is moved, at stated precisions, against an ANN whose activations have as many
 * levels as T steps of spikes can tell apart (the comparison of Yan, Bai and Wong 2024, arXiv 2409.08290). It also says below which
 * firing rate the spiking network would win.
 */
import type { LayerOperations, Operations } from "../operations.ts";
import { digits, type EnergyPreset, isOnce, type Priced, written } from "./preset.ts";

/** Horowitz 2014, 45 nm: 20 pJ for 64 bit from a 32 KiB memory; 8-bit multiplication; 32-bit integer addition. */
const BYTE = 20 / 8;
const MULTIPLY_8 = 0.2;
const ADD_32 = 0.1;
/** Bytes of a weight, of an image's value, and of a membrane or an accumulator. */
const WEIGHT = 1;
const PIXEL = 1;
const MEMBRANE = 4;

/** Bits of a number from 0 to n. */
const bitsFor = (n: number) => 32 - Math.clz32(n);

/** Picojoules of a layer: what each unit of firing costs, and what it costs when nothing fires. */
function spiking(l: LayerOperations, once: boolean): { perOperation: number; operations: number; fixed: number } {
  // A membrane is read and written at each step, and its spike written.
  const neurons = l.timeSteps * l.outputs * (2 * MEMBRANE + bitsFor(l.levels) / 8) * BYTE;
  if (l.spikes)
    return {
      perOperation: ADD_32 + WEIGHT * BYTE,
      operations: l.synOps,
      fixed: neurons + ((l.timeSteps * l.inputs * bitsFor(l.levels)) / 8) * BYTE,
    };
  const steps = once ? 1 : l.timeSteps;
  return { perOperation: 0, operations: 0, fixed: neurons + steps * l.denseOps * (MULTIPLY_8 + ADD_32 + (WEIGHT + PIXEL) * BYTE) };
}

/** Activations between layers have `bits`; a multiplication's energy goes with them. */
function quantised(l: LayerOperations, bits: number): number {
  const input = l.first && !l.spikes ? 8 : bits;
  return l.denseOps * ((MULTIPLY_8 * input) / 8 + ADD_32 + (WEIGHT + input / 8) * BYTE) + ((l.outputs * bits) / 8) * BYTE;
}

/** Bits that tell apart all sums of T integers from 0 to D. */
const matched = (l: LayerOperations, T: number) => bitsFor(T * l.levels);

export const memory: EnergyPreset = {
  name: "memory",
  title: "with memory traffic, 8-bit weights; against a quantised ANN of as many levels as T steps can tell",
  source: "costs of Horowitz 2014; the comparison of Yan, Bai and Wong 2024, arXiv 2409.08290; no reuse of weights: a bound, not a chip",
  costs: {
    name: "45 nm: 0.2 pJ an 8-bit multiplication, 0.1 pJ a 32-bit addition, 2.5 pJ a byte of on-chip memory (Horowitz 2014)",
    mac: 0.3,
    ac: 0.1,
  },
  rule: ({ firstLayer }, net) =>
    `bytes moved x ${BYTE} pJ + operations (MAC ${digits(MULTIPLY_8 + ADD_32)} pJ, AC ${ADD_32} pJ); spiking: one ${WEIGHT}-byte weight read a synaptic operation, input spikes read as bits at every step, a ${MEMBRANE}-byte membrane read and written and a spike written for each output at every step; first layer dense ${firstLayer === "once" ? "once" : "at every step"}; as ANN: weight and activation of log2(T x D + 1) bits, rounded up, read a MAC, outputs written once; ${written(net)}; an estimate`,
  layer(l, convention, net): Priced {
    const once = isOnce(l, convention);
    const { perOperation, operations, fixed } = spiking(l, once);
    const bits = matched(l, net.timeSteps);
    return {
      macs: l.spikes ? 0 : l.denseOps * (once ? 1 : l.timeSteps),
      acs: l.spikes ? operations : 0,
      energy: perOperation * operations + fixed,
      annEnergy: quantised(l, bits),
      rule: l.spikes ? `AC, weights and membranes moved; ANN ${bits} bit` : "MAC, weights, image and membranes moved",
    };
  },
  notes(net, _priced, convention) {
    const { rate, breakEven } = breakEvenRate(net, convention.firstLayer);
    const percent = (r: number) => `${digits(100 * r)} %`;
    return [
      breakEven > 0
        ? `break-even: at a mean input rate of ${percent(breakEven)} (weighted by operations; here ${percent(rate)}) this network and its bit-matched quantised ANN need the same; below it the spiking network needs less`
        : "break-even: even without any spike the membranes alone need more than the bit-matched quantised ANN",
    ];
  },
};

/**
 * The firing rate (spikes over T x D, mean over layer inputs weighted by their operations) at which the memory estimate of the spiking
 * network equals that of the bit-matched quantised ANN, and the rate there is. Below 0: no rate is low enough.
 */
export function breakEvenRate({ layers, timeSteps }: Operations, firstLayer: "T" | "once" = "T"): { rate: number; breakEven: number } {
  let ann = 0;
  let fixed = 0;
  let done = 0;
  let possible = 0;
  for (const l of layers) {
    const cost = spiking(l, firstLayer === "once" && l.still);
    ann += quantised(l, matched(l, timeSteps));
    fixed += cost.fixed;
    if (!l.spikes) continue;
    done += l.synOps;
    possible += l.boundedOps * l.timeSteps * l.levels;
  }
  const rate = possible ? done / possible : 0;
  // Energy is a straight line over the rate: fixed + rate x slope.
  const slope = possible * (ADD_32 + WEIGHT * BYTE);
  return { rate, breakEven: possible ? (ann - fixed) / slope : Number.NaN };
}
