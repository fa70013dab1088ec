/**
 * Where the time goes: every kernel that a piece of work runs, by shape, and as a trace that chrome://tracing and Perfetto open. The
 * device's `run` is replaced for as long as something is recorded, so that there is nothing to pay, not even a test, when nothing is.
 */
import { checkFunction, checkOptions } from "./check.ts";
import { BYTES, type Storage } from "./device.ts";
import { device } from "./engine.ts";
import { SpikeloomError } from "./error.ts";
import { observeChoices } from "./implementations.ts";
import { BINARY, COMPARE, type KernelName, LOGICAL, REDUCE, UNARY } from "./kernel-table.ts";

/** One kernel on one shape. */
export interface KernelTime {
  /** Name in the kernel table, with the function where the kernel has several: `binary.add`. */
  kernel: string;
  /** What it ran on, e.g. `128x32x32x64 -> 32x32x128, 3x3`. */
  shape: string;
  /** Which of its operation's implementations it is, e.g. `spikeProduct=event`; "" where there is one. */
  implementation: string;
  calls: number;
  /** Milliseconds of all calls. */
  ms: number;
  /** Part of the whole time, 0 to 1. */
  share: number;
  /** Bytes of the arrays that all calls were given, read or written: at most so many moved, where each is touched once. */
  bytes: number;
}

export interface KernelProfile<R> {
  /** What the work returned. */
  result: R;
  /** Slowest first. */
  kernels: KernelTime[];
  /** Milliseconds of the whole: kernels, and all that lies between them (the profile's own bookkeeping taken off). */
  ms: number;
}

/** One call of a kernel. All but its times follows from the work alone, never from threads. */
export interface KernelCall {
  kernel: string;
  shape: string;
  implementation: string;
  bytes: number;
  /** Set bits of its spikes (the first of its arguments that is of spikes, in or out); absent where there are none. */
  spikes?: number;
  /** Milliseconds from the recording's begin, and its length. */
  start: number;
  ms: number;
}

/** A named stretch of work, such as a training step, and the kernels in it. */
export interface KernelSpan {
  name: string;
  start: number;
  ms: number;
  calls: KernelCall[];
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
  if ("oh" in args && "ci" in args) return `${args.n}x${args.h}x${args.w}x${args.ci} -> ${args.oh}x${args.ow}x${args.co}`;
  if ("d0" in args) {
    const dims = Array.from({ length: 6 }, (_, i) => args[`d${i}`]);
    return dims.slice(dims.findIndex((d, i) => d !== 1 || i === 5)).join("x");
  }
  return SIZES.filter((name) => typeof args[name] === "number")
    .map((name) => `${name} ${args[name]}`)
    .join(", ");
}

/** Kernels that prepare a product: the implementation chosen is the one that comes after them. */
const PREPARING: ReadonlySet<KernelName> = new Set(["spike_unpack", "spike_stats", "copy_strided", "fill", "winograd_weights"]);

/**
 * Records kernels, stretch by stretch: `start()`, work (it may wait), `stop(name)`. Recorders may be nested, the inner one stopped
 * first. Nothing that is computed changes.
 */
export class KernelRecorder {
  readonly spans: KernelSpan[] = [];
  private readonly countSpikes: boolean;
  private readonly origin = performance.now();
  /** Milliseconds that recording itself took. */
  private bookkeeping = 0;
  private open: { span: KernelSpan; restore(): void } | undefined;

  /** @param options countSpikes, default true: count the set bits that each kernel met (the time this takes is not shown) */
  constructor(options: { countSpikes?: boolean } = {}) {
    checkOptions("KernelRecorder", options, ["countSpikes"]);
    this.countSpikes = options.countSpikes ?? true;
  }

  private now(): number {
    return performance.now() - this.origin - this.bookkeeping;
  }

  /** Begin a stretch. @throws SpikeloomError before `init`, and when one has begun already */
  start(): void {
    if (this.open) throw new SpikeloomError("KernelRecorder: start() was called twice; stop(name) ends a stretch");
    const target = device();
    const run = target.run;
    const chosen = new Map<string, string>();
    const before = observeChoices((operation, name) => {
      before?.(operation, name);
      chosen.set(operation, name);
    });
    const calls: KernelCall[] = [];
    target.run = (kernel, args, tiles) => {
      const start = this.now();
      run.call(target, kernel, args, tiles);
      const end = performance.now();
      const ms = end - this.origin - this.bookkeeping - start;
      const storages = new Set(Object.values(args as Numbers).filter((v): v is Storage => typeof v === "object" && v !== null));
      const float = target.name === "reference" ? 8 : 4;
      let bytes = 0;
      for (const { type, length } of storages) bytes += length * (type === "f32" ? float : BYTES[type]);
      const fn = FUNCTIONS[kernel]?.[(args as Numbers).op as number];
      const call: KernelCall = { kernel: fn ? `${kernel}.${fn}` : kernel, shape: shapeOf(args), implementation: "", bytes, start, ms };
      if (!PREPARING.has(kernel) && chosen.size) {
        call.implementation = [...chosen].map((pair) => pair.join("=")).join(", ");
        chosen.clear();
      }
      if (this.countSpikes) {
        const spikes = [...storages].find((s) => s.type === "u32");
        // Not remembered with the storage, which may be filled in parts.
        if (spikes) call.spikes = bitsOf(target.view(spikes) as Uint32Array);
      }
      calls.push(call);
      this.bookkeeping += performance.now() - end;
    };
    const restore = () => {
      target.run = run;
      observeChoices(before);
    };
    this.open = { span: { name: "", start: this.now(), ms: 0, calls }, restore };
  }

