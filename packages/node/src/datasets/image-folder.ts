/**
 * Images in a folder for each class, below train/ and val/ (or test/): the layout of ImageNet and of most people's own data. Only the
 * names are read at first; an image is decoded when its sample is asked for.
 */
import type { Dirent } from "node:fs";
import { existsSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { extname, join } from "node:path";
import { type data, nearest, SpikeloomError } from "spikeloom";
import { diskError } from "../files.ts";
import { IMAGE_ENDINGS, readImage } from "../images.ts";
import type { DatasetEntry } from "./entry.ts";

const LAYOUT = "train/CLASS/*.jpg and val/CLASS/*.jpg (or test/ for val/)";

/** Classes are the folders of train/ by name; pixels are normalised by ImageNet's mean and deviation. */
export const imageFolder: DatasetEntry = {
  title: "image folder",
  classes: [],
  mean: [0.485, 0.456, 0.406],
  std: [0.229, 0.224, 0.225],
  async load({ dir }) {
    if (dir === undefined) throw new SpikeloomError(`Image folder: no folder given. Name one that has ${LAYOUT} (--set data.dir=FOLDER).`);
    const held = ["val", "test"].find((name) => existsSync(join(dir, name)));
    if (!existsSync(join(dir, "train")) || held === undefined)
      throw new SpikeloomError(`Image folder: expected ${LAYOUT} in ${dir}, found no ${held === undefined ? "val/ or test/" : "train/"}.`);
    const classNames = await classFolders(join(dir, "train"));
    const others = await classFolders(join(dir, held));
    const unknown = others.find((name) => !classNames.includes(name));
    if (unknown !== undefined) {
      const meant = nearest(unknown, classNames);
      const hint = meant === undefined ? "" : ` Is it ${meant}?`;
      throw new SpikeloomError(`${join(dir, held, unknown)}: expected a class that train/ has, found none of that name there.${hint}`);
    }
    const [train, test] = [await imagesOf(join(dir, "train"), classNames, classNames), await imagesOf(join(dir, held), classNames, others)];
    return { train, test, dir };
  },
};

/** Names of the folders in a folder, sorted as strings; hidden ones are left out. */
async function classFolders(root: string): Promise<string[]> {
  const names: string[] = [];
  for (const entry of await list(root)) if (await isFolder(root, entry)) names.push(entry.name);
  if (!names.length) throw new SpikeloomError(`${root}: expected a folder of images for each class, found no folder.`);
  return names;
}

/** The images of those classes that are present, class by class, each class's by path. */
async function imagesOf(root: string, classNames: readonly string[], present: readonly string[]): Promise<data.Dataset> {
  const paths: string[] = [];
  const labels: number[] = [];
  for (const name of present) {
    const found = await imagesBelow(join(root, name));
    if (!found.length)
      throw new SpikeloomError(
        `${join(root, name)}: expected images (${IMAGE_ENDINGS.join(", ")}), found none. Remove the folder or fill it.`,
      );
    for (const path of found) {
      paths.push(path);
      labels.push(classNames.indexOf(name));
    }
  }
  return {
    length: paths.length,
    classes: classNames.length,
    classNames,
    labels,
    concurrent: true,
    nameOf: (index) => paths[index] as string,
    get: (index) => readImage(paths[index] as string, labels[index] as number),
  };
}

async function imagesBelow(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await list(folder)) {
    const path = join(folder, entry.name);
    // Links to folders are not followed here: they may lead back.
    if (entry.isDirectory()) found.push(...(await imagesBelow(path)));
    else if (IMAGE_ENDINGS.includes(extname(entry.name).toLowerCase())) found.push(path);
  }
  return found;
}

/** What is in a folder, by name; hidden files are left out. */
async function list(folder: string): Promise<Dirent[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    return entries.filter(({ name }) => !name.startsWith(".")).sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (error) {
    throw diskError(error, `cannot read the folder ${folder}`);
  }
}

async function isFolder(root: string, entry: Dirent): Promise<boolean> {
  if (!entry.isSymbolicLink()) return entry.isDirectory();
  return stat(join(root, entry.name)).then(
    (target) => target.isDirectory(),
    () => false,
  );
}
