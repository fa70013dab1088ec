/** `spikeloom predict`: what it says of an image is what evaluating and measuring say; what it draws; what wrong images are told. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import sharp, { type Sharp } from "sharp";
import { data, init, measure, models, nn, noGrad, npz, safetensors, scope, snn, type Tensor, tensor } from "spikeloom";
import { beforeAll, describe, expect, it } from "vitest";
import { datasets } from "../src/datasets/index.ts";
import { createPredictor } from "../src/prediction.ts";
import { readInput } from "../src/prediction-input.ts";
import { parseRecipe, recipeToYaml } from "../src/recipe.ts";
import { RunFolder } from "../src/run-folder.ts";
import { testTransforms } from "../src/samples.ts";
import { testLoader } from "../src/session.ts";
import { openTrained, type TrainedModel } from "../src/trained.ts";
import { fails, folder, smallMnist, smallRecipe, spikeloom, succeeds } from "./support.ts";

const SIZE = 28 * 28;
const DIGITS = 4;
let run: string;
/** Folder of the first test images as PNG. */
let digits: string;
let pixels: Buffer;

const digit = (i: number) => join(digits, `${i}.png`);
const raw = (bytes: Uint8Array | Uint16Array, channels: 1 | 3 | 4 = 1) => sharp(bytes, { raw: { width: 28, height: 28, channels } });
/** A picture in a new folder. */
async function picture(name: string, image: Sharp): Promise<string> {
  const path = join(folder(), name);
  await image.toFile(path);
  return path;
}

interface Result {
  image: string;
  class: string;
  index: number;
  probability: number;
  top: { class: string; index: number; probability: number }[];
  timeSteps: number;
  decidedAfter: number;
  perStep: { index: number; probability: number; ofFinal: number }[];
  changes: string[];
  notes: string[];
  picture: string | null;
  [key: string]: unknown;
}
const parse = (out: string) => JSON.parse(out) as { classes: string[]; results: Result[]; errors: { image: string; message: string }[] };
const predict = async (...args: string[]) => parse(await succeeds("predict", run, "--json", "--no-picture", ...args)).results;
/** What does not depend on where an image came from. */
const verdict = ({ image: _, found: __, changes: ___, notes: ____, picture: _____, ...rest }: Result) => rest;

beforeAll(async () => {
  const source = smallMnist();
  run = join(folder(), "run");
  await succeeds("train", smallRecipe(source), "--out", run, "--set", "train.epochs=5");
  digits = folder();
  pixels = readFileSync(join(source, "t10k-images-idx3-ubyte")).subarray(16);
  for (let i = 0; i < DIGITS; i++) await raw(pixels.subarray(i * SIZE, (i + 1) * SIZE)).toFile(digit(i));
});

