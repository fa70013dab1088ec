/**
 * Parts of the base and DVS networks of Spike-driven Transformer V3, and those that the large network shares (`Downsampling`, `MLP`),
 * or its decoder (`heads`, `joined`).
 *
 * Tensors are [..., B, H, W, C] or tokens [..., B, N, C]: membranes between parts, integers (as bit planes) before every weight layer. Field
 * names are the official state-dict keys.
 */
import { Sequential } from "../../nn/containers.ts";
import { Conv1d, Conv2d } from "../../nn/conv.ts";
import { Module, Parameter } from "../../nn/module.ts";
import { BatchNorm1d, BatchNorm2d } from "../../nn/norm.ts";
import { add, affine, mul, toDense } from "../../tensor/ops/elementwise.ts";
import { permute, reshape } from "../../tensor/ops/layout.ts";
import { matmul } from "../../tensor/ops/matmul.ts";
import { full, type Tensor } from "../../tensor/tensor.ts";
import type { MakeNeuron } from "./neuron.ts";

/** Neuron (not on the image), convolution with bias, norm: the resolution goes down by `stride`. */
export class Downsampling extends Module {
  encode_spike: Module | null;
  encode_conv: Conv2d;
  encode_bn: BatchNorm2d;

  constructor(
    cin: number,
    cout: number,
    { kernel = 3, stride = 2, padding = 1, neuron }: { kernel?: number; stride?: number; padding?: number; neuron: MakeNeuron | null },
  ) {
    super();
    this.encode_spike = neuron?.() ?? null;
    this.encode_conv = new Conv2d(cin, cout, kernel, { stride, padding });
    this.encode_bn = new BatchNorm2d(cout);
  }

  override recomputable(): Module[] {
    return [this];
  }

  /** [..., H, W, Cin] -> membranes [..., OH, OW, Cout]. */
  forward(x: Tensor): Tensor {
    return this.encode_bn.forward(this.encode_conv.forward(this.encode_spike ? this.encode_spike.forward(x) : x));
  }
}

const convNorm = (cin: number, cout: number, kernel: number, groups = 1) =>
  new Sequential(new Conv2d(cin, cout, kernel, { padding: kernel >> 1, groups, bias: false }), new BatchNorm2d(cout));

/** Separable convolution: 1 x 1 to twice the channels, depthwise k x k, 1 x 1 back; a neuron before and a norm behind each. */
export class SepConv extends Module {
  spike1: Module;
  pwconv1: Sequential;
  spike2: Module;
  dwconv: Sequential;
  spike3: Module;
  pwconv2: Sequential;

  constructor(dim: number, kernel: number, neuron: MakeNeuron) {
    super();
    this.spike1 = neuron();
    this.pwconv1 = convNorm(dim, 2 * dim, 1);
    this.spike2 = neuron();
    this.dwconv = convNorm(2 * dim, 2 * dim, kernel, 2 * dim);
    this.spike3 = neuron();
    this.pwconv2 = convNorm(2 * dim, dim, 1);
  }

  /** Membranes [..., B, H, W, C] -> the same shape. */
  forward(x: Tensor): Tensor {
    const wide = this.pwconv1.forward(this.spike1.forward(x));
    return this.pwconv2.forward(this.spike3.forward(this.dwconv.forward(this.spike2.forward(wide))));
  }
}

/** Block of the convolutional stages: a separable convolution (7 x 7), then two dense 3 x 3 convolutions over 4 C channels. */
export class ConvBlock extends Module {
  Conv: SepConv;
  spike1: Module;
  conv1: Conv2d;
  bn1: BatchNorm2d;
  spike2: Module;
  conv2: Conv2d;
  bn2: BatchNorm2d;

  constructor(dim: number, mlpRatio: number, neuron: MakeNeuron) {
    super();
    const hidden = Math.floor(dim * mlpRatio);
    this.Conv = new SepConv(dim, 7, neuron);
    this.spike1 = neuron();
    this.conv1 = new Conv2d(dim, hidden, 3, { padding: 1, bias: false });
    this.bn1 = new BatchNorm2d(hidden);
    this.spike2 = neuron();
    this.conv2 = new Conv2d(hidden, dim, 3, { padding: 1, bias: false });
    this.bn2 = new BatchNorm2d(dim);
  }

  override recomputable(): Module[] {
    return [this];
  }

  forward(x: Tensor): Tensor {
    const y = add(x, this.Conv.forward(x));
    const hidden = this.bn1.forward(this.conv1.forward(this.spike1.forward(y)));
    return add(y, this.bn2.forward(this.conv2.forward(this.spike2.forward(hidden))));
  }
}

/** Channels in contiguous groups, one for each head: values [..., N, C] -> [..., h, N, C / h]. */
export function heads(x: Tensor, count: number): Tensor {
  const lead = x.shape.slice(0, -2);
  const [n, c] = x.shape.slice(-2) as [number, number];
  // Integers are multiplied as numbers; binary virtual steps stay spikes, of which products are sums.
  const cut = reshape(x.spikes && !x.spikes.steps ? toDense(x) : x, [...lead, n, count, c / count]);
  const r = lead.length;
  return permute(cut, [...lead.keys(), r + 1, r, r + 2]);
}

