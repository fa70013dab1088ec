/**
 * The engine: which device runs, and the seed of the run. One per JavaScript thread, started by `await init(...)`.
 */
import { checkOptions, kindOf } from "./check.ts";
import type { Device, DeviceName, Storage } from "./device.ts";
import { nearest, SpikeloomError } from "./error.ts";
import { environment, nodeBuiltin, processors } from "./host.ts";
import { checkImplementations, forceImplementations, type ImplementationChoice, parseImplementations } from "./implementations.ts";
import { createNative } from "./native.ts";
import { checkPrecision, type MatmulPrecision, matmulPrecision, setMatmulPrecision } from "./precision.ts";
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
  /**
   * Another build of the WebAssembly kernels in place of the one inside: `tsx scripts/build.ts relaxed` makes one with fused multiply-adds
   * (relaxed SIMD), faster in dense products, whose last bits differ from machine to machine. SPIKELOOM_WASM, a path, forces it.
   */
  wasm?: Uint8Array | undefined;
  /** Instruction set of the native device; default: the best, but `amx` only when asked for. SPIKELOOM_ISA forces it. */
  isa?: string | undefined;
  /** Implementations to force where an operation has several. SPIKELOOM_IMPLEMENTATIONS forces them too. */
  implementations?: ImplementationChoice | undefined;
  /**
   * Precision of products on machines with matrix units (AMX), by PyTorch's names: `highest` (default) is float32's, `high` about
   * 2e-6, `medium` bf16's. Elsewhere all three are float32. SPIKELOOM_MATMUL_PRECISION forces it.
   */
  matmulPrecision?: MatmulPrecision | undefined;
}

/** What `init` chose. */
export interface EngineInfo {
  device: DeviceName;
  isa: string;
  threads: number;
  seed: number;
  matmulPrecision: MatmulPrecision;
}

const DEVICES = ["reference", "wasm", "native", "auto"] as const;

const MAX_THREADS = 256;

/** Those that an addon may have. */
const INSTRUCTION_SETS: readonly string[] = ["amx", "avx512", "avx2", "baseline", "neon"];

let current: Device | undefined;
let rng = new Rng(0);
let seedOfRun = 0;
let generation = 0;

/**
 * Start the engine (or start it anew: the device is then replaced and every tensor of the old one is gone).
 * @throws SpikeloomError for an unknown device, a thread count that is no positive integer, or an addon that does not load.
 */
export async function init(options: InitOptions = {}): Promise<EngineInfo> {
  checkOptions("init", options, ["device", "threads", "seed", "native", "wasm", "isa", "implementations", "matmulPrecision"]);
  // A variable of the environment forces its option, and is what the message of a wrong value names.
  const setting = <K extends keyof InitOptions>(option: K, variable: string) => {
    const text = environment(variable)?.trim();
    return text === undefined ? { value: options[option], where: "init" } : { value: text, where: variable };
  };
  const device = setting("device", "SPIKELOOM_DEVICE");
  const wanted = device.value ?? "auto";
  if (!(DEVICES as readonly string[]).includes(wanted)) {
    const near = nearest(String(wanted), DEVICES);
    throw new SpikeloomError(
      `${device.where}: unknown device ${kindOf(wanted)}${near ? `, did you mean "${near}"?` : ""} (one of ${DEVICES.join(", ")})`,
    );
  }
  const asked = setting("threads", "SPIKELOOM_THREADS");
  const threads = Number(asked.value ?? Math.min(processors(), MAX_THREADS));
  if (asked.value === "" || !Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS)
    throw new SpikeloomError(`${asked.where}: threads must be an integer from 1 to ${MAX_THREADS}, got ${asked.value}`);
  const seed = options.seed ?? 0;
  if (!Number.isSafeInteger(seed) || seed < 0)
    throw new SpikeloomError(`init: seed must be an integer from 0 to 2^53 - 1, got ${kindOf(seed)}`);
  const path = options.native ?? environment("SPIKELOOM_NATIVE");
  const isa = setting("isa", "SPIKELOOM_ISA");
  const named = environment("SPIKELOOM_IMPLEMENTATIONS");
  const implementations =
    named === undefined
      ? checkImplementations("init", options.implementations ?? {})
      : parseImplementations("SPIKELOOM_IMPLEMENTATIONS", named);
  const exact = setting("matmulPrecision", "SPIKELOOM_MATMUL_PRECISION");
  const precision = checkPrecision(exact.where, exact.value ?? "highest");

  const native = wanted === "native" || (wanted === "auto" && path !== undefined && nodeBuiltin("node:module") !== undefined);
  let next: Device;
  if (native) {
    if (!path)
      throw new SpikeloomError(
        'init: device native needs its addon: run `npx spikeloom native build`, or give its path as native: "..." or SPIKELOOM_NATIVE',
      );
    next = createNative({ path, threads, isa: isa.value, where: isa.where });
  } else {
    // It says nothing about this device, which is no reason to let a misspelt one pass.
    if (isa.value !== undefined && !INSTRUCTION_SETS.includes(isa.value))
      throw new SpikeloomError(`${isa.where}: unknown instruction set ${kindOf(isa.value)} (one of ${INSTRUCTION_SETS.join(", ")})`);
    next = wanted === "reference" ? createReference() : await createWasm({ threads, ...otherKernels(options.wasm) });
  }

  current?.close();
  current = next;
  forceImplementations(implementations);
  setMatmulPrecision(precision);
  generation++;
  rng = new Rng(seed);
  seedOfRun = seed;
  return engineInfo();
}

/** The WebAssembly kernels that the caller or SPIKELOOM_WASM gives, if any. */
function otherKernels(given: unknown): { binary?: Uint8Array; where?: string } {
  const path = environment("SPIKELOOM_WASM")?.trim();
  const fs = path === undefined ? undefined : nodeBuiltin("node:fs");
  if (path !== undefined && fs) {
    try {
      return { binary: fs.readFileSync(path), where: "SPIKELOOM_WASM" };
    } catch (error) {
      throw new SpikeloomError(`SPIKELOOM_WASM: cannot read ${path}: ${(error as Error).message}`);
    }
  }
  if (given === undefined) return {};
  if (!(given instanceof Uint8Array)) throw new SpikeloomError(`init: wasm must be the bytes of a binary, got ${kindOf(given)}`);
  return { binary: given };
}

/** Device, instruction set, threads, seed and precision of products in use. */
export function engineInfo(): EngineInfo {
  const { name, isa, threads } = device();
  return { device: name, isa, threads, seed: seedOfRun, matmulPrecision: matmulPrecision() };
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
