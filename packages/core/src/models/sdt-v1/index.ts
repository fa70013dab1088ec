/** Spike-driven Transformer V1: the system's entry in the zoo. */
import { blockLayers } from "../layers.ts";
import type { System } from "../system.ts";
import { attentionMaps } from "./attention.ts";
import { checkConfig, configs, type SDTConfig } from "./configs.ts";
import { energyTable } from "./energy.ts";
import { SpikeDrivenTransformer } from "./model.ts";
import { officialKinds } from "./official.ts";

export { positionRates } from "../positions.ts";
export { attentionMaps } from "./attention.ts";
export * from "./configs.ts";
export * from "./energy.ts";
export * from "./model.ts";

export const sdtV1: System<SDTConfig> = {
  name: "sdt-v1",
  title: "Spike-driven Transformer V1",
  paper: "Yao et al. 2023, arXiv 2307.01694; repository BICLab/Spike-Driven-Transformer",
  configs,
  check: (config) => void checkConfig(config),
  build: (config) => new SpikeDrivenTransformer(checkConfig(config)),
  attention: (module, input) => attentionMaps(module as SpikeDrivenTransformer, input),
  energyTable,
  layers: ({ depths }) => blockLayers([["block", depths]]),
  official: officialKinds,
};