  /** End the stretch; without a name it is forgotten. Does nothing when none has begun. */
  stop(name?: string): void {
    if (!this.open) return;
    const { span, restore } = this.open;
    restore();
    this.open = undefined;
    if (name !== undefined) this.spans.push({ ...span, name, ms: this.now() - span.start });
  }

  /** The kernels of all stretches by name, shape and implementation, slowest first; and the milliseconds of the stretches. */
  summary(): { kernels: KernelTime[]; ms: number } {
    const ms = this.spans.reduce((sum, span) => sum + span.ms, 0);
    const times = new Map<string, KernelTime>();
    for (const { calls } of this.spans)
      for (const call of calls) {
        const { kernel, shape, implementation } = call;
        const key = `${kernel} ${implementation} ${shape}`;
        let entry = times.get(key);
        if (!entry) {
          entry = { kernel, shape, implementation, calls: 0, ms: 0, share: 0, bytes: 0 };
          times.set(key, entry);
        }
        entry.calls++;
        entry.ms += call.ms;
        entry.bytes += call.bytes;
      }
    const kernels = [...times.values()].sort((a, b) => b.ms - a.ms);
    for (const entry of kernels) entry.share = entry.ms / ms;
    return { kernels, ms };
  }

  /**
   * The recording in Chrome's trace event format, for chrome://tracing and https://ui.perfetto.dev: a bar for each stretch, one for each
   * kernel within it, with shape, implementation, bytes and spikes.
   * @param about shown with the trace: what ran where
   */
  trace(about: Readonly<Record<string, string | number>> = {}): string {
    const at = { pid: 1, tid: 1 };
    const bar = (name: string, cat: string, { start, ms }: { start: number; ms: number }, args: Numbers) =>
      JSON.stringify({ name, cat, ph: "X", ...at, ts: micro(start), dur: micro(ms), args });
    const events = [
      JSON.stringify({ name: "process_name", ph: "M", ...at, args: { name: "spikeloom" } }),
      JSON.stringify({ name: "thread_name", ph: "M", ...at, args: { name: "kernels" } }),
    ];
    for (const span of this.spans) {
      events.push(bar(span.name, "step", span, { kernels: span.calls.length }));
      for (const call of span.calls) {
        const { kernel, shape, implementation, bytes, spikes } = call;
        const args = { shape, ...(implementation ? { implementation } : {}), bytes, ...(spikes === undefined ? {} : { spikes }) };
        events.push(bar(kernel, "kernel", call, args));
      }
    }
    return `{"displayTimeUnit":"ms","otherData":${JSON.stringify(about)},"traceEvents":[\n${events.join(",\n")}\n]}\n`;
  }
}

/** Milliseconds as microseconds, in nanosecond steps. */
const micro = (ms: number): number => Math.round(ms * 1e6) / 1e3;

function bitsOf(words: Uint32Array): number {
  let bits = 0;
  for (let v of words) {
    v -= (v >>> 1) & 0x55555555;
    v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
    bits += Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
  }
  return bits;
}

/**
 * Run `work` (synchronous) and record each kernel that it calls on the device in use, with the spikes that it met.
 * @returns what the work returned, and the recording: one stretch, "work"
 * @throws SpikeloomError before `init`, and when `work` gives a promise (use a `KernelRecorder` there)
 */
export function traceKernels<R>(work: () => R): { result: R; recorder: KernelRecorder } {
  const recorder = new KernelRecorder();
  return { result: recorded("traceKernels", recorder, work), recorder };
}

/**
 * Run `work` (synchronous) and time each kernel that it calls on the device in use.
 * @throws SpikeloomError before `init`, and when `work` gives a promise
 */
export function profileKernels<R>(work: () => R): KernelProfile<R> {
  const recorder = new KernelRecorder({ countSpikes: false });
  const result = recorded("profileKernels", recorder, work);
  return { result, ...recorder.summary() };
}

function recorded<R>(label: string, recorder: KernelRecorder, work: () => R): R {
  checkFunction(label, "work", work);
  recorder.start();
  try {
    const result = work();
    if (result instanceof Promise)
      throw new SpikeloomError(`${label}: the work must be synchronous, found a function that returns a promise`);
    recorder.stop("work");
    return result;
  } finally {
    recorder.stop();
  }
}
