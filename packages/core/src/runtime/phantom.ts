/**
 * A device without memory: it hands out addresses as a compiled device does, computes nothing and counts the memory that would have
 * been touched. A training step on it takes milliseconds and tells exactly what the same step takes on the device it stands in for,
 * whose tensors it reads and never changes.
 */
import { BYTES, type Device, type ElementType, type Storage, type TypedArray } from "./device.ts";
import { Heap } from "./heap.ts";
import { SLAB_BYTES } from "./native.ts";

const PAGE = 4096;
// As wasm.ts has it.
const GROWTH_BYTES = 16 << 20;

export class Phantom implements Device {
  readonly name;
  readonly isa;
  readonly threads;
  private readonly real: Device;
  private readonly heap = new Heap();
  private readonly own = new WeakSet<Storage>();
  /** By slab: which pages were ever part of a storage. The system backs these, and no others. */
  private readonly pages: Uint8Array[] = [];

  constructor(real: Device) {
    this.real = real;
    this.name = real.name;
    this.isa = real.isa;
    this.threads = real.threads;
  }

  alloc(type: ElementType, length: number): Storage {
    const bytes = length * (type === "f32" && this.name === "reference" ? 8 : BYTES[type]);
    const place = this.heap.take(bytes) ?? this.grow(bytes);
    (this.pages[place.slab] as Uint8Array).fill(1, Math.floor(place.offset / PAGE), Math.ceil((place.offset + bytes) / PAGE));
    const storage: Storage = { type, length, address: place.offset, slab: place.slab, refs: 1, version: 0 };
    this.own.add(storage);
    return storage;
  }

  /** As the compiled devices do: one memory that grows (WebAssembly), or slabs (native). */
  private grow(bytes: number): { slab: number; offset: number } {
    const one = this.name === "wasm";
    const before = this.heap.reserved;
    const more = PAGE * Math.ceil((one ? Math.max(bytes + PAGE, GROWTH_BYTES, before / 8) : Math.max(SLAB_BYTES, bytes)) / PAGE);
    const slab = one ? 0 : this.pages.length;
    this.heap.add(slab, one ? before : 0, more);
    const pages = new Uint8Array((one ? before + more : more) / PAGE);
    pages.set(this.pages[slab] ?? []);
    this.pages[slab] = pages;
    return this.heap.take(bytes) as { slab: number; offset: number };
  }

  free(storage: Storage): void {
    if (this.own.has(storage)) this.heap.give(storage.slab, storage.address);
    else this.real.free(storage);
  }

  /** Zeros, or a copy of the real device's values: what is written there is lost. */
  view(storage: Storage): TypedArray {
    if (!this.own.has(storage)) return this.real.view(storage).slice();
    const { type, length } = storage;
    if (type === "f32") return this.name === "reference" ? new Float64Array(length) : new Float32Array(length);
    return type === "i32" ? new Int32Array(length) : type === "u8" ? new Uint8Array(length) : new Uint32Array(length);
  }

  run(): void {}

  /** `peak` here: bytes of the pages that were touched. */
  memory(): { used: number; peak: number; reserved: number } {
    let touched = 0;
    for (const pages of this.pages) for (const page of pages) touched += page;
    return { used: this.heap.used, peak: touched * PAGE, reserved: this.heap.reserved };
  }

  close(): void {}
}
