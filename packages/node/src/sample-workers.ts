/**
 * Workers that read, decode and change samples beside the trainer's thread. Each knows the recipe and has a `preparer` of its own; since
 * draws depend on seed, epoch and sample alone, it does not matter which one makes a sample, or how many there are.
 */
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { pathToFileURL } from "node:url";
import { Worker } from "node:worker_threads";
import { data, FormatError, random, SpikeloomError } from "spikeloom";
import type { DataRecipe, Split, Splits } from "./samples.ts";

const MOST_BY_DEFAULT = 8;
/** A worker's JavaScript heap and what it has in hand, as measured. */
const WORKER_BYTES = 80 << 20;

/** What a worker is started with. */
export interface WorkerInput {
  recipe: DataRecipe;
  seed: number;
  /** Samples of each split as the trainer knows them. */
  lengths: Record<Split, number>;
  /** The splits themselves, in shared memory, where they are in memory. */
  arrays: Record<Split, data.ArrayDatasetOptions | undefined>;
}

export interface WorkerRequest {
  id: number;
  split: Split;
  index: number;
  epoch: number;
}

export interface WorkerReply {
  id: number;
  sample?: data.Sample;
  error?: { name: string; message: string; stack: string | undefined };
}

export interface SampleWorkers {
  /** For a loader of that split. */
  prepare(split: Split): data.Prepare;
  /** Memory that they will take, about. */
  readonly bytes: number;
  /** End them; whoever still waits is told. */
  close(): Promise<void>;
}

/** As many as the recipe says; else half the processors for data on disk, and none for data in memory, which is quick to reach. */
export function workerCount({ data: { workers } }: DataRecipe, { train }: Pick<Splits, "train">): number {
  return workers ?? (train.concurrent ? Math.min(MOST_BY_DEFAULT, Math.max(1, availableParallelism() >> 1)) : 0);
}

/** Start `count` workers, which draw as the engine's generator does; undefined for none. */
export function startWorkers(recipe: DataRecipe, splits: Splits, count: number): SampleWorkers | undefined {
  if (!count) return undefined;
  const input: WorkerInput = {
    recipe: { data: recipe.data },
    seed: random().seed,
    lengths: { train: splits.train.length, test: splits.test.length },
    arrays: { train: inShared(splits.train), test: inShared(splits.test) },
  };
  const members = Array.from({ length: count }, () => new Member(input));
  return {
    bytes: count * WORKER_BYTES,
    prepare: (split) => (index, epoch) => {
      const member = members.reduce((least, m) => (m.waiting < least.waiting ? m : least));
      return member.ask({ split, index, epoch }, splits[split].nameOf?.(index) ?? `sample ${index}`);
    },
    async close() {
      await Promise.all(members.map((m) => m.close()));
    },
  };
}

interface Waiting {
  name: string;
  resolve: (sample: data.Sample) => void;
  reject: (error: Error) => void;
}

class Member {
  readonly #worker: Worker;
  readonly #asked = new Map<number, Waiting>();
  #next = 0;
  #over: Error | undefined;

  constructor(input: WorkerInput) {
    this.#worker = import.meta.url.endsWith(".ts")
      ? fromSources(input)
      : new Worker(new URL("./sample-worker.js", import.meta.url), { workerData: input });
    this.#worker.on("message", (reply: WorkerReply) => this.#answer(reply));
    this.#worker.on("error", (error) => this.#end(error));
    this.#worker.on("exit", (code) => this.#end(new Error(`it ended with code ${code}`)));
  }

  get waiting(): number {
    return this.#asked.size;
  }

  ask(request: Omit<WorkerRequest, "id">, name: string): Promise<data.Sample> {
    if (this.#over) return Promise.reject(this.#over);
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { name, resolve, reject });
      this.#worker.postMessage({ ...request, id } satisfies WorkerRequest);
    });
  }

  async close(): Promise<void> {
    this.#fail(new SpikeloomError("the workers that read samples were ended"));
    await this.#worker.terminate();
  }

  #answer({ id, sample, error }: WorkerReply): void {
    const waiting = this.#asked.get(id);
    this.#asked.delete(id);
    if (sample) waiting?.resolve(sample);
    else if (error) waiting?.reject(rebuilt(error, waiting.name));
  }

  /** It is gone, and was not asked to be. */
  #end(cause: Error): void {
    this.#fail(
      new SpikeloomError(
        `a worker that reads samples failed (${cause.message}). Use fewer (--workers N), or none (--workers 0), which shows what is wrong`,
        { cause },
      ),
    );
  }

  #fail(error: Error): void {
    this.#over ??= error;
    for (const { reject } of this.#asked.values()) reject(this.#over);
    this.#asked.clear();
  }
}

/** Where this is not built but run by tsx or in tests: the worker is TypeScript too, which Node itself does not read. */
function fromSources(input: WorkerInput): Worker {
  const tsx = pathToFileURL(
    createRequire(import.meta.url)
      .resolve("tsx/esm/api")
      .replace(/cjs$/, "mjs"),
  ).href;
  const worker = new URL("./sample-worker.ts", import.meta.url).href;
  const code = `import(${JSON.stringify(tsx)}).then(({ register }) => { register(); return import(${JSON.stringify(worker)}); })`;
  return new Worker(code, { eval: true, workerData: input });
}

/** An error of another thread, of its own class, with the sample it was about. */
function rebuilt({ name, message, stack }: NonNullable<WorkerReply["error"]>, sample: string): Error {
  const text = message.includes(sample) ? message : `${sample}: ${message}`;
  if (name === "FormatError") return new FormatError(text);
  if (name === "SpikeloomError") return new SpikeloomError(text);
  const error = new Error(text);
  if (stack !== undefined) error.stack = stack;
  return error;
}

/** A copy of images in memory that all threads see. */
function inShared(dataset: data.Dataset): data.ArrayDatasetOptions | undefined {
  if (!(dataset instanceof data.ArrayDataset)) return undefined;
  const { images, shape, labels, classes, classNames } = dataset;
  return { images: shared(images), shape, labels: shared(labels), classes, classNames };
}

function shared<T extends Uint8Array | Float32Array | Int32Array>(values: T): T {
  const Kind = values.constructor as new (buffer: SharedArrayBuffer) => T;
  const copy = new Kind(new SharedArrayBuffer(values.byteLength));
  copy.set(values);
  return copy;
}
