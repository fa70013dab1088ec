/**
 * Fixtures of Spike-driven Transformer V2: whole networks at several numbers of steps, a training step with and without a teacher, parts
 * with their gradients, RepConv merged, the SDSA-3 operator, operation counts.
 */
import { formats, measure, models, nn, noGrad, scope, type Tensor, tensor } from "spikeloom";
import { type Check, check, compare, holds, relative } from "../compare.ts";
import { type Fixture, filledState, inputArrays, type NdArray, type Stored } from "../fixture.ts";
import { gradients, names } from "./model.ts";

/** Float32 values where all spikes are the same; float64 against values stored with nine digits. */
const FLOAT32 = 1e-5;
const FLOAT64 = 1e-6;
/** Rates of full-size networks in float32: a flipped spike moves about one in twenty of those behind it (the fixtures' notes). */
const FULL_RATES = 0.03;

interface Spikes {
  count?: number;
  per_step?: number[];
  bits?: string;
  shape?: number[];
  firing_rate?: number;
}

type Network = models.sdtV2.MetaSpikeFormer;

function withModule(fixture: Fixture, run: (module: nn.Module, kind: models.OfficialKind) => Check[]): Check[] {
  const kind = models.findSystem(fixture.system).official[fixture.kind] as models.OfficialKind;
  const module = nn.init.withoutDraws(() => kind.build(fixture.config));
  try {
    const checks = names(fixture, module);
    if (!fixture.outputs) return checks;
    module.loadStateDict(filledState(fixture) as Map<string, { shape: readonly number[]; data: ArrayLike<number> }>);
    return [...checks, ...run(module, kind)];
  } finally {
    module.dispose();
  }
}

/** Spikes of every neuron: all bits, or how many there are at every step. */
function spikes(given: Record<string, Spikes>, taps: ReadonlyMap<string, NdArray>): Check[] {
  return Object.entries(given).map(([name, { bits, shape, per_step: perStep, count }]) => {
    const found = taps.get(name);
    if (!found) return holds(`spikes of ${name}`, false, "was not computed");
    if (shape && found.shape.join() !== shape.join())
      return holds(`spikes of ${name}`, false, `has shape [${found.shape}], expected [${shape}]`);
    if (bits !== undefined) return compare(`spikes of ${name}`, found, { shape: [...found.shape], bits }, 0);
    const values = formats.toFloat64(found);
    const sum = (part: Float64Array) => part.reduce((a, b) => a + b, 0);
    let flips = Math.abs(sum(values) - (count as number));
    perStep?.forEach((rate, t) => {
      const n = values.length / perStep.length;
      flips += Math.abs(sum(values.subarray(t * n, (t + 1) * n)) - Math.round(rate * n));
    });
    return check(`spikes of ${name}`, 0, 0, flips);
  });
}

export function networkChecks(fixture: Fixture, double: boolean): Check[] {
  return withModule(fixture, (module, kind) =>
    fixture.mode === "train" ? trainingStep(fixture, kind, module, double) : inference(fixture, kind, module as Network, double),
  );
}

function inference(fixture: Fixture, kind: models.OfficialKind, net: Network, double: boolean): Check[] {
  net.eval();
  const own = fixture.config.T as number;
  const exact = (double && fixture.outputs_f64) || {};
  const full = fixture.spikes_f64 as Record<string, Spikes> | undefined;
  const checks: Check[] = [];
  // `logits` and `logits_T4` are one network at its own number of steps, and at 4.
  const wanted = Object.keys({ ...fixture.outputs, ...exact });
  const steps = wanted.map((name) => Number(/_T(\d+)$/.exec(name)?.[1] ?? own));
  for (const t of new Set([own, ...steps])) {
    net.T = t;
    scope(() => {
      const { outputs, taps } = noGrad(() => kind.run(net, inputArrays(fixture), { taps: t === own }));
      const logits = outputs.get("logits");
      for (const name of wanted.filter((_, i) => steps[i] === t)) {
        const stored = exact[name];
        if (stored) checks.push(compare(name, logits, stored, FLOAT64));
        else if (!full) checks.push(compare(name, logits, (fixture.outputs as Record<string, Stored>)[name] as Stored, FLOAT32));
      }
      if (t !== own) return;
      for (const [name, stored] of Object.entries(fixture.taps ?? {})) checks.push(compare(`tap ${name}`, taps.get(name), stored, FLOAT32));
      if (!full) checks.push(...spikes(fixture.spikes as Record<string, Spikes>, taps));
      else if (double) checks.push(...spikes(full, taps));
      else {
        checks.push(...rates(full, taps));
        // Logits can be compared where no spike flipped.
        if (spikes(full, taps).every((c) => c.ok))
          for (const [name, stored] of Object.entries(fixture.outputs as Record<string, Stored>))
            checks.push(compare(name, logits, stored, FLOAT32));
      }
    });
  }
  net.T = own;
  return checks;
}

