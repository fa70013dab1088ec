/**
 * The training loop: the same in Node, a worker and a page. It yields an event after every step and every epoch; whoever
 * consumes them draws progress, writes logs, saves checkpoints, or stops by leaving the loop.
 *
 * A run is a pure function of its seed: everything that decides the next step (weights, optimiser moments, random streams,
 * place in the data) is in `checkpoint()`, and a trainer that restores it goes on bit for bit.
 */
import { type Batch, Loader } from "../data/loader.ts";
import { Module, StateBuffer, withForwardHook } from "../nn/module.ts";
import { EMA } from "../optim/ema.ts";
import { clipGradNorm, gradNorm, Optimizer } from "../optim/optimizer.ts";
import { lrAt, type Schedule } from "../optim/schedule.ts";
import { checkOptions, kindOf } from "../runtime/check.ts";
import { randomness } from "../runtime/engine.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { makesSpikes, Neuron } from "../spiking/neurons.ts";
import { mean } from "../tensor/ops/reduce.ts";
import { spikeStats } from "../tensor/ops/spikes.ts";
import { scope } from "../tensor/scope.ts";
import { noGrad } from "../tensor/tape.ts";
import { Tensor } from "../tensor/tensor.ts";
import { NOTHING, readCheckpoint, type Totals, writeCheckpoint } from "./checkpoint.ts";
import { type Evaluation, evaluate } from "./evaluate.ts";
import type { ClassificationLoss } from "./losses.ts";
import { classification, type Objective } from "./objective.ts";
import { pause } from "./pause.ts";

export interface TrainerOptions {
  model: Module;
  loader: Loader;
  /** Evaluated after every `evalEvery`-th epoch, and after the last. */
  testLoader?: Loader | undefined;
  /** Default 1. */
  evalEvery?: number | undefined;
  optimizer: Optimizer<{ lr: number; weightDecay: number }>;
  schedule: Schedule;
  epochs: number;
  loss?: ClassificationLoss | undefined;
  /** What is trained for, in place of `loss`: a teacher's answers beside the labels (`distillation`), or something without labels. */
  objective?: Objective | undefined;
  /** Clip the gradient's global norm to this. */
  clipNorm?: number | undefined;
  /** Batches whose gradients are averaged before each update; default 1. */
  accumulate?: number | undefined;
  /** The learning rate moves every step (default) or, as timm does, every epoch. */
  schedulePer?: "step" | "epoch" | undefined;
  /** A moving average of the model's weights, updated with every step of the optimiser; tests are then of the averaged weights. */
  ema?: EMA | undefined;
  /** Measure the mean firing rate every so many batches of an epoch, the first among them; default 10, 0 never. */
  rateEvery?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface StepEvent {
  type: "step";
  /** Epoch in progress, from 0. */
  epoch: number;
  /** Batches done in this epoch, and in an epoch. */
  batch: number;
  batches: number;
  /** Batches done in all. */
  step: number;
  loss: number;
  /** NaN where the objective gives no logits; of an epoch likewise. */
  accuracy: number;
  lr: number;
  /** Norm of the gradient before clipping, where the step updated weights. */
  gradNorm?: number;
  /** Mean over all spiking layers of (spikes / neuron-steps), where measured. */
  firingRate?: number;
  images: number;
  seconds: number;
  /** Of which the trainer waited for data. */
  waitSeconds: number;
}

export interface EpochEvent {
  type: "epoch";
  /** Epoch just ended, from 0. */
  epoch: number;
  epochs: number;
  step: number;
  /** Means over the epoch's steps. */
  loss: number;
  accuracy: number;
  firingRate: number;
  lr: number;
  /** Of all the steps, waiting for data included. */
  seconds: number;
  waitSeconds: number;
  test?: Evaluation;
}

export type TrainEvent = StepEvent | EpochEvent;

export class Trainer {
  readonly options: TrainerOptions;
  /** What a step minimises. */
  readonly objective: Objective;
  private step = 0;
  private testing = false;
  private totals: Totals = { ...NOTHING };

