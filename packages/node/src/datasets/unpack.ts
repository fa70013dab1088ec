/** Data files as they are published: gzip-compressed, or several in one archive. */
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { FormatError } from "spikeloom";
import { readFileChecked } from "../files.ts";

const DAMAGED = "The file is damaged or was not written to its end: copy or download it again.";
// The largest of these sets unpack to about 190 MB; the cap keeps a crafted gzip file from filling the memory.
const MAX_UNPACKED_BYTES = 2 ** 30;

/** A file's bytes, unpacked where its name ends in .gz. */
export async function readUnpacked(path: string): Promise<Uint8Array> {
  const bytes = await readFileChecked(path, "data file");
  if (!path.endsWith(".gz")) return bytes;
  try {
    return await promisify(gunzip)(bytes, { maxOutputLength: MAX_UNPACKED_BYTES });
  } catch (error) {
    throw new FormatError(`${path}: expected gzip data, found something else (${(error as Error).message}). ${DAMAGED}`, { cause: error });
  }
}

const BLOCK = 512;

/**
 * The plain files of a tar archive (POSIX ustar: headers of 512 bytes, each followed by a file in whole blocks), by their names
 * without folders. Their bytes are shared with the archive.
 * @throws FormatError when it is no tar archive or ends early
 */
export function readTar(bytes: Uint8Array, name: string): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  const text = (from: number, length: number) => {
    const field = bytes.subarray(from, from + length);
    const end = field.indexOf(0);
    return new TextDecoder("latin1").decode(end < 0 ? field : field.subarray(0, end)).trim();
  };
  let at = 0;
  // Two blocks of zeros end an archive.
  while (at < bytes.length && bytes[at] !== 0) {
    const octal = text(at + 124, 12);
    const size = /^[0-7]+$/.test(octal) ? Number.parseInt(octal, 8) : Number.NaN;
    if (Number.parseInt(text(at + 148, 8), 8) !== checksum(bytes.subarray(at, at + BLOCK)) || Number.isNaN(size))
      throw new FormatError(`${name}, byte ${at}: expected the header of a file in a tar archive, found something else. ${DAMAGED}`);
    const start = at + BLOCK;
    if (start + size > bytes.length)
      throw new FormatError(`${name}, byte ${start}: expected a file of ${size} bytes, found ${bytes.length - start}. ${DAMAGED}`);
    const kind = bytes[at + 156];
    if (kind === 0 || kind === 0x30) files.set(text(at, 100).split("/").at(-1) as string, bytes.subarray(start, start + size));
    at = start + Math.ceil(size / BLOCK) * BLOCK;
  }
  return files;
}

/** Sum of a header's bytes, its own field taken as spaces. */
function checksum(header: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < header.length; i++) sum += i >= 148 && i < 156 ? 0x20 : (header[i] as number);
  return sum;
}
