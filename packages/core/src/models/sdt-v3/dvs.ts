/**
 * Spike-driven Transformer V3 for event frames (official folder DVS/Hardvs): the base network with three layer scales in each block and
 * integrating neurons. Frames meet only in the statistics of batch norm and in the mean of the logits, unless `state` is "frames".
 */
import { mean } from "../../tensor/ops/reduce.ts";
import { show, wrong } from "../../tensor/shape.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { DVSConfig } from "./configs.ts";
import { Stages } from "./model.ts";
import { integratingNeuron } from "./neuron.ts";

/** E-SpikeFormer for recordings. With `state: "calls"` call `snn.reset` between batches. */
export class ESpikeFormerDVS extends Stages {
  readonly config: DVSConfig;

  constructor(config: DVSConfig) {
    super(config, integratingNeuron(config.levels, config.norm, config.state), 1e-6);
    this.config = config;
  }

  /** Event frames [T, B, H, W, C] -> logits [B, K], the mean over T. */
  override forward(input: Tensor): Tensor {
    const { inChannels } = this.config;
    if (input.rank !== 5 || input.shape[4] !== inChannels)
      wrong("ESpikeFormerDVS", "the input", `event frames [T, B, H, W, ${inChannels}]`, show(input.shape));
    return mean(super.forward(input), 0);
  }
}
