/**
 * Spikeloom's side of the benchmark: the same work as bench/peers/peer_pytorch.py, on the same numbers (channels last), through the
 * ops, layers and tape that a model uses. The README of this folder says what exactly each one times.
 */
import { backward, nn, noGrad, optim, scope, snn, Tensor } from "spikeloom";
import type { ConvSpec, InferSpec, LayerSpec, LifSpec, LinearSpec, TrainSpec } from "./cases.ts";
import type { Inputs } from "./inputs.ts";
import { type Check, checkOf } from "./report.ts";
import {
  inside,
  neuronBackward,
  neuronForward,
  normBackward,
  type Product,
  productForward,
  productGradInput,
  productGradWeight,
  type Work,
} from "./work.ts";

/** One line of the table. */
export interface Workload {
  name: string;
  /** The timed work, once. Frees what it makes. */
  run(): void;
  /** Figures that go with the time. */
  extra: Record<string, number>;
  /** What came out, to hold against the other side. */
  check: Check;
  /** What the work cannot do without. */
  work: readonly Work[];
  /** Images of one run of a model. */
  batch?: number;
}

/** A leaf of the graph, whose gradient the next backward makes. */
function leaf(t: Tensor): Tensor {
  t.requiresGrad = true;
  return t;
}

function dropGradient(at: Tensor): void {
  at.grad?.dispose();
  at.grad = null;
}

/** Backward through a graph that stays, and the leaf's gradient thrown away. */
function backwardOnly(y: Tensor, gradient: Tensor, at: Tensor): void {
  backward(y, { gradient, retainGraph: true });
  dropGradient(at);
}

/** Values of a tensor to compare, in PyTorch's axis order: its axis i is axis `axes[i]` here. */
function checkTensor(t: Tensor, axes?: readonly number[]): Check {
  return checkOf(t.dataSync() as Float32Array, t.shape, axes);
}

function checkGradient(y: Tensor, gradient: Tensor, at: Tensor, axes?: readonly number[]): Check {
  backward(y, { gradient, retainGraph: true });
  const check = checkTensor(at.grad as Tensor, axes);
  dropGradient(at);
  return check;
}

/** Forward and both gradients of a product with spikes x; a gradient is the backward of a graph that stays, with one input that wants it. */
function* productWorkloads(
  name: string,
  operands: { x: Tensor; weight: Tensor; gy: Tensor },
  apply: (x: Tensor, weight: Tensor) => Tensor,
  axes: { images?: readonly number[]; weight: readonly number[] },
  product: Omit<Product, "density">,
  masked = false,
): Generator<Workload> {
  const { x, weight, gy } = operands;
  const { sum, size } = snn.spikeStats(x);
  const density = sum / size;
  const extra = { density, gflop: (2 * product.pairs) / 1e9 };
  // With a channel a vector lane, every window position is one masked addition, whatever the spikes.
  const events: Product = { ...product, density };
  const passes = (pass: (p: Product) => Work) => [masked ? { ...pass(events), adds: product.pairs } : pass(events)];
  const forward = () => noGrad(() => scope(() => void apply(x, weight)));
  const forwardCheck = scope(() => noGrad(() => checkTensor(apply(x, weight), axes.images)));
  yield { name: `${name}-forward`, run: forward, extra, check: forwardCheck, work: passes(productForward) };

  const forInput = leaf(x.alias());
  const y = apply(forInput, weight);
  yield {
    name: `${name}-grad-input`,
    run: () => backwardOnly(y, gy, forInput),
    extra,
    check: checkGradient(y, gy, forInput, axes.images),
    work: [productGradInput(events)],
  };
  y.dispose();
  const forWeight = leaf(weight.alias());
  const z = apply(x, forWeight);
  yield {
    name: `${name}-grad-weight`,
    run: () => backwardOnly(z, gy, forWeight),
    extra,
    check: checkGradient(z, gy, forWeight, axes.weight),
    work: passes(productGradWeight),
  };
  for (const t of [z, forInput, forWeight, x, weight, gy]) t.dispose();
}

const LAST = [0, 2, 3, 1];
const FIRST = [0, 3, 1, 2];

