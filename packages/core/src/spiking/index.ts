/** `snn`: neurons, surrogates, user-defined ones of both, encoders, operations on spikes, and the time axis. */

export { repeat } from "../tensor/ops/layout.ts";
export * from "../tensor/ops/spikes.ts";
export { toSteps, virtualSteps } from "../tensor/ops/steps.ts";
export { CustomNeuron, type CustomOptions, defineNeuron, type Env, type NeuronDefinition, type Update } from "./custom.ts";
export { type DeltaOptions, delta, type LatencyOptions, latency, phase, poisson } from "./encoders.ts";
export { Expr, type Value, where } from "./expression.ts";
export {
  IF,
  ILIF,
  type ILIFOptions,
  type IntegerOptions,
  LIF,
  type LIFOptions,
  makesSpikes,
  Neuron,
  type NeuronOptions,
  type NeuronOutput,
  PLIF,
  type PLIFOptions,
  Quant,
  reset,
  SPIKE_MODES,
  type SpikeMode,
  type StateOptions,
  setMode,
} from "./neurons.ts";
export { LinearRecurrent, OneToOne, RLIF, type RLIFOptions } from "./recurrent.ts";
export * as surrogate from "./surrogate.ts";
export { defineSurrogate, type Surrogate, type SurrogateDefinition, type SurrogateMaker, type SurrogateRecord } from "./surrogate.ts";
export { Synaptic, type SynapticOptions } from "./synaptic.ts";
