/**
 * From a sample's number to what goes into a batch: read, then changed by the transforms. What it gives is a pure function of the seed, the
 * epoch and the sample: each transform has a stream of its own, placed by those numbers. So it may be made anywhere, and in any order: on the
 * trainer's thread, or in workers that were given the same dataset, transforms and seed.
 */
import { SpikeloomError } from "../runtime/error.ts";
import type { Rng, Stream } from "../runtime/random.ts";
import type { Dataset, Sample, Transform } from "./dataset.ts";

// Blocks (of four words) of a stream that a sample's or a batch's draws may take, far more than they need: a sample that erases all of
// 1024 x 1024 x 3 values takes 1.6 million. 2^53 blocks are then enough for 2^32 samples in all epochs.
export const BLOCKS_A_DRAW = 2 ** 21;

/** Sample `index` as the epoch `epoch` (from 0) has it. */
export type Prepare = (index: number, epoch: number) => Sample | Promise<Sample>;

/**
 * Samples of a dataset with the transforms applied, in their order.
 * @param rng of the run's seed: draws are the same wherever it was made
 */
export function preparer(dataset: Dataset, transforms: readonly Transform[], rng: Rng): Prepare {
  const streams = streamNames(transforms);
  const change = (sample: Sample, index: number, epoch: number): Sample => {
    const place = (epoch * dataset.length + index) * BLOCKS_A_DRAW;
    try {
      return transforms.reduce((changed, transform, t) => transform.apply(changed, placed(rng, streams[t] as string, place)), sample);
    } catch (error) {
      const name = dataset.nameOf?.(index);
      throw name === undefined || !(error instanceof SpikeloomError)
        ? error
        : new SpikeloomError(`${name}: ${error.message}`, { cause: error });
    }
  };
  return (index, epoch) => {
    const sample = dataset.get(index);
    return sample instanceof Promise ? sample.then((read) => change(read, index, epoch)) : change(sample, index, epoch);
  };
}

/** A stream of its own standing at `block` of the named stream. */
export function placed(rng: Rng, name: string, block: number): Stream {
  return rng.stream(name).at(block);
}

/** `augment.NAME` of each, numbered from the second of a name on. */
export function streamNames(transforms: readonly { readonly name: string }[]): string[] {
  const seen = new Map<string, number>();
  return transforms.map(({ name }) => {
    const n = (seen.get(name) ?? 0) + 1;
    seen.set(name, n);
    return n === 1 ? `augment.${name}` : `augment.${name}#${n}`;
  });
}