function rates(given: Record<string, Spikes>, taps: ReadonlyMap<string, NdArray>): Check[] {
  return Object.entries(given).map(([name, { firing_rate: rate }]) => {
    const found = taps.get(name);
    if (!found) return holds(`firing of ${name}`, false, "was not computed");
    const values = formats.toFloat64(found);
    return check(`firing of ${name}`, Math.abs(values.reduce((a, b) => a + b, 0) / values.length - (rate as number)), FULL_RATES);
  });
}

interface LossArgs {
  type: "mean" | "distillation";
  smoothing: number;
  kind?: "hard" | "soft";
  alpha?: number;
  tau?: number;
}

function trainingStep(fixture: Fixture, kind: models.OfficialKind, module: nn.Module, double: boolean): Check[] {
  module.train();
  const arrays = inputArrays(fixture);
  const { type, smoothing, kind: teacherKind, alpha, tau } = fixture.loss_args as LossArgs;
  const labels = tensor(Int32Array.from(fixture.inputs.labels as number[]));
  const run = kind.run(module, arrays, { taps: true });
  const [logits, distilled] = ["logits", "logits_kd"].map((name) => run.tensors.get(name)) as [Tensor, Tensor];
  let loss = nn.crossEntropy(logits, labels, { labelSmoothing: smoothing });
  if (type === "distillation") {
    const teacher = models.fromOfficial(arrays.get("teacher_logits") as NdArray, [0, 1]);
    loss = nn.distillationLoss(loss, distilled, teacher, { kind: teacherKind, alpha, temperature: tau });
  }
  loss.backward();
  const stored = (double ? (fixture.loss_f64 ?? fixture.loss) : fixture.loss) as number;
  const state = module.stateDict();
  return [
    ...Object.entries(fixture.outputs as Record<string, Stored>).map(([name, y]) => compare(name, run.outputs.get(name), y, FLOAT32)),
    check("loss", relative([loss.itemSync()], [stored]), 2e-6),
    ...gradients(fixture, module, double, 1e-4),
    ...Object.entries(fixture.bn_after as Record<string, Record<string, Stored>>).flatMap(([name, stats]) =>
      Object.entries(stats).map(([field, after]) => compare(`${name}.${field}`, state.get(`${name}.${field}`), after, 1e-5)),
    ),
    ...spikes(fixture.spikes as Record<string, Spikes>, run.taps),
  ];
}

/** A part with the gradients of sum(y * g), in eval or in training; a RepConv also merged. */
export function partChecks(fixture: Fixture, double: boolean): Check[] {
  return withModule(fixture, (module, kind) => {
    module.train(fixture.mode === "train");
    const arrays = inputArrays(fixture);
    const run = kind.run(module, arrays, { taps: true, requiresGrad: true });
    const g = arrays.get("g") as NdArray;
    const y = run.tensors.get("y") as Tensor;
    y.backward({ gradient: models.fromOfficial(g, g.shape.length === 5 ? [0, 1, 3, 4, 2] : [0, 2, 3, 1]) });
    const x = run.inputs.get("x") as Tensor;
    const state = module.stateDict();
    return [
      compare("y", run.outputs.get("y"), (fixture.outputs as Record<string, Stored>).y as Stored, FLOAT32),
      ...spikes(fixture.spikes as Record<string, Spikes>, run.taps),
      compare("grad x", x.grad ? run.inputToOfficial("x", x.grad) : undefined, fixture.grad_x as Stored, 1e-4),
      ...gradients(fixture, module, double, 1e-4),
      ...Object.entries((fixture.state_after ?? {}) as Record<string, Stored>).map(([key, after]) =>
        compare(`${key} after`, state.get(key), after, 1e-5),
      ),
      ...(fixture.fused_eval ? mergedChecks(fixture, module as models.sdtV2.RepConv, x, y, double) : []),
    ];
  });
}

function mergedChecks(fixture: Fixture, rep: models.sdtV2.RepConv, x: Tensor, y: Tensor, double: boolean): Check[] {
  const { kernel, bias } = fixture.fused_eval as Record<string, Stored>;
  const merged = models.sdtV2.mergeRepConv(rep);
  const state = merged.stateDict();
  const again = noGrad(() => merged.forward(x));
  merged.dispose();
  return [
    compare("merged kernel", state.get("weight"), kernel as Stored, FLOAT32),
    compare("merged bias", state.get("bias"), bias as Stored, FLOAT32),
    check("merged against the chain", relative(again.dataSync(), y.dataSync()), double ? 1e-9 : FLOAT32),
  ];
}

