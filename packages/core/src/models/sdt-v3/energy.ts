/**
 * The energy rule of the V3 figures (Yao et al. 2025, arXiv 2411.16061; 45 nm), as far as it is known: the official code has none, so the rule is
 * written out with every report. The first convolution multiplies; every other weight layer and attention product adds, once for each unit of an
 * integer that enters it: T x D x R of its dense operations, R = mean integer / D.
 */
import type { EnergyTable, EnergyTableRow } from "../../measure/presets/table.ts";
import type { EnergyInput } from "../system.ts";
import type { SDT3Config } from "./configs.ts";

const halved = (size: number) => Math.floor((size - 1) / 2) + 1;

/** A layer or product that adds, at the mean integer of what enters it: a weight layer's own input, or what a neuron gave. */
export function adds(part: string, what: string, ops: number, neuron?: string): EnergyTableRow {
  return {
    ...{ part, what, ops, operation: "ac" },
    rate: { ...(neuron === undefined ? { inputs: [part] } : { neurons: [neuron] }), combine: "mean" },
  };
}

/** The first convolution's row: real numbers go in. */
export function multiplies(part: string, what: string, ops: number): EnergyTableRow {
  return { part, what, ops, operation: "mac" };
}

/** Rows and rule as one table. */
export function tableOf(rows: readonly EnergyTableRow[], timeSteps: number, levels: number): EnergyTable {
  return {
    ...{ timeSteps, levels, rows },
    rule: "E = E_MAC x T x MAC(layers that real numbers enter) + E_AC x T x D x sum of R x MAC over the other weight layers and the attention products; MAC of one dense pass, borders ignored; R = mean integer of what enters / D (q of q k', v of (q k') v; k and q where the product is linear); batch norm folded away; biases, shortcuts, scales, neurons not counted; the figure's rule was never published",
  };
}

/** The table of a configuration of the base or the DVS family for an input of that size. */
export function energyTable(config: SDT3Config, { timeSteps, height, width }: EnergyInput): EnergyTable {
  const { inChannels, embedDims, blocks, mlpRatio, numClasses, levels } = config;
  const [e0, e1, e2, e3] = embedDims;
  const rows: EnergyTableRow[] = [];
  let [h, w] = [height, width];
  const conv = (part: string, cin: number, cout: number, k: number, groups = 1) =>
    rows.push(adds(part, `${k} x ${k}${groups > 1 ? " depthwise" : ""}`, (k * k * h * w * cin * cout) / groups));
  const sepConv = (path: string, dim: number, k: number) => {
    conv(`${path}.pwconv1.0`, dim, 2 * dim, 1);
    conv(`${path}.dwconv.0`, 2 * dim, 2 * dim, k, 2 * dim);
    conv(`${path}.pwconv2.0`, 2 * dim, dim, 1);
  };
  const down = (path: string, cin: number, cout: number, halves = true) => {
    if (halves) [h, w] = [halved(h), halved(w)];
    conv(`${path}.encode_conv`, cin, cout, 3);
  };
  const convBlock = (path: string, dim: number) => {
    sepConv(`${path}.Conv`, dim, 7);
    conv(`${path}.conv1`, dim, Math.floor(dim * mlpRatio), 3);
    conv(`${path}.conv2`, Math.floor(dim * mlpRatio), dim, 3);
  };
  const block = (path: string, dim: number) => {
    sepConv(`${path}.conv`, dim, 3);
    const attn = `${path}.attn`;
    for (const [name, wide] of [
      ["q", 1],
      ["k", 1],
      ["v", 4],
    ] as const)
      conv(`${attn}.${name}_conv.0`, dim, wide * dim, 1);
    const tokens = h * w;
    rows.push(adds(`${attn} q k^T`, "N^2 C", tokens * tokens * dim, `${attn}.q_spike`));
    rows.push(adds(`${attn} (q k^T) v`, "4 N^2 C", 4 * tokens * tokens * dim, `${attn}.v_spike`));
    conv(`${attn}.proj_conv.0`, 4 * dim, dim, 1);
    const hidden = Math.floor(dim * mlpRatio);
    conv(`${path}.mlp.fc1_conv`, dim, hidden, 1);
    conv(`${path}.mlp.fc2_conv`, hidden, dim, 1);
  };
  [h, w] = [halved(h), halved(w)];
  rows.push(multiplies("downsample1_1.encode_conv", "7 x 7", (49 * h * w * inChannels * e0) / 2));
  convBlock("ConvBlock1_1.0", e0 / 2);
  down("downsample1_2", e0 / 2, e0);
  convBlock("ConvBlock1_2.0", e0);
  down("downsample2", e0, e1);
  convBlock("ConvBlock2_1.0", e1);
  convBlock("ConvBlock2_2.0", e1);
  down("downsample3", e1, e2);
  for (let i = 0; i < blocks[0]; i++) block(`block3.${i}`, e2);
  down("downsample4", e2, e3, false);
  for (let i = 0; i < blocks[1]; i++) block(`block4.${i}`, e3);
  rows.push(adds("head", "linear", e3 * numClasses));
  return tableOf(rows, timeSteps, levels);
}
