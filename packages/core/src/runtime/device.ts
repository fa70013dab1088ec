/**
 * What a device is: memory, kernels, threads. Three implementations stand behind this one interface:
 * `reference` (naive float64 TypeScript), `wasm` (SIMD128 WebAssembly) and `native` (the Node addon).
 * Above this folder nobody knows which one runs; below it nobody knows what a tensor is.
 */
import type { KERNELS, KernelName } from "./kernel-table.ts";

/** Element type of a storage. Booleans are u8; spike words are u32. On the reference device f32 is float64. */
export type ElementType = "f32" | "i32" | "u8" | "u32";

export type TypedArray = Float32Array | Float64Array | Int32Array | Uint8Array | Uint32Array;

/** A piece of device memory with a reference count. Created with a count of one. */
export interface Storage {
  readonly type: ElementType;
  /** Number of elements. */
  readonly length: number;
  /** Byte address in the device's address space (0 on the reference device). */
  readonly address: number;
  /** Where the elements live in JavaScript memory: see `Device.view`. */
  readonly slab: number;
  refs: number;
  /** Raised by every change in place; see the tape. */
  version: number;
  /** Of spikes: the set bits, once a device has counted them. */
  counted?: { on: Device; bits: number };
}

/** Arguments of kernel K: a storage (or null where optional) for each pointer, a number for the rest. */
export type KernelArgs<K extends KernelName> = {
  readonly [A in keyof (typeof KERNELS)[K]]: (typeof KERNELS)[K][A] extends "p" ? Storage | null : number;
};

export type DeviceName = "reference" | "wasm" | "native";

export interface Device {
  readonly name: DeviceName;
  /** Instruction set in use: `float64`, `simd128`, `baseline`, `avx2`, `avx512`, ... */
  readonly isa: string;
  readonly threads: number;
  /** Uninitialised memory for `length` elements. */
  alloc(type: ElementType, length: number): Storage;
  /** Give memory back; called by `release` when the count reaches zero. */
  free(storage: Storage): void;
  /** The elements, valid until the next allocation (memory may grow and move). Copy what must last. */
  view(storage: Storage): TypedArray;
  /** Run a kernel to its end. `tiles` from `tilesFor`. */
  run<K extends KernelName>(kernel: K, args: KernelArgs<K>, tiles: number): void;
  /** Bytes in use by live storages, the most there ever were, and bytes that the system has to back for them, gaps included. */
  memory(): { used: number; peak: number; reserved: number };
  /** Stop threads and drop memory. The device is unusable afterwards. */
  close(): void;
}

/** Bytes of one element on a compiled device. */
export const BYTES: Record<ElementType, number> = { f32: 4, i32: 4, u8: 1, u32: 4 };

/**
 * How many tiles a kernel call is cut into: a pure function of shapes, so that results never depend on the thread count.
 * @param units what the kernel's doc calls units
 * @param cost rough cost of one unit in nanoseconds-like steps (elements touched, or multiply-adds / 8)
 */
export function tilesFor(units: number, cost: number): number {
  const total = units * cost;
  if (total < 16384) return 1;
  return Math.max(1, Math.min(units, 64, Math.ceil(total / 16384)));
}
