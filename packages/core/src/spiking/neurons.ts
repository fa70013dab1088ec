/**
 * Spiking neurons as layers: IF, LIF, PLIF, the integer-valued I-LIF and the stateless quantiser, over inputs [T, ..., C]; and what
 * layers in other files build on (synaptic.ts, recurrent.ts, custom.ts).
 *
 * All T steps run in one kernel, which takes a preceding batch norm's affine on the fly and writes bits. Libraries mean different
 * things by one name, so every switch is an option: step order, reset, comparison, decay form, surrogate. Defaults are SpikingJelly's.
 * A forward starts afresh; state that is carried on is asked for (`carry`, or `run` with a state).
 */

import { Module, Parameter } from "../nn/module.ts";
import { checkOptions, kindOf } from "../runtime/check.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { CHARGE, CURRENT, FIRE, NEURON_LIMITS, ORDER, RESET } from "../runtime/kernel-table.ts";
import { log } from "../runtime/math.ts";
import { isCheckpointed } from "../tensor/checkpoint.ts";
import type { AffineParts } from "../tensor/lazy.ts";
import { dense, run, sumRows, tilesFor } from "../tensor/ops/common.ts";
import { sigmoid as sigmoidOf } from "../tensor/ops/elementwise.ts";
import { expand } from "../tensor/ops/layout.ts";
import { toSteps } from "../tensor/ops/steps.ts";
import { keep, scope } from "../tensor/scope.ts";
import { type Shape, sameShape, show, sizeOf, wrong } from "../tensor/shape.ts";
import { applyMany, type OpDefinition } from "../tensor/tape.ts";

import { empty, emptySpikes, full, planesOf, Tensor, tensor, zeros } from "../tensor/tensor.ts";

import { openWindow, type Surrogate, sigmoid, window } from "./surrogate.ts";

/** What a neuron gives when its state is asked for too. */
export interface NeuronOutput {
  readonly spikes: Tensor;
  /** The state after the last step; give it to the next `run` to go on. */
  readonly state: Tensor;
}

export interface StateOptions {
  /**
   * Keep the state from one forward to the next until `reset`: with its graph (`true`, for backward through several forwards), or
   * values only (`"detached"`: streaming, truncated backward). Default false: every forward starts afresh.
   */
  carry?: boolean | "detached" | undefined;
  /** How messages call this layer, e.g. its path in the network. */
  name?: string | undefined;
}

/**
 * How integer-valued neurons emit in eval mode: each integer n of 0..D at once (`"integer"`, as in training), or as D binary virtual steps
 * [n > 0], ..., [n > D - 1] (`"spikes"`), which all layers behind add up: the same outputs, by additions alone (spike firing
 * approximation; Yao et al. 2025, arXiv 2411.16061). With T steps the order is t D + d.
 */
export const SPIKE_MODES = ["integer", "spikes"] as const;
export type SpikeMode = (typeof SPIKE_MODES)[number];

/**
 * Set how the integer-valued neurons of a network emit in eval mode; others are binary in any case.
 * @returns a function that sets them as they were
 */
export function setMode(net: Module, mode: SpikeMode): () => void {
  if (!((net as unknown) instanceof Module)) wrong("setMode", "the network", "a Module", kindOf(net));
  indexIn("setMode", "the mode", mode, SPIKE_MODES);
  const before: [BuiltIn, SpikeMode][] = [];
  for (const [, m] of net.namedModules())
    if (m instanceof BuiltIn) {
      before.push([m, m.mode]);
      m.mode = mode;
    }
  return () => {
    for (const [m, was] of before) m.mode = was;
  };
}

/** A layer with a membrane: what is common to built-in and user-defined neurons. */
export abstract class Neuron extends Module {
  readonly carry: boolean | "detached";
  readonly kind: string;
  private path: string;
  private carried: Tensor | null = null;

  constructor(kind: string, { carry = false, name = "" }: StateOptions) {
    super();
    this.carry = carry;
    this.kind = kind;
    this.path = name;
  }

  /** How messages call this layer. */
  get label(): string {
    return this.path ? `${this.kind} "${this.path}"` : this.kind;
  }

  /**
   * Explicit state: run from `state` (null: from rest), get the spikes and the state after the last step. Differentiable in both.
   * @throws SpikeloomError for shapes that do not fit
   */
  abstract run(x: Tensor, state?: Tensor | null): NeuronOutput;

