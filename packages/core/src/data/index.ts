/** Readers of public data formats, datasets in memory and loaders: the `data` namespace. */
export { ArrayDataset, type ArrayDatasetOptions, datasetFromIdx } from "./dataset.ts";
export { readIdx } from "./idx.ts";
export { type Augment, type Batch, Loader, type LoaderOptions, type LoaderState, randomShift } from "./loader.ts";
