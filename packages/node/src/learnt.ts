/**
 * Whether a training that ended has learnt anything. A loss that is not finite stops it; one that went up and stayed finite, or a network
 * that answers as well without looking, would otherwise end like a good run.
 */
import type { train } from "spikeloom";
import { percent, plain } from "./report/format.ts";

/** Steps at the beginning and at the end whose mean losses are compared: a tenth of all, at most so many. */
const MOST_STEPS = 50;

export interface Learning {
  /** Loss of every step, in order. */
  losses: readonly number[];
  test: Pick<train.Evaluation, "accuracy" | "samples" | "confusion">;
  /** Mean over all neurons and steps, 0 to 1. */
  firingRate: number;
}

/**
 * What speaks against it, in words; nothing where it learnt. Its loss must have fallen, and its accuracy must be better than that of always
 * naming the commonest class, by more than chance gives: two standard errors.
 */
export function learningWarnings({ losses, test, firingRate }: Learning): string[] {
  const reasons: string[] = [];
  const count = Math.min(MOST_STEPS, Math.ceil(losses.length / 10));
  // Of one step there is nothing to compare.
  if (losses.length > count) {
    const first = mean(losses.slice(0, count));
    const last = mean(losses.slice(-count));
    if (!(last < first)) reasons.push(`the training loss ended at ${plain(last)} and began at ${plain(first)}`);
  }
  const { accuracy, samples, confusion } = test;
  const commonest = Math.max(...confusion.map((row) => row.reduce((a, b) => a + b, 0))) / samples;
  const chance = commonest + 2 * Math.sqrt((commonest * (1 - commonest)) / samples);
  // Where there is one class, naming it is right.
  if (commonest < 1 && accuracy <= chance)
    reasons.push(
      `the test accuracy of ${percent(accuracy)} is no better than chance (always naming the commonest class gives ${percent(commonest)})`,
    );
  if (!reasons.length) return [];
  if (!(firingRate > 0)) reasons.push("no neuron fires");
  return [`the training did not learn: ${reasons.join("; ")}. Train longer, lower the learning rate, or look at the data`];
}

function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}
