/** The reference device: naive float64 kernels in TypeScript. Slow and plain: the oracle that the compiled devices are held against. */
import type { Device, ElementType, KernelArgs, Storage, TypedArray } from "./device.ts";
import type { KernelName } from "./kernel-table.ts";
import { referenceKernels } from "./reference/index.ts";

interface ReferenceStorage extends Storage {
  readonly array: TypedArray;
}

export function createReference(): Device {
  return new ReferenceDevice();
}

class ReferenceDevice implements Device {
  readonly name = "reference";
  readonly isa = "float64";
  readonly threads = 1;
  private used = 0;
  private peak = 0;

  alloc(type: ElementType, length: number): Storage {
    const array =
      type === "f32"
        ? new Float64Array(length)
        : type === "i32"
          ? new Int32Array(length)
          : type === "u8"
            ? new Uint8Array(length)
            : new Uint32Array(length);
    this.used += array.byteLength;
    this.peak = Math.max(this.peak, this.used);
    return { type, length, address: 0, slab: 0, refs: 1, version: 0, array } as ReferenceStorage;
  }

  free(storage: Storage): void {
    this.used -= (storage as ReferenceStorage).array.byteLength;
  }

  view(storage: Storage): TypedArray {
    return (storage as ReferenceStorage).array;
  }

  run<K extends KernelName>(kernel: K, args: KernelArgs<K>): void {
    const plain: Record<string, TypedArray | number | null> = {};
    for (const [name, value] of Object.entries(args) as [string, Storage | number | null][])
      plain[name] = typeof value === "number" || value === null ? value : (value as ReferenceStorage).array;
    (referenceKernels[kernel] as (args: unknown) => void)(plain);
  }

  memory(): { used: number; peak: number; reserved: number } {
    return { used: this.used, peak: this.peak, reserved: this.used };
  }

  close(): void {}
}
