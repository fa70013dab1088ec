/**
 * Fixtures of networks with integer neurons: names and counts; outputs, values inside and histograms of the integers in eval mode; loss,
 * gradients and running statistics in train mode; and their blocks, one by one.
 */
import { formats, models, nn, noGrad, snn, type Tensor, tensor, train } from "spikeloom";
import { type Check, check, compare, holds, relative } from "../compare.ts";
import { type Fixture, filledState, type InputSpec, inputArray, type NdArray, type Stored } from "../fixture.ts";

/** A tapped neuron's statistics of its integers 0, 1, ... */
export interface Tap extends Stored {
  firing_rate?: number;
  mean_integer?: number;
  nonzero_fraction?: number;
  integer_histogram?: number[];
}

/** Relative to the tensor's own largest entry. */
const GRADIENT = 1e-3;
/** Of the model's largest gradient entry, for gradients that are zero but for rounding. */
const VANISHING = 1e-6;
/** Shares are stored with nine digits. */
const SHARE = 2e-9;

const kindOf = ({ system, kind }: Fixture) => models.findSystem(system).official[kind] as models.OfficialKind;

/**
 * Gradients that are zero in exact arithmetic: of a convolution's bias before a norm by the batch's statistics, and of a norm's bias before another
 * norm (nearly of its weight too, where nothing is between them).
 */
const BEFORE_NORM = /((encode_conv|fc[12]_conv|conv[12]\.0\.0)\.bias|(^|\.)conv1\.1\.bias|_conv\.0\.conv2\.1\.(bias|weight))$/;

export function integerNetworkChecks(fixture: Fixture, double: boolean): Check[] {
  if (fixture.models) return shapesOnly(fixture);
  const kind = kindOf(fixture);
  // Every value is filled in, or none is used.
  const module = nn.init.withoutDraws(() => kind.build(fixture.config));
  try {
    const checks = names(fixture, module);
    if (fixture.mode === "shapes only") return checks;
    fill(fixture, module);
    checks.push(...(fixture.mode === "train" ? trainStep : forward)(fixture, kind, module, double));
    return checks;
  } finally {
    module.dispose();
  }
}

/** Fill every tensor by the fixture's rule. Not every fixture lists the shapes; the names are then our own. */
export function fill(fixture: Fixture, module: nn.Module): void {
  const shapes = typeof fixture.state_shapes === "object" ? fixture.state_shapes : Object.fromEntries(module.stateShapes());
  const filled = filledState({ ...fixture, state_shapes: shapes as Record<string, number[]> });
  module.loadStateDict(filled as Parameters<nn.Module["loadStateDict"]>[0]);
}

interface Named {
  params: number;
  state_keys: number;
  state_shapes: Record<string, number[]>;
}

/** The ablation of the official DVS file is no model of ours. */
const NOT_OURS = /yolo/i;

function shapesOnly(fixture: Fixture): Check[] {
  return Object.entries(fixture.models as Record<string, Named>)
    .filter(([name]) => !NOT_OURS.test(name))
    .flatMap(([named, { params, state_keys, state_shapes }]) => {
      const module = nn.init.withoutDraws(() => kindOf(fixture).build({ named }));
      try {
        return names({ ...fixture, params, state_keys, state_shapes }, module).map((c) => ({ ...c, what: `${named} ${c.what}` }));
      } finally {
        module.dispose();
      }
    });
}

export function names(fixture: Fixture, module: nn.Module): Check[] {
  const found = [...module.stateShapes()];
  const checks: Check[] = [];
  const { state_shapes: shapes, params, state_keys: keys } = fixture;
  if (typeof shapes === "object") {
    const expected = Object.entries(shapes);
    const at = expected.findIndex(([key, shape], i) => JSON.stringify([key, shape]) !== JSON.stringify(found[i]));
    const same = at < 0 && expected.length === found.length;
    checks.push(holds("state-dict names and shapes in their order", same, `${expected[at]} for ${found[at]}`));
  }
  if (params !== undefined) checks.push(holds("parameter count", module.parameterCount() === params, `${module.parameterCount()}`));
  const count = typeof shapes === "number" ? shapes : keys;
  if (count !== undefined) checks.push(holds("key count", found.length === count, `${found.length}`));
  return checks;
}

