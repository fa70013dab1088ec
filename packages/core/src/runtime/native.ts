/**
 * The native device: the same kernels as an addon, compiled for each instruction set, with real threads.
 *
 * Slabs are plain ArrayBuffers, which JavaScript owns and may pass 4 GiB; the addon only learns their addresses.
 */
import { ARGUMENT_SLOTS, CompiledDevice } from "./compiled.ts";
import { SpikeloomError } from "./error.ts";
import { nodeProcess } from "./host.ts";
import { kernelTableHash } from "./kernel-table.ts";

/**
 * A slab is address space: the system backs a page when it is first written to. So it is large, for the heap wastes less in one piece than in
 * many; less is taken where so much is refused.
 */
export const SLAB_BYTES = 1 << 30;

interface Addon {
  tableHash(): number;
  isas(): string[];
  address(buffer: ArrayBuffer): number;
  open(isa: string, threads: number, args: ArrayBuffer): unknown;
  run(handle: unknown, kernel: number, tiles: number): void;
  close(handle: unknown): void;
}

export interface NativeOptions {
  /** Path of the built addon (`spikeloom.node`). */
  path: string;
  threads: number;
  /** Instruction set to force; by default the best that the CPU reports, `amx` aside. */
  isa?: string | undefined;
  /** What asked for it, for the message: SPIKELOOM_ISA. */
  where?: string | undefined;
}

/** @throws SpikeloomError when the addon cannot be loaded or the instruction set does not exist here. */
export function createNative({ path, threads, isa, where = "init" }: NativeOptions): NativeDevice {
  const host = nodeProcess();
  if (!host) throw new SpikeloomError('device native: only Node can load the addon; use device: "wasm"');
  let addon: Addon;
  try {
    // Not `require`, which would run a path that ends in .js.
    const module = { exports: {} };
    host.dlopen(module, path);
    addon = module.exports as Addon;
  } catch (error) {
    throw new SpikeloomError(
      `device native: cannot load the addon ${path}: ${error instanceof Error ? error.message : error}. Build it anew`,
    );
  }
  if (addon.tableHash?.() !== kernelTableHash())
    throw new SpikeloomError(
      `device native: the addon ${path} was built for another version of spikeloom. Build it anew (npx spikeloom native build), or use device: "wasm"`,
    );
  const available = addon.isas();
  const chosen = isa ?? usualIsa(available);
  if (!available.includes(chosen)) {
    throw new SpikeloomError(`${where}: this CPU or addon has no instruction set "${chosen}"; it has ${available.join(", ")}`);
  }
  try {
    return new NativeDevice(addon, chosen, threads);
  } catch (error) {
    throw new SpikeloomError(`${where}: ${chosen} does not start: ${error instanceof Error ? error.message : error}`);
  }
}

/** The one that runs where none is forced: the first but matrix units, which were never measured and run only when asked for. */
export function usualIsa(available: readonly string[]): string {
  return available.find((name) => name !== "amx") as string;
}

class NativeDevice extends CompiledDevice {
  readonly name = "native";
  readonly isa: string;
  readonly threads: number;
  private readonly addon: Addon;
  private readonly handle: unknown;
  private readonly slabs: { base: number; buffer: ArrayBuffer }[] = [];

  constructor(addon: Addon, isa: string, threads: number) {
    super();
    this.addon = addon;
    this.isa = isa;
    this.threads = threads;
    const args = new ArrayBuffer(ARGUMENT_SLOTS * 8);
    this.block = new Float64Array(args);
    this.handle = addon.open(isa, threads, args);
  }

  protected slab(index: number): { base: number; buffer: ArrayBuffer } {
    return this.slabs[index] as { base: number; buffer: ArrayBuffer };
  }

  protected grow(bytes: number): boolean {
    const least = bytes + 128;
    let wanted = Math.max(SLAB_BYTES, least);
    let buffer: ArrayBuffer | undefined;
    while (!buffer) {
      try {
        buffer = new ArrayBuffer(wanted);
      } catch {
        if (wanted === least) return false;
        wanted = Math.max(least, wanted / 4);
      }
    }
    const base = this.addon.address(buffer);
    const skip = (64 - (base % 64)) % 64;
    this.slabs.push({ base, buffer });
    this.heap.add(this.slabs.length - 1, skip, Math.floor((wanted - skip) / 64) * 64);
    return true;
  }

  protected call(kernel: number, tiles: number): void {
    this.addon.run(this.handle, kernel, tiles);
  }

  close(): void {
    this.addon.close(this.handle);
  }
}

export type { NativeDevice };
