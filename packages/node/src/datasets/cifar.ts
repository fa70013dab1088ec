/** CIFAR-10 and CIFAR-100 from their binary version: its folder, or its archive as it was downloaded. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { data, SpikeloomError } from "spikeloom";
import { isNpmLayout, loadNpmLayout } from "./cifar-npm.ts";
import type { DatasetEntry } from "./entry.ts";
import { readTar, readUnpacked } from "./unpack.ts";

interface Published {
  readonly title: string;
  readonly kind: data.CifarKind;
  readonly folder: string;
  readonly archive: string;
  /** The same data in another format, which is what people often have. */
  readonly python: string;
  readonly train: readonly string[];
  readonly test: readonly string[];
}

const CIFAR10: Published = {
  title: "CIFAR-10",
  kind: "cifar10",
  folder: "cifar-10-batches-bin",
  archive: "cifar-10-binary.tar.gz",
  python: "cifar-10-batches-py",
  train: [1, 2, 3, 4, 5].map((n) => `data_batch_${n}.bin`),
  test: ["test_batch.bin"],
};

const CIFAR100: Published = {
  title: "CIFAR-100",
  kind: "cifar100-fine",
  folder: "cifar-100-binary",
  archive: "cifar-100-binary.tar.gz",
  python: "cifar-100-python",
  train: ["train.bin"],
  test: ["test.bin"],
};

const CIFAR10_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

const CIFAR100_CLASSES = (
  "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle caterpillar cattle " +
  "chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house " +
  "kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange " +
  "orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal " +
  "shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger " +
  "tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
).split(" ");

export const cifar10: DatasetEntry = {
  title: "CIFAR-10",
  classes: CIFAR10_CLASSES,
  mean: [0.4914, 0.4822, 0.4465],
  std: [0.247, 0.2435, 0.2616],
  load: ({ dir }) =>
    dir !== undefined && isNpmLayout(dir) ? loadNpmLayout(dir, CIFAR10_CLASSES) : loadCifar(CIFAR10, CIFAR10_CLASSES, dir),
};

/** Of its two labels the fine one: 100 classes. */
export const cifar100: DatasetEntry = {
  title: "CIFAR-100",
  classes: CIFAR100_CLASSES,
  mean: [0.5071, 0.4867, 0.4408],
  std: [0.2675, 0.2565, 0.2761],
  load: ({ dir }) => loadCifar(CIFAR100, CIFAR100_CLASSES, dir),
};

async function loadCifar(set: Published, classes: readonly string[], dir: string | undefined) {
  const { title, kind, folder, archive, python, train, test } = set;
  const advice = `Download ${archive} (https://www.cs.toronto.edu/~kriz/${archive}) and name its folder (--set data.dir=FOLDER).`;
  if (dir === undefined) throw new SpikeloomError(`${title}: no folder given. ${advice}`);
  const root = [dir, join(dir, folder)].find((path) => existsSync(join(path, test[0] as string)));
  const packed = join(dir, archive);
  let from: string;
  let read: (name: string) => Promise<Uint8Array>;
  if (root !== undefined) {
    from = root;
    read = (name) => readUnpacked(join(root, name));
  } else if (existsSync(packed)) {
    from = packed;
    const files = readTar(await readUnpacked(packed), packed);
    read = async (name) => {
      const bytes = files.get(name);
      if (!bytes) throw new SpikeloomError(`${title}: no ${name} in ${packed}. ${advice}`);
      return bytes;
    };
  } else {
    const other = existsSync(join(dir, python)) ? ` It has ${python}, which is the Python version; the binary version is needed.` : "";
    throw new SpikeloomError(`${title}: neither ${test[0]} nor ${archive} in ${dir}.${other} ${advice}`);
  }
  const split = async (names: readonly string[]) => {
    const files = await Promise.all(names.map(async (name) => ({ name: join(from, name), bytes: await read(name) })));
    return data.datasetFromCifar(kind, files, classes);
  };
  return { train: await split(train), test: await split(test), dir };
}
