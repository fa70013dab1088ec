/** The chain of 1 x 1 convolutions of the large family, and the single one that gives the same. */
import { Sequential } from "../../nn/containers.ts";
import { Conv1d } from "../../nn/conv.ts";
import { withoutDraws } from "../../nn/init.ts";
import { Module } from "../../nn/module.ts";
import { BatchNorm1d } from "../../nn/norm.ts";
import { add, mul } from "../../tensor/ops/elementwise.ts";
import { reshape } from "../../tensor/ops/layout.ts";
import { matmul } from "../../tensor/ops/matmul.ts";
import { scope } from "../../tensor/scope.ts";
import { noGrad } from "../../tensor/tape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { evalAffine, inARow } from "../fold.ts";

/** Two 1 x 1 convolutions over tokens, over `expand` times as many channels in between, each with a norm and nothing else: one linear map. */
export class RepConv1d extends Module {
  conv1: Sequential;
  conv2: Sequential;

  constructor(dim: number, expand: number) {
    super();
    const part = (cin: number, cout: number) => new Sequential(new Conv1d(cin, cout, 1, { bias: false }), new BatchNorm1d(cout));
    const hidden = Math.floor(dim * expand);
    this.conv1 = part(dim, hidden);
    this.conv2 = part(hidden, dim);
  }

  /** Spikes or f32 [..., N, C] -> f32 of the same shape. */
  forward(x: Tensor): Tensor {
    return this.conv2.forward(this.conv1.forward(x));
  }
}

/**
 * One 1 x 1 convolution that gives what `rep`, and the norm behind it where there is one, give in eval, to rounding. The new layer has weights of
 * its own.
 */
export function mergeRepConv1d(rep: RepConv1d, outer: BatchNorm1d | null = null): Conv1d {
  const [first, one] = rep.conv1.modules as [Conv1d, BatchNorm1d];
  const [last, two] = rep.conv2.modules as [Conv1d, BatchNorm1d];
  const merged = withoutDraws(() => new Conv1d(first.inChannels, last.outChannels, 1));
  scope(() =>
    noGrad(() => {
      const before = evalAffine(one);
      const { scale, shift } = inARow(evalAffine(two), outer && evalAffine(outer));
      const matrix = ({ weight, inChannels, outChannels }: Conv1d) => reshape(weight, [inChannels, outChannels]);
      const out = mul(matrix(last), scale);
      merged.weight.set(matmul(mul(matrix(first), before.scale), out).dataSync());
      merged.bias?.set(add(matmul(reshape(before.shift, [1, one.numFeatures]), out), shift).dataSync());
    }),
  );
  return merged;
}
