/** The other side of sample-workers.ts: makes the samples that it is asked for, one after another. */
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { data, Rng, SpikeloomError } from "spikeloom";
import type { WorkerInput, WorkerReply, WorkerRequest } from "./sample-workers.ts";
import { entryOf, limited, loadSplits, type Split, type Splits, testTransforms, trainTransforms } from "./samples.ts";

// One is read and decoded while the other is changed.
const two = data.atMost(2);

async function open({ recipe, seed, lengths, arrays }: WorkerInput): Promise<Record<Split, data.Prepare>> {
  const { train, test } = arrays;
  const splits: Splits =
    train && test ? { train: new data.ArrayDataset(train), test: new data.ArrayDataset(test) } : await loadSplits(recipe);
  for (const split of ["train", "test"] as const)
    if (splits[split].length !== lengths[split])
      throw new SpikeloomError(
        `the data set ${recipe.data.name} was changed while in use: it had ${lengths[split]} ${split} samples, and has ${splits[split].length}`,
      );
  const { train: trained, test: tested } = limited(recipe, splits);
  const entry = entryOf(recipe);
  const rng = new Rng(seed);
  return {
    train: data.preparer(trained, trainTransforms(recipe, entry), rng),
    test: data.preparer(tested, testTransforms(recipe, entry), rng),
  };
}

function serve(port: MessagePort, input: WorkerInput): void {
  const opened = open(input);
  // Told to whoever asks.
  opened.catch(() => {});
  port.on("message", ({ id, split, index, epoch }: WorkerRequest) =>
    two(async () => {
      try {
        const sample = await (await opened)[split](index, epoch);
        const values = own(sample.data);
        port.postMessage({ id, sample: { ...sample, data: values } } satisfies WorkerReply, [values.buffer as ArrayBuffer]);
      } catch (error) {
        const { name, message, stack } = error as Error;
        port.postMessage({ id, error: { name, message, stack } } satisfies WorkerReply);
      }
    }),
  );
}

/** Values in memory of their own, which can be handed over: floats are what a transform has just made. */
function own(values: data.Sample["data"]): data.Sample["data"] {
  return values instanceof Float32Array && values.byteLength === values.buffer.byteLength && values.buffer instanceof ArrayBuffer
    ? values
    : values.slice();
}

serve(parentPort as MessagePort, workerData as WorkerInput);
