// Every compiled device of this machine, opened with 1, 2 and 3 threads; and running one kernel call on a device from plain arrays.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import type { Device, ElementType, KernelArgs, Storage, TypedArray } from "../../../src/runtime/device.ts";
import { SpikeloomError } from "../../../src/runtime/error.ts";
import { KERNELS, type KernelName } from "../../../src/runtime/kernel-table.ts";
import { createNative } from "../../../src/runtime/native.ts";
import type { ReferenceArgs } from "../../../src/runtime/reference/index.ts";
import { createWasm } from "../../../src/runtime/wasm.ts";

const built = (name: string) => fileURLToPath(new URL(`../../../../../build/native/${name}.node`, import.meta.url));
const ADDON = process.env.SPIKELOOM_NATIVE ?? built("spikeloom");
/** Matrix units in plain code; its other kernels are those of AVX-512. */
export const EMULATED = built("emulated");

/** One device implementation, at every thread count; the first entry has one thread. */
export interface Variant {
  readonly label: string;
  /** Has code of its own only for kernels that have `terms`. */
  readonly emulated: boolean;
  readonly devices: readonly Device[];
}

/** wasm, and each instruction set of the addon that this CPU runs (none where the addon is not built). */
export async function openVariants(threads: readonly number[]): Promise<Variant[]> {
  const wasm = await Promise.all(threads.map((count) => createWasm({ threads: count })));
  const variants: Variant[] = [{ label: "wasm simd128", emulated: false, devices: wasm }];
  for (const path of [ADDON, EMULATED]) {
    if (!existsSync(path)) continue;
    const { isas } = createRequire(import.meta.url)(path) as { isas(): string[] };
    for (const isa of isas()) {
      if (isa === "amx" && !opens(path, isa)) continue;
      const devices = threads.map((count) => createNative({ path, threads: count, isa }));
      variants.push({ label: `native ${isa}`, emulated: path === EMULATED, devices });
    }
  }
  return variants;
}

/** Matrix units that the processor reports may not be granted by the system, or fail the trial that the addon gives them: they are no device then. */
function opens(path: string, isa: string): boolean {
  try {
    createNative({ path, threads: 1, isa }).close();
    return true;
  } catch (error) {
    if (!(error instanceof SpikeloomError)) throw error;
    console.warn(error.message);
    return false;
  }
}

/** Elements after each buffer that no kernel may touch. */
const GUARD = 24;
const GUARD_VALUE = 77;

function elementType(array: TypedArray): ElementType {
  if (array instanceof Int32Array) return "i32";
  if (array instanceof Uint8Array) return "u8";
  return array instanceof Uint32Array ? "u32" : "f32";
}

/**
 * Copy the arrays to the device, run the kernel, copy every array back (one passed twice is one storage, so the call is in place).
 * Returns the arrays by argument name, as the device's own types. @throws Error when the kernel wrote past an array's end.
 */
export function runOn<K extends KernelName>(device: Device, kernel: K, args: ReferenceArgs<K>, tiles: number): Record<string, TypedArray> {
  const storages = new Map<TypedArray, Storage>();
  const call: Record<string, Storage | number | null> = {};
  for (const name of Object.keys(KERNELS[kernel])) {
    const value = (args as Record<string, TypedArray | number | null>)[name]!;
    if (value === null || typeof value === "number") {
      call[name] = value;
      continue;
    }
    let storage = storages.get(value);
    if (!storage) {
      storage = device.alloc(elementType(value), value.length + GUARD);
      storages.set(value, storage);
    }
    call[name] = storage;
  }
  for (const [array, storage] of storages) {
    const view = device.view(storage);
    view.set(array);
    view.fill(GUARD_VALUE, array.length);
  }
  device.run(kernel, call as KernelArgs<K>, tiles);
  const results: Record<string, TypedArray> = {};
  for (const [name, value] of Object.entries(args as Record<string, TypedArray | number | null>)) {
    if (value === null || typeof value === "number") continue;
    const copy = device.view(storages.get(value)!).slice() as TypedArray;
    for (let i = value.length; i < copy.length; i++)
      if (copy[i] !== GUARD_VALUE) throw new Error(`${kernel}: element ${i} of ${name} was written, the buffer has ${value.length}`);
    results[name] = copy.subarray(0, value.length);
  }
  for (const storage of storages.values()) device.free(storage);
  return results;
}
