/**
 * What the loader asks of data: a sample by its number, and changes to samples and batches. And the plainest data set: labelled
 * images in memory, with how MNIST's two files become one.
 */
import type { NdArray } from "../formats/array.ts";
import { SpikeloomError } from "../runtime/error.ts";
import type { Stream } from "../runtime/random.ts";
import { readIdx } from "./idx.ts";

/** One labelled image, channels-last, or the frames of one event recording. */
export interface Sample {
  /** Bytes (0..255, which the network sees as 0..1 unless a transform says otherwise) or floats (as the network sees them). */
  readonly data: Uint8Array | Float32Array;
  /** [H, W, C], or [T, H, W, C] for frames. */
  readonly shape: readonly number[];
  /** Class number, from 0. */
  readonly label: number;
}

/** Labelled samples, in memory, on disk or computed. */
export interface Dataset {
  readonly length: number;
  readonly classes: number;
  /** Names of the classes, one each. */
  readonly classNames?: readonly string[] | undefined;
  /** Class of each sample, where it is known without reading it. */
  readonly labels?: ArrayLike<number> | undefined;
  /** `get` gives promises, and several may be under way: the loader asks ahead. */
  readonly concurrent?: boolean | undefined;
  /** Where sample `index` comes from, such as a file's path, for messages. */
  nameOf?(index: number): string;
  /** Sample `index`, 0 <= index < length. What it holds may be shared: a transform makes a new one. */
  get(index: number): Sample | Promise<Sample>;
}

/** A change to one sample: augmentation, resizing, normalisation. It gives a new sample and leaves its argument as it was. */
export interface Transform {
  /** Its draws come from the stream `augment.<name>`, at a place that depends on the epoch and the sample alone. */
  readonly name: string;
  /** @param rng where to draw from; it stands at this sample's own place */
  apply(sample: Sample, rng: Stream): Sample;
}

/** A change to a whole batch, in place: mixup, cutmix, a hole in all of it. */
export interface BatchTransform {
  readonly name: string;
  /**
   * @param x [B, H, W, C], or [T, B, H, W, C] for frames
   * @param targets [B, K]: one-hot rows, to be changed with the images
   * @param epoch number of the epoch, from 0
   * @returns whether it changed the targets: the loss then takes them as soft
   */
  apply(x: Float32Array, targets: Float32Array, shape: readonly number[], rng: Stream, epoch: number): boolean;
}

export interface ArrayDatasetOptions {
  /** Pixels, channels-last: bytes (0..255) or floats (as the network should see them). */
  readonly images: Uint8Array | Float32Array;
  /** [N, H, W, C]. */
  readonly shape: readonly [number, number, number, number];
  /** One class number for each image, from 0. */
  readonly labels: Int32Array;
  /** How many classes there are; the largest label + 1 where not given. */
  readonly classes?: number;
  readonly classNames?: readonly string[] | undefined;
  /** For messages. */
  readonly name?: string;
}

/** Labelled images held in memory. */
export class ArrayDataset implements Dataset {
  readonly images: Uint8Array | Float32Array;
  readonly shape: readonly [number, number, number, number];
  readonly labels: Int32Array;
  readonly classes: number;
  readonly classNames: readonly string[] | undefined;

  /** @throws SpikeloomError when the parts disagree or a label is no class */
  constructor(options: ArrayDatasetOptions) {
    const { images, shape, labels, name = "dataset" } = options;
    const pixels = shape.reduce((a, b) => a * b, 1);
    if (shape.length !== 4 || !shape.every((n) => Number.isSafeInteger(n) && n >= 1)) {
      throw new SpikeloomError(`${name}: expected a shape [N, H, W, C] of whole numbers >= 1, found [${shape.join(", ")}].`);
    }
    if (images.length !== pixels) {
      throw new SpikeloomError(`${name}: expected ${pixels} pixels for [${shape.join(", ")}], found ${images.length}.`);
    }
    if (labels.length !== shape[0]) throw new SpikeloomError(`${name}: expected ${shape[0]} labels, one an image, found ${labels.length}.`);
    const classes = options.classes ?? labels.reduce((a, b) => Math.max(a, b), 0) + 1;
    const wrong = labels.findIndex((label) => label < 0 || label >= classes);
    if (wrong >= 0)
      throw new SpikeloomError(`${name}: expected labels from 0 to ${classes - 1}, found ${labels[wrong]} at image ${wrong}.`);
    this.images = images;
    this.shape = shape;
    this.labels = labels;
    this.classes = classes;
    this.classNames = options.classNames;
  }

  /** Number of images. */
  get length(): number {
    return this.shape[0];
  }

  get(index: number): Sample {
    const [, h, w, c] = this.shape;
    const size = h * w * c;
    return { data: this.images.subarray(index * size, (index + 1) * size), shape: [h, w, c], label: this.labels[index] as number };
  }
}

/** The first `length` samples of a data set. */
export function firstOf(dataset: Dataset, length: number): Dataset {
  if (length >= dataset.length) return dataset;
  return chosen(
    dataset,
    Int32Array.from({ length }, (_, i) => i),
  );
}

/**
 * The first `count` samples of each class, in their order: a training with few labels.
 * @throws SpikeloomError where classes are known only from the samples themselves
 */
export function firstOfEach(dataset: Dataset, count: number): Dataset {
  const { labels } = dataset;
  if (!labels) throw new SpikeloomError("firstOfEach: the data set does not tell its samples' classes without reading them (labels).");
  const taken = new Int32Array(dataset.classes);
  const places: number[] = [];
  for (let i = 0; i < dataset.length; i++) if (taken[labels[i] as number]!++ < count) places.push(i);
  return places.length === dataset.length ? dataset : chosen(dataset, Int32Array.from(places));
}

/** Some samples of a data set. */
function chosen(dataset: Dataset, places: Int32Array): Dataset {
  const { classes, classNames, concurrent, labels } = dataset;
  const at = (index: number) => places[index] as number;
  return {
    ...{ length: places.length, classes, classNames, concurrent, get: (index) => dataset.get(at(index)) },
    ...(labels && { labels: Int32Array.from(places, (place) => labels[place] as number) }),
    ...(dataset.nameOf && { nameOf: (index) => (dataset as Required<Dataset>).nameOf(at(index)) }),
  };
}

/**
 * One split of MNIST, or of a set published in its format (Fashion-MNIST, KMNIST), from the bytes of its two IDX files.
 * @throws FormatError when a file is not IDX; SpikeloomError when the two are not images and labels that belong together
 */
export function datasetFromIdx(images: Uint8Array, labels: Uint8Array, names: { images: string; labels: string }): ArrayDataset {
  const pixels = expectBytes(readIdx(images, names.images), 3, names.images, "images");
  const classes = expectBytes(readIdx(labels, names.labels), 1, names.labels, "labels");
  const [count, height, width] = pixels.shape as [number, number, number];
  return new ArrayDataset({
    images: pixels.data as Uint8Array,
    shape: [count, height, width, 1],
    labels: Int32Array.from(classes.data as Uint8Array),
    classes: 10,
    name: `${names.images} with ${names.labels}`,
  });
}

function expectBytes(array: NdArray, rank: number, name: string, what: string): NdArray {
  if (array.dtype !== "u8" || array.shape.length !== rank) {
    const found = `${array.dtype} with ${array.shape.length}`;
    throw new SpikeloomError(
      `${name}: expected ${what}, which are u8 with ${rank} axes, found ${found}. Is it the other file of the pair?`,
    );
  }
  return array;
}
