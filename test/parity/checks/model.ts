/**
 * Fixtures of whole networks and of modules (anything a system can build and run by its official configuration): names,
 * shapes and counts; outputs, taps and firing rates in eval mode; loss, gradients and running statistics in train mode.
 */
import { formats, models, nn, noGrad, scope, type Tensor, tensor, train } from "spikeloom";
import { type Check, check, compare, cosine, holds, relative } from "../compare.ts";
import { type Fixture, filledState, inputArrays, type NdArray, type Stored, storedValues } from "../fixture.ts";

/** What a float32 run may differ by, relative to the largest value, where all spikes are the same: whole networks, and parts. */
const float32 = (kind: string) => (kind === "model" ? 1e-5 : 2e-6);
/** Float64 against values stored with 9 digits. */
const FLOAT64 = 1e-6;

export function moduleChecks(fixture: Fixture, double: boolean): Check[] {
  const kind = models.findSystem(fixture.system).official[fixture.kind] as models.OfficialKind;
  const cases = fixture.cases_by_pooling_stat as Record<string, Record<string, unknown>> | undefined;
  if (!cases) return oneModule(fixture, kind, double);
  return Object.entries(cases).flatMap(([pooling, stored]) => {
    const { out, firing, hook_shapes } = stored as { out: Stored; firing: Record<string, number>; hook_shapes: Record<string, number[]> };
    const one: Fixture = {
      ...fixture,
      config: { ...fixture.config, pooling_stat: pooling },
      outputs: { out },
      hook_firing: firing,
      hook_shapes,
    };
    return oneModule(one, kind, double).map((c) => ({ ...c, what: `${pooling} ${c.what}` }));
  });
}

function oneModule(fixture: Fixture, kind: models.OfficialKind, double: boolean): Check[] {
  return scope(() => {
    const build = () => kind.build(fixture.config);
    // A fixture without results is about names and shapes.
    const module = fixture.outputs ? build() : nn.init.withoutDraws(build);
    try {
      const checks = names(fixture, module);
      if (!fixture.outputs) return checks;
      const state = filledState(fixture);
      // Keys that the rule leaves alone keep what the constructor gave.
      module.loadStateDict(state as Map<string, { shape: readonly number[]; data: ArrayLike<number> }>, { strict: false });
      const full = fixture.spike_flips_f32_vs_f64 !== undefined && fixture.taps === undefined && fixture.mode === "eval";
      if (fixture.mode === "train") return [...checks, ...trainStep(fixture, kind, module, double)];
      if (fixture.grads || fixture.grad_x) return [...checks, ...evalGradients(fixture, kind, module, double)];
      return [...checks, ...forward(fixture, kind, module, double, full)];
    } finally {
      module.dispose();
    }
  });
}

export function names(fixture: Fixture, module: nn.Module): Check[] {
  const found = Object.fromEntries([...module.stateShapes()].map(([key, shape]) => [key, [...shape]]));
  const expected = fixture.state_shapes ?? {};
  const differing = [...new Set([...Object.keys(found), ...Object.keys(expected)])].filter(
    (key) => JSON.stringify(found[key]) !== JSON.stringify(expected[key]),
  );
  const checks = [holds("state-dict names and shapes", differing.length === 0, differing.slice(0, 3).join(", "))];
  if (fixture.params !== undefined)
    checks.push(holds("parameter count", module.parameterCount() === fixture.params, `${module.parameterCount()} for ${fixture.params}`));
  if (fixture.state_keys !== undefined) checks.push(holds("key count", Object.keys(found).length === fixture.state_keys));
  return checks;
}

