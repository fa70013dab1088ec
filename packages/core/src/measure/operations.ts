/**
 * Operations of every weight layer, counted once for all the conventions that price them: dense, inside the borders, spike by
 * spike, and those where neither the activation nor the weight is zero. All counts are exact at borders, strides and groups.
 */
import { Conv1d } from "../nn/conv.ts";
import { Linear } from "../nn/linear.ts";
import type { Module } from "../nn/module.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { Neuron } from "../spiking/neurons.ts";
import { inSteps } from "../tensor/ops/steps.ts";
import { type SpikeFormat, Tensor } from "../tensor/tensor.ts";
import { type Clock, divide, type Geometry, geometryOf, isWeightLayer, type WeightLayer } from "./geometry.ts";
import { type Inputs, type Listener, walk } from "./walk.ts";

/** A weight layer's work for one sample; shapes and numbers are of one time step where they do not say otherwise. */
export interface LayerOperations {
  layer: string;
  type: "Conv2d" | "Conv1d" | "Linear";
  input: readonly number[];
  weight: readonly number[];
  output: readonly number[];
  /** T; T D where its input came as D binary virtual steps for each. */
  timeSteps: number;
  /** D: the largest integer that a spike here can be; 1 for binary spikes and floats, and virtual steps. */
  levels: number;
  /** D where its input came as virtual steps, else 1. */
  virtualSteps: number;
  /** Is its input spikes? */
  spikes: boolean;
  /** The network's first weight layer, and its last one. */
  first: boolean;
  last: boolean;
  /** Is its input the same at every step? True for the first layer of a still image. */
  still: boolean;
  /** Multiply-accumulates of a dense pass: what an ANN does, zeros beyond the borders included. */
  denseOps: number;
  /** The same without the zeros beyond the borders. */
  boundedOps: number;
  /** Additions of all steps, one for every unit of a spike and every output that it reaches. */
  synOps: number;
  /** Operations of all steps where neither activation nor weight is zero. */
  effectiveOps: number;
  /** Fraction of the inputs that are not zero, of all steps and of each. */
  nonZero: number;
  perStep: number[];
  /** Mean of the input in units of a spike: `nonZero` for binary spikes, up to D for integer ones. */
  value: number;
  /** Is every input -1, 0 or 1? */
  ternary: boolean;
  /** Numbers that go in and come out. */
  inputs: number;
  outputs: number;
  weights: number;
  zeroWeights: number;
}

/** What a network does for one sample, averaged over `samples`. */
export interface Operations {
  timeSteps: number;
  samples: number;
  layers: LayerOperations[];
  parameters: number;
}

export interface OperationOptions {
  /** Is the input a still image shown T times? Default: told by the sizes of the input and of the first layer's. */
  still?: boolean | undefined;
  /**
   * T, where no neuron shows it: by default it is the first axis of what the first neuron with a membrane gives, or of the first
   * convolution's or spiking layer's input [T, B, ...] in a network without one.
   */
  timeSteps?: number | undefined;
}

/** One call of a layer in one batch. */
interface Call {
  m: WeightLayer;
  name: string;
  g: Geometry;
  leading: readonly number[];
  spikes: boolean;
  unit: number;
  levels: number;
  virtualSteps: number;
  ternary: boolean;
  size: number;
  /** Entries that are not zero, by index of the first axis and virtual step, and by position of one image. */
  byFirst: Float64Array;
  byPlace: Float64Array;
  /** Sum of the values, by position of one image. */
  sums: Float64Array;
}

interface Entry extends Omit<Call, "leading" | "byFirst"> {
  clock: Clock & { positions: number };
  still: boolean;
  perStep: Float64Array;
}

/** Listens to a model's weight layers over any number of batches. */
export class OperationCounter implements Listener {
  readonly #options: OperationOptions;
  readonly #entries: Entry[] = [];
  #calls: Call[] = [];
  #samples = 0;
  #steps = 1;
  /** D of spikes by their format: every call of a neuron makes one of its own, which pooling, reshaping and masking hand on. */
  readonly #levels = new WeakMap<SpikeFormat, number>();

  constructor(options: OperationOptions = {}) {
    this.#options = options;
  }

