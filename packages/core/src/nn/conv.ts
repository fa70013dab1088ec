/** Convolutional layers. Weights lie [kh, kw, Cin / groups, Cout]; state dicts hold PyTorch's [Cout, Cin / groups, kh, kw]. */
import { checkOptions, kindOf } from "../runtime/check.ts";
import { conv1d, conv2d } from "../tensor/ops/conv.ts";
import { type Pair, pair } from "../tensor/ops/window.ts";
import { wrong } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { defaultInit_, uninitialised } from "./init.ts";
import { Module, type Parameter } from "./module.ts";

/** Settings of a convolution over an axis (`P` = number) or two (`P` = Pair). */
export interface ConvOptions<P = Pair> {
  /** Default 1. */
  stride?: P | undefined;
  /** Zeros at each side, or "same" (stride 1 only). Default 0. */
  padding?: P | "same" | undefined;
  /** Default 1. */
  dilation?: P | undefined;
  /** Default 1. */
  groups?: number | undefined;
  /** Default true. */
  bias?: boolean | undefined;
  /** Keep the output for backward (default true), or make that of spikes again there (see `Conv2dOptions`). */
  keepOutput?: boolean | undefined;
}

function checked<P>(layer: string, options: ConvOptions<P>): ConvOptions<P> {
  checkOptions(layer, options, ["stride", "padding", "dilation", "groups", "bias", "keepOutput"]);
  return options;
}

function expectChannels(layer: string, inChannels: number, outChannels: number, groups: number): void {
  for (const [name, value] of Object.entries({ inChannels, outChannels, groups }))
    if (!Number.isInteger(value) || value < 1) wrong(layer, name, "an integer >= 1", kindOf(value));
  if (inChannels % groups || outChannels % groups)
    wrong(layer, "groups", `a divisor of inChannels (${inChannels}) and outChannels (${outChannels})`, String(groups));
}

/** 2-d convolution: [..., H, W, Cin] (f32 or spikes) to f32 [..., OH, OW, Cout]. */
export class Conv2d extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly kernelSize: readonly [number, number];
  readonly stride: readonly [number, number];
  readonly padding: readonly [number, number] | "same";
  readonly dilation: readonly [number, number];
  readonly groups: number;
  keepOutput: boolean;

  constructor(inChannels: number, outChannels: number, kernelSize: Pair, options: ConvOptions = {}) {
    super();
    const { stride = 1, padding = 0, dilation = 1, groups = 1, bias = true, keepOutput = true } = checked("Conv2d", options);
    expectChannels("Conv2d", inChannels, outChannels, groups);
    this.inChannels = inChannels;
    this.outChannels = outChannels;
    this.kernelSize = pair("Conv2d", "kernelSize", kernelSize, 1);
    this.stride = pair("Conv2d", "stride", stride, 1);
    this.padding = padding === "same" ? padding : pair("Conv2d", "padding", padding, 0);
    this.dilation = pair("Conv2d", "dilation", dilation, 1);
    this.groups = groups;
    this.keepOutput = keepOutput;
    const [kh, kw] = this.kernelSize;
    const perGroup = inChannels / groups;
    this.weight = uninitialised([kh, kw, perGroup, outChannels], { shape: [outChannels, perGroup, kh, kw], axes: [2, 3, 1, 0] });
    this.bias = bias ? uninitialised([outChannels]) : null;
    defaultInit_(this.weight, this.bias);
  }

  forward(x: Tensor): Tensor {
    const { stride, padding, dilation, groups, keepOutput } = this;
    return conv2d(x, this.weight, this.bias, { stride, padding, dilation, groups, keepOutput });
  }
}

/** 1-d convolution: [..., L, Cin] (f32 or spikes) to f32 [..., OL, Cout]. */
export class Conv1d extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly kernelSize: number;
  readonly stride: number;
  readonly padding: number | "same";
  readonly dilation: number;
  readonly groups: number;
  keepOutput: boolean;

  constructor(inChannels: number, outChannels: number, kernelSize: number, options: ConvOptions<number> = {}) {
    super();
    const { stride = 1, padding = 0, dilation = 1, groups = 1, bias = true, keepOutput = true } = checked("Conv1d", options);
    expectChannels("Conv1d", inChannels, outChannels, groups);
    this.inChannels = inChannels;
    this.outChannels = outChannels;
    this.kernelSize = pair("Conv1d", "kernelSize", kernelSize, 1)[0];
    this.stride = pair("Conv1d", "stride", stride, 1)[0];
    this.padding = padding === "same" ? padding : pair("Conv1d", "padding", padding, 0)[0];
    this.dilation = pair("Conv1d", "dilation", dilation, 1)[0];
    this.groups = groups;
    this.keepOutput = keepOutput;
    const perGroup = inChannels / groups;
    this.weight = uninitialised([kernelSize, perGroup, outChannels], { shape: [outChannels, perGroup, kernelSize], axes: [2, 1, 0] });
    this.bias = bias ? uninitialised([outChannels]) : null;
    defaultInit_(this.weight, this.bias);
  }

  forward(x: Tensor): Tensor {
    const { stride, padding, dilation, groups, keepOutput } = this;
    return conv1d(x, this.weight, this.bias, { stride, padding, dilation, groups, keepOutput });
  }
}
