/**
 * A tensor as files hold it: C order, PyTorch's axis order, the file's dtype. Between the readers of this folder and the
 * device tensors above it; nothing here computes on a device. Also the conversion between elements and bytes, in either
 * byte order, with half-precision types widened to float32.
 */
import { kindOf } from "../runtime/check.ts";
import { FormatError, SpikeloomError } from "../runtime/error.ts";

/** Element type in the file. f16 and bf16 are held as float32 values that the narrower type represents exactly. */
export type DType = "f64" | "f32" | "f16" | "bf16" | "i64" | "i32" | "i16" | "i8" | "u8" | "u16" | "u32" | "bool";

export type NdData =
  | Float64Array
  | Float32Array
  | BigInt64Array
  | Int32Array
  | Int16Array
  | Int8Array
  | Uint8Array
  | Uint16Array
  | Uint32Array;

/** A C-order array. `data` holds exactly the product of `shape` elements (one for the 0-d shape `[]`); booleans are 0 or 1. */
export interface NdArray {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: NdData;
}

/** The most axes an array may have, numpy's and PyTorch's own limit. */
export const MAX_RANK = 64;

/** Bytes of one element in a file. */
export const ITEM_BYTES: Readonly<Record<DType, number>> = {
  f64: 8,
  i64: 8,
  f32: 4,
  i32: 4,
  u32: 4,
  f16: 2,
  bf16: 2,
  i16: 2,
  u16: 2,
  i8: 1,
  u8: 1,
  bool: 1,
};

const CLASSES = {
  f64: Float64Array,
  f32: Float32Array,
  f16: Float32Array,
  bf16: Float32Array,
  i64: BigInt64Array,
  i32: Int32Array,
  i16: Int16Array,
  i8: Int8Array,
  u8: Uint8Array,
  u16: Uint16Array,
  u32: Uint32Array,
  bool: Uint8Array,
} as const satisfies Record<DType, unknown>;

const HOST_IS_LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/**
 * A FormatError that says file, position, what was expected and what was found.
 * @param at byte offset in the file, or undefined where no single position is to blame
 */
export function malformed(name: string, at: number | undefined, expected: string, found: string, mend = ""): FormatError {
  const place = at === undefined ? name : `${name}, byte ${at}`;
  return new FormatError(`${place}: expected ${expected}, found ${found}.${mend && ` ${mend}`}`);
}

/** What to do about a file that ends early or carries more than it says. */
export const DAMAGED = "The file is damaged or was not written to its end: copy, download or save it again.";

/**
 * Number of elements of `shape`, or undefined when it is not a shape: a dimension that is no whole number >= 0, more than
 * 64 axes, or a product (zeros left out, so that strides are exact as well) beyond 2^53 bytes at 8 bytes each.
 */
export function countElements(shape: readonly unknown[]): number | undefined {
  if (shape.length > MAX_RANK) return undefined;
  let product = 1;
  let empty = false;
  for (const size of shape) {
    if (typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) return undefined;
    if (size === 0) empty = true;
    else product *= size;
    if (product > Number.MAX_SAFE_INTEGER / 8) return undefined;
  }
  return empty ? 0 : product;
}

/**
 * An array from its parts.
 * @throws SpikeloomError when the data's type or length does not belong to the dtype and shape
 */
export function ndArray(dtype: DType, shape: readonly number[], data: NdData, what = "array"): NdArray {
  const type = Object.hasOwn(CLASSES, dtype) ? CLASSES[dtype] : undefined;
  if (!type) throw new SpikeloomError(`${what}: expected a dtype among ${Object.keys(CLASSES).join(", ")}, found ${kindOf(dtype)}.`);
  const count = Array.isArray(shape) ? countElements(shape) : undefined;
  if (count === undefined) {
    const found = Array.isArray(shape) ? `[${shape.join(", ")}]` : kindOf(shape);
    throw new SpikeloomError(`${what}: expected a shape of at most ${MAX_RANK} whole numbers, found ${found}.`);
  }
  if (!(data instanceof type)) throw new SpikeloomError(`${what}: expected a ${type.name} for ${dtype}, found ${kindOf(data)}.`);
  if (data.length !== count) {
    throw new SpikeloomError(`${what}: expected ${count} elements for shape [${shape.join(", ")}], found ${data.length}.`);
  }
  return { dtype, shape: [...shape], data };
}

/** Check that an argument is an array as `ndArray` makes it. */
export function expectArray(where: string, value: NdArray): void {
  if (typeof value !== "object" || value === null || !Array.isArray(value.shape) || !ArrayBuffer.isView(value.data))
    throw new SpikeloomError(`${where}: expected an array { dtype, shape, data }, as formats.ndArray makes it, found ${kindOf(value)}.`);
}

/** The elements as float64: exact but for i64 beyond 2^53. Always a copy. */
export function toFloat64(array: NdArray): Float64Array {
  expectArray("toFloat64", array);
  return array.data instanceof BigInt64Array ? Float64Array.from(array.data, Number) : new Float64Array(array.data);
}

/** The elements rounded to float32. Always a copy. */
export function toFloat32(array: NdArray): Float32Array {
  expectArray("toFloat32", array);
  return array.data instanceof BigInt64Array ? Float32Array.from(array.data, Number) : new Float32Array(array.data);
}

/**
 * The array with its axes reordered: axis i of the result is axis `axes[i]` of the argument (numpy's transpose). A copy.
 * Channels-first to channels-last is `[0, 2, 3, 1]`.
 */
