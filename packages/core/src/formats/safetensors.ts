/**
 * safetensors, read and written as the safetensors repository publishes the format: an 8-byte little-endian header length, a
 * JSON header, then one buffer that the tensors cover without holes or overlaps. Bytes in, arrays out; every claim of the
 * header is checked against the bytes before it is believed.
 */
import { checkBytes, checkMap, kindOf } from "../runtime/check.ts";
import { SpikeloomError } from "../runtime/error.ts";
import {
  bytesOfElements,
  countElements,
  DAMAGED,
  type DType,
  elementsFromBytes,
  expectArray,
  ITEM_BYTES,
  malformed,
  type NdArray,
  ndArray,
} from "./array.ts";
import { type Bytes, sourceOf } from "./source.ts";
import type { StoredTensor } from "./stored.ts";

/** The header size that the reference implementation accepts at most. */
const MAX_HEADER_BYTES = 100_000_000;
const METADATA = "__metadata__";
const MAX_SHOWN = 60;

// In the reference implementation's order, which its writer sorts by: later first, so that wide elements stay aligned.
const DTYPE_OF: ReadonlyMap<string, DType> = new Map([
  ["BOOL", "bool"],
  ["U8", "u8"],
  ["I8", "i8"],
  ["I16", "i16"],
  ["U16", "u16"],
  ["F16", "f16"],
  ["BF16", "bf16"],
  ["I32", "i32"],
  ["U32", "u32"],
  ["F32", "f32"],
  ["F64", "f64"],
  ["I64", "i64"],
]);
const NAME_OF = new Map([...DTYPE_OF].map(([name, dtype]) => [dtype, name]));
const RANK_OF = new Map([...DTYPE_OF.values()].map((dtype, i) => [dtype, i]));

export interface SafetensorsFile {
  /** By name, in the order in which they stand in the file. */
  readonly tensors: Map<string, NdArray>;
  readonly metadata: Record<string, string>;
}

interface Entry {
  readonly key: string;
  readonly dtype: DType;
  readonly shape: number[];
  readonly begin: number;
  readonly end: number;
}

/**
 * Read a safetensors file. Tensors share memory with `bytes` where they are aligned, and are copied where not.
 * @param name the file's name, for messages
 * @throws FormatError when anything in the file contradicts the format
 */
export function decode(bytes: Uint8Array, name = "safetensors"): SafetensorsFile {
  checkBytes(name, bytes);
  const start = headerEnd(bytes, bytes.length, name);
  const { entries, metadata } = layout(bytes.subarray(8, start), bytes.length, name);
  const tensors = new Map<string, NdArray>();
  for (const { key, dtype, shape, begin, end } of entries)
    tensors.set(key, { dtype, shape, data: elementsFromBytes(dtype, bytes.subarray(begin, end), true, whichOf(name, key), begin) });
  return { tensors, metadata };
}

/**
 * Open a safetensors file of any size: its header is read, its tensors when they are asked for.
 * @throws FormatError when the header contradicts the format or the file's size
 */
export async function open(
  file: Bytes,
  name = "safetensors",
): Promise<{ tensors: Map<string, StoredTensor>; metadata: Record<string, string> }> {
  const source = sourceOf(name, file);
  const start = headerEnd(await source.read(0, Math.min(8, source.size)), source.size, name);
  const { entries, metadata } = layout(await source.read(8, start), source.size, name);
  const tensors = new Map<string, StoredTensor>();
  for (const { key, dtype, shape, begin, end } of entries) {
    const read = async () => ({
      dtype,
      shape,
      data: elementsFromBytes(dtype, await source.read(begin, end), true, whichOf(name, key), begin),
    });
    tensors.set(key, { dtype, shape, read });
  }
  return { tensors, metadata };
}

function whichOf(name: string, key: string): string {
  return `${name}, tensor ${show(key)}`;
}

/** Where the header ends that the file's first 8 bytes declare. */
function headerEnd(first: Uint8Array, size: number, name: string): number {
  if (first.length < 8) throw malformed(name, 0, "8 bytes of header length", `${first.length} bytes in all`, DAMAGED);
  const declared = new DataView(first.buffer, first.byteOffset, first.byteLength).getBigUint64(0, true);
  if (declared > BigInt(MAX_HEADER_BYTES)) {
    throw malformed(name, 0, `a header of at most ${MAX_HEADER_BYTES} bytes`, `${declared}`, "Is this a safetensors file?");
  }
  const start = 8 + Number(declared);
  if (start > size) throw malformed(name, 0, `a header within the file's ${size} bytes`, `one of ${declared}`, DAMAGED);
  return start;
}

