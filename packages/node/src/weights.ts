/**
 * Files of weights on the disk, of any format that core reads, and into models by name: the one way for every command. Nothing is held
 * but what is being read, so that a file of gigabytes loads in the memory of its model.
 */
import { open } from "node:fs/promises";
import { FormatError, formats, models, type nn } from "spikeloom";
import { diskError } from "./files.ts";

/** Bytes of one read: more than 2 GiB at once is refused by Node. */
const MOST_AT_ONCE = 2 ** 30;

/**
 * Open a file of weights for as long as `use` runs.
 * @param key which of several dictionaries in it; chosen where not given
 * @throws SpikeloomError when the disk refuses, or the file is none or damaged
 */
export async function withWeights<R>(
  path: string,
  key: string | undefined,
  use: (weights: formats.weights.Weights, bytes: number) => Promise<R>,
): Promise<R> {
  const refused = (error: unknown) => diskError(error, `cannot read weights ${path}`);
  const file = await open(path, "r").catch((error: unknown) => {
    throw refused(error);
  });
  try {
    const { size } = await file.stat();
    const read = async (begin: number, end: number): Promise<Uint8Array> => {
      const bytes = new Uint8Array(end - begin);
      for (let at = 0; at < bytes.length; ) {
        const length = Math.min(bytes.length - at, MOST_AT_ONCE);
        const { bytesRead } = await file.read(bytes, at, length, begin + at).catch((error: unknown) => {
          throw refused(error);
        });
        if (!bytesRead) throw new FormatError(`${path}: expected ${size} bytes, found ${begin + at}. It became shorter while it was read.`);
        at += bytesRead;
      }
      return bytes;
    };
    return await use(await formats.weights.open({ size, read }, { name: path, key }), size);
  } finally {
    await file.close();
  }
}

export interface LoadOptions {
  /** Which of several dictionaries in the file; chosen where not given. */
  key?: string | undefined;
  /** Leave keys that are missing, left over or of another shape as they are, and say so, instead of refusing them: to fine-tune. */
  partial?: boolean | undefined;
}

/**
 * Load a file of weights into a model by name.
 * @param rules the model's system, which knows renamed and harmless keys
 * @returns what the file says of itself, and what its user should know
 * @throws SpikeloomError that names the keys that do not fit, and for files that cannot be read
 */
export async function loadWeights(
  model: nn.Module,
  rules: models.StateRules,
  path: string,
  { key, partial }: LoadOptions = {},
): Promise<{ metadata: Readonly<Record<string, string>>; notes: string[] }> {
  return withWeights(path, key, async ({ tensors, metadata, notes }) => {
    const match = await models.loadWeights(model, tensors, rules, { name: path, partial });
    return { metadata, notes: [...notes, ...models.describeMatch(match)] };
  });
}

/** Tell the notes of a file on standard error, where they do not mix with results. */
export function tellNotes(path: string, notes: readonly string[]): void {
  for (const note of notes) console.error(`note: ${path}: ${note}`);
}
