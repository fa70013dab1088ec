/**
 * User-defined neurons: state, charge, threshold and reset as expressions, compiled when the layer is made and run by the
 * interpreter kernels, all steps in one pass over memory like the built-in ones. The gradient is derived symbolically.
 */
import { Parameter } from "../nn/module.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { NEURON_LIMITS, SURROGATE } from "../runtime/kernel-table.ts";
import { run, sumRows, tilesFor } from "../tensor/ops/common.ts";
import { expand, stack } from "../tensor/ops/layout.ts";
import { keep } from "../tensor/scope.ts";
import { type Shape, wrong } from "../tensor/shape.ts";
import { applyMany, type OpDefinition } from "../tensor/tape.ts";
import { empty, emptySpikes, type Tensor, tensor, zeros } from "../tensor/tensor.ts";
import { type CompiledProgram, compile, constant, type Expr, expr, gradients, input, spike, type Value } from "./expression.ts";
import { checkState, Neuron, type NeuronOutput, preActivation, type StateOptions, stepsOf } from "./neurons.ts";
import { type Surrogate, sigmoid, slopeOf } from "./surrogate.ts";

/** What an expression of a neuron is made of, by name. */
export type Env<K extends string> = { readonly [Name in K]: Expr };
/** New values of some of the states. */
export type Update<S extends string> = { readonly [Name in S]?: Value };

/** A neuron of your own. `S` are its states, `P` its parameters; `x` is the input, `s` the spike. */
export interface NeuronDefinition<S extends string, P extends string> {
  readonly name: string;
  /** States with their values at rest. */
  readonly state: Readonly<Record<S, number>>;
  /** Parameters with their defaults. */
  readonly params?: Readonly<Record<P, number>>;
  /** States after the input came in; a state that is left out keeps its value. */
  readonly charge: (e: Env<S | P | "x">) => Update<S>;
  /** The neuron fires where this, of the charged states, is at least 0. */
  readonly fire: (e: Env<S | P | "x">) => Value;
  /** States after the spike `s` (0 or 1); a state that is left out keeps its charged value. */
  readonly reset: (e: Env<S | P | "x" | "s">) => Update<S>;
}

export interface CustomOptions<P extends string> extends StateOptions {
  /** Values of parameters: a number, or one for each channel (of a learnt one). */
  params?: { readonly [Name in P]?: number | readonly number[] } | undefined;
  /** Parameters to learn: they become the layer's, under their names. */
  learn?: readonly P[] | undefined;
  /** Default `surrogate.sigmoid({ alpha: 4 })`. */
  surrogate?: Surrogate | undefined;
  /** Is the spike in `reset` a constant in backward? Default false. */
  detachReset?: boolean | undefined;
}

interface Compiled {
  readonly forward: CompiledProgram;
  readonly backward: CompiledProgram;
  readonly init: readonly number[];
  readonly paramCount: number;
  readonly surrogate: Surrogate;
}

interface Call {
  readonly name: string;
  readonly programs: Compiled;
  readonly steps: number;
  readonly rows: number;
  readonly c: number;
  readonly hasState: boolean;
  readonly givesState: boolean;
}

const constantsOf = (program: CompiledProgram): Tensor | null =>
  program.constants.length ? tensor(Float64Array.from(program.constants)) : null;

