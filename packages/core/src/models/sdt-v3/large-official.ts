/** The large family and its masked auto-encoder in the official code's terms. */
import type { NdArray } from "../../formats/array.ts";
import { withForwardHook } from "../../nn/module.ts";
import { SpikeloomError } from "../../runtime/error.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { fromOfficial, type OfficialConfig, type OfficialKind, type OfficialRun, toOfficial } from "../official.ts";
import { ESpikeFormerLarge } from "./large.ts";
import {
  checkLarge,
  checkMae,
  type LargeConfig,
  type LargeEncoderConfig,
  largeConfigs,
  type MaeConfig,
  maeConfigs,
  patchOf,
} from "./large-configs.ts";
import { patchify, SpikeMaskedAutoencoder } from "./mae.ts";
import { kind, namedConfig, rejectUnknown, valueToOfficial } from "./official.ts";

const LARGE = largeConfigs["83m"];
const MAE = maeConfigs["mae-83m"];

/** The official constructors' names; the second of each pair is how its README and script spell it. */
const LARGE_NAMES: Readonly<Record<string, LargeConfig>> = {
  spikformer12_512: LARGE,
  spikformer_12_512: LARGE,
  spikformer12_768: largeConfigs["171m"],
  spikformer_12_768: largeConfigs["171m"],
};
const MAE_NAMES: Readonly<Record<string, MaeConfig>> = {
  spikmae_12_512: MAE,
  spikmae12_512: MAE,
  spikmae_12_768: maeConfigs["mae-173m"],
  spikmae12_768: maeConfigs["mae-173m"],
};

const ENCODER = ["named", "T", "choice", "embed_dim", "depths", "num_heads", "mlp_ratios", "in_channels", "D", "norm"];
/** Labels, and constants of the official code that are ours too. */
const IGNORED = ["family", "nb_classes", "attention_scale", "img_size_h", "img_size_w", "patch_size"];

/** What is set of the encoder, over the named or the default configuration. */
function encoderOf<C extends LargeEncoderConfig>(config: OfficialConfig, base: C): LargeEncoderConfig {
  const get = <T>(key: string, fallback: T): T => (config[key] === undefined ? fallback : (config[key] as T));
  const levels = get("D", base.levels);
  if (get("norm", levels) !== levels)
    throw new SpikeloomError(`sdt-v3 config: "norm" must be "D" = ${levels}, found ${JSON.stringify(config.norm)}`);
  return {
    T: get("T", base.T),
    choice: get("choice", base.choice),
    embedDims: get("embed_dim", base.embedDims),
    strides: base.strides,
    depths: get("depths", base.depths),
    numHeads: get("num_heads", base.numHeads),
    mlpRatio: get("mlp_ratios", base.mlpRatio),
    inChannels: get("in_channels", base.inChannels),
    levels,
    imageSize: base.imageSize,
  };
}

/** The official constructor's arguments -> our configuration. @throws SpikeloomError for an unknown or wrong argument. */
export function fromOfficialLarge(config: OfficialConfig): LargeConfig {
  rejectUnknown(config, [...ENCODER, "num_classes", "drop_path_rate", "kd"], IGNORED);
  const base = config.named === undefined ? LARGE : namedConfig(config.named, LARGE_NAMES);
  return checkLarge({
    ...base,
    ...encoderOf(config, base),
    numClasses: (config.num_classes as number | undefined) ?? base.numClasses,
    dropPath: (config.drop_path_rate as number | undefined) ?? base.dropPath,
    kd: (config.kd as boolean | undefined) ?? base.kd,
  });
}

/** As `fromOfficialLarge`, of the masked auto-encoder. */
export function fromOfficialMae(config: OfficialConfig): MaeConfig {
  rejectUnknown(config, [...ENCODER, "decoder_embed_dim", "decoder_depth", "decoder_num_heads", "mask_ratio"], IGNORED);
  const base = config.named === undefined ? MAE : namedConfig(config.named, MAE_NAMES);
  const get = (key: string, fallback: number) => (config[key] as number | undefined) ?? fallback;
  return checkMae({
    ...base,
    ...encoderOf(config, base),
    decoderDim: get("decoder_embed_dim", base.decoderDim),
    decoderDepth: get("decoder_depth", base.decoderDepth),
    decoderHeads: get("decoder_num_heads", base.decoderHeads),
    maskRatio: get("mask_ratio", base.maskRatio),
  });
}

/** Neurons have one name in all our families. */
const lif = (path: string) => path.replace(/(fc[12])_spike$/, "$1_lif");

export const largeKind: OfficialKind = kind({
  build: (config) => new ESpikeFormerLarge(fromOfficialLarge(config)),
  inputAxes: (rank) => (rank === 4 ? [0, 2, 3, 1] : rank === 5 ? [0, 1, 3, 4, 2] : []),
  inputShape: "images (B, C, H, W) or (T, B, C, H, W)",
  leading: 2,
  output: "logits",
  rename: (path) => lif(path).replace(/encode_spike$/, "encode_lif"),
});

/** Axes before the channels in the official order: the encoder is (T, B, C, ...), its norm (B, C, N), the decoder (B, N, C). */
const leadingOf = (path: string) => (path === "norm" ? 1 : 2);

/** Inputs: `x`, images (B, C, H, W), and `noise` (B, N), which says what is seen. */
export const maeKind: OfficialKind = {
  build: (config) => new SpikeMaskedAutoencoder(fromOfficialMae(config)),
  run(module, inputs, { taps = false } = {}): OfficialRun {
    const model = module as SpikeMaskedAutoencoder;
    const [x, noise] = [inputs.get("x"), inputs.get("noise")];
    if (x?.shape.length !== 4)
      throw new SpikeloomError(
        `sdt-v3: the auto-encoder needs an input "x", images (B, C, H, W), found ${x ? `${x.shape.length} axes` : "none"}`,
      );
    const images = fromOfficial(x, [0, 2, 3, 1]);
    const values = new Map<string, NdArray>();
    const names = new Map([...module.namedModules()].map(([name, m]) => [m, name]));
    const { loss, predicted, latent, seen, restore } = withForwardHook(
      (m, _inputs, value) => {
        const name = names.get(m);
        if (taps && name && value instanceof Tensor) values.set(lif(name), valueToOfficial(value, leadingOf(name), false));
      },
      () => model.reconstruct(images, noise && fromOfficial(noise, [0, 1])),
    );
    const patches = patchify(images, patchOf(model.config));
    return {
      tensors: new Map([
        ["loss", loss],
        ["pred", predicted],
      ]),
      inputs: new Map([["x", images]]),
      outputs: new Map(
        Object.entries({ loss, active: seen, ids_restore: restore, latent, pred: predicted, patchified_input: patches }).map(
          ([name, t]) => [name, toOfficial(t)],
        ),
      ),
      taps: values,
      inputToOfficial: (_name, value) => toOfficial(value, [0, 3, 1, 2]),
    };
  },
};