  module(name: string, m: Module, x: unknown, output: unknown): void {
    if (!(output instanceof Tensor)) return;
    if (m instanceof Neuron && output.spikes) {
      const levels = levelsOf(m);
      if (levels) this.#levels.set(output.spikes, levels);
    }
    if (!isWeightLayer(m) || !(x instanceof Tensor)) return;
    const format = x.spikes;
    const levels = format && !format.steps ? (this.#levels.get(format) ?? 2 ** format.planes - 1) : 1;
    this.#calls.push({
      ...{ m, name, levels, spikes: format !== null, unit: format?.scale ?? 1 },
      ...countInputs(x, geometryOf(m, x, output)),
    });
  }

  batch(input: Tensor, clock: Clock | undefined): void {
    const made = this.#calls;
    this.#calls = [];
    if (!made.length) throw new SpikeloomError("measure: the model ran no convolution or linear layer");
    const known = clockOf(input, made, clock, this.#options.timeSteps);
    const calls = stepwise(made, known);
    const first = calls[0] as Call;
    this.#samples += known.samples;
    this.#steps = Math.max(this.#steps, known.steps);
    const still = this.#options.still ?? isStill(input, first, known);
    calls.forEach((call, i) => {
      const divided = divide(call.leading, known);
      const virtual = call.virtualSteps;
      const perStep = new Float64Array(divided.steps * virtual);
      const group = call.byFirst.length / divided.steps;
      call.byFirst.forEach((n, at) => {
        const step = Math.floor(at / group) * virtual + (at % virtual);
        perStep[step] = (perStep[step] as number) + n;
      });
      const entry = this.#entries[i];
      if (!entry) this.#entries.push({ ...call, clock: divided, still: still && i === 0, perStep });
      else merge(entry, call, divided, perStep);
    });
  }

  result(model: Module): Operations {
    return {
      timeSteps: this.#steps,
      samples: this.#samples,
      layers: this.#entries.map((entry, i, all) => summarise(entry, i === 0, i === all.length - 1)),
      parameters: model.parameterCount(),
    };
  }
}

/** D of a neuron, or of the one that a recurrent layer runs step by step. */
function levelsOf(m: Neuron): number | undefined {
  for (const [, part] of m.namedModules()) {
    const { settings } = part as { settings?: { levels?: number } };
    if (settings?.levels) return settings.levels;
  }
  return undefined;
}

/** T and B: from a neuron; else told; else from the input or from the first layer whose input has both axes. */
function clockOf(input: Tensor, calls: readonly Call[], clock: Clock | undefined, given: number | undefined): Clock {
  if (clock && (given === undefined || clock.steps === given)) return clock;
  const first = input.shape[0] ?? 1;
  if (given !== undefined) {
    const samples = input.shape[0] === given ? (input.shape[1] ?? 1) : first % given === 0 && first > given ? first / given : first;
    return { steps: given, samples };
  }
  const two = calls.find((c) => c.leading.length > 1 && (c.spikes || c.g.axes > 1));
  return two ? { steps: two.leading[0] as number, samples: two.leading[1] as number } : { steps: 1, samples: calls[0]?.leading[0] ?? 1 };
}

/** Calls with those of a layer that runs step by step, as one inside a recurrent neuron does, as one call over T. */
function stepwise(calls: readonly Call[], { steps, samples }: Clock): Call[] {
  const all = new Map<WeightLayer, Call[]>();
  for (const call of calls) all.set(call.m, [...(all.get(call.m) ?? []), call]);
  const isStep = ({ leading: [first, second] }: Call) =>
    first === 1 && second !== undefined ? second === samples : first === samples && !(first === steps && second === samples);
  return calls.flatMap((call) => {
    const own = all.get(call.m) as Call[];
    if (steps === 1 || own.length !== steps || !own.every(isStep)) return [call];
    if (call !== own[0]) return [];
    const { leading } = call;
    const together: Call = {
      ...(own.at(-1) as Call),
      leading: [steps, ...(leading[0] === 1 && leading.length > 1 ? leading.slice(1) : leading)],
      levels: Math.max(...own.map((c) => c.levels)),
      ternary: own.every((c) => c.ternary),
      size: own.reduce((n, c) => n + c.size, 0),
      byFirst: Float64Array.from(own.flatMap(({ byFirst, virtualSteps }) => sumsOfSteps(byFirst, virtualSteps))),
      byPlace: call.byPlace.slice(),
      sums: call.sums.slice(),
    };
    for (const { byPlace, sums } of own.slice(1)) {
      addTo(together.byPlace, byPlace);
      addTo(together.sums, sums);
    }
    return [together];
  });
}

