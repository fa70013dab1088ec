/**
 * CAFormer (Yu et al. 2024, "MetaFormer Baselines for Vision", arXiv 2210.13452; repository sail-sg/metaformer): an ordinary network, no
 * spikes, whose B36 size is the teacher of the spike-driven transformers V2 and V3.
 *
 * Four stages of blocks, each a mixer and an MLP behind a layer norm. Mixers are separable convolutions in stages 1 and 2, attention in 3 and 4.
 * Maps are [B, H, W, C]; field names are the official state-dict keys.
 */
import { ModuleList, Sequential } from "../../nn/containers.ts";
import { Conv2d, type ConvOptions } from "../../nn/conv.ts";
import { constant_, truncNormal_ } from "../../nn/init.ts";
import { Linear } from "../../nn/linear.ts";
import { Module, Parameter } from "../../nn/module.ts";
import { LayerNorm } from "../../nn/norm.ts";
import { add, mul, relu, square } from "../../tensor/ops/elementwise.ts";
import { permute, reshape, slice } from "../../tensor/ops/layout.ts";
import { matmul } from "../../tensor/ops/matmul.ts";
import { mean } from "../../tensor/ops/reduce.ts";
import { softmax } from "../../tensor/ops/softmax.ts";
import { show, wrong } from "../../tensor/shape.ts";
import { ones, type Tensor, zeros } from "../../tensor/tensor.ts";
import type { CAFormerConfig } from "./configs.ts";

/** epsilon of every norm but the head's own. */
const EPS = 1e-6;

/** Weights start at a truncated normal of std 0.02, biases at 0. */
function started<L extends Linear | Conv2d>(layer: L): L {
  truncNormal_(layer.weight, { std: 0.02 });
  if (layer.bias) constant_(layer.bias, 0);
  return layer;
}

const linear = (inputs: number, outputs: number, bias = false) => started(new Linear(inputs, outputs, { bias }));
const conv = (cin: number, cout: number, kernel: number, options: ConvOptions) => started(new Conv2d(cin, cout, kernel, options));
const norm = (dim: number) => new LayerNorm(dim, { eps: EPS, bias: false });

/** scale relu(x)^2 + bias, two numbers. */
class StarReLU extends Module {
  scale = new Parameter(ones([1]));
  bias = new Parameter(zeros([1]));

  forward(x: Tensor): Tensor {
    return add(mul(square(relu(x)), this.scale), this.bias);
  }
}

/** A factor for each channel of a block's shortcut. */
class ResScale extends Module {
  scale: Parameter;

  constructor(dim: number) {
    super();
    this.scale = new Parameter(ones([dim]));
  }

  forward(x: Tensor): Tensor {
    return mul(x, this.scale);
  }
}

/** The first: a strided convolution, then a norm. The others: a norm, then a convolution of stride 2. */
class Downsampling extends Module {
  pre_norm: LayerNorm | null;
  conv: Conv2d;
  post_norm: LayerNorm | null;

  constructor(cin: number, cout: number, stemStride: number | null) {
    super();
    this.pre_norm = stemStride === null ? norm(cin) : null;
    this.conv =
      stemStride === null ? conv(cin, cout, 3, { stride: 2, padding: 1 }) : conv(cin, cout, 7, { stride: stemStride, padding: 2 });
    this.post_norm = stemStride === null ? null : norm(cout);
  }

  forward(x: Tensor): Tensor {
    const y = this.conv.forward(this.pre_norm?.forward(x) ?? x);
    return this.post_norm?.forward(y) ?? y;
  }
}

/** Linear to twice the channels, StarReLU, a depthwise 7 x 7, Linear back. */
class SepConv extends Module {
  pwconv1: Linear;
  act1 = new StarReLU();
  dwconv: Conv2d;
  pwconv2: Linear;

  constructor(dim: number) {
    super();
    this.pwconv1 = linear(dim, 2 * dim);
    this.dwconv = conv(2 * dim, 2 * dim, 7, { padding: 3, groups: 2 * dim, bias: false });
    this.pwconv2 = linear(2 * dim, dim);
  }

  forward(x: Tensor): Tensor {
    return this.pwconv2.forward(this.dwconv.forward(this.act1.forward(this.pwconv1.forward(x))));
  }
}

/** Softmax attention over all positions. */
class Attention extends Module {
  qkv: Linear;
  proj: Linear;
  private readonly headDim: number;

