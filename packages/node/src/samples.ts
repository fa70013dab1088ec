/** From a recipe to samples: its data set, and what images go through. For the trainer's thread and for its workers. */
import { data } from "spikeloom";
import { type DatasetEntry, datasets } from "./datasets/index.ts";
import type { Recipe } from "./recipe.ts";

/** The part of a recipe that says what samples are. */
export type DataRecipe = Pick<Recipe, "data">;

export interface Splits {
  train: data.Dataset;
  test: data.Dataset;
}

export type Split = keyof Splits;

export const entryOf = ({ data: { name } }: DataRecipe): DatasetEntry => datasets[name] as DatasetEntry;

/** The recipe's data set, whole. */
export async function loadSplits(recipe: DataRecipe): Promise<Splits> {
  const { dir, timeSteps, splitBy, cache } = recipe.data;
  return entryOf(recipe).load({ splitBy, cache, ...(dir === undefined ? {} : { dir }), ...(timeSteps === undefined ? {} : { timeSteps }) });
}

/** The first so many samples of each split, and of each class in training, where the recipe limits them. Draws depend on how many there are. */
export function limited({ data: { perClass, limit, testLimit } }: DataRecipe, { train, test }: Splits): Splits {
  const cut = (set: data.Dataset, length: number | undefined) => (length === undefined ? set : data.firstOf(set, length));
  return { train: cut(perClass === undefined ? train : data.firstOfEach(train, perClass), limit), test: cut(test, testLimit) };
}

/** From pixels to what the network is used to, where the data set has it so. */
export function normalisation({ mean, std }: DatasetEntry): data.Transform[] {
  return mean.length ? [data.normalize({ mean, std })] : [];
}

/** To one size, the same way for every image. */
export function fitting({ data: { image } }: DataRecipe): data.Transform[] {
  const { resize, crop, interpolation } = image;
  return [
    ...(resize === undefined ? [] : [data.resize(resize, { interpolation })]),
    ...(crop === undefined ? [] : [data.centerCrop(crop)]),
  ];
}

/** What test images go through. */
export function testTransforms(recipe: DataRecipe, entry: DatasetEntry): data.Transform[] {
  return [...fitting(recipe), ...normalisation(entry)];
}

export function trainTransforms(recipe: DataRecipe, entry: DatasetEntry): data.Transform[] {
  const { randomResizedCrop, randomCrop, shift, flip, randAugment, colorJitter, randomErasing, trivialAugment } = recipe.data.augment;
  // RandAugment fills with the mean colour, so that normalised it is zero (timm).
  const fill = entry.mean.map((m) => Math.round(255 * m));
  return [
    ...(randomResizedCrop ? [data.randomResizedCrop(randomResizedCrop)] : fitting(recipe)),
    ...(randomCrop ? [data.randomCrop(randomCrop)] : []),
    ...(shift > 0 ? [data.randomShift(shift)] : []),
    ...(flip > 0 ? [data.randomHorizontalFlip(flip)] : []),
    ...(randAugment === undefined
      ? []
      : [data.randAugment(randAugment, { fill, interpolation: (randomResizedCrop ?? recipe.data.image).interpolation })]),
    ...(colorJitter ? [data.colorJitter(colorJitter)] : []),
    ...(trivialAugment ? [data.trivialAugment()] : []),
    ...normalisation(entry),
    ...(randomErasing > 0 ? [data.randomErasing({ probability: randomErasing })] : []),
  ];
}

export function batchTransforms({ data: { augment } }: DataRecipe): data.BatchTransform[] {
  const { cutout, mix } = augment;
  return [...(cutout ? [data.cutout()] : []), ...(mix ? [data.mixup({ ...mix, mixupAlpha: mix.mixup, cutmixAlpha: mix.cutmix })] : [])];
}