/** What the header says, checked against the file's size; tensors in the order in which they stand, by their place in the file. */
function layout(headerBytes: Uint8Array, fileSize: number, name: string): { entries: Entry[]; metadata: Record<string, string> } {
  const start = 8 + headerBytes.length;
  const header = parseHeader(headerBytes, name);
  let metadata: Record<string, string> = {};
  const entries: Entry[] = [];
  for (const [key, value] of Object.entries(header)) {
    if (key === METADATA) metadata = checkMetadata(value, name);
    else entries.push(checkEntry(key, value, name));
  }
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  const size = fileSize - start;
  let covered = 0;
  for (const { key, begin, end } of entries) {
    const which = `tensor ${show(key)}`;
    if (begin !== covered) {
      const fault = begin < covered ? "overlaps the one before" : "leaves a hole";
      throw malformed(name, start + covered, `${which} at offset ${covered}`, `offset ${begin}, which ${fault}`, DAMAGED);
    }
    if (end > size) throw malformed(name, start + begin, `${end} bytes of tensors, up to ${which}`, `${size}`, DAMAGED);
    covered = end;
  }
  if (covered !== size) throw malformed(name, start + covered, "the end of the file", `${size - covered} more bytes`, DAMAGED);
  return { entries: entries.map((entry) => ({ ...entry, begin: start + entry.begin, end: start + entry.end })), metadata };
}

/**
 * Write a safetensors file: the same bytes for the same tensors in whatever order they come (widest dtype first, then by
 * name, as the reference implementation sorts), the header padded with spaces to a multiple of 8.
 * @throws SpikeloomError for a name the format cannot hold or an array whose parts disagree
 */
export function encode(tensors: ReadonlyMap<string, NdArray>, metadata: Readonly<Record<string, string>> = {}): Uint8Array {
  checkMap("safetensors", tensors);
  for (const [key, array] of tensors) {
    expectArray(`safetensors tensor ${show(key)}`, array);
    ndArray(array.dtype, array.shape, array.data, `safetensors tensor ${show(key)}`);
  }
  const { header, order, size } = plan(tensors, metadata);
  const out = new Uint8Array(header.length + size);
  out.set(header);
  let at = header.length;
  for (const key of order) {
    const chunk = bytesOfElements(tensors.get(key) as NdArray);
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}

/**
 * A file's beginning, and the order in which the bytes of its tensors follow: to write one that is larger than memory should hold, each
 * tensor as `bytesOfElements` gives it.
 */
export function plan(
  tensors: ReadonlyMap<string, Pick<NdArray, "dtype" | "shape">>,
  metadata: Readonly<Record<string, string>> = {},
): { header: Uint8Array; order: string[]; size: number } {
  checkMap("safetensors", tensors);
  if (!isObject(metadata)) throw new SpikeloomError(`safetensors: expected metadata as an object of strings, found ${kindOf(metadata)}.`);
  const sorted = [...tensors].sort(([a, x], [b, y]) => RANK_OF.get(y.dtype)! - RANK_OF.get(x.dtype)! || (a < b ? -1 : 1));
  const parts: string[] = [];
  const keys = Object.keys(metadata).sort();
  if (keys.length > 0) {
    const pairs = keys.map((key) => {
      const value: unknown = metadata[key];
      if (typeof value !== "string")
        throw new SpikeloomError(`safetensors metadata ${show(key)}: expected a string, found ${typeof value}.`);
      return `${quote(key)}:${quote(value)}`;
    });
    parts.push(`"${METADATA}":{${pairs.join(",")}}`);
  }
  let size = 0;
  for (const [key, { dtype, shape }] of sorted) {
    if (key === METADATA) throw new SpikeloomError(`safetensors: expected a tensor name, found ${METADATA}, which the format reserves.`);
    const count = Array.isArray(shape) ? countElements(shape) : undefined;
    if (count === undefined || !NAME_OF.has(dtype))
      throw new SpikeloomError(
        `safetensors tensor ${show(key)}: expected a dtype and a shape, found ${kindOf(dtype)} and ${kindOf(shape)}.`,
      );
    const end = size + count * ITEM_BYTES[dtype];
    parts.push(`${quote(key)}:{"dtype":"${NAME_OF.get(dtype)}","shape":[${shape.join(",")}],"data_offsets":[${size},${end}]}`);
    size = end;
  }
  const text = new TextEncoder().encode(`{${parts.join(",")}}`);
  const padded = Math.ceil(text.length / 8) * 8;
  if (padded > MAX_HEADER_BYTES)
    throw new SpikeloomError(`safetensors: expected a header of at most ${MAX_HEADER_BYTES} bytes, found ${padded}.`);
  const header = new Uint8Array(8 + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(text, 8);
  return { header, order: sorted.map(([key]) => key), size };
}

function parseHeader(bytes: Uint8Array, name: string): Record<string, unknown> {
  if (bytes[0] !== 0x7b)
    throw malformed(name, 8, 'a JSON header that starts with "{"', bytes.length ? `byte ${bytes[0]}` : "an empty header");
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
  } catch (error) {
    throw malformed(name, 8, "a header of UTF-8 JSON", `something else (${(error as Error).message})`, DAMAGED);
  }
  const twice = repeatedKey(text);
  if (twice !== undefined) throw malformed(name, 8, "each key once in the JSON header", `${show(twice)} twice`);
  return value as Record<string, unknown>;
}

/** A key that an object in the JSON `text` repeats. JSON.parse, which has accepted the text, would keep the last one in silence. */
function repeatedKey(text: string): string | undefined {
  const objects: (Set<string> | undefined)[] = [];
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === "{") objects.push(new Set());
    else if (c === "[") objects.push(undefined);
    else if (c === "}" || c === "]") objects.pop();
    else if (c === '"') {
      const open = i;
      for (i++; text[i] !== '"'; i++) if (text[i] === "\\") i++;
      const close = i;
      while (" \t\r\n".includes(text[i + 1] ?? ".")) i++;
      if (text[i + 1] !== ":") continue;
      const key = JSON.parse(text.slice(open, close + 1)) as string;
      const seen = objects.at(-1);
      if (seen?.has(key)) return key;
      seen?.add(key);
    }
  }
  return undefined;
}