  constructor(dim: number, headDim: number) {
    super();
    this.headDim = headDim;
    this.qkv = linear(dim, 3 * dim);
    this.proj = linear(dim, dim);
  }

  forward(x: Tensor): Tensor {
    const [b, height, width, dim] = x.shape as [number, number, number, number];
    const [n, d] = [height * width, this.headDim];
    // Channels of qkv are (q | k | v, head, channel of the head).
    const all = permute(reshape(this.qkv.forward(x), [b, n, 3, dim / d, d]), [2, 0, 3, 1, 4]);
    const [q, k, v] = [0, 1, 2].map((i) => reshape(slice(all, [i, i + 1]), [b, dim / d, n, d])) as [Tensor, Tensor, Tensor];
    const attention = softmax(mul(matmul(q, k, { transposeB: true }), d ** -0.5));
    return this.proj.forward(reshape(permute(matmul(attention, v), [0, 2, 1, 3]), x.shape));
  }
}

class MLP extends Module {
  fc1: Linear;
  act = new StarReLU();
  fc2: Linear;

  constructor(dim: number, hidden: number) {
    super();
    this.fc1 = linear(dim, hidden);
    this.fc2 = linear(hidden, dim);
  }

  forward(x: Tensor): Tensor {
    return this.fc2.forward(this.act.forward(this.fc1.forward(x)));
  }
}

/** x <- s1 x + mixer(norm(x)); x <- s2 x + MLP(norm(x)); the factors s in stages of attention only. */
class Block extends Module {
  norm1: LayerNorm;
  token_mixer: SepConv | Attention;
  res_scale1: ResScale | null;
  norm2: LayerNorm;
  mlp: MLP;
  res_scale2: ResScale | null;

  constructor(dim: number, { mlpRatio, headDim }: CAFormerConfig, attention: boolean) {
    super();
    this.norm1 = norm(dim);
    this.token_mixer = attention ? new Attention(dim, headDim) : new SepConv(dim);
    this.res_scale1 = attention ? new ResScale(dim) : null;
    this.norm2 = norm(dim);
    this.mlp = new MLP(dim, dim * mlpRatio);
    this.res_scale2 = attention ? new ResScale(dim) : null;
  }

  override recomputable(): Module[] {
    return [this];
  }

  forward(x: Tensor): Tensor {
    const y = add(this.res_scale1?.forward(x) ?? x, this.token_mixer.forward(this.norm1.forward(x)));
    return add(this.res_scale2?.forward(y) ?? y, this.mlp.forward(this.norm2.forward(y)));
  }
}

/** Linear to four times the features, relu(x)^2, norm, Linear to the classes. */
export class Head extends Module {
  fc1: Linear;
  norm: LayerNorm;
  fc2: Linear;

  constructor(dim: number, classes: number) {
    super();
    this.fc1 = linear(dim, 4 * dim, true);
    this.norm = new LayerNorm(4 * dim);
    this.fc2 = linear(4 * dim, classes, true);
  }

  forward(x: Tensor): Tensor {
    return this.fc2.forward(this.norm.forward(square(relu(this.fc1.forward(x)))));
  }
}

export class CAFormer extends Module {
  downsample_layers: ModuleList<Module>;
  stages: ModuleList<Module>;
  norm: LayerNorm;
  head: Head;
  private readonly inChannels: number;

  constructor(config: CAFormerConfig) {
    super();
    const { inChannels, dims, depths, stemStride, numClasses } = config;
    this.inChannels = inChannels;
    this.downsample_layers = new ModuleList(
      dims.map((dim, i) => (i ? new Downsampling(dims[i - 1] as number, dim, null) : new Downsampling(inChannels, dim, stemStride))),
    );
    this.stages = new ModuleList(
      dims.map((dim, i) => new Sequential(...Array.from({ length: depths[i] as number }, () => new Block(dim, config, i >= 2)))),
    );
    this.norm = new LayerNorm(dims[3], { eps: EPS });
    this.head = new Head(dims[3], numClasses);
  }

  /** Images [B, H, W, C] -> logits [B, K]. */
  forward(x: Tensor): Tensor {
    if (x.rank !== 4 || x.shape[3] !== this.inChannels)
      wrong("CAFormer", "the input", `images [B, H, W, ${this.inChannels}]`, show(x.shape));
    let h = x;
    for (const [i, stage] of this.stages.modules.entries()) h = stage.forward(this.downsample_layers.at(i).forward(h)) as Tensor;
    return this.head.forward(this.norm.forward(mean(h, [1, 2])));
  }
}
