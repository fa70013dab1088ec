/** Recipes: defaults, overrides, and errors that name path, line, expected, found and the nearest right key. */
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { optim, SpikeloomError } from "spikeloom";
import { describe, expect, it } from "vitest";
import { durationSeconds, learningRate, loadRecipe, parseRecipe, recipeEpochs, recipeToYaml, recipeWarnings } from "../src/recipe.ts";
import { knownNames } from "../src/session.ts";

const MINIMAL = `model:
  name: sdt-v1/mnist
data: { name: mnist }
train:
  epochs: 2
`;

function problem(source: string, sets: string[] = [], known = {}): string {
  try {
    parseRecipe(source, "r.yml", sets, known);
  } catch (error) {
    expect(error).toBeInstanceOf(SpikeloomError);
    return (error as Error).message;
  }
  throw new Error("the recipe was taken");
}

describe("a recipe that is right", () => {
  it("fills in every default", () => {
    const recipe = parseRecipe(MINIMAL, "some/where/mnist small.yml");
    expect(recipe).toMatchObject({
      name: "mnist-small",
      model: { name: "sdt-v1/mnist", config: {} },
      data: { name: "mnist", augment: { shift: 0 } },
      seed: 0,
      saveEvery: 1,
    });
    expect(recipe.train.optimizer).toEqual({
      ...{ name: "adamw", lr: 1e-3, weightDecay: 0.01 },
      ...{ decayAll: false, betas: [0.9, 0.999], eps: 1e-8 },
    });
    expect(recipe.train.schedule).toEqual({
      ...{ name: "cosine", warmupEpochs: 0, warmupLr: 0, warmupPrefix: false },
      ...{ minLr: 0, cooldownEpochs: 0, per: "step" },
    });
    expect(recipe.train.loss).toEqual({ base: "ce" });
    expect(recipe.data.augment.flip).toBe(0);
    expect(parseRecipe(MINIMAL, "r.yml", ["data.augment.mix={mixup: 0.5}"]).data.augment.mix).toEqual({
      mixup: 0.5,
      cutmix: 0,
      probability: 1,
      switchProbability: 0.5,
    });
  });

  it("is the same recipe when written and read again", () => {
    const sets = ["train.loss.tet={}", "train.optimizer={name: sgd, nesterov: true}", "train.schedule.name=step", "saveEvery=90s"];
    const recipe = parseRecipe(MINIMAL, "r.yml", sets);
    expect(recipe.train.loss.tet).toEqual({ lambda: 1e-3, means: 1 });
    expect(recipe.train.schedule).toMatchObject({ name: "step", decayEpochs: 30 });
    expect(parseRecipe(recipeToYaml(recipe), "other.yml")).toEqual(recipe);
  });

  it("is read from a file", async () => {
    const path = join(await mkdtemp(join(tmpdir(), "spikeloom-recipe-")), "mine.yml");
    await writeFile(path, MINIMAL);
    expect((await loadRecipe(path, ["train.epochs=7"])).train.epochs).toBe(7);
    await expect(loadRecipe(`${path}.no`)).rejects.toThrow(/cannot read recipe .*mine\.yml\.no/);
  });
});

describe("--set", () => {
  it("of an optimiser or schedule without a name means the default one", () => {
    const { train } = parseRecipe(MINIMAL, "r.yml", ["train.optimizer={lr: 0.5}", "train.schedule={minLr: 0.1}"]);
    expect(train.optimizer).toMatchObject({ name: "adamw", lr: 0.5 });
    expect(train.schedule).toMatchObject({ name: "cosine", minLr: 0.1 });
  });

  it("without a value takes a key away", () => {
    const recipe = parseRecipe(`${MINIMAL}out: somewhere\n`, "r.yml", ["out=", "data.dir="]);
    expect(recipe.out).toBeUndefined();
    expect(recipe.data.dir).toBeUndefined();
  });

  it("takes YAML values, makes missing parents and reaches into lists", () => {
    const recipe = parseRecipe(`${MINIMAL}out:\n`, "r.yml", [
      "train.optimizer.name=adamw",
      "train.optimizer.betas=[0.8, 0.99]",
      "train.optimizer.betas.0=0.7",
      "model.config.depth=3",
      "data.augment.shift=2",
      "train.clipNorm=1e0",
      "out=a=b",
    ]);
    expect(recipe.train.optimizer).toMatchObject({ betas: [0.7, 0.99] });
    expect(recipe).toMatchObject({ model: { config: { depth: 3 } }, data: { augment: { shift: 2 } }, train: { clipNorm: 1 }, out: "a=b" });
  });

  it("refuses what is no assignment, no YAML, or below a value", () => {
    expect(problem(MINIMAL, ["train.epochs"])).toBe(
      "--set train.epochs: expected path=value with a dotted path, such as --set train.optimizer.lr=0.001.",
    );
    expect(problem(MINIMAL, ["train..epochs=1"])).toContain("expected path=value");
    expect(problem(MINIMAL, ["train.epochs=[1"])).toContain("--set train.epochs=[1: the value is not YAML");
    expect(problem(MINIMAL, ["train.epochs.x=1"])).toBe("--set train.epochs.x=1: train.epochs is 2, which has no parts to set.");
  });

  it("is named as the origin of a wrong value", () => {
    expect(problem(MINIMAL, ["train.epochs=ten"])).toBe('r.yml: --set: train.epochs: expected a whole number >= 1, found "ten".');
  });

  it("cannot reach prototypes", () => {
    expect(problem(MINIMAL, ["__proto__.polluted=1"])).toContain("__proto__");
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
  });
});