const customOp: OpDefinition<Call> = {
  name: "customNeuron",
  forward(ctx, inputs, { name, programs, steps, rows, c, hasState, givesState }) {
    const { x, affine } = preActivation(name, inputs[0] as Tensor);
    const s0 = hasState ? (inputs[1] as Tensor) : null;
    const params = programs.paramCount ? (inputs[inputs.length - 1] as Tensor) : null;
    const shape = (inputs[0] as Tensor).shape;
    const states = programs.init.length;
    const spikes = emptySpikes(shape);
    const after = givesState ? empty([states, ...shape.slice(1)]) : null;
    const { forward } = programs;
    run(
      "neuron_vm_forward",
      {
        x: x.storage,
        scale: affine?.scale.storage ?? null,
        shift: affine?.shift.storage ?? null,
        params: params?.storage ?? null,
        s0: s0?.storage ?? null,
        init: tensor(Float64Array.from(programs.init)).storage,
        spikes: spikes.storage,
        s1: after?.storage ?? null,
        program: tensor(forward.code).storage,
        constants: constantsOf(forward)?.storage ?? null,
        steps,
        rows,
        c,
        states,
        paramCount: programs.paramCount,
        constantCount: forward.constants.length,
        registers: forward.registers,
        length: forward.length,
      },
      tilesFor(rows, 4 * steps * c),
    );
    ctx.save(
      x,
      ...(affine ? [affine.scale, affine.shift, affine.mean, affine.rstd] : []),
      ...(s0 ? [s0] : []),
      ...(params ? [params] : []),
    );
    ctx.values.affine = affine !== null;
    return after ? [spikes, after] : spikes;
  },
  backward(ctx, [gy, gs1], { programs, steps, rows, c, hasState }) {
    const saved = [...ctx.saved];
    const x = saved.shift() as Tensor;
    const [scale, shift, mean, rstd] = ctx.values.affine ? saved.splice(0, 4) : [];
    const s0 = hasState ? (saved.shift() as Tensor) : null;
    const params = saved.shift() ?? null;
    const { forward, backward, surrogate, paramCount } = programs;
    const chunks = tilesFor(rows, 16 * steps * c);
    const gz = ctx.over(x.shape, gy);
    const gs0 = s0 && ctx.needs[1] ? empty(s0.shape) : null;
    const gparams = params && ctx.needs[ctx.needs.length - 1] ? empty([chunks, paramCount, c]) : null;
    const stats = mean ? empty([chunks, 2, c]) : null;
    run(
      "neuron_vm_backward",
      {
        x: x.storage,
        scale: scale?.storage ?? null,
        shift: shift?.storage ?? null,
        params: params?.storage ?? null,
        s0: s0?.storage ?? null,
        init: tensor(Float64Array.from(programs.init)).storage,
        gy: (gy ?? zeros(x.shape)).storage,
        gs1: gs1?.storage ?? null,
        gz: gz.storage,
        gs0: gs0?.storage ?? null,
        gparams: gparams?.storage ?? null,
        mean: mean?.storage ?? null,
        rstd: rstd?.storage ?? null,
        stats: stats?.storage ?? null,
        program: tensor(forward.code).storage,
        constants: constantsOf(forward)?.storage ?? null,
        gradProgram: tensor(backward.code).storage,
        gradConstants: constantsOf(backward)?.storage ?? null,
        steps,
        rows,
        c,
        states: programs.init.length,
        paramCount,
        constantCount: forward.constants.length,
        registers: forward.registers,
        length: forward.length,
        gradConstantCount: backward.constants.length,
        gradRegisters: backward.registers,
        gradLength: backward.length,
        chunks,
        surrogate: surrogate.custom ? SURROGATE.indexOf("pass") : surrogate.kind, // a custom one is part of the program
        p0: surrogate.p0,
        p1: surrogate.p1,
      },
      chunks,
    );
    if (stats) gz.normSums = { partial: keep(stats), chunks };
    const gp = gparams ? sumRows(gparams, chunks, paramCount * c).alias([paramCount, c]) : null;
    return [gz, ...(hasState ? [gs0] : []), ...(paramCount ? [gp] : [])];
  },
};

/** A layer of user-defined neurons; `state` of `run` is [states, ...], in the order of the definition. */
export class CustomNeuron<S extends string = string, P extends string = string> extends Neuron {
  private readonly programs: Compiled;
  private readonly learned: readonly P[];

  constructor(definition: NeuronDefinition<S, P>, options: CustomOptions<P> = {}) {
    super(definition.name, options);
    const learn = options.learn ?? [];
    const values: Record<string, number | readonly number[]> = { ...definition.params, ...options.params };
    for (const name of [...Object.keys(values), ...learn])
      if (!(name in (definition.params ?? {})))
        wrong(this.label, "parameters", `among ${Object.keys(definition.params ?? {}).join(", ") || "none"}`, name);
    for (const name of learn) {
      if (name in this) throw new SpikeloomError(`${this.label}: a learnt parameter cannot be called "${name}", a layer has that already`);
      const value = values[name] as number | readonly number[];
      Object.assign(this, { [name]: new Parameter(tensor(value)) });
    }
    this.learned = learn;
    this.programs = build(this.label, definition, values, learn, options);
  }

  override stateShape(x: Shape): Shape {
    return [this.programs.init.length, ...x.slice(1)];
  }

  private call(x: Tensor, state: Tensor | null, givesState: boolean): Tensor[] {
    const sizes = stepsOf(this.label, x);
    const states = this.programs.init.length;
    if (states * sizes.steps > NEURON_LIMITS.history)
      wrong(
        this.label,
        "x",
        `of at most ${Math.floor(NEURON_LIMITS.history / states)} time steps for ${states} states`,
        String(sizes.steps),
      );
    if (state) checkState(this.label, state, this.stateShape(x.shape));
    const params = this.learned.map((name) => expand((this as unknown as Record<string, Parameter>)[name] as Parameter, [sizes.c]));
    const inputs = [x, ...(state ? [state] : []), ...(params.length ? [stack(params)] : [])];
    return applyMany(customOp, inputs, { name: this.kind, programs: this.programs, ...sizes, hasState: state !== null, givesState });
  }

