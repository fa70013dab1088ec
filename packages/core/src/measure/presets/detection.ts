/** Conventions of the spiking detectors EMS-YOLO and SpikeYOLO, as far as they speak of any network. */
import type { Operations } from "../operations.ts";
import { type Convention, type EnergyPreset, isOnce, pj, price, written } from "./preset.ts";

export const emsYolo: EnergyPreset = {
  name: "ems-yolo",
  title: "EMS-YOLO: T x (firing rate x AC + MAC), MAC for every layer whose input is not binary",
  source: "Su et al. 2023, Deep Directly-Trained Spiking Neural Networks for Object Detection, equation 6 (repository BICLab/EMS-YOLO)",
  settings: { macs: ["strict", "first"], rate: ["layer", "network"] },
  rule: ({ costs, settings }, net) =>
    `E = T x (fr x ${pj(costs).ac} x OP_AC + ${pj(costs).mac} x OP_MAC); OP_MAC are the dense operations of ${
      settings.macs === "first"
        ? "the first layer, once; other layers with real inputs are left out"
        : "every layer whose input is not spikes, at every step"
    }; OP_AC those of the layers fed with spikes; fr is the mean spike of ${
      settings.rate === "network" ? `the network's layer inputs, weighted by their size (${rateOf(net).toFixed(4)})` : "each layer's input"
    }; borders ignored; ${written(net)}; an estimate`,
  layer(l, convention, net) {
    const { settings } = convention;
    if (!l.spikes) {
      if (settings.macs === "first") return l.first ? price(l, convention, l.denseOps, 0, "MAC: first layer, once") : undefined;
      const steps = isOnce(l, convention) ? 1 : l.timeSteps;
      return price(l, convention, l.denseOps * steps, 0, `MAC: real input x ${steps === 1 ? "1" : `T (${steps})`}`);
    }
    const fr = settings.rate === "network" ? rateOf(net) : l.value;
    return price(l, convention, 0, l.timeSteps * fr * l.denseOps, `AC: fr x T (${l.timeSteps}) x OP`);
  },
};

/** One firing rate for a network: spikes over the entries of all spiking inputs. */
function rateOf({ layers }: Operations): number {
  const spiking = layers.filter((l) => l.spikes);
  const entries = spiking.reduce((n, l) => n + l.inputs * l.timeSteps, 0);
  return entries ? spiking.reduce((n, l) => n + l.value * l.inputs * l.timeSteps, 0) / entries : 0;
}

export const spikeYolo: EnergyPreset = {
  name: "spike-yolo",
  title: "SpikeYOLO: mean integer (rate x D) x T x dense operations as AC, the stem as MAC",
  source: "Luo et al. 2024, arXiv 2407.20708, the sheet power_cal.xlsx of repository BICLab/SpikeYOLO without its two slips of shape",
  settings: { stem: ["mac", "sheet"] },
  rule: ({ costs, settings, firstLayer }, net) =>
    `a layer fed with spikes: ${pj(costs).ac} x T x n x OP, n the mean integer of its input (firing rate x D: D is inside n, T is not); a layer with real inputs: ${stemCost({ costs, settings } as Convention)} pJ x ${firstLayer === "once" ? "OP, the first layer once" : "T x OP"}${
      settings.stem === "sheet" ? " (the sheet writes 4.6 where the rate stands)" : ""
    }; OP are dense operations, borders ignored; batch norm, pools, additions not counted; ${written(net)}; an estimate`,
  layer(l, convention) {
    if (l.spikes)
      return price(
        l,
        convention,
        0,
        l.timeSteps * l.value * l.denseOps,
        `AC: n ${l.value.toFixed(4)} (D = ${l.levels}) x T (${l.timeSteps}) x OP`,
      );
    const steps = isOnce(l, convention) ? 1 : l.timeSteps;
    const priced = price(l, convention, l.denseOps * steps, 0, `MAC: real input x ${steps === 1 ? "1" : `T (${steps})`}`);
    return { ...priced, energy: priced.macs * stemCost(convention) };
  },
};

/** The published sheet multiplies the stem by E_AC and 4.6; the published total has it at E_MAC. */
function stemCost({ costs, settings }: Convention): number {
  return settings.stem === "sheet" ? Number((4.6 * costs.ac).toPrecision(12)) : costs.mac;
}