/** The image, under the name that the kinds take. */
export function inputOf(fixture: Fixture): Map<string, NdArray> {
  const key = fixture.input_name as string;
  return new Map([["x", inputArray(key, fixture.inputs[key] as InputSpec)]]);
}

function forward(fixture: Fixture, kind: models.OfficialKind, module: nn.Module, double: boolean): Check[] {
  module.eval();
  const run = () => noGrad(() => kind.run(module, inputOf(fixture), { taps: true }));
  const ties = countTies(module);
  const { outputs, taps } = nn.withForwardHook(ties.hear, run);
  const { logits, logits_second_call_without_reset: second } = fixture.outputs as Record<string, Stored>;
  const full = fixture.max_abs_diff_f32_f64 as number | undefined;
  const checks: Check[] = [];
  const precise = double && fixture.outputs_f64?.logits;
  if (full !== undefined && !precise) {
    const allowed = Math.max(5 * full, 0.02 * (fixture.logits_std as number));
    checks.push(check("logits", relative(values(outputs.get("logits")), (logits as Stored).values as number[], 1), allowed));
  } else checks.push(compare("logits", outputs.get("logits"), precise || (logits as Stored), precise ? 1e-6 : 1e-5));
  if (second) checks.push(compare("logits of a second call without reset", run().outputs.get("logits"), second, 1e-5));
  const stored = Object.entries((fixture.taps ?? {}) as Record<string, Tap>);
  // Behind the third stage of a full network float32 may have moved an integer.
  for (const [name, tap] of stored)
    if (full === undefined || double || !/^block[34]/.test(name)) checks.push(...tapChecks(name, taps.get(name), tap));
  if (fixture.neuron_evaluations !== undefined)
    checks.push(holds("neuron evaluations", ties.neurons === fixture.neuron_evaluations, `${ties.neurons}`));
  if (fixture.exact_rounding_ties !== undefined)
    checks.push(holds("exact ties", ties.ties === fixture.exact_rounding_ties, `${ties.ties}`));
  // The same by binary virtual steps: sums in another order, which in float32 may move an integer of a full network.
  snn.reset(module);
  snn.setMode(module, "spikes");
  const [integer, spikes] = [values(outputs.get("logits")), values(run().outputs.get("logits"))];
  if (double || full === undefined) checks.push(check("logits of spikes", relative(spikes, integer), double ? 0 : 1e-5));
  else checks.push(check("logits of spikes", relative(spikes, integer, 1), Math.max(5 * full, 0.02 * (fixture.logits_std as number))));
  return checks;
}

const values = (array: NdArray | undefined): Float64Array => (array ? formats.toFloat64(array) : new Float64Array());

/** Counts the inputs of neurons, and those of them that lie exactly between two integers. */
export function countTies(module: nn.Module) {
  const paths = new Map([...module.namedModules()].map(([path, m]) => [m, path]));
  const counter = {
    neurons: 0,
    ties: 0,
    hear(m: nn.Module, [x]: readonly unknown[]) {
      if (!/(spike\d?|lif|neuron\d)$/.test(paths.get(m) ?? "")) return;
      for (const v of (x as Tensor).dataSync()) {
        counter.neurons++;
        if (v > 0 && v < 4 && v % 1 === 0.5) counter.ties++;
      }
    },
  };
  return counter;
}

export function tapChecks(name: string, found: NdArray | undefined, tap: Tap): Check[] {
  const checks = [compare(`tap ${name}`, found, tap, 1e-5)];
  const { integer_histogram: histogram, mean_integer: mean } = tap;
  if (!histogram || !found) return checks;
  const data = values(found);
  // The stored mean of the values and that of the integers tell what they were divided by.
  const norm = mean ? Math.round(mean / (tap.mean ?? (tap.values as number[]).reduce((a, b) => a + b, 0) / data.length)) : 1;
  const counts = new Float64Array(histogram.length);
  let outside = 0;
  for (const v of data) {
    const n = v * norm;
    if (Number.isInteger(n) && n >= 0 && n < counts.length) counts[n] = (counts[n] as number) + 1;
    else outside++;
  }
  const integers = counts.reduce((sum, count, n) => sum + n * count, 0) / data.length;
  checks.push(
    check(
      `integers of ${name}`,
      relative(
        counts.map((c) => c / data.length),
        histogram,
        1,
      ),
      SHARE,
      outside,
    ),
  );
  if (mean !== undefined) checks.push(check(`mean integer of ${name}`, Math.abs(integers - mean), 5 * SHARE));
  if (tap.firing_rate !== undefined) checks.push(check(`firing rate of ${name}`, Math.abs(integers / 4 - tap.firing_rate), SHARE));
  if (tap.nonzero_fraction !== undefined)
    checks.push(check(`share of ${name} that fires`, Math.abs(1 - (counts[0] as number) / data.length - tap.nonzero_fraction), SHARE));
  return checks;
}

