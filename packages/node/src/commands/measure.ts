/** `spikeloom measure`: firing rates, synaptic operations and energy of a run, per layer and in total. */
import { type data, measure, scope, tensor } from "spikeloom";
import { count, energy as joules, percent } from "../report/format.ts";
import { testLoader } from "../session.ts";
import { table } from "../table.ts";
import { openTrained, type TrainedOptions } from "../trained.ts";

export interface MeasureOptions extends TrainedOptions {
  images?: number | undefined;
  firstLayer?: "T" | "once" | undefined;
  json?: boolean | undefined;
}

export async function run({ json, images = 100, firstLayer = "T", ...options }: MeasureOptions): Promise<void> {
  const { recipe, set, model, folder } = await openTrained({ ...options, set: [...(options.set ?? []), `train.evalBatchSize=${images}`] });
  const batch = testLoader(recipe, set)[Symbol.iterator]().next().value as data.Batch;
  const { report, rates } = scope(() => {
    const input = tensor(batch.x, batch.xShape);
    return { report: measure.energy(model, input, { firstLayer }), rates: measure.firingRates(model, input) };
  });
  if (json) {
    console.log(JSON.stringify({ run: folder.path, ...report, rates }));
    return;
  }
  const { total, timeSteps } = report;
  const shape = (s: readonly number[]) => s.join("x");
  console.log(
    `${folder.path}: ${recipe.model.name}, ${count(total.parameters)} parameters, T = ${timeSteps}, mean over ${report.samples} test images\n`,
  );
  console.log(
    table<measure.LayerEnergy>(
      [
        { head: "layer", cell: (l) => l.layer },
        { head: "input", cell: (l) => shape(l.input) },
        { head: "weight", cell: (l) => shape(l.weight) },
        { head: "dense ops", right: true, cell: (l) => count(l.denseOps) },
        { head: "rate in", right: true, cell: (l) => (l.firingRate === null ? "float" : percent(l.firingRate)) },
        { head: "x T", right: true, cell: (l) => (l.firingRate === null ? "" : (l.firingRate * l.timeSteps).toFixed(3)) },
        { head: "syn. ops", right: true, cell: (l) => count(Math.round(l.synOps)) },
        { head: "MAC", right: true, cell: (l) => count(Math.round(l.macs)) },
        { head: "AC", right: true, cell: (l) => count(Math.round(l.acs)) },
        { head: "energy", right: true, cell: (l) => joules(l.energy) },
        { head: "as ANN", right: true, cell: (l) => joules(l.annEnergy) },
      ],
      report.layers,
    ),
  );
  console.log(
    `\ntotal: ${count(total.denseOps)} dense operations a step; ${count(Math.round(total.macs))} MACs and ${count(Math.round(total.acs))} ACs an image`,
  );
  console.log(
    `energy ${joules(total.energy)} an image; as an ANN (one dense pass) ${joules(total.annEnergy)}: ratio ${total.ratio.toFixed(2)}`,
  );
  console.log(`rule: ${report.rule}`);
  console.log(`costs: ${report.costs.name}; first layer counted ${firstLayer === "T" ? "at every step" : "once"}\n`);
  console.log(
    table<measure.FiringRate>(
      [
        { head: "neurons", cell: (r) => r.layer },
        { head: "firing rate", right: true, cell: (r) => percent(r.rate) },
        ...Array.from({ length: timeSteps }, (_, t) => ({
          head: `t=${t}`,
          right: true,
          cell: (r: measure.FiringRate) => percent(r.perStep[t]),
        })),
      ],
      rates,
    ),
  );
}
