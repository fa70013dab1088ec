/**
 * Integer spikes as binary virtual steps (spike firing approximation; Yao et al. 2025, arXiv 2411.16061): an integer n in 0..D is the D binary
 * spikes [n > 0], ..., [n > D - 1], whose sum it is. A product with weights is then a sum of weight rows over all steps, the scale
 * applied and the bias added once, after it; nothing is multiplied. Steps lie beside each other in a row, so that to the kernels
 * they are further channels, whose weights are those of the first step again.
 */

import { retain } from "../../runtime/engine.ts";
import { CONV_LIMITS, STEPS_LIMITS } from "../../runtime/kernel-table.ts";
import { scope } from "../scope.ts";
import { type Shape, sizeOf, wrong } from "../shape.ts";
import { apply, type OpDefinition } from "../tape.ts";
import { bySteps, empty, emptySpikes, planesOf, type SpikeFormat, Tensor, wordsOf, zeros } from "../tensor.ts";
import { dense, expectDType, run, tilesFor } from "./common.ts";
import { add } from "./elementwise.ts";
import { concat, expand, transpose, unsqueeze } from "./layout.ts";
import { spikeProduct } from "./spike-product.ts";
import { at, copyStrided } from "./strided.ts";
import type { Window } from "./window.ts";

const stepsOp: OpDefinition<number> = {
  name: "toSteps",
  forward: (_ctx, [x], levels) => bySteps(x as Tensor, true, levels),
  backward: (_ctx, [g]) => [g as Tensor],
};

/**
 * Integer spikes as `levels` binary virtual steps: the same values, which products add up step by step. Binary spikes are one step already.
 * @param x spikes of integers up to `levels`; what is above is cut off
 * @param levels D, at least 1, and at most the largest integer of x's bit planes
 */
export function toSteps(x: Tensor, levels: number): Tensor {
  expectDType("toSteps", "x", x, "spikes");
  const most = inSteps(x) ? 255 : 2 ** (x.spikes as SpikeFormat).planes - 1;
  if (!Number.isInteger(levels) || levels < 1 || levels > most) wrong("toSteps", "levels", `an integer from 1 to ${most}`, String(levels));
  return inSteps(x) || most === 1 ? x : apply(stepsOp, [x], levels);
}

/** The virtual steps as binary spikes [D, ...shape], each worth what it was; of other spikes one step. For a look at single steps. */
export function virtualSteps(x: Tensor): Tensor {
  expectDType("virtualSteps", "x", x, "spikes");
  if (!inSteps(x)) return unsqueeze(x, 0);
  return scope(() => concat(Array.from({ length: (x.spikes as SpikeFormat).planes }, (_, step) => unsqueeze(stepOf(x, step), 0))));
}

/** Are these spikes virtual steps of integers? */
export function inSteps(x: Tensor): boolean {
  return x.spikes?.steps === true;
}

/** Virtual steps as integers again, whatever else as it is. For ops that know no steps. */
export function withoutSteps(x: Tensor): Tensor {
  return inSteps(x) ? bySteps(x, false, planesOf((x.spikes as SpikeFormat).planes)) : x;
}

/** Steps as binary spikes of so many times the channels, in whole words; shares memory. */
export function stepsAsChannels(x: Tensor): Tensor {
  const { planes, scale } = x.spikes as SpikeFormat;
  const c = 32 * planes * wordsOf(x.shape.at(-1) as number);
  return new Tensor(x.shape.with(-1, c), "spikes", retain(x.storage), { planes: 1, scale });
}

/** Binary spikes of one step. */
function stepOf(x: Tensor, step: number): Tensor {
  const { planes, scale } = x.spikes as SpikeFormat;
  const y = emptySpikes(x.shape, { planes: 1, scale });
  const words = wordsOf(x.shape.at(-1) as number);
  const rows = y.storage.length / (words || 1);
  copyStrided("steps", [rows, words], at(x, [planes * words, 1], step * words), at(y, [words, 1]));
  return y;
}

/** weight [taps, ci, co] for steps as channels: each step's again, zeros where words have channels that are none. */
function weightOfSteps(weight: Tensor, taps: number, ci: number, co: number, steps: number): Tensor {
  const padded = 32 * wordsOf(ci);
  const y = padded === ci ? empty([taps, steps, ci, co]) : zeros([taps, steps, padded, co]);
  const walk = [taps, steps, ci * co];
  copyStrided("steps", walk, at(weight, [ci * co, 0, 1]), at(y, [steps * padded * co, padded * co, 1]));
  return y;
}

/**
 * y [n, oh, ow, co] = (scale x sum over steps of a product with weights) + bias, of spikes in steps. Never by multiplying.
 * @param product that of binary spikes, without a bias, into new memory; for what the event-driven kernels have no room for
 */
export function stepsProduct(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  y: Tensor,
  g: Window | null,
  product: (step: Tensor) => Tensor,
): Tensor {
  const { planes } = x.spikes as SpikeFormat;
  if (g && planes * wordsOf(g.ci) * Math.min(g.w, (g.kw - 1) * g.dw + 1) <= CONV_LIMITS.words) {
    const view = stepsAsChannels(x);
    const ci = view.shape.at(-1) as number;
    spikeProduct(view, weightOfSteps(weight, g.kh * g.kw, g.ci, g.co, planes), bias, y, { ...g, ci }, true);
    return y;
  }
  let sum = product(stepOf(x, 0));
  for (let step = 1; step < planes; step++) sum = add(sum, product(stepOf(x, step)));
  return bias ? add(sum, bias) : sum;
}

const floats = (x: Tensor, turned: boolean) => (turned ? transpose(dense("matmul", x)) : dense("matmul", x));
const spikes = (x: Tensor, turned: boolean) => (turned ? transpose(x) : x);

/**
 * A product of matrices [.., m, k] x [.., k, n] of which one or both are spikes in steps: for each spike a row of the other is added.
 * @returns null where neither is, or the kernel has no room
 */
export function stepsMatmul(
  a: Tensor,
  b: Tensor,
  { ta, tb, lead, m, n, k }: { ta: boolean; tb: boolean; lead: Shape; m: number; n: number; k: number },
): Tensor | null {
  const left = inSteps(a);
  if (!left && !inSteps(b)) return null;
  const [x, w, rows, columns] = left ? [spikes(a, ta), floats(b, tb), m, n] : [spikes(b, !tb), floats(a, !ta), n, m];
  const { planes, scale } = x.spikes as SpikeFormat;
  if (planes * wordsOf(k) > STEPS_LIMITS.words || k * columns > 2 ** 30) return null;
  const [bits, values] = [expand(x, [...lead, rows, k]), expand(w, [...lead, k, columns])];
  const y = empty([...lead, rows, columns]);
  const batch = sizeOf(lead);
  if (y.size)
    run(
      "spike_matmul",
      { x: bits.storage, w: values.storage, y: y.storage, batch, m: rows, k, n: columns, steps: planes, scale },
      tilesFor(batch * rows, (planes * k * columns) / 32),
    );
  return left ? y : transpose(y);
}
