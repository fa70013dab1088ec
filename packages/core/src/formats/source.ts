/**
 * Bytes by position: what readers of large files ask for, so that a file of gigabytes is never held whole. A file on disk, a
 * Blob of a page, or bytes in memory.
 */
import { kindOf } from "../runtime/check.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { DAMAGED, malformed } from "./array.ts";

export interface ByteSource {
  /** Bytes in all. */
  readonly size: number;
  /** The bytes from `begin` up to `end`, which lie within the size. */
  read(begin: number, end: number): Promise<Uint8Array>;
}

/** What a reader takes: all bytes, a Blob or File (nothing of it is read but what is needed), or a source of one's own. */
export type Bytes = Uint8Array | Blob | ByteSource;

/** One face for all of them. Bytes in memory are shared, not copied. @throws SpikeloomError for anything else */
export function sourceOf(where: string, file: Bytes): ByteSource {
  if (file instanceof Uint8Array) return { size: file.length, read: async (begin, end) => file.subarray(begin, end) };
  if (typeof Blob !== "undefined" && file instanceof Blob)
    return { size: file.size, read: async (begin, end) => new Uint8Array(await file.slice(begin, end).arrayBuffer()) };
  if (typeof file !== "object" || file === null || typeof file.size !== "number" || typeof (file as ByteSource).read !== "function")
    throw new SpikeloomError(
      `${where}: the file must be given as its bytes (a Uint8Array), a Blob, or { size, read(begin, end) }, found ${kindOf(file)}`,
    );
  return file as ByteSource;
}

/** A part of a source, as one of its own. Its owner has checked that it lies within. */
export function partOf(source: ByteSource, from: number, size: number): ByteSource {
  return { size, read: (begin, end) => source.read(from + begin, from + end) };
}

/** `length` bytes at `at`. @throws FormatError where the file ends before */
export async function bytesAt(source: ByteSource, at: number, length: number, name: string, what: string): Promise<Uint8Array> {
  if (at + length > source.size)
    throw malformed(name, at, `${length} bytes of ${what}`, `${Math.max(0, source.size - at)} up to the file's end`, DAMAGED);
  return source.read(at, at + length);
}