  run(x: Tensor, state: Tensor | null = null): NeuronOutput {
    const [spikes, after] = this.call(x, state, true) as [Tensor, Tensor];
    return { spikes, state: after };
  }

  protected fire(x: Tensor): Tensor {
    return this.call(x, null, false)[0] as Tensor;
  }
}

/** The step as expressions, its gradient, and both as programs. */
function build<S extends string, P extends string>(
  label: string,
  definition: NeuronDefinition<S, P>,
  values: Readonly<Record<string, number | readonly number[]>>,
  learn: readonly P[],
  { surrogate = sigmoid(), detachReset = false }: CustomOptions<P>,
): Compiled {
  const names = Object.keys(definition.state) as S[];
  if (!names.length) wrong(label, "state", "at least one state", "none");
  const x = input("x");
  const before = names.map((name) => input(name));
  const learned = learn.map((name) => input(name));
  const params: Record<string, Expr> = {};
  for (const [name, value] of Object.entries(values)) {
    const at = (learn as readonly string[]).indexOf(name);
    if (at < 0 && typeof value !== "number") wrong(label, name, "a number (or among `learn`)", "one value for each channel");
    params[name] = at < 0 ? constant(value as number) : (learned[at] as Expr);
  }
  const states = (values: readonly Expr[]) => Object.fromEntries(names.map((name, i) => [name, values[i] as Expr]));
  const updated = (where: string, from: readonly Expr[], update: Update<S>): Expr[] => {
    for (const key of Object.keys(update))
      if (!(names as readonly string[]).includes(key)) wrong(label, where, `of the states ${names.join(", ")}`, key);
    return names.map((name, i) => (update[name] === undefined ? (from[i] as Expr) : expr(update[name] as Value)));
  };
  const charged = updated("charge", before, definition.charge({ ...params, ...states(before), x } as Env<S | P | "x">));
  const s = spike(expr(definition.fire({ ...params, ...states(charged), x } as Env<S | P | "x">)));
  const env = { ...params, ...states(charged), x, s: detachReset ? s.detach() : s };
  const after = updated("reset", charged, definition.reset(env as Env<S | P | "x" | "s">));

  const registers = [x, ...before, ...learned];
  const forward = compile(label, { before: registers, after: [null] }, [
    { value: s, to: { after: 0 } },
    ...after.map((value, k) => ({ value, to: { before: 1 + k } })),
  ]);
  const gs = input("the spike's gradient");
  const gStates = names.map((name) => input(`the gradient of ${name}`));
  const outputs = [{ value: s, seed: gs }, ...after.map((value, k) => ({ value, seed: gStates[k] as Expr }))];
  const g = gradients(outputs, registers, slopeOf(surrogate));
  const n = names.length;
  const backward = compile(`${label} (gradient)`, { before: registers, after: [gs, ...gStates, null, ...learned.map(() => null)] }, [
    { value: g[0] as Expr, to: { after: 1 + n } },
    ...names.map((_, k) => ({ value: g[1 + k] as Expr, to: { after: 1 + k } })),
    ...learned.map((_, p) => ({ value: g[1 + n + p] as Expr, to: { after: 2 + n + p } })),
  ]);
  const init = names.map((name) => definition.state[name]);
  return { forward, backward, init, paramCount: learn.length, surrogate };
}

/**
 * A neuron of your own, as a function that makes layers.
 *
 *     const ALIF = defineNeuron({
 *       name: "ALIF", state: { v: 0, a: 0 }, params: { beta: 0.9, rho: 0.97 },
 *       charge: ({ v, x, beta }) => ({ v: v.mul(beta).add(x) }),
 *       fire: ({ v, a }) => v.sub(1).sub(a.mul(1.8)),
 *       reset: ({ v, a, s, rho }) => ({ v: v.sub(s), a: a.mul(rho).add(s) }),
 *     });
 *     const layer = ALIF({ learn: ["beta"], surrogate: surrogate.atan() });
 */
export function defineNeuron<S extends string, P extends string = never>(
  definition: NeuronDefinition<S, P>,
): (options?: CustomOptions<P>) => CustomNeuron<S, P> {
  return (options) => new CustomNeuron(definition, options);
}
