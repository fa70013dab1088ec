/**
 * Energy, without folklore: operations of every weight layer counted exactly, then multiplied by stated costs.
 *
 * The rule: a layer whose input is spikes adds a weight for every spike that reaches it (AC); any other layer multiplies
 * (MAC). Synaptic operations are counted spike by spike, so that borders, strides and groups are right. Costs are 45 nm
 * figures of float32 operations (Horowitz 2014, "Computing's energy problem"): 4.6 pJ a MAC, 0.9 pJ an AC, the preset of the
 * spike-driven papers. Batch norm is taken as folded; neurons, pools, masks, shortcuts and memory are not counted. It is an estimate.
 */
import { Conv1d, Conv2d } from "../nn/conv.ts";
import { Linear } from "../nn/linear.ts";
import { type Module, withForwardHook } from "../nn/module.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { scope } from "../tensor/scope.ts";
import { noGrad } from "../tensor/tape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { firingOf } from "./firing.ts";

export interface EnergyCosts {
  name: string;
  /** Picojoules a multiply-accumulate and an accumulate. */
  mac: number;
  ac: number;
}

/** 45 nm, float32 (Horowitz 2014). */
export const HOROWITZ_45NM: EnergyCosts = { name: "45 nm float32: 4.6 pJ a MAC, 0.9 pJ an AC (Horowitz 2014)", mac: 4.6, ac: 0.9 };

export interface EnergyOptions {
  costs?: EnergyCosts;
  /**
   * How the first layer of a still image is counted: every step (`T`, the papers' rule) or `once` (the same image is shown T
   * times, so its result can be kept). Default `T`.
   */
  firstLayer?: "T" | "once";
  /** Is the input a still image repeated T times (then `firstLayer: "once"` applies)? Default: the input has no axes [T, B]. */
  still?: boolean;
  /**
   * T, where a layer's input does not say it by its axes: layers fed with [T * B, ...] are then seen as T steps, and those whose first
   * axis is neither T nor a multiple of it as one.
   */
  timeSteps?: number;
}

export interface LayerEnergy {
  layer: string;
  type: string;
  /** Shapes of one time step and one sample. */
  input: readonly number[];
  weight: readonly number[];
  output: readonly number[];
  timeSteps: number;
  /** Multiply-accumulates of one dense pass over one sample: what an ANN does. */
  denseOps: number;
  /** Fraction of the layer's inputs that are not zero; null for a float input. */
  firingRate: number | null;
  /** The same for each time step. */
  perStep: number[] | null;
  /** Synaptic operations of one sample over all steps, exact; for a float input dense operations times steps. */
  synOps: number;
  macs: number;
  acs: number;
  /** Picojoules of one sample. */
  energy: number;
  annEnergy: number;
  rule: string;
}

export interface EnergyReport {
  costs: EnergyCosts;
  rule: string;
  timeSteps: number;
  samples: number;
  layers: LayerEnergy[];
  total: {
    denseOps: number;
    synOps: number;
    macs: number;
    acs: number;
    energy: number;
    annEnergy: number;
    ratio: number;
    parameters: number;
    meanFiringRate: number;
  };
}

type WeightLayer = Conv2d | Conv1d | Linear;

/**
 * Run `model` on `input` in eval mode and account for every weight layer, per sample of the batch. What a layer is given is taken as
 * [T, B, ...], or as [B, ...] where one axis stands before the layer's own.
 * @param input what the model's forward takes; its batch is averaged over.
 */
