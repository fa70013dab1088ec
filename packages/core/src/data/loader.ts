/**
 * Batches of a dataset, epoch after epoch. Shuffling and augmentation each draw from a stream of their own, and the loader's
 * state names the epoch, the batch and both streams' positions: a resumed run goes on bit for bit in the middle of an epoch.
 */
import { SpikeloomError } from "../runtime/error.ts";
import type { Stream, StreamState } from "../runtime/random.ts";
import type { ArrayDataset } from "./dataset.ts";

/** Changes one image in place, before normalisation. `shape` is [H, W, C], pixels are channels-last (bytes already scaled to 0..1). */
export type Augment = (pixels: Float32Array, rng: Stream, shape: readonly [number, number, number]) => void;

export interface LoaderOptions {
  readonly batchSize: number;
  /** Draws each epoch's order. Without it the order is the dataset's. */
  readonly shuffle?: Pick<Stream, "permutation" | "state" | "restore">;
  /** Leave out a last batch that is smaller than the others. Default false. */
  readonly dropLast?: boolean;
  /** Per channel, of pixels scaled to 0..1; x = (pixel - mean) / std. Both or neither. */
  readonly mean?: readonly number[];
  readonly std?: readonly number[];
  readonly augment?: { readonly apply: Augment; readonly stream: Stream };
}

export interface Batch {
  /** Channels-last pixels: bytes scaled to 0..1, augmented, normalised. */
  readonly x: Float32Array;
  /** [B, H, W, C]. */
  readonly xShape: readonly [number, number, number, number];
  /** [B] class numbers. */
  readonly y: Int32Array;
  /** [B] where in the dataset the images stand. */
  readonly indices: Int32Array;
}

/** Where a loader stands, as plain JSON. */
export interface LoaderState {
  /** What the state belongs to. */
  readonly samples: number;
  readonly batchSize: number;
  readonly dropLast: boolean;
  /** Epochs finished, and batches handed out of the one begun. */
  readonly epoch: number;
  readonly batch: number;
  /** The shuffling stream as it stood before it drew this epoch's order; null without shuffling. */
  readonly shuffle: StreamState | null;
  /** The augmentation stream now; null without augmentation. */
  readonly augment: StreamState | null;
}

/**
 * An iterable of batches. Each `for (const batch of loader)` hands out the rest of the current epoch: all of it normally; what
 * remains of it after `restore` or after a loop that was left early.
 */
export class Loader implements Iterable<Batch> {
  readonly dataset: ArrayDataset;
  readonly batchSize: number;
  /** Batches of an epoch. */
  readonly batches: number;
  readonly #options: LoaderOptions;
  #epoch = 0;
  #batch = 0;
  #order: Int32Array | undefined;
  #orderStart: StreamState | null = null;

  /** @throws SpikeloomError for a batch size or a mean / std that does not fit the dataset */
  constructor(dataset: ArrayDataset, options: LoaderOptions) {
    const { batchSize, dropLast = false, mean, std } = options;
    const channels = dataset.shape[3];
    if (!Number.isSafeInteger(batchSize) || batchSize < 1) {
      throw new SpikeloomError(`Loader: expected batchSize as a whole number >= 1, found ${batchSize}.`);
    }
    if (dropLast && batchSize > dataset.length) {
      throw new SpikeloomError(`Loader: expected batchSize of at most the ${dataset.length} images with dropLast, found ${batchSize}.`);
    }
    for (const [name, values] of [["mean", mean] as const, ["std", std] as const]) {
      if ((mean || std) && values?.length !== channels) {
        throw new SpikeloomError(`Loader: expected ${name} with ${channels} numbers, one a channel, found ${values?.length ?? "none"}.`);
      }
      if (!(values ?? []).every((v) => Number.isFinite(v) && (name === "mean" || v > 0))) {
        throw new SpikeloomError(
          `Loader: expected ${name} of finite numbers${name === "std" ? " > 0" : ""}, found [${values?.join(", ")}].`,
        );
      }
    }
    this.dataset = dataset;
    this.batchSize = batchSize;
    this.batches = dropLast ? Math.floor(dataset.length / batchSize) : Math.ceil(dataset.length / batchSize);
    this.#options = options;
  }

  /** Epochs finished. An epoch is finished when its loop has asked for a batch beyond the last. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Batches of the current epoch handed out so far. */
  get batch(): number {
    return this.#batch;
  }

  *[Symbol.iterator](): Generator<Batch, void, undefined> {
    while (this.#batch < this.batches) {
      const batch = this.#make(this.#batch);
      this.#batch++;
      yield batch;
    }
    this.#epoch++;
    this.#batch = 0;
    this.#order = undefined;
  }

