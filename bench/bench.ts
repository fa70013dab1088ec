/**
 * `npm run bench`: Spikeloom against PyTorch + SpikingJelly on this machine, side by side in one run. See README.md here.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, tmpdir, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { SpikeloomError } from "spikeloom";
import { addonIsas, findAddon } from "../packages/node/src/addon.ts";
import { CASES, type Case, oneOf, type Spec } from "./cases.ts";
import { profileCase } from "./kernels.ts";
import { measureLimits } from "./limits.ts";
import { checkOptions, HELP, IGNORED, OPTIONS } from "./options.ts";
import { bestSetting, type Column, type Figures, figures, json, markdown, type Report, type Result, tables } from "./report.ts";
import { type Answer, HOW, type Job, LAYER_PEERS, ours, peer, peerVersions, prepare, RELAXED, type Row } from "./sides.ts";
import { SWEEPS, sweep } from "./sweep.ts";
import type { Limits } from "./work.ts";

function count(option: string, value: string | undefined, otherwise: number): number {
  const n = Number(value ?? otherwise);
  if (!Number.isInteger(n) || n < 1) throw new SpikeloomError(`${option}: expected a whole number of at least 1, found ${value}`);
  return n;
}

const listOf = (option: string, text: string, names: readonly string[]) => text.split(",").map((name) => oneOf(option, name, names));

/** The run as one would type it again; where its files went is nobody's business. */
function command(): string {
  const args = process.argv.slice(2).filter((arg, i, all) => !arg.startsWith("--out") && all[i - 1] !== "--out");
  return ["npm run bench", ...(args.length ? ["--", ...args] : [])].join(" ");
}

/** Which settings of the peer can make a difference to a case. */
function settingsOf(kind: Spec["kind"], wanted: readonly string[]): string[] {
  const layout = kind === "conv" || kind === "train" || kind === "infer";
  const graph = kind !== "conv" && kind !== "linear";
  return wanted.filter((setting) => setting === "eager" || (setting === "compile" ? graph : layout));
}

interface ColumnChoice {
  devices: readonly string[];
  isas: readonly string[];
  threads: readonly number[];
  /** Lesser instruction sets run with most threads only. */
  reduced: boolean;
}

function columnsOf({ devices, isas, threads, reduced }: ColumnChoice): Column[] {
  const most = Math.max(...threads);
  const native = isas.flatMap((isa, i) =>
    threads.filter((t) => !reduced || i === 0 || t === most).map((t) => ({ name: `${isa} ${t}t`, device: "native", isa, threads: t })),
  );
  const wasm = threads.map((t) => ({ name: `wasm ${t}t`, device: "wasm", isa: "simd128", threads: t }));
  const relaxed = threads.map((t) => ({ name: `relaxed ${t}t`, device: "wasm", isa: "relaxed-simd", threads: t }));
  return [
    ...(devices.includes("native") ? native : []),
    ...(devices.includes("wasm") ? wasm : []),
    ...(devices.includes("relaxed") ? relaxed : []),
  ];
}

/** Rows by workload and side, and by the peer's setting. */
class Collected {
  readonly order: string[] = [];
  private readonly rows = new Map<string, Map<string, Row[]>>();

  add(side: string, { rows }: Answer): void {
    for (const row of rows) {
      if (!this.rows.has(row.name)) this.order.push(row.name);
      const bySide = this.rows.get(row.name) ?? new Map<string, Row[]>();
      this.rows.set(row.name, bySide);
      bySide.set(side, [...(bySide.get(side) ?? []), row]);
    }
  }

  get(workload: string, side: string): Row[] | undefined {
    return this.rows.get(workload)?.get(side);
  }

  /** The peer's figures with a number of threads, by its fastest setting. */
  peer(workload: string, library: string, threads: number, settings: readonly string[]): Figures | undefined {
    const tried = settings.flatMap((setting) => {
      const rows = this.get(workload, `${library} ${threads} ${setting}`);
      return rows ? [[setting, figures(rows)] as const] : [];
    });
    return tried.length ? bestSetting(new Map(tried)) : undefined;
  }
}

