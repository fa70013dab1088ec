/**
 * Energy, without folklore: operations of every weight layer counted exactly (operations.ts), then priced by a named convention
 * (presets/). Conventions differ in what they count, so a figure means something only beside its rule; every report carries it.
 */

import type { Module } from "../nn/module.ts";
import { checkOptions, kindOf } from "../runtime/check.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { OperationCounter, type OperationOptions, type Operations } from "./operations.ts";
import { findPreset, settingsOf } from "./presets/index.ts";
import {
  type Convention,
  type EnergyCosts,
  type EnergyPreset,
  HOROWITZ_45NM,
  type PresetSettings,
  pj,
  type TableMaker,
} from "./presets/preset.ts";
import type { EnergyTableRow } from "./presets/table.ts";
import { type Inputs, walk } from "./walk.ts";

export interface ConventionOptions {
  /** Default "plain". `presets` has them all. */
  preset?: string | EnergyPreset | undefined;
  /** Choices that the preset leaves open, such as `{ macs: "first" }` of "ems-yolo". */
  settings?: PresetSettings | undefined;
  /** Default: the preset's. The preset "memory" has costs of its own. */
  costs?: EnergyCosts | undefined;
  /**
   * How the first layer of a still image is counted: every step (`T`, the papers' rule) or `once` (the same image is shown T
   * times, so its result can be kept). Default `T`.
   */
  firstLayer?: "T" | "once" | undefined;
}

export interface EnergyOptions extends ConventionOptions, OperationOptions {}

export interface LayerEnergy {
  /** Path of the layer, or the part in a table of the model's own. */
  layer: string;
  type: string;
  /** Shapes of one time step and one sample. */
  input: readonly number[];
  weight: readonly number[];
  output: readonly number[];
  /** T, and D: the largest integer of its input spikes. */
  timeSteps: number;
  levels: number;
  /** Multiply-accumulates of one dense pass over one sample: what an ANN does. */
  denseOps: number;
  /** Fraction of the layer's inputs that are not zero; null for a float input. */
  firingRate: number | null;
  /** The same for each time step. */
  perStep: number[] | null;
  /** Mean spike of its input, 0 to D: times T it is what an input gives over all steps. Equal to `firingRate` where D is 1. */
  meanSpike: number | null;
  /** Operations of one sample over all steps: MACs and ACs. */
  synOps: number;
  macs: number;
  acs: number;
  /** Picojoules of one sample. */
  energy: number;
  annEnergy: number;
  rule: string;
}

