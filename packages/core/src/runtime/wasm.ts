/**
 * The WebAssembly device: SIMD128 kernels in one memory, with a pool of workers where memory can be shared.
 *
 * One binary serves both cases. It imports a shared memory; where the host refuses one (a page without cross-origin
 * isolation), the flag of that import is patched and the same code runs on one thread.
 */
import { ARGUMENT_SLOTS, CompiledDevice } from "./compiled.ts";
import { SpikeloomError } from "./error.ts";
import { WASM_DEFLATED } from "./generated/wasm-binary.ts";
import { nodeBuiltin } from "./host.ts";
import { kernelTableHash, SCRATCH_BYTES } from "./kernel-table.ts";

const PAGE = 65536;
const STACK_BYTES = 65536;
/** Most the memory may grow to, in pages; smaller ones are tried where the host will not reserve so much. */
const MAXIMUM_PAGES = [65536, 32768, 16384];
const GROWTH_BYTES = 16 << 20;

interface Exports {
  run(kernel: number, args: number, tiles: number, threads: number, scratch: number): void;
  worker(scratch: number): void;
  stop(): void;
  table_hash(): number;
  relaxed(): number;
  __stack_pointer: WebAssembly.Global;
  __heap_base: WebAssembly.Global;
}

/** What a worker does with its message; a string because a worker must need no file of its own. */
const WORKER_BODY = `(d) => {
  const { exports } = new WebAssembly.Instance(d.module, { env: { memory: d.memory } });
  exports.__stack_pointer.value = d.stack;
  exports.worker(d.scratch);
}`;

interface Stoppable {
  terminate(): unknown;
}

export interface WasmOptions {
  /** Threads, the caller's own included. Ignored (1) where memory cannot be shared or no worker may be started. */
  threads: number;
  /** Another build of the kernels (one with relaxed instructions) in place of the one inside the bundle. */
  binary?: Uint8Array | undefined;
  /** What gave it, for messages: `init` or SPIKELOOM_WASM. */
  where?: string | undefined;
}

/** @throws SpikeloomError where the host has no WebAssembly or too little memory, or `binary` is no build of these kernels */
export async function createWasm({ threads, binary: given, where = "init" }: WasmOptions): Promise<WasmDevice> {
  if (typeof WebAssembly !== "object") throw new SpikeloomError('this host has no WebAssembly: use device: "reference"');
  if (given) checkBinary(given, where);
  const binary = given ?? (await inflate(decodeBase64(WASM_DEFLATED)));
  const memory = threads > 1 && (await workersStart()) ? sharedMemory() : undefined;
  if (memory) return new WasmDevice(await compile(binary), memory, threads);
  return new WasmDevice(await compile(unshare(binary)), newMemory(false), 1);
}

/** Refuse a binary of other kernels before it gets a memory: it would read arguments of one meaning with another. */
function checkBinary(binary: Uint8Array, where: string): void {
  const build = "build it with `tsx scripts/build.ts relaxed` in a clone of the same version, or leave it out";
  if (!WebAssembly.validate(binary as Uint8Array<ArrayBuffer>))
    throw new SpikeloomError(
      `${where}: the WebAssembly kernels (${binary.length} bytes) are no module that this host can run: it lacks relaxed SIMD (Node has it from version 22 on), or they are damaged; ${build}`,
    );
  const module = new WebAssembly.Module(unshare(binary) as Uint8Array<ArrayBuffer>);
  let hash: number | undefined;
  try {
    const instance = new WebAssembly.Instance(module, { env: { memory: newMemory(false) } });
    hash = (instance.exports as unknown as Partial<Exports>).table_hash?.();
  } catch {
    // A module that wants other imports is not ours either.
  }
  if (hash === undefined || hash >>> 0 !== kernelTableHash())
    throw new SpikeloomError(`${where}: the WebAssembly kernels were built for another version of spikeloom; ${build}`);
}

async function compile(binary: Uint8Array): Promise<WebAssembly.Module> {
  try {
    return await WebAssembly.compile(binary as Uint8Array<ArrayBuffer>);
  } catch (error) {
    throw new SpikeloomError(
      `this host compiles no WebAssembly: ${error instanceof Error ? error.message : error}. A page's content policy must allow it (script-src 'wasm-unsafe-eval'), a browser must know SIMD; or use device: "reference"`,
    );
  }
}

class WasmDevice extends CompiledDevice {
  readonly name = "wasm";
  readonly isa: string;
  readonly threads: number;
  private readonly memoryObject: WebAssembly.Memory;
  private readonly exports: Exports;
  private readonly workers: Stoppable[] = [];
  private readonly scratch: number;
  private readonly argsAddress: number;
  private end: number;

  constructor(module: WebAssembly.Module, memory: WebAssembly.Memory, threads: number) {
    super();
    this.memoryObject = memory;
    this.threads = threads;
    this.exports = new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as Exports;
    this.isa = this.exports.relaxed() ? "relaxed-simd" : "simd128";
    this.end = memory.buffer.byteLength;
    // Before the heap: the argument block, then scratch and stack of every thread.
    const base = align((this.exports.__heap_base.value as number) >>> 0);
    this.argsAddress = base;
    this.scratch = align(base + ARGUMENT_SLOTS * 8);
    const heapStart = align(this.scratch + threads * (SCRATCH_BYTES + STACK_BYTES));
    if (!this.extend(heapStart + GROWTH_BYTES))
      throw new SpikeloomError("this host gives WebAssembly too little memory to start: close other work, or use fewer threads");
    this.heap.add(0, heapStart, this.end - heapStart);
    for (let i = 1; i < threads; i++) {
      const scratch = this.scratch + i * (SCRATCH_BYTES + STACK_BYTES);
      const stack = scratch + SCRATCH_BYTES + STACK_BYTES;
      const worker = startWorker({ module, memory, scratch, stack });
      if (worker) this.workers.push(worker);
    }
  }

