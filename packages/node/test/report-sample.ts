/** A plausible run for the report's tests: made up, deterministic. */
import { measure } from "spikeloom";
import { packBits, type ReportData } from "../src/report-data.ts";

function noise(seed: number): () => number {
  let s = seed >>> 0;
  return () => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return s / 2 ** 32;
  };
}

/** A ring or bar of 28 x 28 grey pixels: something that looks like a digit. */
function picture(kind: number): string {
  const bytes = new Uint8Array(784);
  for (let y = 0; y < 28; y++) {
    for (let x = 0; x < 28; x++) {
      const r = Math.hypot((x - 13.5) * 1.25, y - 13.5);
      const ring = kind % 2 === 0 ? Math.abs(r - 8) : Math.abs(x - 14 + (y - 14) * 0.2 * (kind - 2));
      bytes[y * 28 + x] = Math.max(0, Math.min(255, Math.round(255 * (2.6 - ring)))) * (y > 3 && y < 25 ? 1 : 0);
    }
  }
  return Buffer.from(bytes).toString("base64");
}

const LAYERS = [
  ["patch_embed.proj_lif", 12544, 0.16],
  ["patch_embed.proj_lif1", 6272, 0.12],
  ["patch_embed.proj_lif2", 3136, 0.21],
  ["block.0.attn.q_lif", 3136, 0.18],
  ["block.0.attn.k_lif", 3136, 0.07],
  ["block.0.attn.v_lif", 3136, 0.24],
  ["block.0.mlp.fc1_lif", 3136, 0.27],
  ["block.0.mlp.fc2_lif", 12544, 0.05],
  ["head_lif", 128, 0.33],
] as const;