/** The heads' channels side by side again: [..., h, N, d] -> [..., N, h d]. */
export function joined(x: Tensor): Tensor {
  const lead = x.shape.slice(0, -3);
  const [count, n, d] = x.shape.slice(-3) as [number, number, number];
  const r = lead.length;
  return reshape(permute(x, [...lead.keys(), r + 1, r, r + 2]), [...lead, n, count * d]);
}

/**
 * Spike-driven self-attention of the base family: (q k') v with four times as many channels in v, no softmax. The product is made in this order
 * and scaled once at its end, as published: ties between integers depend on it.
 */
export class Attention extends Module {
  head_spike: Module;
  q_conv: Sequential;
  q_spike: Module;
  k_conv: Sequential;
  k_spike: Module;
  v_conv: Sequential;
  v_spike: Module;
  attn_spike: Module;
  proj_conv: Sequential;
  private readonly heads: number;
  private readonly scale: number;

  constructor(dim: number, count: number, neuron: MakeNeuron) {
    super();
    this.heads = count;
    this.scale = 2 / Math.sqrt(dim / count);
    this.head_spike = neuron();
    this.q_conv = convNorm(dim, dim, 1);
    this.q_spike = neuron();
    this.k_conv = convNorm(dim, dim, 1);
    this.k_spike = neuron();
    this.v_conv = convNorm(dim, 4 * dim, 1);
    this.v_spike = neuron();
    this.attn_spike = neuron();
    this.proj_conv = convNorm(4 * dim, dim, 1);
  }

  /** Membranes [..., B, H, W, C] -> the same shape. */
  forward(x: Tensor): Tensor {
    const [height, width, c] = x.shape.slice(-3) as [number, number, number];
    const lead = x.shape.slice(0, -3);
    const s = this.head_spike.forward(x);
    const tokens = (spikes: Tensor, channels: number) => heads(reshape(spikes, [...lead, height * width, channels]), this.heads);
    const q = tokens(this.q_spike.forward(this.q_conv.forward(s)), c);
    const k = tokens(this.k_spike.forward(this.k_conv.forward(s)), c);
    const v = tokens(this.v_spike.forward(this.v_conv.forward(s)), 4 * c);
    const o = affine(matmul(matmul(q, k, { transposeB: true }), v), this.scale);
    const spikes = this.attn_spike.forward(joined(o));
    return this.proj_conv.forward(reshape(spikes, [...lead, height, width, 4 * c]));
  }
}

/** Two layers over the channels of every token, with bias; a neuron before and a norm behind each. */
export class MLP extends Module {
  fc1_spike: Module;
  fc1_conv: Conv1d;
  fc1_bn: BatchNorm1d;
  fc2_spike: Module;
  fc2_conv: Conv1d;
  fc2_bn: BatchNorm1d;

  constructor(dim: number, mlpRatio: number, neuron: MakeNeuron) {
    super();
    const hidden = Math.floor(dim * mlpRatio);
    this.fc1_spike = neuron();
    this.fc1_conv = new Conv1d(dim, hidden, 1);
    this.fc1_bn = new BatchNorm1d(hidden);
    this.fc2_spike = neuron();
    this.fc2_conv = new Conv1d(hidden, dim, 1);
    this.fc2_bn = new BatchNorm1d(dim);
  }

  /** Tokens [..., B, N, C] -> the same shape. */
  forward(x: Tensor): Tensor {
    const hidden = this.fc1_bn.forward(this.fc1_conv.forward(this.fc1_spike.forward(x)));
    return this.fc2_bn.forward(this.fc2_conv.forward(this.fc2_spike.forward(hidden)));
  }
}

export interface BlockOptions {
  dim: number;
  heads: number;
  mlpRatio: number;
  neuron: MakeNeuron;
  /** First value of a learnt scale for each channel of each branch (DVS); none without. */
  layerScale?: number | undefined;
}

/** Transformer block: a separable convolution (3 x 3), attention and an MLP, each added to the membrane. */
export class Block extends Module {
  layer_scale1: Parameter | null;
  layer_scale2: Parameter | null;
  layer_scale3: Parameter | null;
  conv: SepConv;
  attn: Attention;
  mlp: MLP;

  constructor({ dim, heads, mlpRatio, neuron, layerScale }: BlockOptions) {
    super();
    const scale = () => (layerScale === undefined ? null : new Parameter(full([dim], layerScale)));
    this.layer_scale1 = scale();
    this.layer_scale2 = scale();
    this.layer_scale3 = scale();
    this.conv = new SepConv(dim, 3, neuron);
    this.attn = new Attention(dim, heads, neuron);
    this.mlp = new MLP(dim, mlpRatio, neuron);
  }

  override recomputable(): Module[] {
    return [this];
  }

  /** Membranes [..., B, H, W, C] -> the same shape. */
  forward(input: Tensor): Tensor {
    let x = add(input, scaled(this.conv.forward(input), this.layer_scale1));
    x = add(x, scaled(this.attn.forward(x), this.layer_scale2));
    const [height, width, c] = x.shape.slice(-3) as [number, number, number];
    const y = this.mlp.forward(reshape(x, [...x.shape.slice(0, -3), height * width, c]));
    return add(x, reshape(scaled(y, this.layer_scale3), x.shape));
  }
}

function scaled(x: Tensor, by: Parameter | null): Tensor {
  return by ? mul(x, by) : x;
}
