/** Spike-driven Transformer V2: the system's entry in the zoo. */
import { blockLayers } from "../layers.ts";
import type { System } from "../system.ts";
import { attentionMaps } from "./attention.ts";
import { checkConfig, configs, type SDTV2Config } from "./configs.ts";
import { energyTable } from "./energy.ts";
import { MetaSpikeFormer } from "./model.ts";
import { officialKinds } from "./official.ts";

export { linearAttention } from "../linear-attention.ts";
export { attentionMaps } from "./attention.ts";
export * from "./configs.ts";
export * from "./energy.ts";
export * from "./model.ts";
export * from "./rep-conv.ts";

export const sdtV2: System<SDTV2Config> = {
  name: "sdt-v2",
  title: "Spike-driven Transformer V2 (Meta-SpikeFormer)",
  paper: "Yao et al. 2024, arXiv 2404.03663; repository BICLab/Spike-Driven-Transformer-V2",
  configs,
  check: (config) => void checkConfig(config),
  build: (config) => new MetaSpikeFormer(checkConfig(config)),
  attention: (module, input) => attentionMaps(module as MetaSpikeFormer, input),
  energyTable,
  energyPreset: "sdt-v2",
  // The official code means to do this, but takes every parameter for the head's. The last down-sampling learns as the stage it leads to.
  layers: ({ depths: [third = 0, fourth = 0] }) =>
    blockLayers(
      [
        ["block3", third],
        ["block4", fourth],
      ],
      { downsample4: "block4" },
    ),
  official: officialKinds,
};
