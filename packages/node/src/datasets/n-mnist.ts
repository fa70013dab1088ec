/**
 * N-MNIST (Orchard et al. 2015): MNIST's 70 000 digits as a moving event camera saw them, with MNIST's own split. Read as its two archives
 * unpack: Train and Test, a folder a digit of .bin files.
 */
import { join } from "node:path";
import { data, SpikeloomError } from "spikeloom";
import { readFileChecked } from "../files.ts";
import type { DatasetEntry } from "./entry.ts";
import { type EventSample, eventDataset, findRoot, foundIn, samplesOfFolders } from "./event-files.ts";

const CLASSES = Array.from({ length: 10 }, (_, digit) => String(digit));
const SENSOR = { height: 34, width: 34 };
const STEPS = 10;
const LAYOUT = "the folders Train and Test of N-MNIST, each with the folders 0 to 9 of .bin files";

function sampleOf(path: string, label: number): EventSample {
  const read = async () => ({ events: data.events.readNMnist(await readFileChecked(path, "recording"), SENSOR, path) });
  return { name: path, path, label, read };
}

/** Frames of 34 x 34, 10 of them unless said otherwise. */
export const nMnist: DatasetEntry = {
  title: "N-MNIST",
  classes: CLASSES,
  mean: [],
  std: [],
  readSample: (path, { timeSteps = STEPS, splitBy }) =>
    eventDataset([sampleOf(path, 0)], CLASSES, { timeSteps, splitBy, sensor: SENSOR }, false).get(0),
  async load({ dir, timeSteps = STEPS, splitBy, cache }) {
    if (dir === undefined) throw new SpikeloomError(`N-MNIST: expected the folder of its files in data.dir, with ${LAYOUT}.`);
    const root = findRoot(dir, ["N-MNIST"], join("Train", "0"));
    if (root === undefined) throw new SpikeloomError(`N-MNIST: expected in ${dir} ${LAYOUT}; ${foundIn(dir, "folder Train/0")}.`);
    const [train, test] = (await Promise.all(
      ["Train", "Test"].map(async (split) =>
        eventDataset(
          await samplesOfFolders(join(root, split), CLASSES, [".bin"], sampleOf),
          CLASSES,
          { timeSteps, splitBy, cache, sensor: SENSOR },
          false,
        ),
      ),
    )) as [data.Dataset, data.Dataset];
    return { train, test, dir: root };
  },
};
