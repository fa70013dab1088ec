/** File formats, bytes in and arrays out: the `formats` namespace. */
export { bytesOfElements, type DType, type NdArray, type NdData, ndArray, permute, toFloat32, toFloat64 } from "./array.ts";
export * as npy from "./npy.ts";
export * as npz from "./npz.ts";
export * as pytorch from "./pytorch.ts";
export * as safetensors from "./safetensors.ts";
export type { ByteSource, Bytes } from "./source.ts";
export type { StoredTensor } from "./stored.ts";
export * as weights from "./weights.ts";
export { readZip, writeZip, type ZipOptions } from "./zip.ts";
