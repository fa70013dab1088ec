/**
 * Spike-driven Transformer V3, large family (official folder Model_Large): three convolutional stages and one of transformer blocks at
 * stride 16, whose projections are chains of 1 x 1 convolutions and norms. `LargeEncoder` is what the classifier and its pre-training
 * (mae.ts) have in common.
 *
 * Tensors are [T, B, H, W, C], tokens [T, B, N, C]. Field names are the official state-dict keys.
 */
import { inTurn, Sequential } from "../../nn/containers.ts";
import { type Conv1d, Conv2d } from "../../nn/conv.ts";
import { DropPath } from "../../nn/drop-path.ts";
import { xavierUniform_, zeros_ } from "../../nn/init.ts";
import { Linear } from "../../nn/linear.ts";
import { Module, Parameter } from "../../nn/module.ts";
import { BatchNorm1d, BatchNorm2d } from "../../nn/norm.ts";
import { add, affine, mul } from "../../tensor/ops/elementwise.ts";
import { repeat, reshape } from "../../tensor/ops/layout.ts";
import { mean } from "../../tensor/ops/reduce.ts";
import { show, wrong } from "../../tensor/shape.ts";
import { full, type Tensor } from "../../tensor/tensor.ts";
import { linearAttention } from "../linear-attention.ts";
import { Downsampling, MLP } from "./blocks.ts";
import type { LargeConfig, LargeEncoderConfig } from "./large-configs.ts";
import { normSeen, type Places, type SeenPatches } from "./masking.ts";
import { type MakeNeuron, upNeuron } from "./neuron.ts";
import { mergeRepConv1d, RepConv1d } from "./rep-conv.ts";

/** Down-sampling of an image that may be seen in part. */
export class LargeDownsampling extends Downsampling {
  override forward(x: Tensor, ...places: Places): Tensor {
    return normSeen(this.encode_bn, this.encode_conv.forward(this.encode_spike ? this.encode_spike.forward(x) : x), ...places);
  }
}

/** Convolution with bias, and a norm; keys 0 and 1. */
export class ConvNorm extends Module {
  "0": Conv2d;
  "1": BatchNorm2d;

  constructor(cin: number, cout: number) {
    super();
    this[0] = new Conv2d(cin, cout, 3, { padding: 1 });
    this[1] = new BatchNorm2d(cout);
  }

  forward(x: Tensor, ...places: Places): Tensor {
    return normSeen(this[1], this[0].forward(x), ...places);
  }
}

/** Block of the convolutional stages: two dense 3 x 3 convolutions over `mlpRatio` times as many channels. */
export class LargeConvBlock extends Module {
  neuron1: Module;
  conv1: readonly [ConvNorm];
  neuron2: Module;
  conv2: readonly [ConvNorm];

  constructor(dim: number, mlpRatio: number, neuron: MakeNeuron) {
    super();
    const hidden = Math.floor(dim * mlpRatio);
    this.neuron1 = neuron();
    this.conv1 = [new ConvNorm(dim, hidden)];
    this.neuron2 = neuron();
    this.conv2 = [new ConvNorm(hidden, dim)];
  }

  override recomputable(): Module[] {
    return [this];
  }

  /** Membranes [T, B, H, W, C] -> the same shape. */
  forward(x: Tensor, ...places: Places): Tensor {
    const hidden = this.conv1[0].forward(this.neuron1.forward(x), ...places);
    return add(this.conv2[0].forward(this.neuron2.forward(hidden), ...places), x);
  }
}

/** What attention products of the large family are multiplied by, whatever the width. */
const ATTENTION_SCALE = 0.125;

/** Spike-driven self-attention of the large family: q (k' v), linear in the number of tokens, no softmax. */
export class LargeAttention extends Module {
  head_lif: Module;
  q_conv: Sequential;
  q_lif: Module;
  k_conv: Sequential;
  k_lif: Module;
  v_conv: Sequential;
  v_lif: Module;
  attn_lif: Module;
  proj_conv: Sequential;
  private readonly heads: number;

  constructor(dim: number, count: number, neuron: MakeNeuron) {
    super();
    this.heads = count;
    const projection = () => new Sequential(new RepConv1d(dim, 1.5), new BatchNorm1d(dim));
    this.head_lif = neuron();
    this.q_conv = projection();
    this.q_lif = neuron();
    this.k_conv = projection();
    this.k_lif = neuron();
    this.v_conv = projection();
    this.v_lif = neuron();
    this.attn_lif = neuron();
    this.proj_conv = projection();
  }

