/**
 * Disks that refuse: full ones and read-only ones, real where this system lets a test make them. The command says what and why,
 * exits with 1, leaves nothing half-written, and what was there before is as it was.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { npy, safetensors } from "spikeloom";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as formats from "../../packages/core/src/formats/index.ts";
import { type Ended, leavings, loggedSteps, prepare, type Running, spikeloom } from "./runs.ts";

let folder: string;
let recipe: string;
let undisturbed: string;
const mounted: string[] = [];

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "spikeloom-disk-"));
  chmodSync(folder, 0o755);
  recipe = prepare(folder, 2);
  undisturbed = join(folder, "undisturbed");
  expect(await spikeloom(["train", recipe, "--out", undisturbed]).ended).toMatchObject({ code: 0 });
});
afterAll(() => {
  for (const path of mounted) spawnSync("umount", [path]);
  rmSync(folder, { recursive: true, force: true });
});

/** A file system of `size` bytes of its own, or undefined where this process may not mount one. */
function disk(name: string, size: number): string | undefined {
  const path = join(folder, name);
  mkdirSync(path);
  const done = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", path]).status === 0;
  if (done) mounted.push(path);
  return done ? path : undefined;
}

/** Fill a disk but for `room` bytes. @returns how to empty it again */
function fill(path: string, room: number): () => void {
  const filler = join(path, "filler");
  const left = Number(execFileSync("df", ["--output=avail", "-B1", path], { encoding: "utf8" }).split("\n")[1]);
  writeFileSync(filler, new Uint8Array(Math.max(0, left - room)));
  return () => rmSync(filler);
}

function contents(path: string): Map<string, string> {
  return new Map(
    readdirSync(path, { recursive: true, withFileTypes: true })
      // Every attempt has an event file of its own for TensorBoard.
      .filter((entry) => entry.isFile() && entry.name !== "filler" && !entry.parentPath.endsWith("tensorboard"))
      .map((entry) => [
        join(entry.parentPath, entry.name),
        createHash("sha256")
          .update(readFileSync(join(entry.parentPath, entry.name)))
          .digest("hex"),
      ]),
  );
}

function failed({ code, err }: Ended, words: RegExp): void {
  expect({ code, stack: /\n {4}at /.test(err), bug: err.includes("a mistake in spikeloom") }, err).toEqual({
    code: 1,
    stack: false,
    bug: false,
  });
  expect(err).toMatch(words);
}

/** Weights and input for `spikeloom run` of a small part, whose output takes some 20 KB. */
function small(): string[] {
  const ones = (shape: number[]) => formats.ndArray("f32", shape, new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(0.5));
  const state = new Map<string, formats.NdArray>();
  for (const [name, shape] of [
    ["fc1_conv", [8, 4, 1, 1]],
    ["fc2_conv", [4, 8, 1, 1]],
  ] as const) {
    state.set(`${name}.weight`, ones([...shape]));
    state.set(`${name}.bias`, ones([shape[0]]));
  }
  for (const [name, c] of [
    ["fc1_bn", 8],
    ["fc2_bn", 4],
  ] as const) {
    for (const key of ["weight", "bias", "running_mean", "running_var"]) state.set(`${name}.${key}`, ones([c]));
    state.set(`${name}.num_batches_tracked`, formats.ndArray("i64", [], BigInt64Array.of(1n)));
  }
  writeFileSync(join(folder, "part.safetensors"), safetensors.encode(state));
  writeFileSync(join(folder, "x.npy"), npy.encode(ones([2, 2, 4, 16, 16])));
  const config = '{"in": 4, "hidden": 8}';
  return [
    "run",
    "--device",
    "wasm",
    "--model",
    "sdt-v1/unit_mlp",
    "--config",
    config,
    "--weights",
    join(folder, "part.safetensors"),
    "--input",
    join(folder, "x.npy"),
  ];
}

const FULL = /: the disk is full\. Free some space or choose a folder on another disk; what was there before is untouched\. \(ENOSPC\)\n$/;