export function sampleReport(): ReportData {
  const random = noise(7);
  const T = 4;
  const steps = Array.from({ length: 2345 }, (_, i) => {
    const epoch = i / 469;
    return {
      epoch,
      loss: 0.04 + 2.2 * Math.exp(-epoch * 3) + 0.06 * random(),
      learningRate: epoch < 0.5 ? epoch * 0.004 : 0.001 * (1 + Math.cos((Math.PI * epoch) / 5)),
      firingRate: 0.13 + 0.03 * Math.exp(-epoch) + 0.004 * random(),
    };
  });
  const epochs = [0.971, 0.98, 0.9842, 0.9861, 0.9872].map((testAccuracy, i) => ({
    epoch: i + 1,
    trainLoss: 0.3 / (i + 1),
    trainAccuracy: testAccuracy - 0.02 / (i + 1),
    testLoss: 0.1 / (i + 1),
    testAccuracy,
    firingRate: 0.135 - 0.002 * i,
    seconds: 41.2 + i,
  }));
  const counts = Array.from({ length: 10 }, (_, i) =>
    Array.from({ length: 10 }, (_, j) => (i === j ? 960 + 4 * i : random() < 0.35 ? Math.floor(random() * 7) : 0)),
  );
  const raster = (layer: string, neurons: number, rate: number) => ({
    layer,
    timeSteps: T,
    neurons,
    bits: packBits(Array.from({ length: T * neurons }, (_, i) => (random() < rate * (0.4 + 0.3 * Math.floor(i / neurons)) ? 1 : 0))),
  });
  const map = (scale: number) =>
    Array.from(
      { length: 49 },
      (_, i) => scale * Math.exp(-((Math.hypot((i % 7) - 3, Math.floor(i / 7) - 3) - 2) ** 2) / 2) * (0.7 + 0.3 * random()),
    );
  const layer = (
    layer: string,
    type: "Conv2d" | "Linear",
    input: number[],
    output: number[],
    denseOps: number,
    rate: number | null,
  ): measure.LayerOperations => {
    const nonZero = rate ?? 0.19;
    const size = (shape: number[]) => shape.reduce((a, b) => a * b, 1);
    return {
      ...{
        layer,
        type,
        input,
        weight: [],
        output,
        timeSteps: T,
        levels: 1,
        virtualSteps: 1,
        spikes: rate !== null,
        ternary: rate !== null,
      },
      ...{ first: rate === null, last: layer === "head", still: rate === null, denseOps, boundedOps: denseOps, nonZero, value: nonZero },
      synOps: Math.round(denseOps * T * (rate ?? 1)),
      effectiveOps: Math.round(denseOps * T * nonZero),
      perStep: [0.5, 0.9, 1.2, 1.4].map((f) => f * nonZero),
      ...{ inputs: size(input), outputs: size(output), weights: 100, zeroWeights: 0 },
    };
  };
  const operations: measure.Operations = {
    timeSteps: T,
    samples: 1000,
    parameters: 187466,
    layers: [
      layer("patch_embed.proj_conv", "Conv2d", [28, 28, 1], [28, 28, 16], 112896, null),
      layer("patch_embed.proj_conv1", "Conv2d", [14, 14, 16], [14, 14, 32], 903168, 0.281),
      layer("patch_embed.proj_conv2", "Conv2d", [14, 14, 32], [14, 14, 64], 3612672, 0.122),
      layer("block.0.attn.q_conv", "Linear", [49, 64], [49, 64], 200704, 0.18),
      layer("block.0.mlp.fc1_conv", "Linear", [49, 64], [49, 256], 802816, 0.27),
      layer("head", "Linear", [64], [10], 640, 0.33),
    ],
  };
  const footprint = { parameters: 4 * 187466, buffers: 8872, spikes: 23_480, spikesAsFloats: 751_360 };
  return {
    name: "mnist",
    summary: {
      model: "sdt-v1/mnist",
      dataset: "MNIST",
      testAccuracy: 0.9872,
      testLoss: 0.0412,
      testImages: 10000,
      parameters: 187466,
      timeSteps: T,
      epochs: 5,
      trainingSeconds: 214.6,
      imagesPerSecond: 1398,
      peakMemoryBytes: 512 * 2 ** 20,
      firingRate: 0.1312,
      device: "native",
      isa: "avx512",
      threads: 2,
      seed: 42,
      cpu: "A Processor With A Rather Long Name @ 2.60 GHz",
      versions: { spikeloom: "0.1.0", "@spikeloom/cli": "0.1.0", node: "20.20.2" },
      finishedAt: "2026-01-02T03:04:05.000Z",
    },
    history: { steps, epochs },
    confusion: { classes: Array.from("0123456789"), counts },
    rates: LAYERS.map(([layer, neurons, rate]) => ({ layer, neurons, perStep: [0.5, 0.9, 1.2, 1.3].map((f) => f * rate) })),
    samples: [0, 1, 2, 3].map((k) => ({
      index: 17 * k + 3,
      image: { width: 28, height: 28, channels: 1 as const, pixels: picture(k) },
      label: String(k % 2 ? 1 : 0),
      predicted: k === 3 ? "7" : String(k % 2 ? 1 : 0),
      confidence: 0.99 - 0.1 * k,
      rasters: LAYERS.slice(2).map(([layer, neurons, rate]) => raster(layer, Math.min(neurons, k === 0 ? 3136 : 256), rate)),
      attention: [0, 1].map((b) => ({
        legend: { before: "V before the mask", after: "V after the mask", text: "What passes the mask." },
        block: `block.${b}`,
        width: 7,
        height: 7,
        before: map(0.42),
        after: map(0.17),
      })),
    })),
    energy: measure.priceOperations(operations),
    presets: measure.presets.map(({ name }) => measure.priceOperations(operations, { preset: name })),
    memory: { footprint, neurobench: measure.neurobench(operations, footprint, { activations: 0.869, weights: 0 }) },
    recipe:
      "name: mnist\nmodel:\n  name: sdt-v1/mnist\ndata:\n  name: mnist\ntrain:\n  epochs: 5\n  optimizer: { name: adamw, lr: 0.002 }\nseed: 42\n",
    command: "npx spikeloom train recipes/mnist.yml --seed 42 --device native --threads 2",
  };
}
