/** Labelled images in memory, and how MNIST's two files become them. */
import type { NdArray } from "../formats/array.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { readIdx } from "./idx.ts";

export interface ArrayDatasetOptions {
  /** Pixels, channels-last: bytes (0..255) or floats (as the network should see them). */
  readonly images: Uint8Array | Float32Array;
  /** [N, H, W, C]. */
  readonly shape: readonly [number, number, number, number];
  /** One class number for each image, from 0. */
  readonly labels: Int32Array;
  /** How many classes there are; the largest label + 1 where not given. */
  readonly classes?: number;
  /** For messages. */
  readonly name?: string;
}

/** Labelled images held in memory. */
export class ArrayDataset {
  readonly images: Uint8Array | Float32Array;
  readonly shape: readonly [number, number, number, number];
  readonly labels: Int32Array;
  readonly classes: number;

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
  }

  /** Number of images. */
  get length(): number {
    return this.shape[0];
  }
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