function checkMetadata(value: unknown, name: string): Record<string, string> {
  if (!isObject(value)) throw malformed(name, 8, `${METADATA} as an object of strings`, show(value));
  for (const [key, entry] of Object.entries(value)) {
    if (typeof entry !== "string") throw malformed(name, 8, `${METADATA} ${show(key)} as a string`, show(entry));
  }
  return value as Record<string, string>;
}

function checkEntry(key: string, value: unknown, name: string): Entry {
  const which = `tensor ${show(key)}`;
  if (hasLoneSurrogate(key)) throw malformed(name, 8, "tensor names of whole Unicode characters", show(key));
  if (!isObject(value)) throw malformed(name, 8, `${which} as an object`, show(value));
  const { dtype: dtypeName, shape, data_offsets: offsets } = value;
  const dtype = typeof dtypeName === "string" ? DTYPE_OF.get(dtypeName) : undefined;
  if (!dtype) throw malformed(name, 8, `${which} with a dtype among ${[...DTYPE_OF.keys()].join(", ")}`, show(dtypeName));
  const count = Array.isArray(shape) ? countElements(shape) : undefined;
  if (count === undefined) throw malformed(name, 8, `${which} with a shape of whole numbers whose product is below 2^50`, show(shape));
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every((n) => Number.isSafeInteger(n) && n >= 0)) {
    throw malformed(name, 8, `${which} with two data_offsets`, show(offsets));
  }
  const [begin, end] = offsets as [number, number];
  const size = count * ITEM_BYTES[dtype];
  if (end - begin !== size) {
    throw malformed(
      name,
      8,
      `${which}, ${dtypeName} ${show(shape)}, to span ${size} bytes`,
      `data_offsets ${show(offsets)}, ${end - begin} bytes`,
      DAMAGED,
    );
  }
  return { key, dtype, shape: shape as number[], begin, end };
}

function quote(text: string): string {
  if (hasLoneSurrogate(text)) throw new SpikeloomError(`safetensors: expected text of whole Unicode characters, found ${show(text)}.`);
  return JSON.stringify(text);
}

function hasLoneSurrogate(text: string): boolean {
  return /\p{Surrogate}/u.test(text);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function show(value: unknown): string {
  let text = "none";
  try {
    if (value !== undefined) text = JSON.stringify(value);
  } catch {
    // JSON.parse reads deeper nesting than stringify can write.
    text = "something deeply nested";
  }
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}...` : text;
}

/** `encode` as a promise: `const bytes = await safetensors.save(net.stateDict())`. */
export async function save(tensors: ReadonlyMap<string, NdArray>, metadata: Readonly<Record<string, string>> = {}): Promise<Uint8Array> {
  return encode(tensors, metadata);
}

/** The tensors of `decode` as a promise: `net.loadStateDict(await safetensors.load(bytes))`. */
export async function load(bytes: Uint8Array, name = "safetensors"): Promise<Map<string, NdArray>> {
  return decode(bytes, name).tensors;
}
