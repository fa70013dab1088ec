/**
 * The training loop: the same in Node, a worker and a page. It yields an event after every step and every epoch; whoever
 * consumes them draws progress, writes logs, saves checkpoints, or stops by leaving the loop.
 *
 * A run is a pure function of its seed: everything that decides the next step (weights, optimiser moments, random streams,
 * place in the data) is in `checkpoint()`, and a trainer that restores it goes on bit for bit.
 */
import type { Loader, LoaderState } from "../data/loader.ts";
import { type NdArray, toFloat64 } from "../formats/array.ts";
import * as safetensors from "../formats/safetensors.ts";
import { type Module, withForwardHook } from "../nn/module.ts";
import { clipGradNorm, type Optimizer } from "../optim/optimizer.ts";
import { lrAt, type Schedule } from "../optim/schedule.ts";
import { engineInfo, randomness } from "../runtime/engine.ts";
import { FormatError, SpikeloomError } from "../runtime/error.ts";
import type { RngState } from "../runtime/random.ts";
import { scope } from "../tensor/scope.ts";
import { mean } from "../tensor/ops/reduce.ts";
import { spikeStats } from "../tensor/ops/spikes.ts";
import { noGrad } from "../tensor/tape.ts";
import { Tensor, tensor } from "../tensor/tensor.ts";
import { type Evaluation, evaluate } from "./evaluate.ts";
import { type ClassificationLoss, classificationLoss } from "./losses.ts";
import { pause } from "./pause.ts";

export interface TrainerOptions {
  model: Module;
  loader: Loader;
  /** Evaluated after every epoch. */
  testLoader?: Loader | undefined;
  optimizer: Optimizer<{ lr: number; weightDecay: number }>;
  schedule: Schedule;
  epochs: number;
  loss?: ClassificationLoss | undefined;
  /** Clip the gradient's global norm to this. */
  clipNorm?: number | undefined;
  /** Batches whose gradients are averaged before each update; default 1. */
  accumulate?: number | undefined;
  /** The learning rate moves every step (default) or, as timm does, every epoch. */
  schedulePer?: "step" | "epoch" | undefined;
  /** Measure the mean firing rate every so many steps; default 10, 0 never. */
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
  accuracy: number;
  lr: number;
  /** Norm of the gradient before clipping, where clipping is on. */
  gradNorm?: number;
  /** Mean over all spiking layers of (spikes / neuron-steps), where measured. */
  firingRate?: number;
  images: number;
  seconds: number;
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
  seconds: number;
  test?: Evaluation;
}

export type TrainEvent = StepEvent | EpochEvent;

interface Totals {
  loss: number;
  correct: number;
  images: number;
  rate: number;
  rates: number;
  seconds: number;
}

const NOTHING: Totals = { loss: 0, correct: 0, images: 0, rate: 0, rates: 0, seconds: 0 };

/** What a checkpoint holds beside tensors. */
interface CheckpointState {
  format: "spikeloom-checkpoint-1";
  step: number;
  updates: number;
  totals: Totals;
  loader: LoaderState;
  rng: RngState;
  isa: string;
  device: string;
}

export class Trainer {
  readonly options: TrainerOptions;
  private step = 0;
  private totals: Totals = { ...NOTHING };

  constructor(options: TrainerOptions) {
    this.options = options;
    for (const key of ["epochs", "accumulate"] as const) {
      const value = options[key] ?? 1;
      if (!Number.isInteger(value) || value < 1) throw new SpikeloomError(`Trainer: ${key} must be a positive integer, found ${value}`);
    }
  }

  /** Batches done so far. */
  get steps(): number {
    return this.step;
  }

  /** Batches of the whole run. */
  get totalSteps(): number {
    return this.options.epochs * this.options.loader.batches;
  }

