/**
 * Spikeloom's side of the benchmark: the same work as bench/peers/peer_pytorch.py, on the same shapes (channels last), through the
 * ops, layers and tape that a model uses. The README of this folder says what exactly each one times.
 */
import { backward, models, nn, noGrad, optim, rand, randn, scope, snn, Tensor, tensor } from "spikeloom";

/** One line of the table. */
export interface Workload {
  name: string;
  /** The timed work, once. Frees what it makes. */
  run(): void;
  /** Figures that go with the time. */
  extra: Record<string, number>;
  /** Images of one run, where it is a training step. */
  batch?: number;
}

/** Bernoulli(density) spikes, packed: what a neuron layer hands on. */
function spikes(shape: readonly number[], density: number): Tensor {
  return scope(() => rand(shape).lt(density).toSpikes());
}

/** A leaf of the graph, whose gradient the next backward makes. */
function leaf(t: Tensor): Tensor {
  t.requiresGrad = true;
  return t;
}

/** Backward through a graph that stays, and the leaf's gradient thrown away. */
function backwardOnly(y: Tensor, gradient: Tensor, at: Tensor): void {
  backward(y, { gradient, retainGraph: true });
  at.grad?.dispose();
  at.grad = null;
}

interface ConvCase {
  name: string;
  images: number;
  ci: number;
  co: number;
  size: number;
  kernel: number;
  density: number;
}

function* convolution({ name, images, ci, co, size, kernel, density }: ConvCase): Generator<Workload> {
  const x = spikes([images, size, size, ci], density);
  const weight = randn([kernel, kernel, ci, co], { std: 0.05 });
  const gy = randn([images, size, size, co]);
  const padding = kernel >> 1;
  const { sum, size: total } = snn.spikeStats(x);
  const extra = { density: sum / total, gflop: (2 * images * size * size * ci * co * kernel * kernel) / 1e9 };
  const label = `${name}-d${density}`;
  const forward = () => scope(() => void nn.conv2d(x, weight, null, { padding }));
  yield { name: `${label}-forward`, run: () => noGrad(forward), extra };

  // Only one of the inputs wants a gradient each time, as in the peer's conv2d_input and conv2d_weight.
  const forInput = leaf(x.alias());
  const y = nn.conv2d(forInput, weight, null, { padding });
  yield { name: `${label}-grad-input`, run: () => backwardOnly(y, gy, forInput), extra };
  y.dispose();
  const forWeight = leaf(weight.alias());
  const z = nn.conv2d(x, forWeight, null, { padding });
  yield { name: `${label}-grad-weight`, run: () => backwardOnly(z, gy, forWeight), extra };
  for (const t of [z, forInput, forWeight, x, weight, gy]) t.dispose();
}

function* conv3x3(): Generator<Workload> {
  for (const density of [0.05, 0.15, 0.3])
    yield* convolution({ name: "conv3x3-64", images: 64, ci: 64, co: 64, size: 32, kernel: 3, density });
}

function* lif(): Generator<Workload> {
  const neuron = new snn.LIF({ tau: 2, detachReset: true, surrogate: snn.surrogate.sigmoid({ alpha: 4 }) });
  const x = randn([4, 16, 16, 16, 256]);
  const gy = randn(x.shape);
  const extra = { neurons: x.size };
  yield { name: "lif-forward", run: () => noGrad(() => scope(() => void neuron.forward(x))), extra };
  const input = leaf(x.alias());
  const both = () =>
    scope(() => {
      backward(neuron.forward(input), { gradient: gy });
      input.grad?.dispose();
      input.grad = null;
    });
  yield { name: "lif-forward-backward", run: both, extra };
}

/** Mean firing rate over every neuron that `step` runs. */
function firingRate(step: () => void): number {
  let [fired, total] = [0, 0];
  nn.withForwardHook((module, _inputs, output) => {
    // Containers hand on what their last part gave: count neurons only.
    if (!(output instanceof Tensor) || output.dtype !== "spikes" || !module.children().next().done) return;
    const { sum, size } = snn.spikeStats(output);
    fired += sum;
    total += size;
  }, step);
  return fired / total;
}

function* trainSdt(): Generator<Workload> {
  const batch = 32;
  const model = models.createModel("sdt-v1/cifar10-2-256");
  const optimizer = new optim.AdamW(model.parameters(), { lr: 1e-3 });
  const x = rand([batch, 32, 32, 3]);
  const y = tensor(Int32Array.from({ length: batch }, (_, i) => i % 10));
  const step = () =>
    scope(() => {
      optimizer.zeroGrad();
      nn.crossEntropy(model.forward(x), y).backward();
      optimizer.step();
    });
  const params = model.parameters().reduce((n, p) => n + p.size, 0);
  yield { name: "train-sdt-2-256", run: step, extra: { batch, params, firing_rate: firingRate(step) }, batch };
}

/** The cases by the peer's names (its `--only`); each makes its workloads one after the other. */
export const CASES: Readonly<Record<string, () => Generator<Workload>>> = {
  conv3x3,
  "conv3x3-256": () => convolution({ name: "conv3x3-256", images: 64, ci: 256, co: 256, size: 8, kernel: 3, density: 0.15 }),
  conv1x1: () => convolution({ name: "conv1x1-512-2048", images: 64, ci: 512, co: 2048, size: 8, kernel: 1, density: 0.15 }),
  lif,
  "train-sdt": trainSdt,
};
