/**
 * What both sides compute with: inputs, labels, weights and batch-norm statistics of a workload, in PyTorch's axis order, as a safetensors
 * file that carries its specification. Made once in a run, read by every process of it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { formats, models, type nn, noGrad, rand, randn, safetensors, scope, type Tensor, tensor } from "spikeloom";
import type { Spec } from "./cases.ts";
import { MSResNet18 } from "./msresnet.ts";

type Array = formats.NdArray;

/** The model of a specification. */
export function buildModel(name: string): nn.Module {
  return name === "msresnet18" ? new MSResNet18() : models.createModel(name);
}

/** A tensor's values, the axes as they are. */
function values(make: () => Tensor): Array {
  return scope(() => {
    const t = make();
    return formats.ndArray("f32", t.shape, t.dataSync() as Float32Array);
  });
}

/** Bernoulli(density) as bytes. */
function spikes(shape: readonly number[], density: number): Array {
  const draws = values(() => rand(shape)).data as Float32Array;
  return formats.ndArray(
    "u8",
    shape,
    Uint8Array.from(draws, (v) => (v < density ? 1 : 0)),
  );
}

const normal = (shape: readonly number[], std = 1) => values(() => randn(shape, { std }));

/** Running statistics of the batch norms averaged over some random images, so that the network fires about as a trained one would. */
export function calibrate(model: nn.Module, size: number): void {
  for (const [, m] of model.namedModules()) if ("momentum" in m) (m as { momentum: number | null }).momentum = null;
  model.train();
  noGrad(() => {
    for (let i = 0; i < 2; i++) scope(() => void model.forward(rand([2, size, size, 3])));
  });
}

function stateOf(model: nn.Module): Map<string, Array> {
  const state = [...model.stateDict()].map(
    ([key, { dtype, shape, data }]) => [`state.${key}`, formats.ndArray(dtype, shape, data)] as const,
  );
  model.dispose();
  return new Map(state);
}

function make(spec: Spec): Map<string, Array> {
  switch (spec.kind) {
    case "conv": {
      const { images, ci, co, size, kernel, groups, density } = spec;
      return new Map([
        ["x", spikes([images, ci, size, size], density)],
        ["weight", normal([co, ci / groups, kernel, kernel], 0.05)],
        ["gy", normal([images, co, size, size])],
      ]);
    }
    case "linear": {
      const { tokens, ci, co, density } = spec;
      return new Map([
        ["x", spikes([tokens, ci], density)],
        ["weight", normal([co, ci], 0.05)],
        ["gy", normal([tokens, co])],
      ]);
    }
    case "lif": {
      const shape = [spec.steps, spec.batch, spec.channels, spec.size, spec.size];
      return new Map([
        ["x", normal(shape)],
        ["gy", normal(shape)],
      ]);
    }
    case "lif-layer": {
      const { steps, batch, features, density } = spec;
      const shape = [steps, batch, features];
      // Pre-activations of standard deviation about 1.5: a rate of some 15 %.
      const std = 1.5 / Math.sqrt(features * (density ?? 1));
      return new Map([
        ["x", density === null ? normal(shape) : spikes(shape, density)],
        ["weight", normal([features, features], std)],
        ["bias", normal([features], 0.1)],
        ["gy", normal(shape)],
      ]);
    }
    case "train": {
      const labels = Int32Array.from({ length: spec.batch }, (_, i) => i % 10);
      return new Map([
        ["x", values(() => rand([spec.batch, 3, 32, 32]))],
        ["labels", formats.ndArray("i32", [spec.batch], labels)],
        ...stateOf(buildModel(spec.model)),
      ]);
    }
    case "infer": {
      const model = buildModel(spec.model);
      calibrate(model, spec.size);
      return new Map([["x", values(() => rand([spec.batch, 3, spec.size, spec.size]))], ...stateOf(model)]);
    }
  }
}

/** Makes a workload's file; the engine must run. */
export function writeInputs(spec: Spec, path: string): void {
  writeFileSync(path, safetensors.encode(make(spec), { spec: JSON.stringify(spec) }));
}

/** A workload's file. */
export class Inputs {
  readonly spec: Spec;
  private readonly arrays: Map<string, Array>;

  constructor(path: string) {
    const { tensors, metadata } = safetensors.decode(readFileSync(path), "the benchmark's inputs");
    this.arrays = tensors;
    this.spec = JSON.parse(metadata.spec as string) as Spec;
  }

  /** An array on the device, its axes permuted: axis i of the result is axis `axes[i]` of the array. Labels are i32, all else f32. */
  take(name: string, axes?: readonly number[]): Tensor {
    const stored = this.arrays.get(name) as Array;
    const array = axes ? formats.permute(stored, axes) : stored;
    return array.dtype === "i32" ? tensor(array.data as Int32Array, array.shape) : tensor(formats.toFloat32(array), array.shape);
  }

  /** Spikes, packed as a neuron layer hands them on. */
  spikes(name: string, axes?: readonly number[]): Tensor {
    return scope(() => this.take(name, axes).toSpikes());
  }

  /** The model of the file with its weights. */
  model(): nn.Module {
    const model = buildModel((this.spec as { model: string }).model);
    const state = [...this.arrays].filter(([key]) => key.startsWith("state."));
    model.loadStateDict(new Map(state.map(([key, array]) => [key.slice("state.".length), array as never])));
    return model;
  }

  /** Forget the file: what is on the device is enough, and the rest would count as memory of the work. */
  close(): void {
    this.arrays.clear();
    globalThis.gc?.();
  }
}
