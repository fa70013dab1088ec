/**
 * Lazy values, not made yet. `Affine`: `x * scale + shift` along the last axis, plus a shortcut where there is one. `Repeated`: the same at
 * every time step. `Product`: a product of spikes, which backward makes again.
 *
 * Batch norm gives an `Affine` in place of a value; a neuron that comes next works it out on the fly. And what the tape has to save it saves
 * so where it can: `x` is saved for the norm's own gradient in any case, so that neither a normalised value nor the sum of
 * a residual connection takes memory between forward and backward. Made again it is the same to the last bit.
 */
import type { Storage } from "../runtime/device.ts";
import { tilesFor } from "../runtime/device.ts";
import { device, release, retain } from "../runtime/engine.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { ELEMENT } from "../runtime/kernel-table.ts";
import { keep } from "./scope.ts";
import { type Shape, sameShape, show, sizeOf } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

/**
 * Most shortcuts in a row that are made again, each from the one before; the next is saved as it is. One onto a product that is itself made again
 * counts as two: all of a row are in memory at one time in backward.
 */
const LONGEST = 4;

export interface AffineParts {
  /** f32 [..., C]; every part is a handle that belongs to the value. */
  readonly x: Tensor;
  /** f32 [C]. */
  readonly scale: Tensor;
  readonly shift: Tensor;
  /** Statistics of the norm behind it, with which a neuron's backward can make the norm's sums (see `NormSums`); null of a sum. */
  readonly mean: Tensor | null;
  readonly rstd: Tensor | null;
  /** What is added: a tensor, or how it is made. */
  readonly plus: Tensor | Affine | null;
}

export class Affine {
  readonly shape: Shape;
  readonly parts: AffineParts;
  /** Shortcuts in a row that are made, as they count. */
  readonly length: number;
  private readonly tensors: readonly Tensor[];
  private readonly versions: readonly number[];
  private owners = 1;

  constructor(shape: Shape, parts: AffineParts) {
    const { x, scale, shift, mean, rstd, plus } = parts;
    this.shape = shape;
    this.parts = parts;
    this.tensors = [x, scale, shift, mean, rstd, plus].filter((t): t is Tensor => t !== null && !(t instanceof Affine));
    this.length = plus === null ? 0 : (x.product ? 2 : 1) + (plus instanceof Affine ? plus.length : 0);
    this.versions = this.tensors.map((t) => t.version);
  }

  /** Nothing but `x * scale + shift` of a batch norm: what a neuron's kernels take as it is. */
  get isNorm(): boolean {
    return this.parts.mean !== null;
  }

  retain(): this {
    this.owners++;
    return this;
  }

  release(): void {
    if (--this.owners > 0) return;
    for (const t of this.tensors) t.dispose();
    if (this.parts.plus instanceof Affine) this.parts.plus.release();
  }

  /** For the tape, and its own: products in it are made again, and take no memory until then. */
  saved(): Affine {
    const { x, scale, shift, mean, rstd, plus } = this.parts;
    const below = plus instanceof Affine ? plus.saved() : null;
    if (!x.product && below === plus) {
      below?.release();
      return this.retain();
    }
    return new Affine(this.shape, {
      x: keep(x.saved()),
      scale: handle(scale),
      shift: handle(shift),
      mean: mean && handle(mean),
      rstd: rstd && handle(rstd),
      plus: below ?? (plus && keep((plus as Tensor).saved())),
    });
  }

  /** Is a part no longer what it was? */
  get stale(): boolean {
    const { plus } = this.parts;
    return this.tensors.some((t, i) => t.version !== this.versions[i]) || (plus instanceof Affine && plus.stale);
  }

  /** The value in new memory, which is the caller's. */
  make(): Storage {
    const { plus } = this.parts;
    return plus instanceof Affine ? this.onto(plus.make(), true) : this.onto(plus?.storage ?? null);
  }

  /** `x * scale + shift`, plus `u` where given: over `u`, or in new memory. */
  private onto(u: Storage | null, over = false): Storage {
    const { x, scale, shift } = this.parts;
    const c = this.shape[this.shape.length - 1] as number;
    const rows = sizeOf(this.shape.slice(0, -1));
    const y = u && over ? u : device().alloc("f32", rows * c);
    const given = { x: x.storage, scale: scale.storage, shift: shift.storage, y, rows, c };
    if (u) device().run("affine_add", { ...given, u }, tilesFor(rows, c));
    else device().run("affine", given, tilesFor(rows, c));
    return y;
  }

  /** The norm's value plus `other`, f32 of the same shape, in one pass. */
  plus(other: Tensor): Storage {
    return !other.made && other.affine ? this.onto(other.affine.make(), true) : this.onto(other.storage);
  }