  constructor(options: TrainerOptions) {
    checkOptions("Trainer", options, [
      ...(["model", "loader", "testLoader", "evalEvery", "optimizer", "schedule", "epochs", "loss", "objective"] as const),
      ...(["clipNorm", "accumulate", "schedulePer", "ema", "rateEvery", "signal"] as const),
    ]);
    for (const [key, kind, required] of [
      ["model", Module, true],
      ["loader", Loader, true],
      ["testLoader", Loader, false],
      ["optimizer", Optimizer, true],
      ["ema", EMA, false],
    ] as const)
      if ((required || options[key] !== undefined) && !(options[key] instanceof kind))
        throw new SpikeloomError(`Trainer: ${key} must be of the class ${kind.name}, found ${kindOf(options[key])}`);
    if (typeof options.schedule !== "object" || options.schedule === null)
      throw new SpikeloomError(
        `Trainer: schedule must be an object such as { name: "cosine", lr, epochs }, found ${kindOf(options.schedule)}`,
      );
    if (options.loss !== undefined && options.objective !== undefined)
      throw new SpikeloomError("Trainer: an objective has a loss of its own: leave out loss, or objective");
    if (options.objective !== undefined && typeof options.objective?.loss !== "function")
      throw new SpikeloomError(
        `Trainer: objective must be { loss(model, x, y) }, such as train.distillation({ teacher }), found ${kindOf(options.objective)}`,
      );
    this.options = options;
    this.objective = options.objective ?? classification(options.loss);
    for (const key of ["epochs", "accumulate", "evalEvery"] as const) {
      const value = options[key] ?? 1;
      if (!Number.isInteger(value) || value < 1) throw new SpikeloomError(`Trainer: ${key} must be a positive integer, found ${value}`);
    }
    for (const [name, m] of options.model.namedModules())
      if (m instanceof Neuron && m.carry)
        throw new SpikeloomError(
          `Trainer: "${name}" carries its state from batch to batch, which no checkpoint holds and every test would disturb. Leave carry out, or write the loop yourself`,
        );
  }

  /** Batches done so far. */
  get steps(): number {
    return this.step;
  }

  /** Epochs whose event was given. */
  get epochsDone(): number {
    return this.options.loader.epoch - (this.testing ? 1 : 0);
  }

  /** Batches of the whole run. */
  get totalSteps(): number {
    return this.options.epochs * this.options.loader.batches;
  }

  /**
   * Train to the end. Leaving the loop early is allowed at any event: the trainer then stands right after it. An abort by the signal
   * leaves it between two batches, or before an epoch's test.
   * @throws SpikeloomError when the loss or a gradient is not finite, naming the first layer that is not; weights are still those before.
   */
  async *run(): AsyncGenerator<TrainEvent, void, undefined> {
    const { loader, epochs, model, signal, testLoader, evalEvery = 1, ema } = this.options;
    while (this.testing || loader.epoch < epochs) {
      if (!this.testing) {
        model.train();
        signal?.throwIfAborted();
        let waited = loader.waited;
        for await (const batch of loader) {
          yield this.trainBatch(loader.epoch, batch, loader.waited - waited);
          waited = loader.waited;
          await pause();
          // Before the loader hands out the next batch: it would be lost.
          signal?.throwIfAborted();
        }
        this.testing = true;
      }
      const { totals } = this;
      const epoch = loader.epoch - 1;
      const ended: EpochEvent = {
        type: "epoch",
        epoch,
        epochs,
        step: this.step,
        loss: totals.loss / totals.images,
        accuracy: this.objective.unlabelled ? Number.NaN : totals.correct / totals.images,
        firingRate: totals.rates ? totals.rate / totals.rates : Number.NaN,
        lr: this.learningRate(epoch, this.step - 1),
        seconds: totals.seconds,
        waitSeconds: totals.waited,
      };
      if (testLoader && ((epoch + 1) % evalEvery === 0 || epoch + 1 === epochs)) {
        // The plain cross-entropy, whatever is trained on: test losses are compared between runs.
        const test = () => evaluate(model, testLoader, { signal, objective: this.objective });
        ended.test = await (ema ? ema.swapped(test) : test());
      }
      this.totals = { ...NOTHING };
      this.testing = false;
      yield ended;
    }
  }

  private learningRate(epoch: number, step: number): number {
    const { schedule, schedulePer = "step", loader } = this.options;
    return lrAt(schedule, schedulePer === "epoch" ? epoch : step / loader.batches);
  }

  private trainBatch(epoch: number, { x: input, y: targets, labels }: Batch, waitSeconds: number): StepEvent {
    const { model, loader, optimizer, clipNorm, accumulate = 1, rateEvery = 10 } = this.options;
    const { objective } = this;
    const start = performance.now();
    optimizer.lr = this.learningRate(epoch, this.step);
    const measured = rateEvery > 0 && (loader.batch - 1) % rateEvery === 0;
    const rates = { spikes: 0, neurons: 0 };
    // A teacher's spikes are not the model's.
    const own = measured ? new Set([...model.namedModules()].map(([, m]) => m)) : undefined;
    let norm: number | undefined;
    const rewind = this.standing();
    const { value, correct } = restoring(rewind, () => {
      const outcome = () => objective.loss(model, input, targets);
      const { loss, logits } = own
        ? withForwardHook((m, [x], out) => {
            if (own.has(m)) countSpikes(m, x, out, rates);
          }, outcome)
        : outcome();
      const value = loss.itemSync();
      if (!Number.isFinite(value)) throw new SpikeloomError(this.blame(`the loss is ${value}`, input, targets, rewind));
      const correct = logits ? hits(logits, labels) : undefined;
      // Groups of batches begin anew with every epoch; the last may be smaller.
      const inGroup = (loader.batch - 1) % accumulate;
      if (inGroup === 0) optimizer.zeroGrad();
      loss.backward();
      if (inGroup === accumulate - 1 || loader.batch === loader.batches) {
        optimizer.gradScale = 1 / (inGroup + 1);
        // Spikes hide what is not finite from the loss: a neuron whose membrane is NaN is only silent.
        norm = clipNorm === undefined ? gradNorm(optimizer.parameters()) * optimizer.gradScale : clipGradNorm(optimizer, clipNorm);
        if (!Number.isFinite(norm)) throw new SpikeloomError(this.blame(`the gradient's norm is ${norm}`, input, targets, rewind));
        optimizer.step();
        this.options.ema?.update();
      }
      return { value, correct };
    });
    this.step++;
    const images = labels.length;
    const seconds = (performance.now() - start) / 1000 + waitSeconds;
    const { totals } = this;
    totals.loss += value * images;
    totals.correct += correct ?? 0;
    totals.images += images;
    totals.seconds += seconds;
    totals.waited += waitSeconds;
    const event: StepEvent = {
      type: "step",
      epoch,
      batch: loader.batch,
      batches: loader.batches,
      step: this.step,
      loss: value,
      accuracy: correct === undefined ? Number.NaN : correct / images,
      lr: optimizer.lr,
      images,
      seconds,
      waitSeconds,
    };
    if (norm !== undefined) event.gradNorm = norm;
    if (rates.neurons) {
      event.firingRate = rates.spikes / rates.neurons;
      totals.rate += event.firingRate;
      totals.rates++;
    }
    return event;
  }

