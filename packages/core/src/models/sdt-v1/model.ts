/**
 * Spike-driven Transformer V1 (Yao et al. 2023, "Spike-driven Transformer", arXiv 2307.01694; repository
 * BICLab/Spike-Driven-Transformer).
 *
 * Every weight layer but the first convolution sees only binary spikes; attention is AND and OR (SDSA); all shortcuts join
 * membranes. Tensors are [T, B, H, W, C]. Field names are the official state-dict keys; fields that the official code
 * keeps but never calls (attn_lif, talking_heads, rpe_lif) are here for their keys.
 */
import { inTurn } from "../../nn/containers.ts";
import { Conv1d, Conv2d, type ConvOptions } from "../../nn/conv.ts";
import { constant_, truncNormal_ } from "../../nn/init.ts";
import { Linear } from "../../nn/linear.ts";
import { Module, tap } from "../../nn/module.ts";
import { BatchNorm2d } from "../../nn/norm.ts";
import { LIF, PLIF } from "../../spiking/neurons.ts";
import { sigmoid } from "../../spiking/surrogate.ts";
import { add } from "../../tensor/ops/elementwise.ts";
import { permute, repeat, reshape } from "../../tensor/ops/layout.ts";
import { maxPool2d } from "../../tensor/ops/pool.ts";
import { mean } from "../../tensor/ops/reduce.ts";
import { and, andRows, countRows } from "../../tensor/ops/spikes.ts";
import { show, wrong } from "../../tensor/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { SDTConfig } from "./configs.ts";

type Mode = SDTConfig["spikeMode"];

/** tau 2, decay on the input, hard reset to 0, detached, surrogate sigmoid alpha 4: the official neuron everywhere. */
function neuron(mode: Mode, vThreshold = 1): LIF | PLIF {
  const common = { vThreshold, vReset: 0, detachReset: true, decayInput: true, surrogate: sigmoid({ alpha: 4 }) };
  return mode === "plif" ? new PLIF({ initTau: 2, ...common }) : new LIF({ tau: 2, ...common });
}

/** Convolutions start at a truncated normal of std 0.02 (cut at +-2) and zero bias. */
function conv(cin: number, cout: number, kernel: number, options: ConvOptions = {}): Conv2d {
  const layer = new Conv2d(cin, cout, kernel, options);
  truncNormal_(layer.weight, { std: 0.02, a: -2, b: 2 });
  if (layer.bias) constant_(layer.bias, 0);
  return layer;
}

const conv3x3 = (cin: number, cout: number) => conv(cin, cout, 3, { padding: 1, bias: false });
const pool2x = (x: Tensor) => maxPool2d(x, 3, { stride: 2, padding: 1 });

/** SPS: four convolutions that turn the image into membranes at a lower resolution, and a relative position embedding. */
export class PatchSplitting extends Module {
  proj_conv: Conv2d;
  proj_bn: BatchNorm2d;
  proj_lif: Module;
  proj_conv1: Conv2d;
  proj_bn1: BatchNorm2d;
  proj_lif1: Module;
  proj_conv2: Conv2d;
  proj_bn2: BatchNorm2d;
  proj_lif2: Module;
  proj_conv3: Conv2d;
  proj_bn3: BatchNorm2d;
  proj_lif3: Module;
  rpe_conv: Conv2d;
  rpe_bn: BatchNorm2d;
  rpe_lif: Module;
  private readonly pooling: readonly boolean[];

  constructor({ inChannels, embedDims: d, pooling, spikeMode }: Pick<SDTConfig, "inChannels" | "embedDims" | "pooling" | "spikeMode">) {
    super();
    this.pooling = [...pooling].map((c) => c === "1");
    this.proj_conv = conv3x3(inChannels, d / 8);
    this.proj_bn = new BatchNorm2d(d / 8);
    this.proj_lif = neuron(spikeMode);
    this.proj_conv1 = conv3x3(d / 8, d / 4);
    this.proj_bn1 = new BatchNorm2d(d / 4);
    this.proj_lif1 = neuron(spikeMode);
    this.proj_conv2 = conv3x3(d / 4, d / 2);
    this.proj_bn2 = new BatchNorm2d(d / 2);
    this.proj_lif2 = neuron(spikeMode);
    this.proj_conv3 = conv3x3(d / 2, d);
    this.proj_bn3 = new BatchNorm2d(d);
    this.proj_lif3 = neuron(spikeMode);
    this.rpe_conv = conv3x3(d, d);
    this.rpe_bn = new BatchNorm2d(d);
    this.rpe_lif = neuron(spikeMode);
  }

  override recomputable(): Module[] {
    return [this];
  }

