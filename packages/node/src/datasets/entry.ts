/** What a recipe's `data.name` stands for. */
import type { data } from "spikeloom";

/** Where the files are, and, for event data, how a recording is made into frames. */
export interface DatasetOptions {
  /** Folder of the files. */
  dir?: string;
  /** Event data: number of frames. */
  timeSteps?: number;
  /** Event data: frames share the recording's events or its time. */
  splitBy?: "number" | "time";
  /** Event data: keep frames in this folder, or, true, in this user's cache. */
  cache?: boolean | string;
}

/** A published data set that is read from disk. */
export interface DatasetEntry {
  readonly title: string;
  /** Names of the classes, in the order of their numbers. */
  readonly classes: readonly string[];
  /** Mean and standard deviation of each channel (of values 0..1), for normalisation; empty where there is none. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
  /** Event data: one recording's file as `load` would have it, with the label 0. Image data has none: any image will do. */
  readSample?(path: string, options: Omit<DatasetOptions, "dir">): data.Sample | Promise<data.Sample>;
  /** @throws SpikeloomError when files are missing, FormatError when one is damaged */
  load(options: DatasetOptions): Promise<{ train: data.Dataset; test: data.Dataset /** Where it was found. */; dir: string }>;
}
