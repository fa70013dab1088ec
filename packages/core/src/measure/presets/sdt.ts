/**
 * The convention of the Spike-driven Transformer papers (Yao et al. 2023, arXiv 2307.01694, and its successors): operations by
 * formula, borders ignored, times T and the firing rate of the layer's input. A model may bring the paper's own table.
 */
import { type EnergyPreset, isOnce, pj, price, written } from "./preset.ts";

export const sdt: EnergyPreset = {
  name: "sdt",
  title: "Spike-driven Transformer papers: first layer MAC, others AC x T x firing rate, by formula",
  source:
    "Yao et al. 2023, arXiv 2307.01694, and Yao et al. 2023, Attention Spiking Neural Networks; the authors' sheet is not published, rows as the literature cites them",
  tabled: true,
  settings: {
    qkvRate: ["paper", "input"],
    spsRate: ["prePool", "actual"],
    kvRate: ["q+k", "k+v"],
  },
  rule: ({ costs, firstLayer }, net) =>
    `E = ${pj(costs).mac} x ${firstLayer === "once" ? "1" : `T`} x FL(first layer) + ${pj(costs).ac} x T x sum of R x FL over the other layers; FL(conv) = k^2 h w cin cout / groups with borders ignored, FL(linear) = in x out; R the fraction of the layer's input that is not zero; the classifier, batch norm, neurons, pools, shortcuts not counted; ${written(net)}; an estimate`,
  layer(l, convention) {
    if (l.last && l.type === "Linear") return undefined;
    if (l.first) {
      const once = isOnce(l, convention);
      // R = 1 for a still image; frames of events are mostly zero.
      const rate = l.still ? 1 : l.nonZero;
      return price(
        l,
        convention,
        l.denseOps * rate * (once ? 1 : l.timeSteps),
        0,
        `MAC: ${l.still ? "" : "R x "}FL x ${once ? "1" : `T (${l.timeSteps})`}`,
      );
    }
    return price(l, convention, 0, l.timeSteps * l.nonZero * l.denseOps, `AC: R x T (${l.timeSteps}) x FL`);
  },
};

/** The same for Spike-driven Transformer V2, whose table has choices of its own. */
export const sdtV2: EnergyPreset = {
  ...sdt,
  name: "sdt-v2",
  title: "Spike-driven Transformer V2: as sdt, with RepConv merged or as written",
  source:
    "the convention of Yao et al. 2023, arXiv 2307.01694, on the network of Yao et al. 2024, arXiv 2404.03663; the authors' table is not published",
  settings: {
    repConv: ["fused", "unfused"],
    pwconv2: ["ac", "mac"],
  },
};