  /** Membranes [T, B, N, C] -> the same shape. */
  forward(x: Tensor): Tensor {
    const s = this.head_lif.forward(x);
    const q = this.q_lif.forward(this.q_conv.forward(s));
    const k = this.k_lif.forward(this.k_conv.forward(s));
    const v = this.v_lif.forward(this.v_conv.forward(s));
    // Scaled once, at the end: ties between integers depend on it.
    const o = affine(linearAttention(q, k, v, this.heads), ATTENTION_SCALE);
    return this.proj_conv.forward(this.attn_lif.forward(o));
  }

  /** See `LargeEncoder.mergeRepConvs`. */
  mergeRepConvs(): void {
    for (const name of ["q_conv", "k_conv", "v_conv", "proj_conv"] as const) {
      const projection = this[name];
      const [rep, norm] = projection.modules as [Module, BatchNorm1d];
      if (!(rep instanceof RepConv1d)) continue;
      this[name] = new Sequential(mergeRepConv1d(rep, norm));
      projection.dispose();
    }
  }
}

export interface LargeBlockOptions {
  dim: number;
  heads: number;
  mlpRatio: number;
  neuron: MakeNeuron;
  /** "base" has a chain of two 1 x 1 convolutions in front of attention. */
  choice: LargeEncoderConfig["choice"];
  /** First value of a learnt scale for each channel of each branch; none in pre-training. */
  layerScale?: number | undefined;
  /** Probability with which a branch is left out, and the axis of the draws. */
  dropPath?: { rate: number; axis: number } | undefined;
}

/** Transformer block: attention and an MLP, each scaled and added to the membrane. */
export class LargeBlock extends Module {
  layer_scale1: Parameter | null;
  layer_scale2: Parameter | null;
  lif: Module | null;
  rep_conv: RepConv1d | Conv1d | null;
  attn: LargeAttention;
  mlp: MLP;
  drop_path: DropPath | null;

  constructor({ dim, heads, mlpRatio, neuron, choice, layerScale, dropPath }: LargeBlockOptions) {
    super();
    const scale = () => (layerScale === undefined ? null : new Parameter(full([dim], layerScale)));
    const chain = choice === "base";
    this.layer_scale1 = scale();
    this.layer_scale2 = scale();
    this.lif = chain ? neuron() : null;
    this.rep_conv = chain ? new RepConv1d(dim, 1) : null;
    this.attn = new LargeAttention(dim, heads, neuron);
    this.mlp = new MLP(dim, mlpRatio, neuron);
    this.drop_path = dropPath?.rate ? new DropPath(dropPath.rate, { axis: dropPath.axis }) : null;
  }

  override recomputable(): Module[] {
    return [this];
  }

  /** Membranes [T, B, N, C] -> the same shape. */
  forward(input: Tensor): Tensor {
    let x = this.lif && this.rep_conv ? add(this.rep_conv.forward(this.lif.forward(input)), input) : input;
    x = add(this.branch(this.attn.forward(x), this.layer_scale1), x);
    return add(this.branch(this.mlp.forward(x), this.layer_scale2), x);
  }

  /** See `LargeEncoder.mergeRepConvs`. */
  mergeRepConvs(): void {
    this.attn.mergeRepConvs();
    const rep = this.rep_conv;
    if (!(rep instanceof RepConv1d)) return;
    this.rep_conv = mergeRepConv1d(rep);
    rep.dispose();
  }

  private branch(x: Tensor, scale: Parameter | null): Tensor {
    const y = scale ? mul(x, scale) : x;
    return this.drop_path ? this.drop_path.forward(y) : y;
  }
}

/** The stages of the large network, in their order. */
export abstract class LargeEncoder extends Module {
  downsample1_1: LargeDownsampling;
  ConvBlock1_1: LargeConvBlock[];
  downsample1_2: LargeDownsampling;
  ConvBlock1_2: LargeConvBlock[];
  downsample2: LargeDownsampling;
  ConvBlock2_1: LargeConvBlock[];
  ConvBlock2_2: LargeConvBlock[];
  downsample3: LargeDownsampling;
  block3: LargeBlock[];

