/** Random arrays for round-trip tests. */
import fc from "fast-check";
import { type DType, elementsFromBytes, ITEM_BYTES, type NdArray } from "../../src/formats/array.ts";

export const DTYPES = Object.keys(ITEM_BYTES) as DType[];

/** An array of any dtype with up to 3 axes (0-d and empty ones among them), its elements any bit pattern. */
export const arrays: fc.Arbitrary<NdArray> = fc
  .tuple(fc.constantFrom(...DTYPES), fc.array(fc.nat(4), { maxLength: 3 }))
  .chain(([dtype, shape]) => {
    const size = shape.reduce((a, b) => a * b, 1) * ITEM_BYTES[dtype];
    const byte = dtype === "bool" ? fc.nat(1) : fc.nat(255);
    return fc.array(byte, { minLength: size, maxLength: size }).map((bytes) => ({
      dtype,
      shape,
      data: elementsFromBytes(dtype, Uint8Array.from(bytes), true, "arbitrary", 0),
    }));
  });

/** The bytes of the elements, so that NaNs and negative zeros compare by their bits. */
export function bits(array: NdArray): number[] {
  return [...new Uint8Array(array.data.buffer, array.data.byteOffset, array.data.byteLength)];
}
