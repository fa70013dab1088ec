/**
 * Batch, group, layer and RMS normalisation over channels-last tensors. Batch norm computes statistics and per-channel coefficients, but not
 * its product: the output is a lazy `x * scale + shift` (see Affine), which a neuron that follows reads on the fly.
 */

import { checkOptions } from "../../runtime/check.ts";
import type { Storage, TypedArray } from "../../runtime/device.ts";
import { device } from "../../runtime/engine.ts";
import { isRecomputing } from "../checkpoint.ts";
import { Affine } from "../lazy.ts";
import { keep } from "../scope.ts";
import { expectFinite, expectList, expectShape, type Shape, sameShape, show, sizeOf, wrong } from "../shape.ts";
import { apply, type OpDefinition } from "../tape.ts";
import { empty, Tensor } from "../tensor.ts";
import { dense, expectDType, expectFloat, run, sumRows, tilesFor } from "./common.ts";
import { once } from "./layout.ts";
import { at, copyStrided } from "./strided.ts";

/** Settings of `batchNorm`. */
export interface BatchNormCall {
  /** Normalise with the statistics of this batch (and update the running ones), or with the running ones. */
  training: boolean;
  /** Weight of the new value in the running statistics. Default 0.1. */
  momentum?: number | undefined;
  /** Added to the variance. Default 1e-5. */
  eps?: number | undefined;
}

interface BatchNormSettings {
  training: boolean;
  momentum: number;
  eps: number;
  rows: number;
  /** How often the rows count: as many steps show them. */
  copies: number;
  c: number;
  runningMean: Tensor | null;
  runningVar: Tensor | null;
}

interface Coefficients {
  mean: Storage;
  rstd: Storage;
  scale: Storage;
  shift: Storage;
}

/**
 * What a norm's coefficients out of training follow from. Evaluation asks for the same ones again and again: they are remembered beside the
 * running variance's memory, outside the device's, for as long as none of this has changed.
 */
class Evaluated {
  private static readonly known = new WeakMap<Storage, { of: Evaluated; values: readonly TypedArray[] }>();
  private readonly on = device();
  private readonly from: readonly (Storage | null)[];
  private readonly versions: readonly number[];
  private readonly variance: Storage;
  private readonly eps: number;

  constructor(gamma: Storage | null, beta: Storage | null, mean: Tensor, variance: Tensor, eps: number) {
    this.variance = variance.storage;
    this.from = [gamma, beta, mean.storage, this.variance];
    this.versions = this.from.map((s) => s?.version ?? 0);
    this.eps = eps;
  }

  private equals({ on, from, versions, eps }: Evaluated): boolean {
    return on === this.on && eps === this.eps && this.from.every((s, i) => s === from[i] && this.versions[i] === versions[i]);
  }

  /** Writes what is remembered; false where that is nothing, or stale. */
  recall({ mean, rstd, scale, shift }: Coefficients): boolean {
    const found = Evaluated.known.get(this.variance);
    if (!found || !this.equals(found.of)) return false;
    [mean, rstd, scale, shift].forEach((s, i) => {
      this.on.view(s).set(found.values[i] as TypedArray);
    });
    return true;
  }

  remember({ mean, rstd, scale, shift }: Coefficients): void {
    const values = [mean, rstd, scale, shift].map((s) => this.on.view(s).slice());
    Evaluated.known.set(this.variance, { of: this, values });
  }
}