describe("what is said of an image", () => {
  it("is what an evaluation of the test set computes, bit for bit, and needs no data", async () => {
    const results = await predict(...[0, 1, 2, 3].map(digit), "--top", "10", "--set", "data.dir=nowhere");
    const { predictions } = JSON.parse(await succeeds("eval", run, "--json")) as { predictions: number[] };
    const { model, recipe, set } = await openTrained({ run });
    model.eval();
    const { x } = await testLoader(recipe, set).batchOf(Int32Array.from({ length: set.test.length }, (_, i) => i));
    const all = scope(() => noGrad(() => nn.softmax(model.forward(x) as Tensor).dataSync()));
    results.forEach((result, i) => {
      const row = [...all.slice(10 * i, 10 * (i + 1))];
      expect(result.index).toBe(predictions[i]);
      for (const { index, probability } of result.top) expect(probability).toBe(row[index]);
      expect(result.top.map((t) => t.probability)).toEqual(row.sort((a, b) => b - a));
      expect(result.top[0]).toEqual({ class: result.class, index: result.index, probability: result.probability });
    });
  });

  it("has operations, energy and firing rate of this very image", async () => {
    const results = await predict(digit(0), digit(1));
    const { model, recipe, set } = await openTrained({ run });
    const loader = testLoader(recipe, set);
    for (const [i, result] of results.entries()) {
      const { x } = await loader.batchOf([i]);
      const { total, rule } = await measure.energy(model, x);
      const rates = await measure.firingRates(model, x);
      const neurons = rates.reduce((n, r) => n + r.neurons, 0);
      expect(result).toMatchObject({
        synapticOperations: total.synOps,
        energyPicojoules: total.energy,
        annEnergyPicojoules: total.annEnergy,
        energyRule: `plain: ${rule}`,
      });
      expect(result.firingRate).toBeCloseTo(rates.reduce((n, r) => n + r.rate * r.neurons, 0) / neurons, 12);
    }
    expect(results[0]?.firingRate).toBeGreaterThan(0.01);
    expect(results[0]?.synapticOperations).not.toBe(results[1]?.synapticOperations);
  });

  it("names the steps, the last of which is the decision", async () => {
    const [result] = (await predict(digit(0))) as [Result];
    expect(result.perStep).toHaveLength(result.timeSteps);
    expect(result.perStep.at(-1)).toMatchObject({ index: result.index, probability: result.probability, ofFinal: result.probability });
  });

  it("does not change with the file format, more bits, colour channels, opacity, or a negative and --invert", async () => {
    const [plain] = (await predict(digit(2))) as [Result];
    const own = pixels.subarray(2 * SIZE, 3 * SIZE);
    const times = (n: number, fourth?: number) =>
      Uint8Array.from({ length: n * SIZE }, (_, i) => (i % n === 3 ? (fourth as number) : (own[Math.floor(i / n)] as number)));
    const same = [
      await picture("a.tiff", raw(own).tiff({ compression: "none" })),
      await picture("a.webp", raw(own).webp({ lossless: true })),
      await picture(
        "b.png",
        raw(Uint16Array.from(own, (v) => 257 * v))
          .toColourspace("grey16")
          .png(),
      ),
      await picture("c.png", raw(times(3), 3)),
      await picture("d.png", raw(times(4, 255), 4)),
    ];
    for (const result of await predict(...same)) expect(verdict(result)).toEqual(verdict(plain));
    const negative = await picture("e.png", raw(Uint8Array.from(own, (v) => 255 - v)));
    const [inverted] = (await predict(negative, "--invert")) as [Result];
    expect(verdict(inverted)).toEqual(verdict(plain));
    expect(inverted.changes).toEqual(["inverted"]);
    const [light] = (await predict(negative)) as [Result];
    expect(light.notes).toEqual([expect.stringContaining("try --invert")]);
  });

  it("says how a picture was brought to the network's size, and when nothing is left to see", async () => {
    const results = await predict(
      await picture("wide.jpg", sharp({ create: { width: 200, height: 100, channels: 3, background: "#803010" } })),
      await picture("one.png", sharp({ create: { width: 1, height: 1, channels: 3, background: "#888" } })),
      await picture("clear.png", sharp({ create: { width: 28, height: 28, channels: 4, background: { r: 0, g: 0, b: 0, alpha: 0 } } })),
    );
    expect(results.map((r) => r.changes)).toEqual([
      ["made grey", "resized to 56 x 28", "cut at the centre to 28 x 28"],
      ["resized to 28 x 28"],
      [],
    ]);
    expect(results.map((r) => [r.width, r.height])).toEqual(Array(3).fill([28, 28]));
    for (const { notes } of results) expect(notes).toEqual([expect.stringContaining("transparency")]);
  });

  it("is told on a terminal, the rule of the energy once", async () => {
    const out = await succeeds("predict", run, digit(0), digit(1), "--top", "2", "--no-picture");
    const [first] = (await predict(digit(0), "--top", "2")) as [Result];
    const show = (p: number) => `${(100 * p).toFixed(1)} %`;
    expect(out).toContain(
      `${digit(0)}: ${first.class} ${show(first.probability)}\n  then     ${first.top[1]?.class} ${show(first.top[1]?.probability ?? 0)}\n`,
    );
    expect(out).toMatch(/decided {2}after [12] of 2 time steps/);
    expect(out).toMatch(/energy {3}[\d.]+ µJ \(estimate, rule "plain"\)/);
    expect(out.match(/^rule "plain": .*T = 2/gm)).toHaveLength(1);
    expect(existsSync(join(run, "predict"))).toBe(false);
  });
});

