/** `spikeloom predict`: what a run's network takes images for, what each costs, and a page or picture of its spikes for each. */
import { existsSync, statSync } from "node:fs";
import { basename, dirname, extname, join } from "node:path";
import { SpikeloomError } from "spikeloom";
import { diskError, makeFolder, writeFileAtomic } from "../files.ts";
import { createPredictor, type Prediction } from "../prediction.ts";
import { count, energy as joules, percent } from "../report/format.ts";
import { type PredictionSource, renderPrediction } from "../report/prediction.ts";
import { predictionPng } from "../report/prediction-picture.ts";
import { openModel, type TrainedOptions } from "../trained.ts";
import { versions } from "../versions.ts";

/** Folder of pages in the run's. */
const FOLDER = "predict";
const ENDINGS: readonly string[] = [".html", ".htm", ".png"];

export interface PredictOptions extends TrainedOptions {
  /** Files. */
  images: readonly string[];
  invert?: boolean | undefined;
  /** Classes that are named. */
  top?: number | undefined;
  json?: boolean | undefined;
  /** A file, or a folder; false for none. */
  picture?: string | false | undefined;
}

export async function run({ images, invert, top = 3, json, picture, ...options }: PredictOptions): Promise<void> {
  const places = picture === false ? undefined : placesFor(images, picture ?? join(options.run, FOLDER));
  const trained = await openModel(options);
  const { recipe, engine } = trained;
  const { classes, predict } = createPredictor(trained, { invert });
  const results: unknown[] = [];
  let rule: Prediction["energy"] | undefined;
  const failures: { image: string; message: string }[] = [];
  for (const [i, image] of images.entries()) {
    try {
      const prediction = await predict(image);
      rule = prediction.energy;
      if (!json) print(image, prediction, top);
      const place = places?.[i];
      const result = { image, ...summary(prediction, top), picture: place ?? null };
      results.push(result);
      if (place === undefined) continue;
      const source = {
        ...{ name: basename(image), run: recipe.name, model: recipe.model.name, dataset: recipe.data.name },
        device: `${engine.device}, ${engine.isa}`,
        version: versions().spikeloom,
      };
      await write(place, prediction, source).catch((error: unknown) => {
        result.picture = null;
        throw error;
      });
      if (!json) console.log(`  picture  ${place}`);
    } catch (error) {
      // What is wrong with one image is told when the others are done.
      if (!(error instanceof SpikeloomError)) throw error;
      failures.push({ image, message: error.message });
    }
  }
  if (json) {
    const { device, isa, threads } = engine;
    console.log(JSON.stringify({ run: options.run, model: recipe.model.name, classes, results, errors: failures, device, isa, threads }));
  } else if (rule) console.log(`rule "${rule.preset}": ${rule.rule}`);
  const [first] = failures;
  if (!first) return;
  const what = images.length > 1 ? `${failures.length} of ${images.length} images have errors\n` : "";
  throw new SpikeloomError(what ? `${what}${failures.map(({ message }) => `  ${message}`).join("\n")}` : first.message);
}

function print(image: string, p: Prediction, top: number): void {
  const { total, preset } = p.energy;
  const named = (s: Pick<Prediction, "class" | "probability">) => `${s.class} ${percent(s.probability, 1)}`;
  const rows: [string, string | undefined][] = [
    ["then", p.ranking.slice(1, top).map(named).join(", ")],
    ["seen as", [`${p.image.width} x ${p.image.height}`, p.changes.join(", ")].filter(Boolean).join(": ")],
    ["decided", p.decidedAfter === undefined ? undefined : `after ${p.decidedAfter} of ${p.timeSteps} time steps`],
    ["firing", `${percent(p.firingRate)} of neurons and steps; ${count(total.synOps)} synaptic operations`],
    ["energy", `${joules(total.energy)} (estimate, rule "${preset}"); as an ANN ${joules(total.annEnergy)}`],
    ...p.notes.map((note): [string, string] => ["note", note]),
  ];
  console.log(`${image}: ${named(p)}`);
  for (const [name, value] of rows) if (value) console.log(`  ${name.padEnd(8)} ${value}`);
}

/** For machines: raw numbers, energies in picojoules. */
function summary(p: Prediction, top: number) {
  const { preset, rule, total } = p.energy;
  return {
    ...{ class: p.class, index: p.index, probability: p.probability, top: p.ranking.slice(0, top) },
    ...{ timeSteps: p.timeSteps, decidedAfter: p.decidedAfter ?? null, perStep: p.interim ?? null },
    ...{ firingRate: p.firingRate, synapticOperations: total.synOps, macs: total.macs, acs: total.acs },
    ...{ energyPicojoules: total.energy, annEnergyPicojoules: total.annEnergy, energyRule: `${preset}: ${rule}` },
    ...{ found: p.found, width: p.image.width, height: p.image.height, changes: p.changes, notes: p.notes },
    picture: null as string | null,
  };
}

async function write(path: string, prediction: Prediction, source: PredictionSource): Promise<void> {
  const content = extname(path).toLowerCase() === ".png" ? predictionPng(prediction) : renderPrediction(prediction, source);
  try {
    makeFolder(dirname(path));
    await writeFileAtomic(path, content);
  } catch (error) {
    const { message, cause } = diskError(error, `cannot make the folder ${dirname(path)}`);
    throw new SpikeloomError(`${message} To write elsewhere: --picture; nothing: --no-picture.`, { cause: cause ?? error });
  }
}

/**
 * Where each image's page goes. A folder takes a page for each; a file (.html or .png) is that of the only image, and of several
 * gives their names an ending: `out.png` becomes `out-seven.png`.
 * @throws SpikeloomError for a file of another ending
 */
function placesFor(images: readonly string[], picture: string): string[] {
  const ending = extname(picture);
  const isFile = ENDINGS.includes(ending.toLowerCase()) && !isFolder(picture);
  if (ending && !isFile && !isFolder(picture) && !/[\\/]$/.test(picture))
    throw new SpikeloomError(`--picture ${picture}: expected a file that ends in .html or .png, or a folder (then with / at the end)`);
  if (isFile && images.length === 1) return [picture];
  const taken = new Set<string>();
  return images.map((image) => {
    const name = basename(image, extname(image));
    let unique = name;
    for (let n = 2; taken.has(unique); n++) unique = `${name}-${n}`;
    taken.add(unique);
    return isFile ? `${picture.slice(0, -ending.length)}-${unique}${ending}` : join(picture, `${unique}.html`);
  });
}

function isFolder(path: string): boolean {
  return existsSync(path) && statSync(path).isDirectory();
}
