/** Errors that tell a user what was wrong, where, and how to mend it. The command prints their message without a stack. */

/** A mistake in what the user gave: a shape, a dtype, a file, a setting. The message names what, where, expected and found. */
export class SpikeloomError extends Error {
  override name = "SpikeloomError";
}

/** A wrong setting of a model's configuration; `setting` is its key, so that who read it from a file can name the line. */
export class SettingError extends SpikeloomError {
  override name = "SettingError";
  readonly setting: string;

  constructor(setting: string, message: string) {
    super(message);
    this.setting = setting;
  }
}

/** Bytes that are not what their format says: a corrupted, truncated or hostile file. */
export class FormatError extends SpikeloomError {
  override name = "FormatError";
}

/**
 * The entry of `candidates` nearest to `word` by edit distance, for "did you mean"; undefined when none is near
 * (more than a third of the letters differ).
 */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

/** Letters changed, added, left out, or swapped with their neighbour. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(replace, (row[j] as number) + 1, (next[j - 1] as number) + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) best = Math.min(best, (before[j - 2] as number) + 1);
      next.push(best);
    }
    before = row;
    row = next;
  }
  return row[b.length] as number;
}