export function operatorChecks(fixture: Fixture): Check[] {
  const arrays = inputArrays(fixture);
  const { heads, d } = fixture.config as Record<string, number> as { heads: number; d: number };
  const checks = Object.entries(fixture.inputs_bits as Record<string, Stored>).map(([name, stored]) =>
    compare(`input ${name}`, arrays.get(name), stored, 0),
  );
  // (T, B, h, N, d) -> [T, B, N, h d]
  const [q, k, v] = ["q", "k", "v"].map((name) => {
    const array = arrays.get(name) as NdArray;
    const [t, b, h, n] = array.shape as [number, number, number, number];
    const x = models.fromOfficial(array, [0, 1, 3, 2, 4]).reshape([t, b, n, h * d]);
    x.requiresGrad = true;
    return x;
  }) as [Tensor, Tensor, Tensor];
  const byHead = (x: Tensor): NdArray => {
    const [t, b, n] = x.shape as [number, number, number];
    return formats.permute({ ...models.toOfficial(x), shape: [t, b, n, heads, d] }, [0, 1, 3, 2, 4]);
  };
  const o = models.sdtV2.linearAttention(q.toSpikes(), k.toSpikes(), v.toSpikes(), heads);
  const net = new models.sdtV2.SpikeDrivenSelfAttention3(heads * d, heads);
  const fired = net.attn_lif.forward(o);
  const g = arrays.get("g") as NdArray;
  fired.backward({ gradient: models.fromOfficial(g, [0, 1, 3, 2]) });
  net.dispose();
  const outputs = fixture.outputs as Record<string, Stored>;
  // k^T v by itself: what unit vectors for queries give.
  const c = heads * d;
  const units = tensor(
    Float32Array.from({ length: q.size }, (_, i) => (i % d === Math.floor(i / c) % (q.shape[2] as number) ? 1 : 0)),
    q.shape,
  );
  const kv = models.sdtV2.linearAttention(units, k.detach(), v.detach(), heads).slice(null, null, [0, d]);
  checks.push(
    compare("kv", byHead(kv), outputs.kv as Stored, 0),
    compare("scaled", byHead(o.mul(models.sdtV2.ATTENTION_SCALE)), outputs.scaled as Stored, 0),
    compare("spikes", models.toOfficial(fired, [0, 1, 3, 2]), outputs.spikes as Stored, 0),
  );
  for (const [name, x] of Object.entries({ q, k, v }))
    checks.push(
      compare(`grad ${name}`, x.grad ? byHead(x.grad) : undefined, (fixture.grads as Record<string, Stored>)[name] as Stored, FLOAT64),
    );
  return checks;
}

interface OfficialEnergy {
  macs_per_step: Record<string, number>;
  stem_macs: number;
  total_ac_ops_per_step_fused: number;
  total_ac_ops_per_step_unfused: number;
  power_mJ: Record<string, number>;
}

/** Values are stored with nine digits. */
const ENERGY = 5e-9;
const MILLIJOULES = 1e-9;

export function energyChecks(fixture: Fixture): Check[] {
  const system = models.findSystem(fixture.system);
  const { E_MAC_pJ, E_AC_pJ } = fixture.inputs as unknown as { E_MAC_pJ: number; E_AC_pJ: number };
  return Object.entries(fixture.outputs as unknown as Record<string, OfficialEnergy>).flatMap(([name, expected]) => {
    const given = (fixture.configs as Record<string, { img_size: number; in_channels: number; embed_dim: number[]; num_heads: number }>)[
      name
    ] as { img_size: number; in_channels: number; embed_dim: number[]; num_heads: number };
    const config = {
      ...(models.sdtV2.configs["15M"] as models.sdtV2.SDTV2Config),
      inChannels: given.in_channels,
      embedDims: given.embed_dim,
      numHeads: given.num_heads,
    };
    const priced = (repConv: string, timeSteps: number, rate: number) =>
      measure.priceTable(
        (settings) =>
          system.energyTable?.(
            config as unknown as Record<string, unknown>,
            { timeSteps, height: given.img_size, width: given.img_size },
            settings,
          ) as measure.EnergyTable,
        () => ({ rate, perStep: null }),
        { samples: 1, parameters: 0 },
        { preset: "sdt-v2", settings: { repConv }, costs: { name: "the fixture's", mac: E_MAC_pJ, ac: E_AC_pJ } },
      );
    const forms = { fused: priced("fused", 1, 1), unfused: priced("unfused", 1, 1) };
    const ops = (part: string) => {
      const [, row, form] = /^(.*?)(?:_(fused|unfused)(?:3x3)?)?$/.exec(part) as unknown as [
        string,
        string,
        "fused" | "unfused" | undefined,
      ];
      return forms[form ?? "fused"].layers.find((l) => l.layer === row)?.denseOps;
    };
    const differing = Object.entries(expected.macs_per_step).filter(([part, macs]) => ops(part) !== macs);
    return [
      holds(`${name} operations of each part`, differing.length === 0, differing.map(([part]) => part).join(", ")),
      holds(`${name} operations of the first convolution`, forms.fused.total.macs === expected.stem_macs),
      holds(`${name} additions, fused`, forms.fused.total.acs === expected.total_ac_ops_per_step_fused),
      holds(`${name} additions, unfused`, forms.unfused.total.acs === expected.total_ac_ops_per_step_unfused),
      ...Object.entries(expected.power_mJ).map(([key, stored]) => {
        const [, t, rate, form] = /^T(\d+)_rate([\d.]+)_(\w+)$/.exec(key) as unknown as [string, string, string, string];
        const found = priced(form, Number(t), Number(rate)).total.energy * MILLIJOULES;
        return check(`${name} ${key}`, relative([found], [stored]), ENERGY);
      }),
    ];
  });
}
