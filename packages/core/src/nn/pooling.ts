/** Pooling layers over images [..., H, W, C]. */
import {
  type AvgPool2dOptions,
  adaptiveAvgPool2d,
  avgPool2d,
  checkAvgPool,
  checkMaxPool,
  type MaxPool2dOptions,
  maxPool2d,
} from "../tensor/ops/pool.ts";
import { type Pair, pair } from "../tensor/ops/window.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

/** Maximum of each window; binary spikes stay spikes. */
export class MaxPool2d extends Module {
  readonly kernelSize: Pair;
  readonly options: MaxPool2dOptions;

  constructor(kernelSize: Pair, options: MaxPool2dOptions = {}) {
    super();
    pair("MaxPool2d", "kernelSize", kernelSize, 1);
    checkMaxPool("MaxPool2d", options);
    this.kernelSize = kernelSize;
    this.options = options;
  }

  forward(x: Tensor): Tensor {
    return maxPool2d(x, this.kernelSize, this.options);
  }
}

/** Average of each window. */
export class AvgPool2d extends Module {
  readonly kernelSize: Pair;
  readonly options: AvgPool2dOptions;

  constructor(kernelSize: Pair, options: AvgPool2dOptions = {}) {
    super();
    pair("AvgPool2d", "kernelSize", kernelSize, 1);
    checkAvgPool("AvgPool2d", options);
    this.kernelSize = kernelSize;
    this.options = options;
  }

  forward(x: Tensor): Tensor {
    return avgPool2d(x, this.kernelSize, this.options);
  }
}

/** Average over `outputSize` windows that cover the image. */
export class AdaptiveAvgPool2d extends Module {
  readonly outputSize: Pair;

  constructor(outputSize: Pair) {
    super();
    pair("AdaptiveAvgPool2d", "outputSize", outputSize, 1);
    this.outputSize = outputSize;
  }

  forward(x: Tensor): Tensor {
    return adaptiveAvgPool2d(x, this.outputSize);
  }
}