function labelsOf({ inputs }: Fixture): Int32Array {
  const labels = inputs.labels as number[] | { values: number[] };
  return Int32Array.from(Array.isArray(labels) ? labels : labels.values);
}

interface LossSpec {
  type: string;
  smoothing: number;
  base: { smoothing: number };
  distillation_type: "hard" | "soft";
  alpha: number;
  tau: number;
}

/** The loss of a fixture, and what it stores of other settings. */
function losses(fixture: Fixture, tensors: ReadonlyMap<string, Tensor>): { loss: Tensor; others: Check[] } {
  const spec = fixture.loss_fn as LossSpec;
  const labelSmoothing = (spec.base ?? spec).smoothing;
  const labelled = train.classificationLoss(tensors.get("logits") as Tensor, tensor(labelsOf(fixture)), { labelSmoothing });
  if (spec.type !== "distillation") return { loss: labelled, others: [] };
  const student = tensors.get("logits_kd") as Tensor;
  const teacher = models.fromOfficial(inputArray("teacher_logits", fixture.inputs.teacher_logits as InputSpec), [0, 1]);
  const soft = (alpha: number, temperature: number) =>
    noGrad(() => nn.distillationLoss(labelled, student, teacher, { kind: "soft", alpha, temperature })).itemSync();
  const others = (
    [
      ["loss_soft_alpha0.5_tau1", 0.5, 1],
      ["loss_soft_alpha0.3_tau3", 0.3, 3],
    ] as const
  ).map(([name, alpha, tau]) => check(name, Math.abs(soft(alpha, tau) / (fixture[name] as number) - 1), 1e-5));
  const { distillation_type: kind, alpha, tau: temperature } = spec;
  return { loss: nn.distillationLoss(labelled, student, teacher, { kind, alpha, temperature }), others };
}

function trainStep(fixture: Fixture, kind: models.OfficialKind, module: nn.Module, double: boolean): Check[] {
  module.train();
  const run = kind.run(module, inputOf(fixture), { taps: true });
  const { loss, others } = losses(fixture, run.tensors);
  loss.backward();
  const precise = double && fixture.outputs_f64;
  const expected = (double ? fixture.loss_f64 : fixture.loss) as number;
  const checks = [
    ...Object.entries((precise ? fixture.outputs_f64 : fixture.outputs) as Record<string, Stored>).map(([name, logits]) =>
      compare(name, run.outputs.get(name), logits, precise ? 1e-6 : 1e-5),
    ),
    check("loss", Math.abs(loss.itemSync() - expected) / expected, double ? 1e-9 : 1e-5),
    ...others,
  ];
  for (const [name, tap] of Object.entries((fixture.taps ?? {}) as Record<string, Tap>))
    checks.push(...tapChecks(name, run.taps.get(name), tap));
  const silent = [...run.taps]
    .filter(([name, v]) => /attn_(spike|lif)$/.test(name) && values(v).every((s) => s === 0))
    .map(([name]) => name);
  checks.push(...gradients(module, fixture.grads as Record<string, Stored>, silent, fixture.grad_global_norm as number | undefined));
  const state = module.stateDict();
  for (const [name, stats] of Object.entries((fixture.bn_running_stats_after ?? {}) as Record<string, Record<string, Stored | number>>))
    for (const [field, stored] of Object.entries(stats)) {
      const found = state.get(`${name}.${field}`);
      if (typeof stored === "number") checks.push(holds(`${name}.${field}`, Number(found?.data[0]) === stored));
      else checks.push(compare(`${name}.${field}`, found, stored, 1e-5));
    }
  return checks;
}

