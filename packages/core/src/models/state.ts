/**
 * Weights from files into models by name: which of the file's keys is which of the model's, what is missing, left over, renamed or of
 * another shape. Nothing is loaded before all of it is known; then tensor by tensor, so that weights are in memory once.
 */
import type { NdArray } from "../formats/array.ts";
import type { StoredTensor } from "../formats/stored.ts";
import type { Module } from "../nn/module.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { type Shape, sameShape, show, sizeOf } from "../tensor/shape.ts";

/** A key that some version of a system's code wrote under another name: `key.replace(from, to)` is the model's. */
export interface Rename {
  from: RegExp;
  to: string;
  why: string;
}

/** Keys that a file may have and the model has not, and what it means to leave them out. */
export interface Harmless {
  keys: RegExp;
  why: string;
}

/** What a system says of the files that its official code wrote. */
export interface StateRules {
  renames?: readonly Rename[] | undefined;
  harmless?: readonly Harmless[] | undefined;
}

/** How a file's keys meet a model's. */
export interface StateMatch {
  /** The model's keys, each with the file's. Only those whose shapes fit. */
  pairs: Map<string, string>;
  renamed: { from: string; to: string; why: string }[];
  /** The same values under another shape of the same axes, but for axes of one. */
  reshaped: { key: string; from: Shape; to: Shape }[];
  /** Keys of the model that the file has not. */
  missing: string[];
  /** Keys of the file that the model has not. */
  extra: string[];
  misshaped: { key: string; expected: Shape; found: Shape }[];
  /** Missing or left over, and known to change no output. */
  harmless: { key: string; why: string }[];
}

const COMMON: readonly Rename[] = [
  { from: /\.gamma$/, to: ".weight", why: "an older name of a norm's weight" },
  { from: /\.beta$/, to: ".bias", why: "an older name of a norm's bias" },
];
const COUNTER = /(^|\.)num_batches_tracked$/;

/**
 * Compare keys and shapes.
 * @param expected the model's, as `stateShapes()` gives them
 */
export function matchState(
  expected: ReadonlyMap<string, Shape>,
  found: ReadonlyMap<string, { shape: Shape }>,
  { renames = [], harmless = [] }: StateRules = {},
): StateMatch {
  const match: StateMatch = { pairs: new Map(), renamed: [], reshaped: [], missing: [], extra: [], misshaped: [], harmless: [] };
  const source = new Map<string, string>();
  for (const key of found.keys()) if (expected.has(key)) source.set(key, key);
  const prefix = source.size ? "" : commonPrefix(found.keys());
  for (const key of found.keys()) {
    if (source.get(key) === key) continue;
    const bare = key.slice(prefix.length);
    const candidates = [
      { to: bare, why: `the prefix "${prefix}" before every key` },
      ...[...renames, ...COMMON]
        .filter(({ from }) => bare.search(from) >= 0)
        .map(({ from, to, why }) => ({ to: bare.replace(from, to), why })),
    ];
    const hit = candidates.find(({ to }) => expected.has(to) && !source.has(to));
    const known = harmless.find(({ keys }) => bare.search(keys) >= 0);
    if (hit) {
      source.set(hit.to, key);
      match.renamed.push({ from: key, ...hit });
    } else if (known) match.harmless.push({ key, why: known.why });
    else match.extra.push(key);
  }
  for (const [key, shape] of expected) {
    const from = source.get(key);
    if (from === undefined) {
      if (COUNTER.test(key)) match.harmless.push({ key, why: "not in files of PyTorch before 0.4.1; evaluation does not use it" });
      else match.missing.push(key);
      continue;
    }
    const has = (found.get(from) as { shape: Shape }).shape;
    const long = (s: Shape) => s.filter((n) => n !== 1);
    if (!sameShape(has, shape)) {
      if (!sameShape(long(has), long(shape))) {
        match.misshaped.push({ key, expected: shape, found: has });
        continue;
      }
      match.reshaped.push({ key, from: has, to: shape });
    }
    match.pairs.set(key, from);
  }
  return match;
}

/** A first part that all keys have, with its dot. */
function commonPrefix(keys: Iterable<string>): string {
  const parts = new Set([...keys].map((key) => /^[^.]+\./.exec(key)?.[0] ?? ""));
  return parts.size === 1 ? ([...parts][0] as string) : "";
}

/** Does the match leave nothing open that could change an output? */
export function isWhole({ missing, extra, misshaped }: StateMatch): boolean {
  return missing.length + extra.length + misshaped.length === 0;
}

const SHOWN = 8;

/** A match in words, a line for each kind of difference; none where everything is as it should be. */
export function describeMatch({ renamed, reshaped, missing, extra, misshaped, harmless }: StateMatch): string[] {
  const lines: string[] = [];
  const line = (what: string, entries: readonly string[]) => {
    if (!entries.length) return;
    const more = entries.length > SHOWN ? `, and ${entries.length - SHOWN} more` : "";
    lines.push(`${entries.length} ${what}: ${entries.slice(0, SHOWN).join(", ")}${more}`);
  };
  line("missing", missing);
  line("left over", extra);
  line(
    "of another shape",
    misshaped.map((m) => `${m.key} (the model's ${show(m.expected)}, the file's ${show(m.found)})`),
  );
  for (const why of new Set(renamed.map((r) => r.why)))
    line(
      `renamed (${why})`,
      renamed.filter((r) => r.why === why).map((r) => `${r.from} -> ${r.to}`),
    );
  line(
    "reshaped",
    reshaped.map((r) => `${r.key} ${show(r.from)} -> ${show(r.to)}`),
  );
  for (const why of new Set(harmless.map((h) => h.why)))
    line(
      `left as it is (${why})`,
      harmless.filter((h) => h.why === why).map((h) => h.key),
    );
  return lines;
}

/** The tensor of a pair under the shape that the model has it in. */
export async function readAs(tensor: StoredTensor, shape: Shape): Promise<NdArray> {
  const array = await tensor.read();
  return { ...array, shape };
}

/** Elements that are read before they are put into the model. */
const BATCH = 2 ** 22;

/**
 * Load weights into a model, by name.
 * @param options `partial`: keys that are missing, left over or of another shape are left as they are instead of refused (to fine-tune
 *   with other classes, or with another number of steps); `name` is the file's, for messages
 * @returns how the keys met
 * @throws SpikeloomError that names every key that does not meet; the model is unchanged then. Of a file that turns out damaged while it is
 *   read, it has the first part
 */
export async function loadWeights(
  model: Module,
  tensors: ReadonlyMap<string, StoredTensor>,
  rules: StateRules = {},
  options: { name?: string | undefined; partial?: boolean | undefined } = {},
): Promise<StateMatch> {
  const { name = "weights", partial = false } = options;
  const shapes = model.stateShapes();
  const match = matchState(shapes, tensors, rules);
  if (!match.pairs.size || (!partial && !isWhole(match)))
    throw new SpikeloomError(`${name} does not fit the model: ${describeMatch(match).join("; ")}`);
  let batch = new Map<string, NdArray>();
  let elements = 0;
  const flush = () => {
    model.loadStateDict(batch as Parameters<Module["loadStateDict"]>[0], { strict: false });
    batch = new Map();
    elements = 0;
  };
  for (const [key, from] of match.pairs) {
    const shape = shapes.get(key) as Shape;
    batch.set(key, await readAs(tensors.get(from) as StoredTensor, shape));
    elements += sizeOf(shape);
    if (elements >= BATCH) flush();
  }
  flush();
  return match;
}