  /**
   * Train to the end. Leaving the loop early is allowed at any event: the trainer then stands right after it.
   * @throws SpikeloomError when the loss is not finite, naming the first layer that is not; weights are still those before.
   */
  async *run(): AsyncGenerator<TrainEvent, void, undefined> {
    const { loader, epochs, model, signal, testLoader, loss } = this.options;
    while (loader.epoch < epochs) {
      const epoch = loader.epoch;
      model.train();
      for (const batch of loader) {
        signal?.throwIfAborted();
        const event = this.trainBatch(epoch, batch);
        yield event;
        await pause();
      }
      const { totals } = this;
      const ended: EpochEvent = {
        type: "epoch",
        epoch,
        epochs,
        step: this.step,
        loss: totals.loss / totals.images,
        accuracy: totals.correct / totals.images,
        firingRate: totals.rates ? totals.rate / totals.rates : Number.NaN,
        lr: this.options.optimizer.lr,
        seconds: totals.seconds,
      };
      this.totals = { ...NOTHING };
      if (testLoader) ended.test = await evaluate(model, testLoader, { loss, signal });
      yield ended;
    }
  }

  private trainBatch(epoch: number, { x, xShape, y }: { x: Float32Array; xShape: readonly number[]; y: Int32Array }): StepEvent {
    const { model, loader, optimizer, schedule, loss: lossOptions, clipNorm, accumulate = 1, schedulePer = "step", rateEvery = 10 } = this.options;
    const start = performance.now();
    const time = schedulePer === "epoch" ? epoch : this.step / loader.batches;
    optimizer.lr = lrAt(schedule, time);
    const measured = rateEvery > 0 && this.step % rateEvery === 0;
    const rates = { spikes: 0, neurons: 0 };
    let gradNorm: number | undefined;
    const { value, correct } = scope(() => {
      const input = tensor(x, xShape);
      const targets = tensor(y);
      const logits: Tensor = measured ? withForwardHook((m, _i, out) => countSpikes(m, out, rates), () => model.forward(input)) : model.forward(input);
      const loss = classificationLoss(logits, targets, lossOptions);
      const value = loss.itemSync();
      if (!Number.isFinite(value)) throw new SpikeloomError(this.blame(value, input));
      const guesses = noGrad(() => (logits.rank === 3 ? mean(logits, 0) : logits).argmax(-1).dataSync());
      let correct = 0;
      for (let i = 0; i < y.length; i++) if (guesses[i] === y[i]) correct++;
      // Groups of batches begin anew with every epoch; the last may be smaller.
      const inGroup = (loader.batch - 1) % accumulate;
      if (inGroup === 0) optimizer.zeroGrad();
      loss.backward();
      if (inGroup === accumulate - 1 || loader.batch === loader.batches) {
        optimizer.gradScale = 1 / (inGroup + 1);
        if (clipNorm !== undefined) gradNorm = clipGradNorm(optimizer, clipNorm);
        optimizer.step();
      }
      return { value, correct };
    });
    this.step++;
    const images = y.length;
    const seconds = (performance.now() - start) / 1000;
    const { totals } = this;
    totals.loss += value * images;
    totals.correct += correct;
    totals.images += images;
    totals.seconds += seconds;
    const event: StepEvent = { type: "step", epoch, batch: loader.batch, batches: loader.batches, step: this.step, loss: value, accuracy: correct / images, lr: optimizer.lr, images, seconds };
    if (gradNorm !== undefined) event.gradNorm = gradNorm;
    if (rates.neurons) {
      event.firingRate = rates.spikes / rates.neurons;
      totals.rate += event.firingRate;
      totals.rates++;
    }
    return event;
  }

  /** Say where a loss that is not finite came from: a weight, or the first module whose output is not finite. */
  private blame(loss: number, input: Tensor): string {
    const { model } = this.options;
    const names = new Map([...model.namedModules()].map(([name, m]) => [m, name || "the model"]));
    const where = `step ${this.step + 1} (epoch ${this.options.loader.epoch + 1})`;
    const mend = "Lower the learning rate, clip gradients (train.clipNorm), or look at the data. The last checkpoint is untouched";
    for (const [name, p] of model.namedParameters()) if (!finite(p)) return `the loss is ${loss} at ${where}: the weight "${name}" is not finite. ${mend}`;
    if (!finite(input)) return `the loss is ${loss} at ${where}: the input itself is not finite. ${mend}`;
    let first: string | undefined;
    noGrad(() =>
      withForwardHook(
        (m, _inputs, output) => {
          if (first === undefined && output instanceof Tensor && output.dtype === "f32" && !finite(output)) first = names.get(m);
        },
        () => model.forward(input),
      ),
    );
    return `the loss is ${loss} at ${where}: the first layer whose output is not finite is "${first ?? "the loss itself"}". ${mend}`;
  }

