/** Spike-driven Transformer V2 in the official code's terms: configuration names, axis orders and intermediate values. */
import { type NdArray, permute } from "../../formats/array.ts";
import { type Module, withForwardHook } from "../../nn/module.ts";
import { nearest, SpikeloomError } from "../../runtime/error.ts";
import { LIF } from "../../spiking/neurons.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { fromOfficial, type OfficialConfig, type OfficialKind, reshaped, toOfficial } from "../official.ts";
import { checkConfig, type SDTV2Config } from "./configs.ts";
import { Block, ConvBlock, DownSampling, MetaSpikeFormer, SepConv, SpikeDrivenSelfAttention3, SpikingMLP } from "./model.ts";
import { BNAndPad, RepConv } from "./rep-conv.ts";

/** Names that the official constructor takes and ignores, that are fixed in its code, or that only label a configuration. */
const WITHOUT_EFFECT = [
  ...["name", "drop_rate", "attn_drop_rate", "drop_path_rate", "qk_scale", "qkv_bias", "sr_ratios"],
  ...["norm_layer", "img_size_h", "img_size_w", "patch_size", "mlp_ratios", "depths"],
];

/** What says of a part's input how large it is, and what the official class is called: no setting of the part. */
const OF_THE_INPUT = ["module", "T", "B", "H", "W"];

function rejectUnknown(config: OfficialConfig, known: readonly string[], others: readonly string[]): void {
  for (const key of Object.keys(config)) {
    if (known.includes(key) || others.includes(key)) continue;
    const near = nearest(key, known);
    throw new SpikeloomError(`sdt-v2 config: unknown key "${key}"${near ? `, did you mean "${near}"?` : ""} (it has ${known.join(", ")})`);
  }
}

/** The official constructor's arguments -> our configuration. @throws SpikeloomError for an unknown or wrong argument. */
export function fromOfficialConfig(config: OfficialConfig): SDTV2Config {
  rejectUnknown(config, ["T", "in_channels", "num_classes", "embed_dim", "num_heads", "kd"], WITHOUT_EFFECT);
  const get = <T>(key: string, fallback: T): T => (config[key] === undefined ? fallback : (config[key] as T));
  return checkConfig({
    T: get("T", 1),
    inChannels: get("in_channels", 3),
    numClasses: get("num_classes", 1000),
    embedDims: get("embed_dim", [64, 128, 256, 360]),
    numHeads: get("num_heads", 8),
    depths: [6, 2],
    kd: get("kd", false),
    imageSize: [224, 224],
  });
}

const TBCHW = [0, 1, 4, 2, 3];

/** The official code calls everything else on (T*B, ...). */
const WITH_TIME = [LIF, DownSampling, SepConv, ConvBlock, SpikeDrivenSelfAttention3, SpikingMLP, Block];

/** An intermediate value in the official order: (T, B, C, H, W), (T, B, C, N), or with the first two axes joined. */
function tapToOfficial(module: Module, value: Tensor): NdArray {
  if (value.rank < 4) return toOfficial(value);
  const array = toOfficial(value, value.rank === 5 ? TBCHW : [0, 1, 3, 2]);
  if (WITH_TIME.some((part) => module instanceof part)) return array;
  return reshaped(array, [(array.shape[0] as number) * (array.shape[1] as number), ...array.shape.slice(2)]);
}

interface KindSpec {
  build(config: OfficialConfig): Module;
  /** Names of the outputs. */
  outputs: readonly string[];
  /** Official axis order -> ours, for an input of that rank; none: no such input. */
  inputAxes(rank: number): readonly number[];
}

function kind({ build, outputs: names, inputAxes }: KindSpec): OfficialKind {
  return {
    build,
    run(module, inputs, { taps = false, requiresGrad = false } = {}) {
      const x = inputs.get("x");
      if (!x) throw new SpikeloomError(`sdt-v2: the input must be named "x", found ${[...inputs.keys()].join(", ") || "none"}`);
      const axes = inputAxes(x.shape.length);
      if (!axes.length) throw new SpikeloomError(`sdt-v2: the input "x" has ${x.shape.length} axes, (${x.shape.join(", ")})`);
      const input = fromOfficial(x, axes);
      input.requiresGrad = requiresGrad;
      const values = new Map<string, NdArray>();
      const paths = new Map([...module.namedModules()].map(([path, m]) => [m, path]));
      const given = withForwardHook(
        (m, _inputs, output) => {
          const path = paths.get(m);
          if (taps && path) values.set(path, tapToOfficial(m, output as Tensor));
        },
        () => module.forward(input) as Tensor | Tensor[],
      );
      const tensors = new Map([given].flat().map((y, i) => [names[i] as string, y]));
      const official = (y: Tensor) => toOfficial(y, y.rank === 5 ? TBCHW : y.rank === 4 ? [0, 3, 1, 2] : undefined);
      return {
        tensors,
        inputs: new Map([["x", input]]),
        outputs: new Map([...tensors].map(([name, y]) => [name, official(y)])),
        taps: values,
        inputToOfficial: (_name, value) =>
          permute(
            toOfficial(value),
            axes.map((_, i) => axes.indexOf(i)),
          ),
      };
    },
  };
}

