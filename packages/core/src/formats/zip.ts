/**
 * Zip archives, as far as tensor files use them (npz, PyTorch checkpoints): stored and deflated entries, zip64.
 * PKWARE's APPNOTE is the format. The reader believes the central directory only after checking it against the bytes, and
 * never lets an entry grow beyond the size it declares.
 */
import { checkBytes, checkMap, checkOptions, kindOf } from "../runtime/check.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { DAMAGED, malformed } from "./array.ts";
import { type ByteSource, sourceOf } from "./source.ts";

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const END64 = 0x06064b50;
const LOCATOR64 = 0x07064b50;
const ALL32 = 0xffffffff;
const ALL16 = 0xffff;
const STORED = 0;
const DEFLATED = 8;
// Deflate's densest code is 258 bytes for 2 bits.
const MAX_RATIO = 1032;
const DEFAULT_MAX_BYTES = 2 ** 31;

export interface ZipOptions {
  /** The archive's name, for messages. */
  readonly name?: string;
  /** The most that all entries together may declare to unpack to. Default 2 GiB. */
  readonly maxBytes?: number;
}

/** An entry of an archive, where it lies in the file. */
export interface ZipEntry {
  readonly path: string;
  readonly method: number;
  readonly crc: number;
  readonly packed: number;
  readonly size: number;
  /** Where its local header begins, and its data begins and ends. */
  readonly header: number;
  readonly begin: number;
  readonly end: number;
}

/**
 * The entries of an archive by path, in the directory's order; directories are left out. Stored entries share memory
 * with `bytes`, deflated ones are unpacked.
 * @throws FormatError for anything that contradicts the format: also encryption, entries that overlap, a wrong CRC-32
 */
export async function readZip(bytes: Uint8Array, options: ZipOptions = {}): Promise<Map<string, Uint8Array>> {
  checkOptions("zip", options, ["name", "maxBytes"]);
  const { name = "zip", maxBytes = DEFAULT_MAX_BYTES } = options;
  checkBytes(name, bytes);
  if (!(maxBytes >= 0)) throw new SpikeloomError(`${name}: expected maxBytes as a number of bytes, found ${kindOf(maxBytes)}.`);
  const source = sourceOf(name, bytes);
  const entries = await zipDirectory(source, name, maxBytes);
  const files = new Map<string, Uint8Array>();
  for (const entry of entries) {
    const data = await zipContent(source, entry, name);
    if (!entry.path.endsWith("/")) files.set(entry.path, data);
  }
  return files;
}

/**
 * Every entry of an archive, checked against the bytes, nothing unpacked yet.
 * @param maxBytes the most that the entries `counted` may declare to unpack to in all
 */
export async function zipDirectory(
  source: ByteSource,
  name: string,
  maxBytes = DEFAULT_MAX_BYTES,
  counted: (entry: ZipEntry) => boolean = () => true,
): Promise<ZipEntry[]> {
  const entries = await readDirectory(source, name);
  let total = 0;
  for (const entry of entries) {
    const { path, size, packed } = entry;
    if (counted(entry)) total += size;
    if (size > packed * MAX_RATIO + 64) {
      throw malformed(name, undefined, `${path} to unpack to at most ${MAX_RATIO} times its ${packed} bytes`, `${size} declared`, DAMAGED);
    }
  }
  if (total > maxBytes) {
    throw malformed(
      name,
      undefined,
      `at most ${maxBytes} bytes once unpacked`,
      `${total} declared`,
      "Raise maxBytes if the archive is yours.",
    );
  }
  return entries;
}

/** Is the entry packed, so that it can only be read from its beginning? */
export function isDeflated(entry: ZipEntry): boolean {
  return entry.method === DEFLATED;
}

/** The content of an entry, unpacked, its checksum compared. */
export async function zipContent(source: ByteSource, entry: ZipEntry, name: string): Promise<Uint8Array> {
  const packed = await source.read(entry.begin, entry.end);
  const data = entry.method === STORED ? packed : await inflate(packed, entry, name);
  checkCrc(entry, crc32(data), name);
  return data;
}

