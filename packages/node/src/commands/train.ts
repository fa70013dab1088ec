/** `spikeloom train`: run a recipe to its end, or go on with a run; then evaluate, measure and write the report. */
import { join } from "node:path";
import { type EngineInfo, FormatError, SpikeloomError, safetensors, train } from "spikeloom";
import { type BatchSizes, checkMemory, memoryBudget, memoryLine } from "../memory.ts";
import { checkProfileFile, createProfile, PROFILE_STEPS, type ProfileSteps, profileText } from "../profile.ts";
import { createProgress } from "../progress.ts";
import { durationSeconds, learningRate, loadRecipe, type Recipe, recipeEpochs, recipeToYaml, recipeWarnings } from "../recipe.ts";
import { energy as picojoules } from "../report/format.ts";
import { BOARD, FILES, RunFolder } from "../run-folder.ts";
import { weightNotes, weightsFile, writeReport } from "../run-report.ts";
import { type SampleWorkers, startWorkers, workerCount } from "../sample-workers.ts";
import {
  buildModel,
  buildTrainer,
  type EngineChoice,
  engineWarnings,
  knownNames,
  loadData,
  type SessionData,
  startEngine,
  withBatches,
} from "../session.ts";
import { expectTeacher, loadTeacher, startFrom } from "../start.ts";
import { EventWriter, logEvents } from "../tensorboard.ts";

/** What asks a training to save and stop: Ctrl-C, a service manager, a closed terminal. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export interface TrainOptions extends EngineChoice {
  recipe?: string | undefined;
  set?: readonly string[] | undefined;
  out?: string | undefined;
  resume?: string | undefined;
  saveEvery?: string | undefined;
  workers?: number | undefined;
  json?: boolean | undefined;
  /** Write a trace of some steps: to this file, or to the run's folder. */
  profile?: string | true | undefined;
  /** Which steps of this process. */
  profileSteps?: ProfileSteps | undefined;
}

/** How the command ended: 0, or 130 after Ctrl-C. */
export async function run(options: TrainOptions): Promise<number> {
  const started = performance.now();
  if (options.profileSteps && options.profile === undefined)
    throw new SpikeloomError("--profile-steps chooses the steps of --profile: add that, or leave it out");
  if (typeof options.profile === "string") checkProfileFile(options.profile);
  const { folder, recipe } = await open(options);
  folder.lock();
  try {
    const engine = await startEngine(
      { device: options.device ?? recipe.device, threads: options.threads ?? recipe.threads, seed: recipe.seed },
      recipe,
    );
    const set = await loadData(recipe);
    const count = options.workers ?? workerCount(recipe, set);
    const workers = startWorkers(recipe, set.splits, count);
    try {
      return await trainIn(folder, recipe, options, started, { engine, set, workers });
    } finally {
      await workers?.close();
    }
  } finally {
    folder.unlock();
  }
}

interface Prepared {
  engine: EngineInfo;
  set: SessionData;
  workers: SampleWorkers | undefined;
}

