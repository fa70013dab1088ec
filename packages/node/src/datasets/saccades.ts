/**
 * Event recordings without a download: MNIST and Fashion-MNIST as a simulated event camera sees them from N-MNIST's saccades
 * (`data.events.SaccadeCamera`). The recordings are always the same, whatever the seed of the run.
 */
import { data, SpikeloomError } from "spikeloom";
import type { DatasetEntry } from "./entry.ts";
import { fashionMnist, mnist } from "./mnist.ts";

const STEPS = 8;
/** Test pictures are recordings of their own numbers: their noise is not that of any training picture. */
const FIRST_TEST = 2 ** 20;

function seenBy(
  camera: data.events.SaccadeCamera,
  pictures: data.Dataset,
  first: number,
  { timeSteps, splitBy }: { timeSteps: number; splitBy?: "number" | "time" | undefined },
): data.Dataset {
  const { length, classes, labels } = pictures;
  return {
    ...{ length, classes, labels },
    get(index) {
      const { data: values, shape, label } = pictures.get(index) as data.Sample;
      const [height, width] = shape as [number, number, number];
      const events = camera.record({ data: values, height, width }, first + index);
      const frames = data.events.eventFrames(events, { ...camera.sensor, timeSteps, splitBy });
      return { data: frames.data, shape: frames.shape, label };
    },
  };
}

/** Frames of 34 x 34, 8 of them unless said otherwise. */
function saccades(of: DatasetEntry): DatasetEntry {
  return {
    title: `${of.title} by saccades`,
    classes: of.classes,
    mean: [],
    std: [],
    readSample: () => {
      throw new SpikeloomError(`${of.title} by saccades has no files of recordings: predict by a run of n-mnist, whose files are alike`);
    },
    async load({ dir, timeSteps = STEPS, splitBy }) {
      const { train, test, dir: found } = await of.load(dir === undefined ? {} : { dir });
      const camera = new data.events.SaccadeCamera();
      const settings = { timeSteps, splitBy };
      return { train: seenBy(camera, train, 0, settings), test: seenBy(camera, test, FIRST_TEST, settings), dir: found };
    },
  };
}

export const saccadeMnist = saccades(mnist);
export const saccadeFashionMnist = saccades(fashionMnist);