const batchNormalisation: OpDefinition<BatchNormSettings> = {
  name: "batchNorm",

  forward(ctx, inputs, { training, momentum, eps, rows, copies, c, runningMean, runningVar }) {
    const [input, gamma, beta] = inputs as [Tensor, Tensor?, Tensor?];
    const x = dense("batchNorm", input);
    const [mean, rstd, scale, shift] = [empty([c]), empty([c]), empty([c]), empty([c])];
    const results = { mean: mean.storage, rstd: rstd.storage, scale: scale.storage, shift: shift.storage };
    const weights = { gamma: gamma?.storage ?? null, beta: beta?.storage ?? null };
    const evaluated = training ? null : new Evaluated(weights.gamma, weights.beta, runningMean as Tensor, runningVar as Tensor, eps);
    if (training) {
      const chunks = tilesFor(rows, c);
      const partial = empty([chunks, 2, c]);
      run("channel_stats", { x: x.storage, partial: partial.storage, rows, c, chunks }, chunks);
      const update = runningMean && runningVar && !isRecomputing() ? { runningMean, runningVar } : null;
      const running = { runningMean: update?.runningMean.storage ?? null, runningVar: update?.runningVar.storage ?? null };
      run("bn_coefficients", { partial: partial.storage, chunks, c, rows, copies, ...weights, eps, momentum, ...running, ...results }, 1);
      if (update) {
        update.runningMean.version++;
        update.runningVar.version++;
      }
    } else if (!evaluated?.recall(results)) {
      // The running statistics read as those of a batch of one row: its mean, and its sum of squared deviations.
      const partial = empty([2, c]);
      copyStrided("batchNorm", [c], at(runningMean as Tensor, [1]), at(partial, [1]));
      copyStrided("batchNorm", [c], at(runningVar as Tensor, [1]), at(partial, [1], c));
      const none = { momentum: 0, runningMean: null, runningVar: null };
      run("bn_coefficients", { partial: partial.storage, chunks: 1, c, rows: 1, copies: 1, ...weights, eps, ...none, ...results }, 1);
      evaluated?.remember(results);
    }
    ctx.save(input, mean, rstd, ...(gamma ? [gamma] : []));
    const parts = { x: x.product ? x.handle() : x.alias(), scale, shift, mean, rstd };
    for (const part of Object.values(parts)) keep(part);
    return new Tensor(input.shape, "f32", null, null, new Affine(input.shape, { ...parts, plus: null }));
  },

  backward(ctx, grads, { training, rows, c }) {
    const gy = grads[0] as Tensor;
    const [input, mean, rstd, gamma] = ctx.saved as [Tensor, Tensor, Tensor, Tensor?];
    const statistics = { mean: mean.storage, rstd: rstd.storage };
    const values = dense("batchNorm", input);
    const x = values.storage;
    let sums = gy.normSums;
    if (!sums) {
      const chunks = tilesFor(rows, c);
      sums = { partial: empty([chunks, 2, c]), chunks };
      run("bn_grad_sums", { x, gy: gy.storage, ...statistics, partial: sums.partial.storage, rows, c, chunks }, chunks);
    }
    const [a, b, d, ggamma, gbeta] = [empty([c]), empty([c]), empty([c]), empty([c]), empty([c])];
    const coefficients = { a: a.storage, b: b.storage, d: d.storage, ggamma: ggamma.storage, gbeta: gbeta.storage };
    const source = { partial: sums.partial.storage, chunks: sums.chunks, c, rows, gamma: gamma?.storage ?? null };
    run("bn_grad_coefficients", { ...source, ...statistics, training: training ? 1 : 0, ...coefficients }, 1);
    let gx: Tensor | null = null;
    if (ctx.needs[0]) {
      gx = ctx.over(input.shape, gy, values);
      run("affine2", { u: gy.storage, x, a: a.storage, b: b.storage, d: d.storage, y: gx.storage, rows, c }, tilesFor(rows, c));
    }
    return gamma ? [gx, ctx.needs[1] ? ggamma : null, ctx.needs[2] ? gbeta : null] : [gx];
  },
};

/**
 * Batch normalisation over the last axis (Ioffe and Szegedy 2015): y = (x - mean) / sqrt(var + eps) * gamma + beta, each channel's
 * mean and biased variance taken over all leading axes. In training the running statistics move by `momentum` (the variance
 * unbiased), except while a checkpoint runs again.
 *
 * @param x f32 or spikes [..., C]
 * @param gamma f32 [C], or null together with beta for 1 and 0
 * @param runningMean f32 [C], changed in place in training; null with runningVar: none are kept
 * @returns f32 [..., C], made on first use
 * @throws SpikeloomError for shapes that do not fit, one value a channel in training, or no running statistics out of training
 */