  constructor(
    { inChannels, embedDims: [e0, e1, e2], strides, depths, numHeads, mlpRatio, choice, levels }: LargeEncoderConfig,
    options: { layerScale?: number; dropPath?: { rate: number; axis: number } } = {},
  ) {
    super();
    const neuron = upNeuron(levels);
    const down = (cin: number, cout: number, stride: number) => new LargeDownsampling(cin, cout, { stride, neuron });
    const block = (dim: number) => [new LargeConvBlock(dim, mlpRatio, neuron)];
    this.downsample1_1 = new LargeDownsampling(inChannels, e0 / 2, { kernel: 7, stride: strides[0], padding: 3, neuron: null });
    this.ConvBlock1_1 = block(e0 / 2);
    this.downsample1_2 = down(e0 / 2, e0, strides[1]);
    this.ConvBlock1_2 = block(e0);
    this.downsample2 = down(e0, e1, strides[2]);
    this.ConvBlock2_1 = block(e1);
    this.ConvBlock2_2 = block(e1);
    this.downsample3 = down(e1, e2, strides[3]);
    const { layerScale, dropPath } = options;
    this.block3 = Array.from({ length: depths }, (_, i) => {
      // The rate rises from the first block to the last.
      const drop = dropPath && { ...dropPath, rate: depths > 1 ? (dropPath.rate * i) / (depths - 1) : 0 };
      return new LargeBlock({ dim: e2, heads: numHeads, mlpRatio, neuron, choice, layerScale, dropPath: drop });
    });
  }

  /**
   * For inference: every chain of 1 x 1 convolutions becomes one, so that no weight layer behind a neuron is given real numbers but the first
   * head, as published. Outputs are the same to rounding; keys of the state dict are no more the official ones. Not to be undone.
   */
  mergeRepConvs(): this {
    for (const block of this.block3) block.mergeRepConvs();
    return this;
  }

  /** [T, B, H, W, C] -> membranes of the tokens [T, B, N, C]. Of patches that are not seen the convolutional stages give zeros. */
  protected encode(input: Tensor, seen?: SeenPatches): Tensor {
    const stages: readonly (readonly (LargeDownsampling | LargeConvBlock)[])[] = [
      [this.downsample1_1, ...this.ConvBlock1_1],
      [this.downsample1_2, ...this.ConvBlock1_2],
      [this.downsample2, ...this.ConvBlock2_1, ...this.ConvBlock2_2],
      [this.downsample3],
    ];
    let [steps, , height, width] = input.shape as [number, number, number, number];
    let x = input;
    for (const stage of stages) {
      const [vertical, horizontal] = (stage[0] as LargeDownsampling).encode_conv.stride;
      [height, width] = [height / vertical, width / horizontal];
      const places: Places = seen ? seen.places(steps, height, width) : [];
      for (const part of stage) {
        const y = part.forward(x, ...places);
        if (x !== input) x.dispose();
        x = y;
      }
    }
    const [t, b, h, w, c] = x.shape as [number, number, number, number, number];
    return inTurn(this.block3, reshape(x, [t, b, h * w, c]));
  }
}

/** Images [B, H, W, C] at each of T steps, or frames as they are. */
export function steps(model: string, input: Tensor, { T, inChannels }: LargeEncoderConfig): Tensor {
  if ((input.rank !== 4 && input.rank !== 5) || input.shape[input.rank - 1] !== inChannels)
    wrong(model, "the input", `images [B, H, W, ${inChannels}] or frames [T, B, H, W, ${inChannels}]`, show(input.shape));
  return input.rank === 4 ? repeat(input, T) : input;
}

/** E-SpikeFormer of the large family. */
export class ESpikeFormerLarge extends LargeEncoder {
  lif: Module;
  head: Linear;
  head_kd: Linear | null;
  readonly config: LargeConfig;

  constructor(config: LargeConfig) {
    const { layerScale, dropPath, dropPathPer, levels, embedDims, numClasses, kd } = config;
    super(config, { layerScale, dropPath: { rate: dropPath, axis: dropPathPer === "step" ? 0 : 1 } });
    this.config = config;
    const classifier = () => {
      const layer = new Linear(embedDims[2], numClasses);
      xavierUniform_(layer.weight);
      zeros_(layer.bias as Parameter);
      return layer;
    };
    this.lif = upNeuron(levels)(1);
    this.head = classifier();
    this.head_kd = kd ? classifier() : null;
  }

  /**
   * Images [B, H, W, C] of any size (shown T times), or frames [T, B, H, W, C] -> logits [B, K], the mean over T. With a distillation head
   * the mean of both heads' logits, but in training [logits, logits of the distillation head].
   */
  forward(input: Tensor): Tensor | [Tensor, Tensor] {
    const pooled = mean(this.encode(steps("ESpikeFormerLarge", input, this.config)), -2);
    const spikes = this.lif.forward(pooled);
    const logits = mean(this.head.forward(this.config.spikeBeforeHead ? spikes : pooled), 0);
    if (!this.head_kd) return logits;
    const distilled = mean(this.head_kd.forward(spikes), 0);
    return this.training ? [logits, distilled] : affine(add(logits, distilled), 0.5);
  }
}
