/**
 * Spike-driven Transformer V2, Meta-SpikeFormer (Yao et al. 2024, "Spike-driven Transformer V2", arXiv 2404.03663; repository
 * BICLab/Spike-Driven-Transformer-V2).
 *
 * A pyramid of four stages: convolutional blocks at high resolution, attention blocks (SDSA-3) at 1/16. All shortcuts join membranes;
 * every weight layer but the first receives spikes once RepConv is merged, and the two convolutions at the end of SepConv. Tensors are
 * [T, B, H, W, C]. Field names are the official state-dict keys.
 */
import { inTurn, Sequential } from "../../nn/containers.ts";
import { Conv1d, Conv2d } from "../../nn/conv.ts";
import { constant_, truncNormal_ } from "../../nn/init.ts";
import { Linear } from "../../nn/linear.ts";
import { Module } from "../../nn/module.ts";
import { BatchNorm1d, BatchNorm2d } from "../../nn/norm.ts";
import { SettingError } from "../../runtime/error.ts";
import { LIF } from "../../spiking/neurons.ts";
import { sigmoid } from "../../spiking/surrogate.ts";
import { add, mul } from "../../tensor/ops/elementwise.ts";
import { repeat, reshape } from "../../tensor/ops/layout.ts";
import { mean } from "../../tensor/ops/reduce.ts";
import { show, wrong } from "../../tensor/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { linearAttention } from "../linear-attention.ts";
import type { SDTV2Config } from "./configs.ts";
import { mergeRepConv, RepConv } from "./rep-conv.ts";

/** SDSA-3's constant factor, whatever the width of a head. */
export const ATTENTION_SCALE = 0.125;
/** Threshold of the neuron behind attention, for scaled products. */
export const ATTENTION_THRESHOLD = 0.5;
/** Slope of the surrogate everywhere. */
const ALPHA = 4;

/** tau 2, decay on the input, hard reset to 0, detached, surrogate sigmoid: the official neuron everywhere. `scale` multiplies its input. */
function neuron(vThreshold = 1, scale = 1): LIF {
  // Charge, leak and reset to 0 are linear: scaled inputs against a threshold are the inputs against the threshold over the scale. Both
  // are powers of two, so that nothing is rounded; the surrogate's argument keeps its size by its slope.
  const surrogate = sigmoid({ alpha: ALPHA * scale });
  return new LIF({ tau: 2, vThreshold: vThreshold / scale, vReset: 0, detachReset: true, decayInput: true, surrogate });
}

const conv1x1 = (cin: number, cout: number) => new Conv2d(cin, cout, 1, { bias: false });

function linear(dim: number, classes: number): Linear {
  const layer = new Linear(dim, classes);
  truncNormal_(layer.weight, { std: 0.02, a: -2, b: 2 });
  if (layer.bias) constant_(layer.bias, 0);
  return layer;
}

/** A convolution with norm between stages; a neuron in front but for the first, which sees the image. */
export class DownSampling extends Module {
  encode_lif: LIF | null;
  encode_conv: Conv2d;
  encode_bn: BatchNorm2d;

  constructor({
    cin,
    cout,
    kernel,
    stride,
    first = false,
  }: { cin: number; cout: number; kernel: number; stride: number; first?: boolean }) {
    super();
    this.encode_lif = first ? null : neuron();
    this.encode_conv = new Conv2d(cin, cout, kernel, { stride, padding: kernel >> 1 });
    this.encode_bn = new BatchNorm2d(cout);
  }

  /** [T, B, H, W, Cin] -> membranes [T, B, H', W', Cout]. */
  forward(x: Tensor): Tensor {
    return this.encode_bn.forward(this.encode_conv.forward(this.encode_lif ? this.encode_lif.forward(x) : x));
  }
}

/** Separable convolution on spikes. Nothing stands between `dwconv` and `pwconv2`: together they are one linear map. */
export class SepConv extends Module {
  lif1: LIF;
  pwconv1: Conv2d;
  bn1: BatchNorm2d;
  lif2: LIF;
  dwconv: Conv2d;
  pwconv2: Conv2d;
  bn2: BatchNorm2d;

  constructor(dim: number) {
    super();
    const wide = 2 * dim;
    this.lif1 = neuron();
    this.pwconv1 = conv1x1(dim, wide);
    this.bn1 = new BatchNorm2d(wide);
    this.lif2 = neuron();
    this.dwconv = new Conv2d(wide, wide, 7, { padding: 3, groups: wide, bias: false });
    this.pwconv2 = conv1x1(wide, dim);
    this.bn2 = new BatchNorm2d(dim);
  }

  /** Membranes [T, B, H, W, C] -> the same shape. */
  forward(x: Tensor): Tensor {
    const h = this.bn1.forward(this.pwconv1.forward(this.lif1.forward(x)));
    return this.bn2.forward(this.pwconv2.forward(this.dwconv.forward(this.lif2.forward(h))));
  }
}

