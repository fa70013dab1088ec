/** CAFormer: the system's entry in the zoo. */
import type { System } from "../system.ts";
import { type CAFormerConfig, checkConfig, configs } from "./configs.ts";
import { CAFormer } from "./model.ts";
import { officialKinds } from "./official.ts";

export * from "./configs.ts";
export * from "./model.ts";

export const caformer: System<CAFormerConfig> = {
  name: "caformer",
  title: "CAFormer (a teacher, no spikes)",
  paper: "Yu et al. 2024, arXiv 2210.13452; repository sail-sg/metaformer",
  configs,
  check: (config) => void checkConfig(config),
  build: (config) => new CAFormer(checkConfig(config)),
  official: officialKinds,
};
