/** What the event data sets share: folders of recordings, and frames made of a file when a sample is asked for. */
import type { Dirent } from "node:fs";
import { existsSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { data, FormatError, SpikeloomError } from "spikeloom";
import { diskError, readFileChecked } from "../files.ts";
import { FrameCache } from "./frame-cache.ts";

/** CIFAR10-DVS and DVS128 Gesture are of DVS128 cameras. */
export const SENSOR: data.events.SensorSize = { height: 128, width: 128 };

/** A recording, or its frames where the file holds those. */
export type Recording = Awaited<ReturnType<typeof data.events.readEventNpz>>;

export interface EventSample {
  /** Where the events come from, for messages: the file, and which part of it. */
  readonly name: string;
  /** The file. */
  readonly path: string;
  readonly label: number;
  read(): Promise<Recording>;
}

export interface FrameSettings {
  timeSteps: number;
  splitBy?: "number" | "time" | undefined;
  /** See `DatasetOptions`. */
  cache?: boolean | string | undefined;
  /** Default: that of DVS128 cameras. */
  sensor?: data.events.SensorSize | undefined;
}

/** A file as SpikingJelly or the authors saved it. */
export function sampleOfFile(path: string, label: number): EventSample {
  return {
    ...{ name: path, path, label },
    async read() {
      const bytes = await readFileChecked(path, "recording");
      return path.endsWith(".npz") ? data.events.readEventNpz(bytes, SENSOR, path) : { events: data.events.readCifar10Dvs(bytes, path) };
    },
  };
}

// Enough to hide the disk; each has a recording of some megabytes in memory.
const AT_ONCE = 8;

/**
 * A data set of recordings whose frames, [T, H, W, 2] counts, are made when a sample is asked for, each time unless they are kept.
 * @param half whether frames are halved to 64 x 64
 */
export function eventDataset(
  samples: readonly EventSample[],
  classNames: readonly string[],
  { timeSteps, splitBy, cache, sensor = SENSOR }: FrameSettings,
  half: boolean,
): data.Dataset {
  const limited = data.atMost(AT_ONCE);
  const kept = cache ? new FrameCache(cache) : undefined;
  return {
    length: samples.length,
    classes: classNames.length,
    classNames,
    labels: samples.map(({ label }) => label),
    concurrent: true,
    nameOf: (index) => (samples[index] as EventSample).name,
    get: (index) =>
      limited(async () => {
        const sample = samples[index] as EventSample;
        const { name, path, label } = sample;
        const part = [name, timeSteps, splitBy ?? "number", half];
        const { data: values, shape } = await (kept ? kept.frames(path, part, () => make(sample)) : make(sample));
        return { data: values, shape, label };
      }),
  };

  async function make({ name, read }: EventSample): Promise<data.events.Frames> {
    const recording = await read();
    const full = "frames" in recording ? expectSteps(recording.frames, timeSteps, sensor, name) : toFrames(recording.events, name);
    return half ? data.events.halveFrames(full) : full;
  }

  function toFrames(events: data.events.Events, name: string): data.events.Frames {
    if (!events.t.length) throw new FormatError(`${name}: expected events, found none. The file is damaged: copy or download it again.`);
    return data.events.eventFrames(events, { ...sensor, timeSteps, splitBy });
  }
}

function expectSteps(frames: data.events.Frames, timeSteps: number, sensor: data.events.SensorSize, name: string): data.events.Frames {
  const [steps, height, width] = frames.shape;
  if (steps !== timeSteps || height !== sensor.height || width !== sensor.width)
    throw new SpikeloomError(
      `${name}: expected ${timeSteps} frames of ${sensor.height} x ${sensor.width}, found ${steps} of ${height} x ${width}. Set data.timeSteps to what the files hold, or use the recordings.`,
    );
  return frames;
}

/** The first of `dir` and these folders in it that holds `mark`. */
export function findRoot(dir: string, below: readonly string[], mark: string): string | undefined {
  return [dir, ...below.map((folder) => join(dir, folder))].find((folder) => existsSync(join(folder, mark)));
}

/** What was found in `dir` in place of `expected`. */
export function foundIn(dir: string, expected: string): string {
  return existsSync(dir) ? `found no ${expected} there` : "found no such folder";
}

/**
 * The recordings of class folders, class by class, by name (as strings, the order of the published splits).
 * @param folders name of each class's folder, in the order of the classes
 * @throws SpikeloomError when a folder is missing or has no recordings
 */
export async function samplesOfFolders(
  root: string,
  folders: readonly string[],
  extensions: readonly string[],
  sample: (path: string, label: number) => EventSample = sampleOfFile,
): Promise<EventSample[]> {
  const samples = await Promise.all(
    folders.map(async (folder, label) => {
      const path = join(root, folder);
      let entries: Dirent[];
      try {
        entries = await readdir(path, { withFileTypes: true });
      } catch (error) {
        throw diskError(error, `cannot read the recordings of class ${basename(folder)} in ${path}`);
      }
      const names = entries
        .filter((e) => !e.isDirectory() && !e.name.startsWith(".") && extensions.some((ext) => e.name.endsWith(ext)))
        .map((e) => e.name);
      if (!names.length) throw new SpikeloomError(`${path}: expected recordings (${extensions.join(" or ")}), found none.`);
      return data.events.byName(names).map((name) => sample(join(path, name), label));
    }),
  );
  return samples.flat();
}
