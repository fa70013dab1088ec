/** `spikeloom measure`: firing rates, operations, sparsity, footprint, and energy under the papers' conventions side by side. */
import { measure, models, SpikeloomError } from "spikeloom";
import { csv } from "../csv.ts";
import { writeFileAtomic } from "../files.ts";
import { conventionFrom, measureOn } from "../measured.ts";
import { bytes, count, energy as joules, percent, times } from "../report/format.ts";
import { testLoader } from "../session.ts";
import { type Column, table } from "../table.ts";
import { openTrained, type TrainedOptions } from "../trained.ts";

export interface MeasureOptions extends TrainedOptions {
  images?: number | undefined;
  firstLayer?: "T" | "once" | undefined;
  /** Conventions whose layers are listed, `name` or `name:key=value,...`. Default: the plain rule. */
  preset?: readonly string[] | undefined;
  json?: boolean | undefined;
  /** A file, or "-" for standard output. */
  csv?: string | undefined;
}

export async function run({ json, csv, images = 100, firstLayer = "T", preset = [], ...options }: MeasureOptions): Promise<void> {
  if (json && csv === "-")
    throw new SpikeloomError("measure: --json and --csv - would both write to the standard output. Name a file for one of them");
  const asked = (preset.length ? preset : ["plain"]).map(conventionFrom);
  const { recipe, set, model, system, folder } = await openTrained(options);
  const { config } = models.resolveModel(recipe.model.name, recipe.model.config);
  const loader = testLoader(recipe, set);
  const { survey, energy } = await measureOn({ model, system, config, loader, sampleShape: set.sampleShape }, images);
  const detailed = asked.map((convention) => energy({ ...convention, firstLayer }));
  const others = measure.presets
    .filter(({ name }) => !asked.some((a) => a.preset === name))
    .map(({ name }) => energy({ preset: name, firstLayer }));
  const all = [...detailed, ...others];
  const { rates, sparsity, footprint, neurobench } = survey;
  if (csv !== undefined) {
    const text = csvOf(detailed, rates);
    if (csv === "-") console.log(text);
    else await writeFileAtomic(csv, `${text}\n`);
  }
  if (json) {
    console.log(JSON.stringify({ run: folder.path, ...detailed[0], rates, sparsity, footprint, neurobench, presets: all }));
    return;
  }
  if (csv === "-") return;
  const { timeSteps, samples } = survey.operations;
  console.log(
    `${folder.path}: ${recipe.model.name}, ${count(survey.operations.parameters)} parameters, T = ${timeSteps}, mean over ${samples} test images of ${recipe.data.name}`,
  );
  for (const report of detailed) printLayers(report);
  printComparison(all, neurobench);
  printRates(rates);
  printZeros(survey);
  if (csv !== undefined) console.log(`\ncsv     ${csv}`);
}

/** Name with the settings that were chosen. */
function nameOf({ preset, settings }: measure.EnergyReport): string {
  const chosen = Object.entries(settings).map(([key, value]) => `${key}=${value}`);
  return chosen.length ? `${preset}:${chosen.join(",")}` : preset;
}

const round = (n: number) => count(Math.round(n));

function printLayers(report: measure.EnergyReport): void {
  const shape = (s: readonly number[]) => s.join("x");
  const total: measure.LayerEnergy = {
    ...{ layer: "total", type: "", input: [], weight: [], output: [], timeSteps: report.timeSteps, levels: 1, firingRate: null },
    ...{ perStep: null, meanSpike: null, rule: "", ...report.total },
  };
  const inLayers = (cell: (l: measure.LayerEnergy) => string) => (l: measure.LayerEnergy) => (l === total ? "" : cell(l));
  console.log(`\n${nameOf(report)}: ${report.title}\n`);
  console.log(
    table<measure.LayerEnergy>(
      [
        { head: "layer", cell: (l) => l.layer },
        { head: "input", cell: (l) => shape(l.input) },
        { head: "weight", cell: (l) => shape(l.weight) || l.type },
        { head: "dense ops", right: true, cell: (l) => count(l.denseOps) },
        { head: "rate in", right: true, cell: inLayers((l) => (l.firingRate === null ? "float" : percent(l.firingRate))) },
        { head: "n x T", right: true, cell: inLayers((l) => (l.meanSpike === null ? "" : (l.meanSpike * l.timeSteps).toFixed(3))) },
        { head: "D", right: true, cell: inLayers((l) => String(l.levels)) },
        { head: "MAC", right: true, cell: (l) => round(l.macs) },
        { head: "AC", right: true, cell: (l) => round(l.acs) },
        { head: "energy", right: true, cell: (l) => joules(l.energy) },
        { head: "as ANN", right: true, cell: (l) => joules(l.annEnergy) },
        { head: "counted as", cell: (l) => l.rule },
      ],
      [...report.layers, total],
    ),
  );
  console.log("\nn x T: mean spike (firing rate, for integer spikes times D) x T");
  console.log(
    `total: ${count(report.total.denseOps)} dense operations a step; ${round(report.total.macs)} MACs and ${round(report.total.acs)} ACs an image`,
  );
}