  protected abstract fire(x: Tensor): Tensor;

  /** Shape of the state for an input. */
  stateShape(x: Shape): Shape {
    return x.slice(1);
  }

  /** @returns spikes [T, ..., C] */
  forward(x: Tensor): Tensor {
    if (!this.carry) return this.fire(x);
    if (isCheckpointed())
      throw new SpikeloomError(
        `${this.label}: a state carried from forward to forward cannot be repeated inside checkpoint(). Leave carry out there, or give the state to run()`,
      );
    const before = this.carried;
    if (before) {
      const expected = this.stateShape(x.shape);
      if (!sameShape(before.shape, expected))
        throw new SpikeloomError(
          `${this.label}: the state carried from the last forward is of shape ${show(before.shape)}, this input needs ${show(expected)}. Call snn.reset(net) before a batch of another size`,
        );
      if (before.node?.spent)
        throw new SpikeloomError(
          `${this.label}: the state carried from the last forward belongs to a graph whose backward has run. Call snn.reset(net) between samples, or carry: "detached"`,
        );
    }
    const { spikes, state } = this.run(x, before);
    this.carried = keep(this.carry === "detached" ? state.alias() : state);
    before?.dispose();
    return spikes;
  }

  /** Forget the carried state. `path` is where the layer stands in its network; messages then name it, unless it has a name. */
  reset(path = ""): void {
    this.path ||= path;
    this.carried?.dispose();
    this.carried = null;
  }

  override dispose(): void {
    this.reset();
    super.dispose();
  }
}

/** Forget the carried state of every neuron in a network: between samples, and before a batch of another size. */
export function reset(net: Module): void {
  for (const [path, m] of net.namedModules()) if (m instanceof Neuron) m.reset(path);
}

/** The switches of the kernels, and what the op adds. */
interface Settings {
  readonly name: string;
  readonly charge: number;
  readonly order: number;
  readonly reset: number;
  readonly current: number;
  readonly fire: number;
  readonly levels: number;
  readonly planes: number;
  readonly r: number;
  readonly vThreshold: number;
  readonly vReset: number;
  readonly vRest: number;
  readonly vInit: number;
  readonly surrogate: Surrogate;
  readonly detach: number;
  /** What one spike is worth. */
  readonly scale: number;
}

interface Call {
  readonly rule: Settings;
  readonly steps: number;
  readonly rows: number;
  readonly c: number;
  /** Which optional inputs follow x, and whether the state is an output. */
  readonly hasState: boolean;
  readonly hasRate: boolean;
  readonly hasAlpha: boolean;
  readonly givesState: boolean;
}

/** x as the kernels take it: its values, or what a batch norm left undone. */
export function preActivation(op: string, x: Tensor): { x: Tensor; affine: NormParts | null } {
  if (!x.affine?.isNorm) return { x: dense(op, x), affine: null };
  const affine = x.affine.parts as NormParts;
  return { x: affine.x, affine };
}

type NormParts = { readonly [K in Exclude<keyof AffineParts, "plus">]: Tensor };

const kernelSwitches = ({ charge, order, reset, current, fire, levels, planes, r, vThreshold, vReset, vRest, vInit }: Settings) => ({
  charge,
  order,
  reset,
  current,
  fire,
  levels,
  planes,
  r,
  vThreshold,
  vReset,
  vRest,
  vInit,
});

