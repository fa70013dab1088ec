/** Evaluation: loss, accuracy and confusion matrix of a classifier over a dataset. */
import type { Loader } from "../data/loader.ts";
import type { Module } from "../nn/module.ts";
import type { TypedArray } from "../runtime/device.ts";
import { randomness } from "../runtime/engine.ts";
import { mean } from "../tensor/ops/reduce.ts";
import { scope } from "../tensor/scope.ts";
import { noGrad } from "../tensor/tape.ts";
import { type ClassificationLoss, classificationLoss } from "./losses.ts";
import type { Objective } from "./objective.ts";
import { pause } from "./pause.ts";

export interface Evaluation {
  loss: number;
  /** Fraction of images whose largest logit is their class; NaN, as `top5`, where the model names no classes. */
  accuracy: number;
  /** Fraction of images whose class is among the five largest logits. */
  top5: number;
  samples: number;
  /** confusion[true class][predicted class]. */
  confusion: number[][];
  /** Predicted class of each image, in the loader's order; empty where the model names none. */
  predictions: Int32Array;
  seconds: number;
}

export interface EvaluateOptions {
  loss?: ClassificationLoss | undefined;
  /** One without labels: the test is the mean of its loss. Any other changes nothing here. */
  objective?: Objective | undefined;
  onBatch?: ((done: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** Run `model` in eval mode over one whole epoch of `loader`; its mode is put back afterwards. */
export async function evaluate(
  model: Module,
  loader: Loader,
  { loss: lossOptions = {}, objective, onBatch, signal }: EvaluateOptions = {},
): Promise<Evaluation> {
  const start = performance.now();
  const { classes, length } = loader.dataset;
  const unlabelled = objective?.unlabelled ? objective : undefined;
  const confusion = unlabelled ? [] : Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  const predictions: number[] = [];
  const restore = model.modes();
  // A test changes nothing of the training: draws made in it (an encoder's) are given back.
  const draws = randomness().state();
  let samples = 0;
  let total = 0;
  let correct = 0;
  let correct5 = 0;
  // A loader that was left in the middle begins anew.
  loader.restore({ ...loader.state(), batch: 0 });
  model.eval();
  try {
    for await (const { x, y, labels } of loader) {
      signal?.throwIfAborted();
      const { batchLoss, logits } = scope(() =>
        noGrad((): { batchLoss: number; logits?: TypedArray } => {
          if (unlabelled) return { batchLoss: unlabelled.loss(model, x, y).loss.itemSync() };
          const logits = model.forward(x);
          const averaged = logits.rank === 3 ? mean(logits, 0) : logits;
          return { batchLoss: classificationLoss(logits, y, lossOptions).itemSync(), logits: averaged.dataSync() };
        }),
      );
      samples += labels.length;
      total += batchLoss * labels.length;
      for (let i = 0; logits && i < labels.length; i++) {
        const label = labels[i] as number;
        const scores = logits.subarray((i * logits.length) / labels.length, ((i + 1) * logits.length) / labels.length);
        const { guess, rank } = place(scores as Float32Array, label);
        predictions.push(guess);
        if (guess === label) correct++;
        if (rank < 5) correct5++;
        const row = confusion[label] as number[];
        if (guess < classes) row[guess] = (row[guess] as number) + 1;
      }
      onBatch?.(samples, length);
      await pause();
    }
  } finally {
    restore();
    randomness().restore(draws);
  }
  const rate = (count: number) => (unlabelled ? Number.NaN : count / samples);
  return {
    loss: total / samples,
    accuracy: rate(correct),
    top5: rate(correct5),
    samples,
    confusion,
    predictions: Int32Array.from(predictions),
    seconds: (performance.now() - start) / 1000,
  };
}

/** The largest entry of a row of logits, and how many entries are above that of the label (an equal one that stands before it is; where the label's is NaN, all). */
function place(row: Float32Array | Float64Array, label: number): { guess: number; rank: number } {
  let guess = 0;
  let rank = 0;
  const own = row[label] as number;
  for (let k = 0; k < row.length; k++) {
    const value = row[k] as number;
    if (value > (row[guess] as number)) guess = k;
    if (!(value <= own) || (value === own && k < label)) rank++;
  }
  return { guess, rank };
}
