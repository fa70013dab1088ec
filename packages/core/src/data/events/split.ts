/** The split of data sets that are published without one. */
import { SpikeloomError } from "../../runtime/error.ts";

/**
 * Of each class the first ceil(fraction * n) samples train, the rest test (SpikingJelly's order without shuffling). Samples stand in
 * the order of their file names as strings, within a class folder.
 * @returns numbers of samples, class by class
 * @throws SpikeloomError for a fraction outside 0..1
 */
export function splitByClass(labels: ArrayLike<number>, fraction: number): { train: number[]; test: number[] } {
  if (!(fraction >= 0 && fraction <= 1)) throw new SpikeloomError(`splitByClass: expected a fraction from 0 to 1, found ${fraction}.`);
  const classes = new Map<number, number[]>();
  for (let i = 0; i < labels.length; i++) {
    const members = classes.get(labels[i]!);
    if (members) members.push(i);
    else classes.set(labels[i]!, [i]);
  }
  const ordered = [...classes.keys()].sort((a, b) => a - b).map((label) => classes.get(label)!);
  const cut = (members: number[]) => Math.ceil(fraction * members.length);
  return { train: ordered.flatMap((m) => m.slice(0, cut(m))), test: ordered.flatMap((m) => m.slice(cut(m))) };
}

/** File names in the order of data sets: as strings, so that `_10` stands before `_2`. A new array. */
export function byName(names: Iterable<string>): string[] {
  return [...names].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}
