/**
 * What a run's report shows, as plain JSON: the training loop and the measurements fill it, `renderReport` draws it. Numbers are
 * raw (rates and accuracies from 0 to 1, energies in picojoules); null stands for a value that does not exist or is not finite.
 * A part that is left out has no section.
 */
import type { measure, models } from "spikeloom";

export interface ReportData {
  /** Name of the run. */
  readonly name: string;
  readonly summary: ReportSummary;
  readonly history?: ReportHistory;
  readonly confusion?: ReportConfusion;
  /** In the order of the network. */
  readonly rates?: readonly ReportRate[];
  /** Some test images, for rasters and attention maps. */
  readonly samples?: readonly ReportSample[];
  /** As `measure.energy` gives it. */
  readonly energy?: measure.EnergyReport;
  /** The same by every convention, for comparison. */
  readonly presets?: readonly measure.EnergyReport[];
  readonly memory?: ReportMemory;
  /** The recipe as YAML, every default written out. */
  readonly recipe?: string;
  /** A command line that does the same again. */
  readonly command?: string;
}

/** As `measure.survey` gives them. */
export type ReportMemory = Pick<measure.Survey, "footprint" | "neurobench">;

export interface ReportSummary {
  /** Model and its size, such as `sdt-v1/mnist`. */
  readonly model: string;
  readonly dataset: string;
  /** On the test set after training, 0 to 1. */
  readonly testAccuracy: number | null;
  readonly testLoss?: number | null;
  readonly testImages: number;
  /** Trainable parameters. */
  readonly parameters: number;
  /** Steps of time T. */
  readonly timeSteps: number;
  readonly epochs: number;
  /** Time in the training loop, over all resumed parts. */
  readonly trainingSeconds: number;
  /** Training images in a second, averaged over the run. */
  readonly imagesPerSecond?: number;
  /** Largest resident memory of the process. */
  readonly peakMemoryBytes?: number;
  /** Spikes over neurons times T, over all neurons and the test images looked at; 0 to 1. */
  readonly firingRate: number | null;
  /** reference, wasm or native. */
  readonly device: string;
  /** Instruction set, such as avx512. */
  readonly isa: string;
  readonly threads: number;
  readonly seed: number;
  /** Processor's name. */
  readonly cpu?: string;
  /** Versions that made the run: name and version, such as { spikeloom: "0.1.0", node: "20.20.2" }. */
  readonly versions?: Readonly<Record<string, string>>;
  /** End of the run, ISO 8601. */
  readonly finishedAt?: string;
  /** What its reader must know before anything else: that the training did not learn, keys that did nothing. */
  readonly warnings?: readonly string[];
}

/** Curves. Any number of steps may be given; drawing thins them out. */
export interface ReportHistory {
  /** Optimiser steps, oldest first. */
  readonly steps: readonly {
    /** Time in epochs: 1.5 is the middle of the second epoch. */
    readonly epoch: number;
    readonly loss: number | null;
    readonly learningRate: number;
    /** Mean over all neurons in this batch, 0 to 1. */
    readonly firingRate?: number | null;
  }[];
  /** Finished epochs, numbered from 1. */
  readonly epochs: readonly {
    readonly epoch: number;
    readonly trainLoss: number | null;
    readonly trainAccuracy?: number | null;
    readonly testLoss?: number | null;
    readonly testAccuracy?: number | null;
    /** Mean over the epoch's training batches, 0 to 1. */
    readonly firingRate?: number | null;
    readonly seconds?: number;
  }[];
}

export interface ReportConfusion {
  /** Names of the classes. */
  readonly classes: readonly string[];
  /** counts[true class][predicted class], test images. */
  readonly counts: readonly (readonly number[])[];
}

export interface ReportRate {
  /** Layer's path in the model. */
  readonly layer: string;
  /** Neurons for one image and one step. */
  readonly neurons: number;
  /** Mean firing rate at each step t over neurons and the test images looked at, 0 to 1 (to D for integer spikes). */
  readonly perStep: readonly number[];
}

export interface ReportSample {
  /** Position in the test set. */
  readonly index: number;
  readonly image: ReportImage;
  /** Names of the true and of the predicted class. */
  readonly label: string;
  readonly predicted: string;
  /** Softmax of the predicted class, 0 to 1. */
  readonly confidence?: number;
  readonly rasters?: readonly ReportRaster[];
  readonly attention?: readonly ReportAttention[];
}

/** Pixels in reading order, channels last. */
export interface ReportImage {
  readonly width: number;
  readonly height: number;
  /** Grey or red, green, blue. */
  readonly channels: 1 | 3;
  /** Base64 of height * width * channels bytes. */
  readonly pixels: string;
}

/** Which neurons of a layer fired when, for one image. */
export interface ReportRaster {
  readonly layer: string;
  readonly timeSteps: number;
  /** Neurons in `bits`. */
  readonly neurons: number;
  /** Neurons of the layer, where `bits` holds only some of them, evenly spaced. */
  readonly ofNeurons?: number;
  /** Share of all the layer's neurons and steps with a spike; of those in `bits` where not given. */
  readonly rate?: number;
  /**
   * Base64 of timeSteps * neurons bits: neuron n at step t is bit (t * neurons + n) % 8, the lowest being 0, of byte
   * floor((t * neurons + n) / 8). See `packBits`.
   */
  readonly bits: string;
}

/** One block's attention for one image. */
export interface ReportAttention {
  /** What the two maps are called and mean. */
  readonly legend: models.AttentionLegend;
  /** Block's path in the model. */
  readonly block: string;
  readonly width: number;
  readonly height: number;
  /** Firing rates at each position in reading order, averaged over T and channels; 0 to 1. */
  readonly before: readonly number[];
  readonly after: readonly number[];
}

/** Base64 of bits for `ReportRaster.bits`. @param fired timeSteps * neurons values, step by step; not zero is a spike */
export function packBits(fired: ArrayLike<number>): string {
  const bytes = new Uint8Array(Math.ceil(fired.length / 8));
  for (let i = 0; i < fired.length; i++) if (fired[i]) bytes[i >> 3] = (bytes[i >> 3] as number) | (1 << (i & 7));
  return Buffer.from(bytes).toString("base64");
}
