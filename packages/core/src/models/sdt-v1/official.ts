/** Spike-driven Transformer V1 in the official code's terms: configuration names, axis orders, taps and the hook dictionary. */
import { type NdArray, permute } from "../../formats/array.ts";
import { type Module, withForwardHook, withTaps } from "../../nn/module.ts";
import { nearest, SpikeloomError } from "../../runtime/error.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { fromOfficial, type OfficialConfig, type OfficialKind, type OfficialRun, reshaped, toOfficial } from "../official.ts";
import { checkConfig, type SDTConfig } from "./configs.ts";
import { PatchSplitting, SpikeDrivenSelfAttention, SpikeDrivenTransformer, SpikingMLP } from "./model.ts";

/** Names that the official constructor takes and ignores, or that only label a configuration. */
const WITHOUT_EFFECT = ["name", "patch_size", "drop_rate", "attn_drop_rate", "drop_path_rate", "qk_scale", "sr_ratios", "attn_mode"];

function rejectUnknown(config: OfficialConfig, known: readonly string[], others: readonly string[]): void {
  for (const key of Object.keys(config)) {
    if (known.includes(key) || others.includes(key)) continue;
    const near = nearest(key, known);
    throw new SpikeloomError(`sdt-v1 config: unknown key "${key}"${near ? `, did you mean "${near}"?` : ""} (it has ${known.join(", ")})`);
  }
}

/** The official constructor's arguments -> our configuration. @throws SpikeloomError for an unknown or wrong argument. */
export function fromOfficialConfig(config: OfficialConfig): SDTConfig {
  const get = <T>(key: string, fallback: T): T => (config[key] === undefined ? fallback : (config[key] as T));
  const known = [
    "T",
    "img_size_h",
    "img_size_w",
    "in_channels",
    "num_classes",
    "embed_dims",
    "num_heads",
    "mlp_ratios",
    "depths",
    "pooling_stat",
    "spike_mode",
    "dvs_mode",
    "TET",
  ];
  rejectUnknown(config, known, WITHOUT_EFFECT);
  return checkConfig({
    T: get("T", 4),
    inChannels: get("in_channels", 3),
    numClasses: get("num_classes", 1000),
    embedDims: get("embed_dims", 512),
    depths: get("depths", 8),
    numHeads: get("num_heads", 8),
    mlpRatio: get("mlp_ratios", 4),
    pooling: get("pooling_stat", "1111"),
    spikeMode: get("spike_mode", "lif"),
    dvsMode: get("dvs_mode", false),
    tet: get("TET", false),
    imageSize: [get("img_size_h", 224), get("img_size_w", 224)],
  });
}

const TBCHW = [0, 1, 4, 2, 3];
const TBHWC = [0, 1, 3, 4, 2];

/** Which official order an intermediate value has, by the end of its name. `heads` splits channels. */
function tapToOfficial(name: string, value: Tensor, heads: number): NdArray {
  const { shape } = value;
  const field = name.slice(name.lastIndexOf(".") + 1);
  if (/_kv$/.test(name) || field === "talking_heads_lif") {
    const [t, b, d] = shape as [number, number, number];
    return reshaped(toOfficial(value), [t, b, heads, 1, d / heads]);
  }
  if (/_(kv_before|x_after_qkv)$/.test(name)) return splitHeads(value, heads);
  if (value.rank !== 5) return toOfficial(value);
  const array = toOfficial(value, TBCHW);
  // The official code calls convolutions and norms on (T*B, C, H, W).
  if (/(_conv|_bn)\d?$/.test(field))
    return reshaped(array, [(array.shape[0] as number) * (array.shape[1] as number), ...array.shape.slice(2)]);
  return array;
}

/** [T, B, N, D] or [T, B, H, W, D] -> (T, B, h, N, d). */
function splitHeads(value: Tensor, heads: number): NdArray {
  const [t, b] = value.shape as [number, number];
  const d = value.shape[value.rank - 1] as number;
  const n = value.size / (t * b * d);
  return permute(reshaped(toOfficial(value), [t, b, n, heads, d / heads]), [0, 1, 3, 2, 4]);
}

interface KindSpec {
  build(config: OfficialConfig): Module;
  heads(config: OfficialConfig): number;
  /** Official axis order -> ours, for an input of that rank. */
  inputAxes(rank: number): readonly number[];
  /** Ours -> official, for the main output. */
  output: { name: string; axes?: readonly number[] };
  /** Further outputs that are taps. */
  extra?: Readonly<Record<string, string>>;
}