const neuronOp: OpDefinition<Call> = {
  name: "neuron",
  forward(ctx, inputs, { rule, steps, rows, c, hasState, hasRate, hasAlpha, givesState }) {
    const input = inputs[0] as Tensor;
    // Steps that are all the same are read from one place.
    const still = input.repeated?.steps === steps ? input.repeated.x : null;
    const { x, affine } = preActivation(rule.name, still ?? input);
    const rest = inputs.slice(1);
    const v0 = hasState ? (rest.shift() as Tensor) : null;
    const rate = hasRate ? (rest.shift() as Tensor) : null;
    const alpha = hasAlpha ? (rest.shift() as Tensor) : null;
    const { shape } = input;
    const spikes = emptySpikes(shape, { planes: rule.planes, scale: rule.scale });
    const state = givesState ? empty([...(alpha ? [2] : []), ...shape.slice(1)]) : null;
    run(
      "neuron_forward",
      {
        ...kernelSwitches(rule),
        x: x.storage,
        scale: affine?.scale.storage ?? null,
        shift: affine?.shift.storage ?? null,
        rtau: rate?.storage ?? null,
        alpha: alpha?.storage ?? null,
        v0: v0?.storage ?? null,
        spikes: spikes.storage,
        v: state?.storage ?? null,
        h: null,
        xStep: still ? 0 : rows * c,
        steps,
        rows,
        c,
      },
      tilesFor(rows, steps * c),
    );
    ctx.save(x, ...(affine ? [affine.scale, affine.shift, affine.mean, affine.rstd] : []), ...inputs.slice(1));
    ctx.values.affine = affine !== null;
    ctx.values.still = still !== null;
    return state ? [spikes, state] : spikes;
  },
  backward(ctx, [gy, gv], { rule, steps, rows, c, hasState, hasRate, hasAlpha }) {
    const saved = [...ctx.saved];
    const source = saved.shift() as Tensor;
    const x = ctx.values.still ? expand(source, [steps, ...source.shape]) : source;
    const [scale, shift, mean, rstd] = ctx.values.affine ? saved.splice(0, 4) : [];
    const v0 = hasState ? (saved.shift() as Tensor) : null;
    const rate = hasRate ? (saved.shift() as Tensor) : null;
    const alpha = hasAlpha ? (saved.shift() as Tensor) : null;
    const chunks = tilesFor(rows, 4 * steps * c);
    // A spike of the old voltage has its gradient read after that step's own was written.
    const gz = ctx.over(x.shape, ORDER[rule.order] === "fireFirst" ? null : gy);
    const needs = ctx.needs.slice(1);
    const gv0 = v0 && needs.shift() ? empty(v0.shape) : null;
    const gr = rate && needs.shift() ? empty([chunks, c]) : null;
    const galpha = alpha && needs.shift() ? empty([chunks, c]) : null;
    const stats = mean ? empty([chunks, 2, c]) : null;
    const program = rule.surrogate.custom?.program;
    const constants = program?.constants.length ? tensor(Float64Array.from(program.constants)) : null;
    run(
      "neuron_backward",
      {
        x: x.storage,
        scale: scale?.storage ?? null,
        shift: shift?.storage ?? null,
        rtau: rate?.storage ?? null,
        alpha: alpha?.storage ?? null,
        v0: v0?.storage ?? null,
        gy: (gy ?? zeros(x.shape)).storage,
        gv: gv?.storage ?? null,
        gz: gz.storage,
        gv0: gv0?.storage ?? null,
        gr: gr?.storage ?? null,
        galpha: galpha?.storage ?? null,
        mean: mean?.storage ?? null,
        rstd: rstd?.storage ?? null,
        stats: stats?.storage ?? null,
        chunks,
        steps,
        rows,
        c,
        ...kernelSwitches(rule),
        surrogate: rule.surrogate.kind,
        p0: rule.surrogate.p0,
        p1: rule.surrogate.p1,
        detach: rule.detach,
        gain: rule.scale,
        program: program ? tensor(program.code).storage : null,
        constants: constants?.storage ?? null,
        length: program?.length ?? 0,
        registers: program?.registers ?? 0,
        constantCount: program?.constants.length ?? 0,
      },
      chunks,
    );
    if (stats) gz.normSums = { partial: keep(stats), chunks };
    const whole = (partial: Tensor | null) => partial && sumRows(partial, chunks, c);
    return [gz, ...(v0 ? [gv0] : []), ...(rate ? [whole(gr)] : []), ...(alpha ? [whole(galpha)] : [])];
  },
};

/** [T, rows, c] of an input, checked; `states` is how many states the kernels keep for a step. */
export function stepsOf(op: string, x: Tensor, states = 1): { steps: number; rows: number; c: number } {
  if (x.dtype !== "f32" && x.dtype !== "spikes") wrong(op, "x", "of dtype f32", x.dtype);
  if (x.rank < 2) wrong(op, "x", "of shape [T, ..., C]", show(x.shape));
  const steps = x.shape[0] as number;
  const c = x.shape[x.rank - 1] as number;
  const most = Math.floor(NEURON_LIMITS.history / states);
  if (steps < 1 || steps > most) wrong(op, "x", `of 1 to ${most} time steps`, show(x.shape));
  return { steps, rows: sizeOf(x.shape.slice(1, -1)), c };
}