  /** Puts back what a forward changes beside the weights: running statistics, and where the random streams stand. */
  private standing(): () => void {
    const buffers = [...this.options.model.namedState()].flatMap(([, t]) => (t instanceof StateBuffer ? [[t, t.dataSync()] as const] : []));
    const draws = randomness().state();
    return () => {
      for (const [t, values] of buffers) t.set(values);
      randomness().restore(draws);
    };
  }

  /** Say where something not finite came from: a weight, the first module whose output is not finite, or a gradient. */
  private blame(what: string, input: Tensor, targets: Tensor, rewind: () => void): string {
    const { model, loader } = this.options;
    const names = new Map([...model.namedModules()].map(([name, m]) => [m, name || "the model"]));
    const found = `${what} at step ${this.step + 1} (epoch ${loader.epoch + 1})`;
    const mend = "Lower the learning rate, clip gradients (train.clipNorm), or look at the data. The last checkpoint is untouched";
    for (const [name, p] of model.namedParameters()) if (!finite(p)) return `${found}: the weight "${name}" is not finite. ${mend}`;
    if (!finite(input)) return `${found}: the input itself is not finite. ${mend}`;
    let first: string | undefined;
    rewind();
    noGrad(() =>
      withForwardHook(
        (m, _inputs, output) => {
          if (first === undefined && names.has(m) && output instanceof Tensor && output.dtype === "f32" && !finite(output))
            first = names.get(m);
        },
        () => this.objective.loss(model, input, targets),
      ),
    );
    if (first !== undefined) return `${found}: the first layer whose output is not finite is "${first}". ${mend}`;
    for (const [name, p] of model.namedParameters())
      if (p.grad && !finite(p.grad)) return `${found}: the gradient of "${name}" is not finite. ${mend}`;
    return `${found}: the loss itself is not finite. ${mend}`;
  }

  /**
   * Everything a resumed run needs, as the bytes of one safetensors file. Not to be called inside a step.
   * @param notes go into the file's metadata, for whoever reads it
   */
  checkpoint(notes: Readonly<Record<string, string>> = {}): Uint8Array {
    return writeCheckpoint(this.options, { step: this.step, testing: this.testing, totals: this.totals }, notes);
  }

  /**
   * Go on from a checkpoint's bytes. Returns a warning when it was made on another device or instruction set (results then
   * agree within rounding only).
   * @throws FormatError for bytes that are no checkpoint; SpikeloomError when it is of another model, optimiser, seed or other data. Nothing
   * is changed then.
   */
  restore(bytes: Uint8Array, name = "checkpoint"): string | undefined {
    const { standing, warning } = readCheckpoint(this.options, bytes, name);
    this.step = standing.step;
    this.testing = standing.testing;
    this.totals = standing.totals;
    return warning;
  }
}

/** `scope(fn)`, and `rewind` when it fails: a step that could not be made leaves nothing behind. */
function restoring<R>(rewind: () => void, fn: () => R): R {
  try {
    return scope(fn);
  } catch (error) {
    rewind();
    throw error;
  }
}

/** How many of the items have their largest logit at their label. */
function hits(logits: Tensor, labels: Int32Array): number {
  const guesses = noGrad(() => (logits.rank === 3 ? mean(logits, 0) : logits).argmax(-1).dataSync());
  return labels.reduce((n, label, i) => n + (guesses[i] === label ? 1 : 0), 0);
}

function countSpikes(module: Module, input: unknown, output: unknown, into: { spikes: number; neurons: number }): void {
  if (!makesSpikes(module, input, output)) return;
  into.spikes += spikeStats(output).nonZero;
  into.neurons += output.size;
}

function finite(t: Tensor): boolean {
  return (t.dataSync() as Float32Array).every(Number.isFinite);
}
