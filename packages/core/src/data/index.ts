/** Readers of public data formats, data sets, transforms and loaders: the `data` namespace. */
export { atMost } from "./at-most.ts";
export { type CifarKind, datasetFromCifar } from "./cifar.ts";
export {
  ArrayDataset,
  type ArrayDatasetOptions,
  type BatchTransform,
  type Dataset,
  datasetFromIdx,
  firstOf,
  firstOfEach,
  type Sample,
  type Transform,
} from "./dataset.ts";
export { cutout, flipRoll, trivialAugment } from "./events/augment.ts";
export * as events from "./events/index.ts";
export { readIdx } from "./idx.ts";
export { type Batch, Loader, type LoaderOptions, type LoaderState } from "./loader.ts";
export { type Prepare, preparer } from "./preparer.ts";
export * from "./transforms/index.ts";