function forward(fixture: Fixture, kind: models.OfficialKind, module: nn.Module, double: boolean, full: boolean): Check[] {
  module.eval();
  const close = float32(fixture.kind);
  const { outputs, taps } = noGrad(() => kind.run(module, inputArrays(fixture), { taps: true }));
  const checks: Check[] = [];
  const precise = double && fixture.outputs_f64;
  for (const [name, stored] of Object.entries((precise ? fixture.outputs_f64 : fixture.outputs) as Record<string, Stored>)) {
    const found = outputs.get(name);
    if (full && !double) checks.push(...loosely(name, found, stored));
    else checks.push(compare(name, found, stored, precise ? FLOAT64 : close));
  }
  for (const [name, stored] of Object.entries({ ...fixture.taps, ...(fixture.hooks as Record<string, Stored> | undefined) }))
    checks.push(compare(`tap ${name}`, taps.get(name), stored, close));
  checks.push(...firing(fixture, taps, full));
  return checks;
}

/** Full-size networks in float32: some neurons sit within rounding of their threshold (the fixtures' notes). */
function loosely(name: string, found: NdArray | undefined, stored: Stored): Check[] {
  if (!found) return [holds(name, false, "was not computed")];
  const values = formats.toFloat64(found);
  const expected = storedValues(stored) as Float64Array;
  const mean = expected.reduce((a, b) => a + b, 0) / expected.length;
  const std = Math.sqrt(expected.reduce((a, b) => a + (b - mean) ** 2, 0) / expected.length);
  const apart = values.reduce((a, v, i) => a + Math.abs(v - (expected[i] as number)), 0) / values.length;
  return [check(`${name} 1 - cosine`, 1 - cosine(values, expected), 1e-3), check(`${name} mean difference / std`, apart / std, 0.02)];
}

/** Firing rates: exact spike counts for tiny networks; in full ones within the flips that float32 itself showed. */
function firing(fixture: Fixture, taps: ReadonlyMap<string, NdArray>, full: boolean): Check[] {
  const checks: Check[] = [];
  const shapes = (fixture.hook_shapes ?? {}) as Record<string, number[]>;
  for (const [name, shape] of Object.entries(shapes)) {
    const found = taps.get(name);
    checks.push(
      holds(
        `shape of ${name}`,
        found !== undefined && found.shape.join() === shape.join(),
        found ? `[${found.shape}] for [${shape}]` : "was not computed",
      ),
    );
  }
  const perStep = (fixture.hook_firing_per_step ?? {}) as Record<string, number[]>;
  const overall = (fixture.hook_firing ?? {}) as Record<string, number>;
  for (const [name, expected] of Object.entries(perStep)) {
    const found = taps.get(name);
    if (!found) continue;
    const t = expected.length;
    const values = formats.toFloat64(found);
    const n = values.length / t;
    let flips = 0;
    expected.forEach((rate, step) => {
      const sum = values.subarray(step * n, (step + 1) * n).reduce((a, b) => a + b, 0);
      flips += Math.abs(sum - Math.round(rate * n));
    });
    checks.push(check(`spike counts of ${name}`, 0, 0, flips));
  }
  for (const [name, rate] of Object.entries(overall)) {
    const found = taps.get(name);
    if (!found) {
      checks.push(holds(`firing of ${name}`, false, "was not computed"));
      continue;
    }
    const values = formats.toFloat64(found);
    const sum = values.reduce((a, b) => a + b, 0);
    if (full) checks.push(check(`firing of ${name}`, Math.abs(sum / values.length - rate), 1e-3));
    else checks.push(check(`spike count of ${name}`, 0, 0, Math.abs(sum - Math.round(rate * values.length))));
  }
  return checks;
}

interface LossArgs {
  type: "mean" | "tet";
  base: string;
  smoothing?: number;
  means?: number;
  lamb?: number;
}