  /** x [T, B, H, W, Cin] -> membranes [T, B, H', W', D]. */
  forward(x: Tensor): Tensor {
    let h = this.stage(0, this.proj_conv, this.proj_bn, this.proj_lif, x);
    h = this.stage(1, this.proj_conv1, this.proj_bn1, this.proj_lif1, h);
    h = this.stage(2, this.proj_conv2, this.proj_bn2, this.proj_lif2, h);
    // The last stage pools the membrane, before its neuron, and keeps it as the shortcut.
    let u = this.proj_bn3.forward(this.proj_conv3.forward(h));
    if (this.pooling[3]) u = pool2x(u);
    const s = this.proj_lif3.forward(u);
    tap("MS_SPS_lif3", s);
    return add(this.rpe_bn.forward(this.rpe_conv.forward(s)), u);
  }

  private stage(i: number, conv: Conv2d, bn: BatchNorm2d, lif: Module, x: Tensor): Tensor {
    const s = lif.forward(bn.forward(conv.forward(x)));
    tap(`MS_SPS_lif${i || ""}`, s);
    return this.pooling[i] ? pool2x(s) : s;
  }
}

/**
 * Spike-driven self-attention: o = q AND SN(sum over tokens of (k AND v)); linear in the number of tokens, no product.
 * `dvs` adds the official 3 x 3 max pools over (H, W) of k and v and over the (token, channel-in-head) plane of k*v and o.
 */
export class SpikeDrivenSelfAttention extends Module {
  q_conv: Conv2d;
  q_bn: BatchNorm2d;
  q_lif: Module;
  k_conv: Conv2d;
  k_bn: BatchNorm2d;
  k_lif: Module;
  v_conv: Conv2d;
  v_bn: BatchNorm2d;
  v_lif: Module;
  attn_lif: Module;
  talking_heads: Conv1d;
  talking_heads_lif: Module;
  proj_conv: Conv2d;
  proj_bn: BatchNorm2d;
  shortcut_lif: Module;
  private readonly heads: number;
  private readonly dvs: boolean;
  private readonly name: string;

  constructor({ dim, heads, dvs, spikeMode, layer }: { dim: number; heads: number; dvs: boolean; spikeMode: Mode; layer: number }) {
    super();
    this.heads = heads;
    this.dvs = dvs;
    this.name = `MS_SSA_Conv${layer}`;
    const conv1x1 = () => conv(dim, dim, 1, { bias: false });
    this.q_conv = conv1x1();
    this.q_bn = new BatchNorm2d(dim);
    this.q_lif = neuron(spikeMode);
    this.k_conv = conv1x1();
    this.k_bn = new BatchNorm2d(dim);
    this.k_lif = neuron(spikeMode);
    this.v_conv = conv1x1();
    this.v_bn = new BatchNorm2d(dim);
    this.v_lif = neuron(spikeMode);
    this.attn_lif = neuron(spikeMode, 0.5);
    this.talking_heads = new Conv1d(heads, heads, 1, { bias: false });
    this.talking_heads_lif = neuron(spikeMode, 0.5);
    this.proj_conv = conv(dim, dim, 1);
    this.proj_bn = new BatchNorm2d(dim);
    this.shortcut_lif = neuron(spikeMode);
  }

  /** Membranes x [T, B, H, W, D] -> x + branch, of the same shape. */
  forward(x: Tensor): Tensor {
    const [t, b, height, width, d] = x.shape as [number, number, number, number, number];
    const tokens = [t, b, height * width, d];
    const s = this.shortcut_lif.forward(x);
    tap(`${this.name}_first_lif`, s);
    const q = this.q_lif.forward(this.q_bn.forward(this.q_conv.forward(s)));
    let k = this.k_lif.forward(this.k_bn.forward(this.k_conv.forward(s)));
    let v = this.v_lif.forward(this.v_bn.forward(this.v_conv.forward(s)));
    if (this.dvs) {
      k = dilate(k);
      v = dilate(v);
    }
    tap(`${this.name}_q_lif`, q);
    tap(`${this.name}_k_lif`, k);
    tap(`${this.name}_v_lif`, v);

    let kv = and(reshape(k, tokens), reshape(v, tokens));
    tap(`${this.name}_kv_before`, kv);
    if (this.dvs) kv = this.dilateTokenPlane(kv);
    const mask = this.talking_heads_lif.forward(countRows(kv));
    tap(`${this.name}_kv`, mask);
    let o = andRows(reshape(q, tokens), mask);
    if (this.dvs) o = this.dilateTokenPlane(o);
    tap(`${this.name}_x_after_qkv`, o);
    return add(this.proj_bn.forward(this.proj_conv.forward(reshape(o, x.shape))), x);
  }

