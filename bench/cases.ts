/** What is measured: the shapes, once, for both sides (they travel in the data files), and the ratios that are aimed at. */
import { nearest, SpikeloomError } from "spikeloom";

/** A convolution of spikes whose output has the input's size. */
export interface ConvSpec {
  kind: "conv";
  name: string;
  images: number;
  ci: number;
  co: number;
  size: number;
  kernel: number;
  groups: number;
  density: number;
}

export interface LinearSpec {
  kind: "linear";
  name: string;
  tokens: number;
  ci: number;
  co: number;
  density: number;
}

export interface LifSpec {
  kind: "lif";
  name: string;
  steps: number;
  batch: number;
  channels: number;
  size: number;
}

export interface TrainSpec {
  kind: "train";
  name: string;
  model: string;
  batch: number;
}

export interface InferSpec {
  kind: "infer";
  name: string;
  model: string;
  batch: number;
  size: number;
  /** How integer neurons emit (`snn.setMode`). The peer has integers alone. */
  mode?: "spikes";
}

/** Linear(features, features) and a LIF, forward and backward. Density null: the input is normal floats. */
export interface LayerSpec {
  kind: "lif-layer";
  name: string;
  steps: number;
  batch: number;
  features: number;
  density: number | null;
}

export type Spec = ConvSpec | LinearSpec | LifSpec | TrainSpec | InferSpec | LayerSpec;

/** One entry of `--only`: what one process of a side runs. */
export interface Case {
  specs: readonly Spec[];
  /** Runs in the columns of this many threads only. */
  threads?: number;
  /** Left out of `--quick`. */
  long?: boolean;
}

const conv = (name: string, spec: Omit<ConvSpec, "kind" | "name">): ConvSpec => ({
  kind: "conv",
  name: `${name}-d${spec.density}`,
  ...spec,
});

export const CASES: Readonly<Record<string, Case>> = {
  conv3x3: {
    specs: [0.05, 0.15, 0.3].map((density) => conv("conv3x3-64", { images: 64, ci: 64, co: 64, size: 32, kernel: 3, groups: 1, density })),
  },
  "conv3x3-256": { specs: [conv("conv3x3-256", { images: 64, ci: 256, co: 256, size: 8, kernel: 3, groups: 1, density: 0.15 })] },
  conv1x1: { specs: [conv("conv1x1-512-2048", { images: 64, ci: 512, co: 2048, size: 8, kernel: 1, groups: 1, density: 0.15 })] },
  linear: { specs: [{ kind: "linear", name: "linear-512-2048-d0.15", tokens: 4096, ci: 512, co: 2048, density: 0.15 }] },
  depthwise: { specs: [conv("dwconv7x7-256", { images: 64, ci: 256, co: 256, size: 16, kernel: 7, groups: 256, density: 0.15 })] },
  lif: { specs: [{ kind: "lif", name: "lif", steps: 4, batch: 16, channels: 256, size: 16 }] },
  "train-sdt": { specs: [{ kind: "train", name: "train-sdt-2-256", model: "sdt-v1/cifar10-2-256", batch: 32 }] },
  "train-msresnet": { specs: [{ kind: "train", name: "train-msresnet18", model: "msresnet18", batch: 16 }], long: true },
  "infer-sdt": {
    specs: [{ kind: "infer", name: "infer-sdt-8-512-b1", model: "sdt-v1/imagenet-8-512", batch: 1, size: 224 }],
    long: true,
  },
  "infer-v3": {
    specs: [
      { kind: "infer", name: "infer-sdt-v3-10m-b1-integer", model: "sdt-v3/10m", batch: 1, size: 224 },
      { kind: "infer", name: "infer-sdt-v3-10m-b1-spikes", model: "sdt-v3/10m", batch: 1, size: 224, mode: "spikes" },
    ],
    long: true,
  },
  "lif-layer": {
    specs: [
      { kind: "lif-layer", name: "lif-layer-float", steps: 100, batch: 16, features: 512, density: null },
      { kind: "lif-layer", name: "lif-layer-d0.15", steps: 100, batch: 16, features: 512, density: 0.15 },
    ],
    threads: 1,
    long: true,
  },
};

/** Least ratios that are aimed at with two threads, by the beginning of a workload's name; the first that fits holds. */
const FLOORS: readonly (readonly [string, native: number, wasm: number])[] = [
  ["conv3x3-64-d0.15-forward", 4, 1.5],
  ["conv3x3-64-d0.15-grad-weight", 3, 1],
  ["conv3x3-64-d0.15-grad-input", 1.7, 0.4],
  ["conv3x3-256-d0.15-forward", 2.5, 0.7],
  ["conv3x3-256-d0.15-grad-weight", 2.5, 0.7],
  ["conv1x1-512-2048-d0.15-forward", 4, 1],
  ["conv1x1-512-2048-d0.15-grad-weight", 4, 1],
  ["linear-512-2048-d0.15-forward", 4, 1],
  ["linear-512-2048-d0.15-grad-weight", 4, 1],
  ["dwconv7x7-256-d0.15-", 3, 1],
  ["lif-forward-backward", 4, 2],
  ["lif-forward", 8, 4],
  ["train-sdt-2-256", 3, 1],
  ["train-msresnet18", 3, 0.8],
  ["infer-sdt-8-512-b1", 5, 1.5],
];

/** The ratio aimed at for a workload on a device, where there is one. */
export function floorOf(workload: string, device: string): number | undefined {
  const floor = FLOORS.find(([start]) => workload.startsWith(start));
  return floor?.[device === "wasm" ? 2 : 1];
}

/** `value` if it is one of `names`. @throws SpikeloomError with the nearest one */
export function oneOf(option: string, value: string, names: readonly string[]): string {
  if (names.includes(value)) return value;
  const near = nearest(value, names);
  throw new SpikeloomError(`${option}: unknown "${value}"${near ? `, did you mean "${near}"?` : ""} (one of ${names.join(", ")})`);
}
