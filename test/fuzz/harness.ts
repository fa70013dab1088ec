/**
 * Hostile files: right ones changed at random, given to a reader. It must give a value or a SpikeloomError whose message names
 * the file, within a bounded time and a memory that the file's size bounds. Nothing else may be thrown.
 */
import { runInThisContext } from "node:vm";
import fc from "fast-check";
import { SpikeloomError } from "spikeloom";

/** What is fuzzed. */
export interface Reader {
  readonly name: string;
  /** Right files; every one of them must be accepted. */
  seeds(): readonly Uint8Array[] | Promise<readonly Uint8Array[]>;
  /** Read `bytes`; `file` is their name, which an error must say. */
  read(bytes: Uint8Array, file: string): unknown;
  /** Most bytes of memory that one read may take for each byte of the file, beside SLACK. */
  readonly memory: number;
  /** Words of the format, to be put anywhere. */
  readonly words?: readonly string[];
  /** May the beginning of a file be a file of its own, as with text? Default false: every truncation must be refused. */
  readonly prefixes?: boolean;
  /** Does it leave out what is damaged, so that it refuses nothing? Default false. */
  readonly lenient?: boolean;
  /** A checksum over all of it refuses nearly every change. */
  readonly sealed?: boolean;
  /** Milliseconds that one read may take; default TIME. */
  readonly time?: number;
}

/** Memory that any read may take: what fits is not worth an attack. */
export const SLACK = 16 * 2 ** 20;

/** Milliseconds that one read may take; a file here is a few KiB. Generous, since the machine may be busy. */
export const TIME = 4000;

/** Sizes and counts that readers get wrong. */
const EXTREMES = [
  0,
  1,
  2,
  127,
  128,
  255,
  256,
  65535,
  65536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 40,
  2 ** 53 - 1,
  2 ** 53,
  2 ** 63,
];

type Edit =
  | { kind: "byte"; at: number; value: number }
  | { kind: "number"; at: number; bytes: 2 | 4 | 8; value: number; little: boolean }
  | { kind: "digits"; at: number; value: number }
  | { kind: "insert"; at: number; value: Uint8Array }
  | { kind: "repeat"; at: number; length: number; times: number }
  | { kind: "remove" | "copy"; at: number; length: number; to: number }
  | { kind: "cut"; at: number };

function edits(words: readonly string[]): fc.Arbitrary<Edit[]> {
  const at = fc.nat(2 ** 20);
  const length = fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 300 }));
  const extreme = fc.constantFrom(...EXTREMES);
  const value = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 8 }),
    fc
      .constantFrom(" ", "\n", "{", "}", "[", "]", '"', "'", ",", ":", "-", "\\", "null", "NaN", "-1", "1e999", "__proto__", ...words)
      .map((w) => new TextEncoder().encode(w)),
  );
  return fc.array(
    fc.oneof(
      fc.record({ kind: fc.constant("byte" as const), at, value: fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x20, 0x7f, 0x80, 0xff)) }),
      fc.record({
        kind: fc.constant("number" as const),
        at,
        bytes: fc.constantFrom(2 as const, 4 as const, 8 as const),
        value: extreme,
        little: fc.boolean(),
      }),
      fc.record({ kind: fc.constant("digits" as const), at, value: extreme }),
      fc.record({ kind: fc.constant("insert" as const), at, value }),
      fc.record({ kind: fc.constant("repeat" as const), at, length, times: fc.constantFrom(2, 3, 10, 200) }),
      fc.record({ kind: fc.constantFrom("remove" as const, "copy" as const), at, length, to: at }),
      fc.record({ kind: fc.constant("cut" as const), at }),
    ),
    { minLength: 1, maxLength: 5 },
  );
}

/** The longest file that edits may make: repeating repeats would end elsewhere. */
const LONGEST = 1 << 14;

