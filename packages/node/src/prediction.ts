/** One image through a trained network: what it takes it for, how sure and how soon, what it fires and what that costs. */
import { data, measure, models, nn, noGrad, SpikeloomError, scope, type Tensor } from "spikeloom";
import { type DatasetEntry, datasets } from "./datasets/index.ts";
import { attentionOf, type Recorded, rasterOf, recordSpikes } from "./inspect.ts";
import { measureOn } from "./measured.ts";
import { pictureOf } from "./picture.ts";
import { type Input, readInput } from "./prediction-input.ts";
import type { ReportAttention, ReportImage, ReportRaster } from "./report-data.ts";
import { meanRate } from "./run-report.ts";
import type { TrainedModel } from "./trained.ts";

/** Spike maps are shown at no more than so many positions a side; finer ones are averaged. */
const MAP_SIDE = 64;

export interface Scored {
  class: string;
  /** Number of the class. */
  index: number;
  /** Softmax of the logits' mean over T. */
  probability: number;
}

/** The mean of the first steps' logits, taken as if the network had stopped there. */
export interface Interim extends Scored {
  /** Of the class that all steps together decide for. */
  ofFinal: number;
}

/** Where a layer fired. */
export interface SpikeMaps {
  width: number;
  height: number;
  /** For each step t the share of channels that fire at each position, in reading order; 0 to 1. */
  steps: number[][];
}

export interface LayerSpikes {
  layer: string;
  raster: ReportRaster;
  /** Where the layer's neurons have places. */
  maps: SpikeMaps | undefined;
}

export interface Prediction extends Scored, Pick<Input, "found" | "changes" | "notes"> {
  /** All classes, the likeliest first. */
  ranking: Scored[];
  timeSteps: number;
  /** After each step; undefined where the network does not give logits for every step. */
  interim: Interim[] | undefined;
  /** Steps after which the decision was made, and stood. */
  decidedAfter: number | undefined;
  /** Mean over all neurons and steps, 0 to 1. */
  firingRate: number;
  /** Of this image, by the plain rule. */
  energy: measure.EnergyReport;
  /** By every convention, the plain rule first. */
  presets: measure.EnergyReport[];
  /** As the network saw it. */
  image: ReportImage;
  layers: LayerSpikes[];
  attention: ReportAttention[];
}

/** Looks at one file after another. */
export interface Predictor {
  /** Names of the classes. */
  classes: readonly string[];
  /** @throws SpikeloomError when the file cannot be read or used, FormatError when it is damaged or something else */
  predict(path: string): Promise<Prediction>;
}

/** @param options.invert exchange light and dark in every picture */
export function createPredictor(trained: TrainedModel, { invert = false }: { invert?: boolean | undefined } = {}): Predictor {
  const { recipe, model, system, metadata } = trained;
  if (trained.objective)
    throw new SpikeloomError(
      `${trained.folder.path} names no classes: it was trained for ${recipe.train.objective}. Start a classifier from it (train.init)`,
    );
  const { config } = models.resolveModel(recipe.model.name, recipe.model.config);
  const entry = datasets[recipe.data.name] as DatasetEntry;
  const classes = classesOf(metadata, entry, config.numClasses);
  return {
    classes,
    async predict(path) {
      const { sample, ...input } = await readInput(path, { recipe, config, metadata, invert });
      const loader = new data.Loader({ length: 1, classes: 1, get: () => sample }, { batchSize: 1 });
      const { x, y } = await loader.batchOf([0]);
      const restore = model.modes();
      model.eval();
      try {
        const seen = scope(() => noGrad(() => look(trained, x, entry, classes)));
        const { survey, energy } = await measureOn({ model, system, config, loader, sampleShape: sample.shape }, 1);
        const presets = measure.presets.map(({ name }) => energy({ preset: name }));
        return {
          ...input,
          ...seen,
          timeSteps: survey.operations.timeSteps,
          firingRate: meanRate(survey.rates),
          energy: presets[0] as measure.EnergyReport,
          presets,
        };
      } finally {
        restore();
        x.dispose();
        y.dispose();
      }
    },
  };
}

