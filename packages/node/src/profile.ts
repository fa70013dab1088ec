/** `train --profile`: records the kernels of some steps after warm-up, writes them as a Chrome trace, and prints the slowest. */
import { appendFileSync, existsSync, rmSync } from "node:fs";
import { dirname, extname } from "node:path";
import { type EngineInfo, measure, SpikeloomError } from "spikeloom";
import { writeFileAtomic } from "./files.ts";
import { bytes, percent } from "./report/format.ts";
import { table } from "./table.ts";

/** Steps of this process, from 1, both included. The first ones compile, grow memory and fill caches. */
export interface ProfileSteps {
  first: number;
  last: number;
}

export const PROFILE_STEPS: ProfileSteps = { first: 3, last: 12 };

const TOP = 10;

export interface Profile {
  /** Before a step may begin. */
  begin(): void;
  /** A step is done: the one of this number in the whole run. */
  step(number: number): void;
  /** What ran since `begin` was no step. */
  skip(): void;
  /** Write the trace, once the steps are done or the run has ended. Gives what to print, or why there is nothing. */
  finish(): Promise<ProfileResult>;
  /** Are all its steps done? */
  readonly done: boolean;
}

export interface ProfileResult {
  file: string | null;
  steps: number;
  /** Milliseconds of a step. */
  stepMs: number;
  /** The slowest kernels. */
  kernels: measure.KernelTime[];
  /** All other kernels together: how many, and their calls, milliseconds (of all steps), share and bytes. */
  others: Pick<measure.KernelTime, "calls" | "ms" | "share" | "bytes"> & { kernels: number };
  /** What is no kernel (TypeScript, allocation, reading the data): milliseconds of all steps, and its share. */
  outside: { ms: number; share: number };
}

/** `3..12`, or one number; undefined for anything else. */
export function parseSteps(text: string): ProfileSteps | undefined {
  const match = /^\s*(\d{1,9})\s*(?:(?:\.\.|-)\s*(\d{1,9})\s*)?$/.exec(text);
  if (!match) return undefined;
  const [first, last] = [Number(match[1]), Number(match[2] ?? match[1])];
  return first >= 1 && last >= first ? { first, last } : undefined;
}

/**
 * Check, before anything runs, that a trace can be written there.
 * @throws SpikeloomError for a name that is no .json, or a place that cannot be written to
 */
export function checkProfileFile(file: string): void {
  if (extname(file) !== ".json")
    throw new SpikeloomError(
      `--profile: the trace is a .json file, found "${file}". Give the recipe before --profile, or write --profile=FILE.json`,
    );
  // A folder that is not there may be a misspelt one.
  if (!existsSync(dirname(file)))
    throw new SpikeloomError(`--profile: cannot write ${file}: there is no folder ${dirname(file)}. Make it, or choose another file`);
  const there = existsSync(file);
  try {
    appendFileSync(file, "");
    if (!there) rmSync(file);
  } catch (error) {
    throw new SpikeloomError(`--profile: cannot write ${file} (${(error as Error).message}). Choose another file`);
  }
}

export function createProfile(file: string, { first, last }: ProfileSteps, engine: EngineInfo): Profile {
  const recorder = new measure.KernelRecorder();
  let steps = 0;
  return {
    get done() {
      return steps >= last;
    },
    begin() {
      if (steps + 1 >= first && steps < last) recorder.start();
    },
    step(number) {
      steps++;
      recorder.stop(`step ${number}`);
    },
    skip() {
      recorder.stop();
    },
    async finish() {
      recorder.stop();
      const { kernels, ms } = recorder.summary();
      const count = recorder.spans.length;
      if (count) {
        const { device, isa, threads } = engine;
        await writeFileAtomic(file, recorder.trace({ device, isa, threads }));
      }
      const rest = kernels.slice(TOP);
      const sum = (key: "calls" | "ms" | "share" | "bytes", of = rest) => of.reduce((total, k) => total + k[key], 0);
      const outside = ms - sum("ms", kernels);
      return {
        file: count ? file : null,
        steps: count,
        stepMs: count ? ms / count : 0,
        kernels: kernels.slice(0, TOP),
        others: { kernels: rest.length, calls: sum("calls"), ms: sum("ms"), share: sum("share"), bytes: sum("bytes") },
        outside: { ms: outside, share: count ? outside / ms : 0 },
      };
    },
  };
}

/** The result for people. */
export function profileText({ file, steps, stepMs, kernels, others, outside }: ProfileResult, { first }: ProfileSteps): string {
  if (file === null) return `profile: the run ended before step ${first}; nothing was recorded (--profile-steps chooses the steps)`;
  type Row = Pick<measure.KernelTime, "kernel" | "ms" | "share"> & Partial<measure.KernelTime>;
  const columns = [
    { head: "kernel", cell: (k: Row) => k.kernel },
    { head: "shape", cell: (k: Row) => k.shape ?? "" },
    { head: "implementation", cell: (k: Row) => k.implementation ?? "" },
    { head: "calls", right: true, cell: (k: Row) => (k.calls === undefined ? "" : String(Math.round(k.calls / steps))) },
    { head: "ms", right: true, cell: (k: Row) => (k.ms / steps).toFixed(2) },
    { head: "share", right: true, cell: (k: Row) => percent(k.share, 1) },
    { head: "bytes/s", right: true, cell: (k: Row) => (k.bytes !== undefined && k.ms > 0 ? bytes((1000 * k.bytes) / k.ms) : "") },
  ];
  const rows: Row[] = [
    ...kernels,
    ...(others.kernels ? [{ ...others, kernel: `${others.kernels} other${others.kernels > 1 ? "s" : ""}` }] : []),
    { ...outside, kernel: "outside kernels" },
  ];
  return `${table(columns, rows)}\nprofile of ${steps} step${steps === 1 ? "" : "s"} of ${stepMs.toFixed(1)} ms; calls and ms are of one step  ${file} (open it in https://ui.perfetto.dev or chrome://tracing)`;
}
