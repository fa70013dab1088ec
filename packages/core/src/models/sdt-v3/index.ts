/** Spike-driven Transformer V3 (E-SpikeFormer): the system's entry in the zoo. */
import type { Module } from "../../nn/module.ts";
import type { System } from "../system.ts";
import { checkConfig, configs, type SDT3Config } from "./configs.ts";
import { ESpikeFormerDVS } from "./dvs.ts";
import { energyTable } from "./energy.ts";
import { ESpikeFormer } from "./model.ts";
import { officialKinds } from "./official.ts";

export * from "./blocks.ts";
export * from "./configs.ts";
export * from "./dvs.ts";
export * from "./energy.ts";
export * from "./model.ts";
export * from "./neuron.ts";

function build(config: SDT3Config): Module {
  checkConfig(config);
  return config.family === "dvs" ? new ESpikeFormerDVS(config) : new ESpikeFormer(config);
}

export const sdtV3: System<SDT3Config> = {
  name: "sdt-v3",
  title: "Spike-driven Transformer V3",
  paper: "Yao et al. 2025, T-PAMI, arXiv 2411.16061; repository BICLab/Spike-Driven-Transformer-V3",
  configs,
  check: (config) => void checkConfig(config),
  build,
  energyTable,
  energyPreset: "sdt-v3",
  official: officialKinds,
};
