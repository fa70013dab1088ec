/**
 * DVS128 Gesture (Amir et al. 2017): 29 people's hand and arm gestures under three lights, in minutes-long recordings. Read as the
 * archive unpacks (AEDAT 3.1 recordings, a table of gestures for each, two lists), or as SpikingJelly saved it (.npz a gesture).
 */
import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { data, FormatError, SpikeloomError } from "spikeloom";
import { diskError, readFileChecked } from "../files.ts";
import type { DatasetEntry } from "./entry.ts";
import { type EventSample, eventDataset, findRoot, foundIn, SENSOR, sampleOfFile, samplesOfFolders } from "./event-files.ts";

const STEPS = 16;
const SPLITS = ["train", "test"] as const;
const LAYOUT =
  "the files of DvsGesture.tar.gz (trials_to_train.txt, user01_lab.aedat, ...), or SpikingJelly's folders train and test of .npz";

/** Frames of 128 x 128, 16 of them unless said otherwise. The published split; classes in the order of trained heads. */
export const dvs128Gesture: DatasetEntry = {
  title: "DVS128 Gesture",
  classes: data.events.gestureNames,
  mean: [],
  std: [],
  readSample: (path, { timeSteps = STEPS, splitBy }) =>
    eventDataset(
      [path.endsWith(".aedat") ? wholeRecording(path) : sampleOfFile(path, 0)],
      data.events.gestureNames,
      { timeSteps, splitBy },
      false,
    ).get(0),
  async load({ dir, timeSteps = STEPS, splitBy, cache }) {
    if (dir === undefined) throw new SpikeloomError(`DVS128 Gesture: expected the folder of its files in data.dir, with ${LAYOUT}.`);
    const recordings = findRoot(dir, ["DvsGesture", join("extract", "DvsGesture")], "trials_to_train.txt");
    const root = recordings ?? findRoot(dir, ["events_np"], join("train", "0"));
    if (root === undefined)
      throw new SpikeloomError(`DVS128 Gesture: expected in ${dir} ${LAYOUT}; ${foundIn(dir, "trials_to_train.txt and no train/0")}.`);
    const [train, test] = (await Promise.all(
      SPLITS.map(async (split) => {
        const samples = await (recordings === undefined
          ? samplesOfFolders(
              join(root, split),
              data.events.gestureFolders.map((folder) => `${folder}`),
              [".npz"],
            )
          : samplesOfRecordings(root, split));
        return eventDataset(samples, data.events.gestureNames, { timeSteps, splitBy, cache }, false);
      }),
    )) as [data.Dataset, data.Dataset];
    return { train, test, dir: root };
  },
};

/** A recording of one gesture, cut out of a longer one by whoever made it. */
function wholeRecording(path: string): EventSample {
  const read = async () => ({ events: data.events.readAedat3(await readFileChecked(path, "recording"), SENSOR, path) });
  return { name: path, path, label: 0, read };
}

/** The gestures of a split's recordings, class by class, in the order of SpikingJelly's file names. */
async function samplesOfRecordings(root: string, split: (typeof SPLITS)[number]): Promise<EventSample[]> {
  const list = join(root, `trials_to_${split}.txt`);
  const trials = data.events.readGestureTrials(await readFileChecked(list, "list of recordings"), list);
  const named = new Map<string, EventSample>();
  for (const trial of trials) {
    const path = join(root, `${trial}.aedat`);
    const table = join(root, `${trial}_labels.csv`);
    const labels = data.events.readGestureLabels(await readFileChecked(table, "table of gestures"), table);
    const recording = new GestureRecording(path, labels);
    await recording.check();
    labels.forEach(({ label, repeat, start, end }, i) => {
      const name = `${path}, ${start} to ${end} microseconds`;
      // A label as two digits, so that the order of strings is that of the classes first.
      named.set(`${String(label).padStart(2, "0")}/${trial}_${repeat}.npz`, { name, path, label, read: () => recording.read(i) });
    });
  }
  return data.events.byName(named.keys()).map((key) => named.get(key) as EventSample);
}

// A recording is tens of megabytes while it is searched.
const searching = data.atMost(2);

/**
 * One recording. Where its gestures lie is found when the first of them is asked for; from then on each is read by itself, without
 * the minutes around it.
 */
class GestureRecording {
  readonly #path: string;
  readonly #ranges: readonly data.events.TimeRange[];
  #parts: Promise<{ begin: number; end: number }[]> | undefined;

  constructor(path: string, ranges: readonly data.events.TimeRange[]) {
    this.#path = path;
    this.#ranges = ranges;
  }

  /** @throws SpikeloomError when the file cannot be opened */
  async check(): Promise<void> {
    await this.#opened(async () => {});
  }

  async read(index: number): Promise<{ events: data.events.Events }> {
    this.#parts ??= searching(async () => data.events.findAedat3(await readFileChecked(this.#path, "recording"), this.#ranges, this.#path));
    const { begin, end } = (await this.#parts)[index] as { begin: number; end: number };
    const { start, end: until } = this.#ranges[index] as data.events.TimeRange;
    const bytes = new Uint8Array(end - begin);
    await this.#opened(async (file) => {
      let at = 0;
      while (at < bytes.length) {
        const { bytesRead } = await file.read(bytes, at, bytes.length - at, begin + at);
        if (!bytesRead) throw new FormatError(`${this.#path}: expected ${end} bytes, found ${begin + at}. It was changed while in use.`);
        at += bytesRead;
      }
    });
    const events = data.events.readAedat3Packets(bytes, SENSOR, `${this.#path}, from byte ${begin}`);
    return { events: data.events.sliceTime(events, start, until) };
  }

  async #opened(use: (file: FileHandle) => Promise<void>): Promise<void> {
    try {
      const file = await open(this.#path, "r");
      try {
        await use(file);
      } finally {
        await file.close();
      }
    } catch (error) {
      throw diskError(error, `cannot read recording ${this.#path}`);
    }
  }
}
