/**
 * RepConv: three convolutions and two norms in a row that stand for one 3 x 3 convolution, in training for its many parameters, in
 * inference merged (Ding et al. 2021, "RepVGG", arXiv 2101.03697, has the idea; here as in repository BICLab/Spike-Driven-Transformer-V2).
 */
import { Sequential } from "../../nn/containers.ts";
import { Conv2d } from "../../nn/conv.ts";
import { withoutDraws } from "../../nn/init.ts";
import { Module } from "../../nn/module.ts";
import { BatchNorm2d } from "../../nn/norm.ts";
import { conv2d } from "../../tensor/ops/conv.ts";
import { add, mul, sub } from "../../tensor/ops/elementwise.ts";
import { pad, reshape, slice, stack } from "../../tensor/ops/layout.ts";
import { matmul } from "../../tensor/ops/matmul.ts";
import { batchNorm } from "../../tensor/ops/norm.ts";
import { sum } from "../../tensor/ops/reduce.ts";
import { scope } from "../../tensor/scope.ts";
import { noGrad } from "../../tensor/tape.ts";
import { ones, type Tensor, zeros } from "../../tensor/tensor.ts";
import { evalAffine, inARow } from "../fold.ts";

/** Pixels before and after along an axis. */
const [AROUND, NONE] = [
  [1, 1],
  [0, 0],
] as const;

/**
 * Batch norm that surrounds its result by one pixel of what it makes of a zero by its running statistics. In training those have just
 * been updated by the same forward, while the interior is normalised by the batch. No gradient comes from the border.
 */
export class BNAndPad extends Module {
  readonly bn: BatchNorm2d;

  constructor(channels: number) {
    super();
    this.bn = new BatchNorm2d(channels);
  }

  /** [..., H, W, C] -> [..., H + 2, W + 2, C] */
  forward(x: Tensor): Tensor {
    const y = this.bn.forward(x);
    const [h, w] = y.shape.slice(-3, -1) as [number, number];
    return add(pad(y, [...y.shape.slice(0, -3).map(() => NONE), AROUND, AROUND, NONE]), this.border(h, w));
  }

  /** The border alone, zeros inside: [H + 2, W + 2, C], outside the graph. By the running statistics as they are now. */
  border(h: number, w: number): Tensor {
    const { weight, bias, running_mean, running_var, eps, numFeatures: c } = this.bn;
    return scope(() =>
      noGrad(() => {
        const value = batchNorm(zeros([1, c]), weight, bias, running_mean, running_var, { training: false, eps });
        const inside = pad(ones([h, w, 1]), [AROUND, AROUND, NONE]);
        return mul(sub(1, inside), value);
      }),
    );
  }
}

/** 1 x 1 convolution, norm with border, depthwise 3 x 3, 1 x 1 convolution, norm. In eval one 3 x 3 convolution with zeros around. */
export class RepConv extends Module {
  readonly body: Sequential;

  constructor(channels: number) {
    super();
    const pointwise = (keepOutput: boolean) => new Conv2d(channels, channels, 1, { bias: false, keepOutput });
    // Padded here, where its input's border is zero; what the norm's border adds follows.
    const depthwise = new Conv2d(channels, channels, 3, { padding: 1, groups: channels, bias: false });
    // The first convolution is given spikes: its output is cheap to make again.
    this.body = new Sequential(
      pointwise(false),
      new BNAndPad(channels),
      new Sequential(depthwise, pointwise(true), new BatchNorm2d(channels)),
    );
  }

  /** The layers in order. */
  get layers(): { first: Conv2d; norm: BNAndPad; depthwise: Conv2d; last: Conv2d; lastNorm: BatchNorm2d } {
    const [first, norm, rest] = this.body.modules as [Conv2d, BNAndPad, Sequential];
    const [depthwise, last, lastNorm] = rest.modules as [Conv2d, Conv2d, BatchNorm2d];
    return { first, norm, depthwise, last, lastNorm };
  }

  /** Spikes or f32 [..., H, W, C] -> f32 of the same shape. */
  forward(x: Tensor): Tensor {
    const { first, norm, depthwise, last, lastNorm } = this.layers;
    // A convolution is linear in its image: the border's share is the same for all images and is made once, so that no image is copied
    // to be padded, and the norm's result need not be kept for backward.
    const inside = depthwise.forward(norm.bn.forward(first.forward(x)));
    const [h, w] = x.shape.slice(-3, -1) as [number, number];
    const around = conv2d(norm.border(h, w), depthwise.weight, null, { groups: depthwise.groups });
    return lastNorm.forward(last.forward(add(inside, around)));
  }
}

/**
 * One 3 x 3 convolution that gives what `rep`, and the norm behind it where there is one, give in eval. Exact but for rounding: no value
 * between the parts is clipped, and the border that the norm inside `rep` puts around its image is what a zero gives.
 * The new layer has weights of its own.
 */
export function mergeRepConv(rep: RepConv, outer: BatchNorm2d | null = null): Conv2d {
  const { first, norm, depthwise, last, lastNorm } = rep.layers;
  const c = first.inChannels;
  const merged = withoutDraws(() => new Conv2d(c, c, 3, { padding: 1 }));
  scope(() =>
    noGrad(() => {
      const one = evalAffine(norm.bn);
      const { scale, shift } = inARow(evalAffine(lastNorm), outer && evalAffine(outer));
      const into = reshape(first.weight, [c, c]); // [in, middle]
      const out = mul(reshape(last.weight, [c, c]), scale); // [middle, out]
      const taps = reshape(depthwise.weight, [9, c]); // [tap, middle]
      const kernels = Array.from({ length: 9 }, (_, tap) => matmul(mul(into, mul(slice(taps, tap), one.scale)), out));
      merged.weight.set(stack(kernels).dataSync());
      merged.bias?.set(add(reshape(matmul(reshape(mul(one.shift, sum(taps, 0)), [1, c]), out), [c]), shift).dataSync());
    }),
  );
  return merged;
}