function trainStep(fixture: Fixture, kind: models.OfficialKind, module: nn.Module, double: boolean): Check[] {
  module.train();
  const args = fixture.loss_args as LossArgs;
  const labels = Int32Array.from(fixture.inputs.labels as number[]);
  const run = kind.run(module, inputArrays(fixture), { taps: true });
  const [logits] = run.tensors.values();
  const loss = train.classificationLoss(logits as Tensor, tensor(labels), {
    labelSmoothing: args.smoothing ?? 0,
    tet: args.type === "tet" ? { means: args.means ?? 1, lambda: args.lamb ?? 0 } : undefined,
  });
  loss.backward();
  const checks = Object.entries(fixture.outputs as Record<string, Stored>).map(([name, stored]) =>
    compare(name, run.outputs.get(name), stored, float32(fixture.kind)),
  );
  const expectedLoss = (double ? (fixture.loss_f64 ?? fixture.loss) : fixture.loss) as number;
  checks.push(check("loss", Math.abs(loss.itemSync() - expectedLoss) / Math.abs(expectedLoss), 2e-6));
  checks.push(...gradients(fixture, module, double, 1e-4));
  const state = module.stateDict();
  for (const [name, stats] of Object.entries((fixture.bn_after ?? {}) as Record<string, Record<string, Stored | number>>))
    for (const [field, stored] of Object.entries(stats)) {
      const found = state.get(`${name}.${field}`);
      if (typeof stored === "number") checks.push(holds(`${name}.${field}`, Number(found?.data[0]) === stored));
      else checks.push(compare(`${name}.${field}`, found, stored, 1e-5));
    }
  checks.push(...firing(fixture, run.taps, false));
  return checks;
}

export function gradients(fixture: Fixture, module: nn.Module, double: boolean, tolerance: number): Check[] {
  const parameters = new Map(module.namedParameters());
  const checks: Check[] = [];
  const zero = new Set((fixture.zero_grad_params ?? []) as string[]);
  const gradientOf = (key: string): NdArray | undefined => {
    const p = parameters.get(key);
    if (!p?.grad) return undefined;
    const { shape, data } = nn.likeFile(p, p.grad.dataSync());
    return { dtype: data instanceof Float64Array ? "f64" : "f32", shape, data };
  };
  for (const [key, stored] of Object.entries((fixture.grads ?? {}) as Record<string, Stored | number>)) {
    if (zero.has(key)) continue;
    checks.push(compare(`grad ${key}`, gradientOf(key), typeof stored === "number" ? { shape: [], values: [stored] } : stored, tolerance));
  }
  const norms = ((double ? fixture.grad_norms_f64 : undefined) ?? fixture.grad_norms ?? {}) as Record<string, number>;
  for (const [key, norm] of Object.entries(norms)) {
    if (zero.has(key)) continue;
    const g = gradientOf(key);
    const found = g ? Math.sqrt(formats.toFloat64(g).reduce((a, v) => a + v * v, 0)) : Number.NaN;
    checks.push(check(`grad norm ${key}`, relative([found], [norm]), tolerance));
  }
  for (const key of (fixture.no_grad_params ?? []) as string[])
    checks.push(holds(`no gradient of ${key}`, parameters.has(key) && !parameters.get(key)?.grad));
  return checks;
}

/** A module in eval mode whose gradients flow through running-statistics norms: loss = sum(y * g). */
function evalGradients(fixture: Fixture, kind: models.OfficialKind, module: nn.Module, double: boolean): Check[] {
  module.eval();
  const arrays = inputArrays(fixture);
  const run = kind.run(module, arrays, { taps: true, requiresGrad: true });
  const g = arrays.get("g") as NdArray;
  const y = run.tensors.get("y") as Tensor;
  // g has the official axis order of y.
  const upstream = models.fromOfficial(g, [0, 1, 3, 4, 2]);
  y.backward({ gradient: upstream });
  // The dvs pools choose among float32 ties: the fixture's own rounding is 5e-5 there (spec, section 10).
  const tolerance = fixture.kind.endsWith("_dvs") ? 5e-5 : 1e-5;
  const checks = Object.entries(fixture.outputs as Record<string, Stored>).map(([name, stored]) =>
    compare(name, run.outputs.get(name), stored, 2e-6),
  );
  for (const [name, stored] of Object.entries((fixture.hooks ?? {}) as Record<string, Stored>))
    checks.push(compare(`tap ${name}`, run.taps.get(name), stored, 0));
  const x = run.inputs.get("x") as Tensor;
  checks.push(compare("grad x", x.grad ? run.inputToOfficial("x", x.grad) : undefined, fixture.grad_x as Stored, tolerance));
  checks.push(...gradients(fixture, module, double, tolerance));
  return checks;
}
