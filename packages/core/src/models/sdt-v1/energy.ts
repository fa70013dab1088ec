/**
 * The energy table of the paper (Yao et al. 2023, arXiv 2307.01694, table 1 as the literature cites it): operations by formula, borders
 * ignored, each part times T and a firing rate. Which of the network's values supplies which rate was never published: the open
 * choices are settings.
 */
import type { EnergyTable, EnergyTableRow } from "../../measure/presets/table.ts";
import type { EnergyInput } from "../system.ts";
import type { SDTConfig } from "./configs.ts";

/** First values are the defaults. */
export interface SDTEnergySettings {
  /** The first convolution of a still image sees the same at every step. */
  firstLayer?: "T" | "once";
  /** Rate of the q, k and v convolutions: the mean rate of q, k and v (as the paper has it), or of the spikes that they are given. */
  qkvRate?: "paper" | "input";
  /** Rate of the stem's convolutions: of the neurons before the pool, or of the pooled (denser) spikes that they are given. */
  spsRate?: "prePool" | "actual";
  /** Rate of mask-and-add, a sum of two: of q and k as the paper's letters say, or of k and v, which the code multiplies. */
  kvRate?: "q+k" | "k+v";
}

const half = (size: number) => Math.floor((size - 1) / 2) + 1;

/** The table of a configuration for an input of that size. */
export function energyTable(
  config: SDTConfig,
  { timeSteps, height, width, events = false }: EnergyInput,
  settings: SDTEnergySettings = {},
): EnergyTable {
  const { firstLayer = "T", qkvRate = "paper", spsRate = "prePool", kvRate = "q+k" } = settings;
  const { inChannels, embedDims: D, depths, mlpRatio, pooling } = config;
  const rows: EnergyTableRow[] = [];
  let [h, w] = [height, width];
  const conv = (cin: number, cout: number) => 9 * h * w * cin * cout;
  const channels = [inChannels, D / 8, D / 4, D / 2, D] as const;
  for (let i = 0; i < 4; i++) {
    const ops = conv(channels[i] as number, channels[i + 1] as number);
    const rate = spsRate === "actual" ? { inputs: [`patch_embed.proj_conv${i}`] } : { taps: [`MS_SPS_lif${i > 1 ? i - 1 : ""}`] };
    rows.push(
      i === 0
        ? {
            ...{ part: "sps.conv0", what: "3 x 3", ops, operation: "mac", once: firstLayer === "once" && !events },
            // R = 1 for a still image.
            ...(events ? { rate: { inputs: ["patch_embed.proj_conv"], combine: "mean" } } : {}),
          }
        : { part: `sps.conv${i}`, what: "3 x 3", ops, operation: "ac", rate: { ...rate, combine: "mean" } },
    );
    if (pooling[i] === "1") [h, w] = [half(h), half(w)];
  }
  const N = h * w;
  const ac = (part: string, what: string, ops: number, taps: string[], combine: "mean" | "sum" = "mean"): EnergyTableRow => ({
    ...{ part, what, ops, operation: "ac", rate: { taps, combine } },
  });
  rows.push(ac("sps.rpe", "3 x 3", conv(D, D), ["MS_SPS_lif3"]));
  const hidden = Math.floor(D * mlpRatio);
  for (let j = 0; j < depths; j++) {
    const [attn, mlp] = [`MS_SSA_Conv${j}`, `MS_MLP_Conv${j}`];
    const qkv = qkvRate === "paper" ? [`${attn}_q_lif`, `${attn}_k_lif`, `${attn}_v_lif`] : [`${attn}_first_lif`];
    const pair = kvRate === "q+k" ? [`${attn}_q_lif`, `${attn}_k_lif`] : [`${attn}_k_lif`, `${attn}_v_lif`];
    rows.push(
      ac(`block${j}.qkv`, "3 N D^2", 3 * N * D * D, qkv),
      { ...ac(`block${j}.sdsa`, "f(Q, K, V): N D", N * D, pair, "sum"), annOps: 2 * N * N * D },
      ac(`block${j}.linear`, "N D^2", N * D * D, [`${attn}_x_after_qkv`]),
      ac(`block${j}.mlp1`, "N D hidden", N * D * hidden, [`${mlp}_fc1_lif`]),
      ac(`block${j}.mlp2`, "N hidden D", N * hidden * D, [`${mlp}_fc2_lif`]),
    );
  }
  return {
    timeSteps,
    rows,
    rule: `E = E_MAC x ${firstLayer === "once" ? "1" : "T"} ${events ? "x R " : ""}x FL(first convolution) + E_AC x T x sum of R x FL; FL(conv) = 9 h w cin cout at the convolution's own size, borders ignored; R of the stem ${
      spsRate === "actual" ? "that of the pooled spikes which the convolution is given" : "that of the neurons before the pool"
    }; R of q, k, v ${qkvRate === "paper" ? "the mean of their own" : "that of their input"}; f(Q, K, V) = N D at the sum of the rates of ${
      kvRate === "q+k" ? "q and k" : "k and v"
    }, as ANN 2 N^2 D (scale and softmax left out); the head, batch norm, neurons, pools, shortcuts not counted`,
  };
}
