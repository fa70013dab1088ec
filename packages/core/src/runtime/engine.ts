/**
 * The engine: which device runs, and the seed of the run. One per JavaScript thread, started by `await init(...)`.
 */
import { checkOptions, kindOf } from "./check.ts";
import type { Device, DeviceName, Storage } from "./device.ts";
import { nearest, SpikeloomError } from "./error.ts";
import { environment, nodeBuiltin, processors } from "./host.ts";
import { checkImplementations, forceImplementations, type ImplementationChoice, parseImplementations } from "./implementations.ts";
import { createNative } from "./native.ts";
import { Rng } from "./random.ts";
import { createReference } from "./reference.ts";
import { createWasm } from "./wasm.ts";

export interface InitOptions {
  /** `auto` (default): native where its addon is known, else wasm. The variable SPIKELOOM_DEVICE forces one. */
  device?: DeviceName | "auto" | undefined;
  /** Threads, the caller's own included; default: the processors. SPIKELOOM_THREADS forces it. */
  threads?: number | undefined;
  /** Seed of every named random stream; default 0. */
  seed?: number | undefined;
  /** Path of the native addon; default: the variable SPIKELOOM_NATIVE. */
  native?: string | undefined;
  /** Instruction set of the native device; default: the best. SPIKELOOM_ISA forces it. */
  isa?: string | undefined;
  /** Implementations to force where an operation has several. SPIKELOOM_IMPLEMENTATIONS forces them too. */
  implementations?: ImplementationChoice | undefined;
}

/** What `init` chose. */
export interface EngineInfo {
  device: DeviceName;
  isa: string;
  threads: number;
  seed: number;
}

const DEVICES = ["reference", "wasm", "native", "auto"] as const;

const MAX_THREADS = 256;

let current: Device | undefined;
let rng = new Rng(0);
let seedOfRun = 0;
let generation = 0;

/**
 * Start the engine (or start it anew: the device is then replaced and every tensor of the old one is gone).
 * @throws SpikeloomError for an unknown device, a thread count that is no positive integer, or an addon that does not load.
 */
export async function init(options: InitOptions = {}): Promise<EngineInfo> {
  checkOptions("init", options, ["device", "threads", "seed", "native", "isa", "implementations"]);
  const wanted = environment("SPIKELOOM_DEVICE") ?? options.device ?? "auto";
  if (!(DEVICES as readonly string[]).includes(wanted)) {
    const near = nearest(String(wanted), DEVICES);
    throw new SpikeloomError(
      `init: unknown device ${kindOf(wanted)}${near ? `, did you mean "${near}"?` : ""} (one of ${DEVICES.join(", ")})`,
    );
  }
  const asked = environment("SPIKELOOM_THREADS") ?? options.threads;
  const threads = Number(asked ?? Math.min(processors(), MAX_THREADS));
  if (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS)
    throw new SpikeloomError(`init: threads must be an integer from 1 to ${MAX_THREADS}, got ${asked}`);
  const seed = options.seed ?? 0;
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new SpikeloomError(`init: seed must be an integer from 0 to 2^53 - 1, got ${kindOf(seed)}`);
  const path = options.native ?? environment("SPIKELOOM_NATIVE");
  const isa = environment("SPIKELOOM_ISA") ?? options.isa;
  const named = environment("SPIKELOOM_IMPLEMENTATIONS");
  const implementations = checkImplementations(named === undefined ? (options.implementations ?? {}) : parseImplementations(named));

  let next: Device;
  if (wanted === "reference") next = createReference();
  else if (wanted === "wasm" || (wanted === "auto" && (!path || !nodeBuiltin("node:module")))) next = await createWasm({ threads });
  else if (!path)
    throw new SpikeloomError(
      'init: device native needs its addon: run `npx spikeloom native build`, or give its path as native: "..." or SPIKELOOM_NATIVE',
    );
  else next = createNative({ path, threads, isa });

  current?.close();
  current = next;
  forceImplementations(implementations);
  generation++;
  rng = new Rng(seed);
  seedOfRun = seed;
  return engineInfo();
}

/** Device, instruction set, threads and seed in use. */
export function engineInfo(): EngineInfo {
  const { name, isa, threads } = device();
  return { device: name, isa, threads, seed: seedOfRun };
}

/** The device in use. @throws SpikeloomError before `init`. */
export function device(): Device {
  if (!current) throw new SpikeloomError("the engine is not started: call `await init()` first");
  return current;
}

/** Run `fn` (synchronous) on another device, whose tensors must be gone when it returns; those of the one in use stay valid. */
export function onDevice<R>(other: Device, fn: () => R): R {
  const own = current;
  current = other;
  try {
    return fn();
  } finally {
    current = own;
  }
}

/** The random streams of the run. */
export function randomness(): Rng {
  return rng;
}

/** Counts `init` calls, so that a tensor of a replaced device is recognised. */
export function engineGeneration(): number {
  return generation;
}

/** One owner more. */
export function retain(storage: Storage): Storage {
  storage.refs++;
  return storage;
}

/** One owner less; the memory goes back to the device with the last. */
export function release(storage: Storage): void {
  if (--storage.refs === 0) device().free(storage);
}

/** Device memory in bytes: in use by live tensors, the most there ever was, and what the system has to back for them, gaps included. */
export function memoryInfo(): { used: number; peak: number; reserved: number } {
  return device().memory();
}
