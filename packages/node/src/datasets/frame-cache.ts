/**
 * Frames of event recordings, kept on disk so that a recording is decoded once and not every epoch: one file a sample, named by what it was
 * made of (the recording's path, size and time of change, the part of it, the settings). Nothing is trusted: a file that is not whole, or of
 * something else, is made again. One that cannot be written is done without. Any file may be removed at any time.
 *
 * A file, numbers little-endian: "SPKLFRM1", CRC-32 of all that follows (u32), length of the key (u32), the key (UTF-8), T, H, W, C (u32
 * each), bytes of a value (u32), deflated values: 4 times a count in one byte where all fit, else float32.
 */
import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { crc32, deflate, inflate } from "node:zlib";
import type { data } from "spikeloom";
import { diskError, makeFolder, writeFileAtomic } from "../files.ts";
import { userCache } from "../paths.ts";

const MAGIC = "SPKLFRM1";
const HEAD = MAGIC.length + 8;
/** Means of four counts are quarters. */
const SCALE = 4;

export class FrameCache {
  readonly #folder: string;

  /**
   * @param where a folder, or true for this user's own
   * @throws SpikeloomError when it cannot be made
   */
  constructor(where: string | true) {
    this.#folder = where === true ? join(userCache(), "frames") : where;
    try {
      makeFolder(this.#folder);
    } catch (error) {
      throw diskError(error, `cannot make the cache's folder ${this.#folder} (data.cache)`);
    }
  }

  /**
   * What `make` gives for a part of a file, from the cache where it is there.
   * @param part all that decides the result beside the file itself
   */
  async frames(path: string, part: unknown, make: () => Promise<data.events.Frames>): Promise<data.events.Frames> {
    const { size, mtimeMs } = await stat(path).catch((error: unknown) => {
      throw diskError(error, `cannot read recording ${path}`);
    });
    const key = JSON.stringify([resolve(path), size, mtimeMs, part]);
    const file = join(this.#folder, createHash("sha256").update(key).digest("hex"));
    const kept = await readFile(file).then(
      (bytes) => decodeFrames(bytes, key),
      () => undefined,
    );
    if (kept) return kept;
    const made = await make();
    // A full disk costs time, not the run.
    await encodeFrames(made, key)
      .then((bytes) => writeFileAtomic(file, bytes))
      .catch(() => {});
    return made;
  }
}

/** As a file's bytes. */
export async function encodeFrames({ data, shape }: data.events.Frames, key: string): Promise<Uint8Array> {
  const small = Uint8Array.from(data, (v) => v * SCALE);
  const exact = data.every((v, i) => v * SCALE === small[i]);
  const name = Buffer.from(key);
  const numbers = Buffer.alloc(4 + 20);
  [name.length, ...shape, exact ? 1 : 4].forEach((n, i) => void numbers.writeUInt32LE(n, 4 * i));
  const values = exact ? small : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const rest = Buffer.concat([numbers.subarray(0, 4), name, numbers.subarray(4), await promisify(deflate)(values, { level: 1 })]);
  const head = Buffer.alloc(HEAD - 4);
  head.write(MAGIC, "latin1");
  head.writeUInt32LE(crc32(rest), MAGIC.length);
  return Buffer.concat([head, rest]);
}

/** Frames of the file of that key; undefined for bytes that are not whole or not of it. */
export async function decodeFrames(bytes: Buffer, key: string): Promise<data.events.Frames | undefined> {
  const name = Buffer.from(key);
  const at = HEAD + name.length;
  if (bytes.length < at + 20 || bytes.toString("latin1", 0, MAGIC.length) !== MAGIC) return undefined;
  if (bytes.readUInt32LE(MAGIC.length) !== crc32(bytes.subarray(HEAD - 4))) return undefined;
  if (bytes.readUInt32LE(HEAD - 4) !== name.length || !bytes.subarray(HEAD, at).equals(name)) return undefined;
  const [t, h, w, c, size] = Array.from({ length: 5 }, (_, i) => bytes.readUInt32LE(at + 4 * i)) as [
    number,
    number,
    number,
    number,
    number,
  ];
  const count = t * h * w * c;
  const values = await promisify(inflate)(bytes.subarray(at + 20), { maxOutputLength: Math.max(1, count * size) }).catch(() => undefined);
  if (!values || values.length !== count * size) return undefined;
  const data = size === 1 ? Float32Array.from(values, (v) => v / SCALE) : new Float32Array(Uint8Array.from(values).buffer);
  return { data, shape: [t, h, w, c] };
}
