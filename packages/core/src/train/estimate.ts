/**
 * What a training will take in memory, before it starts. The device's part is exact: a few steps and a test batch of the true sizes
 * run on a device without memory (runtime/phantom.ts), which leaves the trainer as it was. The rest of the process is what it has
 * already, and allowances for JavaScript's own memory that were measured.
 */
import type { Loader } from "../data/loader.ts";
import { type Module, withForwardHook } from "../nn/module.ts";
import { gradNorm } from "../optim/optimizer.ts";
import { device, memoryInfo, onDevice, randomness } from "../runtime/engine.ts";
import { Phantom } from "../runtime/phantom.ts";
import { reset } from "../spiking/neurons.ts";
import { mean } from "../tensor/ops/reduce.ts";
import { scope } from "../tensor/scope.ts";
import { type Shape, sizeOf } from "../tensor/shape.ts";
import { noGrad } from "../tensor/tape.ts";
import { Tensor, tensor, zeros } from "../tensor/tensor.ts";
import { classificationLoss } from "./losses.ts";
import type { Trainer } from "./trainer.ts";

// What JavaScript adds while the run lasts, as measured. Its heap grows as code is compiled; and arrays that are done with (a checkpoint's,
// a batch's, a layer's values that were read) stay until the collector runs, which is after some tens of MiB of them, or a few large ones.
const V8_BYTES = 45 << 20;
const GARBAGE_BYTES = 32 << 20;
// WebAssembly is compiled a second time, better, as it runs, and every worker has a small JavaScript heap of its own.
const WASM_BYTES = 16 << 20;
const WORKER_BYTES = 12 << 20;

/** The heap's free blocks settle within so many steps. */
const STEPS = 12;

export interface MemoryEstimate {
  /** Trainable numbers. */
  parameters: number;
  /** Bytes of parameters and buffers. */
  parameterBytes: number;
  /** Bytes of the optimiser's state and of the gradients. */
  optimizerBytes: number;
  /** Device memory that the run touches, what is in use already included; and what training alone would, without tests. */
  heapBytes: number;
  trainHeapBytes: number;
  /** Most memory that the process has at any time. */
  rssBytes: number;
}

/**
 * Estimate the memory of a run; the trainer, its model and its random streams are as before.
 * @param rss bytes of memory that the process has now, with data, model and trainer made
 * @param measured images that are measured at a time when the training is done
 */
export async function estimateMemory(trainer: Trainer, rss: number, measured = 16): Promise<MemoryEstimate> {
  const { model, loader, testLoader, optimizer, ema } = trainer.options;
  const draws = randomness().state();
  const shape = await inputShape(loader);
  const testShape = testLoader && (await inputShape(testLoader));
  const phantom = new Phantom(device());
  const state = [...model.namedState()].map(([, t]) => ({ t, version: t.version, grad: t.grad }));
  const { gradScale } = optimizer;
  const restoreModes = model.modes();
  for (const { t } of state) t.grad = null;
  let made: Rehearsal;
  try {
    made = onDevice(phantom, () => rehearse(trainer, phantom, shape, testShape));
  } finally {
    restoreModes();
    randomness().restore(draws);
    optimizer.gradScale = gradScale;
    for (const { t, version, grad } of state) {
      t.version = version;
      t.grad = grad;
    }
  }
  const grown = phantom.memory().peak;
  const parameterBytes = state.reduce((sum, { t }) => sum + 4 * t.size, 0);
  const checkpoint = parameterBytes * (ema ? 2 : 1) + made.optimizerBytes;
  const garbage = Math.max(
    GARBAGE_BYTES + 2 * Math.min(measured, testShape ? (testShape[batchAxis(testShape)] as number) : measured) * made.layerBytes,
    2 * checkpoint,
    3 * 4 * Math.max(sizeOf(shape), sizeOf(testShape ?? [0])),
  );
  const compiled = phantom.name === "wasm" ? WASM_BYTES + WORKER_BYTES * (phantom.threads - 1) : 0;
  return {
    parameters: model.parameterCount(),
    parameterBytes,
    optimizerBytes: made.optimizerBytes,
    heapBytes: memoryInfo().used + grown,
    trainHeapBytes: memoryInfo().used + made.trainBytes,
    rssBytes: rss + grown + V8_BYTES + compiled + garbage,
  };
}

export interface FittedMemory extends MemoryEstimate {
  /** Paths of the parts that backward runs again. */
  recomputed: string[];
  /** `rssBytes` with nothing run again but what the program chose. */
  plainBytes: number;
}

/** Most that one WebAssembly memory can be. */
const WASM_LIMIT = 2 ** 32;

