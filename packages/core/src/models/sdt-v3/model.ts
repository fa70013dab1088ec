/**
 * Spike-driven Transformer V3, base family (Yao et al. 2025, "Scaling Spike-driven Transformer with Efficient Spike Firing Approximation
 * Training", T-PAMI, arXiv 2411.16061; repository BICLab/Spike-Driven-Transformer-V3): E-SpikeFormer.
 *
 * One time step with integers of 0..D between the layers; the same weights run on D binary steps. Every weight layer but the first
 * convolution receives integers; all shortcuts join membranes. Tensors are [B, H, W, C]. Field names are the official state-dict keys.
 */
import { inTurn } from "../../nn/containers.ts";
import { truncNormal_, zeros_ } from "../../nn/init.ts";
import { Linear } from "../../nn/linear.ts";
import { Module, type Parameter } from "../../nn/module.ts";
import { mean } from "../../tensor/ops/reduce.ts";
import { show, wrong } from "../../tensor/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { Block, ConvBlock, Downsampling } from "./blocks.ts";
import type { BaseConfig, DVSConfig } from "./configs.ts";
import { evenNeuron, type MakeNeuron } from "./neuron.ts";

/** The layers of the base network, in their order; the DVS network is made of them too. */
export class Stages extends Module {
  downsample1_1: Downsampling;
  ConvBlock1_1: ConvBlock[];
  downsample1_2: Downsampling;
  ConvBlock1_2: ConvBlock[];
  downsample2: Downsampling;
  ConvBlock2_1: ConvBlock[];
  ConvBlock2_2: ConvBlock[];
  downsample3: Downsampling;
  block3: Block[];
  downsample4: Downsampling;
  block4: Block[];
  spike: Module;
  head: Linear;

  constructor(config: BaseConfig | DVSConfig, neuron: MakeNeuron, layerScale?: number) {
    super();
    const { inChannels, embedDims: dims, blocks, numHeads: heads, mlpRatio, numClasses } = config;
    const [e0, e1, e2, e3] = dims;
    const convBlock = (dim: number) => [new ConvBlock(dim, mlpRatio, neuron)];
    const stage = (count: number, dim: number) =>
      Array.from({ length: count }, () => new Block({ dim, heads, mlpRatio, neuron, layerScale }));
    this.downsample1_1 = new Downsampling(inChannels, e0 / 2, { kernel: 7, padding: 3, neuron: null });
    this.ConvBlock1_1 = convBlock(e0 / 2);
    this.downsample1_2 = new Downsampling(e0 / 2, e0, { neuron });
    this.ConvBlock1_2 = convBlock(e0);
    this.downsample2 = new Downsampling(e0, e1, { neuron });
    this.ConvBlock2_1 = convBlock(e1);
    this.ConvBlock2_2 = convBlock(e1);
    this.downsample3 = new Downsampling(e1, e2, { neuron });
    this.block3 = stage(blocks[0], e2);
    this.downsample4 = new Downsampling(e2, e3, { stride: 1, neuron });
    this.block4 = stage(blocks[1], e3);
    this.spike = neuron(1);
    this.head = new Linear(e3, numClasses);
  }

  /** [..., B, H, W, C] -> logits [..., B, K]. */
  forward(input: Tensor): Tensor {
    const x = inTurn(
      [
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
      ],
      input,
    );
    return this.head.forward(this.spike.forward(mean(x, [-3, -2])));
  }
}

/** E-SpikeFormer of the base family. */
export class ESpikeFormer extends Stages {
  readonly config: BaseConfig;

  constructor(config: BaseConfig) {
    super(config, evenNeuron(config.levels));
    this.config = config;
    truncNormal_(this.head.weight, { std: 0.02, a: -2, b: 2 });
    zeros_(this.head.bias as Parameter);
  }

  /** Images [B, H, W, C] of any size -> logits [B, K]. */
  override forward(input: Tensor): Tensor {
    const { inChannels } = this.config;
    if (input.rank !== 4 || input.shape[3] !== inChannels)
      wrong("ESpikeFormer", "the input", `images [B, H, W, ${inChannels}]`, show(input.shape));
    return super.forward(input);
  }
}
