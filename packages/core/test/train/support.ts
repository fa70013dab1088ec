// Small data, small networks and trainers for the tests of training.
import { ArrayDataset, type BatchTransform } from "../../src/data/dataset.ts";
import { Loader } from "../../src/data/loader.ts";
import { randomShift } from "../../src/data/transforms/crop.ts";
import { normalize } from "../../src/data/transforms/normalize.ts";
import { createModel } from "../../src/models/registry.ts";
import * as nn from "../../src/nn/index.ts";
import { AdamW, EMA, LAMB, type Optimizer, SGD, weightDecayGroups } from "../../src/optim/index.ts";
import type { DeviceName } from "../../src/runtime/device.ts";
import { init } from "../../src/runtime/engine.ts";
import { Rng } from "../../src/runtime/random.ts";
import * as snn from "../../src/spiking/index.ts";
import { mean } from "../../src/tensor/ops/reduce.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { Trainer, type TrainerOptions } from "../../src/train/trainer.ts";
import { ADDON } from "../gradcheck.ts";
import "../../src/tensor/methods.ts";

export const CLASSES = 4;
/** What every loader of these images applies. */
export const STANDARD = [normalize({ mean: [0.3], std: [0.25] })];

/** 8 x 8 images of noise, each class with one bright quarter. */
export function images(count: number, seed = 1): ArrayDataset {
  const stream = new Rng(seed).stream("images");
  const labels = Int32Array.from({ length: count }, (_, i) => i % CLASSES);
  const pixels = Uint8Array.from({ length: count * 64 }, (_, i) => {
    const [row, column] = [Math.floor((i % 64) / 8), i % 8];
    const quarter = (row < 4 ? 0 : 2) + (column < 4 ? 0 : 1);
    return stream.uniformInt(90) + (quarter === labels[Math.floor(i / 64)] ? 110 : 0);
  });
  return new ArrayDataset({ images: pixels, shape: [count, 8, 8, 1], labels, classes: CLASSES });
}

/** Two steps of Conv, BN, LIF, pool, dropout, Linear. */
export class Net extends nn.Module {
  conv = new nn.Conv2d(1, 6, 3, { padding: 1, bias: false });
  bn = new nn.BatchNorm2d(6);
  lif = new snn.LIF({ tau: 2, surrogate: snn.surrogate.atan() });
  pool = new nn.MaxPool2d(2);
  drop = new nn.Dropout(0.2);
  fc = new nn.Linear(6 * 4 * 4, CLASSES);

  forward(x: Tensor): Tensor {
    const h = this.pool.forward(this.lif.forward(this.bn.forward(this.conv.forward(snn.repeat(x, 2)))));
    return mean(this.fc.forward(this.drop.forward(nn.flatten(h, 2))), 0);
  }
}

/** The smallest SDT V1 there is. */
export const tinySdt = (overrides: Record<string, unknown> = {}): nn.Module =>
  createModel("sdt-v1/cifar10-2-256", {
    T: 2,
    inChannels: 1,
    numClasses: CLASSES,
    embedDims: 16,
    depths: 1,
    numHeads: 2,
    mlpRatio: 2,
    pooling: "1000",
    imageSize: [8, 8],
    ...overrides,
  });

export interface Setup extends Partial<Omit<TrainerOptions, "model" | "loader" | "optimizer" | "ema">> {
  device?: DeviceName;
  threads?: number;
  seed?: number;
  model?: () => nn.Module;
  optimizer?: (model: nn.Module) => Optimizer<{ lr: number; weightDecay: number }>;
  samples?: number;
  batchSize?: number;
  shift?: number;
  batchTransforms?: readonly BatchTransform[];
  ema?: (model: nn.Module) => EMA;
}

export const adamw = (model: nn.Module) => new AdamW(weightDecayGroups(model, 0.05), { lr: 0.01 });
export const sgd = (model: nn.Module) => new SGD(model.parameters(), { lr: 0.05, momentum: 0.9, nesterov: true, weightDecay: 1e-3 });
export const lamb = (model: nn.Module) => new LAMB(weightDecayGroups(model, 0.05), { lr: 0.01 });
export const averaged = (model: nn.Module) => new EMA(model, { decay: 0.9, warmup: true });

/** Start the engine anew and put a trainer at the beginning of its run. */
export async function trainer(setup: Setup = {}): Promise<Trainer> {
  const {
    device = "wasm",
    threads = 1,
    seed = 3,
    model: make = () => new Net(),
    optimizer = adamw,
    samples = 64,
    batchSize = 16,
    shift = 0,
    batchTransforms = [],
    ema,
    ...rest
  } = setup;
  await init({ device, threads, seed, native: ADDON });
  const model = make();
  const loader = new Loader(images(samples), {
    batchSize,
    shuffle: true,
    transforms: [...(shift ? [randomShift(shift)] : []), ...STANDARD],
    batchTransforms,
  });
  const epochs = rest.epochs ?? 2;
  return new Trainer({
    model,
    loader,
    optimizer: optimizer(model),
    epochs,
    schedule: { name: "cosine", lr: 0.01, epochs, warmupEpochs: 0.5, minLr: 1e-4 },
    ema: ema?.(model),
    ...rest,
  });
}

/** Run to the end, or leave the loop after `steps` batches. */
export async function advance(t: Trainer, steps = Number.POSITIVE_INFINITY): Promise<void> {
  if (steps <= t.steps) return;
  for await (const event of t.run()) if (event.type === "step" && t.steps >= steps) break;
}

/** Every value that a model saves, bit for bit. */
export function weights(model: nn.Module): Record<string, number[]> {
  return Object.fromEntries([...model.stateDict()].map(([key, { data }]) => [key, Array.from(data as Float32Array, Number)]));
}