async function main(): Promise<void> {
  const { values: options } = parseArgs({ options: OPTIONS });
  if (options.help) return console.log(HELP);
  checkOptions(options);
  for (const name of IGNORED) delete process.env[name];
  const { quick = false } = options;
  const addon = findAddon();
  const isas = addon ? addonIsas(addon) : [];
  const devices = listOf("--device", options.device ?? (addon ? "native,wasm" : "wasm"), ["native", "wasm", "relaxed"]);
  if (devices.includes("native") && !addon) throw new SpikeloomError("--device native: the addon is not built: npm run build");
  if (devices.includes("relaxed") && !existsSync(RELAXED))
    throw new SpikeloomError("--device relaxed: the kernels are not built: npx tsx scripts/build.ts relaxed");
  const processors = availableParallelism();
  const threads = [
    ...new Set(options.threads?.split(",").map((t) => count("--threads", t, 1)) ?? (quick ? [processors] : [processors, 1])),
  ];
  const rounds = count("--rounds", options.rounds, quick ? 1 : 3);
  const repeat = count("--repeat", options.repeat, quick ? 2 : 7);
  const chosen = options.isa === undefined ? (quick ? isas.slice(0, 1) : isas) : listOf("--isa", options.isa, isas);
  const most = Math.max(...threads);

  const folder = mkdtempSync(join(tmpdir(), "spikeloom-bench-"));
  try {
    if (options.profile !== undefined) {
      const name = oneOf("--profile", options.profile, Object.keys(CASES));
      for (const device of devices) console.log(`${await profileCase(name, { device, threads: most, repeat, folder })}\n`);
      return;
    }
    const cpu = cpus()[0]?.model.trim() || process.arch;
    const slug = cpu
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, "-")
      .replace(/^-|-$/g, "");
    const date = new Date().toISOString().slice(0, 10);
    const targetsOf = (suffix: string) => [
      ...(options.save ? [fileURLToPath(new URL(`results/${date}-${slug}${suffix}`, import.meta.url))] : []),
      ...(options.out === undefined ? [] : [options.out.replace(/\.(json|md|svg)$/, "")]),
    ];
    const write = (target: string, files: Readonly<Record<string, string>>) => {
      mkdirSync(dirname(target), { recursive: true });
      for (const [extension, text] of Object.entries(files)) writeFileSync(`${target}.${extension}`, text);
      console.error(`written: ${Object.keys(files).join(", ")} of ${target}`);
    };
    const quiet = loadavg();
    if ((quiet[0] as number) > 0.5) console.error(`The machine is not quiet (load ${quiet[0]?.toFixed(2)}): the figures will be rough.`);
    const machine = {
      cpu,
      cores: processors,
      memoryGiB: Math.round(totalmem() / 2 ** 30),
      platform: `${process.platform} ${process.arch}`,
      isas,
    };

    if (options.sweep !== undefined) {
      const name = oneOf("--sweep", options.sweep, SWEEPS);
      const { text, svg, data } = await sweep(name, { devices, threads: most, repeat, quick, addon });
      console.log(text);
      const loads = { loadBefore: quiet, loadAfter: loadavg() };
      const head = { date, command: command(), machine: { ...machine, ...loads }, node: process.versions.node };
      for (const target of targetsOf(`-${name}`)) write(target, { json: `${JSON.stringify({ ...head, ...data }, null, 1)}\n`, svg });
      return;
    }

    const names = (options.only ?? Object.keys(CASES).filter((name) => !quick || !CASES[name]?.long))
      .flatMap((n) => n.split(","))
      .map((n) => oneOf("--only", n, Object.keys(CASES)));
    const columns = columnsOf({
      devices,
      isas: chosen,
      threads,
      reduced: options.isa === undefined && options.threads === undefined,
    });
    const notes: string[] = [];
    const say = (note: string) => {
      if (notes.includes(note)) return;
      notes.push(note);
      console.error(note);
    };
    const wantsPeer = oneOf("--peer", options.peer ?? "pytorch", ["pytorch", "none"]) === "pytorch";
    const versions = wantsPeer ? await peerVersions() : undefined;
    if (wantsPeer && !versions) say(`No peer: Python with torch and spikingjelly was not found: ${HOW.pytorch}. Its columns stay empty.`);
    const all = ["eager", "channels_last", "compile"];
    const settings = [...new Set(["eager", ...listOf("--settings", options.settings ?? (quick ? "eager" : all.join(",")), all)])];

    console.error("preparing inputs and weights");
    const everything = names.flatMap((name) => CASES[name]?.specs ?? []);
    const fileOf = (spec: Spec) => join(folder, `${spec.name}.safetensors`);
    await prepare(everything, everything.map(fileOf));
    const limits: Record<string, Limits> = {};
    console.error("measuring the machine's limits");
    for (const { name, device, isa, threads: t } of columns) {
      const found = await measureLimits(device, isa, t, isas[0]);
      if (found) limits[name] = found;
      else say("No C++ compiler: the native distances to the limit stay empty.");
    }

    const collected = new Collected();
    // In a quick run one process does everything; else each case has its own, so that its peak memory is its own too.
    const groups = quick ? [names] : names.map((n) => [n]);
    for (let round = 0; round < rounds; round++)
      for (const group of groups) {
        const cases = group.map((n) => CASES[n] as Case);
        const { specs, threads: only } = cases[0] as Case;
        const kind = (specs[0] as Spec).kind;
        const job: Job = { files: cases.flatMap((c) => c.specs.map(fileOf)), repeat, seconds: quick ? 1 : 3 };
        const runs: { side: string; start: () => Promise<Answer>; peer: boolean }[] = [];
        const fitting = columns.filter((c) => only === undefined || c.threads === only);
        if (!fitting.length) say(`${group.join(", ")} needs --threads ${only}: left out.`);
        if (versions)
          for (const t of new Set(fitting.map((c) => c.threads)))
            for (const setting of settingsOf(kind, settings)) {
              const side = `pytorch ${t} ${setting}`;
              // After the first round only the fastest settings go on.
              const mine = collected.order.filter((w) => specs.some((s) => w.startsWith(s.name)));
              const wins = mine.some((w) => collected.peer(w, "pytorch", t, settings)?.setting === setting);
              if (round === 0 || wins) runs.push({ side, start: () => peer("pytorch", setting, t, job), peer: true });
            }
        if (kind === "lif-layer" && wantsPeer && fitting.length)
          for (const library of LAYER_PEERS)
            runs.push({ side: `${library} 1 eager`, start: () => peer(library, "eager", 1, job), peer: true });
        for (const column of fitting) runs.push({ side: column.name, start: () => ours(column, job), peer: false });
        // Who begins changes from round to round, so that no side always finds the machine warm.
        for (const { side, start, peer: theirs } of round % 2 ? runs.toReversed() : runs) {
          if (round > 0 && theirs && notes.some((n) => n.startsWith(`${group.join(", ")}: ${side}`))) continue;
          console.error(`round ${round + 1} of ${rounds}: ${group.join(", ")}, ${side}`);
          try {
            collected.add(side, await start());
          } catch (error) {
            if (!theirs) throw error;
            const library = side.split(" ")[0] as string;
            const last = (error as Error).message.split("\n").at(-1) as string;
            say(
              `${group.join(", ")}: ${side} did not run (${last.slice(0, 200)}). ${side.endsWith("eager") ? `How to get it: ${HOW[library]}.` : ""}`,
            );
          }
        }
      }

    const results = collected.order.map((name): Result => {
      const mine = columns.flatMap((c) => {
        const rows = collected.get(name, c.name);
        return rows ? [[c.name, rows] as const] : [];
      });
      const peers = ["pytorch", ...LAYER_PEERS].flatMap((library) =>
        threads.flatMap((t) => {
          const found = collected.peer(name, library, t, settings);
          return found ? [[`${library} ${t}`, found] as const] : [];
        }),
      );
      return {
        name,
        ours: Object.fromEntries(mine.map(([column, rows]) => [column, figures(rows)])),
        peers: Object.fromEntries(peers),
        work: mine[0]?.[1][0]?.work ?? [],
      };
    });
    const report: Report = {
      date,
      command: command(),
      machine: { ...machine, loadBefore: quiet, loadAfter: loadavg() },
      versions: { node: process.versions.node, peer: versions ?? null },
      columns,
      limits,
      rounds,
      repeat,
      shared: quick,
      notes,
      results,
    };
    console.log(tables(report).join("\n\n"));
    for (const target of targetsOf("")) write(target, { json: json(report), md: markdown(report) });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

try {
  await main();
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