  /** Everything a resumed run needs, as the bytes of one safetensors file. Not to be called inside a step. */
  checkpoint(): Uint8Array {
    const { model, optimizer, loader } = this.options;
    const tensors = new Map<string, NdArray>();
    for (const [key, value] of model.stateDict()) tensors.set(`model.${key}`, value);
    for (const [key, { shape, data }] of optimizer.stateTensors()) tensors.set(`optimizer.${key}`, { dtype: data instanceof Float64Array ? "f64" : "f32", shape, data });
    for (const p of optimizer.parameters()) if (p.grad && (this.options.accumulate ?? 1) > 1) {
      const data = p.grad.dataSync() as Float32Array;
      tensors.set(`gradient.${optimizer.parameters().indexOf(p)}`, { dtype: "f32", shape: p.shape, data });
    }
    const { isa, device } = engineInfo();
    const state: CheckpointState = {
      format: "spikeloom-checkpoint-1",
      step: this.step,
      updates: optimizer.steps,
      totals: this.totals,
      loader: loader.state(),
      rng: randomness().state(),
      isa,
      device,
    };
    for (const [name, { data }] of tensors)
      if (data instanceof Float32Array && !data.every(Number.isFinite)) throw new SpikeloomError(`checkpoint: "${name}" is not finite; it is not saved, so that the last good checkpoint stays`);
    return safetensors.encode(tensors, { spikeloom: JSON.stringify(state) });
  }

  /**
   * Go on from a checkpoint's bytes. Returns a warning when it was made on another device or instruction set (results then
   * agree within rounding only).
   * @throws FormatError for bytes that are no checkpoint; SpikeloomError when it is of another model or other data.
   */
  restore(bytes: Uint8Array, name = "checkpoint"): string | undefined {
    const { tensors, metadata } = safetensors.decode(bytes, name);
    let state: CheckpointState;
    try {
      state = JSON.parse(metadata.spikeloom ?? "") as CheckpointState;
    } catch {
      throw new FormatError(`${name}: no training checkpoint (its metadata has no "spikeloom" entry); weights alone can be evaluated but not resumed`);
    }
    if (state.format !== "spikeloom-checkpoint-1") throw new FormatError(`${name}: unknown checkpoint format "${state.format}", expected "spikeloom-checkpoint-1"`);
    const part = (prefix: string) => new Map([...tensors].filter(([key]) => key.startsWith(prefix)).map(([key, value]) => [key.slice(prefix.length), value] as const));
    const { model, optimizer, loader } = this.options;
    model.loadStateDict(part("model.") as Map<string, { shape: readonly number[]; data: ArrayLike<number> }>);
    optimizer.loadState(new Map([...part("optimizer.")].map(([key, a]) => [key, { shape: a.shape, data: toFloat64(a) }])), state.updates);
    const parameters = optimizer.parameters();
    optimizer.zeroGrad();
    for (const [index, a] of part("gradient.")) {
      const p = parameters[Number(index)];
      if (p) p.grad = keepGradient(a);
    }
    loader.restore(state.loader);
    randomness().restore(state.rng);
    this.step = state.step;
    this.totals = { ...state.totals };
    const here = engineInfo();
    if (here.isa !== state.isa) return `the run was made on ${state.device} (${state.isa}), this is ${here.device} (${here.isa}): it goes on, but not bit for bit`;
    return undefined;
  }
}

function keepGradient(a: NdArray): Tensor {
  const t = tensor(toFloat64(a), a.shape, "f32");
  t.kept = true;
  return t;
}

/** Neurons are modules without parts of their own; a container that hands their spikes on is not counted again. */
function countSpikes(module: Module, output: unknown, into: { spikes: number; neurons: number }): void {
  if (!(output instanceof Tensor) || output.dtype !== "spikes" || !module.children().next().done) return;
  into.spikes += spikeStats(output).nonZero;
  into.neurons += output.size;
}

function finite(t: Tensor): boolean {
  return (t.dataSync() as Float32Array).every(Number.isFinite);
}
