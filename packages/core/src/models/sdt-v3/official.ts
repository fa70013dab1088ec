/** Spike-driven Transformer V3 in the official code's terms: configuration names, axis orders and taps. */
import type { NdArray } from "../../formats/array.ts";
import { ndArray, permute, toFloat64 } from "../../formats/array.ts";
import { type Module, withForwardHook } from "../../nn/module.ts";
import { nearest, SpikeloomError } from "../../runtime/error.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { fromOfficial, type OfficialConfig, type OfficialKind, type OfficialRun, toOfficial } from "../official.ts";
import { type BaseConfig, checkConfig, configs, type DVSConfig } from "./configs.ts";
import { ESpikeFormerDVS } from "./dvs.ts";
import { ESpikeFormer } from "./model.ts";

/** Arguments that the official constructors take and ignore, or that only label a configuration. */
const WITHOUT_EFFECT = ["family", "sr_ratios", "drop_path_rate", "img_size_h", "img_size_w", "T", "blocks3", "blocks4"];

/** @throws SpikeloomError naming a key that is not among `known`, with the nearest that is */
export function rejectUnknown(config: OfficialConfig, known: readonly string[], others: readonly string[] = WITHOUT_EFFECT): void {
  for (const key of Object.keys(config)) {
    if (known.includes(key) || others.includes(key)) continue;
    const near = nearest(key, known);
    throw new SpikeloomError(`sdt-v3 config: unknown key "${key}"${near ? `, did you mean "${near}"?` : ""} (it has ${known.join(", ")})`);
  }
}

/** A named constructor's configuration. @throws SpikeloomError with the nearest name */
export function namedConfig<C>(name: unknown, names: Readonly<Record<string, C>>): C {
  if (typeof name === "string" && Object.hasOwn(names, name)) return names[name] as C;
  const near = nearest(String(name), Object.keys(names));
  throw new SpikeloomError(
    `sdt-v3 config: "named" must be one of ${Object.keys(names).join(", ")}, found ${JSON.stringify(name)}${near ? `; did you mean "${near}"?` : ""}`,
  );
}

/** The official constructors' names. */
const BASE_NAMES = Object.fromEntries(
  Object.entries({ t: "tiny", s: "5m", m: "10m", l: "19m" }).map(([size, name]) => [
    `Efficient_Spiking_Transformer_${size}`,
    configs[name] as BaseConfig,
  ]),
);
const DVS_NAMES = Object.fromEntries(
  Object.entries({ "8_19M": "dvs-19m", "2_8M_gesture": "dvs-gesture", "8_30M": "dvs-30m", "8_50M": "dvs-50m" }).map(([size, name]) => [
    `Efficient_Spiking_Transformer_scaling_${size}`,
    configs[name] as DVSConfig,
  ]),
);

const KNOWN = ["named", "in_channels", "num_classes", "embed_dim", "num_heads", "mlp_ratios", "depths", "D", "norm", "D_Norm", "D_clip"];

/** The official constructor's arguments -> our configuration. @throws SpikeloomError for an unknown or wrong argument. */
export function fromOfficialConfig(config: OfficialConfig): BaseConfig {
  rejectUnknown(config, KNOWN);
  if (config.named !== undefined) return checkConfig(namedConfig(config.named, BASE_NAMES));
  const get = <T>(key: string, fallback: T): T => (config[key] === undefined ? fallback : (config[key] as T));
  const levels = get("D", 4);
  if (get("norm", levels) !== levels)
    throw new SpikeloomError(`sdt-v3 config: "norm" must be "D" = ${levels}, found ${JSON.stringify(config.norm)}`);
  const official = configs["19m"] as BaseConfig;
  return checkConfig({
    ...official,
    inChannels: get("in_channels", 3),
    numClasses: get("num_classes", 1000),
    embedDims: get("embed_dim", official.embedDims),
    numHeads: get("num_heads", 8),
    mlpRatio: get("mlp_ratios", 4),
    levels,
  });
}