export function permute(array: NdArray, axes: readonly number[]): NdArray {
  expectArray("permute", array);
  if (!Array.isArray(axes)) throw new SpikeloomError(`permute: expected a list of axes, found ${kindOf(axes)}.`);
  const rank = array.shape.length;
  if (axes.length !== rank || new Set(axes).size !== rank || axes.some((a) => !Number.isInteger(a) || a < 0 || a >= rank)) {
    throw new SpikeloomError(`permute: expected each of the ${rank} axes of [${array.shape.join(", ")}] once, found [${axes.join(", ")}].`);
  }
  const strides = new Array<number>(rank);
  for (let i = rank - 1, stride = 1; i >= 0; i--) {
    strides[i] = stride;
    stride *= array.shape[i]!;
  }
  const shape = axes.map((a) => array.shape[a]!);
  return {
    dtype: array.dtype,
    shape,
    data: gather(
      array.data,
      shape,
      axes.map((a) => strides[a]!),
    ),
  };
}

/** Elements of `source` walked in C order of `shape` with the given strides (in elements), as new dense data. */
export function gather<T extends NdData>(source: T, shape: readonly number[], strides: readonly number[]): T {
  const count = countElements(shape) ?? 0;
  const out = new (source.constructor as new (n: number) => T)(count);
  if (count === 0) return out;
  const rank = shape.length;
  const inner = rank ? shape[rank - 1]! : 1;
  const innerStride = rank ? strides[rank - 1]! : 0;
  const index = new Array<number>(rank).fill(0);
  let from = 0;
  for (let to = 0; to < count; ) {
    for (let i = 0, at = from; i < inner; i++, at += innerStride) out[to++] = source[at]!;
    for (let axis = rank - 2; axis >= 0; axis--) {
      from += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      from -= strides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
  return out;
}

/**
 * Elements from file bytes. Shares memory with `bytes` where alignment and byte order allow, else copies.
 * @param bytes exactly the elements' bytes
 * @param at where they stand in the file, for the message when a boolean is neither 0 nor 1
 */
export function elementsFromBytes(dtype: DType, bytes: Uint8Array, littleEndian: boolean, name: string, at: number): NdData {
  const size = ITEM_BYTES[dtype];
  let source = bytes;
  if (size > 1 && littleEndian !== HOST_IS_LITTLE_ENDIAN) {
    source = new Uint8Array(bytes);
    reverseEach(source, size);
  } else if (source.byteOffset % size !== 0) {
    source = new Uint8Array(bytes);
  }
  const count = source.byteLength / size;
  if (dtype === "f16" || dtype === "bf16") {
    const halves = new Uint16Array(source.buffer, source.byteOffset, count);
    const bits = new Uint32Array(count);
    if (dtype === "bf16") for (let i = 0; i < count; i++) bits[i] = halves[i]! << 16;
    else for (let i = 0; i < count; i++) bits[i] = floatBitsOfHalf(halves[i]!);
    return new Float32Array(bits.buffer);
  }
  if (dtype === "bool") {
    const wrong = source.findIndex((v) => v > 1);
    if (wrong >= 0) throw malformed(name, at + wrong, "a boolean byte 0 or 1", String(source[wrong]), DAMAGED);
  }
  return new CLASSES[dtype](source.buffer as ArrayBuffer, source.byteOffset, count);
}

/** Little-endian file bytes of an array. Shares memory with it where no conversion is needed. */
export function bytesOfElements(array: NdArray): Uint8Array {
  expectArray("bytesOfElements", array);
  const { data, dtype } = array;
  let bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (dtype === "f16" || dtype === "bf16") {
    const bits = new Uint32Array(data.buffer, data.byteOffset, data.length);
    const halves = new Uint16Array(data.length);
    const narrow = dtype === "f16" ? halfOfFloatBits : bfloatOfFloatBits;
    for (let i = 0; i < halves.length; i++) halves[i] = narrow(bits[i]!);
    bytes = new Uint8Array(halves.buffer);
  }
  if (!HOST_IS_LITTLE_ENDIAN && ITEM_BYTES[dtype] > 1) {
    bytes = new Uint8Array(bytes);
    reverseEach(bytes, ITEM_BYTES[dtype]);
  }
  return bytes;
}

function reverseEach(bytes: Uint8Array, size: number): void {
  for (let i = 0; i < bytes.length; i += size) bytes.subarray(i, i + size).reverse();
}

// IEEE 754 binary16 to binary32, on bits so that NaN payloads survive a round trip.
function floatBitsOfHalf(half: number): number {
  const sign = (half & 0x8000) << 16;
  const exponent = (half >> 10) & 31;
  const mantissa = half & 0x3ff;
  if (exponent === 31) return sign | 0x7f800000 | (mantissa << 13);
  if (exponent > 0) return sign | ((exponent + 112) << 23) | (mantissa << 13);
  if (mantissa === 0) return sign;
  const shift = Math.clz32(mantissa) - 21;
  return sign | ((113 - shift) << 23) | (((mantissa << shift) & 0x3ff) << 13);
}

// Round to nearest, ties to even.
function halfOfFloatBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7c00 | ((magnitude >>> 13) & 0x3ff || 0x200);
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) {
    const rebased = magnitude - 0x38000000;
    return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
  }
  if (magnitude < 0x33000000) return sign;
  const shift = 126 - (magnitude >>> 23);
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const kept = mantissa >>> shift;
  const rest = mantissa & ((1 << shift) - 1);
  const tie = 1 << (shift - 1);
  return sign | (kept + (rest > tie || (rest === tie && (kept & 1) === 1) ? 1 : 0));
}

function bfloatOfFloatBits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | (bits & 0x7f0000 ? 0 : 0x40);
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}