function kind(spec: KindSpec): OfficialKind {
  const headsOf = new WeakMap<Module, number>();
  return {
    build(config) {
      const module = spec.build(config);
      headsOf.set(module, spec.heads(config));
      return module;
    },
    run(module, inputs, { taps = false, requiresGrad = false } = {}): OfficialRun {
      const heads = headsOf.get(module) ?? 1;
      const x = inputs.get("x");
      if (!x) throw new SpikeloomError(`sdt-v1: the input must be named "x", found ${[...inputs.keys()].join(", ") || "none"}`);
      const axes = spec.inputAxes(x.shape.length);
      if (!axes.length)
        throw new SpikeloomError(`sdt-v1: the input "x" has ${x.shape.length} axes, expected (B, C, H, W) or (B, T, C, H, W)`);
      const input = fromOfficial(x, axes);
      input.requiresGrad = requiresGrad;
      const values = new Map<string, NdArray>();
      const names = new Map([...module.namedModules()].map(([name, m]) => [m, name]));
      const extra = Object.entries(spec.extra ?? {});
      const outputs = new Map<string, NdArray>();
      const hear = (name: string, value: Tensor) => {
        for (const [output, from] of extra)
          if (from === name) outputs.set(output, name.endsWith("_v_lif") ? splitHeads(value, heads) : tapToOfficial(name, value, heads));
        if (taps) values.set(name, tapToOfficial(name, value, heads));
      };
      const y = withTaps(hear, () =>
        withForwardHook(
          (m, _inputs, output) => {
            const name = names.get(m);
            if (taps && name) values.set(name, tapToOfficial(name, output as Tensor, heads));
          },
          () => module.forward(input) as Tensor,
        ),
      );
      outputs.set(spec.output.name, toOfficial(y, spec.output.axes));
      const back = axes.map((_, i) => axes.indexOf(i));
      return {
        tensors: new Map([[spec.output.name, y]]),
        inputs: new Map([["x", input]]),
        outputs,
        taps: values,
        inputToOfficial: (_name, value) => toOfficial(value, back),
      };
    },
  };
}

/** A positive integer of a part's configuration. */
function number(config: OfficialConfig, key: string): number {
  const value = config[key];
  if (!Number.isInteger(value) || (value as number) < 1)
    throw new SpikeloomError(
      `sdt-v1 config: "${key}" must be a positive integer, found ${value === undefined ? "none" : JSON.stringify(value)}`,
    );
  return value as number;
}

/** What says of a part's input how large it is, and what the official class is called: no setting of the part. */
const OF_THE_INPUT = ["module", "img", "T", "B", "H", "W"];

const part = { inputAxes: (rank: number) => (rank === 5 ? TBHWC : []), spikeMode: "lif" as const };

/** Kinds by the fixtures' names. */
export const officialKinds: Readonly<Record<string, OfficialKind>> = {
  model: kind({
    build: (config) => new SpikeDrivenTransformer(fromOfficialConfig(config)),
    heads: (config) => (config.num_heads as number | undefined) ?? 8,
    inputAxes: (rank) => (rank === 4 ? [0, 2, 3, 1] : rank === 5 ? [1, 0, 3, 4, 2] : []),
    output: { name: "logits" },
  }),
  unit_sdsa: attention(false),
  unit_sdsa_dvs: attention(true),
  unit_mlp: mlp(),
  unit_mlp_res: mlp(),
  unit_sps: kind({
    build(config) {
      rejectUnknown(config, ["in_channels", "embed_dims", "pooling_stat"], OF_THE_INPUT);
      const { pooling_stat: pooling = "1111" } = config;
      if (typeof pooling !== "string" || !/^[01]{4}$/.test(pooling))
        throw new SpikeloomError(`sdt-v1 config: "pooling_stat" must be four characters "0" or "1", found ${JSON.stringify(pooling)}`);
      return new PatchSplitting({
        inChannels: number(config, "in_channels"),
        embedDims: number(config, "embed_dims"),
        pooling,
        spikeMode: part.spikeMode,
      });
    },
    heads: () => 1,
    inputAxes: part.inputAxes,
    output: { name: "out", axes: TBCHW },
  }),
};

function attention(dvs: boolean): OfficialKind {
  return kind({
    build(config) {
      rejectUnknown(config, ["dim", "num_heads", "dvs"], OF_THE_INPUT);
      const [dim, heads] = [number(config, "dim"), number(config, "num_heads")];
      if (dim % heads) throw new SpikeloomError(`sdt-v1 config: "num_heads" must be a divisor of "dim" ${dim}, found ${heads}`);
      const { dvs: asked = dvs } = config;
      if (typeof asked !== "boolean")
        throw new SpikeloomError(`sdt-v1 config: "dvs" must be true or false, found ${JSON.stringify(asked)}`);
      return new SpikeDrivenSelfAttention({ dim, heads, dvs: asked, spikeMode: part.spikeMode, layer: 0 });
    },
    heads: (config) => number(config, "num_heads"),
    inputAxes: part.inputAxes,
    output: { name: "y", axes: TBCHW },
    extra: { v_returned: "MS_SSA_Conv0_v_lif" },
  });
}

function mlp(): OfficialKind {
  return kind({
    build(config) {
      rejectUnknown(config, ["in", "hidden"], OF_THE_INPUT);
      return new SpikingMLP({ dim: number(config, "in"), hidden: number(config, "hidden"), spikeMode: part.spikeMode, layer: 0 });
    },
    heads: () => 1,
    inputAxes: part.inputAxes,
    output: { name: "y", axes: TBCHW },
  });
}