/** Names from the weights file; else the data set's; else numbers. */
function classesOf(metadata: TrainedModel["metadata"], entry: DatasetEntry, count: unknown): readonly string[] {
  let noted: unknown;
  try {
    noted = JSON.parse(metadata.classes ?? "null");
  } catch {
    // A weights file that something else wrote.
  }
  if (Array.isArray(noted) && noted.every((name) => typeof name === "string")) return noted;
  if (entry.classes.length) return entry.classes;
  return Array.from({ length: Number(count) || 0 }, (_, i) => `${i}`);
}

/** What is seen in one pass over one image. */
function look({ model, system }: TrainedModel, x: Tensor, entry: DatasetEntry, classes: readonly string[]) {
  const { layers, probabilities, logits, stepLogits } = recordSpikes(model, x);
  const scored = (values: ArrayLike<number>, index: number): Scored => ({
    class: classes[index] ?? String(index),
    index,
    probability: values[index] as number,
  });
  const ranking = Array.from(probabilities, (_, i) => scored(probabilities, i)).sort((a, b) => b.probability - a.probability);
  // By the logits, as an evaluation does it: probabilities may round to the same number.
  const best = indexOfMax(logits.dataSync());
  ranking.unshift(
    ...ranking.splice(
      ranking.findIndex(({ index }) => index === best),
      1,
    ),
  );
  const interim = stepLogits && interimOf(stepLogits, (values, index) => ({ ...scored(values, index), ofFinal: values[best] as number }));
  const lastOther = interim?.findLastIndex(({ index }) => index !== best) ?? -1;
  return {
    ...scored(probabilities, best),
    ranking,
    interim,
    decidedAfter: interim && lastOther + 2,
    image: pictureOf(x, 0, entry),
    layers: layers.map((l): LayerSpikes => ({ layer: l.layer, raster: rasterOf(l, 0), maps: mapsOf(l) })),
    attention: attentionOf(system.attention?.(model, x) ?? [], 0),
  };
}

/** The first of the largest values. */
function indexOfMax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] as number) > (values[best] as number)) best = i;
  return best;
}

/** What the first step says alone, the first two together, and so on. @param stepLogits [T, 1, K] */
function interimOf(stepLogits: Tensor, score: (probabilities: ArrayLike<number>, index: number) => Interim): Interim[] {
  const [steps, , classes] = stepLogits.shape as [number, number, number];
  return Array.from({ length: steps }, (_, t) => {
    const mean = stepLogits.slice([0, t + 1]).mean(0);
    return score(nn.softmax(mean).dataSync(), indexOfMax(mean.dataSync().subarray(0, classes)));
  });
}

/** Maps of a layer with values [T, 1, H, W, C]. */
function mapsOf({ values, shape }: Recorded): SpikeMaps | undefined {
  if (shape.length !== 5) return undefined;
  const [steps, , rows, columns, channels] = shape as [number, number, number, number, number];
  const block = Math.ceil(Math.max(rows, columns) / MAP_SIDE);
  const [height, width] = [Math.ceil(rows / block), Math.ceil(columns / block)];
  const maps = Array.from({ length: steps }, (_, t) => {
    const fired = new Float64Array(height * width);
    const places = new Float64Array(height * width);
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < columns; x++) {
        const at = ((t * rows + y) * columns + x) * channels;
        const to = Math.floor(y / block) * width + Math.floor(x / block);
        places[to] = (places[to] as number) + channels;
        for (let c = 0; c < channels; c++) if (values[at + c]) fired[to] = (fired[to] as number) + 1;
      }
    return Array.from(fired, (n, i) => n / (places[i] as number));
  });
  return { width, height, steps: maps };
}
