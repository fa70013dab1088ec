/** What a batch norm does in eval, for those who multiply it into weights: chains of layers that are merged for inference. */
import type { BatchNorm1d, BatchNorm2d } from "../nn/norm.ts";
import { add, div, mul, sqrt, sub } from "../tensor/ops/elementwise.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** y = scale x + shift, f32 [C]. */
export interface ChannelAffine {
  scale: Tensor;
  shift: Tensor;
}

/** By the running statistics as they are now, of a norm that has them and a weight and bias. */
export function evalAffine({ weight, bias, running_mean, running_var, eps }: BatchNorm1d | BatchNorm2d): ChannelAffine {
  const [gamma, beta, mean, variance] = [weight, bias, running_mean, running_var] as [Tensor, Tensor, Tensor, Tensor];
  const scale = div(gamma, sqrt(add(variance, eps)));
  return { scale, shift: sub(beta, mul(mean, scale)) };
}

/** `first`, then `second` where there is one. */
export function inARow(first: ChannelAffine, second: ChannelAffine | null): ChannelAffine {
  if (!second) return first;
  return { scale: mul(first.scale, second.scale), shift: add(mul(first.shift, second.scale), second.shift) };
}
