/**
 * The graph of one forward pass: every operation with the layer that ran it, what its operands are made from and who reads its results. On a
 * device without memory (runtime/phantom.ts), which computes nothing, that of any network takes moments.
 */
import type { Module } from "../nn/module.ts";
import { running } from "../nn/running.ts";
import { device, onDevice } from "../runtime/engine.ts";
import { Phantom } from "../runtime/phantom.ts";
import { reset } from "../spiking/neurons.ts";
import { scope } from "../tensor/scope.ts";
import type { Shape } from "../tensor/shape.ts";
import { noGrad, type OpHook, withOpHook } from "../tensor/tape.ts";
import { type Tensor, zeros } from "../tensor/tensor.ts";

/**
 * What the numbers of a value are: the same for every input (weights); binary spikes or sums of them, times a constant; integers,
 * likewise; others.
 */
export type ValueKind = "constant" | "spikes" | "integers" | "real";

export interface Value {
  kind: ValueKind;
  shape: Shape;
  /** What made it; null for inputs and weights. */
  from: Step | null;
  readers: Step[];
}

/** One operation of the pass. */
export interface Step {
  op: string;
  /** Path of the innermost module that ran it. */
  layer: string;
  inputs: Value[];
  outputs: Value[];
  // biome-ignore lint/suspicious/noExplicitAny: every operation has its own
  settings: any;
}

/** Operations that move, repeat or copy numbers. */
export const MOVES: ReadonlySet<string> = new Set(
  "reshape permute flatten flip slice expand repeat concat split pad indexSelect takeRows gather copy clone toDense toSpikes toSteps maxPool2d sort".split(
    " ",
  ),
);

/** Operations that add the numbers of one value, and may multiply the sum by a constant. */
export const SUMS: ReadonlySet<string> = new Set("sum mean avgPool2d adaptiveAvgPool2d".split(" "));

/** Trace `model` in eval mode on zeros of that shape. */
export function trace(model: Module, input: Shape): Step[] {
  const names = new Map([...model.namedModules()].map(([name, m]) => [m, name]));
  const steps: Step[] = [];
  // A tensor may reach the next operation by another handle: then it is known by how it is to be made, or by its memory.
  const known = new WeakMap<object, Value>();
  const keysOf = (t: Tensor): object[] => [t, ...(t.affine ? [t.affine] : []), ...(t.made ? [t.storage] : [])];
  const learn = (t: Tensor, value: Value) => {
    for (const key of keysOf(t)) if (!known.has(key) || key === t) known.set(key, value);
    return value;
  };
  const lookUp = (t: Tensor): Value => {
    for (const key of keysOf(t)) {
      const value = known.get(key);
      if (value) return value;
    }
    // No operation made it: a weight, or numbers of the program's own.
    return learn(t, { kind: "constant", shape: t.shape, from: null, readers: [] });
  };
  const restore = model.modes();
  const hook: OpHook = (op, inputs, outputs, settings) => {
    const layer = names.get(running.at(-1) as Module) ?? "";
    const step: Step = { op, layer, inputs: inputs.map(lookUp), outputs: [], settings };
    for (const value of step.inputs) value.readers.push(step);
    step.outputs = outputs.map((t) => learn(t, { kind: kindOf(t, step), shape: t.shape, from: step, readers: [] }));
    steps.push(step);
  };
  model.eval();
  reset(model);
  try {
    scope(() =>
      noGrad(() => {
        const x = zeros(input);
        learn(x, { kind: "real", shape: input, from: null, readers: [] });
        withOpHook(hook, () => model.forward(x));
      }),
    );
  } finally {
    reset(model);
    restore();
  }
  return steps;
}

/** Run `fn` on a device without memory, which computes nothing. */
export function withoutMemory<R>(fn: () => R): R {
  return onDevice(new Phantom(device()), fn);
}

function kindOf({ spikes }: Tensor, { op, inputs }: Step): ValueKind {
  if (spikes) return spikes.steps || spikes.planes === 1 ? "spikes" : "integers";
  if (inputs.every(({ kind }) => kind === "constant")) return "constant";
  const [first, ...others] = inputs as [Value, ...Value[]];
  // Weights that a sum of spikes is multiplied with can be added for each of the spikes.
  if (SUMS.has(op) && first.kind === "spikes") return "spikes";
  return MOVES.has(op) && (op !== "concat" || others.every(({ kind }) => kind === first.kind)) ? first.kind : "real";
}
