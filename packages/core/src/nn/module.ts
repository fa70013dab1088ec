/**
 * Module: a part of a network, with named parameters, buffers and sub-modules.
 *
 * Field names are PyTorch's state-dict keys, so that official checkpoints load by name. A parameter may be stored in another
 * axis order than PyTorch's (channels last, inputs before outputs); its `layout` says how the file's tensor maps to it.
 * Every call of `forward` runs in a scope: what a layer makes on the way is freed when it returns, unless the tape needs it.
 */
import { checkFunction, checkOptions, kindOf } from "../runtime/check.ts";
import type { TypedArray } from "../runtime/device.ts";
import { device, retain } from "../runtime/engine.ts";
import { nearest, SpikeloomError } from "../runtime/error.ts";
import { checkpoint, isRecomputing } from "../tensor/checkpoint.ts";
import { scope } from "../tensor/scope.ts";
import { expectList, type Shape, sameShape, show, sizeOf, stridesOf, wrong } from "../tensor/shape.ts";
import { type DType, expectTensor, Tensor, tensor } from "../tensor/tensor.ts";
import { running } from "./running.ts";

/** How PyTorch's tensor of shape `shape` maps to ours: permute its axes by `axes`, then reshape. */
export interface Layout {
  shape: Shape;
  axes: readonly number[];
}

/** A tensor that a file holds: C order, PyTorch's axis order. i64 stands for integer buffers (`num_batches_tracked`). */
export interface StateEntry {
  dtype: "f32" | "f64" | "i64";
  shape: Shape;
  data: Float32Array | Float64Array | BigInt64Array;
}

function expectLayout(layout: Layout | null): void {
  if (layout !== null && !(Array.isArray(layout?.shape) && Array.isArray(layout.axes)))
    wrong("Parameter", "the layout", "null or { shape, axes }", kindOf(layout));
}

/** A tensor that belongs to a module: never freed by scopes. */
abstract class Owned extends Tensor {
  readonly layout: Layout | null;
  constructor(value: Tensor, layout: Layout | null) {
    expectTensor(new.target.name, "its value", value);
    super(value.shape, value.dtype, retain(value.storage));
    value.dispose();
    this.kept = true;
    this.layout = layout;
  }
}

/** A trainable tensor. */
export class Parameter extends Owned {
  constructor(value: Tensor, layout: Layout | null = null) {
    expectLayout(layout);
    super(value, layout);
    this.requiresGrad = true;
  }
}

/** State that is saved but not trained. `persistent: false` keeps it out of the state dict. */
export class StateBuffer extends Owned {
  readonly persistent: boolean;
  constructor(value: Tensor, persistent = true) {
    super(value, null);
    this.persistent = persistent;
  }
}

/** Called after a module's forward, with its inputs and its output. */
export type ForwardHook = (module: Module, inputs: readonly unknown[], output: unknown) => void;

const hooks: ForwardHook[] = [];

/** Run `fn` with a hook on every module's forward (taps, firing rates, shapes). The hook must not keep tensors without `keep`. */
export function withForwardHook<R>(hook: ForwardHook, fn: () => R): R {
  checkFunction("withForwardHook", "the hook", hook);
  checkFunction("withForwardHook", "its second argument", fn);
  hooks.push(hook);
  try {
    return fn();
  } finally {
    hooks.splice(hooks.lastIndexOf(hook), 1);
  }
}

export abstract class Module {
  training = true;
  /**
   * Save nothing inside this module for backward but its inputs, and run its forward again there (gradient checkpointing; `checkpoint` as a
   * switch). Results are the same to the last bit; for modules whose inputs are tensors and whose output is one.
   */
  recompute = false;

  constructor() {
    const own = this.forward;
    Object.defineProperty(this, "forward", {
      configurable: true,
      value: (...inputs: unknown[]) =>
        scope(() => {
          const run = (...given: unknown[]) => {
            running.push(this);
            try {
              return (own as (...inputs: unknown[]) => unknown).apply(this, given);
            } finally {
              running.pop();
            }
          };
          const output = this.recompute ? checkpoint(run as (...x: Tensor[]) => Tensor, ...(inputs as Tensor[])) : run(...inputs);
          // Who listens has heard it.
          if (!isRecomputing()) for (const hook of hooks) hook(this, inputs, output);
          return output;
        }),
    });
  }

  // biome-ignore lint/suspicious/noExplicitAny: every module has its own signature
  abstract forward(...inputs: any[]): any;

  /** Direct sub-modules by field name; elements of an array field are `field.index`. */
  *children(): Generator<[string, Module]> {
    for (const [name, value] of Object.entries(this)) {
      if (value instanceof Module) yield [name, value];
      else if (Array.isArray(value))
        for (let i = 0; i < value.length; i++) if (value[i] instanceof Module) yield [`${name}.${i}`, value[i]];
    }
  }

  /** This module and all below, with their paths (`""` for this one). */
  *namedModules(prefix = ""): Generator<[string, Module]> {
    yield [prefix, this];
    for (const [name, child] of this.children()) yield* child.namedModules(prefix ? `${prefix}.${name}` : name);
  }

