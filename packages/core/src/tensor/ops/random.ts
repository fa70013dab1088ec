/**
 * Random tensors, drawn from the run's named streams (runtime/random.ts). Element i of a tensor depends on the stream's position and
 * on i alone, so that the same seed gives the same values on every device, to rounding.
 */
import { checkOptions, kindOf } from "../../runtime/check.ts";
import { randomness } from "../../runtime/engine.ts";
import { erf } from "../../runtime/math.ts";
import type { Reservation } from "../../runtime/random.ts";
import { type Shape, wrong } from "../shape.ts";
import { empty, type Tensor } from "../tensor.ts";
import { run, tilesFor } from "./common.ts";

/** Steps of a block of four draws. */
const BLOCK_COST = 16;

/** Set the draws of `n` elements aside in a stream. */
export function reserveDraws(stream: string, n: number): Reservation {
  if (typeof stream !== "string") wrong("a random op", "stream", "a name", kindOf(stream));
  return randomness()
    .stream(stream)
    .reserve(Math.ceil(n / 4));
}

/** Tiles of a kernel that draws `n` values. */
export function drawTiles(n: number): number {
  return tilesFor(Math.ceil(n / 4), BLOCK_COST);
}

/** Which stream of the run's seed is drawn from; default `random`. */
export interface RandomOptions {
  stream?: string | undefined;
}

/** Uniform in [low, high), f32. Default [0, 1). */
export function uniform(shape: Shape, options: RandomOptions & { low?: number | undefined; high?: number | undefined } = {}): Tensor {
  checkOptions("uniform", options, ["low", "high", "stream"]);
  const { low = 0, high = 1, stream = "random" } = options;
  if (!(low <= high)) wrong("uniform", "high", `at least low (${low})`, kindOf(high));
  const y = empty(shape);
  run("random_uniform", { y: y.storage, n: y.size, ...reserveDraws(stream, y.size), lo: low, hi: high }, drawTiles(y.size));
  return y;
}

/** Uniform in [0, 1), f32. */
export function rand(shape: Shape, options: RandomOptions = {}): Tensor {
  checkOptions("rand", options, ["stream"]);
  return uniform(shape, options);
}

/** Normal, f32. Default mean 0, std 1. */
export function randn(shape: Shape, options: RandomOptions & { mean?: number | undefined; std?: number | undefined } = {}): Tensor {
  checkOptions("randn", options, ["mean", "std", "stream"]);
  return normal(shape, { ...options, a: Number.NEGATIVE_INFINITY, b: Number.POSITIVE_INFINITY });
}

/**
 * Normal, drawn again until it lies in [a, b] (absolute bounds, as timm's and PyTorch's `trunc_normal_`). Default mean 0, std 1, [-2, 2].
 * @throws SpikeloomError when less than one draw in a hundred would lie inside
 */
export function truncNormal(
  shape: Shape,
  options: RandomOptions & { mean?: number | undefined; std?: number | undefined; a?: number | undefined; b?: number | undefined } = {},
): Tensor {
  checkOptions("truncNormal", options, ["mean", "std", "a", "b", "stream"]);
  const { mean = 0, std = 1, a = -2, b = 2 } = options;
  const below = (x: number): number => erf((x - mean) / (std * Math.SQRT2)) / 2;
  if (!(std > 0) || !(below(b) - below(a) >= 0.01))
    wrong("truncNormal", "[a, b]", "bounds that a normal draw often meets", `[${a}, ${b}] with mean ${mean}, std ${std}`);
  return normal(shape, { ...options, a, b });
}

function normal(
  shape: Shape,
  options: RandomOptions & { mean?: number | undefined; std?: number | undefined; a: number; b: number },
): Tensor {
  const { mean = 0, std = 1, a, b, stream = "random" } = options;
  if (!(std >= 0)) wrong("randn", "std", "at least 0", kindOf(std));
  if (typeof mean !== "number" || Number.isNaN(mean)) wrong("randn", "mean", "a number", kindOf(mean));
  const y = empty(shape);
  run("random_normal", { y: y.storage, n: y.size, ...reserveDraws(stream, y.size), mean, std, lo: a, hi: b }, drawTiles(y.size));
  return y;
}
