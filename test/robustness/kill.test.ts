/** A training that is killed, and processes that want one folder. The long run of the first is `npx tsx test/robustness/kill.ts`. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { RunFolder } from "../../packages/node/src/run-folder.ts";
import { killRuns } from "./kill-runs.ts";
import { prepare, spikeloom } from "./runs.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "spikeloom-robust-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it("killed at any moment, a run goes on and ends with the weights of an undisturbed one", async () => {
  const result = await killRuns({ kills: 4, folder: join(folder, "kills"), epochs: 2, seed: 3 });
  expect(result.kills).toBe(4);
  expect(result.insideWrites).toBeGreaterThan(0);
}, 180_000);

it("of several trainings that begin in one folder at once, one goes on and the others say why not", async () => {
  const recipe = prepare(folder, 1);
  const run = join(folder, "shared");
  const ended = await Promise.all([1, 2, 3].map(() => spikeloom(["train", recipe, "--out", run]).ended));
  expect(ended.map(({ code }) => code).sort()).toEqual([0, 1, 1]);
  for (const { code, err } of ended)
    if (code)
      expect(err).toMatch(/^error: .*shared (is in use: process \d+ trains in it\. Wait for it|already holds a run: go on with it)/);
  expect(readdirSync(run).filter((name) => name === "run.lock" || name.endsWith(".tmp"))).toEqual([]);
}, 120_000);

it("a lock does not outlive its process, even where another has its number now", () => {
  const path = join(folder, "locked");
  new RunFolder(path).lock();
  expect(() => new RunFolder(path).lock()).toThrow(`is in use: process ${process.pid} trains in it`);
  // This process did not start at tick 1.
  writeFileSync(join(path, "run.lock"), `${process.pid} 1`);
  expect(() => new RunFolder(path).lock()).not.toThrow();
  expect(new RunFolder(path).owner()).toBe(process.pid);
});

it("what killed processes left half-written is removed, what a living one writes is not", () => {
  const path = join(folder, "leftovers");
  const run = new RunFolder(path);
  run.lock();
  run.unlock();
  const gone = spawnSync(process.execPath, ["-e", ""]).pid;
  run.lock();
  const dead = [`.last.safetensors.${gone}.3.tmp`, `.report.html.${process.pid}.0.tmp`];
  const others = [`.report.html.${process.ppid}.0.tmp`, "notes.tmp", ".hidden", "last.safetensors"];
  for (const name of [...dead, ...others]) writeFileSync(join(path, name), "half");
  rmSync(join(path, "run.lock"));
  run.lock();
  expect(readdirSync(path).sort()).toEqual([...others, "run.lock"].sort());
});
