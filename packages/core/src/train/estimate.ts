/**
 * What a training will take in memory, before it starts. The device's part is exact: a few steps and a test batch of the true sizes
 * run on a device without memory (runtime/phantom.ts), which leaves the trainer as it was. The rest of the process is what it has
 * already, and allowances for JavaScript's own memory that were measured.
 */
import type { Loader } from "../data/loader.ts";
import { gradNorm } from "../optim/optimizer.ts";
import { device, memoryInfo, onDevice, randomness } from "../runtime/engine.ts";
import { Phantom } from "../runtime/phantom.ts";
import { reset } from "../spiking/neurons.ts";
import { mean } from "../tensor/ops/reduce.ts";
import { scope } from "../tensor/scope.ts";
import { type Shape, sizeOf } from "../tensor/shape.ts";
import { noGrad } from "../tensor/tape.ts";
import { type Tensor, tensor, zeros } from "../tensor/tensor.ts";
import { classificationLoss } from "./losses.ts";
import type { Trainer, TrainerOptions } from "./trainer.ts";

export interface MemoryEstimate {
  /** Trainable numbers. */
  parameters: number;
  /** Bytes of parameters and buffers. */
  parameterBytes: number;
  /** Bytes of the optimiser's state and of the gradients. */
  optimizerBytes: number;
  /** Device memory that the run touches, what is in use already included. */
  heapBytes: number;
  /** Most memory that the process has at any time. */
  rssBytes: number;
}

/**
 * Estimate the memory of a run; the trainer, its model and its random streams are as before.
 * @param rss bytes of memory that the process has now, with data, model and trainer made
 */
export async function estimateMemory(trainer: Trainer, rss: number): Promise<MemoryEstimate> {
  const { options } = trainer;
  const { model, loader, testLoader } = options;
  const draws = randomness().state();
  const shapes = [await inputShape(loader), ...(testLoader ? [await inputShape(testLoader)] : [])];
  const phantom = new Phantom(device());
  const state = [...model.namedState()].map(([, t]) => ({ t, version: t.version, grad: t.grad }));
  const restoreModes = model.modes();
  for (const { t } of state) t.grad = null;
  let optimizerBytes: number;
  try {
    optimizerBytes = onDevice(phantom, () => rehearse(options, shapes[0] as Shape, shapes[1]));
  } finally {
    restoreModes();
    randomness().restore(draws);
    for (const { t, version, grad } of state) {
      t.version = version;
      t.grad = grad;
    }
  }
  const grown = phantom.memory().peak;
  const batches = shapes.map((shape) => 4 * sizeOf(shape));
  return {
    parameters: model.parameterCount(),
    parameterBytes: state.reduce((sum, { t }) => sum + 4 * t.size, 0),
    optimizerBytes,
    heapBytes: memoryInfo().used + grown,
    rssBytes: rss + grown + javaScript(options, batches),
  };
}

function javaScript(_options: TrainerOptions, _batches: readonly number[]): number {
  return 0;
}

/** Shape of a full batch. */
async function inputShape(loader: Loader): Promise<Shape> {
  const { x, y } = await loader.batchOf([0]);
  const { shape } = x;
  x.dispose();
  y.dispose();
  const axis = shape.length === 5 ? 1 : 0;
  return shape.map((n, i) => (i === axis ? Math.min(loader.batchSize, loader.dataset.length) : n));
}

/** Three steps, a test batch and a step, as `Trainer` makes them. @returns bytes of the optimiser's state and of the gradients */
function rehearse({ model, optimizer, loss, accumulate = 1 }: TrainerOptions, shape: Shape, testShape: Shape | undefined): number {
  // An optimiser that has its state already needs no more; a fresh one is made fresh again.
  const fresh = optimizer.steps === 0;
  let bytes = 0;
  const step = (n: number) =>
    withBatch(shape, (x, y) => {
      const l = classificationLoss(model.forward(x), y, loss);
      if (n % accumulate === 0) optimizer.zeroGrad();
      l.backward();
      gradNorm(optimizer.parameters());
      if (fresh) optimizer.step();
    });
  try {
    model.train();
    for (let n = 0; n < 3; n++) step(n);
    bytes = 4 * (optimizer.stateSize + optimizer.parameters().reduce((sum, { grad }) => sum + (grad?.size ?? 0), 0));
    if (testShape) {
      model.eval();
      withBatch(testShape, (x, y) =>
        noGrad(() => {
          const logits: Tensor = model.forward(x);
          if (logits.rank === 3) mean(logits, 0);
          classificationLoss(logits, y);
        }),
      );
      model.train();
      step(0);
    }
  } finally {
    reset(model);
    optimizer.zeroGrad();
    if (fresh) {
      optimizer.dispose();
      optimizer.steps = 0;
    }
  }
  return bytes;
}

function withBatch(shape: Shape, fn: (x: Tensor, y: Tensor) => void): void {
  scope(() => {
    const y = tensor(new Int32Array(shape[shape.length === 5 ? 1 : 0] as number));
    fn(zeros(shape), y);
  });
}