describe("the page", () => {
  it("goes into the run, one an image, self-contained and escaped", async () => {
    const odd = join(folder(), "<b>&.png");
    writeFileSync(odd, readFileSync(digit(0)));
    const twin = join(folder(), "1.png");
    writeFileSync(twin, readFileSync(digit(2)));
    const { results } = parse(await succeeds("predict", run, digit(1), twin, odd, "--json"));
    expect(results.map((r) => r.picture)).toEqual(["1.html", "1-2.html", "<b>&.html"].map((name) => join(run, "predict", name)));
    expect(readdirSync(join(run, "predict")).sort()).toEqual(["1-2.html", "1.html", "<b>&.html"]);
    const page = readFileSync(join(run, "predict", "<b>&.html"), "utf8");
    expect([...page.matchAll(/<section id="([^"]+)"/g)].map((m) => m[1])).toEqual([
      "prediction",
      "spikes",
      "attention",
      "rasters",
      "energy",
    ]);
    expect(page).not.toContain("<b>&.png");
    expect(page).toContain(`&lt;b&gt;&amp;.png: ${results[2]?.class}`);
    expect(page.match(/(?:src|href)="(?!data:image\/png;base64,|#)[^"]*"/g)).toBeNull();
    expect(page).not.toMatch(/url\(|@import|<link|<iframe/);
    // A map for each step and one of all, of each layer with places; before and after of one block; the image.
    expect(page.match(/<img /g)).toHaveLength(10 * 3 + 2 + 1);
    for (const layer of ["proj_<wbr>lif3", "attn.<wbr>q_<wbr>lif", "mlp.<wbr>fc2_<wbr>lif", "head_<wbr>lif"]) expect(page).toContain(layer);
  });

  it("may go elsewhere, or be a picture of the image, its attention and its spikes", async () => {
    const to = folder();
    await succeeds("predict", run, digit(0), "--picture", join(to, "seven.html"));
    await succeeds("predict", run, digit(0), digit(1), "--picture", join(to, "both.png"));
    await succeeds("predict", run, digit(0), digit(1), "--picture", join(to, "pages"));
    expect(readdirSync(to).sort()).toEqual(["both-0.png", "both-1.png", "pages", "seven.html"]);
    expect(readdirSync(join(to, "pages")).sort()).toEqual(["0.html", "1.html"]);
    const { data: drawn, info } = await sharp(join(to, "both-0.png")).raw().toBuffer({ resolveWithObject: true });
    expect(info).toMatchObject({ width: 16 + 224 + 16 + 48 + 6 + 48 + 16, channels: 3 });
    // The image at eight times its size, below the margin.
    for (const [x, y] of [
      [10, 10],
      [14, 7],
      [12, 20],
    ] as const)
      expect(drawn[3 * ((16 + 8 * y + 4) * info.width + 16 + 8 * x + 4)]).toBe(pixels[28 * y + x]);
  });
});

describe("wrong images", () => {
  it("are told at the end, and the others' results stand", async () => {
    const dir = folder();
    const write = (name: string, content: Uint8Array | string) => {
      writeFileSync(join(dir, name), content);
      return join(dir, name);
    };
    const wrong = {
      [join(dir, "missing.png")]: /cannot read image .*missing.png: there is no such file/,
      [dir]: /it is a folder/,
      [write("text.png", "hello")]: /expected an image/,
      [write("empty.png", "")]: /expected an image/,
      [write("cut.png", readFileSync(digit(0)).subarray(0, 200))]: /expected an image/,
      [await picture("strip.png", sharp({ create: { width: 2000, height: 3, channels: 3, background: "#000" } }))]: /2000 x 3 pixels/,
    };
    const { code, out, err } = await spikeloom("predict", run, digit(0), ...Object.keys(wrong), digit(1), "--json", "--no-picture");
    expect(code).toBe(1);
    const { results, errors } = parse(out);
    expect(results.map((r) => r.image)).toEqual([digit(0), digit(1)]);
    expect(errors.map((e) => e.image)).toEqual(Object.keys(wrong));
    errors.forEach(({ message }, i) => {
      expect(message).toMatch(Object.values(wrong)[i] as RegExp);
      expect(err).toContain(message);
    });
    expect(err).toMatch(/^error: 6 of 8 images have errors\n/);
  });

  it("one alone is told by itself", async () => {
    expect(await fails("predict", run, "none.png")).toMatch(/^error: cannot read image none.png/);
    expect(await fails("predict", run)).toMatch(/missing required argument 'image'/);
    expect(await fails("predict", digits, digit(0))).toMatch(/holds no run/);
    expect(await fails("predict", run, digit(0), "--top", "0")).toMatch(/whole number >= 1/);
  });

  it("a picture that cannot be written costs only itself", async () => {
    const to = folder();
    writeFileSync(join(to, "file"), "");
    const { code, out, err } = await spikeloom("predict", run, digit(0), "--json", "--picture", join(to, "file", "in", "it.html"));
    expect(code).toBe(1);
    expect(err).toMatch(/cannot make the folder .*--no-picture/);
    expect(parse(out).results).toMatchObject([{ image: digit(0), picture: null }]);
    expect(await fails("predict", run, digit(0), "--picture", "page.pdf")).toMatch(
      /--picture page.pdf: expected a file that ends in .html or .png/,
    );
  });
});

describe("other runs", () => {
  /** A run's folder with the weights that the model begins with. */
  async function untrained(yaml: string, metadata: Record<string, string> = {}): Promise<string> {
    await init({ device: "wasm", threads: 1, seed: 1 });
    const recipe = parseRecipe(yaml, "fresh.yml");
    const to = folder();
    writeFileSync(join(to, "recipe.yml"), recipeToYaml(recipe));
    const state = models.createModel(recipe.model.name, recipe.model.config).stateDict();
    writeFileSync(join(to, "model.safetensors"), safetensors.encode(state, metadata));
    return to;
  }
  const TINY = 'embedDims: 16, depths: 1, numHeads: 2, mlpRatio: 1, T: 2, pooling: "1111"';

  it("classes and size are those that the weights file names, where it does so rightly", async () => {
    const yaml = `model: { name: sdt-v1, config: { ${TINY}, inChannels: 1, numClasses: 3, imageSize: [32, 32] } }
data: { name: mnist }
train: { epochs: 1 }
device: wasm
threads: 1
`;
    const with_ = async (metadata: Record<string, string>) => {
      const { classes, results } = parse(await succeeds("predict", await untrained(yaml, metadata), digit(0), "--json", "--no-picture"));
      return [classes.slice(0, 3), results[0]?.width, results[0]?.height];
    };
    expect(await with_({ classes: '["x","y","z"]', sampleShape: "[24,20,1]" })).toEqual([["x", "y", "z"], 20, 24]);
    expect(await with_({})).toEqual([["0", "1", "2"], 32, 32]);
    expect(await with_({ classes: "[1, 2, 3]", sampleShape: "{" })).toEqual([["0", "1", "2"], 32, 32]);
    expect(await with_({ classes: "no JSON", sampleShape: "[-1, 0.5, 3]" })).toEqual([["0", "1", "2"], 32, 32]);
    expect(await with_({ sampleShape: "7" })).toEqual([["0", "1", "2"], 32, 32]);
  });

  it("a picture goes through the recipe's own resizing and cropping", async () => {
    const recipe = parseRecipe(
      `model: { name: sdt-v1, config: { ${TINY}, imageSize: [32, 32] } }
data: { name: image-folder, dir: none, image: { resize: 40, crop: 32, interpolation: bilinear } }
train: { epochs: 1 }
`,
      "folder.yml",
    );
    const noise = Uint8Array.from({ length: 50 * 70 * 3 }, (_, i) => (i * 7919) % 251);
    const path = await picture("noise.png", sharp(noise, { raw: { width: 50, height: 70, channels: 3 } }));
    const { config } = models.resolveModel(recipe.model.name, recipe.model.config);
    const { sample, changes } = await readInput(path, { recipe, config, metadata: {}, invert: false });
    const transforms = testTransforms(recipe, datasets["image-folder"] as (typeof datasets)[string]);
    const loader = new data.Loader(
      { length: 1, classes: 1, get: () => ({ data: noise, shape: [70, 50, 3], label: 0 }) },
      { batchSize: 1, transforms },
    );
    const { x } = await loader.batchOf([0]);
    expect(sample.data).toEqual(x.dataSync());
    expect(changes).toEqual(["resized to 40 x 56", "cut at the centre to 32 x 32"]);
  });

  it("a network of events takes recordings, of events or of frames, and no pictures", async () => {
    const dvs = await untrained(`model: { name: sdt-v1/cifar10-dvs-2-256-tet, config: { ${TINY} } }
data: { name: cifar10-dvs, timeSteps: 3 }
train: { epochs: 1 }
device: wasm
threads: 1
`);
    const events = 300;
    const axis = (values: (i: number) => number) => ({
      ...{ dtype: "f64" as const, shape: [events] },
      data: Float64Array.from({ length: events }, (_, i) => values(i)),
    });
    const recording = join(folder(), "a.npz");
    writeFileSync(
      recording,
      await npz.encode(
        new Map([
          ["t", axis((i) => i)],
          ["x", axis((i) => i % 128)],
          ["y", axis((i) => (7 * i) % 128)],
          ["p", axis((i) => i % 2)],
        ]),
      ),
    );
    const frames = join(folder(), "b.npz");
    const counts = new Float32Array(3 * 2 * 128 * 128);
    for (let i = 0; i < events; i++) {
      const at = ((Math.floor(i / 100) * 2 + (i % 2)) * 128 + ((7 * i) % 128)) * 128 + (i % 128);
      counts[at] = (counts[at] as number) + 1;
    }
    writeFileSync(frames, await npz.encode(new Map([["frames", { dtype: "f32", shape: [3, 2, 128, 128], data: counts }]])));
    const { results } = parse(await succeeds("predict", dvs, recording, frames, "--json"));
    const [first, second] = results as [Result, Result];
    expect(verdict(first)).toEqual(verdict(second));
    expect(first).toMatchObject({ timeSteps: 3, found: "3 frames of 64 x 64 pixels" });
    expect(readFileSync(first.picture as string, "utf8")).toContain("As the network saw it: 3 frames of 64 x 64 pixels");
    expect(await fails("predict", dvs, digit(0))).toMatch(
      /expected a recording \(.npz or .aedat\), since the network was trained on events/,
    );
    expect(await fails("predict", dvs, recording, "--invert")).toMatch(/--invert is for pictures/);
  });

  it("the step that decided is the one after which no other class led", async () => {
    const info = await init({ device: "wasm", threads: 1 });
    /** Gives these logits step by step, whatever it sees. */
    class Scripted extends nn.Module {
      lif = new snn.LIF();
      head = new nn.Linear(1, 1);
      logits: number[][] = [];
      forward(x: Tensor): Tensor {
        this.head.forward(this.lif.forward(x.reshape([1, ...x.shape])));
        return tensor(this.logits.flat(), undefined).reshape([this.logits.length, 1, 2]);
      }
    }
    const model = new Scripted();
    const recipe = parseRecipe(
      `model: { name: sdt-v1, config: { inChannels: 1 } }\ndata: { name: mnist }\ntrain: { epochs: 1 }\n`,
      "s.yml",
    );
    const system = { ...models.findSystem("sdt-v1"), energyTable: undefined, attention: undefined };
    const trained = { folder: new RunFolder(folder()), recipe, engine: info, model, system, metadata: {} } as unknown as TrainedModel;
    const decided = async (...logits: number[][]) => {
      model.logits = logits;
      const { index, decidedAfter, interim } = await createPredictor(trained).predict(digit(0));
      return [index, decidedAfter, interim?.map((s) => s.index).join("")];
    };
    expect(await decided([1, 0], [1, 0], [1, 0])).toEqual([0, 1, "000"]);
    expect(await decided([0, 1], [3, 0], [0, 1])).toEqual([0, 2, "100"]);
    expect(await decided([1, 0], [0, 3], [4, 0], [0, 9])).toEqual([1, 4, "0101"]);
    // Equal logits: the first class, as in an evaluation.
    expect(await decided([0, 2], [2, 0])).toEqual([0, 2, "10"]);
  });
});

it("a run without weights, or whose folder is not one, is told before any image is read", async () => {
  const empty = folder();
  mkdirSync(join(empty, "sub"));
  writeFileSync(join(empty, "recipe.yml"), readFileSync(join(run, "recipe.yml")));
  expect(await fails("predict", empty, "missing.png")).toMatch(/train it first/);
  expect(await fails("predict", join(empty, "sub"), "missing.png")).toMatch(/holds no run/);
  expect(await fails("predict", run, digit(0), "--weights", "best", "--set", "model.config.embedDims=32")).toMatch(/must be of shape/);
});
