/** Normalisation layers. State-dict keys are PyTorch's. */
import { checkOptions, kindOf } from "../runtime/check.ts";
import { isRecomputing } from "../tensor/checkpoint.ts";
import { mul } from "../tensor/ops/elementwise.ts";
import { batchNorm, FLOAT_EPSILON, groupNorm, layerNorm, rmsNorm } from "../tensor/ops/norm.ts";
import { expectFinite, expectList, type Shape, show, wrong } from "../tensor/shape.ts";
import { expectTensor, ones, type Tensor, tensor, zeros } from "../tensor/tensor.ts";
import { Module, Parameter, StateBuffer } from "./module.ts";

/** Settings of a batch norm. */
export interface BatchNormOptions {
  /** Default 1e-5. */
  eps?: number | undefined;
  /** Weight of the new value in the running statistics; null for a plain average over all batches. Default 0.1. */
  momentum?: number | null | undefined;
  /** Trainable weight and bias. Default true. */
  affine?: boolean | undefined;
  /** Keep running statistics; without them every batch is normalised by its own. Default true. */
  trackRunningStats?: boolean | undefined;
}

/**
 * Batch norm over the last axis of [..., C]; the output is computed by whatever reads it first, a neuron on the fly. In training by the
 * statistics of the batch (all leading axes), else by the running ones.
 */
abstract class BatchNorm extends Module {
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;
  readonly running_mean: StateBuffer | null;
  readonly running_var: StateBuffer | null;
  readonly num_batches_tracked: StateBuffer | null;
  readonly numFeatures: number;
  readonly eps: number;
  readonly momentum: number | null;
  /** Least rank of the input, and its shape in words. */
  protected abstract readonly input: { rank: number; shape: string };

  constructor(numFeatures: number, options: BatchNormOptions = {}) {
    super();
    checkOptions("BatchNorm", options, ["eps", "momentum", "affine", "trackRunningStats"]);
    const { eps = 1e-5, momentum = 0.1, affine = true, trackRunningStats = true } = options;
    expectFinite("BatchNorm", { eps, momentum: momentum ?? 0 });
    if (!Number.isInteger(numFeatures) || numFeatures < 1) wrong("BatchNorm", "numFeatures", "an integer >= 1", kindOf(numFeatures));
    this.numFeatures = numFeatures;
    this.eps = eps;
    this.momentum = momentum;
    this.weight = affine ? new Parameter(ones([numFeatures])) : null;
    this.bias = affine ? new Parameter(zeros([numFeatures])) : null;
    this.running_mean = trackRunningStats ? new StateBuffer(zeros([numFeatures])) : null;
    this.running_var = trackRunningStats ? new StateBuffer(ones([numFeatures])) : null;
    this.num_batches_tracked = trackRunningStats ? new StateBuffer(tensor(new Int32Array(1), [])) : null;
  }

  forward(x: Tensor): Tensor {
    const { weight, bias, running_mean, running_var, num_batches_tracked, eps } = this;
    expectTensor(this.constructor.name, "x", x);
    if (x.rank < this.input.rank || x.shape[x.rank - 1] !== this.numFeatures)
      wrong(this.constructor.name, "x", `of shape ${this.input.shape} with C = ${this.numFeatures}`, show(x.shape));
    const training = this.training || !running_mean;
    let momentum = this.momentum ?? 0;
    if (training && num_batches_tracked && !isRecomputing()) {
      const seen = num_batches_tracked.itemSync() + 1;
      num_batches_tracked.set([seen]);
      momentum = this.momentum ?? 1 / seen;
    }
    return batchNorm(x, weight, bias, running_mean, running_var, { training, momentum, eps });
  }
}

/** Batch norm of [B, C] or [..., L, C]. */
export class BatchNorm1d extends BatchNorm {
  protected readonly input = { rank: 2, shape: "[..., C]" };
}

/** Batch norm of images [..., H, W, C]. */
export class BatchNorm2d extends BatchNorm {
  protected readonly input = { rank: 4, shape: "[B, H, W, C] or [..., B, H, W, C]" };
}