/** @throws FormatError where the checksum of an entry's content is not the one that the archive states */
export function checkCrc(entry: ZipEntry, crc: number, name: string): void {
  if (crc !== entry.crc) throw malformed(name, entry.begin, `${entry.path} with CRC-32 ${hex(entry.crc)}`, hex(crc), DAMAGED);
}

/**
 * An archive of stored entries, in the map's order, dated 1980-01-01: the same bytes for the same entries.
 * @throws SpikeloomError when the archive would pass 4 GiB or hold more than 65534 entries
 */
export function writeZip(files: ReadonlyMap<string, Uint8Array>): Uint8Array {
  checkMap("zip", files);
  for (const [path, data] of files) checkBytes(`zip entry ${path}`, data);
  const entries = [...files].map(([path, data]) => ({ path: new TextEncoder().encode(path), data, crc: crc32(data) }));
  let size = 22;
  for (const { path, data } of entries) {
    if (path.length >= ALL16) throw new SpikeloomError(`zip: expected entry names of at most 65534 bytes, found one of ${path.length}.`);
    size += 30 + 46 + 2 * path.length + data.length;
  }
  if (size >= ALL32 || entries.length >= ALL16) {
    throw new SpikeloomError(
      `zip: expected less than 4 GiB in at most 65534 entries, found ${size} bytes in ${entries.length}. Use safetensors.`,
    );
  }
  const out = new Uint8Array(size);
  const view = new DataView(out.buffer);
  let at = 0;
  // The fields that a local header and a directory entry share: version 2.0, UTF-8 names, stored, date, CRC, sizes, lengths.
  const shared = ({ path, data, crc }: (typeof entries)[number], to: number) => {
    view.setUint16(to, 20, true);
    view.setUint16(to + 2, 0x800, true);
    view.setUint16(to + 8, 0x21, true);
    view.setUint32(to + 10, crc, true);
    view.setUint32(to + 14, data.length, true);
    view.setUint32(to + 18, data.length, true);
    view.setUint16(to + 22, path.length, true);
  };
  const offsets = entries.map((entry) => {
    const offset = at;
    view.setUint32(at, LOCAL, true);
    shared(entry, at + 4);
    out.set(entry.path, at + 30);
    out.set(entry.data, at + 30 + entry.path.length);
    at += 30 + entry.path.length + entry.data.length;
    return offset;
  });
  const directory = at;
  entries.forEach((entry, i) => {
    view.setUint32(at, CENTRAL, true);
    view.setUint16(at + 4, 20, true);
    shared(entry, at + 6);
    view.setUint32(at + 42, offsets[i]!, true);
    out.set(entry.path, at + 46);
    at += 46 + entry.path.length;
  });
  view.setUint32(at, END, true);
  view.setUint16(at + 8, entries.length, true);
  view.setUint16(at + 10, entries.length, true);
  view.setUint32(at + 12, at - directory, true);
  view.setUint32(at + 16, directory, true);
  return out;
}

async function readDirectory(source: ByteSource, name: string): Promise<ZipEntry[]> {
  const { count, begin, end } = await findDirectory(source, name);
  const bytes = await source.read(begin, end);
  const view = viewOf(bytes);
  const entries: ZipEntry[] = [];
  const paths = new Set<string>();
  let at = 0;
  const here = () => begin + at;
  for (let i = 0; i < count; i++) {
    const left = bytes.length - at;
    if (left < 46 || view.getUint32(at, true) !== CENTRAL) {
      throw malformed(name, here(), `entry ${i + 1} of ${count} in the zip directory`, left < 46 ? "its end" : "something else", DAMAGED);
    }
    const length = 46 + view.getUint16(at + 28, true) + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    if (length > left) throw malformed(name, here(), `a directory entry of ${length} bytes`, `${left}`, DAMAGED);
    const entry = await readEntry(source, bytes, at, begin, name);
    if (paths.has(entry.path)) throw malformed(name, here(), "each path once", `${JSON.stringify(entry.path)} twice`);
    paths.add(entry.path);
    entries.push(entry);
    at += length;
  }
  if (at !== bytes.length)
    throw malformed(name, here(), `the zip directory's end after ${count} entries`, `${bytes.length - at} more bytes`, DAMAGED);
  // Overlapping entries are how a small archive unpacks to a huge one.
  let free = 0;
  for (const entry of [...entries].sort((a, b) => a.header - b.header)) {
    if (entry.header < free)
      throw malformed(name, entry.header, "entries that do not overlap", `${JSON.stringify(entry.path)} inside another`);
    free = entry.end;
  }
  return entries;
}

