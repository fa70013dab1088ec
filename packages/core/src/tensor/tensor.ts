/**
 * Tensor: a shape, a dtype and a piece of device memory.
 *
 * Contiguous, row-major, channels last, immutable in use (parameters are changed in place by optimisers only, which raises
 * their version). Dtypes: f32, i32, u8, bool, and spikes: 0/1 or small integers, bit-packed along the last axis (see
 * runtime/kernel-table.ts), whose dense view is made only where an op has no spike kernel.
 *
 * Memory is counted, not collected: `dispose()`, `using` or `scope` (scope.ts) gives it back. Methods such as `add` are
 * attached in methods.ts.
 */
import { kindOf } from "../runtime/check.ts";
import type { ElementType, Storage, TypedArray } from "../runtime/device.ts";
import { tilesFor } from "../runtime/device.ts";
import { device, engineGeneration, release, retain } from "../runtime/engine.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { Affine, expectFresh, type Lazy, Product, Repeated } from "./lazy.ts";
import type { TensorMethods } from "./methods.ts";
import { track } from "./scope.ts";
import { expectList, type Shape, show, sizeOf, wrong } from "./shape.ts";
import type { Node } from "./tape.ts";

export type DType = "f32" | "i32" | "u8" | "bool" | "spikes";

const ELEMENT_OF: Record<DType, ElementType> = { f32: "f32", i32: "i32", u8: "u8", bool: "u8", spikes: "u32" };

/** How a spike tensor's bits read: value = scale * sum over planes of 2^p * bit. */
export interface SpikeFormat {
  planes: number;
  scale: number;
}

/** What `bn_grad_sums` makes of a gradient, when the kernel that wrote the gradient made it in the same pass: [chunks][2][c]. */
export interface NormSums {
  partial: Tensor;
  chunks: number;
}

/** u32 words of one bit plane of a row of c channels. */
export function wordsOf(c: number): number {
  return Math.ceil(c / 32);
}

export interface Tensor extends TensorMethods {}

let made = 0;

/** The id that the next tensor will have. */
export function youngest(): number {
  return made;
}

// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: methods.ts attaches what the interface declares
export class Tensor {
  readonly shape: Shape;
  readonly dtype: DType;
  /** Only for dtype spikes. */
  readonly spikes: SpikeFormat | null;
  requiresGrad = false;
  /** Gradient of a leaf after `backward`, f32 of the same shape. */
  grad: Tensor | null = null;
  /** Grows with every tensor made: the younger of two has the larger. */
  readonly id = made++;
  /** The op that made this tensor. @internal */
  node: Node | null = null;
  /** Which of that op's outputs it is. @internal */
  output = 0;
  /** For a gradient: its sums for the batch norm that it flows to. Freed with it; lost when another gradient is added. @internal */
  normSums: NormSums | null = null;
  /** Never freed by a scope: parameters, buffers, gradients, what `keep` marked. */
  kept = false;
  private stored: Storage | null;
  private lazy: Lazy | null;
  private gone = false;
  private readonly generation = engineGeneration();

  /** Programs make tensors by `tensor`, `zeros` and the like. @internal */
  constructor(shape: Shape, dtype: DType, storage: Storage | null, spikes: SpikeFormat | null = null, lazy: Lazy | null = null) {
    this.shape = shape;
    this.dtype = dtype;
    this.stored = storage;
    this.spikes = spikes;
    this.lazy = lazy;
    track(this);
  }

  /** Raised by every change in place, through any handle on this memory; the tape refuses a saved tensor whose version moved. */
  get version(): number {
    return this.stored?.version ?? 0;
  }

  set version(value: number) {
    this.storage.version = value;
  }

  get rank(): number {
    return this.shape.length;
  }

  /** Number of elements. */
  get size(): number {
    return sizeOf(this.shape);
  }

  get disposed(): boolean {
    return this.gone;
  }

  /** The device memory; makes a lazy value. For ops only. @internal */
  get storage(): Storage {
    if (this.gone)
      throw new SpikeloomError(
        `a tensor of shape ${show(this.shape)} is used after it was freed: return it from scope(), or keep() it where it is stored`,
      );
    if (this.generation !== engineGeneration()) throw new SpikeloomError("a tensor of an earlier init() is used: its device is gone");
    if (!this.stored) this.materialise();
    return this.stored as Storage;
  }

  /** Is the value in memory? If not, it is made on first use. For ops only. @internal */
  get made(): boolean {
    return this.stored !== null;
  }

