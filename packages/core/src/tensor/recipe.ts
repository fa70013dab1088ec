/**
 * Values not made yet. Recipes: how a value that is cheap to make is made, `x * scale + shift` along the last axis, plus a shortcut where there is one.
 *
 * Batch norm gives a recipe in place of a value; a neuron that comes next follows it on the fly. And what the tape has to save it saves as
 * a recipe where there is one: `x` is saved for the norm's own gradient in any case, so that neither a normalised value nor the sum of
 * a residual connection takes memory between forward and backward. Made again it is the same to the last bit.
 */
import type { Storage } from "../runtime/device.ts";
import { tilesFor } from "../runtime/device.ts";
import { device } from "../runtime/engine.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { ELEMENT } from "../runtime/kernel-table.ts";
import { keep } from "./scope.ts";
import { type Shape, show, sizeOf } from "./shape.ts";
import type { Tensor } from "./tensor.ts";

/** Most shortcuts in a row that are made again, each from the one before; the next is saved as it is. */
const LONGEST = 4;

export interface RecipeParts {
  /** f32 [..., C]; every part is a handle that belongs to the recipe. */
  readonly x: Tensor;
  /** f32 [C]. */
  readonly scale: Tensor;
  readonly shift: Tensor;
  /** Statistics of the norm behind it, with which a neuron's backward can make the norm's sums (see `NormSums`); null of a sum. */
  readonly mean: Tensor | null;
  readonly rstd: Tensor | null;
  /** What is added: a tensor, or how it is made. */
  readonly plus: Tensor | Recipe | null;
}

export class Recipe {
  readonly shape: Shape;
  readonly parts: RecipeParts;
  /** Shortcuts in a row that are made. */
  readonly length: number;
  private readonly versions: readonly number[];
  private owners = 1;

  constructor(shape: Shape, parts: RecipeParts) {
    this.shape = shape;
    this.parts = parts;
    this.length = parts.plus === null ? 0 : 1 + (parts.plus instanceof Recipe ? parts.plus.length : 0);
    this.versions = this.tensors().map((t) => t.version);
  }

  private tensors(): Tensor[] {
    const { plus, ...rest } = this.parts;
    return [...Object.values(rest), plus].filter((t): t is Tensor => t !== null && !(t instanceof Recipe));
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
    for (const t of this.tensors()) t.dispose();
    if (this.parts.plus instanceof Recipe) this.parts.plus.release();
  }

  /** The value in new memory, which is the caller's. @throws SpikeloomError when a part was changed in place since */
  make(): Storage {
    this.tensors().forEach((t, i) => {
      if (t.version !== this.versions[i])
        throw new SpikeloomError(
          `a tensor of shape ${show(t.shape)} was changed in place while a value that follows from it was still to be made: step the optimiser after backward`,
        );
    });
    const { plus } = this.parts;
    return plus instanceof Recipe ? this.onto(plus.make(), true) : this.onto(plus?.storage ?? null);
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
    return other.pending ? this.onto(other.pending.make(), true) : this.onto(other.storage);
  }

  /** The same value under another shape of as many channels. */
  reshaped(shape: Shape): Recipe {
    const { x, scale, shift, mean, rstd, plus } = this.parts;
    return new Recipe(shape, {
      x: keep(x.alias(shape)),
      scale: handle(scale),
      shift: handle(shift),
      mean: mean && handle(mean),
      rstd: rstd && handle(rstd),
      plus: plus instanceof Recipe ? plus.reshaped(shape) : plus && keep(plus.alias(shape)),
    });
  }

  /** The recipe of that sum. */
  followedBy(other: Tensor): Recipe {
    const { x, scale, shift } = this.parts;
    const from = other.recipe;
    const plus = from && from.length < LONGEST ? from.retain() : handle(other);
    return new Recipe(this.shape, { x: handle(x), scale: handle(scale), shift: handle(shift), mean: null, rstd: null, plus });
  }
}

/**
 * A value not made yet: x at each of `steps` time steps. Direct coding shows an image T times; a layer without memory in front of the first
 * neuron (convolution, linear layer, batch norm) works on x once and repeats its result, and the neuron reads it at every step.
 */
export class Repeated {
  /** A handle that belongs to this. */
  readonly x: Tensor;
  readonly steps: number;

  constructor(x: Tensor, steps: number) {
    this.x = x;
    this.steps = steps;
  }

  get shape(): Shape {
    return [this.steps, ...this.x.shape];
  }

  /** As many times again, for another owner. */
  again(): Repeated {
    return new Repeated(handle(this.x), this.steps);
  }

  release(): void {
    this.x.dispose();
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

const handle = (t: Tensor): Tensor => keep(t.alias());
