/**
 * Meeting the official implementations: what every system says so that its models can be run on PyTorch-ordered tensors
 * (`spikeloom run`) and held against the parity fixtures, with the same code for both.
 */
import { type NdArray, ndArray, permute, toFloat64 } from "../formats/array.ts";
import type { Module } from "../nn/module.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { tensor } from "../tensor/tensor.ts";

/** A configuration in the official code's own names, as fixtures hold it. */
export type OfficialConfig = Readonly<Record<string, unknown>>;

/** One kind of module that can be built and run by itself: the whole network (`model`) or a part of it. */
export interface OfficialKind {
  /** @throws SpikeloomError for a wrong configuration. */
  build(config: OfficialConfig): Module;
  /**
   * Forward of PyTorch-ordered inputs. With `taps`, also the outputs of named modules and the official statistics, by name.
   * `results` are the output tensors by name, still on the device, for a loss on them; `outputs` turns them to arrays.
   */
  run(module: Module, inputs: ReadonlyMap<string, NdArray>, options?: { taps?: boolean; requiresGrad?: boolean }): OfficialRun;
}

export interface OfficialRun {
  /** Output tensors in our axis order, by the fixture's names. */
  tensors: Map<string, Tensor>;
  /** Inputs as they went in, for their gradients. */
  inputs: Map<string, Tensor>;
  /** Outputs in the official axis order. */
  outputs: Map<string, NdArray>;
  taps: Map<string, NdArray>;
  /** The axis order of a tensor shaped like input `name` (a gradient), brought to PyTorch's. */
  inputToOfficial(name: string, value: Tensor): NdArray;
}

/** A tensor of an array whose axes are permuted: axis i of the result is axis `axes[i]` of the array. */
export function fromOfficial(array: NdArray, axes: readonly number[]): Tensor {
  const moved = permute(array, axes);
  return tensor(toFloat64(moved), moved.shape, "f32");
}

/** An array of a tensor whose axes are permuted likewise. Spikes come out as their values. */
export function toOfficial(value: Tensor, axes?: readonly number[]): NdArray {
  const data = value.dataSync();
  const array = ndArray(
    data instanceof Float64Array ? "f64" : data instanceof Int32Array ? "i32" : data instanceof Uint8Array ? "u8" : "f32",
    value.shape,
    data as Float32Array,
  );
  return axes ? permute(array, axes) : array;
}

/** The same values under another shape. */
export function reshaped(array: NdArray, shape: readonly number[]): NdArray {
  return ndArray(array.dtype, shape, array.data);
}