  /**
   * How the value is made, where that is remembered: of one in memory too, for backward. For ops only.
   * @throws SpikeloomError when the value is not made yet, and what it follows from was changed @internal
   */
  get affine(): Affine | null {
    if (this.gone || this.version || !(this.lazy instanceof Affine)) return null;
    return this.stored && this.lazy.stale ? null : this.fresh(this.lazy);
  }

  /** What a value that is not made yet repeats. For ops only. @throws SpikeloomError when that was changed @internal */
  get repeated(): Repeated | null {
    return this.gone || this.stored || !(this.lazy instanceof Repeated) ? null : this.fresh(this.lazy);
  }

  /** How backward makes the value again, where it is not to be kept. For ops only. @internal */
  get product(): Product | null {
    return this.gone || this.version || !(this.lazy instanceof Product) || this.lazy.stale ? null : this.lazy;
  }

  private fresh<L extends Lazy>(lazy: L): L {
    expectFresh(lazy, this.node !== null);
    return lazy;
  }

  private materialise(): void {
    const lazy = this.fresh(this.lazy as Lazy);
    this.stored = lazy.make();
    // Backward may want an affine value made again; without a graph it would only keep its parts in memory.
    if (!this.node || lazy instanceof Repeated) this.forget();
  }

  private forget(): void {
    this.lazy?.release();
    this.lazy = null;
  }

  /** A second handle on the same memory, of the same or another shape, outside the tape. */
  alias(shape: Shape = this.shape): Tensor {
    return new Tensor(shape, this.dtype, retain(this.storage), this.spikes);
  }

  /** As `alias`, but what is not made yet stays so, under a shape of as many channels. For ops only. @internal */
  handle(shape: Shape = this.shape): Tensor {
    const { affine, product } = this;
    if (product && shape === this.shape) return new Tensor(shape, "f32", this.stored && retain(this.stored), null, product.retain());
    return affine ? new Tensor(shape, "f32", this.stored && retain(this.stored), null, affine.reshaped(shape)) : this.alias(shape);
  }

  /** As `alias`, but a product that backward makes again is not kept in memory. For ops only. @internal */
  saved(): Tensor {
    const { product } = this;
    return product ? new Tensor(this.shape, "f32", null, null, product.retain()) : this.alias();
  }