/** Sums of every so many entries. */
function sumsOfSteps(list: Float64Array, steps: number): number[] {
  return Array.from({ length: steps }, (_, d) => list.reduce((sum, n, at) => (at % steps === d ? sum + n : sum), 0));
}

function addTo(into: Float64Array, from: Float64Array): void {
  for (let i = 0; i < into.length; i++) into[i] = (into[i] as number) + (from[i] as number);
}

/** A still image is repeated on its way to the first layer: there are T times more values than in the input. */
function isStill(input: Tensor, { size, spikes }: Call, { steps, samples }: Clock): boolean {
  // An encoder's spikes differ from step to step.
  if (spikes) return false;
  if (size === input.size) return false;
  if (size === input.size * steps) return true;
  return !(input.shape[0] === steps && input.shape[1] === samples);
}

function merge(entry: Entry, call: Call, clock: Entry["clock"], perStep: Float64Array): void {
  if (entry.m !== call.m || entry.clock.steps !== clock.steps || entry.sums.length !== call.sums.length)
    throw new SpikeloomError(
      `measure: "${call.name}" is given [${call.g.h}, ${call.g.w}, ${call.g.cin}] over ${clock.steps} steps in a further batch, and was given [${entry.g.h}, ${entry.g.w}, ${entry.g.cin}] over ${entry.clock.steps} before. Measure batches of one shape and T at a time`,
    );
  entry.clock.samples += clock.samples;
  entry.size += call.size;
  entry.ternary &&= call.ternary;
  addTo(entry.perStep, perStep);
  addTo(entry.byPlace, call.byPlace);
  addTo(entry.sums, call.sums);
}

function countInputs(x: Tensor, g: Geometry) {
  const leading = x.shape.slice(0, x.rank - g.axes);
  const values = x.dataSync();
  const place = g.h * g.w * g.cin;
  const firsts = leading[0] ?? 1;
  const virtualSteps = inSteps(x) ? (x.spikes as SpikeFormat).planes : 1;
  const unit = virtualSteps > 1 ? (x.spikes as SpikeFormat).scale : 0;
  const byFirst = new Float64Array(firsts * virtualSteps);
  const byPlace = new Float64Array(place);
  const sums = new Float64Array(place);
  const perFirst = values.length / firsts;
  let ternary = true;
  let at = 0;
  for (let first = 0; first < byFirst.length; first += virtualSteps) {
    for (let end = at + perFirst; at < end; )
      for (let i = 0; i < place; i++, at++) {
        const v = values[at] as number;
        if (v === 0) continue;
        // An integer is so many binary spikes, in its first steps.
        const spikes = unit ? Math.round(v / unit) : 1;
        for (let d = 0; d < spikes; d++) byFirst[first + d] = (byFirst[first + d] as number) + 1;
        byPlace[i] = (byPlace[i] as number) + spikes;
        sums[i] = (sums[i] as number) + v;
        if (!unit && v !== 1 && v !== -1) ternary = false;
      }
  }
  return { g, leading, virtualSteps, byFirst, byPlace, sums, ternary, size: values.length * virtualSteps };
}