export function batchNorm(
  x: Tensor,
  gamma: Tensor | null,
  beta: Tensor | null,
  runningMean: Tensor | null,
  runningVar: Tensor | null,
  options: BatchNormCall,
): Tensor {
  const op = "batchNorm";
  checkOptions(op, options, ["training", "momentum", "eps"]);
  const { training, momentum = 0.1, eps = 1e-5 } = options;
  expectFinite(op, { momentum, eps });
  expectFloat(op, "x", x);
  if (x.rank < 1) wrong(op, "x", "of shape [..., C]", show(x.shape));
  const c = x.shape[x.rank - 1] as number;
  const rows = sizeOf(x.shape.slice(0, -1));
  for (const [name, t] of Object.entries({ gamma, beta, runningMean, runningVar })) {
    if (!t) continue;
    expectDType(op, name, t, "f32");
    expectShape(op, name, t.shape, [c]);
  }
  if (!gamma !== !beta) wrong(op, "gamma and beta", "given both or neither", gamma ? "gamma alone" : "beta alone");
  if (!runningMean !== !runningVar)
    wrong(op, "runningMean and runningVar", "given both or neither", runningMean ? "the mean alone" : "the variance alone");
  if (!training && !runningMean) wrong(op, "runningMean", "given when not training", "null");
  if (training && rows < 2) wrong(op, "x", "of more than one value a channel in training (a larger batch, or eval())", show(x.shape));
  const normalise = (input: Tensor, copies: number) => {
    const settings = { training, momentum, eps, rows: rows / copies, copies, c, runningMean, runningVar };
    return apply(batchNormalisation, gamma && beta ? [input, gamma, beta] : [input], settings);
  };
  // Steps that are all the same have the statistics of one, but that they are more (which the unbiased variance counts).
  const steps = x.repeated?.steps ?? 1;
  return (rows > steps && once(x, 1, (input) => normalise(input, steps))) || normalise(x, 1);
}

interface LayerNormSettings {
  rows: number;
  c: number;
  eps: number;
  normalized: Shape;
  centre: 0 | 1;
}

function rowNormalisation(name: string): OpDefinition<LayerNormSettings> {
  return {
    name,

    forward(ctx, inputs, { rows, c, eps, centre }) {
      const [input, gamma, beta] = inputs as [Tensor, Tensor?, Tensor?];
      const [y, mean, rstd] = [empty(input.shape), empty([rows]), empty([rows])];
      const weights = { gamma: gamma?.storage ?? null, beta: beta?.storage ?? null };
      const x = dense(name, input).storage;
      const results = { y: y.storage, mean: mean.storage, rstd: rstd.storage };
      run("layernorm", { x, ...weights, ...results, rows, c, eps, centre }, tilesFor(rows, 2 * c));
      ctx.save(input, mean, rstd, ...(gamma ? [gamma] : []));
      return y;
    },

    backward(ctx, grads, { rows, c, normalized, centre }) {
      const [input, mean, rstd, gamma] = ctx.saved as [Tensor, Tensor, Tensor, Tensor?];
      const gx = empty(input.shape);
      const chunks = tilesFor(rows, 2 * c);
      const partial = gamma ? empty([chunks, 2, c]) : null;
      const inputs = { x: dense(name, input).storage, gamma: gamma?.storage ?? null, gy: (grads[0] as Tensor).storage };
      const statistics = { mean: mean.storage, rstd: rstd.storage };
      run(
        "layernorm_grad",
        { ...inputs, ...statistics, gx: gx.storage, partial: partial?.storage ?? null, rows, c, chunks, centre },
        chunks,
      );
      return [gx, ...(partial ? weightGradients(name, partial, chunks, normalized).slice(0, ctx.needs.length - 1) : [])];
    },
  };
}