function normalizedShapeOf(layer: string, shape: number | Shape): Shape {
  const sizes = typeof shape === "number" ? [shape] : shape;
  expectList(layer, "normalizedShape", sizes);
  if (sizes.length < 1 || sizes.some((d) => !Number.isInteger(d) || d < 1))
    wrong(layer, "normalizedShape", "one or more integers of at least 1", show(sizes));
  return sizes;
}

/** Layer norm over the last axes. */
export class LayerNorm extends Module {
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;
  readonly normalizedShape: Shape;
  readonly eps: number;

  /** affine: a trainable weight and, unless `bias` is false, a trainable bias (default true). */
  constructor(
    normalizedShape: number | Shape,
    options: { eps?: number | undefined; affine?: boolean | undefined; bias?: boolean | undefined } = {},
  ) {
    super();
    checkOptions("LayerNorm", options, ["eps", "affine", "bias"]);
    const { eps = 1e-5, affine = true, bias = true } = options;
    expectFinite("LayerNorm", { eps });
    this.normalizedShape = normalizedShapeOf("LayerNorm", normalizedShape);
    this.eps = eps;
    this.weight = affine ? new Parameter(ones(this.normalizedShape)) : null;
    this.bias = affine && bias ? new Parameter(zeros(this.normalizedShape)) : null;
  }

  forward(x: Tensor): Tensor {
    const { normalizedShape, weight, bias, eps } = this;
    if (weight && !bias) return mul(layerNorm(x, normalizedShape, null, null, eps), weight);
    return layerNorm(x, normalizedShape, weight, bias, eps);
  }
}

/** RMS norm over the last axes: x / sqrt(mean(x^2) + eps) * weight. */
export class RMSNorm extends Module {
  readonly weight: Parameter | null;
  readonly normalizedShape: Shape;
  readonly eps: number;

  /** eps: default 2^-23, PyTorch's for float32; affine: a trainable weight (default true). */
  constructor(normalizedShape: number | Shape, options: { eps?: number | undefined; affine?: boolean | undefined } = {}) {
    super();
    checkOptions("RMSNorm", options, ["eps", "affine"]);
    const { eps = FLOAT_EPSILON, affine = true } = options;
    expectFinite("RMSNorm", { eps });
    this.normalizedShape = normalizedShapeOf("RMSNorm", normalizedShape);
    this.eps = eps;
    this.weight = affine ? new Parameter(ones(this.normalizedShape)) : null;
  }

  forward(x: Tensor): Tensor {
    return rmsNorm(x, this.normalizedShape, this.weight, this.eps);
  }
}

/**
 * Group norm of [..., C]: each of `numGroups` runs of channels by the statistics of one sample, whose positions are the `spatial` axes
 * before the channels: 2 for images [..., H, W, C] (default), 1 for tokens [..., N, C], 0 for [..., C]. All axes before those are batch.
 */
export class GroupNorm extends Module {
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;
  readonly numGroups: number;
  readonly numChannels: number;
  readonly eps: number;
  readonly spatial: number;

  constructor(
    numGroups: number,
    numChannels: number,
    options: { eps?: number | undefined; affine?: boolean | undefined; spatial?: number | undefined } = {},
  ) {
    super();
    checkOptions("GroupNorm", options, ["eps", "affine", "spatial"]);
    const { eps = 1e-5, affine = true, spatial = 2 } = options;
    expectFinite("GroupNorm", { eps });
    for (const [name, value] of Object.entries({ numGroups, numChannels }))
      if (!Number.isInteger(value) || value < 1) wrong("GroupNorm", name, "an integer >= 1", kindOf(value));
    if (numChannels % numGroups !== 0) wrong("GroupNorm", "numChannels", `divisible by numGroups (${numGroups})`, String(numChannels));
    this.numGroups = numGroups;
    this.numChannels = numChannels;
    this.eps = eps;
    this.spatial = spatial;
    this.weight = affine ? new Parameter(ones([numChannels])) : null;
    this.bias = affine ? new Parameter(zeros([numChannels])) : null;
  }

  forward(x: Tensor): Tensor {
    if (x.shape[x.rank - 1] !== this.numChannels) wrong("GroupNorm", "x", `of shape [..., ${this.numChannels}]`, show(x.shape));
    return groupNorm(x, this.numGroups, this.weight, this.bias, { eps: this.eps, spatial: this.spatial });
  }
}