  /** Parameters and buffers with their state-dict keys, each module's own first. */
  *namedState(prefix = ""): Generator<[string, Parameter | StateBuffer]> {
    for (const [name, value] of Object.entries(this))
      if (value instanceof Owned) yield [join(prefix, name), value as Parameter | StateBuffer];
    for (const [name, child] of this.children()) yield* child.namedState(join(prefix, name));
  }

  *namedParameters(): Generator<[string, Parameter]> {
    const seen = new Set<Parameter>();
    for (const [name, value] of this.namedState())
      if (value instanceof Parameter && !seen.has(value)) {
        seen.add(value);
        yield [name, value];
      }
  }

  parameters(): Parameter[] {
    return [...this.namedParameters()].map(([, p]) => p);
  }

  /** How many trainable numbers there are. */
  parameterCount(): number {
    return this.parameters().reduce((n, p) => n + p.size, 0);
  }

  /** Training mode (batch statistics, dropout) for this module and all below. */
  train(on = true): this {
    for (const [, m] of this.namedModules()) m.training = on;
    return this;
  }

  eval(): this {
    return this.train(false);
  }

  /**
   * The parts that are worth running again to save memory (`recompute`), in the order in which they run: a network's blocks. Those of the parts
   * below, unless a module names others.
   */
  recomputable(): Module[] {
    return [...this.children()].flatMap(([, child]) => child.recomputable());
  }

  /** The training flags of this module and all below, as a function that puts them back. */
  modes(): () => void {
    const flags = [...this.namedModules()].map(([, m]) => [m, m.training] as const);
    return () => {
      for (const [m, training] of flags) m.training = training;
    };
  }

  zeroGrad(): void {
    for (const p of this.parameters()) {
      p.grad?.dispose();
      p.grad = null;
    }
  }

  /** Every saved tensor by its PyTorch key, in PyTorch's axis order. */
  stateDict(): Map<string, StateEntry> {
    const out = new Map<string, StateEntry>();
    for (const [key, value] of this.namedState()) {
      if (value instanceof StateBuffer && !value.persistent) continue;
      out.set(key, toFile(value));
    }
    return out;
  }

  /** Keys and PyTorch shapes of the state dict. */
  stateShapes(): Map<string, Shape> {
    const out = new Map<string, Shape>();
    for (const [key, value] of this.namedState())
      if (!(value instanceof StateBuffer && !value.persistent)) out.set(key, value.layout?.shape ?? value.shape);
    return out;
  }

  /**
   * Set every parameter and buffer from `state` (PyTorch's keys and axis order; f32, f64 or integer data).
   * @throws SpikeloomError naming missing and unexpected keys (unless `strict` is false) and wrong shapes; nothing is changed then.
   */
  loadStateDict(
    state: ReadonlyMap<string, { shape: Shape; data: ArrayLike<number> | ArrayLike<bigint> }>,
    options: { strict?: boolean | undefined } = {},
  ): { missing: string[]; unexpected: string[] } {
    checkOptions("loadStateDict", options, ["strict"]);
    const { strict = true } = options;
    if (!(state instanceof Map))
      throw new SpikeloomError(
        `loadStateDict: the state must be a Map from keys to { shape, data }, as stateDict() and safetensors.load give, found ${kindOf(state)}`,
      );
    const mine = new Map([...this.namedState()].filter(([, v]) => !(v instanceof StateBuffer && !v.persistent)));
    const missing = [...mine.keys()].filter((key) => !state.has(key));
    const unexpected = [...state.keys()].filter((key) => !mine.has(key));
    if (strict && (missing.length || unexpected.length)) {
      const hint = unexpected.length === 1 || missing.length === 1 ? nearest(unexpected[0] ?? "", mine.keys()) : undefined;
      throw new SpikeloomError(
        `state dict: ${list("missing", missing)}${missing.length && unexpected.length ? "; " : ""}${list("unexpected", unexpected)}${hint ? `; did the file mean "${hint}"?` : ""}`,
      );
    }
    for (const [key, target] of mine) {
      const source = state.get(key);
      const expected = target.layout?.shape ?? target.shape;
      if (state.has(key) && !isEntry(source))
        throw new SpikeloomError(
          `state dict: "${key}" must be { shape: [...], data: typed array or list of numbers }, found ${kindOf(source)}`,
        );
      if (source && !sameShape(source.shape, expected) && !(sizeOf(source.shape) === 1 && target.size === 1))
        throw new SpikeloomError(`state dict: "${key}" must be of shape ${show(expected)}, found ${show(source.shape)}`);
      if (source && source.data.length !== target.size)
        throw new SpikeloomError(`state dict: "${key}" must have ${target.size} values, found ${source.data.length}`);
    }
    for (const [key, target] of mine) {
      const source = state.get(key);
      if (source) target.set(fromFile(target, numbers(source.data)));
    }
    return { missing, unexpected };
  }

  /** Free every parameter and buffer. */
  dispose(): void {
    for (const [, value] of this.namedState()) value.dispose();
  }
}

function join(prefix: string, name: string): string {
  return prefix ? `${prefix}.${name}` : name;
}

