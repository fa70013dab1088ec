/** Linear layer and embedding table. */
import { checkOptions, kindOf } from "../runtime/check.ts";
import { embedding } from "../tensor/ops/index.ts";
import { linear } from "../tensor/ops/matmul.ts";
import { wrong } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { defaultInit_, normal_, uninitialised } from "./init.ts";
import { Module, type Parameter } from "./module.ts";

function expectSize(layer: string, sizes: Record<string, number>): void {
  for (const [name, value] of Object.entries(sizes))
    if (!Number.isInteger(value) || value < 1) wrong(layer, name, "an integer >= 1", kindOf(value));
}

/** x W + b: [..., in] (f32 or spikes) to f32 [..., out]. The weight lies [in, out]; state dicts hold PyTorch's [out, in]. */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  readonly inFeatures: number;
  readonly outFeatures: number;

  constructor(inFeatures: number, outFeatures: number, options: { bias?: boolean | undefined } = {}) {
    super();
    expectSize("Linear", { inFeatures, outFeatures });
    checkOptions("Linear", options, ["bias"]);
    const { bias = true } = options;
    this.inFeatures = inFeatures;
    this.outFeatures = outFeatures;
    this.weight = uninitialised([inFeatures, outFeatures], { shape: [outFeatures, inFeatures], axes: [1, 0] });
    this.bias = bias ? uninitialised([outFeatures]) : null;
    defaultInit_(this.weight, this.bias);
  }

  forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }
}

/** A table of vectors: indices i32 [...] to f32 [..., dim]. Starts normal with std 1. */
export class Embedding extends Module {
  readonly weight: Parameter;
  readonly count: number;
  readonly dim: number;

  constructor(count: number, dim: number) {
    super();
    expectSize("Embedding", { count, dim });
    this.count = count;
    this.dim = dim;
    this.weight = normal_(uninitialised([count, dim]));
  }

  forward(indices: Tensor): Tensor {
    return embedding(this.weight, indices);
  }
}
