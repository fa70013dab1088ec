/**
 * Batches of a dataset, epoch after epoch, as tensors. Every draw is a pure function of the run's seed, the epoch and the sample:
 * the order of an epoch and each augmentation have a stream of their own, placed by those numbers. So it does not matter in which
 * order samples arrive, and a loader's state is only its epoch and batch: a resumed run goes on bit for bit in the middle of an
 * epoch.
 */

import { checkOptions, kindOf } from "../runtime/check.ts";
import { randomness } from "../runtime/engine.ts";
import { SpikeloomError } from "../runtime/error.ts";
import type { Rng } from "../runtime/random.ts";
import { detachedScope, keep } from "../tensor/scope.ts";
import { type Tensor, tensor } from "../tensor/tensor.ts";
import { atMost } from "./at-most.ts";
import type { BatchTransform, Dataset, Sample, Transform } from "./dataset.ts";
import { BLOCKS_A_DRAW, type Prepare, placed, preparer, streamNames } from "./preparer.ts";

export interface LoaderOptions {
  readonly batchSize: number;
  /** Another order every epoch, from the stream "shuffle". Default false: the dataset's order. */
  readonly shuffle?: boolean | undefined;
  /** Leave out a last batch that is smaller than the others. Default false. */
  readonly dropLast?: boolean | undefined;
  /** Applied to each sample, in this order. */
  readonly transforms?: readonly Transform[] | undefined;
  /** Applied to each whole batch, in this order. */
  readonly batchTransforms?: readonly BatchTransform[] | undefined;
  /**
   * Where samples come from, transforms applied, in place of the dataset and `transforms` on this thread: workers that have a `preparer` of
   * the same. All samples of the batches that are fetched ahead are asked for at once.
   */
  readonly prepare?: Prepare | undefined;
  /** Batches that are fetched ahead from a dataset on disk, or from `prepare`. Default 2. */
  readonly prefetch?: number | undefined;
  /** Where draws come from; the engine's generator (its seed is that of `init`) where not given. */
  readonly rng?: Rng | undefined;
}

export interface Batch {
  /** f32 [B, H, W, C], or [T, B, H, W, C] for event frames. */
  readonly x: Tensor;
  /** i32 [B] class numbers; f32 [B, K] where a batch transform has mixed them. */
  readonly y: Tensor;
  /** [B] class numbers as the dataset has them. */
  readonly labels: Int32Array;
  /** [B] where in the dataset the samples stand. */
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
}

/** A batch before it is on the device. */
interface Fetched {
  x: Float32Array;
  shape: number[];
  soft: Float32Array | undefined;
  labels: Int32Array;
  indices: Int32Array;
}

/** Blocks of the stream "shuffle" that an epoch's order may take, far more than it needs. */
const BLOCKS_AN_EPOCH = 2 ** 32;
/** Samples of a concurrent dataset that are fetched at a time. */
const CONCURRENT = 8;

/**
 * An asynchronous iterable of batches. Each `for await (const { x, y } of loader)` hands out the rest of the current epoch: all of
 * it normally; what remains of it after `restore` or after a loop that was left early. The loader owns the tensors: they live
 * until the next batch is asked for or the loop ends; `keep`ing or cloning is for who needs them longer.
 */
export class Loader implements AsyncIterable<Batch> {
  readonly dataset: Dataset;
  readonly batchSize: number;
  /** Batches of an epoch. */
  readonly batches: number;
  /** Seconds that `for await` loops have waited for batches in all: what the data costs the one who trains. */
  waited = 0;
  readonly #options: LoaderOptions;
  readonly #rng: Rng;
  #epoch = 0;
  #batch = 0;
  #order: { epoch: number; indices: Int32Array } | undefined;
  #looping = false;
  readonly #prepare: Prepare;
  readonly #concurrent: boolean;
  /** Names of the transforms' streams: a second one of a name has its own. */
  readonly #batchStreams: readonly string[];
  readonly #limit: <T>(task: () => Promise<T>) => Promise<T>;