  /** Where the loader stands: taken after the step on a batch, it resumes with the next one. */
  state(): LoaderState {
    const { shuffle, augment, dropLast = false } = this.#options;
    return {
      samples: this.dataset.length,
      batchSize: this.batchSize,
      dropLast,
      epoch: this.#epoch,
      batch: this.#batch,
      shuffle: shuffle ? (this.#order ? this.#orderStart : shuffle.state()) : null,
      augment: augment ? augment.stream.state() : null,
    };
  }

  /**
   * Go on from a saved state.
   * @throws SpikeloomError when the state is of a loader with other data or options, or not a state
   */
  restore(state: LoaderState): void {
    const own = this.state();
    for (const key of ["samples", "batchSize", "dropLast"] as const) {
      if (state[key] !== own[key]) {
        throw new SpikeloomError(
          `Loader state: expected ${key} ${own[key]}, found ${state[key]}. Resume with the data and batch size of the run.`,
        );
      }
    }
    for (const key of ["shuffle", "augment"] as const) {
      if (Boolean(state[key]) !== Boolean(own[key])) {
        const word = (on: unknown) => (on ? "one" : "none");
        throw new SpikeloomError(`Loader state: expected ${word(own[key])} for the ${key} stream, found ${word(state[key])}.`);
      }
    }
    const { epoch, batch } = state;
    if (!(Number.isSafeInteger(epoch) && epoch >= 0 && Number.isSafeInteger(batch) && batch >= 0 && batch <= this.batches)) {
      throw new SpikeloomError(`Loader state: expected an epoch >= 0 and a batch of 0 to ${this.batches}, found ${epoch} and ${batch}.`);
    }
    this.#epoch = epoch;
    this.#batch = batch;
    this.#order = undefined;
    if (state.shuffle) this.#options.shuffle?.restore(state.shuffle);
    // The order is drawn now, not at the next batch, so that the shuffling stream stands where it stood when the state was taken.
    if (batch > 0) this.#draw();
    if (state.augment) this.#options.augment?.stream.restore(state.augment);
  }

  #draw(): Int32Array | undefined {
    const { shuffle } = this.#options;
    if (shuffle && !this.#order) {
      this.#orderStart = shuffle.state();
      this.#order = shuffle.permutation(this.dataset.length);
    }
    return this.#order;
  }

  #make(batch: number): Batch {
    const { images, labels, shape } = this.dataset;
    const { mean, std, augment } = this.#options;
    const [samples, height, width, channels] = shape;
    const order = this.#draw();
    const first = batch * this.batchSize;
    const count = Math.min(this.batchSize, samples - first);
    const size = height * width * channels;
    const x = new Float32Array(count * size);
    const y = new Int32Array(count);
    const indices = new Int32Array(count);
    const scale = images instanceof Uint8Array ? 255 : 1;
    for (let i = 0; i < count; i++) {
      const index = order ? order[first + i]! : first + i;
      const pixels = x.subarray(i * size, (i + 1) * size);
      const from = index * size;
      for (let p = 0; p < size; p++) pixels[p] = images[from + p]! / scale;
      augment?.apply(pixels, augment.stream, [height, width, channels]);
      if (mean && std) normalise(pixels, mean, std);
      y[i] = labels[index]!;
      indices[i] = index;
    }
    return { x, xShape: [count, height, width, channels], y, indices };
  }
}

// Rounded to float32 after each operation, as torchvision's Normalize computes.
function normalise(pixels: Float32Array, mean: readonly number[], std: readonly number[]): void {
  const channels = mean.length;
  for (let c = 0; c < channels; c++) {
    const m = Math.fround(mean[c]!);
    const s = Math.fround(std[c]!);
    for (let p = c; p < pixels.length; p += channels) pixels[p] = Math.fround(pixels[p]! - m) / s;
  }
}

/**
 * An augmentation that moves the image by a whole number of pixels, -pad to pad in each direction, and fills with zeros: the
 * usual "pad, then crop at random".
 */
export function randomShift(pad: number): Augment {
  if (!Number.isSafeInteger(pad) || pad < 1) throw new SpikeloomError(`randomShift: expected pad as a whole number >= 1, found ${pad}.`);
  return (pixels, rng, [height, width, channels]) => {
    const down = rng.uniformInt(2 * pad + 1) - pad;
    const right = rng.uniformInt(2 * pad + 1) - pad;
    const source = pixels.slice();
    pixels.fill(0);
    const columns = width - Math.abs(right);
    if (columns <= 0) return;
    for (let row = Math.max(0, down); row < Math.min(height, height + down); row++) {
      const from = ((row - down) * width + Math.max(0, -right)) * channels;
      pixels.set(source.subarray(from, from + columns * channels), (row * width + Math.max(0, right)) * channels);
    }
  };
}
