/** What a trained classifier shows of itself on test images: firing rates, rasters, attention maps, energy. For the report. */

import type { data } from "spikeloom";
import { measure, type models, nn, noGrad, scope, snn, type Tensor, type TypedArray, tensor } from "spikeloom";
import { type Measurable, measureOn, spread } from "./measured.ts";
import { pictureOf } from "./picture.ts";
import { packBits, type ReportAttention, type ReportMemory, type ReportRaster, type ReportRate, type ReportSample } from "./report-data.ts";
import type { SessionData } from "./session.ts";

/** At most so many neurons of a layer are drawn in a raster. */
const RASTER_NEURONS = 256;
const RASTER_LAYERS = 4;
/** Images that rates and energy of a report are measured on. */
const INSPECTED = 64;

export interface Recorded {
  layer: string;
  /** [T, B, ...] values. */
  values: ArrayLike<number>;
  shape: readonly number[];
  steps: number;
  batch: number;
  neurons: number;
}

export interface Recording {
  /** Every neuron layer. */
  layers: Recorded[];
  /** [B, K]: the mean over T. */
  logits: Tensor;
  probabilities: Float32Array | Float64Array;
  /** [T, B, K], where the logits are the mean of such an output of the model, or of its last layer. */
  stepLogits: Tensor | undefined;
}

/** Spikes and logits for one batch. */
export function recordSpikes(model: nn.Module, input: Tensor): Recording {
  const names = new Map([...model.namedModules()].map(([name, m]) => [m, name]));
  const layers: Recorded[] = [];
  let last: (Pick<Tensor, "shape"> & { values: TypedArray }) | undefined;
  const logits = nn.withForwardHook(
    (m, [input], output) => {
      const t = output as Tensor;
      if (!snn.makesSpikes(m, input, output)) {
        // The tensor itself does not outlive the model's forward.
        if (m.children().next().done && t.dtype !== "spikes") last = t.rank === 3 ? { shape: t.shape, values: t.dataSync() } : undefined;
        return;
      }
      const [steps, batch] = t.shape as [number, number];
      layers.push({ layer: names.get(m) ?? "", values: t.dataSync(), shape: t.shape, steps, batch, neurons: t.size / (steps * batch) });
    },
    () => model.forward(input) as Tensor,
  );
  const averaged = logits.rank === 3 ? logits.mean(0) : logits;
  const ofLast = last && tensor(last.values, last.shape);
  const stepLogits = logits.rank === 3 ? logits : ofLast && isMeanOf(averaged, ofLast) ? ofLast : undefined;
  return { layers, logits: averaged, probabilities: nn.softmax(averaged).dataSync() as Float32Array, stepLogits };
}

/** Whether [B, K] logits are the mean over the first axis of `steps`. */
function isMeanOf(logits: Tensor, steps: Tensor): boolean {
  if (steps.size !== logits.size * (steps.shape[0] as number)) return false;
  const mean = steps.mean(0).dataSync();
  return logits.dataSync().every((v, i) => v === mean[i]);
}

/** A few layers spread over the network, the last one among them. */
function someLayers(layers: readonly Recorded[]): Recorded[] {
  const count = Math.min(RASTER_LAYERS, layers.length);
  return Array.from({ length: count }, (_, i) => layers[Math.round((i * (layers.length - 1)) / Math.max(1, count - 1))] as Recorded);
}

export function rasterOf({ layer, values, steps, batch, neurons }: Recorded, sample: number): ReportRaster {
  const shown = Math.min(neurons, RASTER_NEURONS);
  const fired = new Uint8Array(steps * shown);
  for (let t = 0; t < steps; t++)
    for (let n = 0; n < shown; n++)
      fired[t * shown + n] = values[(t * batch + sample) * neurons + Math.floor((n * neurons) / shown)] ? 1 : 0;
  let spikes = 0;
  for (let t = 0; t < steps; t++) {
    const from = (t * batch + sample) * neurons;
    for (let n = from; n < from + neurons; n++) if (values[n]) spikes++;
  }
  return { layer, timeSteps: steps, neurons: shown, ofNeurons: neurons, rate: spikes / (steps * neurons), bits: packBits(fired) };
}

/** One sample's maps of every block. */
export function attentionOf(maps: readonly models.AttentionMap[], sample: number): ReportAttention[] {
  return maps.map(({ legend, block, width, height, before, after }) => ({
    ...{ legend, block, width, height },
    before: [...(before[sample] as Float64Array)],
    after: [...(after[sample] as Float64Array)],
  }));
}

/** At most `count` of the samples, of as many classes as there are among them: places in `labels`. */
function pick(labels: Int32Array, count: number): number[] {
  const seen = new Set<number>();
  const firsts = [...labels.keys()].filter((i) => !seen.has(labels[i] as number) && seen.add(labels[i] as number));
  return firsts.slice(0, count);
}

export interface Inspection {
  rates: ReportRate[];
  samples: ReportSample[];
  /** By the plain rule. */
  energy: measure.EnergyReport;
  /** By every convention, the plain rule first. */
  presets: measure.EnergyReport[];
  memory: ReportMemory;
}

/** What is drawn of each of the samples `indices`, true classes included. */
export async function inspectSamples({ model, system, loader, set }: Inspected, indices: ArrayLike<number>): Promise<ReportSample[]> {
  const { x, y, labels } = await loader.batchOf(indices);
  const restore = model.modes();
  model.eval();
  try {
    return scope(() =>
      noGrad(() => {
        const { layers, probabilities } = recordSpikes(model, x);
        const maps = system.attention?.(model, x) ?? [];
        return Array.from(indices, (index, i): ReportSample => {
          const row = Array.from(
            probabilities.slice((i * probabilities.length) / labels.length, ((i + 1) * probabilities.length) / labels.length),
          );
          const best = row.indexOf(Math.max(...row));
          return {
            index,
            image: pictureOf(x, i, set.entry),
            label: set.classes[labels[i] as number] ?? String(labels[i]),
            predicted: set.classes[best] ?? String(best),
            confidence: row[best] as number,
            rasters: someLayers(layers).map((l) => rasterOf(l, i)),
            attention: attentionOf(maps, i),
          };
        });
      }),
    );
  } finally {
    restore();
    x.dispose();
    y.dispose();
  }
}

/** A model and the data that it is looked at with. */
export interface Inspected {
  model: nn.Module;
  system: models.System;
  /** Of the test images. */
  loader: data.Loader;
  set: SessionData;
}

/** Run the model on some test images, spread over the set, and collect what the report draws. `pictures: false` where it names no classes. */
export async function inspect(inspected: Inspected & Pick<Measurable, "config"> & { pictures?: boolean }): Promise<Inspection> {
  const { loader, set, pictures = true } = inspected;
  const images = Math.min(loader.batchSize, INSPECTED);
  const { survey, energy } = await measureOn({ ...inspected, sampleShape: set.sampleShape }, images);
  const presets = measure.presets.map(({ name }) => energy({ preset: name }));
  const { rates, footprint, neurobench } = survey;
  const indices = spread(loader.dataset.length, images);
  const { x, y, labels } = await loader.batchOf(indices);
  x.dispose();
  y.dispose();
  const picked = pictures ? pick(labels, 6).map((i) => indices[i] as number) : [];
  return {
    rates: rates.map(({ layer, neurons, perStep }) => ({ layer, neurons, perStep })),
    energy: presets[0] as measure.EnergyReport,
    presets,
    memory: { footprint, neurobench },
    samples: picked.length ? await inspectSamples(inspected, picked) : [],
  };
}