export function energy(model: Module, input: Tensor, options: EnergyOptions = {}): EnergyReport {
  const { costs = HOROWITZ_45NM, firstLayer = "T" } = options;
  const names = new Map([...model.namedModules()].map(([name, m]) => [m, name]));
  const layers: LayerEnergy[] = [];
  let samples = 0;
  const restore = model.modes();
  model.eval();
  try {
    scope(() =>
      noGrad(() =>
        withForwardHook(
          (m, [x], output) => {
            if (!(m instanceof Conv2d || m instanceof Conv1d || m instanceof Linear)) return;
            if (!(x instanceof Tensor) || !(output instanceof Tensor)) return;
            const still = options.still ?? !(input.shape[0] === x.shape[0] && input.shape[1] === x.shape[1]);
            const once = firstLayer === "once" && still && layers.length === 0;
            const { row, batch } = account(names.get(m) ?? "", m, x, output, costs, once, options.timeSteps);
            samples = Math.max(samples, batch);
            layers.push(row);
          },
          () => model.forward(input),
        ),
      ),
    );
  } finally {
    restore();
  }
  if (!layers.length) throw new SpikeloomError("measure.energy: the model ran no convolution or linear layer");
  const sum = (key: "denseOps" | "synOps" | "macs" | "acs" | "energy" | "annEnergy") => layers.reduce((n, l) => n + l[key], 0);
  const rates = layers.flatMap((l) => (l.firingRate === null ? [] : [l.firingRate]));
  const total = sum("energy");
  return {
    costs,
    rule: "a layer fed with spikes counts one AC a spike and synapse reached; any other layer counts its dense MACs at every step; batch norm folded; neurons, pools, masks, shortcuts and memory not counted; an estimate",
    timeSteps: Math.max(...layers.map((l) => l.timeSteps)),
    samples,
    layers,
    total: {
      denseOps: sum("denseOps"),
      synOps: sum("synOps"),
      macs: sum("macs"),
      acs: sum("acs"),
      energy: total,
      annEnergy: sum("annEnergy"),
      ratio: sum("annEnergy") / total,
      parameters: model.parameterCount(),
      meanFiringRate: rates.length ? rates.reduce((a, b) => a + b, 0) / rates.length : Number.NaN,
    },
  };
}

/** Geometry of a layer as a 2-d convolution. */
function geometry(m: WeightLayer, x: Tensor, output: Tensor) {
  if (m instanceof Linear) {
    const [cin, cout] = m.weight.shape as [number, number];
    return { axes: 1, h: 1, w: 1, oh: 1, ow: 1, kh: 1, kw: 1, cin, cout, groups: 1, stride: [1, 1], padding: [0, 0], dilation: [1, 1] };
  }
  const cin = x.shape[x.rank - 1] as number;
  const cout = output.shape[output.rank - 1] as number;
  if (m instanceof Conv1d) {
    return {
      axes: 2,
      h: 1,
      w: x.shape[x.rank - 2] as number,
      oh: 1,
      ow: output.shape[output.rank - 2] as number,
      kh: 1,
      kw: m.kernelSize,
      cin,
      cout,
      groups: m.groups,
      stride: [1, m.stride],
      padding: [0, padding(m.padding, m.kernelSize, m.dilation)],
      dilation: [1, m.dilation],
    };
  }
  const [h, w] = x.shape.slice(-3) as [number, number];
  const [oh, ow] = output.shape.slice(-3) as [number, number];
  const [kh, kw] = m.kernelSize;
  const [ph, pw] = m.padding === "same" ? (["same", "same"] as const) : m.padding;
  const [dh, dw] = m.dilation;
  return {
    axes: 3,
    h,
    w,
    oh,
    ow,
    kh,
    kw,
    cin,
    cout,
    groups: m.groups,
    stride: m.stride,
    padding: [padding(ph, kh, dh), padding(pw, kw, dw)],
    dilation: m.dilation,
  };
}

/** Zeros before the first position; "same" puts the smaller half there. */
function padding(value: number | "same", kernel: number, dilation: number): number {
  return value === "same" ? Math.floor((dilation * (kernel - 1)) / 2) : value;
}

