/** The table of runs: what it says of finished, stopped, running and failed runs, and that no damaged one stops it. */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { expect, it } from "vitest";
import type { RunRow } from "../src/commands/runs.ts";
import { loadRecipe, recipeToYaml } from "../src/recipe.ts";
import { FILES, RunFolder } from "../src/run-folder.ts";
import { fails, folder, smallRecipe, succeeds } from "./support.ts";

type Files = Partial<Record<keyof typeof FILES, string>>;

function make(at: string, files: Files): string {
  mkdirSync(at, { recursive: true });
  for (const [name, content] of Object.entries(files)) writeFileSync(join(at, FILES[name as keyof typeof FILES]), content);
  return at;
}

const recipeOf = async (seed: number, epochs = 2) =>
  recipeToYaml(await loadRecipe(smallRecipe("somewhere"), [`seed=${seed}`, `train.epochs=${epochs}`]));

const lines = (...events: object[]) => events.map((e) => `${JSON.stringify(e)}\n`).join("");
const step = (n: number, epoch: number) => ({ type: "step", epoch, step: n, loss: 1, seconds: 2 });
const epoch = (n: number, testAccuracy: number) => ({
  type: "epoch",
  epoch: n,
  step: 2 * n + 2,
  firingRate: 0.125,
  testAccuracy,
  testSeconds: 1,
});
const summary = (more: object = {}) =>
  JSON.stringify({
    ...{ testAccuracy: 0.8, firingRate: 0.25, energyPicojoules: 2.5e6, device: "wasm", isa: "simd128", seed: 1, epochs: 2 },
    ...{ finishedAt: "2020-01-02T03:04:05.000Z", ...more },
  });

const rows = async (...args: string[]) => JSON.parse(await succeeds("runs", ...args, "--json")) as RunRow[];
const byName = (list: RunRow[]) => Object.fromEntries(list.map((r) => [r.name, r]));

/** A folder with a run of every status. */
async function runs(): Promise<string> {
  const all = folder();
  const log = lines(step(1, 0), step(2, 0), epoch(0, 0.9), step(3, 1), step(4, 1), epoch(1, 0.8));
  make(join(all, "done"), { recipe: await recipeOf(1), metrics: log, checkpoint: "c", weights: "w", summary: summary() });
  // Cut off in the middle of a line.
  make(join(all, "stopped"), {
    recipe: await recipeOf(2),
    metrics: `${lines(step(1, 0), step(2, 0), epoch(0, 0.5), step(3, 1))}{"type":"st`,
    checkpoint: "c",
  });
  make(join(all, "failed"), { recipe: await recipeOf(3) });
  // Finished once, then more epochs were asked for: what the summary says is of the shorter run.
  make(join(all, "longer"), { recipe: await recipeOf(4, 3), metrics: log, checkpoint: "c", weights: "w", summary: summary() });
  make(join(all, "damaged"), { recipe: "model: [", metrics: "\u0000\u0001", summary: "[]" });
  mkdirSync(join(all, "no-run"));
  writeFileSync(join(all, "a-file"), "");
  return all;
}

it("says how far each run came and what it reached", async () => {
  const all = await runs();
  const list = await rows(all);
  expect(list.map((r) => r.name)).toEqual(["damaged", "done", "failed", "longer", "stopped"]);
  const { done, stopped, failed, longer, damaged } = byName(list) as Record<string, RunRow>;
  expect(done).toEqual({
    ...{ name: "done", path: join(all, "done"), model: "sdt-v1/cifar10-2-256", data: "mnist", epochs: 2, totalEpochs: 2, status: "done" },
    ...{ accuracy: 0.8, best: 0.9, firingRate: 0.25, energyPicojoules: 2.5e6, seconds: 10, seed: 1, device: "wasm (simd128)" },
    ...{ date: "2020-01-02T03:04:05.000Z", problem: null },
  });
  expect(stopped).toMatchObject({
    status: "stopped",
    epochs: 1,
    totalEpochs: 2,
    accuracy: 0.5,
    best: 0.5,
    firingRate: 0.125,
    seconds: 7,
    seed: 2,
  });
  expect(failed).toMatchObject({ status: "failed", epochs: 0, accuracy: null, best: null, seconds: null, problem: null });
  expect(longer).toMatchObject({ status: "stopped", epochs: 2, totalEpochs: 3, accuracy: 0.8, best: 0.9, energyPicojoules: null });
  expect(damaged).toMatchObject({ status: "damaged", model: null, epochs: 0 });
  expect(damaged?.problem).toMatch(/recipe\.yml.*summary\.json is damaged/);
});

