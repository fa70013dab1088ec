/** Spike-driven Transformer V3 (E-SpikeFormer): the system's entry in the zoo. */
import type { Module } from "../../nn/module.ts";
import { blockLayers } from "../layers.ts";
import type { OfficialKind } from "../official.ts";
import type { System } from "../system.ts";
import { checkConfig, configs, type SDT3Config } from "./configs.ts";
import { ESpikeFormerDVS } from "./dvs.ts";
import { energyTable } from "./energy.ts";
import { ESpikeFormerLarge } from "./large.ts";
import { checkLarge, checkMae, type LargeConfig, largeConfigs, type MaeConfig, maeConfigs } from "./large-configs.ts";
import { largeEnergyTable } from "./large-energy.ts";
import { largeKind, maeKind } from "./large-official.ts";
import { SpikeMaskedAutoencoder } from "./mae.ts";
import { ESpikeFormer } from "./model.ts";
import { officialKinds } from "./official.ts";

export * from "./blocks.ts";
export * from "./configs.ts";
export * from "./dvs.ts";
export * from "./energy.ts";
export * from "./fine-tune.ts";
export * from "./large.ts";
export * from "./large-configs.ts";
export * from "./large-energy.ts";
export * from "./mae.ts";
export * from "./masking.ts";
export * from "./model.ts";
export * from "./neuron.ts";
export * from "./rep-conv.ts";

/** A configuration of any family. */
export type AnyConfig = SDT3Config | LargeConfig | MaeConfig;

function check(config: AnyConfig): void {
  if (config.family === "large") checkLarge(config);
  else if (config.family === "mae") checkMae(config);
  else checkConfig(config);
}

function build(config: AnyConfig): Module {
  check(config);
  switch (config.family) {
    case "large":
      return new ESpikeFormerLarge(config);
    case "mae":
      return new SpikeMaskedAutoencoder(config);
    case "dvs":
      return new ESpikeFormerDVS(config);
    default:
      return new ESpikeFormer(config);
  }
}

/** Fixtures call the base and the large classifier by one name and tell them by their family. */
const model: OfficialKind = {
  build: (config) => (config.family === "large" ? largeKind : (officialKinds.model as OfficialKind)).build(config),
  run: (module, ...rest) => (module instanceof ESpikeFormerLarge ? largeKind : (officialKinds.model as OfficialKind)).run(module, ...rest),
};

export const sdtV3: System<AnyConfig> = {
  name: "sdt-v3",
  title: "Spike-driven Transformer V3",
  paper: "Yao et al. 2025, T-PAMI, arXiv 2411.16061; repository BICLab/Spike-Driven-Transformer-V3",
  configs: { ...configs, ...largeConfigs, ...maeConfigs },
  check,
  build,
  energyTable: (config, input) =>
    config.family === "base" || config.family === "dvs" ? energyTable(config, input) : largeEnergyTable(config, input),
  energyPreset: "sdt-v3",
  layers: (config) =>
    config.family === "large" || config.family === "mae"
      ? blockLayers([["block3", config.depths]])
      : blockLayers(
          [
            ["block3", config.blocks[0]],
            ["block4", config.blocks[1]],
          ],
          { downsample4: "block4" },
        ),
  objectives: {
    "masked-reconstruction": () => ({ loss: (auto, x) => ({ loss: (auto as SpikeMaskedAutoencoder).loss(x) }), unlabelled: true }),
  },
  official: { ...officialKinds, model, mae: maeKind },
};
