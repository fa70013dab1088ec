/**
 * Initialisers. Each fills a parameter in place from the stream `init`, in the order in which PyTorch's tensor lies (so that the same
 * seed gives the same weights whatever the memory layout), and returns it.
 */

import { checkFunction, checkOptions, kindOf } from "../runtime/check.ts";
import { tilesFor } from "../runtime/device.ts";
import { device } from "../runtime/engine.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { randn, truncNormal, uniform } from "../tensor/ops/random.ts";
import { at, copyStrided } from "../tensor/ops/strided.ts";
import { scope } from "../tensor/scope.ts";
import { type Shape, show, sizeOf, stridesOf, wrong } from "../tensor/shape.ts";
import { empty, type Tensor } from "../tensor/tensor.ts";
import { type Layout, Parameter } from "./module.ts";

const stream = "init";

/** PyTorch's shape of a parameter. */
function fileShape(p: Parameter): Shape {
  expectParameter(p);
  return p.layout?.shape ?? p.shape;
}

function expectParameter(p: Parameter): void {
  if (!(p instanceof Parameter)) wrong("init", "the parameter", "an nn.Parameter", kindOf(p));
}

let drawing = true;

/**
 * Run `fn` while random initialisers leave values unset and draw nothing: to build a network for its shapes, or before all its
 * values are loaded.
 */
export function withoutDraws<R>(fn: () => R): R {
  const before = drawing;
  checkFunction("withoutDraws", "its argument", fn);
  drawing = false;
  try {
    return fn();
  } finally {
    drawing = before;
  }
}

/** Write values given in PyTorch's order. */
function write(p: Parameter, draw: (shape: Shape) => Tensor): Parameter {
  expectParameter(p);
  if (!drawing) return p;
  scope(() => {
    const shape = fileShape(p);
    const axes = p.layout?.axes ?? shape.map((_, i) => i);
    const strides = stridesOf(shape);
    const walked = axes.map((a) => shape[a] as number);
    copyStrided(
      "init",
      walked,
      at(
        draw(shape),
        axes.map((a) => strides[a] as number),
      ),
      at(p, stridesOf(walked)),
    );
  });
  p.version++;
  return p;
}

/** A parameter of unset values; an initialiser follows. */
export function uninitialised(shape: Shape, layout: Layout | null = null): Parameter {
  return new Parameter(empty(shape), layout);
}

/** Every value `value`. */
export function constant_(p: Parameter, value: number): Parameter {
  expectParameter(p);
  if (typeof value !== "number") wrong("constant_", "the value", "a number", kindOf(value));
  device().run("fill", { y: p.storage, n: p.size, value }, tilesFor(p.size, 1));
  p.version++;
  return p;
}

export function zeros_(p: Parameter): Parameter {
  return constant_(p, 0);
}

export function ones_(p: Parameter): Parameter {
  return constant_(p, 1);
}

/** Uniform in [low, high). */
export function uniform_(p: Parameter, low = 0, high = 1): Parameter {
  return write(p, (shape) => uniform(shape, { low, high, stream }));
}

export function normal_(p: Parameter, options: { mean?: number | undefined; std?: number | undefined } = {}): Parameter {
  checkOptions("normal_", options, ["mean", "std"]);
  const { mean = 0, std = 1 } = options;
  return write(p, (shape) => randn(shape, { mean, std, stream }));
}

/** Normal, cut to [a, b] (absolute bounds; timm's default is std 0.02, a -2, b 2). */
export function truncNormal_(
  p: Parameter,
  options: { mean?: number | undefined; std?: number | undefined; a?: number | undefined; b?: number | undefined } = {},
): Parameter {
  checkOptions("truncNormal_", options, ["mean", "std", "a", "b"]);
  const { mean = 0, std = 1, a = -2, b = 2 } = options;
  return write(p, (shape) => truncNormal(shape, { mean, std, a, b, stream }));
}

/** Inputs and outputs of one neuron of a weight: PyTorch's axes are [out, in, window...]. @throws SpikeloomError for fewer than two axes */
export function fans(p: Parameter): { fanIn: number; fanOut: number } {
  const shape = fileShape(p);
  if (shape.length < 2) throw new SpikeloomError(`init: fans need a weight of two or more axes, found ${show(shape)}`);
  const window = sizeOf(shape.slice(2));
  return { fanIn: (shape[1] as number) * window, fanOut: (shape[0] as number) * window };
}

/** Settings of the Kaiming initialisers (He et al. 2015): `a` is the negative slope of the leaky ReLU that follows; 0 for ReLU. */
export interface KaimingOptions {
  a?: number | undefined;
  mode?: "fanIn" | "fanOut" | undefined;
}

function kaimingStd(p: Parameter, options: KaimingOptions): number {
  checkOptions("kaiming", options, ["a", "mode"]);
  const { a = 0, mode = "fanIn" } = options;
  if (mode !== "fanIn" && mode !== "fanOut") wrong("kaiming", "mode", '"fanIn" or "fanOut"', kindOf(mode));
  return Math.sqrt(2 / (1 + a * a) / fans(p)[mode]);
}

/** Uniform of variance 2 / ((1 + a^2) fan). */
export function kaimingUniform_(p: Parameter, options: KaimingOptions = {}): Parameter {
  const bound = Math.sqrt(3) * kaimingStd(p, options);
  return uniform_(p, -bound, bound);
}

/** Normal of variance 2 / ((1 + a^2) fan). */
export function kaimingNormal_(p: Parameter, options: KaimingOptions = {}): Parameter {
  return normal_(p, { std: kaimingStd(p, options) });
}

/** Uniform of variance 2 gain^2 / (fan in + fan out) (Glorot and Bengio 2010). */
export function xavierUniform_(p: Parameter, gain = 1): Parameter {
  const bound = xavierScale(p, gain, 6);
  return uniform_(p, -bound, bound);
}

function xavierScale(p: Parameter, gain: number, numerator: number): number {
  if (!(typeof gain === "number" && gain >= 0)) wrong("xavier", "gain", "a number of at least 0", kindOf(gain));
  const { fanIn, fanOut } = fans(p);
  return gain * Math.sqrt(numerator / (fanIn + fanOut));
}

/** Normal of variance 2 gain^2 / (fan in + fan out). */
export function xavierNormal_(p: Parameter, gain = 1): Parameter {
  return normal_(p, { std: xavierScale(p, gain, 2) });
}

/** PyTorch's default for linear and convolutional layers: weight and bias uniform in +-1 / sqrt(fan in). */
export function defaultInit_(weight: Parameter, bias: Parameter | null): void {
  const bound = 1 / Math.sqrt(fans(weight).fanIn);
  uniform_(weight, -bound, bound);
  if (bias) uniform_(bias, -bound, bound);
}