function apply(bytes: Uint8Array, edit: Edit): Uint8Array {
  const at = bytes.length ? edit.at % bytes.length : 0;
  const join = (...parts: Uint8Array[]) => new Uint8Array(Buffer.concat(parts)).subarray(0, LONGEST);
  switch (edit.kind) {
    case "byte": {
      const out = bytes.slice();
      out[at] = edit.value;
      return out;
    }
    case "number": {
      const out = bytes.slice();
      const value = BigInt(edit.value);
      for (let i = 0; i < edit.bytes; i++) {
        const place = at + (edit.little ? i : edit.bytes - 1 - i);
        if (place < out.length) out[place] = Number((value >> BigInt(8 * i)) & 255n);
      }
      return out;
    }
    case "digits": {
      // The first number in words at or behind the place.
      const text = Buffer.from(bytes).toString("latin1");
      const match = /\d+/.exec(text.slice(at));
      if (!match) return bytes;
      const from = at + match.index;
      return join(bytes.subarray(0, from), Buffer.from(String(edit.value)), bytes.subarray(from + match[0].length));
    }
    case "insert":
      return join(bytes.subarray(0, at), edit.value, bytes.subarray(at));
    case "repeat": {
      const part = bytes.subarray(at, at + edit.length);
      return join(bytes.subarray(0, at), ...new Array<Uint8Array>(edit.times).fill(part), bytes.subarray(at));
    }
    case "remove":
      return join(bytes.subarray(0, at), bytes.subarray(at + edit.length));
    case "copy": {
      const to = bytes.length ? edit.to % bytes.length : 0;
      return join(bytes.subarray(0, to), bytes.subarray(at, at + edit.length), bytes.subarray(to));
    }
    case "cut":
      return bytes.subarray(0, at);
  }
}

/** What reading gave: accepted, or refused as it should be. */
export type Outcome = "accepted" | "refused";

/** Run `f`, and stop it after `time` even where it loops without end. */
function stopped<R>(f: () => R, time: number): R {
  Object.assign(globalThis, { spikeloomFuzz: f });
  return runInThisContext("spikeloomFuzz()", { timeout: time }) as R;
}

const LATE = "ERR_SCRIPT_EXECUTION_TIMEOUT";

async function settled<R>(reading: Promise<R>, time: number): Promise<R> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(Object.assign(new Error("late"), { code: LATE })), time);
  });
  try {
    return await Promise.race([reading, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Bytes that JavaScript holds, in typed arrays and in all. */
function memory(): number {
  const { arrayBuffers, heapUsed } = process.memoryUsage();
  return arrayBuffers + heapUsed;
}

/** Read one file. @throws Error that says how the reader fell, with the bytes */
export async function survives(reader: Reader, bytes: Uint8Array, file = "some-file.bin"): Promise<Outcome> {
  const fell = (how: string, cause?: unknown) =>
    new Error(`${reader.name}: ${how}. ${bytes.length} bytes, base64 ${Buffer.from(bytes).toString("base64").slice(0, 4000)}`, { cause });
  const { time = TIME } = reader;
  const before = memory();
  let outcome: Outcome = "accepted";
  let held: unknown;
  try {
    const reading = stopped(() => reader.read(bytes, file), time);
    held = reading instanceof Promise ? await settled(reading, time) : reading;
  } catch (error) {
    if ((error as NodeJS.ErrnoException | undefined)?.code === LATE) throw fell(`still reading after ${time} ms`);
    if (!(error instanceof SpikeloomError)) throw fell(`threw ${error}`, error);
    if (!error.message.includes(file)) throw fell(`a message that does not name the file: ${error.message}`, error);
    outcome = "refused";
  }
  const taken = memory() - before;
  if (taken > SLACK + reader.memory * bytes.length) throw fell(`took ${taken} bytes of memory`);
  // Used here so that it is alive where memory is counted.
  return held === fell ? "refused" : outcome;
}

/** No beginning of a right file may pass for one. @throws Error with the length of one that does */
export async function rejectsEveryTruncation(reader: Reader): Promise<void> {
  for (const right of await reader.seeds())
    for (let length = 0; length < right.length; length++)
      if ((await survives(reader, right.slice(0, length))) !== "refused")
        throw new Error(`${reader.name}: accepted the first ${length} of ${right.length} bytes`);
}

/**
 * Give `runs` changed files to a reader.
 * @param seed of the changes; another one every time where not given
 * @returns how many it accepted and refused
 * @throws Error with the smallest file found that breaks it, and the seed that finds it again
 */
export async function fuzz(reader: Reader, runs: number, seed?: number): Promise<Record<Outcome, number>> {
  const seeds = await reader.seeds();
  const counts = { accepted: 0, refused: 0 };
  for (const right of seeds) if ((await survives(reader, right)) !== "accepted") throw new Error(`${reader.name}: a right file is refused`);
  const property = fc.asyncProperty(fc.nat(seeds.length - 1), edits(reader.words ?? []), async (which, list) => {
    const mutant = list.reduce(apply, seeds[which] as Uint8Array).slice();
    counts[await survives(reader, mutant)]++;
  });
  await fc.assert(property, { numRuns: runs, ...(seed === undefined ? {} : { seed }) });
  return counts;
}