export interface EnergyReport {
  preset: string;
  title: string;
  source: string;
  settings: PresetSettings;
  costs: EnergyCosts;
  /** How all this was counted, T and D written out. */
  rule: string;
  /** What the convention adds about the whole network. */
  notes: string[];
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

function conventionOf({ preset = "plain", settings, costs, firstLayer = "T" }: ConventionOptions) {
  const found = typeof preset === "string" ? findPreset(preset) : preset;
  if (firstLayer !== "T" && firstLayer !== "once")
    throw new SpikeloomError(`measure.energy: firstLayer must be "T" or "once", found ${JSON.stringify(firstLayer)}`);
  const convention: Convention = {
    costs: found.costs ?? costs ?? HOROWITZ_45NM,
    firstLayer,
    settings: settingsOf(found, settings),
  };
  return { preset: found, convention };
}

/** Price counted operations by a convention. @throws SpikeloomError for an unknown preset or setting, with the nearest */
export function priceOperations(net: Operations, options: ConventionOptions = {}): EnergyReport {
  const { preset, convention } = conventionOf(options);
  const priced = net.layers.flatMap((l) => {
    const p = preset.layer(l, convention, net);
    return p ? [{ l, p }] : [];
  });
  const layers = priced.map(({ l, p }): LayerEnergy => {
    const { layer, type, input, weight, output, timeSteps, levels, denseOps } = l;
    return {
      ...{ layer, type, input, weight, output, timeSteps, levels, denseOps },
      firingRate: l.spikes ? l.nonZero : null,
      perStep: l.spikes ? l.perStep : null,
      meanSpike: l.spikes ? l.value : null,
      synOps: p.macs + p.acs,
      ...p,
    };
  });
  const notes = preset.notes?.(
    net,
    priced.map(({ p }) => p),
    convention,
  );
  return report(preset, convention, net, preset.rule(convention, net), notes ?? [], layers);
}

/**
 * Price a model's own table by the preset that follows it, by default "sdt".
 * @param rateOf the firing rate of a row, 0 to 1, and the mean integer, which counts where the table has levels
 */
export function priceTable(
  makeTable: TableMaker,
  rateOf: (row: EnergyTableRow) => { rate: number; value?: number; perStep: number[] | null },
  net: Pick<Operations, "samples" | "parameters">,
  options: ConventionOptions = {},
): EnergyReport {
  const { preset, convention } = conventionOf({ preset: "sdt", ...options });
  const { costs } = convention;
  const table = makeTable({ ...convention.settings, firstLayer: convention.firstLayer });
  const { levels = 1 } = table;
  const layers = table.rows.map((row): LayerEnergy => {
    const steps = row.once ? 1 : table.timeSteps;
    const measured = row.rate ? rateOf(row) : null;
    const mean = measured && (levels > 1 ? (measured.value ?? measured.rate) : measured.rate);
    const count = steps * (mean ?? 1) * row.ops;
    const [macs, acs] = row.operation === "mac" ? [count, 0] : [0, count];
    const rate = mean === null ? "" : levels > 1 ? `R (${(mean / levels).toFixed(3)}) x D (${levels}) x ` : "R x ";
    const times = `${rate}${steps === 1 ? "" : `T (${steps}) x `}FL`;
    return {
      ...{ layer: row.part, type: row.what, input: [], weight: [], output: [], timeSteps: table.timeSteps, levels },
      denseOps: row.ops,
      firingRate: measured?.rate ?? null,
      perStep: measured?.perStep ?? null,
      meanSpike: mean,
      ...{ synOps: count, macs, acs },
      energy: macs * costs.mac + acs * costs.ac,
      annEnergy: (row.annOps ?? row.ops) * costs.mac,
      rule: `${row.operation === "mac" ? "MAC" : "AC"}: ${times}`,
    };
  });
  const { mac, ac } = pj(costs);
  const rule = `${table.rule}; ${mac} a MAC, ${ac} an AC; T = ${table.timeSteps}, D = ${levels}; an estimate`;
  return report(preset, convention, { ...net, timeSteps: table.timeSteps }, rule, [], layers);
}

function report(
  { name, title, source }: EnergyPreset,
  { costs, settings }: Convention,
  { timeSteps, samples, parameters }: Omit<Operations, "layers">,
  rule: string,
  notes: string[],
  layers: LayerEnergy[],
): EnergyReport {
  const sum = (key: "denseOps" | "synOps" | "macs" | "acs" | "energy" | "annEnergy") => layers.reduce((n, l) => n + l[key], 0);
  const rates = layers.flatMap((l) => (l.firingRate === null ? [] : [l.firingRate]));
  const [energy, annEnergy] = [sum("energy"), sum("annEnergy")];
  return {
    ...{ preset: name, title, source, settings, costs, rule, notes, timeSteps, samples, layers },
    total: {
      ...{ denseOps: sum("denseOps"), synOps: sum("synOps"), macs: sum("macs"), acs: sum("acs"), energy, annEnergy, parameters },
      ratio: annEnergy / energy,
      meanFiringRate: rates.length ? rates.reduce((a, b) => a + b, 0) / rates.length : Number.NaN,
    },
  };
}

/**
 * Run `model` on its inputs in eval mode and account for every weight layer, per sample.
 * @param inputs what the model's forward takes: one batch, or several; the mean over their samples is given. A tensor may be freed
 *   right after the call.
 */
export async function energy(model: Module, inputs: Inputs, options: EnergyOptions = {}): Promise<EnergyReport> {
  checkOptions("measure.energy", options, ["preset", "settings", "costs", "firstLayer", "still", "timeSteps"]);
  for (const [what, pj] of Object.entries({ mac: options.costs?.mac, ac: options.costs?.ac }))
    if (options.costs && !(typeof pj === "number" && pj >= 0 && Number.isFinite(pj)))
      throw new SpikeloomError(`measure.energy: costs.${what} must be a number of picojoules >= 0, found ${kindOf(pj)}`);
  // A wrong name is told before the model runs.
  conventionOf(options);
  const counter = new OperationCounter(options);
  await walk(model, inputs, counter);
  return priceOperations(counter.result(model), options);
}
