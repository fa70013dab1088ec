/**
 * Integer networks as Spike-driven Transformer V3 counts them (Yao et al. 2025, arXiv 2411.16061): what real numbers enter multiplies, all else
 * adds once for every unit of an integer. A model may bring the table of its layers and attention products.
 */
import { type EnergyPreset, isOnce, pj, price, written } from "./preset.ts";

export const sdtV3: EnergyPreset = {
  name: "sdt-v3",
  title: "Spike-driven Transformer V3: real inputs MAC, integers AC x T x D x R, R = mean integer / D",
  source: "Yao et al. 2025, arXiv 2411.16061; the official code has no energy rule, this one follows the papers of the family",
  tabled: true,
  rule: ({ costs, firstLayer }, net) =>
    `E = ${pj(costs).mac} x ${firstLayer === "once" ? "1" : "T"} x MAC(layers that real numbers enter) + ${pj(costs).ac} x T x D x sum of R x MAC over the other weight layers; MAC of one dense pass, borders ignored; R = mean integer of the layer's input / D; batch norm, biases, shortcuts, neurons and products of two activations not counted; ${written(net)}; an estimate`,
  layer(l, convention) {
    if (!l.spikes) {
      const once = isOnce(l, convention);
      return price(l, convention, l.denseOps * (once ? 1 : l.timeSteps), 0, `MAC: MAC x ${once ? "1" : `T (${l.timeSteps})`}`);
    }
    return price(
      l,
      convention,
      0,
      l.timeSteps * l.value * l.denseOps,
      `AC: R (${(l.value / l.levels).toFixed(3)}) x T (${l.timeSteps}) x D (${l.levels}) x MAC`,
    );
  },
};
