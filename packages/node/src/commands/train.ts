/** `spikeloom train`: run a recipe to its end, or go on with a run; then evaluate, measure and write the report. */
import { cpus } from "node:os";
import { join } from "node:path";
import { type EngineInfo, type nn, SpikeloomError, safetensors, train } from "spikeloom";
import { type Inspection, inspect } from "../inspect.ts";
import { createProgress } from "../progress.ts";
import { durationSeconds, loadRecipe, type Recipe, recipeToYaml } from "../recipe.ts";
import { renderReport } from "../report.ts";
import type { ReportData } from "../report-data.ts";
import { FILES, RunFolder } from "../run-folder.ts";
import { buildModel, buildTrainer, type EngineChoice, knownNames, loadData, lossOf, startEngine, testLoader } from "../session.ts";
import { versions } from "../versions.ts";

/** What asks a training to save and stop: Ctrl-C, a service manager, a closed terminal. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export interface TrainOptions extends EngineChoice {
  recipe?: string | undefined;
  set?: readonly string[] | undefined;
  out?: string | undefined;
  resume?: string | undefined;
  saveEvery?: string | undefined;
  json?: boolean | undefined;
}

/** How the command ended: 0, or 130 after Ctrl-C. */
export async function run(options: TrainOptions): Promise<number> {
  const started = performance.now();
  const { folder, recipe } = await open(options);
  folder.lock();
  try {
    return await trainIn(folder, recipe, options, started);
  } finally {
    folder.unlock();
  }
}

async function trainIn(folder: RunFolder, recipe: Recipe, options: TrainOptions, started: number): Promise<number> {
  const engine = await startEngine({
    device: options.device ?? recipe.device,
    threads: options.threads ?? recipe.threads,
    seed: recipe.seed,
  });
  const set = await loadData(recipe);
  const { model, system } = buildModel(recipe, set.test);
  const stop = new AbortController();
  const trainer = buildTrainer(recipe, set, model, stop.signal);
  const progress = createProgress({ json: options.json ?? false });
  if (options.resume !== undefined) {
    const warning = trainer.restore(await folder.read("checkpoint", "checkpoint"), folder.file("checkpoint"));
    if (warning) progress.note(warning);
    await folder.rewind(trainer.steps, trainer.epochsDone);
    // What --set changed belongs to the run from now on.
    if (options.set?.length) await folder.write("recipe", recipeToYaml(recipe));
  } else {
    await folder.create(recipe);
    // The first checkpoint, before any work: it shows that there is room for one, and nothing can be lost for want of it.
    await folder.write("checkpoint", trainer.checkpoint());
  }

  progress.note(
    `${recipe.name}: ${recipe.model.name}, ${model.parameterCount().toLocaleString("en")} parameters; ${recipe.data.name}, ${set.train.length.toLocaleString("en")} training and ${set.test.length.toLocaleString("en")} test images; ${engine.device} (${engine.isa}), ${engine.threads} thread${engine.threads > 1 ? "s" : ""}, seed ${engine.seed}; ${folder.path}`,
  );

  const saveEvery = durationSeconds(options.saveEvery ?? recipe.saveEvery) ?? 60;
  const save = async () => folder.write("checkpoint", trainer.checkpoint());
  let interrupted = false;
  const interrupt = () => {
    // The second time the user means it.
    if (interrupted) process.exit(130);
    interrupted = true;
    stop.abort();
  };
  for (const signal of SIGNALS) process.on(signal, interrupt);

  let lastSave = performance.now();
  let lastTest: train.Evaluation | undefined;
  try {
    for await (const event of trainer.run()) {
      try {
        folder.log(logged(event));
      } catch (error) {
        // The trainer stands between two steps: what it has learnt may still find room.
        await save().catch(() => {});
        throw error;
      }
      if (event.type === "step") progress.step(event, trainer.totalSteps);
      else {
        lastTest = event.test;
        progress.epoch(event);
      }
      if (interrupted) break;
      if (performance.now() - lastSave > saveEvery * 1000) {
        await save();
        lastSave = performance.now();
      }
    }
  } catch (error) {
    if (!(interrupted && error === stop.signal.reason)) throw error;
  } finally {
    progress.done();
    for (const signal of SIGNALS) process.off(signal, interrupt);
  }
  const finish = async (): Promise<number> => {
    await save();
    if (interrupted) {
      progress.note(`stopped at step ${trainer.steps} of ${trainer.totalSteps}; go on with: spikeloom train --resume ${folder.path}`);
      return 130;
    }

    await folder.write(
      "weights",
      safetensors.encode(model.stateDict(), { format: "pt", model: recipe.model.name, config: JSON.stringify(recipe.model.config) }),
    );
    const test = lastTest ?? (await train.evaluate(model, testLoader(recipe, set), { loss: lossOf(recipe) }));
    const { rates, samples, energy } = inspect(model, system, testLoader(recipe, set), set.entry.classes);
    const report: ReportData = {
      name: recipe.name,
      summary: summary(recipe, engine, model, test, { rates, samples, energy }, folder),
      history: history(folder),
      confusion: { classes: set.entry.classes, counts: test.confusion },
      rates,
      samples,
      energy,
      recipe: recipeToYaml(recipe),
      command: `npx spikeloom train ${join(folder.path, FILES.recipe)} --out runs/again`,
    };
    await folder.write("report", renderReport(report));
    await folder.write(
      "summary",
      `${JSON.stringify({ ...report.summary, energyPicojoules: energy.total.energy, annEnergyPicojoules: energy.total.annEnergy }, null, 2)}\n`,
    );
    const done = {
      type: "done",
      run: folder.path,
      testAccuracy: test.accuracy,
      testLoss: test.loss,
      energyPicojoules: energy.total.energy,
      ratioToAnn: energy.total.ratio,
      report: folder.file("report"),
      seconds: (performance.now() - started) / 1000,
    };
    if (options.json) console.log(JSON.stringify(done));
    else {
      console.log(
        `test accuracy ${(test.accuracy * 100).toFixed(2)} %  (${test.samples.toLocaleString("en")} images), loss ${test.loss.toFixed(4)}`,
      );
      console.log(
        `energy ${(energy.total.energy / 1e6).toFixed(3)} uJ an image, ${energy.total.ratio.toFixed(1)} times less than the same network as an ANN (estimate: 4.6 pJ a MAC, 0.9 pJ an AC)`,
      );
      console.log(`report  ${folder.file("report")}`);
      console.log(`took ${done.seconds.toFixed(0)} s`);
    }
    return 0;
  };
  // What is left takes moments: a signal now waits for it, a second one does not.
  const finishing = () => {
    for (const signal of SIGNALS) process.off(signal, finishing);
  };
  for (const signal of SIGNALS) process.on(signal, finishing);
  try {
    return await finish();
  } finally {
    finishing();
  }
}

