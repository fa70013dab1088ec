/** From a recipe to everything a run needs: engine, data, model, optimiser, trainer. Shared by train, eval and measure. */
import { data, type EngineInfo, init, models, type nn, optim, random, SpikeloomError, train } from "spikeloom";
import { findAddon } from "./addon.ts";
import { type ImageSplits, loadMnist } from "./datasets.ts";
import type { Recipe } from "./recipe.ts";

/** What the command line may force over the recipe. */
export interface EngineChoice {
  device?: string | undefined;
  threads?: number | undefined;
  seed?: number | undefined;
}

/** Start the engine: the native addon where it was built, else WebAssembly. */
export async function startEngine({ device, threads, seed }: EngineChoice): Promise<EngineInfo> {
  return init({ device: (device ?? "auto") as "auto", threads, seed, native: findAddon() });
}

interface DatasetEntry {
  load(dir?: string): Promise<ImageSplits>;
  classes: readonly string[];
  /** Per channel, of pixels in 0..1. */
  mean: readonly number[];
  std: readonly number[];
}

const DIGITS = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

/** Data sets that a recipe may name. */
export const datasets: Readonly<Record<string, DatasetEntry>> = {
  mnist: { load: (dir) => loadMnist(dir === undefined ? {} : { dir }), classes: DIGITS, mean: [0.1307], std: [0.3081] },
};

/** Names for `loadRecipe`: systems and their configurations; data sets. */
export const knownNames = {
  models: () => [...models.modelNames(), ...models.systems.map((s) => s.name)],
  datasets: () => Object.keys(datasets),
};

export interface SessionData {
  entry: DatasetEntry;
  train: data.ArrayDataset;
  test: data.ArrayDataset;
}

/** The recipe's data, cut to its limits. */
export async function loadData(recipe: Recipe): Promise<SessionData> {
  const entry = datasets[recipe.data.name] as DatasetEntry;
  const splits = await entry.load(recipe.data.dir);
  return { entry, train: limited(splits.train, recipe.data.limit), test: limited(splits.test, recipe.data.testLimit) };
}

function limited(set: data.ArrayDataset, limit: number | undefined): data.ArrayDataset {
  if (limit === undefined || limit >= set.length) return set;
  const [, h, w, c] = set.shape;
  return new data.ArrayDataset({
    images: set.images.slice(0, limit * h * w * c),
    shape: [limit, h, w, c],
    labels: set.labels.slice(0, limit),
    classes: set.classes,
  });
}

/** The recipe's model, with the data's channels and classes checked against it. */
export function buildModel(
  recipe: Recipe,
  set: data.ArrayDataset,
): { model: nn.Module; system: models.System; config: Record<string, unknown> } {
  const { system, config } = models.resolveModel(recipe.model.name, recipe.model.config);
  const [, , , channels] = set.shape;
  for (const [key, expected, what] of [
    ["inChannels", channels, "channels"],
    ["numClasses", set.classes, "classes"],
  ] as const)
    if (config[key] !== undefined && config[key] !== expected)
      throw new SpikeloomError(
        `model.config.${key} is ${config[key]}, but ${recipe.data.name} has ${expected} ${what}: set model.config.${key}=${expected}`,
      );
  if (recipe.train.loss.tet && config.tet === false)
    throw new SpikeloomError("train.loss.tet needs the logits of every step: set model.config.tet=true");
  return { model: system.build(config), system, config };
}

export function testLoader(recipe: Recipe, { entry, test }: SessionData): data.Loader {
  return new data.Loader(test, { batchSize: recipe.train.evalBatchSize, mean: entry.mean, std: entry.std });
}

/** Loss settings of the recipe. */
export function lossOf({ train: { labelSmoothing, loss } }: Recipe): train.ClassificationLoss {
  return { labelSmoothing, tet: loss.tet ? { means: loss.tet.means, lambda: loss.tet.lambda } : undefined };
}

/** A trainer that stands at the beginning of the run. Random streams: init, shuffle, augment, dropout. */
export function buildTrainer(recipe: Recipe, set: SessionData, model: nn.Module, signal: AbortSignal): train.Trainer {
  const { train: t, data: d } = recipe;
  const { name, ...settings } = t.optimizer;
  const groups = optim.weightDecayGroups(model, settings.weightDecay);
  const optimizer = name === "adamw" ? new optim.AdamW(groups, settings) : new optim.SGD(groups, settings);
  const loader = new data.Loader(set.train, {
    batchSize: t.batchSize,
    shuffle: random().stream("shuffle"),
    mean: set.entry.mean,
    std: set.entry.std,
    ...(d.augment.shift > 0 ? { augment: { apply: data.randomShift(d.augment.shift), stream: random().stream("augment") } } : {}),
  });
  return new train.Trainer({
    model,
    loader,
    testLoader: testLoader(recipe, set),
    optimizer,
    schedule: { epochs: t.epochs, ...t.schedule, lr: settings.lr } as optim.Schedule,
    schedulePer: t.schedule.per,
    epochs: t.epochs,
    loss: lossOf(recipe),
    clipNorm: t.clipNorm,
    accumulate: t.accumulate,
    signal,
  });
}
