/** Are integers and binary virtual steps the same to a network? Both are run, and their outputs held against each other. */
import type { Module } from "../nn/module.ts";
import { reset, setMode } from "../spiking/neurons.ts";
import { mean } from "../tensor/ops/reduce.ts";
import { scope } from "../tensor/scope.ts";
import { noGrad } from "../tensor/tape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { eachBatch, type Inputs } from "./walk.ts";

export interface ModeComparison {
  samples: number;
  /** Samples of which both modes have the same largest output. */
  same: number;
  /**
   * Samples whose outputs differ by more than the rounding of sums: a membrane lay so close to the middle between two integers that it
   * went to another side. None on the reference device.
   */
  moved: number;
  /** Largest difference between two outputs: of all samples, and of those that are not moved. */
  difference: number;
  rounding: number;
  /** Largest output. */
  largest: number;
}

/** Of a sample's largest output: far above what float32 sums lose, and far below what one integer more or less does. */
const ROUNDING = 1e-4;

/**
 * Run `model`, whose outputs are logits [B, K] or [T, B, K], in eval mode with integers and with spikes (see `snn.setMode`), each time from
 * rest: membranes that a network carries from batch to batch are reset.
 * @param inputs one batch, or several
 */
export async function compareModes(model: Module, inputs: Inputs): Promise<ModeComparison> {
  const found: ModeComparison = { samples: 0, same: 0, moved: 0, difference: 0, rounding: 0, largest: 0 };
  const logits = (x: Tensor) =>
    scope(() =>
      noGrad(() => {
        reset(model);
        const y = model.forward(x) as Tensor;
        const last = y.rank === 3 ? mean(y, 0) : y;
        return { values: last.dataSync(), classes: last.shape.at(-1) as number };
      }),
    );
  const restoreFlags = model.modes();
  const restoreModes = setMode(model, "integer");
  model.eval();
  try {
    await eachBatch(inputs, (x) => {
      setMode(model, "integer");
      const { values: integer, classes } = logits(x);
      setMode(model, "spikes");
      const { values: spikes } = logits(x);
      for (let at = 0; at < integer.length; at += classes) {
        let [a, b, difference, largest] = [at, at, 0, 0];
        for (let i = at; i < at + classes; i++) {
          const [n, s] = [integer[i] as number, spikes[i] as number];
          if (n > (integer[a] as number)) a = i;
          if (s > (spikes[b] as number)) b = i;
          // Written so that NaN shows.
          if (!(Math.abs(n - s) <= difference)) difference = Math.abs(n - s);
          largest = Math.max(largest, Math.abs(n));
        }
        if (difference <= ROUNDING * largest) found.rounding = Math.max(found.rounding, difference);
        else found.moved++;
        found.difference = Math.max(found.difference, difference);
        found.largest = Math.max(found.largest, largest);
        found.samples++;
        if (a === b) found.same++;
      }
    });
  } finally {
    reset(model);
    restoreModes();
    restoreFlags();
  }
  return found;
}
