/**
 * Spikeloom: spiking neural networks where JavaScript runs.
 *
 * `init` starts the engine; tensors, `scope` and the tape are at top level; the rest comes in namespaces as PyTorch users know
 * them: `nn`, `snn` (neurons, surrogates, spikes), `optim`, `train`, `data`, `measure`, `models`, and file formats.
 */

export * as data from "./data/index.ts";
export * as formats from "./formats/index.ts";
export { npy, npz, safetensors } from "./formats/index.ts";
export * as measure from "./measure/index.ts";
export * as models from "./models/index.ts";
export * as nn from "./nn/index.ts";
export * as optim from "./optim/index.ts";
export type { DeviceName, TypedArray } from "./runtime/device.ts";
export { type EngineInfo, engineInfo, type InitOptions, init, memoryInfo, randomness as random } from "./runtime/engine.ts";
export { FormatError, nearest, SettingError, SpikeloomError } from "./runtime/error.ts";
export { IMPLEMENTATIONS, type ImplementationChoice, type Implemented } from "./runtime/implementations.ts";
export type { MatmulPrecision } from "./runtime/precision.ts";
export { type Reservation, Rng, type RngState, Stream, type StreamState } from "./runtime/random.ts";
export * as snn from "./spiking/index.ts";
export * from "./tensor/index.ts";
export * as train from "./train/index.ts";
