/** From a recipe to everything a run needs: engine, data, model, optimiser, trainer. Shared by train, eval and measure. */
import { data, type EngineInfo, init, models, type nn, optim, snn, train } from "spikeloom";
import { findAddon } from "./addon.ts";
import { type DatasetEntry, datasets } from "./datasets/index.ts";
import type { BatchSizes } from "./memory.ts";
import { type KnownNames, learningRate, type Recipe, recipeEpochs, recipeError } from "./recipe.ts";
import type { SampleWorkers } from "./sample-workers.ts";
import { batchTransforms, entryOf, limited, loadSplits, type Split, type Splits, testTransforms, trainTransforms } from "./samples.ts";

/** What the command line may force over the recipe. */
export interface EngineChoice {
  device?: string | undefined;
  threads?: number | undefined;
  seed?: number | undefined;
}

/** Start the engine: the native addon where it was built, else WebAssembly. Products as the recipe has them. */
export async function startEngine({ device, threads, seed }: EngineChoice, recipe?: Recipe): Promise<EngineInfo> {
  return init({
    device: (device ?? "auto") as "auto",
    threads,
    seed,
    native: findAddon(process.env.SPIKELOOM_DEVICE || device),
    matmulPrecision: recipe?.matmulPrecision,
  });
}

/** Settings that do nothing on this device, in words. Their user believes that they do. */
export function engineWarnings({ device, isa, matmulPrecision }: EngineInfo): string[] {
  if (matmulPrecision === "highest" || isa === "amx") return [];
  return [
    `matmulPrecision ${matmulPrecision} has no effect on ${device} (${isa}), which has no matrix units: products are as exact as ever`,
  ];
}

/** What `loadRecipe` asks of models and data sets. */
export const knownNames: KnownNames = {
  models: () => [...models.modelNames(), ...models.systems.map((s) => s.name)],
  datasets: () => Object.keys(datasets),
  checkModel: (name, overrides) => {
    const { system, config } = models.resolveModel(name, overrides);
    system.check(config);
  },
  isEvents: (name) => datasets[name]?.readSample !== undefined,
};

export interface SessionData {
  entry: DatasetEntry;
  /** Whole, before the recipe's limits. */
  splits: Splits;
  train: data.Dataset;
  test: data.Dataset;
  /** Names of the classes. */
  classes: readonly string[];
  /** What the network sees of one test sample: [H, W, C], or [T, H, W, C] for event frames. */
  sampleShape: readonly number[];
  /** The same of a training sample. */
  trainShape: readonly number[];
}

type ImageShapes = Pick<SessionData, "sampleShape" | "trainShape">;

/** The recipe's data, cut to its limits. */
export async function loadData(recipe: Recipe): Promise<SessionData> {
  const entry = entryOf(recipe);
  const splits = await loadSplits(recipe);
  const set = { entry, splits, ...limited(recipe, splits) };
  const classes = set.train.classNames ?? entry.classes;
  return {
    ...set,
    classes,
    sampleShape: await shapeOf(set.test, testTransforms(recipe, entry)),
    trainShape: await shapeOf(set.train, trainTransforms(recipe, entry)),
  };
}

/** What the network sees of the first sample. */
async function shapeOf(set: data.Dataset, transforms: readonly data.Transform[]): Promise<readonly number[]> {
  const { x, y } = await new data.Loader(set, { batchSize: 1, transforms }).batchOf([0]);
  const [first = 1, ...others] = x.shape;
  x.dispose();
  y.dispose();
  return others.length === 4 ? [first, ...others.slice(1)] : others;
}

export interface BuiltModel {
  model: nn.Module;
  system: models.System;
  config: Record<string, unknown>;
  /** What it is trained for where that is no classification: tests are then of this loss. */
  objective: train.Objective | undefined;
}

/** The recipe's model, and, where data is given, whether its channels, classes and size are the model's. */
export function buildModel(recipe: Recipe, set?: Pick<SessionData, "test"> & ImageShapes): BuiltModel {
  const { system, config } = models.resolveModel(recipe.model.name, recipe.model.config);
  if (set)
    for (const [key, expected, what] of [
      ["inChannels", set.sampleShape.at(-1), "channels"],
      ["numClasses", set.test.classes, "classes"],
    ] as const)
      if (config[key] !== undefined && config[key] !== expected)
        throw recipeError(
          recipe,
          `model.config.${key}`,
          `model.config.${key} is ${config[key]}, but ${recipe.data.name} has ${expected} ${what}. Choose data that fits the model, or train one that fits the data (model.config.${key}=${expected})`,
        );
  if (set && Array.isArray(config.imageSize)) checkSize(recipe, config.imageSize, set);
  if (recipe.train.loss.tet && !config.tet)
    throw recipeError(
      recipe,
      "train.loss.tet",
      `train.loss.tet needs the logits of every step: ${config.tet === false ? "set model.config.tet=true" : `${system.name} has only their mean, so leave it out`}`,
    );
  const model = system.build(config);
  if (recipe.mode) snn.setMode(model, recipe.mode);
  return { model, system, config, objective: objectiveOf(recipe, system, config) };
}