function summarise(entry: Entry, first: boolean, last: boolean): LayerOperations {
  const { m, name, g, clock, spikes, unit, byPlace, sums, perStep, size, virtualSteps } = entry;
  const { positions } = clock;
  const steps = clock.steps * virtualSteps;
  // An empty batch does nothing, which is no division by zero.
  const samples = clock.samples || 1;
  const perGroup = g.cout / g.groups;
  const entries = size / steps;
  const total = (list: Float64Array) => list.reduce((a, b) => a + b, 0);
  const nonZero = total(perStep);
  const denseOps = (positions * g.oh * g.ow * g.cout * g.kh * g.kw * g.cin) / g.groups;
  const reached = g.rows.reduce((a, b) => a + b, 0) * g.columns.reduce((a, b) => a + b, 0);
  const zeroWeights = countZeros(m.weight.dataSync());
  const shared = positions > 1 ? [positions] : [];
  return {
    layer: name,
    type: m instanceof Linear ? "Linear" : m instanceof Conv1d ? "Conv1d" : "Conv2d",
    input: [...shared, ...ownShape(g, g.h, g.w, g.cin)],
    weight: m.weight.layout?.shape ?? m.weight.shape,
    output: [...shared, ...ownShape(g, g.oh, g.ow, g.cout)],
    timeSteps: steps,
    levels: entry.levels,
    ...{ virtualSteps, spikes, first, last, still: entry.still },
    denseOps,
    boundedOps: positions * reached * g.cin * perGroup,
    // A float's operations do not follow its value: they are done at every step.
    synOps: spikes ? (Math.round(reachedBy(sums, g) / unit) * perGroup) / samples : denseOps * steps,
    effectiveOps: (zeroWeights ? reachedWeights(byPlace, g, m) : reachedBy(byPlace, g) * perGroup) / samples,
    nonZero: size ? nonZero / size : 0,
    perStep: Array.from(perStep, (n) => (entries ? n / entries : 0)),
    value: size ? total(sums) / unit / size : 0,
    ternary: entry.ternary,
    inputs: positions * g.h * g.w * g.cin,
    outputs: positions * g.oh * g.ow * g.cout,
    weights: m.weight.size,
    zeroWeights,
  };
}

function ownShape({ axes }: Geometry, h: number, w: number, c: number): number[] {
  return axes === 3 ? [h, w, c] : axes === 2 ? [w, c] : [c];
}

export function countZeros(values: ArrayLike<number>): number {
  let zeros = 0;
  for (let i = 0; i < values.length; i++) if (values[i] === 0) zeros++;
  return zeros;
}

/** Sum over positions and channels of `amount`, each times the output positions that it reaches. */
function reachedBy(amount: Float64Array, g: Geometry): number {
  let all = 0;
  for (let y = 0, at = 0; y < g.h; y++)
    for (let x = 0; x < g.w; x++) {
      let here = 0;
      for (let c = 0; c < g.cin; c++) here += amount[at++] as number;
      all += here * (g.rows[y] as number) * (g.columns[x] as number);
    }
  return all;
}

/** The same times the weights that are not zero, tap by tap. */
function reachedWeights(amount: Float64Array, g: Geometry, m: WeightLayer): number {
  const { cin, cout, groups, kh, kw, oh, ow, h, w } = g;
  const inner = cin / groups;
  const perGroup = cout / groups;
  // Weights lie [kh, kw, cin / groups, cout]: how many of those of a tap and an input channel are not zero.
  const weights = m.weight.dataSync();
  const live = new Float64Array(kh * kw * cin);
  for (let tap = 0; tap < kh * kw; tap++)
    for (let c = 0; c < cin; c++) {
      const from = (tap * inner + (c % inner)) * cout + Math.floor(c / inner) * perGroup;
      live[tap * cin + c] = perGroup - countZeros(weights.subarray(from, from + perGroup));
    }
  let all = 0;
  for (let ky = 0; ky < kh; ky++)
    for (let kx = 0; kx < kw; kx++)
      for (let oy = 0; oy < oh; oy++) {
        const y = g.rowOf(oy, ky);
        if (y < 0 || y >= h) continue;
        for (let ox = 0; ox < ow; ox++) {
          const x = g.columnOf(ox, kx);
          if (x < 0 || x >= w) continue;
          for (let c = 0; c < cin; c++) all += (amount[(y * w + x) * cin + c] as number) * (live[(ky * kw + kx) * cin + c] as number);
        }
      }
  return all;
}

/** Run `model` in eval mode on each batch and count what its weight layers do for one sample. */
export async function operations(model: Module, inputs: Inputs, options: OperationOptions = {}): Promise<Operations> {
  const counter = new OperationCounter(options);
  await walk(model, inputs, counter);
  return counter.result(model);
}
