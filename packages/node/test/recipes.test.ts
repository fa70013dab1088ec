/** Every recipe of the repository is one: its keys, its names and its model's settings are right, and nothing in it does nothing. */
import { readdirSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { models, optim } from "spikeloom";
import { describe, expect, it } from "vitest";
import { learningRate, loadRecipe, parseRecipe, recipeToYaml, recipeWarnings } from "../src/recipe.ts";
import { knownNames } from "../src/session.ts";

const root = join(import.meta.dirname, "../../../recipes");
const files = readdirSync(root, { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".yml"))
  .sort();
const names = new Set(files.map((file) => basename(file, ".yml")));

describe("the recipe", () => {
  it("files have names of their own, since runs are named after them", () => {
    expect(names.size).toBe(files.length);
    expect(files.length).toBeGreaterThan(30);
  });

  it.each(files)("%s is right, and the same when written and read again", async (file) => {
    const recipe = await loadRecipe(join(root, file), [], knownNames);
    expect(recipeWarnings(recipe)).toEqual([]);
    expect(parseRecipe(recipeToYaml(recipe), relative(root, file), [], knownNames)).toEqual(recipe);
    // What it starts from or listens to is another recipe's run.
    for (const source of [recipe.train.init, recipe.train.teacher])
      if (source?.run !== undefined) expect(names).toContain(source.run.replace(/^runs\//, ""));
    const { config, system } = models.resolveModel(recipe.model.name, recipe.model.config);
    expect(recipe.train.objective === undefined).toBe(config.numClasses !== undefined);
    expect(config.kd === true).toBe(recipe.train.teacher !== undefined);
    if (recipe.train.layerDecay !== 1) expect(system.layers).toBeDefined();
  });
});

it.each([
  ["sdt-v2/imagenet-55M-t1.yml", 2.4e-3, 200],
  ["sdt-v2/imagenet-55M-t4.yml", 1.5e-5, 20],
  ["sdt-v3/imagenet-10m.yml", 4.8e-3, 200],
  ["sdt-v3/imagenet-mae-83m.yml", 1.2e-3, 200],
  ["sdt-v3/imagenet-83m-finetune.yml", 2.4e-3, 150],
  ["sdt-v3/imagenet-83m-distilled.yml", 6.125e-3, 100],
  ["sdt-v3/gesture.yml", 1.125e-5, 100],
])("%s has the published rate %d at the end of its warm-up", async (file, rate, epochs) => {
  const recipe = await loadRecipe(join(root, file), [], knownNames);
  const { schedule } = recipe.train;
  expect(learningRate(recipe)).toBeCloseTo(rate, 12);
  const full = { ...schedule, epochs: recipe.train.epochs, lr: learningRate(recipe) } as optim.Schedule;
  expect(optim.lrAt(full, schedule.warmupEpochs)).toBeCloseTo(rate, 12);
  expect(recipe.train.epochs).toBe(epochs);
});