  /** @throws SpikeloomError for a batch size that does not fit the dataset */
  constructor(dataset: Dataset, options: LoaderOptions) {
    if (typeof dataset?.get !== "function" || !(Number.isSafeInteger(dataset.length) && dataset.length >= 1))
      throw new SpikeloomError(
        `Loader: expected a dataset { length >= 1, classes, get(index) }, found ${kindOf(dataset)}${typeof dataset?.get === "function" ? ` of length ${dataset.length}` : ""}.`,
      );
    checkOptions("Loader", options, ["batchSize", "shuffle", "dropLast", "transforms", "batchTransforms", "prepare", "prefetch", "rng"]);
    for (const transform of [...(options.transforms ?? []), ...(options.batchTransforms ?? [])])
      if (typeof transform?.apply !== "function" || typeof transform.name !== "string")
        throw new SpikeloomError(`Loader: expected transforms { name, apply }, found ${kindOf(transform)}.`);
    if (options.prepare !== undefined && (typeof options.prepare !== "function" || options.transforms?.length))
      throw new SpikeloomError(
        typeof options.prepare === "function"
          ? "Loader: expected transforms or prepare, which applies them, found both."
          : `Loader: expected prepare as a function of a sample's number and the epoch, found ${kindOf(options.prepare)}.`,
      );
    const { batchSize, dropLast = false, prefetch = 2 } = options;
    if (!Number.isSafeInteger(batchSize) || batchSize < 1)
      throw new SpikeloomError(`Loader: expected batchSize as a whole number >= 1, found ${batchSize}.`);
    if (!Number.isSafeInteger(prefetch) || prefetch < 0)
      throw new SpikeloomError(`Loader: expected prefetch as a whole number >= 0, found ${prefetch}.`);
    if (dropLast && batchSize > dataset.length)
      throw new SpikeloomError(`Loader: expected batchSize of at most the ${dataset.length} samples with dropLast, found ${batchSize}.`);
    this.dataset = dataset;
    this.batchSize = batchSize;
    this.batches = dropLast ? Math.floor(dataset.length / batchSize) : Math.ceil(dataset.length / batchSize);
    this.#options = options;
    this.#batchStreams = streamNames(options.batchTransforms ?? []);
    this.#rng = options.rng ?? randomness();
    this.#prepare = options.prepare ?? preparer(dataset, options.transforms ?? [], this.#rng);
    this.#concurrent = options.prepare !== undefined || dataset.concurrent === true;
    this.#limit = options.prepare ? (task) => task() : atMost(CONCURRENT);
  }

  /** Epochs finished. An epoch is finished when its loop has asked for a batch beyond the last. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Batches of the current epoch handed out so far. */
  get batch(): number {
    return this.#batch;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Batch, void, undefined> {
    if (this.#looping)
      throw new SpikeloomError("Loader: one loop over it is still running; a second one would take its batches. Make a loader for each.");
    this.#looping = true;
    try {
      yield* this.#loop();
    } finally {
      this.#looping = false;
    }
  }

  async *#loop(): AsyncGenerator<Batch, void, undefined> {
    // Batches under way, the next one first. Only a dataset that gives promises gains from being asked ahead.
    const ahead = this.#concurrent ? (this.#options.prefetch ?? 2) : 0;
    const coming: Promise<Fetched>[] = [];
    while (this.#batch < this.batches) {
      const start = performance.now();
      while (coming.length <= ahead && this.#batch + coming.length < this.batches) {
        const batch = this.#fetch(this.#epoch, this.#batch + coming.length);
        // Its error is thrown when its turn comes, not before.
        batch.catch(() => {});
        coming.push(batch);
      }
      const batch = onDevice(await (coming.shift() as Promise<Fetched>));
      this.#batch++;
      this.waited += (performance.now() - start) / 1000;
      try {
        yield batch;
      } finally {
        batch.x.dispose();
        batch.y.dispose();
      }
    }
    this.#epoch++;
    this.#batch = 0;
  }