  /** 3 x 3 max pool over the plane of token index and channel-in-head, for each head: [T, B, N, D] -> the same. */
  private dilateTokenPlane(x: Tensor): Tensor {
    const [t, b, n, d] = x.shape as [number, number, number, number];
    const h = this.heads;
    const planes = permute(reshape(x, [t * b, n, h, d / h]), [0, 2, 1, 3]);
    const pooled = dilate(reshape(planes, [t * b * h, n, d / h, 1]));
    return reshape(permute(reshape(pooled, [t * b, h, n, d / h]), [0, 2, 1, 3]), x.shape);
  }
}

/** The official "Erode": a 3 x 3 max pool of stride 1 (on spikes it dilates). */
function dilate(x: Tensor): Tensor {
  return maxPool2d(x, 3, { stride: 1, padding: 1 });
}

/** Two 1 x 1 convolutions, each behind a neuron. When hidden = dim the first has a shortcut of its own. */
export class SpikingMLP extends Module {
  fc1_conv: Conv2d;
  fc1_bn: BatchNorm2d;
  fc1_lif: Module;
  fc2_conv: Conv2d;
  fc2_bn: BatchNorm2d;
  fc2_lif: Module;
  private readonly residual: boolean;
  private readonly name: string;

  constructor({ dim, hidden, spikeMode, layer }: { dim: number; hidden: number; spikeMode: Mode; layer: number }) {
    super();
    this.residual = hidden === dim;
    this.name = `MS_MLP_Conv${layer}`;
    // The largest output of a block, and by far the cheapest to make again.
    this.fc1_conv = conv(dim, hidden, 1, { keepOutput: false });
    this.fc1_bn = new BatchNorm2d(hidden);
    this.fc1_lif = neuron(spikeMode);
    this.fc2_conv = conv(hidden, dim, 1);
    this.fc2_bn = new BatchNorm2d(dim);
    this.fc2_lif = neuron(spikeMode);
  }

  /** Membranes [T, B, H, W, D] -> the same shape. */
  forward(x: Tensor): Tensor {
    const s1 = this.fc1_lif.forward(x);
    tap(`${this.name}_fc1_lif`, s1);
    let y = this.fc1_bn.forward(this.fc1_conv.forward(s1));
    if (this.residual) y = add(y, x);
    const s2 = this.fc2_lif.forward(y);
    tap(`${this.name}_fc2_lif`, s2);
    return add(this.fc2_bn.forward(this.fc2_conv.forward(s2)), this.residual ? y : x);
  }
}

export class Block extends Module {
  attn: SpikeDrivenSelfAttention;
  mlp: SpikingMLP;

  constructor({
    dim,
    heads,
    mlpRatio,
    dvs,
    spikeMode,
    layer,
  }: { dim: number; heads: number; mlpRatio: number; dvs: boolean; spikeMode: Mode; layer: number }) {
    super();
    this.attn = new SpikeDrivenSelfAttention({ dim, heads, dvs, spikeMode, layer });
    this.mlp = new SpikingMLP({ dim, hidden: Math.floor(dim * mlpRatio), spikeMode, layer });
  }

  override recomputable(): Module[] {
    return [this];
  }

  forward(x: Tensor): Tensor {
    return this.mlp.forward(this.attn.forward(x));
  }
}

export class SpikeDrivenTransformer extends Module {
  patch_embed: PatchSplitting;
  block: Block[];
  head_lif: Module;
  head: Linear;
  readonly config: SDTConfig;

  constructor(config: SDTConfig) {
    super();
    this.config = config;
    const { embedDims: dim, numHeads: heads, mlpRatio, dvsMode: dvs, spikeMode } = config;
    this.patch_embed = new PatchSplitting(config);
    this.block = Array.from({ length: config.depths }, (_, layer) => new Block({ dim, heads, mlpRatio, dvs, spikeMode, layer }));
    this.head_lif = neuron(spikeMode);
    this.head = new Linear(dim, config.numClasses);
  }

  /**
   * Images [B, H, W, C] (shown T times) or event frames [T, B, H, W, C] -> logits [B, K], the mean over T; with TET the
   * logits of every step [T, B, K].
   */
  forward(input: Tensor): Tensor {
    const { T, inChannels, tet } = this.config;
    if ((input.rank !== 4 && input.rank !== 5) || input.shape[input.rank - 1] !== inChannels)
      wrong(
        "SpikeDrivenTransformer",
        "the input",
        `images [B, H, W, ${inChannels}] or event frames [T, B, H, W, ${inChannels}]`,
        show(input.shape),
      );
    const x = inTurn([this.patch_embed, ...this.block], input.rank === 4 ? repeat(input, T) : input);
    const pooled = mean(x, [2, 3]);
    const s = this.head_lif.forward(pooled);
    tap("head_lif", s);
    const logits = this.head.forward(s);
    return tet ? logits : mean(logits, 0);
  }
}