  protected slab(): { base: number; buffer: ArrayBufferLike } {
    return { base: 0, buffer: this.memoryObject.buffer };
  }

  protected grow(bytes: number): boolean {
    const before = this.end;
    const wanted = Math.max(bytes + PAGE, GROWTH_BYTES, Math.floor(before / 8));
    if (!this.extend(before + wanted) && !this.extend(before + bytes + PAGE)) return false;
    this.heap.add(0, before, this.end - before);
    return true;
  }

  /** Grow the memory until it ends at `end` or later. */
  private extend(end: number): boolean {
    const pages = Math.ceil((end - this.end) / PAGE);
    if (pages > 0) {
      try {
        this.memoryObject.grow(pages);
      } catch {
        return false;
      }
      this.end = this.memoryObject.buffer.byteLength;
    }
    this.block = new Float64Array(this.memoryObject.buffer as ArrayBuffer, this.argsAddress, ARGUMENT_SLOTS);
    return true;
  }

  protected call(kernel: number, tiles: number): void {
    this.exports.run(kernel, this.argsAddress, tiles, this.threads, this.scratch);
  }

  close(): void {
    this.exports.stop();
    for (const worker of this.workers) worker.terminate();
    this.workers.length = 0;
  }
}

export type { WasmDevice };

function align(address: number): number {
  return Math.ceil(address / 64) * 64;
}

function newMemory(shared: boolean): WebAssembly.Memory {
  let problem: unknown;
  for (const maximum of MAXIMUM_PAGES) {
    try {
      return new WebAssembly.Memory({ initial: 64, maximum, shared });
    } catch (error) {
      problem = error;
    }
  }
  throw new SpikeloomError(`this host gives WebAssembly no memory: ${problem}`);
}

/** A memory that workers can share, or undefined where the host allows none (a page without cross-origin isolation). */
function sharedMemory(): WebAssembly.Memory | undefined {
  if (typeof SharedArrayBuffer === "undefined") return undefined;
  if ((globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated === false) return undefined;
  return newMemory(true);
}

const WORKER_START_MS = 5000;

/**
 * Does this host start workers from a text? In a page one is tried, since a strict content policy refuses by an event, long after
 * the constructor.
 */
async function workersStart(): Promise<boolean> {
  if (nodeBuiltin("node:worker_threads")) return true;
  if (typeof Worker === "undefined") return false;
  const url = URL.createObjectURL(new Blob(["postMessage(0)"], { type: "text/javascript" }));
  let worker: Worker | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  try {
    return await new Promise<boolean>((resolve) => {
      worker = new Worker(url);
      worker.onmessage = () => resolve(true);
      worker.onerror = (event) => {
        event.preventDefault();
        resolve(false);
      };
      timer = setTimeout(() => resolve(false), WORKER_START_MS);
    });
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
    worker?.terminate();
    URL.revokeObjectURL(url);
  }
}

/** Start a worker in Node or in a page. Undefined where the host refuses: the pool hands out tiles to whoever comes. */
function startWorker(data: {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  scratch: number;
  stack: number;
}): Stoppable | undefined {
  const threads = nodeBuiltin("node:worker_threads");
  if (threads) {
    const source = `(${WORKER_BODY})(require("node:worker_threads").workerData)`;
    const worker = new threads.Worker(source, { eval: true, workerData: data });
    worker.unref();
    return worker;
  }
  try {
    const url = URL.createObjectURL(new Blob([`onmessage = (e) => (${WORKER_BODY})(e.data)`], { type: "text/javascript" }));
    const worker = new Worker(url);
    worker.postMessage(data);
    // The worker has read its source by the time it answers or fails; a refusal (a strict content policy) comes as an event.
    worker.onerror = (event) => event.preventDefault();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
    return worker;
  } catch {
    return undefined;
  }
}

/** Copy of the binary whose imported memory is not shared. */
function unshare(binary: Uint8Array): Uint8Array {
  // "\x03env" "\x06memory", kind 2 (memory), limits 3 (shared, with a maximum) -> 1 (with a maximum).
  const pattern = [3, 0x65, 0x6e, 0x76, 6, 0x6d, 0x65, 0x6d, 0x6f, 0x72, 0x79, 2, 3];
  // Not slice: that of a Node Buffer is a view of the same memory.
  const copy = new Uint8Array(binary);
  const at = copy.findIndex((_, i) => pattern.every((byte, j) => copy[i + j] === byte));
  if (at < 0)
    throw new SpikeloomError("the WebAssembly kernels import no shared memory as those of spikeloom do: they are no build of them");
  copy[at + pattern.length - 1] = 1;
  return copy;
}

async function inflate(bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function decodeBase64(text: string): Uint8Array {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}