async function trainIn(
  folder: RunFolder,
  recipe: Recipe,
  options: TrainOptions,
  started: number,
  { engine, set, workers }: Prepared,
): Promise<number> {
  const built = buildModel(recipe, set);
  const { model, system } = built;
  const teacher = await loadTeacher(recipe);
  // A run that goes on has its weights already.
  const beginning = options.resume === undefined ? await startFrom(recipe, model, system) : [];
  const stop = new AbortController();
  const trainer = buildTrainer(recipe, set, built, { signal: stop.signal, workers, teacher: teacher?.model });
  const notes = { ...weightNotes(recipe, set), ...(teacher && { teacher: teacher.hash }) };
  const { ema } = trainer.options;
  // What is tested, kept as the best and kept in the end.
  const shipped = ema ?? model;
  const progress = createProgress({
    json: options.json ?? false,
    tests: { images: set.test.length, every: recipe.train.evalEvery },
  });
  const fit = async () => {
    const budget = memoryBudget(recipe.train.memory);
    const rss = process.memoryUsage.rss() + (workers?.bytes ?? 0);
    memory = await train.fitMemory(trainer, budget, rss);
    const estimate = (size: BatchSizes) => train.estimateMemory(withBatches(trainer, recipe, set, size), rss);
    await checkMemory(memory, recipe, engine, { budget, parts: model.recomputable().length, estimate });
  };
  let memory: train.FittedMemory | undefined;
  if (options.resume !== undefined) {
    const bytes = await folder.read("checkpoint", "checkpoint");
    const file = folder.file("checkpoint");
    expectTeacher(teacher, safetensors.decode(bytes, file).metadata, file);
    const warning = trainer.restore(bytes, file);
    if (warning) progress.note(warning);
    await fit();
    await folder.rewind(trainer.steps, trainer.epochsDone);
    // What --set changed belongs to the run from now on.
    if (options.set?.length) await folder.write("recipe", recipeToYaml(recipe));
  } else {
    await fit();
    await folder.create(recipe);
    // The first checkpoint, before any work: it shows that there is room for one, and nothing can be lost for want of it.
    await folder.write("checkpoint", trainer.checkpoint(notes));
  }

  progress.note(
    `${recipe.name}: ${recipe.model.name}; ${recipe.data.name}, ${set.train.length.toLocaleString("en")} training and ${set.test.length.toLocaleString("en")} test images; ${engine.device} (${engine.isa}), ${engine.threads} thread${engine.threads > 1 ? "s" : ""}, seed ${engine.seed}; ${folder.path}`,
  );
  for (const note of beginning) progress.note(note);
  if (teacher) for (const note of [`learns from ${teacher.title}`, ...teacher.notes]) progress.note(note);
  if (memory) progress.note(memoryLine(memory));
  for (const warning of [...recipeWarnings(recipe), ...engineWarnings(engine)]) progress.note(`warning: ${warning}`);
  if (trainer.epochsDone >= recipeEpochs(recipe))
    progress.note(
      `this run was finished already, after ${trainer.epochsDone} epoch${trainer.epochsDone > 1 ? "s" : ""}: nothing is trained, its results are made again. To go on: --set train.epochs=${2 * recipe.train.epochs}`,
    );
  const board = new EventWriter(join(folder.path, BOARD), options.resume === undefined ? {} : { from: trainer.steps + 1 });
  if (options.resume === undefined) {
    const { epochs, batchSize, optimizer } = recipe.train;
    const { name, weightDecay } = optimizer;
    const lr = learningRate(recipe);
    board.text("recipe", `\`\`\`yaml\n${recipeToYaml(recipe)}\`\`\``, 0);
    board.hparams(
      { model: recipe.model.name, data: recipe.data.name, seed: recipe.seed, epochs, batchSize, optimizer: name, lr, weightDecay },
      ["accuracy/test", "loss/test"],
    );
  }

  const saveEvery = durationSeconds(options.saveEvery ?? recipe.saveEvery) ?? 60;
  const save = async () => {
    board.flush();
    await folder.write("checkpoint", trainer.checkpoint(notes));
  };
  let interrupted = false;
  const interrupt = () => {
    // The second time the user means it.
    if (interrupted) process.exit(130);
    interrupted = true;
    stop.abort();
  };
  for (const signal of SIGNALS) process.on(signal, interrupt);

  const steps = options.profileSteps ?? PROFILE_STEPS;
  let profile =
    options.profile === undefined
      ? undefined
      : createProfile(options.profile === true ? join(folder.path, "trace.json") : options.profile, steps, engine);
  const profiled = async () => {
    const ended = profile;
    profile = undefined;
    try {
      const result = await ended?.finish();
      if (result && options.json) console.log(JSON.stringify({ type: "profile", ...result }));
      else if (result) progress.note(profileText(result, steps));
    } catch (error) {
      // The training is worth more than its trace.
      progress.note(`profile: ${(error as Error).message}`);
    }
  };

  let lastSave = performance.now();
  let lastTest: train.Evaluation | undefined;
  let best = bestSoFar(folder);
  try {
    profile?.begin();
    for await (const event of trainer.run()) {
      if (event.type === "step") profile?.step(event.step);
      else profile?.skip();
      if (profile?.done) await profiled();
      try {
        if (event.type === "epoch" && event.test && merit(event.test.accuracy, event.test.loss) > best) {
          best = merit(event.test.accuracy, event.test.loss);
          // Before the log tells of it: a run that dies in between tests this epoch again.
          await folder.write("best", weightsFile(recipe, set, shipped.stateDict()));
        }
        folder.log(logged(event));
        logEvents(board, event);
        if (event.type === "epoch")
          for (const [name, p] of model.namedParameters()) board.histogram(`weights/${name}`, p.dataSync(), event.step);
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
      profile?.begin();
    }
  } catch (error) {
    if (!(interrupted && error === stop.signal.reason)) throw withWayOn(error, folder);
  } finally {
    profile?.skip();
    progress.done();
    for (const signal of SIGNALS) process.off(signal, interrupt);
  }
  await profiled();
  const finish = async (): Promise<number> => {
    await save();
    if (interrupted) {
      board.close();
      progress.note(`stopped at step ${trainer.steps} of ${trainer.totalSteps}; go on with: spikeloom train --resume ${folder.path}`);
      return 130;
    }

    board.close();
    await folder.write("weights", weightsFile(recipe, set, shipped.stateDict()));
    const report = () => writeReport(folder, recipe, engine, set, built, lastTest);
    const { test, energy, warnings } = await (ema ? ema.swapped(report) : report()).catch((error: unknown) => {
      throw withWayOn(error, folder);
    });
    const done = {
      type: "done",
      run: folder.path,
      testAccuracy: test.accuracy,
      testLoss: test.loss,
      energyPicojoules: energy.total.energy,
      ratioToAnn: energy.total.ratio,
      report: folder.file("report"),
      seconds: (performance.now() - started) / 1000,
      ...(warnings.length ? { warnings } : {}),
    };
    if (options.json) console.log(JSON.stringify(done));
    else {
      console.log(
        built.objective
          ? `test loss ${test.loss.toFixed(4)}  (${test.samples.toLocaleString("en")} images; ${recipe.train.objective})`
          : `test accuracy ${(test.accuracy * 100).toFixed(2)} %  (${test.samples.toLocaleString("en")} images), loss ${test.loss.toFixed(4)}`,
      );
      console.log(
        `energy ${picojoules(energy.total.energy)} an image, ${against(energy.total.ratio)} the same network as an ANN (estimate: 4.6 pJ a MAC, 0.9 pJ an AC)`,
      );
      console.log(`report  ${folder.file("report")}`);
      console.log(`took ${done.seconds.toFixed(0)} s`);
      // Those of the recipe were told before the first step.
      for (const warning of warnings.filter((w) => !recipeWarnings(recipe).includes(w))) console.log(`warning: ${warning}`);
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
  const recipe = await loadRecipe(path, set, knownNames);
  recipe.seed = seed ?? recipe.seed;
  const named = out ?? recipe.out;
  return { folder: named === undefined ? unused(join("runs", recipe.name)) : new RunFolder(named), recipe };
}

/** A damaged file of the data stops a run, which may go on: but only with as many samples as it began with. */
function withWayOn(error: unknown, { path }: RunFolder): unknown {
  if (!(error instanceof FormatError)) return error;
  return new FormatError(
    `${error.message.replace(/\.$/, "")}. With the file replaced this run goes on (spikeloom train --resume ${path}); with it removed the data set is another, which needs a new run`,
    { cause: error },
  );
}

/** The folder of that name, or with the first number behind it, that holds no run yet. */
function unused(path: string): RunFolder {
  let folder = new RunFolder(path);
  for (let n = 2; folder.owner() !== undefined || folder.has("recipe") || folder.has("checkpoint") || folder.has("weights"); n++)
    folder = new RunFolder(`${path}-${n}`);
  return folder;
}

/** What tests are compared by: their accuracy; where the model names no classes, how small their loss is. */
function merit(accuracy: unknown, loss: unknown): number {
  return typeof accuracy === "number" && Number.isFinite(accuracy) ? accuracy : -(loss as number);
}

/** Merit of the best test that the log knows; best.safetensors has its weights. */
function bestSoFar(folder: RunFolder): number {
  const tests = folder.events().filter((e) => typeof e.testLoss === "number");
  return Math.max(Number.NEGATIVE_INFINITY, ...tests.map((e) => merit(e.testAccuracy, e.testLoss)));
}

/** An event as a line of the log: confusion matrices and predictions stay out. */
function logged(event: train.TrainEvent): Record<string, unknown> {
  if (event.type === "step") return { ...event };
  const { test, ...rest } = event;
  return test ? { ...rest, testLoss: test.loss, testAccuracy: test.accuracy, testTop5: test.top5, testSeconds: test.seconds } : { ...rest };
}

/** How an energy compares with another, `ratio` times as large. */
function against(ratio: number): string {
  if (ratio >= 1.05) return `${ratio.toFixed(1)} times less than`;
  return ratio > 0.95 ? "as much as" : `${(1 / ratio).toFixed(1)} times more than`;
}
