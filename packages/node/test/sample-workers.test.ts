/** Samples from workers are those of the trainer's thread, whatever their number; their errors name the sample; they end with the run. */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { data, FormatError, init, SpikeloomError } from "spikeloom";
import { beforeAll, describe, expect, it } from "vitest";
import { datasets } from "../src/datasets/index.ts";
import { parseRecipe, type Recipe } from "../src/recipe.ts";
import { type SampleWorkers, startWorkers, workerCount } from "../src/sample-workers.ts";
import { loadSplits, type Splits, trainTransforms } from "../src/samples.ts";
import { buildModel, buildTrainer, loadData, testLoader } from "../src/session.ts";
import { child, fails, folder, smallMnist, succeeds } from "./support.ts";

let images: string;

/** Pictures of 40 x 36 pixels of noise in two classes, 24 to train on and 6 to test on. */
async function makeImages(): Promise<string> {
  const root = folder();
  for (const [split, count] of [
    ["train", 12],
    ["val", 3],
  ] as const)
    for (const name of ["cat", "dog"]) {
      mkdirSync(join(root, split, name), { recursive: true });
      for (let i = 0; i < count; i++) {
        const noise = Uint8Array.from({ length: 40 * 36 * 3 }, (_, p) => (p * 31 + i * 97 + (name === "cat" ? p % 40 : 3 * i)) % 256);
        await sharp(noise, { raw: { width: 40, height: 36, channels: 3 } })
          .png()
          .toFile(join(root, split, name, `${i}.png`));
      }
    }
  return root;
}

const AUGMENT =
  "{ randomResizedCrop: { size: 32 }, flip: 0.5, randAugment: rand-m9-n2-mstd0.5-inc1, colorJitter: { hue: 0.2 }, randomErasing: 0.5 }";
const MODEL = 'embedDims: 16, depths: 1, numHeads: 2, mlpRatio: 1, T: 1, pooling: "1100", imageSize: [32, 32]';

function yaml(dir: string, epochs = 2): string {
  return `model: { name: sdt-v1, config: { ${MODEL}, numClasses: 2 } }
data: { name: image-folder, dir: ${JSON.stringify(dir)}, image: { resize: 34, crop: 32 }, augment: ${AUGMENT} }
train: { epochs: ${epochs}, batchSize: 10 }
device: wasm
threads: 1
seed: 11
`;
}

beforeAll(async () => {
  await init({ device: "wasm", threads: 1, seed: 11 });
  images = await makeImages();
});

async function withWorkers<R>(
  recipe: Recipe,
  splits: Splits,
  count: number,
  use: (workers: SampleWorkers | undefined) => Promise<R>,
): Promise<R> {
  const workers = startWorkers(recipe, splits, count);
  try {
    return await use(workers);
  } finally {
    await workers?.close();
  }
}

/** Every batch of two epochs of training and of a test. */
async function batches(recipe: Recipe, count: number) {
  const set = await loadData(recipe);
  const seen: { x: ArrayLike<number>; labels: Int32Array }[] = [];
  await withWorkers(recipe, set.splits, count, async (workers) => {
    const trainer = buildTrainer(recipe, set, buildModel(recipe, set), {
      signal: new AbortController().signal,
      workers,
      teacher: undefined,
    });
    for (const loader of [trainer.options.loader, trainer.options.loader, testLoader(recipe, set, workers)])
      for await (const { x, labels } of loader) seen.push({ x: x.dataSync(), labels });
  });
  return seen;
}

describe("samples", () => {
  it("are the same with 0, 1 and 2 workers: decoded images with every augmentation", async () => {
    const recipe = parseRecipe(yaml(images), "w.yml");
    const alone = await batches(recipe, 0);
    expect(alone.length).toBe(3 + 3 + 1);
    // The second epoch draws anew.
    expect(alone[3]?.x).not.toEqual(alone[0]?.x);
    expect(await batches(recipe, 1)).toEqual(alone);
    expect(await batches(recipe, 2)).toEqual(alone);
  });

  it("are the same with workers that share the images in memory", async () => {
    const recipe = parseRecipe(
      `model: { name: sdt-v1, config: { ${MODEL.replace("[32, 32]", "[28, 28]")}, inChannels: 1, numClasses: 10 } }
data: { name: mnist, dir: ${JSON.stringify(smallMnist(50, 20))}, augment: { shift: 2, flip: 0.5 }, limit: 40 }
train: { epochs: 1, batchSize: 16 }
`,
      "m.yml",
    );
    const alone = await batches(recipe, 0);
    expect(await batches(recipe, 2)).toEqual(alone);
  });
});