  /** A batch of chosen samples, with the transforms (drawn as in the first epoch) and without the batch transforms. The caller owns it. */
  async batchOf(indices: ArrayLike<number>): Promise<Batch> {
    for (const index of Array.from(indices))
      if (!Number.isInteger(index) || index < 0 || index >= this.dataset.length)
        throw new SpikeloomError(`Loader.batchOf: expected samples from 0 to ${this.dataset.length - 1}, found ${index}.`);
    return onDevice(await this.#collate(0, Int32Array.from(indices)));
  }

  /** Where the loader stands: taken after the step on a batch, it resumes with the next one. */
  state(): LoaderState {
    const { dropLast = false } = this.#options;
    return { samples: this.dataset.length, batchSize: this.batchSize, dropLast, epoch: this.#epoch, batch: this.#batch };
  }

  /**
   * Go on from a saved state.
   * @throws SpikeloomError when the state is of a loader with other data or options, or not a state
   */
  restore(state: LoaderState): void {
    const own = this.state();
    if (state.samples !== own.samples)
      throw new SpikeloomError(
        `the data set has ${own.samples} samples now, ${state.samples} when the run began: put the files back, or start a new run.`,
      );
    for (const key of ["batchSize", "dropLast"] as const) {
      if (state[key] !== own[key])
        throw new SpikeloomError(
          `Loader state: expected ${key} ${own[key]}, found ${state[key]}. Resume with the data and batch size of the run.`,
        );
    }
    const { epoch, batch } = state;
    if (!(Number.isSafeInteger(epoch) && epoch >= 0 && Number.isSafeInteger(batch) && batch >= 0 && batch <= this.batches))
      throw new SpikeloomError(`Loader state: expected an epoch >= 0 and a batch of 0 to ${this.batches}, found ${epoch} and ${batch}.`);
    this.#epoch = epoch;
    this.#batch = batch;
  }

  /** The order of an epoch. */
  #indices(epoch: number): Int32Array | undefined {
    if (!this.#options.shuffle) return undefined;
    if (this.#order?.epoch !== epoch) {
      const indices = placed(this.#rng, "shuffle", epoch * BLOCKS_AN_EPOCH).permutation(this.dataset.length);
      this.#order = { epoch, indices };
    }
    return this.#order.indices;
  }

  async #fetch(epoch: number, batch: number): Promise<Fetched> {
    const first = batch * this.batchSize;
    const count = Math.min(this.batchSize, this.dataset.length - first);
    const order = this.#indices(epoch);
    const indices = order ? order.slice(first, first + count) : Int32Array.from({ length: count }, (_, i) => first + i);
    const fetched = await this.#collate(epoch, indices);
    const { batchTransforms = [] } = this.#options;
    if (batchTransforms.length) {
      const { classes } = this.dataset;
      const targets = new Float32Array(count * classes);
      fetched.labels.forEach((label, i) => {
        targets[i * classes + label] = 1;
      });
      for (const [i, transform] of batchTransforms.entries()) {
        const rng = placed(this.#rng, this.#batchStreams[i] as string, (epoch * this.batches + batch) * BLOCKS_A_DRAW);
        if (transform.apply(fetched.x, targets, fetched.shape, rng, epoch)) fetched.soft = targets;
      }
    }
    return fetched;
  }

  async #collate(epoch: number, indices: Int32Array): Promise<Fetched> {
    const { dataset } = this;
    const count = indices.length;
    const labels = new Int32Array(count);
    let x: Float32Array | undefined;
    let sampleShape: readonly number[] = [];
    const put = (sample: Sample, i: number): void => {
      const index = indices[i] as number;
      if (!isSample(sample ?? undefined))
        throw new SpikeloomError(
          `Loader: expected sample ${index} as { data, shape, label } with a Uint8Array or Float32Array of as many values as the shape [H, W, C] or [T, H, W, C] has, found ${kindOf(sample)}${sample?.shape ? ` with ${kindOf(sample.data)} and the shape [${Array.from(sample.shape).join(", ")}]` : ""}.`,
        );
      const { data, shape, label } = sample;
      if (!Number.isInteger(label) || label < 0 || label >= dataset.classes)
        throw new SpikeloomError(`Loader: expected labels from 0 to ${dataset.classes - 1}, found ${label} at sample ${index}.`);
      if (!x) {
        sampleShape = shape;
        x = new Float32Array(count * data.length);
      }
      if (shape.length !== sampleShape.length || shape.some((n, axis) => n !== sampleShape[axis]))
        throw new SpikeloomError(
          `Loader: expected samples of one shape in a batch, found [${sampleShape.join(", ")}] and, at sample ${index}, [${shape.join(", ")}]. Resize or crop them to one size by a transform.`,
        );
      labels[i] = label;
      scatter(data, x, i, count, shape);
    };
    if (this.#concurrent) {
      // Each is transformed as it arrives, and few are under way: whole photographs would fill the memory.
      await Promise.all(Array.from(indices, (index, i) => this.#limit(async () => put(await this.#prepare(index, epoch), i))));
    } else
      for (let i = 0; i < count; i++) {
        const sample = this.#prepare(indices[i] as number, epoch);
        put(sample instanceof Promise ? await sample : sample, i);
      }
    const shape = sampleShape.length === 4 ? [sampleShape[0] as number, count, ...sampleShape.slice(1)] : [count, ...sampleShape];
    return { x: x ?? new Float32Array(0), shape, soft: undefined, labels, indices };
  }
}

/** Sample `i` into its place of a batch: [B, ...], or [T, B, ...] for frames. Bytes become 0..1. */
function scatter(data: Uint8Array | Float32Array, x: Float32Array, i: number, count: number, shape: readonly number[]): void {
  const steps = shape.length === 4 ? (shape[0] as number) : 1;
  const size = data.length / steps;
  const bytes = data instanceof Uint8Array;
  for (let t = 0; t < steps; t++) {
    const to = (t * count + i) * size;
    if (bytes) for (let p = 0; p < size; p++) x[to + p] = (data[t * size + p] as number) / 255;
    else x.set(data.subarray(t * size, (t + 1) * size), to);
  }
}

function onDevice({ x, shape, soft, labels, indices }: Fetched): Batch {
  return detachedScope(() => ({
    x: keep(tensor(x, shape)),
    y: keep(soft ? tensor(soft, [labels.length, soft.length / labels.length]) : tensor(labels)),
    labels,
    indices,
  }));
}

function isSample({ data, shape }: Partial<Sample> = {}): boolean {
  if (!(data instanceof Uint8Array || data instanceof Float32Array) || !Array.isArray(shape)) return false;
  return (shape.length === 3 || shape.length === 4) && shape.reduce((a, b) => a * b, 1) === data.length;
}
