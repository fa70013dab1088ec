/**
 * The energy table of Spike-driven Transformer V2, by the convention of V1 (the authors' own table is not published): operations by
 * formula, borders ignored, each part times T and the firing rate of the spikes that it is given.
 */
import type { EnergyTable, EnergyTableRow } from "../../measure/presets/table.ts";
import type { EnergyInput } from "../system.ts";
import type { SDTV2Config } from "./configs.ts";

/** First values are the defaults. */
export interface SDTV2EnergySettings {
  /** The first convolution of a still image sees the same at every step. */
  firstLayer?: "T" | "once";
  /** RepConv as one 3 x 3 convolution, its form in inference, or as written: 1 x 1, depthwise 3 x 3, 1 x 1. */
  repConv?: "fused" | "unfused";
  /** The last convolution of SepConv, which is given no spikes: an addition, as if merged with the one before; or a MAC at rate 1. */
  pwconv2?: "ac" | "mac";
}

const half = (size: number) => Math.floor((size - 1) / 2) + 1;

/** The table of a configuration for an input of that size. */
export function energyTable(
  config: SDTV2Config,
  { timeSteps, height, width, events = false }: EnergyInput,
  settings: SDTV2EnergySettings = {},
): EnergyTable {
  const { firstLayer = "T", repConv = "fused", pwconv2 = "ac" } = settings;
  const { inChannels, numHeads, depths } = config;
  const [e1, e2, e3, e4] = config.embedDims as [number, number, number, number];
  const rows: EnergyTableRow[] = [];
  let [h, w] = [height, width];
  const halve = () => {
    [h, w] = [half(h), half(w)];
  };
  const ac = (part: string, what: string, ops: number, neurons: string[]): EnergyTableRow => ({
    ...{ part, what, ops, operation: "ac", rate: { neurons, combine: "mean" } },
  });
  const downSample = (name: string, cin: number, cout: number) => {
    rows.push(ac(name, "3 x 3", 9 * h * w * cin * cout, [`${name}.encode_lif`]));
  };
  const convBlock = (name: string, c: number) => {
    const at = `${name}.0`;
    const last: EnergyTableRow = ac(`${at}.pw2`, "1 x 1", h * w * 2 * c * c, [`${at}.Conv.lif2`]);
    rows.push(
      ac(`${at}.pw1`, "1 x 1", h * w * c * 2 * c, [`${at}.Conv.lif1`]),
      ac(`${at}.dw`, "depthwise 7 x 7", 49 * h * w * 2 * c, [`${at}.Conv.lif2`]),
      pwconv2 === "ac" ? last : { part: last.part, what: last.what, ops: last.ops, operation: "mac" },
      ac(`${at}.conv1`, "3 x 3", 9 * h * w * c * 4 * c, [`${at}.lif1`]),
      ac(`${at}.conv2`, "3 x 3", 9 * h * w * 4 * c * c, [`${at}.lif2`]),
    );
  };
  const attentionBlocks = (stage: string, D: number, count: number) => {
    const N = h * w;
    const [rep, form] =
      repConv === "fused"
        ? [9 * N * D * D, "RepConv as 3 x 3: 9 N D^2"]
        : [2 * N * D * D + 9 * N * D, "RepConv as written: 2 N D^2 + 9 N D"];
    for (let j = 0; j < count; j++) {
      const at = `${stage}.${j}`;
      rows.push(
        ac(`${at}.qkv`, `3 ${form}`, 3 * rep, [`${at}.attn.head_lif`]),
        {
          ...ac(`${at}.sdsa3`, "k^T v, q (k^T v): 2 N D^2 / h", (2 * N * D * D) / numHeads, [`${at}.attn.k_lif`, `${at}.attn.q_lif`]),
          annOps: 2 * N * N * D,
        },
        ac(`${at}.proj`, form, rep, [`${at}.attn.attn_lif`]),
        ac(`${at}.mlp1`, "4 N D^2", 4 * N * D * D, [`${at}.mlp.fc1_lif`]),
        ac(`${at}.mlp2`, "4 N D^2", 4 * N * D * D, [`${at}.mlp.fc2_lif`]),
      );
    }
  };

  halve();
  const stem: EnergyTableRow = { part: "downsample1_1", what: "7 x 7", ops: (49 * h * w * inChannels * e1) / 2, operation: "mac" };
  rows.push(
    events ? { ...stem, rate: { inputs: ["downsample1_1.encode_conv"], combine: "mean" } } : { ...stem, once: firstLayer === "once" }, // R = 1 for a still image
  );
  convBlock("ConvBlock1_1", e1 / 2);
  halve();
  downSample("downsample1_2", e1 / 2, e1);
  convBlock("ConvBlock1_2", e1);
  halve();
  downSample("downsample2", e1, e2);
  convBlock("ConvBlock2_1", e2);
  convBlock("ConvBlock2_2", e2);
  halve();
  downSample("downsample3", e2, e3);
  attentionBlocks("block3", e3, depths[0] as number);
  downSample("downsample4", e3, e4);
  attentionBlocks("block4", e4, depths[1] as number);
  const once = firstLayer === "once" && !events;
  return {
    timeSteps,
    rows,
    rule: `E = E_MAC x ${once ? "1" : "T"} ${events ? "x R " : ""}x FL(first convolution) + E_AC x T x sum of R x FL; FL(conv) = k^2 h w cin cout / groups at the output's size, borders ignored; R that of the neuron in front; RepConv ${
      repConv === "fused" ? "as one 3 x 3 convolution" : "as written, all of it at the rate of its input"
    }; SepConv's last convolution ${
      pwconv2 === "ac" ? "AC, as if merged with the depthwise one before" : "MAC: it is given no spikes"
    }; SDSA-3 2 N D^2 / h at the mean of the rates of k and q, as ANN 2 N^2 D; the head, batch norm, neurons, shortcuts not counted`,
  };
}
