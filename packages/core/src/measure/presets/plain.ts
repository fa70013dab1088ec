/** The plain rule: what the network really adds and multiplies, counted spike by spike. */
import { type EnergyPreset, isOnce, pj, price, written } from "./preset.ts";

export const plain: EnergyPreset = {
  name: "plain",
  title: "every synaptic operation counted exactly: AC where spikes come in, MAC elsewhere",
  source: "the count itself; costs of Horowitz 2014, which the spike-driven papers use",
  rule: ({ costs, firstLayer }, net) =>
    `a layer fed with spikes counts one AC (${pj(costs).ac}) a spike and synapse reached over all T steps, exact at borders, strides and groups; any other layer counts its dense MACs (${pj(costs).mac}) at every step${firstLayer === "once" ? ", the first layer of a still image once" : ""}; batch norm folded; neurons, pools, masks, shortcuts and memory not counted; ${written(net)}; an estimate`,
  layer(l, convention) {
    if (l.spikes) return price(l, convention, 0, l.synOps, "AC: spikes in");
    const once = isOnce(l, convention);
    return price(l, convention, l.denseOps * (once ? 1 : l.timeSteps), 0, `MAC: float in, ${once ? "once" : "every step"}`);
  },
};