function printComparison(reports: readonly measure.EnergyReport[], { synapticOperations: ops }: measure.NeuroBench): void {
  interface Row {
    name: string;
    macs: number;
    acs: number;
    energy?: number;
    ann?: number;
  }
  const rows: Row[] = reports.map((r) => ({
    name: nameOf(r),
    macs: r.total.macs,
    acs: r.total.acs,
    energy: r.total.energy,
    ann: r.total.annEnergy,
  }));
  console.log("\nenergy of an image by convention (estimates: they count different things)\n");
  console.log(
    table<Row>(
      [
        { head: "convention", cell: (r) => r.name },
        { head: "MAC", right: true, cell: (r) => round(r.macs) },
        { head: "AC", right: true, cell: (r) => round(r.acs) },
        { head: "energy", right: true, cell: (r) => joules(r.energy) },
        { head: "as ANN", right: true, cell: (r) => joules(r.ann) },
        { head: "ANN / SNN", right: true, cell: (r) => (r.ann === undefined ? times(undefined) : times(r.ann / (r.energy as number))) },
      ],
      [...rows, { name: "neurobench (effective; no energy)", macs: ops.effectiveMacs, acs: ops.effectiveAcs }],
    ),
  );
  console.log("");
  for (const { preset, rule, notes, costs, source } of reports) {
    console.log(`${preset}: ${rule}. Costs: ${costs.name}. Source: ${source}`);
    for (const note of notes) console.log(`  ${note}`);
  }
}

function printRates(rates: readonly measure.FiringRate[]): void {
  const steps = Math.max(0, ...rates.map((r) => r.perStep.length));
  console.log("\nfiring rates\n");
  console.log(
    table<measure.FiringRate>(
      [
        { head: "neurons", cell: (r) => r.layer },
        { head: "number", right: true, cell: (r) => count(r.neurons) },
        { head: "rate", right: true, cell: (r) => percent(r.rate) },
        ...Array.from(
          { length: steps },
          (_, t): Column<measure.FiringRate> => ({ head: `t=${t}`, right: true, cell: (r) => percent(r.perStep[t]) }),
        ),
      ],
      rates,
    ),
  );
}

function printZeros({ neurobench, footprint }: measure.Survey): void {
  const { rules, synapticOperations: ops } = neurobench;
  console.log("\nmemory and zeros (NeuroBench's definitions where named)\n");
  const rows: [string, string, string][] = [
    ["footprint", bytes(neurobench.footprint), `${rules.footprint} (NeuroBench)`],
    ["spikes of an image", bytes(footprint.spikes), `all neurons, all steps, as bits; as floats ${bytes(footprint.spikesAsFloats)}`],
    ["activation sparsity", percent(neurobench.activationSparsity), `${rules.activationSparsity} (NeuroBench)`],
    ["connection sparsity", percent(neurobench.connectionSparsity), `${rules.connectionSparsity} (NeuroBench)`],
    ["effective MACs", round(ops.effectiveMacs), `${rules.effectiveMacs} (NeuroBench)`],
    ["effective ACs", round(ops.effectiveAcs), `${rules.effectiveAcs} (NeuroBench)`],
    ["dense", round(ops.dense), `${rules.dense} (NeuroBench)`],
  ];
  console.log(
    table<[string, string, string]>(
      [
        { head: "what", cell: ([what]) => what },
        { head: "value", right: true, cell: ([, value]) => value },
        { head: "rule", cell: ([, , rule]) => rule },
      ],
      rows,
    ),
  );
}

/** Layers of the conventions, their totals and the neurons' rates as one table, raw numbers (energies in picojoules). */
function csvOf(reports: readonly measure.EnergyReport[], rates: readonly measure.FiringRate[]): string {
  const steps = Math.max(0, ...rates.map((r) => r.perStep.length), ...reports.flatMap((r) => r.layers.map((l) => l.perStep?.length ?? 0)));
  const head =
    "kind,preset,layer,type,input,weight,output,T,D,dense_ops,firing_rate,mean_spike,syn_ops,macs,acs,energy_pj,ann_energy_pj,rule".split(
      ",",
    );
  const perStep = (list: readonly number[] | null) => Array.from({ length: steps }, (_, t) => list?.[t] ?? "");
  const shape = (s: readonly number[]) => s.join("x");
  const rows: (string | number)[][] = [[...head, ...Array.from({ length: steps }, (_, t) => `rate_t${t}`)]];
  for (const r of reports) {
    const name = nameOf(r);
    for (const l of r.layers)
      rows.push([
        ...["layer", name, l.layer, l.type, shape(l.input), shape(l.weight), shape(l.output), l.timeSteps, l.levels],
        ...[
          l.denseOps,
          l.firingRate ?? "",
          l.meanSpike ?? "",
          l.synOps,
          l.macs,
          l.acs,
          l.energy,
          l.annEnergy,
          l.rule,
          ...perStep(l.perStep),
        ],
      ]);
    const { denseOps, synOps, macs, acs, energy, annEnergy } = r.total;
    rows.push([
      ...["total", name, "", "", "", "", "", r.timeSteps, "", denseOps, "", "", synOps, macs, acs, energy, annEnergy, r.rule],
      ...perStep(null),
    ]);
  }
  for (const r of rates)
    rows.push([
      ...["neurons", "", r.layer, "", "", "", shape(r.shape.slice(2)), r.perStep.length, "", "", r.rate, r.value, "", "", "", "", "", ""],
      ...perStep(r.perStep),
    ]);
  return csv(rows);
}
