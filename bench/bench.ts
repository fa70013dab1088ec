/**
 * `npm run bench`: Spikeloom against PyTorch + SpikingJelly on this machine, side by side in one run. See README.md here.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, totalmem } from "node:os";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { nearest, SpikeloomError } from "spikeloom";
import { addonIsas, findAddon } from "../packages/node/src/addon.ts";
import { profileCase } from "./kernels.ts";
import { figures, json, markdown, type Report, type Result, timeTable, trainingTable } from "./report.ts";
import { ours, peer, peerVersions, type Row } from "./sides.ts";
import { CASES } from "./workloads.ts";

const HELP = `npm run bench -- [options]
  --device LIST     native, wasm, or both with a comma; default: both, where the addon is built
  --only NAME       one case (again for more): ${Object.keys(CASES).join(", ")}
  --threads N       threads of each side; default: the processors
  --rounds N        default 5
  --repeat N        timed runs a round and side; default 5
  --quick           1 round of 2 runs: does it work, not how fast
  --no-peer         Spikeloom alone
  --save            write bench/results/DATE-CPU.json and .md
  --out FILE        write FILE.json and FILE.md
  --profile NAME    instead: time by kernel and shape of one case ("sdt" for train-sdt)`;

const OPTIONS = {
  device: { type: "string" },
  only: { type: "string", multiple: true },
  threads: { type: "string" },
  rounds: { type: "string" },
  repeat: { type: "string" },
  quick: { type: "boolean", default: false },
  "no-peer": { type: "boolean", default: false },
  save: { type: "boolean", default: false },
  out: { type: "string" },
  profile: { type: "string" },
  help: { type: "boolean", short: "h", default: false },
} as const;

function oneOf(option: string, value: string, names: readonly string[]): string {
  if (names.includes(value)) return value;
  const near = nearest(value, names);
  throw new SpikeloomError(`${option}: unknown "${value}"${near ? `, did you mean "${near}"?` : ""} (one of ${names.join(", ")})`);
}

function count(option: string, value: string | undefined, otherwise: number): number {
  const n = Number(value ?? otherwise);
  if (!Number.isInteger(n) || n < 1) throw new SpikeloomError(`${option}: expected a whole number of at least 1, found ${value}`);
  return n;
}

/** The run as one would type it again; where its files went is nobody's business. */
function command(): string {
  const args = process.argv.slice(2).filter((arg, i, all) => !arg.startsWith("--out") && all[i - 1] !== "--out");
  return ["npm run bench", ...(args.length ? ["--", ...args] : [])].join(" ");
}

async function main(): Promise<void> {
  const { values: options } = parseArgs({ options: OPTIONS });
  if (options.help) return console.log(HELP);
  // These would force both devices to be the same one, or the sides to differ in threads.
  delete process.env.SPIKELOOM_DEVICE;
  delete process.env.SPIKELOOM_THREADS;
  const addon = findAddon();
  const devices = (options.device?.split(",") ?? (addon ? ["native", "wasm"] : ["wasm"])).map((d) =>
    oneOf("--device", d, ["native", "wasm"]),
  );
  const threads = count("--threads", options.threads, availableParallelism());
  const rounds = count("--rounds", options.rounds, options.quick ? 1 : 5);
  const repeat = count("--repeat", options.repeat, options.quick ? 2 : 5);

  if (options.profile !== undefined) {
    const name = oneOf("--profile", options.profile === "sdt" ? "train-sdt" : options.profile, Object.keys(CASES));
    for (const device of devices) console.log(`${await profileCase(name, { device, threads, repeat })}\n`);
    return;
  }

  const names = (options.only ?? Object.keys(CASES)).flatMap((n) => n.split(",")).map((n) => oneOf("--only", n, Object.keys(CASES)));
  const loadBefore = loadavg()[0] as number;
  if (loadBefore > 0.5) console.error(`The machine is not quiet (load ${loadBefore.toFixed(2)}): the figures will be rough.`);
  const versions = options["no-peer"] ? undefined : await peerVersions();
  if (!versions && !options["no-peer"])
    console.error(
      "No peer: Python with torch and spikingjelly was not found (pip install numpy torch spikingjelly; PYTHON names another interpreter). Its columns stay empty.",
    );

  const isas: Record<string, string> = {};
  const collected = new Map<string, Map<string, Row[]>>();
  const sides = [...(versions ? ["peer"] : []), ...devices];
  for (let round = 0; round < rounds; round++)
    // Who begins changes from round to round, so that no side always finds the machine warm.
    for (const name of names)
      for (const side of round % 2 ? sides.toReversed() : sides) {
        console.error(`round ${round + 1} of ${rounds}: ${name}, ${side}`);
        const job = { name, repeat, threads };
        const { head, rows } = side === "peer" ? await peer(job) : await ours(side, job);
        if (side !== "peer") isas[side] = head.isa as string;
        for (const row of rows) {
          const bySide = collected.get(row.name) ?? new Map<string, Row[]>();
          collected.set(row.name, bySide);
          bySide.set(side, [...(bySide.get(side) ?? []), row]);
        }
      }

  const results = [...collected].map(([name, bySide]): Result => {
    const theirs = bySide.get("peer");
    const mine = devices.flatMap((device) => {
      const rows = bySide.get(device);
      return rows ? [[device, figures(rows)] as const] : [];
    });
    return { name, ours: Object.fromEntries(mine), peer: theirs ? figures(theirs) : null };
  });
  const cpu = cpus()[0]?.model.trim() || process.arch;
  const report: Report = {
    date: new Date().toISOString().slice(0, 10),
    command: command(),
    machine: {
      cpu,
      cores: availableParallelism(),
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      platform: `${process.platform} ${process.arch}`,
      isas: addon ? addonIsas(addon) : [],
      loadBefore,
    },
    versions: { node: process.versions.node, peer: versions ?? null },
    devices: Object.fromEntries(devices.map((device) => [device, isas[device] as string])),
    threads,
    rounds,
    repeat,
    results,
  };

  console.log(timeTable(report));
  const training = trainingTable(report);
  if (training) console.log(`\n${training}`);
  const slug = cpu
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
  const targets = [
    ...(options.save ? [fileURLToPath(new URL(`results/${report.date}-${slug}`, import.meta.url))] : []),
    ...(options.out === undefined ? [] : [options.out.replace(/\.(json|md)$/, "")]),
  ];
  for (const target of targets) {
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(`${target}.json`, json(report));
    writeFileSync(`${target}.md`, markdown(report));
    console.error(`written: ${target}.json and .md`);
  }
}

try {
  await main();
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