function* convolution(inputs: Inputs): Generator<Workload> {
  const { name, images, ci, co, size, kernel, groups } = inputs.spec as ConvSpec;
  const operands = { x: inputs.spikes("x", LAST), weight: inputs.take("weight", [2, 3, 1, 0]), gy: inputs.take("gy", LAST) };
  const pixels = images * size * size;
  const weights = (kernel * kernel * ci * co) / groups;
  const product = { inputs: pixels * ci, outputs: pixels * co, weights, pairs: pixels * weights * inside(size, kernel) };
  const apply = (x: Tensor, weight: Tensor) => nn.conv2d(x, weight, null, { padding: kernel >> 1, groups });
  yield* productWorkloads(name, operands, apply, { images: FIRST, weight: [3, 2, 0, 1] }, product, groups > 1);
}

function* linear(inputs: Inputs): Generator<Workload> {
  const { name, tokens, ci, co } = inputs.spec as LinearSpec;
  const layer = new nn.Linear(ci, co, { bias: false });
  layer.weight.set(inputs.take("weight", [1, 0]).dataSync() as Float32Array);
  layer.weight.requiresGrad = false;
  const operands = { x: inputs.spikes("x"), weight: layer.weight.alias(), gy: inputs.take("gy") };
  const product = { inputs: tokens * ci, outputs: tokens * co, weights: ci * co, pairs: tokens * ci * co };
  const apply = (x: Tensor, weight: Tensor) => x.matmul(weight);
  yield* productWorkloads(name, operands, apply, { weight: [1, 0] }, product);
}

const newNeuron = () => new snn.LIF({ tau: 2, detachReset: true, surrogate: snn.surrogate.sigmoid({ alpha: 4 }) });

/** [T, B, C, H, W] and [T, B, H, W, C]. */
const STEPS_LAST = [0, 1, 3, 4, 2];
const STEPS_FIRST = [0, 1, 4, 2, 3];

function* lif(inputs: Inputs): Generator<Workload> {
  const { name, steps } = inputs.spec as LifSpec;
  const neuron = newNeuron();
  const x = inputs.take("x", STEPS_LAST);
  const gy = inputs.take("gy", STEPS_LAST);
  const extra = { neurons: x.size / steps };
  const spikes = scope(() => noGrad(() => checkTensor(neuron.forward(x), STEPS_FIRST)));
  const forward = () => noGrad(() => scope(() => void neuron.forward(x)));
  yield { name: `${name}-forward`, run: forward, extra, check: spikes, work: [neuronForward(x.size)] };
  const input = leaf(x.alias());
  const both = () =>
    scope(() => {
      backward(neuron.forward(input), { gradient: gy });
      dropGradient(input);
    });
  const check = scope(() => {
    const y = neuron.forward(input);
    return checkGradient(y, gy, input, STEPS_FIRST);
  });
  const work = [neuronForward(x.size), neuronBackward(x.size)];
  yield { name: `${name}-forward-backward`, run: both, extra, check, work };
}

/** Linear and LIF over many steps: the gradients of weight and bias, from a given one. */
function* lifLayer(inputs: Inputs): Generator<Workload> {
  const { name, features, density } = inputs.spec as LayerSpec;
  const layer = new nn.Linear(features, features);
  layer.weight.set(inputs.take("weight", [1, 0]).dataSync() as Float32Array);
  (layer.bias as nn.Parameter).set(inputs.take("bias").dataSync() as Float32Array);
  const neuron = newNeuron();
  const x = density === null ? inputs.take("x") : inputs.spikes("x");
  const gy = inputs.take("gy");
  const forward = () => neuron.forward(layer.forward(x));
  const run = () =>
    scope(() => {
      backward(forward(), { gradient: gy });
      layer.zeroGrad();
    });
  const rate = scope(() => snn.spikeStats(noGrad(forward)));
  const check = scope(() => {
    backward(forward(), { gradient: gy });
    const found = checkTensor(layer.weight.grad as Tensor, [1, 0]);
    layer.zeroGrad();
    return found;
  });
  const rows = x.size / features;
  const product = { inputs: x.size, outputs: x.size, weights: features ** 2, pairs: rows * features ** 2 };
  const measured: Product = { ...product, density: density === null ? null : scope(() => x.mean().itemSync()) };
  const work = [productForward(measured), neuronForward(x.size), neuronBackward(x.size), productGradWeight(measured)];
  yield { name, run, extra: { firing_rate: rate.sum / rate.size }, check, work };
}

