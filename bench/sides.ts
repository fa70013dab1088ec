/** The two sides of the benchmark as processes: both are given the same options and answer in the same lines of JSON. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { SpikeloomError } from "spikeloom";

/** One workload's time in one process. */
export interface Row {
  name: string;
  /** Milliseconds over the repeats of this process. */
  ms: { median: number; min: number };
  extra: Record<string, number>;
}

export interface Answer {
  /** Who answered: device and instruction set, or library and version. */
  head: Record<string, unknown>;
  rows: Row[];
}

export interface Job {
  /** A case of workloads.ts, which is one of the peer's `--only`. */
  name: string;
  repeat: number;
  threads: number;
}

const execute = promisify(execFile);
const python = process.env.PYTHON || "python3";
const pathOf = (name: string) => fileURLToPath(new URL(name, import.meta.url));

async function answer(command: string, args: readonly string[], { name, repeat, threads }: Job): Promise<Answer> {
  const job = ["--only", name, "--repeat", String(repeat), "--threads", String(threads)];
  const { stdout } = await execute(command, [...args, ...job], { maxBuffer: 16 << 20 }).catch((error: Error & { stderr?: string }) => {
    throw new SpikeloomError(`the process for ${name} failed:\n${error.stderr?.trim() || error.message}`);
  });
  const [head, ...rows] = stdout
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line) as unknown);
  return { head: head as Record<string, unknown>, rows: rows as Row[] };
}

/** One process of Spikeloom. `process.execArgv` carries the TypeScript loader on. */
export function ours(device: string, job: Job): Promise<Answer> {
  return answer(process.execPath, [...process.execArgv, pathOf("ours.ts"), "--device", device], job);
}

/** One process of the peer. */
export function peer(job: Job): Promise<Answer> {
  return answer(python, [pathOf("peers/peer_pytorch.py")], job);
}

const PROBE = `
import json, importlib.metadata as m, torch, spikingjelly
cpu = getattr(torch.backends, "cpu", None)
print(json.dumps({"torch": torch.__version__, "spikingjelly": m.version("spikingjelly"), "isa": cpu.get_cpu_capability() if cpu else "unknown"}))
`;

export interface PeerVersions {
  torch: string;
  spikingjelly: string;
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