  /** Give the memory back (when no other handle shares it). Twice is no error. */
  dispose(): void {
    if (this.gone) return;
    this.gone = true;
    if (this.generation === engineGeneration()) {
      if (this.stored) release(this.stored);
      this.forget();
    }
    this.grad?.dispose();
    this.grad = null;
    this.normSums?.partial.dispose();
    this.normSums = null;
    this.node?.drop();
    this.node = null;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /**
   * The values, row-major (Float32Array for f32 and spikes, Int32Array, Uint8Array for u8 and bool; Float64Array for f32 and
   * spikes on the reference device). A copy.
   */
  async data(): Promise<TypedArray> {
    return this.dataSync();
  }

  /** As `data`, at once: for CPU devices. */
  dataSync(): TypedArray {
    if (this.dtype !== "spikes") return device().view(this.storage).slice();
    const dense = denseStorage(this);
    const values = device().view(dense).slice();
    release(dense);
    return values;
  }

  /** The one value of a tensor with one element. */
  async item(): Promise<number> {
    return this.itemSync();
  }

  itemSync(): number {
    if (this.size !== 1) wrong("item", "the tensor", "of one element", show(this.shape));
    return this.dataSync()[0] as number;
  }

  /** Overwrite the values in place (parameters, buffers): raises the version. */
  set(values: ArrayLike<number>): this {
    if (!isNumbers(values) || values.length !== this.size)
      wrong("set", "values", `${this.size} numbers for shape ${show(this.shape)}`, kindOf(values));
    if (this.dtype === "spikes") wrong("set", "the tensor", "of a dense dtype", "spikes");
    device().view(this.storage).set(values);
    this.version++;
    return this;
  }
}

/** Check that an argument is a tensor, which only JavaScript can get wrong. */
export function expectTensor(op: string, argument: string, value: Tensor): void {
  if (!((value as unknown) instanceof Tensor)) wrong(op, argument, "a Tensor, such as tensor([1, 2]) makes", kindOf(value));
}

/** f32 storage of a spike tensor's values; the caller releases it. */
export function denseStorage(t: Tensor): Storage {
  const { planes, scale } = t.spikes as SpikeFormat;
  const c = t.shape[t.rank - 1] as number;
  const rows = sizeOf(t.shape.slice(0, -1));
  const y = device().alloc("f32", t.size);
  device().run("spike_unpack", { x: t.storage, y, rows, c, planes, scale }, tilesFor(rows, c));
  return y;
}

function checkShape(shape: Shape): void {
  expectList("tensor", "the shape", shape);
  for (const d of shape) if (!Number.isSafeInteger(d) || d < 0) wrong("tensor", "every size of the shape", "an integer >= 0", show(shape));
  if (!Number.isSafeInteger(sizeOf(shape))) wrong("tensor", "the shape", "of fewer than 2^53 elements", show(shape));
}

function checkDType(dtype: DType): void {
  if (!Object.hasOwn(ELEMENT_OF, dtype) || dtype === "spikes") wrong("tensor", "the dtype", "f32, i32, u8 or bool", kindOf(dtype));
}

/** An uninitialised tensor. */
export function empty(shape: Shape, dtype: Exclude<DType, "spikes"> = "f32"): Tensor {
  checkShape(shape);
  checkDType(dtype);
  return new Tensor(shape, dtype, device().alloc(ELEMENT_OF[dtype], sizeOf(shape)));
}

/** An uninitialised spike tensor. */
export function emptySpikes(shape: Shape, format: SpikeFormat = { planes: 1, scale: 1 }): Tensor {
  checkShape(shape);
  const c = shape[shape.length - 1];
  if (c === undefined) wrong("spikes", "the shape", "of rank 1 or more", "[]");
  const rows = c === 0 ? 0 : sizeOf(shape) / c;
  return new Tensor(shape, "spikes", device().alloc("u32", rows * format.planes * wordsOf(c)), format);
}

export function full(shape: Shape, value: number): Tensor {
  if (typeof value !== "number") wrong("full", "the value", "a number", kindOf(value));
  const t = empty(shape);
  device().run("fill", { y: t.storage, n: t.size, value }, tilesFor(t.size, 1));
  return t;
}

export function zeros(shape: Shape): Tensor {
  return full(shape, 0);
}

export function ones(shape: Shape): Tensor {
  return full(shape, 1);
}

export type NestedNumbers = number | readonly NestedNumbers[];

/**
 * A tensor of given values. `data` is a number, nested arrays, or a flat typed array with `shape`.
 * dtype: f32 by default; i32 for an Int32Array, u8 for a Uint8Array.
 */
export function tensor(data: NestedNumbers | TypedArray, shape?: Shape, dtype?: Exclude<DType, "spikes">): Tensor {
  const typed = ArrayBuffer.isView(data);
  const kind = dtype ?? (data instanceof Int32Array ? "i32" : data instanceof Uint8Array ? "u8" : "f32");
  if (!isNumbers(data) && typeof data !== "number" && !Array.isArray(data))
    wrong("tensor", "the data", "a number, nested arrays of numbers, or a typed array", kindOf(data));
  const found = typed ? [data.length] : shapeOfNested(data as NestedNumbers);
  const flat = typed ? data : Array.isArray(data) ? (data.flat(Number.POSITIVE_INFINITY) as number[]) : [data as number];
  const dims = shape ?? found;
  checkShape(dims);
  checkDType(kind);
  if (sizeOf(dims) !== flat.length) wrong("tensor", "the shape", `of ${flat.length} elements`, `${show(dims)} (${sizeOf(dims)})`);
  const t = empty(dims, kind);
  device()
    .view(t.storage)
    .set(flat as ArrayLike<number>);
  return t;
}

/** A list of numbers that memory can be set from: a typed array (not of 64-bit integers), or an array of nothing else. */
function isNumbers(values: unknown): values is ArrayLike<number> {
  if (ArrayBuffer.isView(values)) return "length" in values && !(values instanceof BigInt64Array || values instanceof BigUint64Array);
  return Array.isArray(values) && values.every((v) => typeof v === "number");
}

function shapeOfNested(data: NestedNumbers): number[] {
  if (typeof data === "number") return [];
  if (!Array.isArray(data)) wrong("tensor", "nested arrays", "of numbers", kindOf(data));
  const first = data[0];
  const inner = first === undefined ? [] : shapeOfNested(first);
  for (const row of data) {
    const other = shapeOfNested(row);
    if (other.length !== inner.length || other.some((d, i) => d !== inner[i]))
      wrong("tensor", "nested arrays", `all of shape ${show(inner)}`, show(other));
  }
  return [data.length, ...inner];
}
