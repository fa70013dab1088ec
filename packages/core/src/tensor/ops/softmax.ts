/** Softmax and its logarithm along an axis. */
import { axisOf, type Shape, sizeOf } from "../shape.ts";
import { apply, type OpDefinition } from "../tape.ts";
import { empty, type Tensor } from "../tensor.ts";
import { dense, expectFloat, run, tilesFor } from "./common.ts";
import { permute } from "./layout.ts";

const overLastAxis: OpDefinition<{ log: number }> = {
  name: "softmax",
  forward(ctx, inputs, { log }) {
    const x = inputs[0] as Tensor;
    const y = empty(x.shape);
    const { rows, c } = rowsOf(x.shape);
    run("softmax", { x: dense("softmax", x).storage, y: y.storage, rows, c, log }, tilesFor(rows, c * 8));
    ctx.save(y);
    return y;
  },
  backward(ctx, grads, { log }) {
    const y = ctx.saved[0] as Tensor;
    const gx = empty(y.shape);
    const { rows, c } = rowsOf(y.shape);
    run("softmax_grad", { y: y.storage, gy: (grads[0] as Tensor).storage, gx: gx.storage, rows, c, log }, tilesFor(rows, c * 4));
    return [gx];
  },
};

function rowsOf(shape: Shape): { rows: number; c: number } {
  return { rows: sizeOf(shape.slice(0, -1)), c: shape[shape.length - 1] as number };
}

function along(op: string, x: Tensor, axis: number, log: number): Tensor {
  expectFloat(op, "x", x);
  const a = axisOf(op, axis, x.rank);
  if (a === x.rank - 1) return apply(overLastAxis, [x], { log });
  // The axis changes places with the last one: a permutation that undoes itself.
  const order = x.shape.map((_, i) => (i === a ? x.rank - 1 : i === x.rank - 1 ? a : i));
  return permute(apply(overLastAxis, [permute(x, order)], { log }), order);
}

/**
 * exp(x) / sum(exp(x)) along `axis`.
 *
 * @param x f32 or spikes, of rank 1 or more
 * @returns f32 of x's shape
 */
export function softmax(x: Tensor, axis = -1): Tensor {
  return along("softmax", x, axis, 0);
}

/**
 * log(softmax(x)) along `axis`, computed without overflow.
 *
 * @param x f32 or spikes, of rank 1 or more
 * @returns f32 of x's shape
 */
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  return along("logSoftmax", x, axis, 1);
}