function isEntry(value: unknown): boolean {
  const { shape, data } = (value ?? {}) as { shape?: unknown; data?: unknown };
  if (!Array.isArray(shape)) return false;
  if (Array.isArray(data)) return data.every((v) => typeof v === "number" || typeof v === "bigint");
  return ArrayBuffer.isView(data) && "length" in data;
}

function list(what: string, keys: readonly string[]): string {
  if (!keys.length) return "";
  const shown = keys.slice(0, 5).map((k) => `"${k}"`);
  return `${keys.length} ${what} key${keys.length > 1 ? "s" : ""} (${shown.join(", ")}${keys.length > 5 ? ", ..." : ""})`;
}

/** Values of any kind as floating-point numbers; those that are already are not copied, since a state dict may be most of the memory. */
function numbers(data: ArrayLike<number> | ArrayLike<bigint>): Float32Array | Float64Array {
  if (data instanceof Float32Array || data instanceof Float64Array) return data;
  return Float64Array.from(data as ArrayLike<number>, Number);
}

/**
 * Copy a C-ordered array of shape `shape` into the order of its axes permuted by `axes`; or, where `back`, from that order.
 */
function copyPermuted(from: TypedArray, to: TypedArray, shape: Shape, axes: readonly number[], back: boolean): void {
  const strides = stridesOf(shape);
  const dims = axes.map((a) => shape[a] as number);
  const steps = axes.map((a) => strides[a] as number);
  const last = dims.length - 1;
  const inner = dims[last] ?? 1;
  const step = steps[last] ?? 0;
  const at = dims.map(() => 0);
  const n = sizeOf(shape);
  let index = 0;
  for (let i = 0; i < n; ) {
    for (let j = 0, k = index; j < inner; j++, i++, k += step)
      if (back) to[k] = from[i] as number;
      else to[i] = from[k] as number;
    for (let d = last - 1; d >= 0; d--) {
      at[d] = (at[d] as number) + 1;
      index += steps[d] as number;
      if ((at[d] as number) < (dims[d] as number)) break;
      index -= (steps[d] as number) * (dims[d] as number);
      at[d] = 0;
    }
  }
}

/** A module's tensor in the file's axis order. */
export function toFile(value: Parameter | StateBuffer): StateEntry {
  const data = value.dataSync();
  if (value.dtype === "i32") return { dtype: "i64", shape: value.shape, data: BigInt64Array.from(data as Int32Array, BigInt) };
  return { ...reorder(value.layout, value.shape, data, false), dtype: data instanceof Float64Array ? "f64" : "f32" };
}

/** Values of a file's tensor in the order of our memory. */
export function fromFile(target: { layout: Layout | null; shape: Shape }, data: Float32Array | Float64Array): Float32Array | Float64Array {
  return target.layout ? reorder(target.layout, target.shape, data, true).data : data;
}

/** A gradient (or any tensor shaped like a parameter) in the file's axis order. */
export function likeFile(parameter: Parameter, values: TypedArray): { shape: Shape; data: Float32Array | Float64Array } {
  return reorder(parameter.layout, parameter.shape, values, false);
}

function reorder(
  layout: Layout | null,
  shape: Shape,
  data: TypedArray,
  toMemory: boolean,
): { shape: Shape; data: Float32Array | Float64Array } {
  const out = data instanceof Float64Array ? new Float64Array(data.length) : new Float32Array(data.length);
  if (!layout) out.set(data);
  else copyPermuted(data, out, layout.shape, layout.axes, !toMemory);
  return { shape: layout?.shape ?? shape, data: out };
}

/** A parameter from plain values in the file's axis order. */
export function parameterFrom(values: TypedArray, shape: Shape, layout: Layout | null): Parameter {
  expectList("parameterFrom", "the shape", shape);
  expectLayout(layout);
  if (!ArrayBuffer.isView(values) || values.length !== sizeOf(shape))
    wrong("parameterFrom", "values", `a typed array of ${sizeOf(shape)} numbers`, kindOf(values));
  return new Parameter(
    tensor(layout ? fromFile({ layout, shape }, Float64Array.from(values)) : values, shape, "f32" as DType as "f32"),
    layout,
  );
}

/** The element type on this device: float64 on the reference device. */
export function isDouble(): boolean {
  return device().name === "reference";
}

/** Hears what models report with `tap`: intermediate values by name, valid only during the call. */
export type TapListener = (name: string, value: Tensor) => void;

const listeners: TapListener[] = [];

/** Report an intermediate value that is no module's output (spike statistics, attention maps). Free when nobody listens. */
export function tap(name: string, value: Tensor): void {
  for (const listener of listeners) listener(name, value);
}

/** Is anybody listening? For values that only a listener needs. */
export function tapping(): boolean {
  return listeners.length > 0;
}

/** Run `fn` and hear its taps. */
export function withTaps<R>(listener: TapListener, fn: () => R): R {
  checkFunction("withTaps", "the listener", listener);
  checkFunction("withTaps", "its second argument", fn);
  listeners.push(listener);
  try {
    return fn();
  } finally {
    listeners.splice(listeners.lastIndexOf(listener), 1);
  }
}
