/** Firing rates, synaptic operations, energy by named conventions, footprint, and the time of each kernel: the `measure` namespace. */
export {
  type KernelCall,
  type KernelProfile,
  KernelRecorder,
  type KernelSpan,
  type KernelTime,
  profileKernels,
  traceKernels,
} from "../runtime/profile.ts";
export { type CheckOptions, check, type Folded, type Remaining, type Remark, type SpikeCheck } from "./check.ts";
export * from "./energy.ts";
export { FiringMeter, type FiringOptions, type FiringRate, firingOf, firingRates } from "./firing.ts";
export * from "./footprint.ts";
export { compareModes, type ModeComparison } from "./modes.ts";
export * from "./neurobench.ts";
export { type LayerOperations, type OperationOptions, type Operations, operations } from "./operations.ts";
export { findPreset, presets } from "./presets/index.ts";
export { breakEvenRate } from "./presets/memory.ts";
export {
  type Convention,
  type EnergyCosts,
  type EnergyPreset,
  HOROWITZ_45NM,
  type PresetSettings,
  type Priced,
  type TableMaker,
} from "./presets/preset.ts";
export type { EnergyTable, EnergyTableRow } from "./presets/table.ts";
export { type Survey, survey } from "./survey.ts";
export type { Inputs } from "./walk.ts";
