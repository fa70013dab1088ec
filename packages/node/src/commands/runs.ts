/** `spikeloom runs`: the runs in a folder side by side. Half-written and damaged ones have a row too, which says what is wrong. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { SpikeloomError } from "spikeloom";
import { csv } from "../csv.ts";
import { diskError, writeFileAtomic } from "../files.ts";
import { type Recipe, recipeEpochs } from "../recipe.ts";
import { duration, energy, percent } from "../report/format.ts";
import { FILES, RunFolder } from "../run-folder.ts";
import { type Column, table } from "../table.ts";

/** What rows can be sorted by. */
export type SortKey =
  | ("name" | "model" | "data" | "epochs" | "status" | "accuracy" | "best")
  | ("firing" | "energy" | "time" | "seed" | "device" | "date");

export interface RunsOptions {
  /** Runs, or folders of runs. */
  folders?: readonly string[] | undefined;
  sort?: SortKey | undefined;
  json?: boolean | undefined;
  /** Where to write CSV; - is the standard output. */
  csv?: string | undefined;
}

/** What is known of a run; null for what is not. */
export interface RunRow {
  name: string;
  path: string;
  model: string | null;
  data: string | null;
  epochs: number;
  totalEpochs: number | null;
  /** `stopped` can be resumed; `failed` ended before its first checkpoint; `damaged` has files that cannot be read. */
  status: "running" | "done" | "stopped" | "failed" | "damaged";
  /** Of the last test and of the best one. */
  accuracy: number | null;
  best: number | null;
  firingRate: number | null;
  energyPicojoules: number | null;
  /** Of training and tests, over all resumed parts. */
  seconds: number | null;
  seed: number | null;
  device: string | null;
  /** When it ended or last wrote, ISO 8601. */
  date: string | null;
  /** What cannot be read. */
  problem: string | null;
}

/** How rows are sorted by a key: what it reads, and whether the largest stands first. */
const KEYS: Readonly<Record<SortKey, { of(row: RunRow): string | number | null; falling?: boolean }>> = {
  name: { of: (r) => r.name },
  model: { of: (r) => r.model },
  data: { of: (r) => r.data },
  epochs: { of: (r) => r.epochs, falling: true },
  status: { of: (r) => r.status },
  accuracy: { of: (r) => r.accuracy, falling: true },
  best: { of: (r) => r.best, falling: true },
  firing: { of: (r) => r.firingRate },
  energy: { of: (r) => r.energyPicojoules },
  time: { of: (r) => r.seconds },
  seed: { of: (r) => r.seed },
  device: { of: (r) => r.device },
  date: { of: (r) => r.date, falling: true },
};

export async function run({ folders = [], sort = "name", json, csv }: RunsOptions): Promise<void> {
  const key = KEYS[sort];
  const asked = folders.length ? folders : ["runs"];
  const rows: RunRow[] = [];
  for (const folder of asked) for (const [path, name] of runsIn(folder, folders.length > 0)) rows.push(await rowOf(path, name));
  rows.sort((a, b) => compare(key.of(a), key.of(b), key.falling ?? false) || compare(a.name, b.name, false));
  if (csv !== undefined && csv !== "-") await writeFileAtomic(csv, `${csvOf(rows)}\n`);
  if (csv === "-") console.log(csvOf(rows));
  else if (json) console.log(JSON.stringify(rows));
  else if (!rows.length) console.log(`no runs in ${asked.join(", ")}: spikeloom train RECIPE.yml makes one`);
  else {
    console.log(table(COLUMNS, rows));
    for (const { name, problem } of rows) if (problem) console.log(`${name}: ${problem}`);
  }
}

function isRun(path: string): boolean {
  return Object.values(FILES).some((name) => existsSync(join(path, name)));
}

