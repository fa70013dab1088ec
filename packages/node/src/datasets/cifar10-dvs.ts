/**
 * CIFAR10-DVS (Li et al. 2017): 10 000 recordings of moving CIFAR-10 images, a thousand a class, without a published split. Read as
 * the archives unpack (a folder a class of AEDAT files), or as SpikingJelly saved it (.npz of events or of frames).
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { data, SpikeloomError } from "spikeloom";
import type { DatasetEntry } from "./entry.ts";
import { eventDataset, findRoot, foundIn, sampleOfFile, samplesOfFolders } from "./event-files.ts";

const CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const STEPS = 10;
const LAYOUT = "the ten class folders (airplane, automobile, ...) with the .aedat files of CIFAR10-DVS, or SpikingJelly's .npz of them";

/**
 * Frames of 64 x 64 (each pixel the mean of 2 x 2 of the sensor's), 10 of them unless said otherwise. The first nine tenths of each
 * class, by file name, train.
 */
export const cifar10Dvs: DatasetEntry = {
  title: "CIFAR10-DVS",
  classes: CLASSES,
  mean: [],
  std: [],
  readSample: (path, { timeSteps = STEPS, splitBy }) => eventDataset([sampleOfFile(path, 0)], CLASSES, { timeSteps, splitBy }, true).get(0),
  async load({ dir, timeSteps = STEPS, splitBy, cache }) {
    if (dir === undefined) throw new SpikeloomError(`CIFAR10-DVS: expected the folder of its files in data.dir, with ${LAYOUT}.`);
    const root = findRoot(dir, ["extract", "events_np"], CLASSES[0] as string);
    if (root === undefined) {
      const packed = existsSync(join(dir, "airplane.zip")) ? " It has the archives: unpack them (unzip) and name the folder again." : "";
      throw new SpikeloomError(`CIFAR10-DVS: expected in ${dir} ${LAYOUT}; ${foundIn(dir, "folder airplane")}.${packed}`);
    }
    const samples = await samplesOfFolders(root, CLASSES, [".aedat", ".npz"]);
    const split = data.events.splitByClass(
      samples.map((sample) => sample.label),
      0.9,
    );
    const [train, test] = [split.train, split.test].map((indices) =>
      eventDataset(
        indices.map((i) => samples[i] as (typeof samples)[number]),
        CLASSES,
        { timeSteps, splitBy, cache },
        true,
      ),
    ) as [data.Dataset, data.Dataset];
    return { train, test, dir: root };
  },
};