/** Wait until the run's log has a step. */
async function underWay({ ended }: Running, run: string): Promise<void> {
  let over = false;
  void ended.then(() => (over = true));
  while (!over && loggedSteps(run).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
}

const MiB = 2 ** 20;

/** May this process mount a disk of its own? The tests below that need none hold for the same code. */
function mayMount(): boolean {
  const path = mkdtempSync(join(tmpdir(), "spikeloom-mount-"));
  const may = spawnSync("mount", ["-t", "tmpfs", "tmpfs", path]).status === 0;
  if (may) spawnSync("umount", [path]);
  rmSync(path, { recursive: true });
  return may;
}

// Root may write anywhere; nobody may not, but has to be able to read the command.
const root = process.getuid?.() === 0;
const nobody = root ? { uid: 65534, gid: 65534 } : {};
const mayBeNobody =
  !root || spawnSync(process.execPath, ["-e", `fs.accessSync(${JSON.stringify(fileURLToPath(import.meta.url))})`], nobody).status === 0;

const fullDisks = () => {
  it("full, has no room for a new run: nothing is left that passes for one, and it can begin later", async () => {
    const path = disk("new", 8 * MiB) as string;
    const empty = fill(path, 40_000);
    const run = join(path, "run");
    failed(await spikeloom(["train", recipe, "--out", run]).ended, FULL);
    expect(readdirSync(run)).toEqual(["recipe.yml"]);
    empty();
    expect(await spikeloom(["train", recipe, "--out", run]).ended).toMatchObject({ code: 0 });
    expect(leavings(run)).toEqual(leavings(undisturbed));
  });

  it("that fills up during a training ends it, and it goes on later as if nothing had been", async () => {
    const path = disk("during", 8 * MiB) as string;
    const run = join(path, "run");
    const running = spikeloom(["train", recipe, "--out", run, "--save-every", "0.05s"]);
    await underWay(running, run);
    const empty = fill(path, 0);
    failed(await running.ended, FULL);
    // The last checkpoint is whole, and nothing half-written is beside it.
    const before = contents(run);
    expect(readdirSync(run).filter((name) => name.endsWith(".tmp") || name.endsWith(".lock"))).toEqual([]);
    // There is no room to go on either: the checkpoint stays as it is.
    failed(await spikeloom(["train", "--resume", run]).ended, FULL);
    const after = contents(run);
    expect([...after.keys()]).toEqual([...before.keys()]);
    expect(after.get(join(run, "last.safetensors"))).toBe(before.get(join(run, "last.safetensors")));
    empty();
    expect(await spikeloom(["train", "--resume", run]).ended).toMatchObject({ code: 0 });
    expect(leavings(run)).toEqual(leavings(undisturbed));
  });

  it("full, has no room for what other commands write: no half of it is left", async () => {
    const path = disk("other", MiB) as string;
    const empty = fill(path, 0);
    const before = contents(path);
    failed(await spikeloom([...small(), "--output", join(path, "y.npz")]).ended, FULL);
    failed(await spikeloom(["measure", undisturbed, "--images", "2", "--csv", join(path, "energy.csv")]).ended, FULL);
    expect(contents(path)).toEqual(before);
    empty();
    expect(await spikeloom([...small(), "--output", join(path, "y.npz")]).ended).toMatchObject({ code: 0 });
  });

  it("that is read-only: runs are read there, and nothing is written", async () => {
    const path = disk("read-only", 8 * MiB) as string;
    execFileSync("cp", ["-r", undisturbed, join(path, "run")]);
    execFileSync("mount", ["-o", "remount,ro", path]);
    const before = contents(path);
    const words = /: the file system is read-only\. Choose a folder that can be written\. \(EROFS\)\n$/;
    failed(await spikeloom(["train", recipe, "--out", join(path, "new")]).ended, words);
    failed(await spikeloom(["train", "--resume", join(path, "run"), "--set", "train.epochs=3"]).ended, words);
    failed(await spikeloom([...small(), "--output", join(path, "y.npz")]).ended, words);
    expect(await spikeloom(["eval", join(path, "run")]).ended).toMatchObject({ code: 0, err: "" });
    expect(contents(path)).toEqual(before);
  });
};
if (mayMount()) describe("a disk", fullDisks);

it("a limit to the size of files is told like a full disk: older files stay", async () => {
  // Enough for the recipe and the log, not for a checkpoint.
  const limited = (args: string[]) => spikeloom(args, ["sh", "-c", `trap "" XFSZ; ulimit -f 64; exec "$@"`, "sh"]).ended;
  const words = /: the file would be larger than the file system or a limit \(ulimit -f\) allows.*\(EFBIG\)\n$/;
  const run = join(folder, "limited");
  failed(await limited(["train", recipe, "--out", run]), words);
  expect(readdirSync(run)).toEqual(["recipe.yml"]);
  execFileSync("cp", ["-r", undisturbed, join(folder, "longer")]);
  const before = contents(join(folder, "longer"));
  failed(await limited(["train", "--resume", join(folder, "longer"), "--set", "train.epochs=3"]), words);
  const after = contents(join(folder, "longer"));
  const checkpoint = join(folder, "longer", "last.safetensors");
  expect([...after.keys()].sort()).toEqual([...before.keys()].sort());
  expect(after.get(checkpoint)).toBe(before.get(checkpoint));
});

const unwritableFolder = async () => {
  const path = join(folder, "locked");
  mkdirSync(path);
  chmodSync(path, 0o555);
  const words = /: permission denied\. Change the permissions of the file or its folder, or choose another one\. \(EACCES\)\n$/;
  failed(await spikeloom(["train", recipe, "--out", join(path, "run")], [], nobody).ended, words);
  failed(await spikeloom(["train", recipe, "--out", path], [], nobody).ended, words);
  failed(await spikeloom([...small(), "--output", join(path, "y.npz")], [], nobody).ended, words);
  expect(readdirSync(path)).toEqual([]);
};
if (mayBeNobody) it("a folder without the right to write is told: nothing is written", unwritableFolder);

it("an output that cannot be written to is told, and no success", async () => {
  expect(existsSync("/dev/full")).toBe(true);
  const to = ["sh", "-c", 'exec "$@" > /dev/full', "sh"];
  failed(await spikeloom(["models"], to).ended, /^error: cannot write to the standard output: the disk is full.*\n$/);
});