/** As `fromOfficialConfig`, of the DVS network, whose membranes go on until they are reset. */
export function fromOfficialDVS(config: OfficialConfig): DVSConfig {
  rejectUnknown(config, KNOWN);
  if (config.named !== undefined) return checkConfig({ ...namedConfig(config.named, DVS_NAMES), state: "calls" });
  const get = <T>(key: string, fallback: T): T => (config[key] === undefined ? fallback : (config[key] as T));
  const official = configs["dvs-19m"] as DVSConfig;
  const depths = get("depths", 8);
  return checkConfig({
    ...official,
    inChannels: get("in_channels", 2),
    numClasses: get("num_classes", 1000),
    embedDims: get("embed_dim", official.embedDims),
    blocks: [Math.floor(0.75 * depths), Math.floor(0.25 * depths)],
    numHeads: get("num_heads", 8),
    mlpRatio: get("mlp_ratios", 4),
    levels: get("D_clip", 4),
    norm: get("D_Norm", 4),
    state: "calls",
  });
}

export interface KindSpec {
  build(config: OfficialConfig): Module;
  /** Official axis order -> ours, for an input of that rank; none where the rank is wrong. */
  inputAxes(rank: number): readonly number[];
  /** What the shape of an input must be, in words. */
  inputShape: string;
  /** Axes before the channels, in the official order of every value inside. */
  leading: number;
  /** The main output, whose channels stand like those of the values inside where it has positions; `NAME_kd` of a distillation head. */
  output: string;
  /** Do taps of neurons hold the integers rather than what they are divided to? */
  integers?: boolean;
  /** The official name of a module, from its path here. */
  rename?(path: string): string;
}

/** A value inside the network in the official order: channels after `leading` axes. */
export function valueToOfficial(value: Tensor, leading: number, integers: boolean): NdArray {
  const last = value.rank - 1;
  const axes = value.shape.map((_, i) => (i < leading ? i : i === leading ? last : i - 1));
  const array = toOfficial(value, last > leading ? axes : undefined);
  if (!integers || !value.spikes) return array;
  const { scale } = value.spikes;
  return ndArray(
    "f64",
    array.shape,
    toFloat64(array).map((v) => Math.round(v / scale)),
  );
}

/** A kind of module whose taps are the outputs of its parts. */
export function kind({ build, inputAxes, inputShape, leading, output, integers = false, rename = (path) => path }: KindSpec): OfficialKind {
  return {
    build,
    run(module, inputs, { taps = false, requiresGrad = false } = {}): OfficialRun {
      const x = inputs.get("x");
      if (!x) throw new SpikeloomError(`sdt-v3: the input must be named "x", found ${[...inputs.keys()].join(", ") || "none"}`);
      const axes = inputAxes(x.shape.length);
      if (!axes.length) throw new SpikeloomError(`sdt-v3: the input "x" must be ${inputShape}, found ${x.shape.length} axes`);
      const input = fromOfficial(x, axes);
      input.requiresGrad = requiresGrad;
      const values = new Map<string, NdArray>();
      const names = new Map([...module.namedModules()].map(([name, m]) => [m, name]));
      const y = withForwardHook(
        (m, _inputs, value) => {
          const name = names.get(m);
          if (taps && name && value instanceof Tensor) values.set(rename(name), valueToOfficial(value, leading, integers));
        },
        () => [module.forward(input) as Tensor | Tensor[]].flat(),
      );
      const named = y.map((value, i) => [i ? `${output}_kd` : output, value] as const);
      const back = axes.map((_, i) => axes.indexOf(i));
      return {
        tensors: new Map(named),
        inputs: new Map([["x", input]]),
        outputs: new Map(named.map(([name, value]) => [name, valueToOfficial(value, leading, false)])),
        taps: values,
        inputToOfficial: (_name, value) => permute(toOfficial(value), back),
      };
    },
  };
}

/** Kinds by the fixtures' names. */
export const officialKinds: Readonly<Record<string, OfficialKind>> = {
  model: kind({
    build: (config) => new ESpikeFormer(fromOfficialConfig(config)),
    inputAxes: (rank) => (rank === 4 ? [0, 2, 3, 1] : []),
    inputShape: "images (B, C, H, W)",
    leading: 1,
    output: "logits",
  }),
  dvs: kind({
    build: (config) => new ESpikeFormerDVS(fromOfficialDVS(config)),
    inputAxes: (rank) => (rank === 5 ? [1, 0, 3, 4, 2] : []),
    inputShape: "event frames (B, T, C, H, W)",
    leading: 2,
    output: "logits",
    integers: true,
  }),
};
