/** From a file to what the network takes: decoded, brought to the data set's channels and size, normalised as in training. */
import { data, random, SpikeloomError } from "spikeloom";
import { type DatasetEntry, datasets } from "./datasets/index.ts";
import { readImage } from "./images.ts";
import type { Recipe } from "./recipe.ts";
import { fitting, normalisation } from "./samples.ts";

/** Longer side over shorter: resized by its shorter side, a longer strip would fill the memory and then be cut away. */
const MOST_ELONGATED = 100;
/** A light picture for a data set whose mean is darker than this is likely its negative. */
const DARK = 0.35;

export interface InputSettings {
  recipe: Recipe;
  /** The model's full configuration. */
  config: Readonly<Record<string, unknown>>;
  /** What the weights file says of itself. */
  metadata: Readonly<Record<string, string>>;
  /** Exchange light and dark. */
  invert: boolean;
}

/** What the network is shown. */
export interface Input {
  sample: data.Sample;
  /** What is in the file: "640 x 480 pixels". */
  found: string;
  /** What was done to bring it to the network: "resized to 43 x 32". */
  changes: string[];
  /** What its user should know, in whole sentences. */
  notes: string[];
}

/**
 * Read a picture, or a recording where the network was trained on events.
 * @throws SpikeloomError when it cannot be read or used, FormatError when it is damaged or something else
 */
export async function readInput(path: string, settings: InputSettings): Promise<Input> {
  const entry = datasets[settings.recipe.data.name] as DatasetEntry;
  return entry.readSample ? readRecording(path, settings, entry) : readPicture(path, settings, entry);
}

async function readRecording(path: string, { recipe, invert }: InputSettings, entry: DatasetEntry): Promise<Input> {
  const { name, timeSteps, splitBy } = recipe.data;
  if (invert) throw new SpikeloomError(`${path}: --invert is for pictures, but the network was trained on events (${name})`);
  if (!/\.(npz|aedat)$/.test(path))
    throw new SpikeloomError(
      `${path}: expected a recording (.npz or .aedat), since the network was trained on events (${name}); found a file of another ending`,
    );
  const sample = (await entry.readSample?.(path, { splitBy, ...(timeSteps === undefined ? {} : { timeSteps }) })) as data.Sample;
  const [frames, height, width] = sample.shape;
  return { sample, found: `${frames} frames of ${width} x ${height} pixels`, changes: [], notes: [] };
}

async function readPicture(path: string, { recipe, config, metadata, invert }: InputSettings, entry: DatasetEntry): Promise<Input> {
  let sample = await readImage(path);
  const [height, width] = sample.shape as [number, number];
  if (Math.max(height, width) > MOST_ELONGATED * Math.min(height, width))
    throw new SpikeloomError(
      `${path}: expected a picture at most ${MOST_ELONGATED} times as long as wide, found ${width} x ${height} pixels. Cut out the part that matters.`,
    );
  const { inChannels = entry.mean.length } = config;
  if (inChannels !== 1 && inChannels !== 3)
    throw new SpikeloomError(`${path}: a picture has 1 or 3 channels, but the network takes ${inChannels}`);
  const changes: string[] = [];
  if (inChannels === 1 && !isGrey(sample.data)) changes.push("made grey");
  if (invert) changes.push("inverted");
  const rng = random().stream("augment.predict");
  const apply = (transforms: readonly data.Transform[]) => {
    for (const transform of transforms) {
      const [h, w] = sample.shape;
      sample = transform.apply(sample, rng);
      const [toH, toW] = sample.shape;
      if (toH !== h || toW !== w) changes.push(`${transform.name === "resize" ? "resized" : "cut at the centre"} to ${toW} x ${toH}`);
    }
  };
  apply([...(inChannels === 1 ? [data.grayscale()] : []), ...(invert ? [inverted] : []), ...fitting(recipe)]);
  const size = sizeOf(metadata, config);
  if (size) apply(covering(sample, size, recipe));
  const notes = remarks(sample.data, recipe, entry);
  apply(normalisation(entry));
  return { sample, found: `${width} x ${height} pixels`, changes, notes };
}

const inverted: data.Transform = { name: "invert", apply: (sample) => ({ ...sample, data: sample.data.map((v) => 255 - v) }) };

function isGrey(rgb: ArrayLike<number>): boolean {
  for (let i = 0; i < rgb.length; i += 3) if (rgb[i] !== rgb[i + 1] || rgb[i] !== rgb[i + 2]) return false;
  return true;
}

/** Height and width of what the network was trained on: as the run noted it, else as the model was made for. */
function sizeOf(metadata: InputSettings["metadata"], { imageSize }: InputSettings["config"]): readonly [number, number] | undefined {
  let noted: unknown;
  try {
    noted = (JSON.parse(metadata.sampleShape ?? "[]") as unknown[]).slice(-3, -1);
  } catch {
    // A weights file that something else wrote.
  }
  return [noted, imageSize].find(
    (size): size is [number, number] => Array.isArray(size) && size.length === 2 && size.every((n) => Number.isInteger(n) && n > 0),
  );
}

/** The largest part of the image that has the size's proportions, at that size. An image of that size stays as it is. */
function covering({ shape }: data.Sample, [height, width]: readonly [number, number], { data: { image } }: Recipe): data.Transform[] {
  const [h, w] = shape as [number, number];
  const scale = Math.max(height / h, width / w);
  const to = [Math.max(height, Math.round(h * scale)), Math.max(width, Math.round(w * scale))] as const;
  return [data.resize(to, { interpolation: image.interpolation }), data.centerCrop([height, width])];
}

function remarks(seen: ArrayLike<number>, { data: { name } }: Recipe, { mean }: DatasetEntry): string[] {
  let sum = 0;
  let alike = true;
  for (let i = 0; i < seen.length; i++) {
    sum += seen[i] as number;
    alike &&= seen[i] === seen[i % mean.length];
  }
  if (alike)
    return ["Every pixel that the network sees is alike. Is the picture in its transparency? That is left out: save it on a background."];
  if (mean.length === 1 && (mean[0] as number) < DARK && sum > 127.5 * seen.length)
    return [`The picture is light, but ${name} is light on dark: try --invert.`];
  return [];
}
