/**
 * Whether a training that ended has learnt anything. A loss that is not finite stops it; one that went up and stayed finite, or a network
 * that answers as well without looking, would otherwise end like a good run.
 */
import type { train } from "spikeloom";
import { percent, plain } from "./report/format.ts";

/** Steps at the end whose mean loss is compared with that of the first step: a tenth of all, at most so many. */
const MOST_STEPS = 50;

export interface Learning {
  /** Loss of every step, in order. */
  losses: readonly number[];
  /** How often the weights changed: fewer than steps where gradients of several are summed. */
  updates: number;
  /** None where the model names no classes. */
  test: Pick<train.Evaluation, "accuracy" | "samples" | "confusion"> | undefined;
  /** Mean over all neurons and steps, 0 to 1. */
  firingRate: number;
}

/**
 * What speaks against it, in words; nothing where it learnt. Its loss must have fallen below the first step's (a mean of some steps may
 * have diverged already), and its accuracy must be better than that of always naming the commonest class, by more than chance gives: two
 * standard errors. Where the loss fell and the accuracy lags, it has learnt something: that is said more softly.
 */
export function learningWarnings({ losses, updates, test, firingRate }: Learning): string[] {
  const reasons: string[] = [];
  const count = Math.min(MOST_STEPS, Math.ceil(losses.length / 10));
  const [first] = losses;
  const last = mean(losses.slice(-count));
  // Of one step there is nothing to compare.
  const fell = losses.length > count && last < (first as number);
  if (losses.length > count && !fell) reasons.push(`the training loss ended at ${plain(last)} and began at ${plain(first as number)}`);
  if (test) {
    const { accuracy, samples, confusion } = test;
    const commonest = Math.max(...confusion.map((row) => row.reduce((a, b) => a + b, 0))) / samples;
    const chance = commonest + 2 * Math.sqrt((commonest * (1 - commonest)) / samples);
    // Where there is one class, naming it is right.
    if (commonest < 1 && accuracy <= chance)
      reasons.push(
        `the test accuracy of ${percent(accuracy)} is ${fell ? "not better than chance yet" : "no better than chance"} (always naming the commonest class gives ${percent(commonest)})`,
      );
  }
  if (!reasons.length) return [];
  if (firingRate === 0) reasons.push("no neuron fires in evaluation");
  if (fell)
    return [
      `${reasons.join("; ")}, though the training loss fell from ${plain(first as number)} to ${plain(last)}. After ${updates} update${updates === 1 ? "" : "s"} the running statistics of batch norm, which the test uses, may still lag behind the weights: train longer, or look at the test data`,
    ];
  return [`the training did not learn: ${reasons.join("; ")}. Train longer, lower the learning rate, or look at the data`];
}

function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}