/** Gradients of gamma and beta, of shape `to`, from partial sums [chunks][2][c]. */
function weightGradients(op: string, partial: Tensor, chunks: number, to: Shape): [Tensor, Tensor] {
  const c = sizeOf(to);
  const sums = sumRows(partial, chunks, 2 * c);
  const [ggamma, gbeta] = [empty(to), empty(to)];
  copyStrided(op, [c], at(sums, [1]), at(ggamma, [1]));
  copyStrided(op, [c], at(sums, [1], c), at(gbeta, [1]));
  return [ggamma, gbeta];
}

const layerNormalisation = rowNormalisation("layerNorm");
const rmsNormalisation = rowNormalisation("rmsNorm");

/** Checks what layer and RMS norm are given; the settings of their op. */
function rowSettings(op: string, x: Tensor, normalized: Shape, weights: Record<string, Tensor | null>, eps: number): LayerNormSettings {
  expectFloat(op, "x", x);
  expectList(op, "normalizedShape", normalized);
  expectFinite(op, { eps });
  const k = normalized.length;
  if (k < 1 || sizeOf(normalized) < 1) wrong(op, "normalizedShape", "one or more sizes of at least 1", show(normalized));
  if (k > x.rank || !sameShape(x.shape.slice(x.rank - k), normalized))
    wrong(op, "x", `of shape [..., ${normalized.join(", ")}]`, show(x.shape));
  expectWeights(op, weights, normalized);
  const c = sizeOf(normalized);
  return { rows: x.size / c, c, eps, normalized, centre: 1 };
}

function expectWeights(op: string, weights: Record<string, Tensor | null>, shape: Shape): void {
  for (const [name, t] of Object.entries(weights)) {
    if (!t) continue;
    expectDType(op, name, t, "f32");
    expectShape(op, name, t.shape, shape);
  }
}

/**
 * Layer normalisation over the last axes (Ba et al. 2016).
 *
 * @param x f32 or spikes; its last axes are `normalizedShape`
 * @param gamma f32 of shape `normalizedShape`, or null together with beta for 1 and 0
 * @returns f32 of x's shape
 * @throws SpikeloomError for shapes that do not fit together, or nothing to normalise over
 */
export function layerNorm(x: Tensor, normalizedShape: Shape, gamma: Tensor | null = null, beta: Tensor | null = null, eps = 1e-5): Tensor {
  const settings = rowSettings("layerNorm", x, normalizedShape, { gamma, beta }, eps);
  if (!gamma !== !beta) wrong("layerNorm", "gamma and beta", "given both or neither", gamma ? "gamma alone" : "beta alone");
  return apply(layerNormalisation, gamma && beta ? [x, gamma, beta] : [x], settings);
}

/** What PyTorch adds to the mean square where no eps is given: the spacing of float32 numbers at 1. */
export const FLOAT_EPSILON = 2 ** -23;

/**
 * RMS normalisation over the last axes (Zhang and Sennrich 2019): y = x / sqrt(mean(x^2) + eps) * gamma.
 *
 * @param x f32 or spikes; its last axes are `normalizedShape`
 * @param gamma f32 of shape `normalizedShape`, or null for 1
 * @param eps default 2^-23, as PyTorch's for float32
 * @returns f32 of x's shape
 * @throws SpikeloomError for shapes that do not fit together, or nothing to normalise over
 */
export function rmsNorm(x: Tensor, normalizedShape: Shape, gamma: Tensor | null = null, eps = FLOAT_EPSILON): Tensor {
  const settings = rowSettings("rmsNorm", x, normalizedShape, { gamma }, eps);
  return apply(rmsNormalisation, gamma ? [x, gamma] : [x], { ...settings, centre: 0 });
}

/** Settings of `groupNorm`. */
export interface GroupNormOptions {
  /** Added to the variance. Default 1e-5. */
  eps?: number | undefined;
  /** How many axes before the channels belong to one sample: 2 for images [..., H, W, C] (default), 1 for tokens, 0 for none. */
  spatial?: number | undefined;
}

