/** What a finished run leaves beside its logs: weights, report and summary. */
import { cpus } from "node:os";
import { join } from "node:path";
import { type EngineInfo, type nn, safetensors, train } from "spikeloom";
import { type Inspection, inspect } from "./inspect.ts";
import { learningWarnings } from "./learnt.ts";
import { type Recipe, recipeEpochs, recipeToYaml, recipeWarnings } from "./recipe.ts";
import { renderReport } from "./report.ts";
import type { ReportData } from "./report-data.ts";
import { FILES, type RunFolder } from "./run-folder.ts";
import { type BuiltModel, type SessionData, testLoader } from "./session.ts";
import { versions } from "./versions.ts";

/** What `predict` and `eval` need to know of weights, in the metadata of every file that has them. */
export function weightNotes(recipe: Recipe, set: SessionData): Record<string, string> {
  return {
    model: recipe.model.name,
    config: JSON.stringify(recipe.model.config),
    classes: JSON.stringify(set.classes),
    sampleShape: JSON.stringify(set.sampleShape),
  };
}

/** Weights alone, as a run keeps them. */
export function weightsFile(recipe: Recipe, set: SessionData, state: ReturnType<nn.Module["stateDict"]>): Uint8Array {
  return safetensors.encode(state, { format: "pt", ...weightNotes(recipe, set) });
}

export interface Finished {
  test: train.Evaluation;
  energy: Inspection["energy"];
  warnings: readonly string[];
}

/**
 * Test (where `test` does not say how that came out), measure, write report and summary.
 * @param model with the weights that the run ends with
 */
export async function writeReport(
  folder: RunFolder,
  recipe: Recipe,
  engine: EngineInfo,
  set: SessionData,
  { model, system, config, objective }: BuiltModel,
  lastTest: train.Evaluation | undefined,
): Promise<Finished> {
  const test = lastTest ?? (await train.evaluate(model, testLoader(recipe, set), { objective }));
  const inspection = await inspect({ model, system, config, loader: testLoader(recipe, set), set, pictures: !objective });
  const { rates, samples, energy, presets, memory } = inspection;
  const steps = folder.events().filter((e) => e.type === "step") as unknown as LoggedStep[];
  const losses = steps.flatMap(({ loss }) => (typeof loss === "number" ? [loss] : []));
  const updates = steps.filter(({ batch, batches }) => batch % recipe.train.accumulate === 0 || batch === batches).length;
  const warnings = [
    ...learningWarnings({ losses, updates, test: objective ? undefined : test, firingRate: meanRate(rates) }),
    ...recipeWarnings(recipe),
  ];
  const report: ReportData = {
    name: recipe.name,
    summary: { ...summary(recipe, engine, model, test, inspection, folder), warnings },
    history: history(folder),
    ...(objective ? {} : { confusion: { classes: set.classes, counts: test.confusion }, samples }),
    rates,
    energy,
    presets,
    memory,
    recipe: recipeToYaml(recipe),
    command: `npx spikeloom train ${join(folder.path, FILES.recipe)} --out runs/again`,
  };
  await folder.write("report", renderReport(report));
  await folder.write(
    "summary",
    `${JSON.stringify({ ...report.summary, energyPicojoules: energy.total.energy, annEnergyPicojoules: energy.total.annEnergy }, null, 2)}\n`,
  );
  return { test, energy, warnings };
}

interface LoggedStep {
  type: "step";
  epoch: number;
  batch: number;
  batches: number;
  loss: number;
  lr: number;
  firingRate?: number;
}

interface LoggedEpoch {
  type: "epoch";
  epoch: number;
  loss: number;
  accuracy: number;
  firingRate: number | null;
  seconds: number;
  testLoss?: number;
  testAccuracy?: number;
}

function history(folder: RunFolder): NonNullable<ReportData["history"]> {
  const events = folder.events() as unknown as (LoggedStep | LoggedEpoch)[];
  return {
    steps: events.flatMap((e) =>
      e.type === "step"
        ? [{ epoch: e.epoch + e.batch / e.batches, loss: e.loss, learningRate: e.lr, firingRate: e.firingRate ?? null }]
        : [],
    ),
    epochs: events.flatMap((e) =>
      e.type === "epoch"
        ? [
            {
              epoch: e.epoch + 1,
              trainLoss: e.loss,
              trainAccuracy: e.accuracy,
              testLoss: e.testLoss ?? null,
              testAccuracy: e.testAccuracy ?? null,
              firingRate: e.firingRate,
              seconds: e.seconds,
            },
          ]
        : [],
    ),
  };
}

/** Spikes over neurons and steps, over all layers. */
export function meanRate(rates: Inspection["rates"]): number {
  const spikes = rates.reduce((n, r) => n + (r.neurons * r.perStep.reduce((a, b) => a + b, 0)) / r.perStep.length, 0);
  return spikes / rates.reduce((n, r) => n + r.neurons, 0);
}

function summary(
  recipe: Recipe,
  engine: EngineInfo,
  model: nn.Module,
  test: train.Evaluation,
  { rates, energy }: Inspection,
  folder: RunFolder,
): ReportData["summary"] {
  const epochs = folder.events().filter((e) => e.type === "epoch");
  const steps = folder.events().filter((e) => e.type === "step");
  const seconds = epochs.reduce((n, e) => n + (e.seconds as number), 0);
  const images = steps.reduce((n, e) => n + (e.images as number), 0);
  return {
    model: recipe.model.name,
    dataset: recipe.data.name,
    testAccuracy: Number.isFinite(test.accuracy) ? test.accuracy : null,
    testLoss: test.loss,
    testImages: test.samples,
    parameters: model.parameterCount(),
    timeSteps: energy.timeSteps,
    epochs: recipeEpochs(recipe),
    trainingSeconds: seconds,
    imagesPerSecond: images / seconds,
    peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
    firingRate: meanRate(rates),
    device: engine.device,
    isa: engine.isa,
    threads: engine.threads,
    seed: engine.seed,
    cpu: cpus()[0]?.model ?? "unknown",
    versions: versions(),
    finishedAt: new Date().toISOString(),
  };
}
