/**
 * IDX, the format in which MNIST is published (Yann LeCun's MNIST page describes it): two zero bytes, a type code, the
 * number of axes, their big-endian lengths, then the elements, big-endian.
 */
import { countElements, DAMAGED, type DType, elementsFromBytes, ITEM_BYTES, MAX_RANK, malformed, type NdArray } from "../formats/array.ts";

const DTYPE_OF: Readonly<Record<number, DType>> = { 8: "u8", 9: "i8", 11: "i16", 12: "i32", 13: "f32", 14: "f64" };

/**
 * Read an IDX file. Bytes are shared with the result where elements are bytes.
 * @param name the file's name, for messages
 * @throws FormatError when the header is not IDX, or claims more or fewer bytes than there are
 */
export function readIdx(bytes: Uint8Array, name = "idx"): NdArray {
  if (bytes.length < 4) throw malformed(name, 0, "a header of at least 4 bytes", `${bytes.length}`, DAMAGED);
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) throw malformed(name, 0, "IDX data", "gzip data", "Unpack it first (gunzip).");
  if (bytes[0] !== 0 || bytes[1] !== 0) {
    throw malformed(name, 0, "the magic bytes 0 0", `${bytes[0]} ${bytes[1]}`, "Is this an IDX file?");
  }
  const dtype = DTYPE_OF[bytes[2]!];
  if (!dtype) throw malformed(name, 2, `an element type among ${Object.keys(DTYPE_OF).join(", ")}`, `${bytes[2]}`);
  const rank = bytes[3]!;
  if (rank < 1 || rank > MAX_RANK) throw malformed(name, 3, `1 to ${MAX_RANK} axes`, `${rank}`);
  const start = 4 + 4 * rank;
  if (bytes.length < start) throw malformed(name, 4, `${4 * rank} bytes of axis lengths`, `${bytes.length - 4}`, DAMAGED);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const shape = Array.from({ length: rank }, (_, i) => view.getUint32(4 + 4 * i));
  const count = countElements(shape);
  if (count === undefined) throw malformed(name, 4, "axis lengths whose product is below 2^50", shape.join(" x "), DAMAGED);
  const size = count * ITEM_BYTES[dtype];
  const found = bytes.length - start;
  if (found !== size) throw malformed(name, start, `${size} bytes of elements (${shape.join(" x ")} ${dtype})`, `${found}`, DAMAGED);
  return { dtype, shape, data: elementsFromBytes(dtype, bytes.subarray(start), false, name, start) };
}
