/** Measuring a run's model on test images: one pass over them, priced by the conventions asked for. For `measure` and the report. */
import { type data, measure, type models, type nn, SpikeloomError, type Tensor } from "spikeloom";

/** At most so many images at a time: values of every layer are read into JavaScript's memory, which they would fill. */
const BATCH = 16;

export interface Measurable {
  model: nn.Module;
  system: models.System;
  /** The model's full configuration. */
  config: Readonly<Record<string, unknown>>;
  /** Of the test images. */
  loader: data.Loader;
  /** What the network sees of one image: [H, W, C], or [T, H, W, C]. */
  sampleShape: readonly number[];
}

export interface Measured {
  survey: measure.Survey;
  /** Energy by a convention, by the model's own table where the convention follows one. */
  energy(options?: measure.ConventionOptions): measure.EnergyReport;
}

/** `count` places spread evenly over a data set: one sorted by class shows them all. */
export function spread(length: number, count: number): Int32Array {
  const n = Math.min(count, length);
  return Int32Array.from({ length: n }, (_, i) => Math.floor((i * length) / n));
}

async function* batches(loader: data.Loader, indices: Int32Array): AsyncGenerator<Tensor> {
  const size = Math.min(loader.batchSize, BATCH);
  for (let at = 0; at < indices.length; at += size) {
    const { x, y } = await loader.batchOf(indices.subarray(at, at + size));
    y.dispose();
    try {
      yield x;
    } finally {
      x.dispose();
    }
  }
}

/** Measure a model on `images` test images, spread over the set. */
export async function measureOn({ model, system, config, loader, sampleShape }: Measurable, images: number): Promise<Measured> {
  const survey = await measure.survey(model, batches(loader, spread(loader.dataset.length, images)));
  const [height, width] = sampleShape.slice(-3) as [number, number];
  const input = { timeSteps: survey.operations.timeSteps, height, width, events: sampleShape.length === 4 };
  const table =
    system.energyTable && ((settings: measure.PresetSettings) => (system as Tabled).energyTable({ ...config }, input, settings));
  return { survey, energy: (options) => survey.energy(options, table, system.energyPreset) };
}

type Tabled = models.System & Required<Pick<models.System, "energyTable">>;

/**
 * A convention as it is written on the command line: `sdt`, or `sdt:qkvRate=input,spsRate=actual`.
 * @throws SpikeloomError for an unknown preset or setting
 */
export function conventionFrom(text: string): measure.ConventionOptions & { preset: string } {
  const colon = text.indexOf(":");
  const preset = colon < 0 ? text : text.slice(0, colon);
  measure.findPreset(preset);
  const settings = Object.fromEntries(
    (colon < 0 ? [] : text.slice(colon + 1).split(",")).map((pair) => {
      const [key, value, ...rest] = pair.split("=");
      if (!key || !value || rest.length)
        throw new SpikeloomError(`--preset ${text}: settings are written key=value, with commas between, found "${pair}"`);
      return [key, value];
    }),
  );
  return { preset, settings };
}