/** Runs `step` and counts: the mean firing rate over every neuron (of integers, their mean), and the work of every weight layer, neuron and norm. */
export function observe(step: () => void, training: boolean): { rate: number; work: Work[] } {
  let [fired, total] = [0, 0];
  const work: Work[] = [];
  nn.withForwardHook((module, [x], output) => {
    if (!(output instanceof Tensor) || !(x instanceof Tensor)) return;
    if (module instanceof nn.Conv2d || module instanceof nn.Linear) {
      const weights = module.weight.size;
      const outputs = output.size;
      const channels = output.shape[output.rank - 1] as number;
      const density = x.dtype === "spikes" ? snn.spikeStats(x).sum / x.size : null;
      const border =
        module instanceof nn.Conv2d && module.stride[0] === 1 ? inside(x.shape[x.rank - 2] as number, module.kernelSize[0]) : 1;
      const product: Product = { inputs: x.size, outputs, weights, pairs: (outputs / channels) * weights * border, density };
      work.push(productForward(product));
      if (training) {
        work.push(productGradWeight(product));
        if (x.requiresGrad || x.node) work.push(productGradInput(product));
      }
    } else if (module instanceof nn.BatchNorm2d) {
      if (training) work.push(normBackward(output.size));
    } else if (module instanceof snn.Neuron) {
      const { sum, size } = snn.spikeStats(output);
      fired += sum;
      total += size;
      work.push(neuronForward(size));
      if (training) work.push(neuronBackward(size));
    }
  }, step);
  return { rate: fired / total, work };
}

const parameters = (model: nn.Module) => model.parameters().reduce((n, p) => n + p.size, 0);

function* train(inputs: Inputs): Generator<Workload> {
  const { name, batch } = inputs.spec as TrainSpec;
  const model = inputs.model();
  const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-3 });
  const x = inputs.take("x", LAST);
  const y = inputs.take("labels");
  inputs.close();
  const losses: number[] = [];
  const step = () =>
    scope(() => {
      optimizer.zeroGrad();
      const loss = nn.crossEntropy(model.forward(x), y);
      loss.backward();
      optimizer.step();
      return loss;
    });
  const heard = () => {
    const loss = step();
    losses.push(loss.itemSync());
    loss.dispose();
  };
  const { rate, work } = observe(heard, true);
  heard();
  heard();
  const [first, second, third] = losses as [number, number, number];
  const extra = { batch, params: parameters(model), firing_rate: rate, loss_1: first, loss_2: second, loss_3: third };
  // The first alone: a step later the two sides differ by what spikes on the edge of the threshold and Adam's signs make of rounding.
  const check = { rms: first, samples: [first] };
  yield { name, run: () => step().dispose(), extra, check, work, batch };
}

function* infer(inputs: Inputs): Generator<Workload> {
  const { name, batch, mode } = inputs.spec as InferSpec;
  const model = inputs.model().eval();
  if (mode) snn.setMode(model, mode);
  const x = inputs.take("x", LAST);
  inputs.close();
  const run = () => noGrad(() => scope(() => void model.forward(x)));
  const { rate, work } = observe(run, false);
  const check = scope(() => noGrad(() => checkTensor(model.forward(x) as Tensor)));
  yield { name, run, extra: { batch, params: parameters(model), firing_rate: rate }, check, work, batch };
}

/** The workloads of a file, one after the other. */
export function* workloads(inputs: Inputs): Generator<Workload> {
  switch (inputs.spec.kind) {
    case "conv":
      return yield* convolution(inputs);
    case "linear":
      return yield* linear(inputs);
    case "lif":
      return yield* lif(inputs);
    case "lif-layer":
      return yield* lifLayer(inputs);
    case "train":
      return yield* train(inputs);
    case "infer":
      return yield* infer(inputs);
  }
}