/** What else than classification the recipe trains for. @throws SpikeloomError where the model cannot be trained so */
function objectiveOf(recipe: Recipe, system: models.System, config: Readonly<Record<string, unknown>>): train.Objective | undefined {
  const { objective } = recipe.train;
  const known = Object.keys(system.objectives ?? {});
  const named = config.numClasses !== undefined;
  if (objective === undefined) {
    if (!named && known.length)
      throw recipeError(
        recipe,
        "model.name",
        `model.name: ${recipe.model.name} names no classes. Say what it is trained for (train.objective: ${known.join(" or ")})`,
      );
    return undefined;
  }
  const make = Object.hasOwn(system.objectives ?? {}, objective) ? system.objectives?.[objective] : undefined;
  if (!make || named)
    throw recipeError(
      recipe,
      "train.objective",
      `train.objective: ${recipe.model.name} cannot be trained for ${objective}. ${
        !known.length
          ? `${system.name} is trained for classification alone: leave it out`
          : named
            ? `It names classes: choose a model for ${known.join(" or ")}, or leave it out`
            : `${system.name} has ${known.join(", ")}`
      }`,
    );
  return make();
}

/** The size that the model is made for is that of the images it is given: a stem that pools for others leaves a network of another kind. */
function checkSize(recipe: Recipe, [height, width]: readonly number[], { sampleShape, trainShape }: ImageShapes): void {
  for (const [shape, images] of [
    [trainShape, "training images"],
    [sampleShape, "test images"],
  ] as const) {
    const [h, w] = shape.slice(-3);
    if (h === height && w === width) continue;
    const size = `[${h}, ${w}]`;
    throw recipeError(
      recipe,
      "model.config.imageSize",
      `model.config.imageSize is [${height}, ${width}], but the ${images} of ${recipe.data.name} come to ${size} as this recipe reads them. Bring them to the model's size (data.image.resize, data.image.crop, data.augment.randomResizedCrop.size), or make the model for theirs (model.config.imageSize=${size}; its pooling with it)`,
    );
  }
}

/** How a loader comes to a split's samples: by workers where there are some. */
function preparing(split: Split, transforms: readonly data.Transform[], workers: SampleWorkers | undefined) {
  return workers ? { prepare: workers.prepare(split) } : { transforms };
}

export function testLoader(recipe: Recipe, { entry, test }: SessionData, workers?: SampleWorkers): data.Loader {
  return new data.Loader(test, { batchSize: recipe.train.evalBatchSize, ...preparing("test", testTransforms(recipe, entry), workers) });
}

/** Loss settings of the recipe. */
function lossOf({ train: { labelSmoothing, loss } }: Recipe): train.ClassificationLoss {
  const { base, targetThreshold, tet } = loss;
  return { base, labelSmoothing, targetThreshold, tet: tet ? { means: tet.means, lambda: tet.lambda } : undefined };
}

function optimizerOf(recipe: Recipe, { model, system, config }: BuiltModel): optim.Optimizer<{ lr: number; weightDecay: number }> {
  const { name, blr: _, decayAll, ...given } = recipe.train.optimizer;
  const settings = { ...given, lr: learningRate(recipe) };
  const { layerDecay } = recipe.train;
  const layers = layerDecay === 1 ? undefined : system.layers?.(config);
  if (layerDecay !== 1 && !layers)
    throw recipeError(
      recipe,
      "train.layerDecay",
      `train.layerDecay: ${recipe.model.name} does not say how deep its parameters lie: leave it out`,
    );
  const groups = optim.weightDecayGroups(model, settings.weightDecay, { layerDecay, layers, decayAll });
  switch (name) {
    case "adamw":
      return new optim.AdamW(groups, settings);
    case "lamb":
      return new optim.LAMB(groups, settings);
    case "sgd":
      return new optim.SGD(groups, settings);
  }
}

/** What a step minimises: by labels, by a teacher too, or by what the model's system offers. */
function objective(recipe: Recipe, built: BuiltModel, teacher: nn.Module | undefined): train.Objective {
  const loss = lossOf(recipe);
  const { kind, alpha, tau } = recipe.train.teacher ?? {};
  if (teacher) return train.distillation({ teacher, loss, kind, alpha, temperature: tau });
  return built.objective ?? train.classification(loss);
}

/** The same trainer in batches of other sizes, to be estimated, never run. */
export function withBatches(trainer: train.Trainer, recipe: Recipe, set: SessionData, size: BatchSizes): train.Trainer {
  const { entry } = set;
  return new train.Trainer({
    ...trainer.options,
    loader: new data.Loader(set.train, { batchSize: size.batchSize, transforms: trainTransforms(recipe, entry) }),
    testLoader: new data.Loader(set.test, { batchSize: size.evalBatchSize, transforms: testTransforms(recipe, entry) }),
  });
}

/** A trainer that stands at the beginning of the run. Random streams: init, shuffle, augment.NAME, dropout. */
export function buildTrainer(
  recipe: Recipe,
  set: SessionData,
  built: BuiltModel,
  { signal, workers, teacher }: { signal: AbortSignal; workers: SampleWorkers | undefined; teacher: nn.Module | undefined },
): train.Trainer {
  const { train: t } = recipe;
  const { model } = built;
  const loader = new data.Loader(set.train, {
    batchSize: t.batchSize,
    shuffle: true,
    ...preparing("train", trainTransforms(recipe, set.entry), workers),
    batchTransforms: batchTransforms(recipe),
  });
  return new train.Trainer({
    model,
    loader,
    testLoader: testLoader(recipe, set, workers),
    evalEvery: t.evalEvery,
    optimizer: optimizerOf(recipe, built),
    schedule: { epochs: t.epochs, ...t.schedule, lr: learningRate(recipe) } as optim.Schedule,
    schedulePer: t.schedule.per,
    epochs: recipeEpochs(recipe),
    objective: objective(recipe, built, teacher),
    clipNorm: t.clipNorm,
    accumulate: t.accumulate,
    ema: t.ema && new optim.EMA(model, t.ema),
    signal,
  });
}
