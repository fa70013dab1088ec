/** A run that was trained: its recipe and model with the weights loaded, and its data where wanted. For eval, measure and predict. */
import { type EngineInfo, type models, type nn, SpikeloomError, safetensors, snn, type train } from "spikeloom";
import type { Recipe } from "./recipe.ts";
import { FILES, RunFolder } from "./run-folder.ts";
import { buildModel, type EngineChoice, loadData, type SessionData, startEngine } from "./session.ts";
import { loadWeights, tellNotes } from "./weights.ts";

/** Which of a run's weights: of its end, of its best test, or of its last checkpoint. */
type WeightsChoice = "final" | "best" | "last";

export interface TrainedModel {
  folder: RunFolder;
  recipe: Recipe;
  engine: EngineInfo;
  model: nn.Module;
  system: models.System;
  /** What it was trained for where that is no classification: it names no classes then. */
  objective: train.Objective | undefined;
  /** What the weights file says of itself: `classes` as a JSON list, and more. */
  metadata: Readonly<Record<string, string>>;
}

export interface Trained extends TrainedModel {
  set: SessionData;
}

export interface TrainedOptions extends EngineChoice {
  run: string;
  set?: readonly string[] | undefined;
  /** "final", "best", "last", or a file of weights. Where not given: the final weights, or the last checkpoint's while the run is not done. */
  weights?: string | undefined;
  /** Which of several dictionaries in a file of weights. */
  key?: string | undefined;
  /** How integer-valued neurons emit; default: as the recipe has it. */
  mode?: snn.SpikeMode | undefined;
}

/**
 * Open a run's folder, with its data.
 * @throws SpikeloomError when the folder holds no run or no weights, or its data is not there
 */
export async function openTrained(options: TrainedOptions): Promise<Trained> {
  const { folder, recipe, engine } = await openRun(options);
  const set = await loadData(recipe);
  return { folder, recipe, engine, set, ...(await loadModel(folder, recipe, options, set)) };
}

/** Open a run's folder for its model alone: its data need not be there. */
export async function openModel(options: TrainedOptions): Promise<TrainedModel> {
  const { folder, recipe, engine } = await openRun(options);
  return { folder, recipe, engine, ...(await loadModel(folder, recipe, options)) };
}

async function openRun({ run, set = [], device, threads }: TrainedOptions) {
  const folder = new RunFolder(run);
  const recipe = await folder.recipe(set);
  const engine = await startEngine({ device: device ?? recipe.device, threads: threads ?? recipe.threads, seed: recipe.seed }, recipe);
  return { folder, recipe, engine };
}

async function loadModel(folder: RunFolder, recipe: Recipe, { weights: choice, key, mode }: TrainedOptions, set?: SessionData) {
  const { model, system, objective } = buildModel(recipe, set);
  if (mode) snn.setMode(model, mode);
  if (choice !== undefined && !isChoice(choice)) {
    const { metadata, notes } = await loadWeights(model, system, choice, { key });
    tellNotes(choice, notes);
    return { model, system, objective, metadata };
  }
  if (key !== undefined) throw new SpikeloomError("--key is for a file of weights: name it with --weights");
  const from = choice === "best" ? "best" : choice === "last" ? "checkpoint" : folder.has("weights") || choice ? "weights" : "checkpoint";
  if (!folder.has(from)) {
    const there = (["weights", "best", "checkpoint"] as const).filter((name) => folder.has(name)).map((name) => FILES[name]);
    throw new SpikeloomError(
      `${folder.path} holds no ${choice === undefined ? `${FILES.weights} or ${FILES.checkpoint}` : FILES[from]}: ${there.length ? `it has ${there.join(", ")} (--weights final, best or last)` : "train it first"}`,
    );
  }
  const { tensors, metadata } = safetensors.decode(await folder.read(from, "weights"), folder.file(from));
  // A checkpoint holds the model beside the optimiser; where weights are averaged, those are the ones to use.
  const prefix = from === "checkpoint" ? ([...tensors.keys()].some((key) => key.startsWith("ema.")) ? "ema." : "model.") : "";
  const own = [...tensors].filter(([key]) => key.startsWith(prefix)).map(([key, value]) => [key.slice(prefix.length), value] as const);
  try {
    model.loadStateDict(new Map(own) as Weights);
  } catch (error) {
    if (!(error instanceof SpikeloomError)) throw error;
    throw new SpikeloomError(`${folder.file(from)} does not fit the model of the recipe (${recipe.model.name}): ${error.message}`, {
      cause: error,
    });
  }
  return { model, system, objective, metadata };
}

function isChoice(text: string): text is WeightsChoice {
  return text === "final" || text === "best" || text === "last";
}

type Weights = Parameters<nn.Module["loadStateDict"]>[0];
