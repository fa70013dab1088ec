/** Evaluation: loss, accuracy and confusion matrix of a classifier over a dataset. */
import type { Loader } from "../data/loader.ts";
import type { Module } from "../nn/module.ts";
import { mean } from "../tensor/ops/reduce.ts";
import { scope } from "../tensor/scope.ts";
import { noGrad } from "../tensor/tape.ts";
import { tensor } from "../tensor/tensor.ts";
import { type ClassificationLoss, classificationLoss } from "./losses.ts";
import { pause } from "./pause.ts";

export interface Evaluation {
  loss: number;
  /** Fraction of images whose largest logit is their class. */
  accuracy: number;
  samples: number;
  /** confusion[true class][predicted class]. */
  confusion: number[][];
  /** Predicted class of each image, in the loader's order. */
  predictions: Int32Array;
  seconds: number;
}

export interface EvaluateOptions {
  loss?: ClassificationLoss | undefined;
  onBatch?: ((done: number, total: number) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** Run `model` in eval mode over one whole epoch of `loader`; its mode is put back afterwards. */
export async function evaluate(
  model: Module,
  loader: Loader,
  { loss: lossOptions = {}, onBatch, signal }: EvaluateOptions = {},
): Promise<Evaluation> {
  const start = performance.now();
  const { classes, length } = loader.dataset;
  const confusion = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  const predictions: number[] = [];
  const restore = model.modes();
  let total = 0;
  let correct = 0;
  // A loader that was left in the middle begins anew.
  loader.restore({ ...loader.state(), batch: 0 });
  model.eval();
  try {
    for (const { x, xShape, y } of loader) {
      signal?.throwIfAborted();
      const { batchLoss, guesses } = scope(() =>
        noGrad(() => {
          const logits = model.forward(tensor(x, xShape));
          const targets = tensor(y);
          const averaged = logits.rank === 3 ? mean(logits, 0) : logits;
          return { batchLoss: classificationLoss(logits, targets, lossOptions).itemSync(), guesses: averaged.argmax(-1).dataSync() };
        }),
      );
      total += batchLoss * y.length;
      for (let i = 0; i < y.length; i++) {
        const guess = guesses[i] as number;
        const label = y[i] as number;
        predictions.push(guess);
        if (guess === label) correct++;
        const row = confusion[label] as number[];
        if (guess < classes) row[guess] = (row[guess] as number) + 1;
      }
      onBatch?.(predictions.length, length);
      await pause();
    }
  } finally {
    restore();
  }
  const samples = predictions.length;
  return {
    loss: total / samples,
    accuracy: correct / samples,
    samples,
    confusion,
    predictions: Int32Array.from(predictions),
    seconds: (performance.now() - start) / 1000,
  };
}