/** The directory's entry count and byte range, from the record at the archive's end (and zip64's, where that one refers to it). */
async function findDirectory(source: ByteSource, name: string): Promise<{ count: number; begin: number; end: number }> {
  const length = source.size;
  // The record at the end, the longest comment behind it, and the locator before it.
  const from = Math.max(0, length - 22 - ALL16 - 20);
  const view = viewOf(await source.read(from, length));
  let at = view.byteLength - 22;
  const lowest = Math.max(0, at - ALL16);
  while (at >= lowest && !(view.getUint32(at, true) === END && from + at + 22 + view.getUint16(at + 20, true) === length)) at--;
  if (at < lowest) throw malformed(name, undefined, "a zip archive, which ends with a directory", "none", DAMAGED);
  if (view.getUint16(at + 4, true) !== 0 || view.getUint16(at + 6, true) !== 0)
    throw malformed(name, from + at, "an archive in one part", "several");
  let count = view.getUint16(at + 10, true);
  let size = view.getUint32(at + 12, true);
  let begin = view.getUint32(at + 16, true);
  let end = from + at;
  // PyTorch writes zip64's records always, also behind a directory that needs none.
  if (count === ALL16 || size === ALL32 || begin === ALL32 || begin + size === end - 76) {
    const locator = at - 20;
    if (locator < 0 || view.getUint32(locator, true) !== LOCATOR64)
      throw malformed(name, from + at, "a zip64 locator before the end", "none", DAMAGED);
    end = uint64(view, locator + 8, from, name);
    const record = end + 56 > from + locator ? undefined : viewOf(await source.read(end, end + 56));
    if (record?.getUint32(0, true) !== END64) throw malformed(name, from + locator, "the zip64 end record", "something else", DAMAGED);
    count = uint64(record, 32, end, name);
    size = uint64(record, 40, end, name);
    begin = uint64(record, 48, end, name);
  }
  if (begin + size !== end)
    throw malformed(name, from + at, `a directory that ends at ${end}`, `one of ${size} bytes at ${begin}`, DAMAGED);
  return { count, begin, end };
}