async function open({ recipe: path, set = [], out, resume, seed }: TrainOptions): Promise<{ folder: RunFolder; recipe: Recipe }> {
  if (resume !== undefined) {
    if (path !== undefined || out !== undefined)
      throw new SpikeloomError("--resume goes on with a run's own recipe and folder: leave out RECIPE and --out");
    if (seed !== undefined) throw new SpikeloomError("--resume keeps the run's own seed: leave out --seed");
    const folder = new RunFolder(resume);
    const recipe = await folder.recipe(set);
    if (!folder.has("checkpoint"))
      throw new SpikeloomError(`${resume} has no checkpoint (${FILES.checkpoint}) to resume from: start it anew`);
    return { folder, recipe };
  }
  if (path === undefined)
    throw new SpikeloomError("train: give a recipe (spikeloom train RECIPE.yml) or a run to go on with (--resume DIR)");
  const loaded = await loadRecipe(path, set, knownNames);
  const recipe: Recipe = { ...loaded, seed: seed ?? loaded.seed };
  const named = out ?? recipe.out;
  return { folder: named === undefined ? unused(join("runs", recipe.name)) : new RunFolder(named), recipe };
}

/** The folder of that name, or with the first number behind it, that holds no run yet. */
function unused(path: string): RunFolder {
  let folder = new RunFolder(path);
  for (let n = 2; folder.has("recipe") || folder.has("checkpoint") || folder.has("weights"); n++) folder = new RunFolder(`${path}-${n}`);
  return folder;
}

/** An event as a line of the log: confusion matrices and predictions stay out. */
function logged(event: train.TrainEvent): Record<string, unknown> {
  if (event.type === "step") return { ...event };
  const { test, ...rest } = event;
  return test ? { ...rest, testLoss: test.loss, testAccuracy: test.accuracy, testSeconds: test.seconds } : { ...rest };
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
function meanRate(rates: Inspection["rates"]): number {
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
    testAccuracy: test.accuracy,
    testLoss: test.loss,
    testImages: test.samples,
    parameters: model.parameterCount(),
    timeSteps: energy.timeSteps,
    epochs: recipe.train.epochs,
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
