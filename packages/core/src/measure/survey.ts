/** Everything measured in one pass: operations, firing rates, sparsity and footprint, priced by any number of conventions. */
import type { Module } from "../nn/module.ts";
import { type ConventionOptions, type EnergyReport, priceOperations, priceTable } from "./energy.ts";
import { FiringMeter, type FiringRate, meterNeurons } from "./firing.ts";
import { type Footprint, footprint, type Sparsity, sparsity } from "./footprint.ts";
import { type NeuroBench, neurobench } from "./neurobench.ts";
import { OperationCounter, type OperationOptions, type Operations } from "./operations.ts";
import { findPreset } from "./presets/index.ts";
import type { TableMaker } from "./presets/preset.ts";
import type { EnergyTableRow } from "./presets/table.ts";
import { type Inputs, walk } from "./walk.ts";

export interface Survey {
  operations: Operations;
  /** Of every neuron layer. */
  rates: FiringRate[];
  /** Of the values that the model reports by name. */
  taps: FiringRate[];
  sparsity: Sparsity;
  footprint: Footprint;
  neurobench: NeuroBench;
  /**
   * Energy by a convention. `table`: the model's own, for the preset named by `follows` (default "sdt"). Throws as `priceOperations`.
   */
  energy(options?: ConventionOptions, table?: TableMaker, follows?: string): EnergyReport;
}

/** Run `model` in eval mode on one batch or several, and measure all there is to measure. */
export async function survey(model: Module, inputs: Inputs, options: OperationOptions = {}): Promise<Survey> {
  const counter = new OperationCounter(options);
  const neurons = new FiringMeter(options);
  const taps = new FiringMeter(options);
  const rates = meterNeurons(neurons);
  await walk(model, inputs, {
    module(name, m, input, output) {
      counter.module(name, m, input, output);
      rates.module?.(name, m, input, output);
    },
    tap: (name, value) => taps.add(name, value),
    batch(input, clock) {
      counter.batch(input, clock);
      rates.batch?.(input, clock);
    },
  });
  const operations = counter.result(model);
  const measured = { operations, rates: neurons.rates(), taps: taps.rates() };
  const memory = footprint(model, measured.rates);
  const zeros = sparsity(operations, measured.rates);
  return {
    ...measured,
    sparsity: zeros,
    footprint: memory,
    neurobench: neurobench(operations, memory, zeros),
    energy(options = {}, table, follows = "sdt") {
      const { preset = "plain" } = options;
      const { tabled, name } = typeof preset === "string" ? findPreset(preset) : preset;
      return tabled && table && name === follows
        ? priceTable(table, (row) => rateOf(row, measured), operations, options)
        : priceOperations(operations, options);
    },
  };
}

/** A row's rate from what was measured; a name that is not there never fired. */
function rateOf({ rate }: EnergyTableRow, { operations, rates, taps }: Pick<Survey, "operations" | "rates" | "taps">) {
  const named = (list: readonly FiringRate[], name: string) => {
    const found = list.find((r) => r.layer === name);
    return found && { ...found, value: found.value / found.unit };
  };
  const sources = [
    ...(rate?.taps ?? []).map((name) => named(taps, name)),
    ...(rate?.neurons ?? []).map((name) => named(rates, name)),
    ...(rate?.inputs ?? []).map((name) => {
      const l = operations.layers.find(({ layer }) => layer === name);
      return l && { rate: l.nonZero, value: l.value, perStep: l.perStep };
    }),
  ].map((source) => source ?? { rate: 0, value: 0, perStep: [] as number[] });
  const by = rate?.combine === "mean" ? sources.length : 1;
  const steps = Math.max(...sources.map((s) => s.perStep.length));
  return {
    rate: sources.reduce((n, s) => n + s.rate, 0) / by,
    value: sources.reduce((n, s) => n + s.value, 0) / by,
    perStep: Array.from({ length: steps }, (_, t) => sources.reduce((n, s) => n + (s.perStep[t] ?? 0), 0) / by),
  };
}
