/** The two conventions of E-3DSNN (repository bollossom/E-3DSNN): of its paper, and of the script that gave its published numbers. */
import { type EnergyPreset, isOnce, pj, price, written } from "./preset.ts";

export const e3dsnn: EnergyPreset = {
  name: "e-3dsnn",
  title: "E-3DSNN: AC x T x D x firing rate over pairs of input and output position, real inputs as MAC",
  source: "Qiu et al. 2025, Efficient 3D Recognition with Event-driven Spike Sparse Convolution (repository bollossom/E-3DSNN)",
  rule: ({ costs, firstLayer }, net) =>
    `a layer fed with spikes: ${pj(costs).ac} x T x D x fr x pairs x cin x cout, counted spike by spike (fr = mean integer / D over the pairs of input and output position inside the borders); a layer with real inputs: ${pj(costs).mac} x pairs x cin x cout ${firstLayer === "once" ? "x T, the first layer once" : "x T"}; ${written(net)}; an estimate`,
  layer(l, convention) {
    if (l.spikes) return price(l, convention, 0, l.synOps, `AC: T (${l.timeSteps}) x D (${l.levels}) x fr x pairs`);
    const steps = isOnce(l, convention) ? 1 : l.timeSteps;
    return price(l, convention, l.boundedOps * steps, 0, `MAC: pairs x ${steps === 1 ? "1" : `T (${steps})`}`);
  },
};

export const e3dsnnScript: EnergyPreset = {
  name: "e-3dsnn-script",
  title: "E-3DSNN's script: 2 x pairs x cin x cout - outputs FLOPs at 4.6 pJ, no firing rate, T left out",
  source: "energy_calculate.py of repository bollossom/E-3DSNN, which in its own network counts the stem's convolutions only",
  rule: ({ costs }, net) =>
    `E = ${pj(costs).mac} x FLOPs, FLOPs of a layer = 2 x pairs x cin x cout - outputs, inside the borders; neither firing rate nor T nor D enters (${written(net)}); an estimate`,
  layer(l, { costs }) {
    const flops = 2 * l.boundedOps - l.outputs;
    // Without a rate an ANN of this shape gives the same figure.
    return { macs: flops, acs: 0, energy: flops * costs.mac, annEnergy: flops * costs.mac, rule: "FLOPs: 2 x pairs - outputs" };
  },
};
