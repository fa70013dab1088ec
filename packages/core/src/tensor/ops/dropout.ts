/** Dropout. Its mask is never stored: backward draws the same numbers again. */
import { checkOptions, kindOf } from "../../runtime/check.ts";
import type { Reservation } from "../../runtime/random.ts";
import { wrong } from "../shape.ts";
import { apply, type OpDefinition } from "../tape.ts";
import { empty, type Tensor } from "../tensor.ts";
import { dense, expectFloat, run } from "./common.ts";
import { drawTiles, reserveDraws } from "./random.ts";

const dropping: OpDefinition<{ p: number; draws: Reservation }> = {
  name: "dropout",
  forward(_ctx, inputs, settings) {
    return masked(dense("dropout", inputs[0] as Tensor), settings);
  },
  backward(_ctx, grads, settings) {
    return [masked(grads[0] as Tensor, settings)];
  },
};

function masked(x: Tensor, { p, draws }: { p: number; draws: Reservation }): Tensor {
  const y = empty(x.shape);
  run("dropout", { x: x.storage, y: y.storage, n: x.size, ...draws, p }, drawTiles(x.size));
  return y;
}

/** Settings of `dropout`. */
export interface DropoutOptions {
  /** Out of training x is returned as it is. */
  training: boolean;
  /** The random stream that draws; default `dropout`. */
  stream?: string | undefined;
}

/**
 * Set each element to zero with probability p and divide the others by 1 - p.
 *
 * @param x f32 or spikes, any shape
 * @param p in [0, 1]
 * @returns f32 of x's shape; x itself when nothing is dropped
 */
export function dropout(x: Tensor, p: number, options: DropoutOptions): Tensor {
  expectFloat("dropout", "x", x);
  checkOptions("dropout", options, ["training", "stream"]);
  const { training, stream = "dropout" } = options;
  if (!(p >= 0 && p <= 1)) wrong("dropout", "p", "in [0, 1]", kindOf(p));
  if (!training || p === 0) return x;
  return apply(dropping, [x], { p, draws: reserveDraws(stream, x.size) });
}
