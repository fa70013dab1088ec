/** The sides of the benchmark as processes: all are given the same files and options and answer in the same lines of JSON. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { SpikeloomError } from "spikeloom";
import { findAddon } from "../packages/node/src/addon.ts";
import type { Check, Column } from "./report.ts";
import type { Work } from "./work.ts";

/** One workload in one process. */
export interface Row {
  name: string;
  /** Milliseconds of each timed run. */
  ms: number[];
  extra: Record<string, number>;
  check: Check;
  /** Ours alone: what the work cannot do without. */
  work?: Work[];
}

export interface Answer {
  /** Who answered: device and instruction set, or library and version. */
  head: Record<string, unknown>;
  rows: Row[];
}

export interface Job {
  /** Files of inputs (inputs.ts). */
  files: readonly string[];
  /** Most timed runs of a workload, and the seconds after which three are enough. */
  repeat: number;
  seconds: number;
}

const execute = promisify(execFile);
const python = process.env.PYTHON || "python3";
const pathOf = (name: string) => fileURLToPath(new URL(name, import.meta.url));
/** `process.execArgv` carries the TypeScript loader on. */
const node = [process.execPath, ...process.execArgv];

async function answer(command: readonly string[], { files, repeat, seconds }: Job, environment: NodeJS.ProcessEnv = {}): Promise<Answer> {
  const args = [...command.slice(1), "--repeat", String(repeat), "--seconds", String(seconds), ...files];
  const options = { maxBuffer: 64 << 20, env: { ...process.env, ...environment } };
  const { stdout } = await execute(command[0] as string, args, options).catch((error: Error & { stderr?: string }) => {
    throw new SpikeloomError(`${error.stderr?.trim() || error.message}`);
  });
  const [head, ...rows] = stdout
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as unknown);
  return { head: head as Record<string, unknown>, rows: rows as Row[] };
}

/** The WebAssembly kernels with relaxed SIMD, which `tsx scripts/build.ts relaxed` makes. */
export const RELAXED = pathOf("../build/wasm/relaxed.wasm");

let bundled: Promise<string> | undefined;

/** ours.ts and all it imports as one JavaScript file, as a program is shipped: a loader of TypeScript would be part of its memory. */
async function bundle(): Promise<string> {
  const { build } = await import("tsdown");
  const outDir = pathOf("../build/bench");
  const entry = pathOf("ours.ts");
  await build({
    config: false,
    entry,
    outDir,
    tsconfig: pathOf("../tsconfig.json"),
    platform: "node",
    deps: { alwaysBundle: /^spikeloom$/ },
    dts: false,
    logLevel: "warn",
  });
  return join(outDir, "ours.mjs");
}

/** One process of Spikeloom. */
export async function ours({ device, isa, threads }: Column, job: Job): Promise<Answer> {
  bundled ??= bundle();
  // What reading the inputs left behind is collected before the work begins.
  const command = [process.execPath, "--expose-gc", await bundled, "--device", device, "--threads", String(threads)];
  if (isa === "relaxed-simd") return answer(command, job, { SPIKELOOM_WASM: RELAXED });
  return answer(command, job, device === "native" ? { SPIKELOOM_ISA: isa, SPIKELOOM_NATIVE: findAddon() } : {});
}

/** Libraries that run the LIF layer task only, beside the peer that runs everything. */
export const LAYER_PEERS = ["snntorch", "tfjs", "jax-js"] as const;

/** How to get a peer. */
export const HOW: Readonly<Record<string, string>> = {
  pytorch: "pip install numpy torch spikingjelly (PYTHON names another interpreter)",
  snntorch: "pip install snntorch",
  tfjs: "npm ci --prefix bench/peers",
  "jax-js": "npm ci --prefix bench/peers",
};

/** One process of a peer. `setting`: eager, channels_last or compile (Python only). */
export function peer(library: string, setting: string, threads: number, job: Job): Promise<Answer> {
  if (library === "tfjs" || library === "jax-js") return answer([...node, pathOf(`peers/${library}.ts`)], job);
  const args = ["--library", library, "--setting", setting, "--threads", String(threads)];
  return answer([python, pathOf("peers/peer_pytorch.py"), ...args], job);
}

/** Makes the input files of all specifications, which follow each other in `specs` as `files` do. */
export async function prepare(specs: readonly object[], files: readonly string[]): Promise<void> {
  const args = [...node.slice(1), pathOf("prepare.ts"), ...specs.flatMap((spec, i) => [JSON.stringify(spec), files[i] as string])];
  await execute(node[0] as string, args, { maxBuffer: 16 << 20 });
}

const PROBE = `
import json, importlib.metadata as m, torch, spikingjelly
def version(name):
    try:
        return m.version(name)
    except m.PackageNotFoundError:
        return None
cpu = getattr(torch.backends, "cpu", None)
print(json.dumps({"torch": torch.__version__, "spikingjelly": version("spikingjelly"), "snntorch": version("snntorch"),
                  "isa": cpu.get_cpu_capability() if cpu else "unknown"}))
`;

export interface PeerVersions {
  torch: string;
  spikingjelly: string;
  snntorch: string | null;
  /** What torch says of the CPU. Its oneDNN chooses for itself. */
  isa: string;
}

/** What the peer would run with, or undefined where Python, torch or spikingjelly is missing. */
export async function peerVersions(): Promise<PeerVersions | undefined> {
  try {
    const { stdout } = await execute(python, ["-c", PROBE]);
    return JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as PeerVersions;
  } catch {
    return undefined;
  }
}
