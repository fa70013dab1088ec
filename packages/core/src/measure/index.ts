/** Firing rates, synaptic operations, energy, and the time of each kernel: the `measure` namespace. */
export { type KernelProfile, type KernelTime, profileKernels } from "../runtime/profile.ts";
export * from "./energy.ts";
export * from "./firing.ts";