describe("a wrong recipe", () => {
  it.each([
    ["train:\n  epoch: 1\n", "train.epoch is no key of a recipe. Did you mean train.epochs?"],
    ["train:\n  epochs: 1\n  lr: 0.1\n", "train.lr is no key of a recipe. Did you mean train.optimizer.lr?"],
    [
      "train:\n  epochs: 1\n  optimizer: { name: sgd, betas: [0.9, 0.99] }\n",
      "train.optimizer.betas is no key of a recipe. train.optimizer has name, lr",
    ],
    ["train:\n  epochs: 1\n  optimizer: { name: sgd, momentun: 0.5 }\n", "Did you mean train.optimizer.momentum?"],
    ["train:\n  epochs: 1\nsead: 3\n", "sead is no key of a recipe. Did you mean seed?"],
  ])("names the nearest key: %j", (source, expected) => {
    expect(problem(`model: { name: m }\ndata: { name: mnist }\n${source}`)).toContain(expected);
  });

  it.each([
    ["train.epochs=1.5", "train.epochs: expected a whole number >= 1, found 1.5."],
    ["train.batchSize=0", "train.batchSize: expected a whole number >= 1, found 0."],
    ["train.optimizer.lr=-1", "train.optimizer.lr: expected a number > 0, found -1."],
    ["train.optimizer.betas=[0.9, 1]", "train.optimizer.betas.1: expected a number from 0 to below 1, found 1."],
    ["train.optimizer.betas=0.9", "train.optimizer.betas: expected two numbers, such as [0.9, 0.999], found 0.9."],
    ["train.optimizer.name=adamv", 'train.optimizer.name: expected one of adamw, lamb, sgd, found "adamv". Did you mean "adamw"?'],
    ["train.schedule=cosine", 'train.schedule: expected a mapping, found "cosine".'],
    ["device=gpu", 'device: expected one of auto, native, wasm, reference, found "gpu".'],
    ["device=natve", 'found "natve". Did you mean "native"?'],
    ["saveEvery=5 days", 'saveEvery: expected minutes as a number, or a duration such as "30s", "5m" or "1h", found "5 days".'],
    ["data=[1, 2]", "data: expected a mapping, found the list [1,2]."],
    ["name=../up", 'name: expected letters, digits, dots, dashes and underscores, not beginning with a dot or dash, found "../up".'],
  ])("says path, expected and found: %s", (set, expected) => {
    expect(problem(MINIMAL.replace("train:\n", "train:\n  optimizer: { name: adamw }\n"), [set])).toContain(expected);
  });

  it("gives the line and lists all mistakes", () => {
    expect(problem("model:\n  name: 3\ndata: { name: mnist }\ntrain: {}\nsaevEvery: 1\n")).toBe(
      [
        "r.yml: 3 mistakes",
        "  line 2: model.name: expected text, found 3.",
        "  line 4: train.epochs is missing: expected a whole number >= 1.",
        "  line 5: saevEvery is no key of a recipe. Did you mean saveEvery?",
      ].join("\n"),
    );
  });

  it("gives line and column of a YAML mistake", () => {
    expect(problem("model:\n  name: [a\ntrain: 1\n")).toMatch(/^r\.yml:3:1: this is not YAML: /);
    expect(problem("seed: 1\nseed: 2\n")).toMatch(/^r\.yml:2:1: this is not YAML: .*unique/);
    expect(problem("- a\n- b\n")).toBe('r.yml: expected a mapping (name: value lines), found the list ["a","b"].');
    expect(problem("")).toContain("model is missing: expected a mapping.");
  });

  it("asks the caller which models and data sets there are", () => {
    const known = { models: () => ["sdt-v1/mnist", "sdt-v1/cifar"], datasets: () => ["mnist", "fashion-mnist"] };
    expect(parseRecipe(MINIMAL, "r.yml", [], known).model.name).toBe("sdt-v1/mnist");
    expect(problem(MINIMAL, ["model.name=sdt-v1/mnits"], known)).toBe(
      'r.yml: --set: model.name: there is no model "sdt-v1/mnits". Did you mean "sdt-v1/mnist"?',
    );
    expect(problem(MINIMAL.replace("{ name: mnist }", "{ name: imagenet }"), [], known)).toBe(
      'r.yml: line 3: data.name: there is no data set "imagenet". There are mnist, fashion-mnist.',
    );
  });
});