it("knows a run that is being trained by its lock", async () => {
  const at = make(join(folder(), "run"), { recipe: await recipeOf(1), checkpoint: "c" });
  const run = new RunFolder(at);
  run.lock();
  expect(await rows(at)).toMatchObject([{ name: "run", status: "running" }]);
  run.unlock();
  expect(await rows(at)).toMatchObject([{ name: "run", status: "stopped" }]);
});

it("prints a table, with what is wrong below it, and CSV", async () => {
  const all = await runs();
  const [head, rule, ...body] = (await succeeds("runs", all)).trimEnd().split("\n") as [string, string, ...string[]];
  expect(head).toMatch(/^run +model +data +epochs +status +accuracy +best +firing +energy +time +seed +device +date$/);
  expect(rule).toMatch(/^[- ]+$/);
  expect(body[1]).toMatch(
    /^done +sdt-v1\/cifar10-2-256 +mnist +2\/2 +done +80\.00 % +90\.00 % +25\.0 % +2\.50 µJ +10 s +1 +wasm \(simd128\) +2020-01-02 03:04$/,
  );
  expect(body[2]).toMatch(/^failed +sdt-v1\/cifar10-2-256 +mnist +0\/2 +failed +– +– +– +– +– +3 +– +\d{4}-/);
  expect(body[5]).toMatch(/^damaged: .*recipe\.yml/);
  const csv = (await succeeds("runs", all, "--csv", "-")).trimEnd().split("\n");
  expect(csv).toHaveLength(6);
  expect(csv[0]).toMatch(/^name,path,model,/);
  expect(csv[2]).toContain(",mnist,2,2,done,0.8,0.9,0.25,2500000,10,1,wasm (simd128),2020-01-02T03:04:05.000Z,");
});

it("sorts by every key; what is not known stands last", async () => {
  const all = await runs();
  const names = async (key: string) => (await rows(all, "--sort", key)).map((r) => r.name);
  expect(await names("best")).toEqual(["done", "longer", "stopped", "damaged", "failed"]);
  expect(await names("accuracy")).toEqual(["done", "longer", "stopped", "damaged", "failed"]);
  expect(await names("time")).toEqual(["stopped", "done", "longer", "damaged", "failed"]);
  expect((await names("seed")).slice(0, 4)).toEqual(["done", "stopped", "failed", "longer"]);
  expect((await names("energy"))[0]).toBe("done");
  expect((await names("date")).at(-1)).toBe("done");
  for (const key of ["name", "model", "data", "epochs", "status", "firing", "device"]) expect(await names(key)).toHaveLength(5);
  expect(await fails("runs", all, "--sort", "acuracy")).toMatch(/accuracy/);
});

it("says that there is none, or that there is no such folder", async () => {
  const empty = folder();
  expect(await succeeds("runs", empty)).toBe(`no runs in ${empty}: spikeloom train RECIPE.yml makes one\n`);
  expect(await fails("runs", join(empty, "nowhere"))).toContain("there is no such file or folder");
});

it("lists a run whatever its files hold", async () => {
  const all = folder();
  const good = lines(step(1, 0), epoch(0, 0.9));
  const recipe = await recipeOf(1);
  const content = (valid: string) =>
    fc.oneof(
      fc.constant(undefined),
      fc.constant(valid),
      fc.string(),
      fc.json(),
      fc.nat(valid.length).map((n) => valid.slice(0, n)),
    );
  const odd = fc.array(
    fc.record({
      type: fc.constantFrom("step", "epoch", 1),
      epoch: fc.anything(),
      step: fc.anything(),
      seconds: fc.anything(),
      testAccuracy: fc.anything(),
    }),
  );
  const logs = fc.oneof(
    content(good),
    odd.map((list) => list.map((e) => `${safe(e)}\n`).join("")),
  );
  await fc.assert(
    fc.asyncProperty(content(recipe), logs, content(summary()), async (recipe, metrics, summary) => {
      const at = join(all, "run");
      rmSync(at, { recursive: true, force: true });
      const files = Object.entries({ recipe, metrics, summary }).filter(([, text]) => text !== undefined);
      make(at, { checkpoint: "c", ...Object.fromEntries(files) });
      const [row] = await rows(at);
      expect(["stopped", "damaged"]).toContain(row?.status);
      expect(row?.problem === null).toBe(row?.status !== "damaged");
      await succeeds("runs", at);
    }),
    { numRuns: 40 },
  );
});

/** JSON of anything at all. */
function safe(value: unknown): string {
  try {
    return JSON.stringify(value, (_, v) => (typeof v === "bigint" ? String(v) : v));
  } catch {
    return "null";
  }
}