/** The entry at `at` of the directory, whose bytes stand at `limit` in the file, with its local header. */
async function readEntry(source: ByteSource, directory: Uint8Array, at: number, limit: number, name: string): Promise<ZipEntry> {
  const view = viewOf(directory);
  const here = limit + at;
  const flags = view.getUint16(at + 8, true);
  const method = view.getUint16(at + 10, true);
  const crc = view.getUint32(at + 16, true);
  let packed = view.getUint32(at + 20, true);
  let size = view.getUint32(at + 24, true);
  const pathLength = view.getUint16(at + 28, true);
  const extraLength = view.getUint16(at + 30, true);
  let header = view.getUint32(at + 42, true);
  const rawPath = directory.subarray(at + 46, at + 46 + pathLength);
  let path: string;
  try {
    path = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(rawPath);
  } catch {
    throw malformed(name, here + 46, "a path in UTF-8", "other bytes");
  }
  const shown = JSON.stringify(path.slice(0, 100));
  if (flags & 0x2041) throw malformed(name, here + 8, `${shown} unencrypted`, "encryption", "Unpack it and pack it without a password.");
  if (method !== STORED && method !== DEFLATED) throw malformed(name, here + 10, `${shown} stored or deflated`, `method ${method}`);

  const wide = extra64(view, at + 46 + pathLength, extraLength);
  const take = (value: number): number => {
    if (value !== ALL32) return value;
    if (!wide || wide.at + 8 > wide.end) throw malformed(name, here, `zip64 sizes for ${shown}`, "none", DAMAGED);
    wide.at += 8;
    return uint64(view, wide.at - 8, limit, name);
  };
  size = take(size);
  packed = take(packed);
  header = take(header);
  if (method === STORED && size !== packed) throw malformed(name, here, `${shown}, stored, of one size`, `${packed} and ${size}`, DAMAGED);

  const local = header + 30 > limit ? undefined : await source.read(header, Math.min(header + 30 + pathLength, limit));
  const head = local && viewOf(local);
  if (!local || head?.getUint32(0, true) !== LOCAL) throw malformed(name, header, `the header of ${shown}`, "something else", DAMAGED);
  const localPath = local.subarray(30);
  const begin = header + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  const same = head.getUint16(26, true) === pathLength && localPath.length === pathLength && localPath.every((b, i) => b === rawPath[i]);
  if (!same || head.getUint16(8, true) !== method) {
    throw malformed(name, header, `the same path and method for ${shown} in its header and in the directory`, "different ones", DAMAGED);
  }
  if (begin + packed > limit) throw malformed(name, begin, `${packed} bytes of ${shown}`, `${Math.max(0, limit - begin)}`, DAMAGED);
  return { path, method, crc, packed, size, header, begin, end: begin + packed };
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The range of the zip64 field among the extra fields of a directory entry. */
function extra64(view: DataView, at: number, length: number): { at: number; end: number } | undefined {
  const end = at + length;
  while (at + 4 <= end) {
    const next = at + 4 + view.getUint16(at + 2, true);
    if (next > end) return undefined;
    if (view.getUint16(at, true) === 1) return { at: at + 4, end: next };
    at = next;
  }
  return undefined;
}

/** A number of 8 bytes at `at` of a view that stands at `from` in the file. */
function uint64(view: DataView, at: number, from: number, name: string): number {
  const value = view.getBigUint64(at, true);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw malformed(name, from + at, "a size or an offset within the file", `${value}`, DAMAGED);
  return Number(value);
}

async function inflate(packed: Uint8Array, entry: ZipEntry, name: string): Promise<Uint8Array> {
  const which = `${name}, ${entry.path}`;
  const stream = new DecompressionStream("deflate-raw");
  const writer = stream.writable.getWriter();
  // Its failures reach the reader as well, so they are reported there.
  const written = writer.write(packed as Uint8Array<ArrayBuffer>).then(() => writer.close());
  written.catch(() => undefined);
  const reader = stream.readable.getReader();
  const out = new Uint8Array(entry.size);
  let at = 0;
  for (;;) {
    let chunk: Uint8Array | undefined;
    try {
      chunk = (await reader.read()).value;
    } catch (error) {
      throw malformed(which, entry.begin, "deflated data", `something else (${(error as Error).message})`, DAMAGED);
    }
    if (!chunk) break;
    if (at + chunk.length > entry.size) {
      await reader.cancel().catch(() => undefined);
      throw malformed(which, entry.begin, `${entry.size} bytes once unpacked`, "more", DAMAGED);
    }
    out.set(chunk, at);
    at += chunk.length;
  }
  if (at !== entry.size) throw malformed(which, entry.begin, `${entry.size} bytes once unpacked`, `${at}`, DAMAGED);
  return out;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, i) => {
  let crc = i;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

/** CRC-32 as zip, gzip and PNG use it. `before`: that of the bytes before these, where there are some. */
export function crc32(bytes: Uint8Array, before = 0): number {
  let crc = ~before;
  for (let i = 0; i < bytes.length; i++) crc = CRC_TABLE[(crc ^ bytes[i]!) & 255]! ^ (crc >>> 8);
  return ~crc >>> 0;
}

function hex(value: number): string {
  return value.toString(16).padStart(8, "0");
}