export function checkState(op: string, state: Tensor, expected: Shape): void {
  if (!sameShape(state.shape, expected)) wrong(op, "state", `of shape ${show(expected)}`, show(state.shape));
  if (state.dtype !== "f32") wrong(op, "state", "of dtype f32", state.dtype);
}

/** Names of the options that every neuron takes, for messages. */
export const NEURON_OPTIONS = [
  "carry",
  "name",
  "vThreshold",
  "vReset",
  "reset",
  "detachReset",
  "comparison",
  "order",
  "surrogate",
] as const;
const LEAK_OPTIONS = [...NEURON_OPTIONS, "tau", "beta", "decayInput", "vRest"] as const;

/** Check that switches are true or false. */
export function checkFlags(label: string, flags: Readonly<Record<string, unknown>>): void {
  for (const [argument, value] of Object.entries(flags))
    if (value !== undefined && typeof value !== "boolean") wrong(label, argument, "true or false", kindOf(value));
}

export interface NeuronOptions extends StateOptions {
  /** Default 1. */
  vThreshold?: number | undefined;
  /** Value after a hard reset, default 0; `null` (SpikingJelly's way to say it) is `reset: "soft"`. */
  vReset?: number | null | undefined;
  /** What a spike does to the membrane: to vReset, minus vThreshold, or nothing. Default "hard". */
  reset?: (typeof RESET)[number] | undefined;
  /** Is the reset a constant in backward? Default false. */
  detachReset?: boolean | undefined;
  /** Fires when the membrane is `>=` (SpikingJelly, sinabs) or `>` (snnTorch, Norse, Spyx) its threshold. Default ">=". */
  comparison?: ">=" | ">" | undefined;
  /** Order within a step, see ORDER in the kernel table. Default "fireThenReset"; snnTorch "delayedReset", Spyx "fireFirst". */
  order?: (typeof ORDER)[number] | undefined;
  /** Default `surrogate.sigmoid({ alpha: 4 })`. */
  surrogate?: Surrogate | undefined;
}

interface Membrane {
  readonly charge: (typeof CHARGE)[number];
  readonly r: number;
  readonly vRest?: number | undefined;
  /** Of an integer-valued neuron. */
  readonly levels?: number;
  readonly norm?: number;
  readonly rounding?: "even" | "up";
  /** Of a neuron with a synaptic current. */
  readonly current?: (typeof CURRENT)[number] | undefined;
}

/** A word's place in its list. @throws SpikeloomError for one that is not there */
function indexIn<T extends string>(label: string, argument: string, value: T, list: readonly T[]): number {
  const index = list.indexOf(value);
  if (index < 0) wrong(label, argument, `one of ${list.map((v) => `"${v}"`).join(", ")}`, `"${value}"`);
  return index;
}

function settingsOf(kind: string, label: string, options: NeuronOptions, membrane: Membrane): Settings {
  const { vThreshold = 1, detachReset = false, comparison = ">=", order = "fireThenReset", surrogate = sigmoid() } = options;
  const reset = options.reset ?? (options.vReset === null ? "soft" : "hard");
  const vReset = reset === "hard" ? (options.vReset ?? 0) : 0;
  const { levels = 1, norm = 1, rounding, current = "jump" } = membrane;
  checkFlags(label, { detachReset });
  if (typeof surrogate !== "object" || surrogate === null || !("kind" in surrogate && "p0" in surrogate))
    wrong(
      label,
      "surrogate",
      "a surrogate, such as snn.surrogate.atan()",
      typeof surrogate === "object" ? "another object" : (String(surrogate).split("\n")[0] as string),
    );
  for (const [argument, value] of Object.entries({ vThreshold, vReset, norm }))
    if (!Number.isFinite(value)) wrong(label, argument, "a finite number", String(value));
  if (!Number.isInteger(levels) || levels < 1 || levels > 255) wrong(label, "levels", "an integer from 1 to 255", String(levels));
  if (!(norm > 0)) wrong(label, "norm", "above 0", String(norm));
  const fire = rounding ? (rounding === "even" ? "roundEven" : "roundUp") : comparison === ">=" ? "ge" : "gt";
  if (!rounding) indexIn(label, "comparison", comparison, [">=", ">"]);
  const rest = membrane.vRest ?? vReset;
  return {
    name: kind,
    charge: CHARGE.indexOf(membrane.charge),
    order: indexIn(label, "order", order, ORDER),
    reset: indexIn(label, "reset", reset, RESET),
    current: indexIn(label, "current", current, CURRENT),
    fire: FIRE.indexOf(fire),
    levels,
    planes: planesOf(levels),
    r: membrane.r,
    vThreshold,
    vReset,
    vRest: rest,
    vInit: vReset,
    surrogate,
    detach: detachReset ? 1 : 0,
    scale: 1 / norm,
  };
}

