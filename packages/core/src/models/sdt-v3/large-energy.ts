/** The energy table of the large family: the rule of energy.ts over its layers. Of the auto-encoder it is that of its encoder. */
import type { EnergyTable, EnergyTableRow } from "../../measure/presets/table.ts";
import type { EnergyInput } from "../system.ts";
import { adds, multiplies, tableOf } from "./energy.ts";
import type { LargeConfig, MaeConfig } from "./large-configs.ts";

/**
 * The table of a configuration for an input of that size. The second convolution of each chain, and the first head as published, are given
 * real numbers: they multiply.
 */
export function largeEnergyTable(config: LargeConfig | MaeConfig, { timeSteps, height, width }: EnergyInput): EnergyTable {
  const { inChannels, embedDims, strides, depths, numHeads, mlpRatio, choice, levels } = config;
  const [e0, e1, e2] = embedDims;
  const rows: EnergyTableRow[] = [];
  let [h, w] = [height, width];
  const down = (stride: number) => {
    [h, w] = [Math.floor((h - 1) / stride) + 1, Math.floor((w - 1) / stride) + 1];
  };
  const conv = (part: string, cin: number, cout: number) => rows.push(adds(part, "3 x 3", 9 * h * w * cin * cout));
  const convBlock = (path: string, dim: number) => {
    const hidden = Math.floor(dim * mlpRatio);
    conv(`${path}.conv1.0.0`, dim, hidden);
    conv(`${path}.conv2.0.0`, hidden, dim);
  };
  down(strides[0]);
  rows.push(multiplies("downsample1_1.encode_conv", "7 x 7", (49 * h * w * inChannels * e0) / 2));
  convBlock("ConvBlock1_1.0", e0 / 2);
  down(strides[1]);
  conv("downsample1_2.encode_conv", e0 / 2, e0);
  convBlock("ConvBlock1_2.0", e0);
  down(strides[2]);
  conv("downsample2.encode_conv", e0, e1);
  convBlock("ConvBlock2_1.0", e1);
  convBlock("ConvBlock2_2.0", e1);
  down(strides[3]);
  conv("downsample3.encode_conv", e1, e2);
  const tokens = h * w;
  const chain = (path: string, hidden: number) => {
    rows.push(adds(`${path}.conv1.0`, "1 x 1", tokens * e2 * hidden));
    rows.push(multiplies(`${path}.conv2.0`, "1 x 1", tokens * hidden * e2));
  };
  const [wide, hidden] = [Math.floor(1.5 * e2), Math.floor(mlpRatio * e2)];
  for (let i = 0; i < depths; i++) {
    const path = `block3.${i}`;
    if (choice === "base") chain(`${path}.rep_conv`, e2);
    for (const name of ["q", "k", "v"]) chain(`${path}.attn.${name}_conv.0`, wide);
    const product = (tokens * e2 * e2) / numHeads;
    rows.push(adds(`${path}.attn k^T v`, "N C^2 / h", product, `${path}.attn.k_lif`));
    rows.push(adds(`${path}.attn q (k^T v)`, "N C^2 / h", product, `${path}.attn.q_lif`));
    chain(`${path}.attn.proj_conv.0`, wide);
    rows.push(adds(`${path}.mlp.fc1_conv`, "1 x 1", tokens * e2 * hidden));
    rows.push(adds(`${path}.mlp.fc2_conv`, "1 x 1", tokens * hidden * e2));
  }
  if (config.family === "large") {
    const ops = e2 * config.numClasses;
    rows.push((config.spikeBeforeHead ? adds : multiplies)("head", "linear", ops));
    if (config.kd) rows.push(adds("head_kd", "linear", ops));
  }
  return tableOf(rows, timeSteps, levels);
}
