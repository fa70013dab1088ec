/**
 * The text files of DVS128 Gesture (Amir et al. 2017, "A Low Power, Fully Event-Based Gesture Recognition System"): which recording
 * belongs to which split, and when in a recording which gesture was made.
 */
import { malformed } from "../../formats/array.ts";
import { FormatError } from "../../runtime/error.ts";
import type { TimeRange } from "./aedat.ts";

/** Gestures by label 1 to 11, as the data set's own table names them. */
const GESTURES = [
  "hand_clapping",
  "right_hand_wave",
  "left_hand_wave",
  "right_arm_clockwise",
  "right_arm_counter_clockwise",
  "left_arm_clockwise",
  "left_arm_counter_clockwise",
  "arm_roll",
  "air_drums",
  "air_guitar",
  "other_gestures",
];

/**
 * Label - 1 of each class. SpikingJelly keeps samples in folders "0" to "10" and numbers them in the order of strings, so class 2 is
 * folder 10: trained heads follow that order.
 */
export const gestureFolders: readonly number[] = GESTURES.map((_, i) => i).sort((a, b) => (`${a}` < `${b}` ? -1 : 1));

/** Names of the eleven classes, in the order of trained heads. */
export const gestureNames: readonly string[] = gestureFolders.map((folder) => GESTURES[folder]!);

/** One gesture of a recording. */
export interface GestureLabel extends TimeRange {
  /** Class number, from 0, in the order of `gestureNames`. */
  readonly label: number;
  /** How many gestures of this class came before it in the recording: the number in SpikingJelly's file names. */
  readonly repeat: number;
}

function lines(bytes: Uint8Array, name: string): string[] {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes).split(/\r?\n/);
  } catch (error) {
    throw new FormatError(`${name}: expected text, found other bytes.`, { cause: error });
  }
}

/**
 * A recording's `*_labels.csv`: a line of column names, then class (1 to 11), start and end in microseconds.
 * @throws FormatError that names the line
 */
export function readGestureLabels(bytes: Uint8Array, name = "labels"): GestureLabel[] {
  const repeats = new Array<number>(GESTURES.length).fill(0);
  const labels: GestureLabel[] = [];
  lines(bytes, name).forEach((line, i) => {
    if (i === 0 || !line.trim()) return;
    const place = `${name}, line ${i + 1}`;
    const [, gesture, start, end] = (/^\s*(\d{1,2})\s*,\s*(\d{1,15})\s*,\s*(\d{1,15})\s*$/.exec(line) ?? []).map(Number);
    if (gesture === undefined || start === undefined || end === undefined)
      throw malformed(place, undefined, "class,start,end as three whole numbers", JSON.stringify(line.slice(0, 60)));
    if (gesture < 1 || gesture > GESTURES.length) throw malformed(place, undefined, `a class from 1 to ${GESTURES.length}`, `${gesture}`);
    if (end <= start) throw malformed(place, undefined, "an end after the start", `${start} to ${end}`);
    const label = gestureFolders.indexOf(gesture - 1);
    labels.push({ label, start, end, repeat: repeats[label]!++ });
  });
  if (!labels.length) throw malformed(name, undefined, "a line for each gesture below the line of column names", "none");
  return labels;
}

/**
 * `trials_to_train.txt` or `trials_to_test.txt`: file names of recordings.
 * @returns the names without `.aedat`
 * @throws FormatError for a line that is no file name
 */
export function readGestureTrials(bytes: Uint8Array, name = "trials"): string[] {
  const trials = lines(bytes, name).flatMap((line, i) => {
    if (!line.trim()) return [];
    const trial = /^([\w-]+)\.aedat$/.exec(line.trim())?.[1];
    if (!trial)
      throw malformed(`${name}, line ${i + 1}`, undefined, "a file name such as user01_lab.aedat", JSON.stringify(line.slice(0, 60)));
    return [trial];
  });
  if (!trials.length) throw malformed(name, undefined, "a file name a line", "none");
  return trials;
}