/**
 * Does this module make spikes? Neurons do; containers hand on what their last part gave, pools and reshapes what they were given.
 */
export function makesSpikes(m: Module, input: unknown, output: unknown): output is Tensor {
  if (!(output instanceof Tensor) || output.dtype !== "spikes") return false;
  return m instanceof Neuron || (Boolean(m.children().next().done) && !(input instanceof Tensor && input.dtype === "spikes"));
}

/** A neuron that the kernels know. */
export abstract class BuiltIn extends Neuron {
  /** The switches in use. @internal */
  readonly settings: Settings;
  /** Of an integer-valued neuron: see `setMode`. */
  mode: SpikeMode = "integer";

  constructor(kind: string, options: NeuronOptions, membrane: Membrane) {
    super(kind, options);
    this.settings = settingsOf(kind, this.label, options, membrane);
  }

  /** States that are kept for a step. */
  protected get states(): number {
    return 1;
  }

  /** 1 / tau for c channels, where it is learnt. */
  protected rate(_c: number): Tensor | null {
    return null;
  }

  /** Decay of the synaptic current for c channels, where there is one; the state is then [2, ..., C]. */
  protected alphas(_c: number): Tensor | null {
    return null;
  }

  /** What the layer gives for the spikes of its kernel. */
  protected emitted(spikes: Tensor): Tensor {
    const { levels } = this.settings;
    return levels > 1 && this.mode === "spikes" && !this.training ? toSteps(spikes, levels) : spikes;
  }

  private call(x: Tensor, state: Tensor | null, givesState: boolean): Tensor[] {
    const rule = this.settings;
    const sizes = stepsOf(this.label, x, this.states);
    if (state) checkState(this.label, state, this.stateShape(x.shape));
    return scope(() => {
      const [rate, alpha] = [this.rate(sizes.c), this.alphas(sizes.c)];
      const inputs = [x, state, rate, alpha].filter((t) => t !== null);
      const has = { hasState: state !== null, hasRate: rate !== null, hasAlpha: alpha !== null };
      const [spikes, ...after] = applyMany(neuronOp, inputs, { rule, ...sizes, ...has, givesState }) as [Tensor, ...Tensor[]];
      return [this.emitted(spikes), ...after];
    });
  }

  run(x: Tensor, state: Tensor | null = null): NeuronOutput {
    const [spikes, after] = this.call(x, state, true) as [Tensor, Tensor];
    return { spikes, state: after };
  }

  protected fire(x: Tensor): Tensor {
    return this.call(x, null, false)[0] as Tensor;
  }
}

/** Integrate and fire: H = V + X. */
export class IF extends BuiltIn {
  constructor(options: NeuronOptions = {}) {
    checkOptions("IF", options, NEURON_OPTIONS);
    super("IF", options, { charge: "integrate", r: 0 });
  }
}

export interface LIFOptions extends NeuronOptions {
  /** Membrane time constant in steps, default 2. */
  tau?: number | undefined;
  /** Instead of tau: H = beta V + X (snnTorch, Spyx). */
  beta?: number | undefined;
  /** Does the decay apply to the input too: H = V + (X - (V - vRest)) / tau (default), or H = V - (V - vRest) / tau + X? */
  decayInput?: boolean | undefined;
  /** What the membrane leaks to; default vReset (0 with a soft reset). */
  vRest?: number | undefined;
}

function leakOf(label: string, { tau, beta, decayInput = true, vRest }: LIFOptions): Membrane {
  checkFlags(label, { decayInput });
  if (beta !== undefined) {
    if (tau !== undefined) wrong(label, "tau and beta", "given one at most", "both");
    if (!(beta >= 0 && beta <= 1)) wrong(label, "beta", "from 0 to 1", String(beta));
    return { charge: "leak", r: 1 - beta, vRest: vRest ?? 0 };
  }
  const t = tau ?? 2;
  if (!(t >= 1 && t < Infinity)) wrong(label, "tau", "a finite number of at least 1", String(t));
  return { charge: decayInput ? "leakInput" : "leak", r: 1 / t, vRest };
}

