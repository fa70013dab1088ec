/** Files of weights, whatever their format: what is in them by name, each tensor read when it is asked for. */
import type { DType, NdArray } from "./array.ts";

/** A tensor in a file. */
export interface StoredTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** @throws FormatError where the file's bytes are not what it says */
  read(): Promise<NdArray>;
}