it("durations are minutes, or carry their unit", () => {
  expect([1, "90s", "5m", " 1.5 h", "2"].map(durationSeconds)).toEqual([60, 90, 300, 5400, 120]);
  expect([0, -1, "", "5d", "m", Number.NaN].map(durationSeconds)).toEqual(Array(6).fill(undefined));
});

describe("keys that do nothing", () => {
  const known = { isEvents: (name: string) => name === "cifar10-dvs" };
  const EVENTS = MINIMAL.replace("name: mnist", "name: cifar10-dvs");

  it.each([
    ["data.timeSteps=10", "data.timeSteps has no effect on mnist: it is for event recordings, and these are images."],
    ["data.splitBy=time", "data.splitBy has no effect on mnist"],
    ["train.loss.targetThreshold=0.2", "train.loss.targetThreshold has no effect on cross-entropy: set train.loss.base=bce"],
  ])("are a mistake where the data or the loss has no use for them: %s", (set, expected) => {
    expect(problem(MINIMAL, [set], known)).toContain(`r.yml: --set: ${expected}`);
  });

  it("are a mistake with their line, and none with the data that they are for", () => {
    const lines = "data:\n  name: DATA\n  timeSteps: 4\n  splitBy: time\n";
    const of = (name: string) => MINIMAL.replace("data: { name: mnist }\n", lines.replace("DATA", name));
    expect(problem(of("mnist"), [], known)).toMatch(/^r\.yml: 2 mistakes\n {2}line 5: data\.timeSteps .*\n {2}line 6: data\.splitBy/);
    expect(parseRecipe(of("cifar10-dvs"), "r.yml", [], known).data).toMatchObject({ timeSteps: 4, splitBy: "time" });
    expect(problem(EVENTS, ["data.augment.randAugment=rand-m9"], known)).toContain(
      "data.augment.randAugment cannot be used with cifar10-dvs",
    );
    expect(problem(EVENTS, ["data.augment.colorJitter={ hue: 0.1 }"], known)).toContain("data.augment.colorJitter cannot be used");
  });

  const warnings = (...lines: string[]) => recipeWarnings(parseRecipe(`${MINIMAL}${lines.map((l) => `  ${l}\n`).join("")}`, "r.yml"));

  it.each([
    [
      "schedule: { name: multistep, milestones: [1, 2, 150] }",
      "r.yml: line 6: train.schedule.milestones = [1, 2, 150]: 2 and 150 are never reached in a run of 2 epochs (train.epochs)",
    ],
    ["schedule: { warmupEpochs: 2 }", "r.yml: line 6: train.schedule.warmupEpochs = 2 never ends in a run of 2 epochs"],
    ["schedule: { warmupLr: 0.1 }", "r.yml: line 6: train.schedule.warmupLr has no effect without train.schedule.warmupEpochs"],
    ["schedule: { name: step }", "r.yml: line 6: train.schedule.decayEpochs = 30 is never reached"],
  ])("are told where the run is too short for them: %s", (line, expected) => {
    expect(warnings(line)).toEqual([expect.stringContaining(expected)]);
  });

  it("are none where the run is long enough", () => {
    expect(warnings("schedule: { name: multistep, milestones: [1, 1.5], warmupEpochs: 0.5, warmupLr: 0.1 }")).toEqual([]);
    const mix = (off: number) =>
      recipeWarnings(parseRecipe(MINIMAL, "r.yml", [`data.augment.mix={ mixup: 1, offEpoch: ${off} }`, "train.schedule.cooldownEpochs=2"]));
    expect(mix(3)).toEqual([]);
    expect(mix(4)).toEqual([expect.stringContaining("r.yml: --set: data.augment.mix.offEpoch = 4 is never reached")]);
  });
});

