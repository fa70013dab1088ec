/** Firing rates, synaptic operations and energy: the `measure` namespace. */
export * from "./energy.ts";
export * from "./firing.ts";
