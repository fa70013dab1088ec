/** CAFormer in the official code's terms: configuration names and axis orders. */
import type { NdArray } from "../../formats/array.ts";
import { type Module, withForwardHook } from "../../nn/module.ts";
import { nearest, SpikeloomError } from "../../runtime/error.ts";
import { Tensor } from "../../tensor/tensor.ts";
import { fromOfficial, type OfficialConfig, type OfficialKind, toOfficial } from "../official.ts";
import { type CAFormerConfig, checkConfig, configs } from "./configs.ts";
import { CAFormer } from "./model.ts";

const KNOWN = ["named", "depths", "dims", "num_classes", "in_chans", "head_dim"];
/** Words that say what CAFormer is anyway. */
const WITHOUT_EFFECT = ["module", "token_mixers", "head", "res_scale_init"];

/** The official constructor's arguments -> our configuration. @throws SpikeloomError for an unknown or wrong argument */
export function fromOfficialConfig(config: OfficialConfig): CAFormerConfig {
  for (const key of Object.keys(config)) {
    if (KNOWN.includes(key) || WITHOUT_EFFECT.includes(key)) continue;
    const near = nearest(key, KNOWN);
    throw new SpikeloomError(
      `caformer config: unknown key "${key}"${near ? `, did you mean "${near}"?` : ""} (it has ${KNOWN.join(", ")})`,
    );
  }
  const { named } = config;
  if (named !== undefined && !(typeof named === "string" && /^caformer_b36(_|$)/.test(named)))
    throw new SpikeloomError(`caformer config: "named" must be caformer_b36, found ${JSON.stringify(named)}`);
  const base = configs.b36 as CAFormerConfig;
  const get = <T>(key: string, fallback: T): T => (config[key] === undefined ? fallback : (config[key] as T));
  return checkConfig({
    ...base,
    dims: get("dims", base.dims),
    depths: get("depths", base.depths),
    numClasses: get("num_classes", base.numClasses),
    inChannels: get("in_chans", base.inChannels),
    headDim: get("head_dim", base.headDim),
  });
}

/** The whole network; maps inside are channels-last in the official code too. `features` is what the head reads. */
const model: OfficialKind = {
  build: (config) => new CAFormer(fromOfficialConfig(config)),
  run(module, inputs, { taps = false, requiresGrad = false } = {}) {
    const [[name, x] = []] = inputs;
    if (name === undefined || x === undefined || x.shape.length !== 4)
      throw new SpikeloomError(`caformer: expected one input of four axes (B, C, H, W), found ${x ? `[${x.shape}]` : "none"}`);
    const input = fromOfficial(x, [0, 2, 3, 1]);
    input.requiresGrad = requiresGrad;
    const names = new Map<Module, string>([...module.namedModules()].map(([path, m]) => [m, path]));
    const values = new Map<string, NdArray>();
    const outputs = new Map<string, NdArray>();
    const logits = withForwardHook(
      (m, _inputs, output) => {
        const path = names.get(m);
        if (!path || !(output instanceof Tensor)) return;
        if (path === "norm") outputs.set("features", toOfficial(output));
        if (taps) values.set(path, toOfficial(output));
      },
      () => module.forward(input) as Tensor,
    );
    outputs.set("logits", toOfficial(logits));
    return {
      tensors: new Map([["logits", logits]]),
      inputs: new Map([[name, input]]),
      outputs,
      taps: values,
      inputToOfficial: (_name, value) => toOfficial(value, [0, 3, 1, 2]),
    };
  },
};

/** Kinds by the fixtures' names. */
export const officialKinds: Readonly<Record<string, OfficialKind>> = { model };
