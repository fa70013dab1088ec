/** Fixtures of Spike-driven Transformer V3 that are no whole networks: blocks, the energy table, event data. */
import { models, type nn } from "spikeloom";
import type { NdArray } from "../fixture.ts";
import { type BuiltBlock, blockChecks } from "./integer-networks.ts";

const { sdtV3 } = models;

const channelsLast = {
  toOurs: (array: NdArray) => models.fromOfficial(array, [0, 2, 3, 1]),
  toOfficial: (value: Parameters<typeof models.toOfficial>[0]) => models.toOfficial(value, [0, 3, 1, 2]),
};

/** The MLP of the block, on an image's positions. */
function mlp(module: models.sdtV3.MLP): BuiltBlock {
  let image: number[] = [];
  return {
    module,
    toOurs: (array) => {
      const x = channelsLast.toOurs(array);
      image = [...x.shape];
      const [b, h, w, c] = image as [number, number, number, number];
      return x.reshape([b, h * w, c]).detach();
    },
    toOfficial: (value) => channelsLast.toOfficial(value.reshape(image.with(-1, value.shape.at(-1) as number))),
  };
}

export const baseBlockChecks = blockChecks((name, shapes, fixture) => {
  const { D, num_heads: heads } = fixture.config as { D: number; num_heads: number };
  const neuron = sdtV3.evenNeuron(D);
  const built = (module: nn.Module): BuiltBlock => ({ module, ...channelsLast });
  const size = (key: string, axis: number) => shapes[key]?.[axis] as number;
  switch (name) {
    case "SepConv_Spike_k7":
      return built(new sdtV3.SepConv(size("pwconv1.0.weight", 1), 7, neuron));
    case "SepConv_Spike_k3":
      return built(new sdtV3.SepConv(size("pwconv1.0.weight", 1), 3, neuron));
    case "MS_ConvBlock_spike_SepConv":
      return built(new sdtV3.ConvBlock(size("conv1.weight", 1), 4, neuron));
    case "MS_DownSampling_first":
      return built(
        new sdtV3.Downsampling(size("encode_conv.weight", 1), size("encode_conv.weight", 0), { kernel: 7, padding: 3, neuron: null }),
      );
    case "MS_DownSampling":
      return built(new sdtV3.Downsampling(size("encode_conv.weight", 1), size("encode_conv.weight", 0), { neuron }));
    case "MS_MLP_base":
      return mlp(new sdtV3.MLP(size("fc1_conv.weight", 1), 4, neuron));
    case "MS_Attention_linear":
      return built(new sdtV3.Attention(size("q_conv.0.weight", 1), heads, neuron));
    case "MS_Block_Spike_SepConv":
      return built(new sdtV3.Block({ dim: size("attn.q_conv.0.weight", 1), heads, mlpRatio: 4, neuron }));
    default:
      throw new Error(`no block "${name}" is known`);
  }
});