/** How many output positions each input position of an axis reaches. */
export function reach(size: number, out: number, kernel: number, stride: number, padding: number, dilation: number): Int32Array {
  const counts = new Int32Array(size);
  for (let o = 0; o < out; o++)
    for (let k = 0; k < kernel; k++) {
      const i = o * stride - padding + k * dilation;
      if (i >= 0 && i < size) counts[i] = (counts[i] as number) + 1;
    }
  return counts;
}

function account(
  layer: string,
  m: WeightLayer,
  x: Tensor,
  output: Tensor,
  costs: EnergyCosts,
  once: boolean,
  givenSteps: number | undefined,
): { row: LayerEnergy; batch: number } {
  const g = geometry(m, x, output);
  // What stands before the layer's own axes: [T, B] and positions that share the weights (tokens), or [B] for a network without time.
  const leading = x.shape.slice(0, x.rank - g.axes);
  const { timeSteps, batch, shared } = leadingAxes(leading, givenSteps);
  const positions = leading.slice(shared).reduce((a, b) => a * b, 1);
  const denseOps = (positions * g.oh * g.ow * g.cout * g.kh * g.kw * g.cin) / g.groups;
  const spikes = x.dtype === "spikes";
  let synOps = denseOps * (once ? 1 : timeSteps);
  let rate: { rate: number; perStep: number[] } | null = null;
  if (spikes) {
    rate = firingOf(x, timeSteps);
    synOps = countSynOps(x, g) / batch;
  }
  const macs = spikes ? 0 : synOps;
  const acs = spikes ? synOps : 0;
  const sample = (shape: readonly number[]) => shape.slice(Math.min(leading.length, shared));
  return {
    batch,
    row: {
      layer,
      type: m instanceof Linear ? "Linear" : m instanceof Conv1d ? "Conv1d" : "Conv2d",
      input: sample(x.shape),
      weight: m.weight.layout?.shape ?? m.weight.shape,
      output: sample(output.shape),
      timeSteps,
      denseOps,
      firingRate: rate?.rate ?? null,
      perStep: rate?.perStep ?? null,
      synOps,
      macs,
      acs,
      energy: macs * costs.mac + acs * costs.ac,
      annEnergy: denseOps * costs.mac,
      rule: spikes ? "AC: spikes in" : once ? "MAC: float in, once" : "MAC: float in, every step",
    },
  };
}

/** Steps and samples in the axes before a layer's own, and how many of those axes they take. */
function leadingAxes(leading: readonly number[], steps: number | undefined): { timeSteps: number; batch: number; shared: number } {
  const [first = 1, second] = leading;
  if (steps === undefined)
    return second === undefined ? { timeSteps: 1, batch: first, shared: 1 } : { timeSteps: first, batch: second, shared: 2 };
  if (second !== undefined && first === steps) return { timeSteps: steps, batch: second, shared: 2 };
  if (first % steps === 0 && first > steps) return { timeSteps: steps, batch: first / steps, shared: 1 };
  return { timeSteps: 1, batch: first, shared: 1 };
}

/** Additions caused by the spikes of x: every unit of a spike adds one weight at each output it reaches. */
function countSynOps(x: Tensor, g: ReturnType<typeof geometry>): number {
  const [sh, sw] = g.stride as [number, number];
  const [ph, pw] = g.padding as [number, number];
  const [dh, dw] = g.dilation as [number, number];
  const rows = reach(g.h, g.oh, g.kh, sh, ph, dh);
  const columns = reach(g.w, g.ow, g.kw, sw, pw, dw);
  const values = x.dataSync();
  const unit = x.spikes?.scale ?? 1;
  const perGroup = g.cout / g.groups;
  let total = 0;
  let at = 0;
  while (at < values.length)
    for (let i = 0; i < g.h; i++)
      for (let j = 0; j < g.w; j++) {
        let spikes = 0;
        for (let c = 0; c < g.cin; c++) spikes += values[at++] as number;
        total += (spikes / unit) * (rows[i] as number) * (columns[j] as number);
      }
  return Math.round(total) * perGroup;
}