/** Parts that `fitMemory` chose, and may choose otherwise. */
const fitted = new WeakSet<Module>();

/**
 * Make a run fit a budget: as few of the model's `recomputable()` parts as will do, from the first on, are set to `recompute`, which costs their
 * forward once more and changes no result. Where all of them do not suffice, the choice that takes least is left, and its estimate given.
 * @param budget bytes for the whole process
 * @param rss bytes of memory that the process has now, with data, model and trainer made
 * @param measured as for `estimateMemory`
 */
export async function fitMemory(trainer: Trainer, budget: number, rss: number, measured = 16): Promise<FittedMemory> {
  const { model } = trainer.options;
  // What the program itself wants run again stays so.
  const parts = model.recomputable().filter((part) => !part.recompute || fitted.has(part));
  const choose = (count: number) => {
    for (const [i, part] of parts.entries()) {
      part.recompute = i < count;
      if (part.recompute) fitted.add(part);
      else fitted.delete(part);
    }
  };
  let best: { count: number; estimate: MemoryEstimate } | undefined;
  let plainBytes = 0;
  for (let count = 0; count <= parts.length; count++) {
    choose(count);
    const estimate = await estimateMemory(trainer, rss, measured);
    if (count === 0) plainBytes = estimate.rssBytes;
    if (!best || estimate.rssBytes < best.estimate.rssBytes) best = { count, estimate };
    const fits = estimate.rssBytes <= budget && !(device().name === "wasm" && estimate.heapBytes > WASM_LIMIT);
    if (fits) break;
  }
  const { count, estimate } = best as { count: number; estimate: MemoryEstimate };
  choose(count);
  const names = new Map([...model.namedModules()].map(([name, m]) => [m, name]));
  return { ...estimate, plainBytes, recomputed: parts.slice(0, count).map((part) => names.get(part) as string) };
}

/** Shape of a full batch. */
async function inputShape(loader: Loader): Promise<Shape> {
  const { x, y } = await loader.batchOf([0]);
  const { shape } = x;
  x.dispose();
  y.dispose();
  const axis = batchAxis(shape);
  return shape.map((n, i) => (i === axis ? Math.min(loader.batchSize, loader.dataset.length) : n));
}

function batchAxis(shape: Shape): number {
  return shape.length === 5 ? 1 : 0;
}

interface Rehearsal {
  /** Device memory that training touches. */
  trainBytes: number;
  /** Bytes of the optimiser's state and of the gradients. */
  optimizerBytes: number;
  /** Bytes of a layer's values as floats for one image, of the layer that has most. */
  layerBytes: number;
}

/** Some steps, a test batch and a step, as `Trainer` makes them. */
function rehearse(
  { objective, options: { model, optimizer, accumulate = 1 } }: Trainer,
  phantom: Phantom,
  shape: Shape,
  testShape: Shape | undefined,
): Rehearsal {
  // An optimiser that has its state already needs no more; a fresh one is made fresh again.
  const fresh = optimizer.steps === 0;
  let optimizerBytes = 0;
  let trainBytes = 0;
  let layer = 0;
  const widest = (_m: unknown, _inputs: unknown, output: unknown) => {
    if (output instanceof Tensor) layer = Math.max(layer, output.size);
  };
  const step = (n: number) =>
    withBatch(shape, (x, y) => {
      const { loss: l } = objective.loss(model, x, y);
      if (n % accumulate === 0) optimizer.zeroGrad();
      l.backward();
      gradNorm(optimizer.parameters());
      if (fresh) optimizer.step();
    });
  try {
    model.train();
    withForwardHook(widest, () => step(0));
    for (let n = 1; n < STEPS; n++) step(n);
    optimizerBytes = 4 * (optimizer.stateSize + optimizer.parameters().reduce((sum, { grad }) => sum + (grad?.size ?? 0), 0));
    trainBytes = phantom.memory().peak;
    if (testShape) {
      reset(model);
      model.eval();
      withBatch(testShape, (x, y) =>
        noGrad(() => {
          if (objective.unlabelled) return void objective.loss(model, x, y);
          const logits: Tensor = model.forward(x);
          classificationLoss(logits, y);
          if (logits.rank === 3) mean(logits, 0);
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
  return { trainBytes, optimizerBytes, layerBytes: (4 * layer) / (shape[batchAxis(shape)] as number) };
}

function withBatch(shape: Shape, fn: (x: Tensor, y: Tensor) => void): void {
  scope(() => {
    const y = tensor(new Int32Array(shape[batchAxis(shape)] as number));
    fn(zeros(shape), y);
  });
}