/** Convolutional block: SepConv, then two 3 x 3 convolutions through four times the channels; each with a shortcut. */
export class ConvBlock extends Module {
  Conv: SepConv;
  lif1: LIF;
  conv1: Conv2d;
  bn1: BatchNorm2d;
  lif2: LIF;
  conv2: Conv2d;
  bn2: BatchNorm2d;

  constructor(dim: number) {
    super();
    const conv3x3 = (cin: number, cout: number) => new Conv2d(cin, cout, 3, { padding: 1, bias: false });
    this.Conv = new SepConv(dim);
    this.lif1 = neuron();
    this.conv1 = conv3x3(dim, 4 * dim);
    this.bn1 = new BatchNorm2d(4 * dim);
    this.lif2 = neuron();
    this.conv2 = conv3x3(4 * dim, dim);
    this.bn2 = new BatchNorm2d(dim);
  }

  override recomputable(): Module[] {
    return [this];
  }

  /** Membranes [T, B, H, W, C] -> the same shape. */
  forward(x: Tensor): Tensor {
    const y = add(this.Conv.forward(x), x);
    const h = this.bn1.forward(this.conv1.forward(this.lif1.forward(y)));
    return add(this.bn2.forward(this.conv2.forward(this.lif2.forward(h))), y);
  }
}

/** SDSA-3: o = SN(0.125 q (k^T v)) of each head, linear in the number of tokens; q, k, v and the projection are RepConvs. */
export class SpikeDrivenSelfAttention3 extends Module {
  head_lif: LIF;
  q_conv: Sequential;
  q_lif: LIF;
  k_conv: Sequential;
  k_lif: LIF;
  v_conv: Sequential;
  v_lif: LIF;
  attn_lif: LIF;
  proj_conv: Sequential;
  private readonly heads: number;

  constructor(dim: number, heads: number) {
    super();
    const repConv = () => new Sequential(new RepConv(dim), new BatchNorm2d(dim));
    this.heads = heads;
    this.head_lif = neuron();
    this.q_conv = repConv();
    this.q_lif = neuron();
    this.k_conv = repConv();
    this.k_lif = neuron();
    this.v_conv = repConv();
    this.v_lif = neuron();
    this.attn_lif = neuron(ATTENTION_THRESHOLD, ATTENTION_SCALE);
    this.proj_conv = repConv();
  }

  /** Membranes [T, B, H, W, D] -> the same shape. */
  forward(x: Tensor): Tensor {
    const [t, b, h, w, d] = x.shape as [number, number, number, number, number];
    const tokens = [t, b, h * w, d];
    const s = this.head_lif.forward(x);
    const q = this.q_lif.forward(this.q_conv.forward(s));
    const k = this.k_lif.forward(this.k_conv.forward(s));
    const v = this.v_lif.forward(this.v_conv.forward(s));
    const o = linearAttention(reshape(q, tokens), reshape(k, tokens), reshape(v, tokens), this.heads);
    return this.proj_conv.forward(reshape(this.attn_lif.forward(o), x.shape));
  }

  /** Put one 3 x 3 convolution in the place of each RepConv and its norm. */
  mergeRepConvs(): void {
    for (const name of ["q_conv", "k_conv", "v_conv", "proj_conv"] as const) {
      const [rep, norm] = this[name].modules;
      if (!(rep instanceof RepConv)) continue;
      const before = this[name];
      this[name] = new Sequential(mergeRepConv(rep, norm as BatchNorm2d));
      this[name].train(before.training);
      before.dispose();
    }
  }
}

/** Two 1 x 1 convolutions over tokens, each behind a neuron. */
export class SpikingMLP extends Module {
  fc1_conv: Conv1d;
  fc1_bn: BatchNorm1d;
  fc1_lif: LIF;
  fc2_conv: Conv1d;
  fc2_bn: BatchNorm1d;
  fc2_lif: LIF;

  constructor(dim: number, hidden = 4 * dim) {
    super();
    this.fc1_conv = new Conv1d(dim, hidden, 1);
    this.fc1_bn = new BatchNorm1d(hidden);
    this.fc1_lif = neuron();
    this.fc2_conv = new Conv1d(hidden, dim, 1);
    this.fc2_bn = new BatchNorm1d(dim);
    this.fc2_lif = neuron();
  }

  /** Membranes [T, B, H, W, D] -> the same shape. */
  forward(x: Tensor): Tensor {
    const [t, b, h, w, d] = x.shape as [number, number, number, number, number];
    const s = this.fc1_lif.forward(reshape(x, [t, b, h * w, d]));
    const hidden = this.fc2_lif.forward(this.fc1_bn.forward(this.fc1_conv.forward(s)));
    return reshape(this.fc2_bn.forward(this.fc2_conv.forward(hidden)), x.shape);
  }
}

/** Attention block. */
export class Block extends Module {
  attn: SpikeDrivenSelfAttention3;
  mlp: SpikingMLP;