/** Leaky integrate and fire. */
export class LIF extends BuiltIn {
  constructor(options: LIFOptions = {}) {
    checkOptions("LIF", options, LEAK_OPTIONS);
    super("LIF", options, leakOf("LIF", options));
  }
}

export interface PLIFOptions extends NeuronOptions {
  /** First value of the time constant, above 1; default 2. */
  initTau?: number | undefined;
  decayInput?: boolean | undefined;
  vRest?: number | undefined;
}

/** Parametric LIF (Fang et al. 2021, arXiv 2007.05785): 1 / tau = sigmoid(w) with one learnable w for the layer. */
export class PLIF extends BuiltIn {
  /** 0-d, PyTorch's key `w`. */
  w: Parameter;

  constructor(options: PLIFOptions = {}) {
    checkOptions("PLIF", options, [...NEURON_OPTIONS, "initTau", "decayInput", "vRest"]);
    checkFlags("PLIF", { decayInput: options.decayInput });
    const { initTau = 2, decayInput = true, vRest } = options;
    super("PLIF", options, { charge: decayInput ? "leakInput" : "leak", r: 1 / initTau, vRest });
    if (!(initTau > 1 && initTau < Infinity)) wrong(this.label, "initTau", "a finite number above 1", String(initTau));
    this.w = new Parameter(full([], -log(initTau - 1)));
  }

  protected override rate(c: number): Tensor {
    return expand(sigmoidOf(this.w), [c]);
  }
}

export interface IntegerOptions {
  /** D: the largest integer a step emits, 1 to 255. Default 4. */
  levels?: number | undefined;
  /** What the integer is divided by. */
  norm?: number | undefined;
  /** Ties to even (SpikeYOLO, SDT-V3 base; default), or floor(x + 1/2) (SDT-V3 large, E-3DSNN). */
  rounding?: "even" | "up" | undefined;
  /** Default: 1 on [0, D], or for `rounding: "up"` on (0, D). */
  surrogate?: Surrogate | undefined;
}

export interface ILIFOptions extends Omit<LIFOptions, "comparison">, IntegerOptions {}

const windowOf = (levels: number, rounding: "even" | "up"): Surrogate => (rounding === "up" ? openWindow : window)({ lo: 0, hi: levels });

/**
 * Integer-valued LIF (Luo et al. 2024, "Integer-valued training and spike-driven inference", arXiv 2407.20708): emits
 * round(clamp(H, 0, D)) and subtracts it. Defaults are SpikeYOLO's: H = V/4 + X, soft reset of 1 a spike, detached, norm 1.
 */
export class ILIF extends BuiltIn {
  constructor(options: ILIFOptions = {}) {
    checkOptions("ILIF", options, [...LEAK_OPTIONS, "levels", "norm", "rounding"]);
    const { levels = 4, norm = 1, rounding = "even" } = options;
    const leak = options.tau === undefined && options.beta === undefined ? { ...options, beta: 0.25 } : options;
    const reset = options.reset ?? (typeof options.vReset === "number" ? "hard" : "soft");
    const given = {
      ...options,
      reset,
      detachReset: options.detachReset ?? true,
      surrogate: options.surrogate ?? windowOf(levels, rounding),
    };
    super("ILIF", given, { ...leakOf("ILIF", leak), levels, norm, rounding });
  }
}

/**
 * The stateless integer neuron of SDT-V3 (`MultiSpike`, `Quant`): round(clamp(x, 0, D)) / norm, norm D by default. Steps do not
 * interact: any input [..., C].
 */
export class Quant extends BuiltIn {
  constructor({ levels = 4, norm = levels, rounding = "even", surrogate, name }: IntegerOptions & { name?: string | undefined } = {}) {
    const options = { reset: "none" as const, surrogate: surrogate ?? windowOf(levels, rounding), name };
    super("Quant", options, { charge: "stateless", r: 1, levels, norm, rounding });
  }

  override forward(x: Tensor): Tensor {
    if (x.rank < 1) wrong(this.label, "x", "of shape [..., C]", show(x.shape));
    const c = x.shape[x.rank - 1] as number;
    const call = {
      rule: this.settings,
      steps: 1,
      rows: sizeOf(x.shape.slice(0, -1)),
      c,
      hasState: false,
      hasRate: false,
      hasAlpha: false,
      givesState: false,
    };
    return this.emitted(applyMany(neuronOp, [x], call)[0] as Tensor);
  }
}
