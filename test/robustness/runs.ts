/** Trainings that are killed: a small data set and recipe, the real command as a process, and what a run's folder holds. */
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Rng, safetensors } from "spikeloom";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** `count` images and labels in MNIST's format: noise whose brightness is its class. */
function idxFiles(folder: string, split: string, count: number): void {
  const stream = new Rng(1).stream(split);
  const header = (dims: number[]) => {
    const bytes = Buffer.alloc(4 + 4 * dims.length);
    bytes.set([0, 0, 8, dims.length]);
    dims.forEach((n, i) => bytes.writeUInt32BE(n, 4 + 4 * i));
    return bytes;
  };
  const labels = Buffer.from(Array.from({ length: count }, () => stream.uniformInt(10)));
  const pixels = Buffer.from(
    Array.from({ length: count * 784 }, (_, i) => stream.uniformInt(40) + 20 * (labels[Math.floor(i / 784)] as number)),
  );
  writeFileSync(join(folder, `${split}-images-idx3-ubyte`), Buffer.concat([header([count, 28, 28]), pixels]));
  writeFileSync(join(folder, `${split}-labels-idx1-ubyte`), Buffer.concat([header([count]), labels]));
}

/** A recipe of `epochs` short epochs, and its data, in a folder. @returns the recipe's path */
export function prepare(folder: string, epochs: number): string {
  const data = join(folder, "data");
  mkdirSync(data, { recursive: true });
  idxFiles(data, "train", 192);
  idxFiles(data, "t10k", 32);
  const path = join(folder, "tiny.yml");
  writeFileSync(
    path,
    `model:
  name: sdt-v1/cifar10-2-256
  config: { T: 2, inChannels: 1, numClasses: 10, embedDims: 64, depths: 1, numHeads: 2, mlpRatio: 2, pooling: "1110", imageSize: [28, 28] }
data: { name: mnist, dir: ${JSON.stringify(data)}, augment: { shift: 2 } }
train: { epochs: ${epochs}, batchSize: 16, optimizer: { name: adamw, lr: 0.005 }, ema: { decay: 0.9 } }
device: wasm
threads: 1
seed: 7
`,
  );
  return path;
}

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  err: string;
}

export interface Running {
  process: ChildProcess;
  ended: Promise<Ended>;
}

/**
 * The command, as a process of its own.
 * @param under a command that runs it, such as `sh -c ... sh`
 * @param as another user
 */
export function spikeloom(args: readonly string[], under: readonly string[] = [], as: { uid?: number; gid?: number } = {}): Running {
  const env = { ...process.env, TSX_TSCONFIG_PATH: join(root, "tsconfig.json") };
  const command = [...under, process.execPath, "--import", "tsx", join(root, "packages/node/src/cli.ts"), ...args];
  const child = spawn(command[0] as string, command.slice(1), { cwd: root, env, ...as });
  let err = "";
  child.stderr.on("data", (data) => (err += data));
  child.stdout.resume();
  return { process: child, ended: new Promise((resolve) => child.on("close", (code, signal) => resolve({ code, signal, err }))) };
}

/** Names of the temporary files in a run's folder. */
export function temporaries(run: string): string[] {
  return existsSync(run) ? readdirSync(run).filter((name) => name.endsWith(".tmp")) : [];
}

/** Steps done by the run's checkpoint; undefined where there is none. @throws FormatError when it is not whole */
export function checkpointStep(run: string): number | undefined {
  const path = join(run, "last.safetensors");
  if (!existsSync(path)) return undefined;
  const { metadata } = safetensors.decode(new Uint8Array(readFileSync(path)), path);
  return (JSON.parse(metadata.spikeloom as string) as { step: number }).step;
}

interface Step {
  step: number;
  seconds: number;
}

/** Steps that the log knows, but for a last line that was cut off. */
export function loggedSteps(run: string): Step[] {
  const path = join(run, "metrics.jsonl");
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, "utf8").split("\n").slice(0, -1);
  return lines.map((line) => JSON.parse(line) as Step & { type: string }).filter(({ type }) => type === "step");
}

/** All that a finished run leaves, without what the clock says. */
export function leavings(run: string): { files: string[]; weights: string; best: string; log: unknown[] } {
  const hashOf = (name: string) =>
    createHash("sha256")
      .update(readFileSync(join(run, name)))
      .digest("hex");
  return {
    files: readdirSync(run).sort(),
    weights: hashOf("model.safetensors"),
    best: hashOf("best.safetensors"),
    log: readFileSync(join(run, "metrics.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => ({ ...(JSON.parse(line) as object), seconds: 0, waitSeconds: 0, testSeconds: 0 })),
  };
}