  constructor(dim: number, heads: number) {
    super();
    this.attn = new SpikeDrivenSelfAttention3(dim, heads);
    this.mlp = new SpikingMLP(dim);
  }

  override recomputable(): Module[] {
    return [this];
  }

  /** Membranes [T, B, H, W, D] -> the same shape. */
  forward(x: Tensor): Tensor {
    const y = add(this.attn.forward(x), x);
    return add(this.mlp.forward(y), y);
  }
}

export class MetaSpikeFormer extends Module {
  downsample1_1: DownSampling;
  ConvBlock1_1: ConvBlock[];
  downsample1_2: DownSampling;
  ConvBlock1_2: ConvBlock[];
  downsample2: DownSampling;
  ConvBlock2_1: ConvBlock[];
  ConvBlock2_2: ConvBlock[];
  downsample3: DownSampling;
  block3: Block[];
  downsample4: DownSampling;
  block4: Block[];
  lif: LIF;
  head: Linear;
  head_kd: Linear | null;
  readonly config: SDTV2Config;
  private steps: number;

  constructor(config: SDTV2Config) {
    super();
    this.config = config;
    this.steps = config.T;
    const { inChannels, numClasses, numHeads, kd } = config;
    const [e1, e2, e3, e4] = config.embedDims as [number, number, number, number];
    const [depth3, depth4] = config.depths as [number, number];
    const blocks = (count: number, dim: number) => Array.from({ length: count }, () => new Block(dim, numHeads));
    this.downsample1_1 = new DownSampling({ cin: inChannels, cout: e1 / 2, kernel: 7, stride: 2, first: true });
    this.ConvBlock1_1 = [new ConvBlock(e1 / 2)];
    this.downsample1_2 = new DownSampling({ cin: e1 / 2, cout: e1, kernel: 3, stride: 2 });
    this.ConvBlock1_2 = [new ConvBlock(e1)];
    this.downsample2 = new DownSampling({ cin: e1, cout: e2, kernel: 3, stride: 2 });
    this.ConvBlock2_1 = [new ConvBlock(e2)];
    this.ConvBlock2_2 = [new ConvBlock(e2)];
    this.downsample3 = new DownSampling({ cin: e2, cout: e3, kernel: 3, stride: 2 });
    this.block3 = blocks(depth3, e3);
    this.downsample4 = new DownSampling({ cin: e3, cout: e4, kernel: 3, stride: 1 });
    this.block4 = blocks(depth4, e4);
    this.lif = neuron();
    this.head = linear(e4, numClasses);
    this.head_kd = kd ? linear(e4, numClasses) : null;
  }

  /** Steps that a still image is shown for. No parameter depends on it: a network trained at T = 1 goes on at T = 4. */
  get T(): number {
    return this.steps;
  }

  set T(steps: number) {
    if (!Number.isInteger(steps) || steps < 1)
      throw new SettingError("T", `MetaSpikeFormer: T must be a positive integer, found ${JSON.stringify(steps)}`);
    this.steps = steps;
  }

  /**
   * Images [B, H, W, C] (shown T times) or event frames [T, B, H, W, C] -> logits [B, K], the mean over T. With a distillation head: in
   * training both heads' logits, [of the labels, of the teacher], else their mean.
   */
  forward(input: Tensor): Tensor | [Tensor, Tensor] {
    const { inChannels } = this.config;
    if ((input.rank !== 4 && input.rank !== 5) || input.shape[input.rank - 1] !== inChannels)
      wrong(
        "MetaSpikeFormer",
        "the input",
        `images [B, H, W, ${inChannels}] or event frames [T, B, H, W, ${inChannels}]`,
        show(input.shape),
      );
    const x = inTurn(this.stages(), input.rank === 4 ? repeat(input, this.steps) : input);
    const s = this.lif.forward(mean(x, [2, 3]));
    const logits = mean(this.head.forward(s), 0);
    if (!this.head_kd) return logits;
    const distilled = mean(this.head_kd.forward(s), 0);
    return this.training ? [logits, distilled] : mul(add(logits, distilled), 0.5);
  }

  private stages(): Module[] {
    return [
      this.downsample1_1,
      ...this.ConvBlock1_1,
      this.downsample1_2,
      ...this.ConvBlock1_2,
      this.downsample2,
      ...this.ConvBlock2_1,
      ...this.ConvBlock2_2,
      this.downsample3,
      ...this.block3,
      this.downsample4,
      ...this.block4,
    ];
  }

  /**
   * Re-parameterise for inference: every RepConv with the norm behind it becomes one 3 x 3 convolution with a bias, which gives the same in
   * eval, on spikes alone. The state dict then has that convolution's keys, so load weights before. There is no way back.
   */
  mergeRepConvs(): this {
    for (const { attn } of [...this.block3, ...this.block4]) attn.mergeRepConvs();
    return this;
  }
}