it("a wrong setting of the model is told with its line", () => {
  const source = "model:\n  name: sdt-v1\n  config:\n    T: 4\n    pooling: 1010\ndata: { name: mnist }\ntrain: { epochs: 1 }\n";
  expect(problem(source, [], knownNames)).toBe(
    'r.yml: line 5: model.config.pooling: sdt-v1 config: pooling must be four characters "0" or "1", found 1010',
  );
  expect(problem(source.replace("pooling: 1010", "poolings: x"), [], knownNames)).toContain(
    'r.yml: line 5: model.config.poolings: model sdt-v1: unknown setting "poolings", did you mean "pooling"?',
  );
  expect(problem(source.replace("pooling: 1010", "depths: 1"), ["model.config.depths=0"], knownNames)).toContain(
    "r.yml: --set: model.config.depths: sdt-v1 config: depths must be a positive integer, found 0",
  );
});

it("epochs of cool-down come after train.epochs, and change no rate before", async () => {
  const path = join(import.meta.dirname, "../../../recipes/cifar10.yml");
  const recipe = await loadRecipe(path, [], knownNames);
  expect([recipe.train.epochs, recipeEpochs(recipe)]).toEqual([300, 310]);
  const schedule = { ...recipe.train.schedule, epochs: recipe.train.epochs, lr: recipe.train.optimizer.lr };
  // As the official configuration gives them to timm: warm-up from 1e-6, then the cosine of 300 epochs, then its end.
  const rate = (t: number) => optim.lrAt(schedule as optim.Schedule, t);
  expect(rate(0)).toBe(1e-6);
  expect(rate(20)).toBeCloseTo(1e-5 + 0.5 * (3e-4 - 1e-5) * (1 + Math.cos((Math.PI * 20) / 300)), 12);
  expect([300, 305, 309].map(rate)).toEqual([1e-5, 1e-5, 1e-5]);
  expect(problem(MINIMAL, ["train.schedule={ name: constant, cooldownEpochs: 1 }"])).toContain("train.schedule.cooldownEpochs is no key");
});

describe("rates", () => {
  it("are given, of a base rate for 256 images, or the optimiser's default", () => {
    const of = (...sets: string[]) => learningRate(parseRecipe(MINIMAL, "r.yml", sets));
    expect([of(), of("train.optimizer={name: sgd}"), of("train.optimizer={name: lamb, lr: 0.5}")]).toEqual([1e-3, 0.1, 0.5]);
    expect(of("train.optimizer.blr=1e-3", "train.batchSize=64", "train.accumulate=2")).toBeCloseTo(5e-4, 15);
    const written = recipeToYaml(parseRecipe(MINIMAL, "r.yml", ["train.optimizer.blr=1e-3"]));
    expect(parseRecipe(written, "r.yml").train.optimizer).toMatchObject({ blr: 1e-3 });
    expect(problem(MINIMAL, ["train.optimizer={lr: 1, blr: 1}"])).toContain(
      "train.optimizer.blr and train.optimizer.lr are two names of one rate: leave one out",
    );
  });
});

describe("where a training starts and whom it listens to", () => {
  it.each<[string, string]>([
    ["train.init={}", "train.init: expected a mapping with either run (a folder) or weights (a file), found a mapping"],
    ["train.init={run: a, weights: b}", "train.init: expected a mapping with either run"],
    ["train.init=runs/a", "train.init: expected a mapping"],
    ["train.init={run: a, which: last}", 'train.init.which: expected one of final, best, found "last"'],
    ["train.init={run: a, key: model}", "train.init.key has no effect: it is for a file (weights)"],
    ["train.init={weights: a, which: best}", "train.init.which has no effect: it is for a run's folder (run)"],
    ["train.teacher={weights: a.pth}", "train.teacher.model is missing: weights of a file need the model that they are of"],
    ["train.teacher={run: a, model: sdt-v1}", "train.teacher.model has no effect: the model is that of train.teacher.run"],
    ["train.teacher={run: a, config: {T: 1}}", "train.teacher.config has no effect"],
    ["train.teacher={run: a, tau: 2}", "train.teacher.tau has no effect on a hard teacher: set train.teacher.kind=soft"],
    ["train.teacher={run: a, alpha: 1.5}", "train.teacher.alpha: expected a number from 0 to 1, found 1.5"],
    ["train.layerDecay=0", "train.layerDecay: expected a number > 0 and <= 1, found 0"],
    ["data.perClass=0", "data.perClass: expected a whole number >= 1, found 0"],
  ])("%s is refused", (set, message) => {
    expect(problem(MINIMAL, [set])).toContain(message);
  });

  it("labels are of no use to an objective without them", () => {
    const sets = ["train.objective=masked-reconstruction", "train.labelSmoothing=0.1", "train.loss.tet={}", "train.teacher={run: a}"];
    const message = problem(MINIMAL, sets);
    for (const key of ["labelSmoothing", "loss.tet", "teacher"])
      expect(message).toContain(`train.${key} has no effect: train.objective=masked-reconstruction does not look at labels`);
  });
});