describe("errors", () => {
  it("name the file: a damaged image, and a transform that its size does not fit", async () => {
    const root = await makeImages();
    const bad = join(root, "train", "dog", "3.png");
    writeFileSync(bad, readFileSync(bad).subarray(0, 200));
    const recipe = parseRecipe(yaml(root), "w.yml");
    const splits = await loadSplits(recipe);
    const at = Array.from({ length: splits.train.length }, (_, i) => splits.train.nameOf?.(i)).indexOf(bad);
    await withWorkers(recipe, splits, 1, async (workers) => {
      const prepare = (workers as SampleWorkers).prepare("train");
      await expect(prepare(at, 0)).rejects.toThrow(FormatError);
      await expect(prepare(at, 0)).rejects.toThrow(`${bad}: expected an image`);
      // Others are made all the same.
      expect(await prepare(0, 0)).toMatchObject({ shape: [32, 32, 3], label: 0 });
    });
    const large = parseRecipe(yaml(root), "w.yml", ["data.augment={ randomCrop: { size: 64, padding: 0 } }"]);
    const name = splits.train.nameOf?.(0) as string;
    const expected = `${name}: randomCrop: expected an image of at least 64 x 64`;
    await withWorkers(large, splits, 1, async (workers) => {
      await expect((workers as SampleWorkers).prepare("train")(0, 0)).rejects.toThrow(new RegExp(`^${name}: randomCrop`));
      await expect((workers as SampleWorkers).prepare("train")(0, 0)).rejects.toThrow(SpikeloomError);
    });
    const entry = datasets["image-folder"] as (typeof datasets)[string];
    const loader = new data.Loader(splits.train, { batchSize: 1, transforms: trainTransforms(large, entry) });
    await expect(loader.batchOf([0])).rejects.toThrow(expected);
  });

  it("tell who still waits when workers end, and who asks afterwards", async () => {
    const recipe = parseRecipe(yaml(images), "w.yml");
    const splits = await loadSplits(recipe);
    const workers = startWorkers(recipe, splits, 1) as SampleWorkers;
    const waiting = expect(workers.prepare("train")(0, 0)).rejects.toThrow("the workers that read samples were ended");
    await workers.close();
    await waiting;
    await expect(workers.prepare("test")(0, 0)).rejects.toThrow("were ended");
  });

  it("say that the data changed where a worker finds other samples", async () => {
    const recipe = parseRecipe(yaml(images), "w.yml");
    const splits = await loadSplits(recipe);
    await withWorkers(recipe, { ...splits, train: data.firstOf(splits.train, 5) }, 1, (workers) =>
      expect((workers as SampleWorkers).prepare("train")(0, 0)).rejects.toThrow(
        "the data set image-folder was changed while in use: it had 5 train samples, and has 24",
      ),
    );
  });
});

it("by default: none for data in memory, some for data on disk, and what the recipe says", async () => {
  const recipe = parseRecipe(yaml(images), "w.yml");
  const { train } = await loadSplits(recipe);
  expect(workerCount(recipe, { train })).toBeGreaterThanOrEqual(1);
  expect(workerCount(recipe, { train: { ...train, concurrent: undefined } })).toBe(0);
  expect(workerCount(parseRecipe(yaml(images), "w.yml", ["data.workers=0"]), { train })).toBe(0);
});

it("a run with workers stops at Ctrl-C, ends by itself, and gives the weights of one without", { timeout: 120_000 }, async () => {
  const path = join(folder(), "w.yml");
  writeFileSync(path, yaml(images, 6));
  const [stopped, whole] = [join(folder(), "run"), join(folder(), "run")];
  let sent = false;
  const first = await child(["train", path, "--out", stopped, "--json", "--workers", "2"], (line, run) => {
    if (!sent && JSON.parse(line).step === 4) sent = run.kill("SIGINT");
  });
  expect(first.code, first.err).toBe(130);
  const resumed = await child(["train", "--resume", stopped, "--json", "--workers", "1"]);
  expect(resumed.code, resumed.err).toBe(0);
  const alone = await child(["train", path, "--out", whole, "--json", "--workers", "0"]);
  expect(alone.code, alone.err).toBe(0);
  expect(readFileSync(join(stopped, "model.safetensors")).equals(readFileSync(join(whole, "model.safetensors")))).toBe(true);
});

it.each(["0", "1"])(
  "a damaged file stops a run, which goes on when it is replaced and not when it is removed (workers: %s)",
  async (workers) => {
    const dir = folder();
    cpSync(images, dir, { recursive: true });
    const file = join(dir, "train", "dog", "5.png");
    const whole = readFileSync(file);
    writeFileSync(file, whole.subarray(0, 200));
    const recipe = join(folder(), "r.yml");
    writeFileSync(recipe, yaml(dir, 1));
    const run = join(folder(), "run");
    const message = await fails("train", recipe, "--out", run, "--workers", workers);
    expect(message).toContain(`${file}: expected an image`);
    expect(message).toContain(
      `Open it in a viewer; convert it, or download it again. With the file replaced this run goes on (spikeloom train --resume ${run}); with it removed the data set is another, which needs a new run`,
    );
    rmSync(file);
    expect(await fails("train", "--resume", run, "--workers", workers)).toContain(
      "last.safetensors: the data set has 23 samples now, 24 when the run began: put the files back, or start a new run",
    );
    writeFileSync(file, whole);
    expect(await succeeds("train", "--resume", run, "--workers", workers, "--json")).toContain('"type":"done"');
  },
);