  /** The same value under another shape of as many channels. */
  reshaped(shape: Shape): Affine {
    if (sameShape(shape, this.shape)) return this.retain();
    const { x, scale, shift, mean, rstd, plus } = this.parts;
    return new Affine(shape, {
      x: keep(x.alias(shape)),
      scale: handle(scale),
      shift: handle(shift),
      mean: mean && handle(mean),
      rstd: rstd && handle(rstd),
      plus: plus instanceof Affine ? plus.reshaped(shape) : plus && keep(plus.alias(shape)),
    });
  }

  /** That sum, not made. */
  followedBy(other: Tensor): Affine {
    const { x, scale, shift } = this.parts;
    const from = other.affine;
    const plus = from && from.length < LONGEST ? from.retain() : handle(other);
    return new Affine(this.shape, {
      x: keep(x.product ? x.handle() : x.alias()),
      scale: handle(scale),
      shift: handle(shift),
      mean: null,
      rstd: null,
      plus,
    });
  }
}

/**
 * x at each of `steps` time steps. Direct coding shows an image T times; a layer without memory in front of the first
 * neuron (convolution, linear layer, batch norm) works on x once and repeats its result, and the neuron reads it at every step.
 */
export class Repeated {
  /** A handle that belongs to this. */
  readonly x: Tensor;
  readonly steps: number;
  /** Is the tensor what `repeat` gave? Behind what another op returns stands that op's own gradient. */
  direct = false;
  private readonly version: number;

  constructor(x: Tensor, steps: number) {
    this.x = x;
    this.steps = steps;
    this.version = x.version;
  }

  get shape(): Shape {
    return [this.steps, ...this.x.shape];
  }

  /** As many times again, for another owner. */
  again(): Repeated {
    return new Repeated(keep(this.x.handle()), this.steps);
  }

  release(): void {
    this.x.dispose();
  }

  get stale(): boolean {
    return this.x.version !== this.version;
  }

  /** The value in new memory, which is the caller's. */
  make(): Storage {
    const { x, steps } = this;
    const y = device().alloc("f32", steps * x.size);
    const dims = { d0: 1, d1: 1, d2: 1, d3: 1, d4: steps, d5: x.size };
    const from = { x: x.storage, offsetA: 0, a0: 0, a1: 0, a2: 0, a3: 0, a4: 0, a5: 1 };
    const to = { y, offsetB: 0, b0: 0, b1: 0, b2: 0, b3: 0, b4: x.size, b5: 1 };
    if (x.size) device().run("copy_strided", { type: ELEMENT.indexOf("f32"), ...dims, ...from, ...to }, tilesFor(steps, x.size));
    return y;
  }
}

/**
 * What a layer gave for spikes, to be made again from them in backward rather than kept: the spikes are, as bits, in any case. All that
 * ask for it share one value, which lasts until the last of them is done.
 */
export class Product {
  readonly shape: Shape;
  private readonly operands: readonly Tensor[];
  private readonly versions: readonly number[];
  private readonly compute: (operands: readonly Tensor[]) => Storage;
  private value: Storage | null = null;
  private owners = 1;

  /** @param compute gives new memory; the same to the last bit each time */
  constructor(shape: Shape, operands: readonly Tensor[], compute: (operands: readonly Tensor[]) => Storage) {
    this.shape = shape;
    this.operands = operands.map(handle);
    this.versions = operands.map((t) => t.version);
    this.compute = compute;
  }

  retain(): this {
    this.owners++;
    return this;
  }

  release(): void {
    if (--this.owners > 0) return;
    for (const t of this.operands) t.dispose();
    if (this.value) release(this.value);
  }

  get stale(): boolean {
    return this.operands.some((t, i) => t.version !== this.versions[i]);
  }

  /** The value, of which the caller is one more owner. */
  make(): Storage {
    this.value ??= this.compute(this.operands);
    return retain(this.value);
  }
}

const handle = (t: Tensor): Tensor => keep(t.alias());

export type Lazy = Affine | Repeated | Product;

/** @param trained is a backward to come? A product waits for nothing else. @throws SpikeloomError when what the value follows from was changed in place since */
export function expectFresh(lazy: Lazy, trained: boolean): void {
  if (!lazy.stale) return;
  throw new SpikeloomError(
    `a value of shape ${show(lazy.shape)} is still to be made from a tensor that was changed in place: ${
      trained || lazy instanceof Product ? "step the optimiser after backward" : "use the value (or clone that tensor) before it is set"
    }`,
  );
}

/** A second handle on x, at its place in the graph. */
export function twin(x: Tensor): Tensor {
  const t = x.handle();
  t.node = x.node;
  t.output = x.output;
  t.node?.take();
  return t;
}

/**
 * What t repeats, where t's gradient is that of the repetition and nothing else: then a layer may work on `x` of it in place of t. Not so for
 * a leaf, whose own gradient is asked for, nor for what an op of another kind returned.
 */
export function sourceOf(t: Tensor): Repeated | null {
  const { repeated } = t;
  return repeated?.direct && (t.node || !t.requiresGrad) ? repeated : null;
}