/** A part of the network: images (N, C, H, W) or (T, B, C, H, W), by its own sizes. */
function part(keys: readonly string[], make: (sizes: Record<string, number>, config: OfficialConfig) => Module, others: string[] = []) {
  return kind({
    build(config) {
      rejectUnknown(config, keys, [...OF_THE_INPUT, ...others]);
      const sizes: Record<string, number> = {};
      for (const key of keys) {
        const value = config[key];
        if (!Number.isInteger(value) || (value as number) < 1)
          throw new SpikeloomError(
            `sdt-v2 config: "${key}" must be a positive integer, found ${value === undefined ? "none" : JSON.stringify(value)}`,
          );
        sizes[key] = value as number;
      }
      return make(sizes, config);
    },
    outputs: ["y"],
    inputAxes: (rank) => (rank === 5 ? [0, 1, 3, 4, 2] : rank === 4 ? [0, 2, 3, 1] : []),
  });
}

type Sizes = Record<"dim" | "heads" | "in" | "out" | "hidden" | "features" | "k" | "s" | "p", number>;

const headed = (make: (dim: number, heads: number) => Module) =>
  part(["dim", "heads"], (sizes) => {
    const { dim, heads } = sizes as Sizes;
    if (dim % heads) throw new SpikeloomError(`sdt-v2 config: "heads" must be a divisor of "dim" ${dim}, found ${heads}`);
    return make(dim, heads);
  });

const repConv = part(["in", "out"], (sizes) => {
  const { in: channels, out } = sizes as Sizes;
  if (channels !== out) throw new SpikeloomError(`sdt-v2 config: "out" must be "in" (${channels}) of a RepConv, found ${out}`);
  return new RepConv(channels);
});

const downSampling = part(
  ["k", "s", "p", "in", "out"],
  (sizes, { first_layer: first = false }) => {
    const { k: kernel, s: stride, p, in: cin, out: cout } = sizes as Sizes;
    if (p !== kernel >> 1) throw new SpikeloomError(`sdt-v2 config: "p" must be half of "k" (${kernel >> 1}), found ${p}`);
    if (typeof first !== "boolean")
      throw new SpikeloomError(`sdt-v2 config: "first_layer" must be true or false, found ${JSON.stringify(first)}`);
    return new DownSampling({ cin, cout, kernel, stride, first });
  },
  ["first_layer"],
);

/** Kinds by the fixtures' names. */
export const officialKinds: Readonly<Record<string, OfficialKind>> = {
  model: kind({
    build: (config) => new MetaSpikeFormer(fromOfficialConfig(config)),
    outputs: ["logits", "logits_kd"],
    // Event frames, which the official code does not take, come as its predecessor's: (B, T, C, H, W).
    inputAxes: (rank) => (rank === 4 ? [0, 2, 3, 1] : rank === 5 ? [1, 0, 3, 4, 2] : []),
  }),
  unit_repconv_eval: repConv,
  unit_repconv_train: repConv,
  unit_bnpad_train: part(["features"], (sizes) => new BNAndPad((sizes as Sizes).features), ["pad"]),
  unit_sepconv: part(["dim"], (sizes) => new SepConv((sizes as Sizes).dim)),
  unit_convblock: part(["dim"], (sizes) => new ConvBlock((sizes as Sizes).dim)),
  unit_downsampling: downSampling,
  unit_downsampling_first: downSampling,
  unit_mlp: part(["in", "hidden"], (sizes) => new SpikingMLP((sizes as Sizes).in, (sizes as Sizes).hidden)),
  unit_attention: headed((dim, heads) => new SpikeDrivenSelfAttention3(dim, heads)),
  unit_block: headed((dim, heads) => new Block(dim, heads)),
};
