/**
 * Where the time goes: every kernel that a piece of work runs, by shape. The device's `run` is replaced for as long as the profile
 * lasts, so that there is nothing to pay, not even a test, when none is taken.
 */
import { device } from "./engine.ts";
import { SpikeloomError } from "./error.ts";
import { BINARY, COMPARE, type KernelName, LOGICAL, REDUCE, UNARY } from "./kernel-table.ts";

/** One kernel on one shape. */
export interface KernelTime {
  /** Name in the kernel table, with the function where the kernel has several: `binary.add`. */
  kernel: string;
  /** What it ran on, e.g. `128x32x32x64 -> 32x32x128, 3x3`. */
  shape: string;
  calls: number;
  /** Milliseconds of all calls. */
  ms: number;
  /** Part of the whole time, 0 to 1. */
  share: number;
}

export interface KernelProfile<R> {
  /** What the work returned. */
  result: R;
  /** Slowest first. */
  kernels: KernelTime[];
  /** Milliseconds of the whole: kernels, and all that lies between them (the profile's own bookkeeping taken off). */
  ms: number;
}

type Numbers = Readonly<Record<string, unknown>>;

const FUNCTIONS: Partial<Record<KernelName, readonly string[]>> = {
  unary: UNARY,
  unary_grad: UNARY,
  binary: BINARY,
  compare: COMPARE,
  logical: LOGICAL,
  reduce: REDUCE,
  argreduce: REDUCE,
};

/** Arguments that tell how large the work is, in the order in which they are shown. */
const SIZES = ["batch", "steps", "outer", "rows", "n", "inner", "h", "w", "oh", "ow", "m", "k", "c", "words"];

function shapeOf(args: Numbers): string {
  if ("kh" in args) {
    const { n, h, w, ci, oh, ow, co, kh, kw } = args;
    return `${n}x${h}x${w}x${ci} -> ${oh}x${ow}x${co}, ${kh}x${kw}`;
  }
  if ("d0" in args) {
    const dims = Array.from({ length: 6 }, (_, i) => args[`d${i}`]);
    return dims.slice(dims.findIndex((d, i) => d !== 1 || i === 5)).join("x");
  }
  return SIZES.filter((name) => typeof args[name] === "number")
    .map((name) => `${name} ${args[name]}`)
    .join(", ");
}

/**
 * Run `work` (synchronous) and time each kernel that it calls on the device in use.
 * @throws SpikeloomError before `init`, and when `work` gives a promise
 */
export function profileKernels<R>(work: () => R): KernelProfile<R> {
  const target = device();
  const run = target.run;
  const times = new Map<string, KernelTime>();
  let bookkeeping = 0;
  target.run = (kernel, args, tiles) => {
    const start = performance.now();
    run.call(target, kernel, args, tiles);
    const end = performance.now();
    const name = FUNCTIONS[kernel]?.[(args as Numbers).op as number];
    const shape = shapeOf(args);
    const key = `${kernel} ${name} ${shape}`;
    let entry = times.get(key);
    if (!entry) {
      entry = { kernel: name ? `${kernel}.${name}` : kernel, shape, calls: 0, ms: 0, share: 0 };
      times.set(key, entry);
    }
    entry.calls++;
    entry.ms += end - start;
    bookkeeping += performance.now() - end;
  };
  const start = performance.now();
  try {
    const result = work();
    if (result instanceof Promise)
      throw new SpikeloomError("profileKernels: the work must be synchronous, found a function that returns a promise");
    const ms = performance.now() - start - bookkeeping;
    const kernels = [...times.values()].sort((a, b) => b.ms - a.ms);
    for (const entry of kernels) entry.share = entry.ms / ms;
    return { result, kernels, ms };
  } finally {
    target.run = run;
  }
}
