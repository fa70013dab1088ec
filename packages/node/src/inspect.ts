/** What a trained classifier shows of itself on test images: firing rates, rasters, attention maps, energy. For the report. */

import type { data } from "spikeloom";
import { measure, type models, nn, noGrad, scope, type Tensor, tensor } from "spikeloom";
import { packBits, type ReportRate, type ReportSample } from "./report-data.ts";

/** At most so many neurons of a layer are drawn in a raster. */
const RASTER_NEURONS = 256;
const RASTER_LAYERS = 4;

interface Recorded {
  layer: string;
  /** [T, B, ...] values. */
  values: ArrayLike<number>;
  steps: number;
  batch: number;
  neurons: number;
}

/** Spikes of every neuron layer for one batch. */
function recordSpikes(model: nn.Module, input: Tensor): { layers: Recorded[]; probabilities: Float32Array | Float64Array } {
  const names = new Map([...model.namedModules()].map(([name, m]) => [m, name]));
  const layers: Recorded[] = [];
  const logits = nn.withForwardHook(
    (m, _inputs, output) => {
      const t = output as Tensor;
      if (t.dtype !== "spikes" || !m.children().next().done) return;
      const [steps, batch] = t.shape as [number, number];
      layers.push({ layer: names.get(m) ?? "", values: t.dataSync(), steps, batch, neurons: t.size / (steps * batch) });
    },
    () => model.forward(input) as Tensor,
  );
  const averaged = logits.rank === 3 ? logits.mean(0) : logits;
  return { layers, probabilities: nn.softmax(averaged).dataSync() as Float32Array };
}

/** A few layers spread over the network, the last one among them. */
function someLayers(layers: readonly Recorded[]): Recorded[] {
  const count = Math.min(RASTER_LAYERS, layers.length);
  return Array.from({ length: count }, (_, i) => layers[Math.round((i * (layers.length - 1)) / Math.max(1, count - 1))] as Recorded);
}

function rasterOf({ layer, values, steps, batch, neurons }: Recorded, sample: number) {
  const shown = Math.min(neurons, RASTER_NEURONS);
  const fired = new Uint8Array(steps * shown);
  for (let t = 0; t < steps; t++)
    for (let n = 0; n < shown; n++)
      fired[t * shown + n] = values[(t * batch + sample) * neurons + Math.floor((n * neurons) / shown)] ? 1 : 0;
  return { layer, timeSteps: steps, neurons: shown, ofNeurons: neurons, bits: packBits(fired) };
}

/** One test image of each class, as far as they come among the first thousand. */
function pick(set: data.ArrayDataset, count: number): number[] {
  const seen = new Set<number>();
  const picked: number[] = [];
  for (let i = 0; i < Math.min(set.length, 1000) && picked.length < count; i++) {
    const label = set.labels[i] as number;
    if (seen.has(label)) continue;
    seen.add(label);
    picked.push(i);
  }
  return picked;
}

export interface Inspection {
  rates: ReportRate[];
  samples: ReportSample[];
  energy: measure.EnergyReport;
}

/** Run the model on some test images and collect what the report draws. */
export function inspect(model: nn.Module, system: models.System, loader: data.Loader, classes: readonly string[]): Inspection {
  const set = loader.dataset;
  const [, height, width, channels] = set.shape;
  const first = loader[Symbol.iterator]().next().value as data.Batch;
  loader.restore({ ...loader.state(), batch: 0 });
  const measured = Math.min(first.y.length, 64);
  const size = height * width * channels;
  return scope(() =>
    noGrad(() => {
      model.eval();
      const input = tensor(first.x.slice(0, measured * size), [measured, height, width, channels]);
      const energy = measure.energy(model, input);
      const rates = measure
        .firingRates(model, input)
        .map(({ layer, shape, perStep }) => ({ layer, neurons: shape.slice(2).reduce((a, b) => a * b, 1), perStep }));
      const picked = pick(set, 6).filter((i) => i < first.y.length);
      const pixels = new Float32Array(picked.length * size);
      picked.forEach((index, i) => {
        pixels.set(first.x.subarray(index * size, (index + 1) * size), i * size);
      });
      const shown = tensor(pixels, [picked.length, height, width, channels]);
      const { layers, probabilities } = recordSpikes(model, shown);
      const maps = system.attention?.(model, shown) ?? [];
      const samples = picked.map((index, i): ReportSample => {
        const row = Array.from(probabilities.slice(i * classes.length, (i + 1) * classes.length));
        const best = row.indexOf(Math.max(...row));
        const bytes = set.images.subarray(index * size, (index + 1) * size);
        return {
          index,
          image: { width, height, channels: channels as 1 | 3, pixels: Buffer.from(bytes).toString("base64") },
          label: classes[set.labels[index] as number] as string,
          predicted: classes[best] as string,
          confidence: row[best] as number,
          rasters: someLayers(layers).map((l) => rasterOf(l, i)),
          attention: maps.map((m) => ({
            block: m.block,
            width: m.width,
            height: m.height,
            before: [...(m.before[i] as Float64Array)],
            after: [...(m.after[i] as Float64Array)],
          })),
        };
      });
      return { rates, samples, energy };
    }),
  );
}
