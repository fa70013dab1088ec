/**
 * What the two compiled devices share: a heap of slabs, storages in it, and the argument block through which a kernel call
 * reaches C++ (an array of doubles in the order of the kernel table; see kernels/abi.h).
 */

import { BYTES, type Device, type DeviceName, type ElementType, type KernelArgs, type Storage, type TypedArray } from "./device.ts";
import { SpikeloomError } from "./error.ts";
import { Heap } from "./heap.ts";
import { KERNELS, type KernelName } from "./kernel-table.ts";

/** Doubles in the argument block: more than any kernel has arguments. */
export const ARGUMENT_SLOTS = 64;

/** Kernel name -> its index in the compiled table and its argument names in order. */
export const KERNEL_INDEX = new Map<string, { index: number; names: readonly string[] }>(
  Object.entries(KERNELS).map(([name, args], index) => [name, { index, names: Object.keys(args) }]),
);

export abstract class CompiledDevice implements Device {
  abstract readonly name: DeviceName;
  abstract readonly isa: string;
  abstract readonly threads: number;
  protected readonly heap = new Heap();
  /** Doubles that C++ reads; set by the subclass, and again whenever memory moves. */
  protected block = new Float64Array(ARGUMENT_SLOTS);

  /** Make room for at least `bytes` more (calls `heap.add`); false when the system refuses. */
  protected abstract grow(bytes: number): boolean;
  /** Base address and buffer of a slab. */
  protected abstract slab(index: number): { base: number; buffer: ArrayBufferLike };
  protected abstract call(kernel: number, tiles: number): void;
  abstract close(): void;

  alloc(type: ElementType, length: number): Storage {
    if (!Number.isSafeInteger(length) || length < 0) throw new SpikeloomError(`internal: memory for ${length} elements was asked for`);
    const bytes = length * BYTES[type];
    let place = this.heap.take(bytes);
    if (!place && this.grow(bytes)) place = this.heap.take(bytes);
    if (!place) {
      const { used, reserved } = this.memory();
      throw new SpikeloomError(
        `out of memory on device ${this.name}: ${mib(bytes)} more asked for, ${mib(used)} in use, ${mib(reserved)} with the gaps between. Use a smaller batch, fewer time steps, or checkpoint() parts of the model`,
      );
    }
    return { type, length, slab: place.slab, address: this.slab(place.slab).base + place.offset, refs: 1, version: 0 };
  }

  free(storage: Storage): void {
    this.heap.give(storage.slab, storage.address - this.slab(storage.slab).base);
  }

  view(storage: Storage): TypedArray {
    const { base, buffer } = this.slab(storage.slab);
    const offset = storage.address - base;
    switch (storage.type) {
      case "f32":
        return new Float32Array(buffer as ArrayBuffer, offset, storage.length);
      case "i32":
        return new Int32Array(buffer as ArrayBuffer, offset, storage.length);
      case "u32":
        return new Uint32Array(buffer as ArrayBuffer, offset, storage.length);
      case "u8":
        return new Uint8Array(buffer as ArrayBuffer, offset, storage.length);
    }
  }

  run<K extends KernelName>(kernel: K, args: KernelArgs<K>, tiles: number): void {
    const { index, names } = KERNEL_INDEX.get(kernel) as { index: number; names: readonly string[] };
    const block = this.block;
    for (let i = 0; i < names.length; i++) {
      const value = (args as Record<string, number | Storage | null>)[names[i] as string];
      block[i] = typeof value === "number" ? value : value == null ? 0 : value.address;
    }
    this.call(index, tiles);
  }

  memory(): { used: number; peak: number; reserved: number } {
    return { used: this.heap.used, peak: this.heap.peak, reserved: this.heap.reserved };
  }
}

function mib(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