/** The runs that a folder is or holds, each with its name. */
function runsIn(folder: string, mustExist: boolean): [path: string, name: string][] {
  if (isRun(folder)) return [[folder, basename(folder) || folder]];
  try {
    return readdirSync(folder)
      .filter((name) => isRun(join(folder, name)))
      .map((name) => [join(folder, name), name]);
  } catch (error) {
    if (!mustExist && (error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw diskError(error, `cannot list ${folder}`);
  }
}

async function rowOf(path: string, name: string): Promise<RunRow> {
  const folder = new RunFolder(path);
  const problems: string[] = [];
  const attempt = async <T>(fn: () => T | Promise<T>): Promise<T | undefined> => {
    try {
      return await fn();
    } catch (error) {
      problems.push((error as Error).message);
      return undefined;
    }
  };
  const recipe: Recipe | undefined = await attempt(() => folder.recipe());
  const events = (await attempt(() => folder.events())) ?? [];
  const summary = folder.has("summary") ? await attempt(() => readSummary(folder)) : undefined;

  const epochs = events.filter((e) => e.type === "epoch");
  const tests = epochs.flatMap(({ testAccuracy }) => number(testAccuracy) ?? []);
  const done = epochs.reduce((most, e) => Math.max(most, (number(e.epoch) ?? -1) + 1), 0);
  const totalEpochs = (recipe && recipeEpochs(recipe)) ?? number(summary?.epochs) ?? null;
  const complete = summary !== undefined && folder.has("weights") && done >= (totalEpochs ?? 0);
  const { device, isa } = summary ?? {};
  return {
    name,
    path,
    model: recipe?.model.name ?? text(summary?.model),
    data: recipe?.data.name ?? text(summary?.dataset),
    epochs: done,
    totalEpochs,
    status:
      folder.owner() !== undefined
        ? "running"
        : problems.length
          ? "damaged"
          : complete
            ? "done"
            : folder.has("checkpoint")
              ? "stopped"
              : "failed",
    accuracy: (complete ? number(summary.testAccuracy) : undefined) ?? tests.at(-1) ?? null,
    best: tests.length ? Math.max(...tests) : (number(summary?.testAccuracy) ?? null),
    firingRate: (complete ? number(summary.firingRate) : undefined) ?? number(epochs.at(-1)?.firingRate) ?? null,
    energyPicojoules: (complete ? number(summary.energyPicojoules) : undefined) ?? null,
    seconds: events.length ? events.reduce((sum, e) => sum + secondsOf(e), 0) : null,
    seed: recipe?.seed ?? number(summary?.seed) ?? null,
    device: text(device) && text(isa) ? `${device} (${isa})` : text(device),
    date: (complete ? finishedAt(summary) : undefined) ?? lastWritten(folder),
    problem: problems.length ? problems.join("; ").replace(/\s+/g, " ") : null,
  };
}

function readSummary(folder: RunFolder): Record<string, unknown> {
  const path = folder.file("summary");
  let content: string;
  try {
    content = readFileSync(path, "utf8");
  } catch (error) {
    throw diskError(error, `cannot read ${path}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch {
    // Said below.
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new SpikeloomError(`${path} is damaged: it is no JSON object`);
  return value as Record<string, unknown>;
}

/** Of a step, waiting for data included, or of an epoch's test. */
function secondsOf(event: Record<string, unknown>): number {
  return number(event.type === "step" ? event.seconds : event.testSeconds) ?? 0;
}

function finishedAt(summary: Record<string, unknown>): string | undefined {
  const date = Date.parse(text(summary.finishedAt) ?? "");
  return Number.isFinite(date) ? new Date(date).toISOString() : undefined;
}

function lastWritten(folder: RunFolder): string | null {
  for (const name of ["metrics", "recipe"] as const)
    try {
      return statSync(folder.file(name)).mtime.toISOString();
    } catch {
      // The next one, then.
    }
  return null;
}

function number(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

function text(value: unknown): string | null {
  return typeof value === "string" && value ? value : null;
}

/** What is not known stands last, whichever way the others go. */
function compare(a: string | number | null, b: string | number | null, falling: boolean): number {
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  return falling ? -order : order;
}

const DASH = "–";

const COLUMNS: readonly Column<RunRow>[] = [
  { head: "run", cell: (r) => r.name },
  { head: "model", cell: (r) => r.model ?? DASH },
  { head: "data", cell: (r) => r.data ?? DASH },
  { head: "epochs", right: true, cell: (r) => `${r.epochs}/${r.totalEpochs ?? DASH}` },
  { head: "status", cell: (r) => r.status },
  { head: "accuracy", right: true, cell: (r) => percent(r.accuracy) },
  { head: "best", right: true, cell: (r) => percent(r.best) },
  { head: "firing", right: true, cell: (r) => percent(r.firingRate, 1) },
  { head: "energy", right: true, cell: (r) => energy(r.energyPicojoules) },
  { head: "time", right: true, cell: (r) => duration(r.seconds) },
  { head: "seed", right: true, cell: (r) => (r.seed === null ? DASH : String(r.seed)) },
  { head: "device", cell: (r) => r.device ?? DASH },
  { head: "date", cell: (r) => r.date?.slice(0, 16).replace("T", " ") ?? DASH },
];

/** Raw numbers: accuracies and rates from 0 to 1, energy in picojoules. */
function csvOf(rows: readonly RunRow[]): string {
  const keys =
    "name,path,model,data,epochs,totalEpochs,status,accuracy,best,firingRate,energyPicojoules,seconds,seed,device,date,problem".split(
      ",",
    ) as (keyof RunRow)[];
  return csv([keys, ...rows.map((row) => keys.map((key) => row[key] ?? ""))]);
}