/** Gradients of parameters; one that is missing is zero. `silent`: paths of attention neurons that never fired. */
export function gradients(module: nn.Module, expected: Record<string, Stored>, silent: readonly string[], norm?: number): Check[] {
  let [largest, squares] = [0, 0];
  const found = new Map(
    [...module.namedParameters()].map(([key, p]) => {
      const { shape, data } = nn.likeFile(p, p.grad?.dataSync() ?? new Float32Array(p.size));
      for (const v of data) {
        largest = Math.max(largest, Math.abs(v));
        squares += v * v;
      }
      return [key, { dtype: data instanceof Float64Array ? "f64" : "f32", shape, data } as NdArray];
    }),
  );
  const vanishes = (key: string) =>
    BEFORE_NORM.test(key) ||
    silent.some((path) => key.startsWith(path.replace(/attn_(spike|lif)$/, "proj_conv.")) && !key.endsWith("proj_conv.1.bias"));
  const checks = Object.entries(expected).map(([key, stored]) => {
    const gradient = found.get(key);
    if (!vanishes(key) || !gradient) return compare(`grad ${key}`, gradient, stored, GRADIENT);
    // Small, or as the fixture has it.
    const most = values(gradient).reduce((a, v) => Math.max(a, Math.abs(v)), 0);
    const apart = stored.values ? relative(values(gradient), stored.values, 1) : most;
    return check(`vanishing grad ${key}`, Math.min(most, apart), VANISHING * largest);
  });
  if (norm !== undefined) checks.push(check("norm of all gradients", relative([Math.sqrt(squares)], [norm]), GRADIENT));
  return checks;
}

interface BlockCase {
  input_name: string;
  input: InputSpec;
  state_shapes: Record<string, number[]>;
  fill: Fixture["fill"];
  eval_output: Stored;
  train_output: Stored;
  upstream_gradient: InputSpec & { name: string };
  input_grad: Stored;
  param_grads: Record<string, Stored>;
}

/**
 * Relative to the largest value, or to 1 where all are less: of a branch that is silent for the whole batch the norm of a norm magnifies rounding
 * by 1 / sqrt(eps).
 */
function close(what: string, found: NdArray, stored: Stored): Check {
  const expected = stored.values as number[];
  const scale = expected.reduce((a, v) => Math.max(a, Math.abs(v)), 1);
  return check(what, found.shape.join() === stored.shape.join() ? relative(values(found), expected, scale) : Number.NaN, 1e-5);
}

/** Blocks in eval and in train mode with all gradients. `build` makes one by the official class's name and its weights' shapes. */
export function blockChecks(build: (name: string, shapes: Record<string, number[]>, fixture: Fixture) => BuiltBlock) {
  return (fixture: Fixture): Check[] =>
    Object.entries(fixture.outputs as unknown as Record<string, BlockCase>).flatMap(([name, c]) => {
      const { module, toOurs, toOfficial } = build(name, c.state_shapes, fixture);
      try {
        const one: Fixture = { ...fixture, state_shapes: c.state_shapes, fill: c.fill };
        const fill = () => module.loadStateDict(filledState(one) as Parameters<nn.Module["loadStateDict"]>[0]);
        fill();
        const x = toOurs(inputArray(c.input_name, c.input));
        module.eval();
        const evaluated = noGrad(() => toOfficial(module.forward(x)));
        fill();
        module.train();
        x.requiresGrad = true;
        const silent: string[] = [];
        const paths = new Map([...module.namedModules()].map(([path, m]) => [m, path]));
        const hear = (m: nn.Module, _x: readonly unknown[], y: unknown) => {
          const path = paths.get(m) ?? "";
          if (/attn_(spike|lif)$/.test(path) && (y as Tensor).dataSync().every((v) => v === 0)) silent.push(path);
        };
        const y = nn.withForwardHook(hear, () => module.forward(x) as Tensor);
        const trained = toOfficial(y);
        y.backward({ gradient: toOurs(inputArray(c.upstream_gradient.name, c.upstream_gradient)) });
        return [
          close("eval output", evaluated, c.eval_output),
          close("train output", trained, c.train_output),
          compare("grad of the input", x.grad ? toOfficial(x.grad) : undefined, c.input_grad, GRADIENT),
          ...gradients(module, c.param_grads, silent),
        ].map((k) => ({ ...k, what: `${name} ${k.what}` }));
      } finally {
        module.dispose();
      }
    });
}

export interface BuiltBlock {
  module: nn.Module;
  /** An array in the official axis order as a tensor of ours, and back. */
  toOurs(array: NdArray): Tensor;
  toOfficial(value: Tensor): NdArray;
}