interface GroupNormSettings {
  outer: number;
  n: number;
  c: number;
  groups: number;
  eps: number;
}

const groupNormalisation: OpDefinition<GroupNormSettings> = {
  name: "groupNorm",

  forward(ctx, inputs, { eps, ...sizes }) {
    const [input, gamma, beta] = inputs as [Tensor, Tensor?, Tensor?];
    const { outer, n, c, groups } = sizes;
    const [y, mean, rstd, coefficients] = [empty(input.shape), empty([outer, groups]), empty([outer, groups]), empty([outer, 2, c])];
    const weights = { gamma: gamma?.storage ?? null, beta: beta?.storage ?? null };
    const results = { y: y.storage, mean: mean.storage, rstd: rstd.storage, coefficients: coefficients.storage };
    run("groupnorm", { x: dense("groupNorm", input).storage, ...weights, ...results, ...sizes, eps }, tilesFor(outer, 2 * n * c));
    ctx.save(input, mean, rstd, ...(gamma ? [gamma] : []));
    return y;
  },

  backward(ctx, grads, { outer, n, c, groups }) {
    const [input, mean, rstd, gamma] = ctx.saved as [Tensor, Tensor, Tensor, Tensor?];
    const [gx, partial] = [empty(input.shape), empty([outer, 2, c])];
    const inputs = { x: dense("groupNorm", input).storage, gamma: gamma?.storage ?? null, gy: (grads[0] as Tensor).storage };
    const results = { mean: mean.storage, rstd: rstd.storage, gx: gx.storage, partial: partial.storage };
    run("groupnorm_grad", { ...inputs, ...results, outer, n, c, groups }, tilesFor(outer, 2 * n * c));
    return [gx, ...(gamma ? weightGradients("groupNorm", partial, outer, [c]) : [])];
  },
};

/**
 * Group normalisation (Wu and He 2018): the channels are cut into `groups` equal runs, each normalised by its mean and biased variance over
 * its channels and the positions of one sample.
 *
 * @param x f32 or spikes [..., C], of whose axes `spatial` before the channels are positions
 * @param gamma f32 [C], or null together with beta for 1 and 0
 * @returns f32 of x's shape
 * @throws SpikeloomError for shapes that do not fit, or channels that groups do not divide
 */
export function groupNorm(
  x: Tensor,
  groups: number,
  gamma: Tensor | null = null,
  beta: Tensor | null = null,
  options: GroupNormOptions = {},
): Tensor {
  const op = "groupNorm";
  checkOptions(op, options, ["eps", "spatial"]);
  const { eps = 1e-5, spatial = 2 } = options;
  expectFinite(op, { eps });
  expectFloat(op, "x", x);
  if (!Number.isInteger(spatial) || spatial < 0) wrong(op, "spatial", "an integer of at least 0", String(spatial));
  if (x.rank < spatial + 1)
    wrong(op, "x", `of rank ${spatial + 1} or more for ${spatial} spatial axes (see the option spatial)`, show(x.shape));
  const c = x.shape[x.rank - 1] as number;
  if (!Number.isInteger(groups) || groups < 1 || c < 1 || c % groups !== 0)
    wrong(op, "groups", `a whole number that divides the ${c} channels of x (1 or more)`, String(groups));
  expectWeights(op, { gamma, beta }, [c]);
  if (!gamma !== !beta) wrong(op, "gamma and beta", "given both or neither", gamma ? "gamma alone" : "beta alone");
  const n = sizeOf(x.shape.slice(x.rank - 1 - spatial, -1));
  const outer = sizeOf(x.shape.slice(0, x.rank - 1 - spatial));
  if (n < 1) wrong(op, "x", "of one position a sample or more", show(x.shape));
  return apply(groupNormalisation, gamma && beta ? [x, gamma, beta] : [x], { outer, n, c, groups, eps });
}
