/** From the rounds to figures: medians, agreement, the tables as Markdown, and the document that is saved. */
import { floorOf } from "./cases.ts";
import type { PeerVersions, Row } from "./sides.ts";
import { type Limits, limit, type Work } from "./work.ts";

/** What a workload gave, for the other side to agree with: the root mean square of all values, and some of them. */
export interface Check {
  rms: number;
  samples: number[];
}

/** How many values are compared. */
const SAMPLES = 64;

/**
 * The values of a result at places that both sides choose alike. `axes` leads to PyTorch's order: its axis i is axis `axes[i]` here.
 */
export function checkOf(data: ArrayLike<number>, shape: readonly number[], axes: readonly number[] = shape.map((_, i) => i)): Check {
  const strides = shape.map((_, i) => shape.slice(i + 1).reduce((n, d) => n * d, 1));
  const samples = Array.from({ length: SAMPLES }, (_, i) => {
    let flat = (i * 2654435761 + 12345) % data.length;
    let at = 0;
    for (const axis of axes.toReversed()) {
      const size = shape[axis] as number;
      at += (flat % size) * (strides[axis] as number);
      flat = Math.floor(flat / size);
    }
    return data[at] as number;
  });
  let squares = 0;
  for (let i = 0; i < data.length; i++) squares += (data[i] as number) ** 2;
  return { rms: Math.sqrt(squares / data.length), samples };
}

/** The largest difference of two results, in units of the second one's root mean square. */
export function difference(mine: Check, theirs: Check): number {
  const gaps = [...mine.samples.map((v, i) => Math.abs(v - (theirs.samples[i] as number))), Math.abs(mine.rms - theirs.rms)];
  return Math.max(...gaps) / theirs.rms;
}

/** Do two firing rates allow a comparison of times? */
export function alike(mine: number, theirs: number): boolean {
  return Math.abs(mine - theirs) <= 0.1 * Math.max(mine, theirs);
}

/** One side's figures for one workload over all rounds. */
export interface Figures {
  /** Median over the rounds of each round's median, milliseconds. */
  ms: number;
  /** Fastest single run. */
  min: number;
  /** Every timed run of each round, milliseconds. */
  samples: number[][];
  extra: Record<string, number>;
  check: Check;
  /** The peer's: which of its settings this is, and each one's median. */
  setting?: string;
  settings?: Record<string, number>;
}

/** A device with an instruction set and threads. */
export interface Column {
  name: string;
  device: string;
  isa: string;
  threads: number;
}

export interface Result {
  name: string;
  /** By column. */
  ours: Record<string, Figures>;
  /** By library and threads, e.g. "pytorch 2". */
  peers: Record<string, Figures>;
  /** What the work cannot do without, one entry a pass. */
  work: readonly Work[];
}

export interface Report {
  date: string;
  command: string;
  machine: {
    cpu: string;
    cores: number;
    memoryGiB: number;
    platform: string;
    /** Instruction sets of the native addon that this CPU has, best first. */
    isas: string[];
    /** Loads of the last 1, 5 and 15 minutes when the run began and when it ended: near 0 on a quiet machine. */
    loadBefore: number[];
    loadAfter: number[];
  };
  versions: { node: string; peer: PeerVersions | null };
  columns: Column[];
  /** By column; missing where they could not be measured. */
  limits: Record<string, Limits>;
  rounds: number;
  repeat: number;
  /** One process of a side ran several workloads: its peak memory says nothing about one of them. */
  shared: boolean;
  /** What was not run, and why. */
  notes: string[];
  results: Result[];
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/** One workload's rows, one a round. */
export function figures(rows: readonly Row[]): Figures {
  const last = rows.at(-1) as Row;
  const ms = median(rows.map((row) => median(row.ms)));
  const extra = { ...last.extra };
  extra.peak_rss_mb = Math.max(...rows.map((row) => row.extra.peak_rss_mb as number));
  return { ms, min: Math.min(...rows.flatMap((row) => row.ms)), samples: rows.map((row) => row.ms), extra, check: last.check };
}

/** The figures of the peer's fastest setting. */
export function bestSetting(bySetting: ReadonlyMap<string, Figures>): Figures {
  const ranked = [...bySetting].sort((a, b) => a[1].ms - b[1].ms);
  const [setting, best] = ranked[0] as [string, Figures];
  return { ...best, setting, settings: Object.fromEntries(ranked.map(([name, { ms }]) => [name, ms])) };
}

/** A Markdown table that reads well on a terminal too; all columns but the first stand to the right. */
export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((cell, i) => Math.max(3, cell.length, ...rows.map((row) => (row[i] as string).length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => (i ? cell.padStart(widths[i] as number) : cell.padEnd(widths[i] as number))).join(" | ")} |`;
  const rule = `| ${widths.map((w, i) => (i ? `${"-".repeat(w - 1)}:` : "-".repeat(w))).join(" | ")} |`;
  return [line(head), rule, ...rows.map(line)].join("\n");
}

const digits = (value: number) => (value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0));
const factor = (value: number) => `${value.toFixed(2)}x`;

const peerOf = (result: Result, threads: number): Figures | undefined => result.peers[`pytorch ${threads}`];

/** How many times faster than the peer on as many threads; undefined where the peer did not run or the two do not fire alike. */
export function ratio(result: Result, column: Column): number | undefined {
  const mine = result.ours[column.name];
  const theirs = peerOf(result, column.threads);
  if (!mine || !theirs) return undefined;
  const [a, b] = [mine.extra.firing_rate, theirs.extra.firing_rate];
  if (a !== undefined && b !== undefined && !alike(a, b)) return undefined;
  return theirs.ms / mine.ms;
}

/** Thread counts of the columns, most first. */
const threadCounts = ({ columns }: Report) => [...new Set(columns.map((c) => c.threads))].sort((a, b) => b - a);

/** Milliseconds of every column and how many times faster than the peer on as many threads. `!` marks a ratio below what is aimed at. */
export function timeTable(report: Report): string {
  const { columns, results } = report;
  const threads = threadCounts(report);
  const most = threads[0] as number;
  const aims = (name: string) => {
    const [native, wasm] = [floorOf(name, "native"), floorOf(name, "wasm")];
    return native === undefined ? "" : `${native} / ${wasm}`;
  };
  const head = ["workload, ms", ...threads.map((t) => `peer ${t}t`), ...columns.map((c) => c.name), "aim"];
  const rows = results.map((result) => [
    result.name,
    ...threads.map((t) => {
      const figures = peerOf(result, t);
      if (!figures) return "";
      return `${digits(figures.ms)}${figures.setting === "eager" || !figures.setting ? "" : ` ${figures.setting}`}`;
    }),
    ...columns.map((column) => {
      const mine = result.ours[column.name];
      if (!mine) return "";
      const r = ratio(result, column);
      if (r === undefined) return digits(mine.ms);
      const aim = column.threads === most ? floorOf(result.name, column.device) : undefined;
      return `${digits(mine.ms)} (${factor(r)}${aim !== undefined && r < aim ? " !" : ""})`;
    }),
    aims(result.name),
  ]);
  return markdownTable(head, rows);
}

/** Which limit binds each workload, what part of it each column reaches, and how far the results of the two sides lie apart. */
export function limitTable({ columns, results, limits }: Report): string {
  const head = ["reached of the limit", "adds, 1e9", "flop, 1e9", "MB", ...columns.map((c) => c.name), "difference"];
  const rows = results.map((result) => {
    const sum = (of: (work: Work) => number) => digits(result.work.reduce((n, work) => n + of(work), 0) / 1e9);
    const theirs = Object.values(result.peers)[0];
    const first = Object.values(result.ours)[0] as Figures;
    return [
      result.name,
      sum((w) => w.adds),
      sum((w) => w.flops),
      sum((w) => 1000 * (w.read + w.write)),
      ...columns.map((column) => {
        const mine = result.ours[column.name];
        const machine = limits[column.name];
        if (!mine || !machine) return "";
        const { ms, binding } = limit(result.work, machine);
        return `${((100 * ms) / mine.ms).toFixed(0)} % ${binding}`;
      }),
      theirs ? difference(first.check, theirs.check).toExponential(1) : "",
    ];
  });
  return markdownTable(head, rows);
}

/** The limits themselves. */
export function machineTable({ columns, limits }: Report): string | undefined {
  const measured = columns.flatMap((c) => (limits[c.name] ? [[c.name, limits[c.name] as Limits] as const] : []));
  if (!measured.length) return undefined;
  const sizes = (measured[0] as (typeof measured)[number])[1].bandwidth.map(({ mib }) => mib);
  const head = ["limits", "multiply-adds, Gflop/s", "additions, 1e9/s", ...sizes.map((mib) => `read / write ${mib} MiB, GB/s`)];
  const rows = measured.map(([name, { flops, adds, bandwidth }]) => [
    name,
    flops.toFixed(0),
    adds.toFixed(1),
    ...bandwidth.map(({ read, write }) => `${read.toFixed(0)} / ${write.toFixed(0)}`),
  ]);
  return markdownTable(head, rows);
}

/**
 * What belongs to models beside their time: firing, agreement, memory (not where one process ran everything: its peak is no model's own).
 * Undefined where none was run.
 */
export function modelTable({ columns, results, shared }: Report): string | undefined {
  const rows = results.flatMap((result) => {
    const theirs = Object.entries(result.peers)[0]?.[1];
    const sides = [
      ...Object.entries(result.peers).map(([name, f]) => [`${name}t`, f] as const),
      ...columns.flatMap((c) => (result.ours[c.name] ? [[c.name, result.ours[c.name] as Figures] as const] : [])),
    ];
    if (sides[0]?.[1].extra.params === undefined) return [];
    return sides.map(([side, { ms, extra }]) => {
      const rate = extra.firing_rate as number;
      const rss = extra.peak_rss_mb as number;
      const mine = columns.some((c) => c.name === side);
      const counts = !mine || !theirs ? "" : alike(rate, theirs.extra.firing_rate as number) ? "yes" : "NO";
      const losses = [extra.loss_1, extra.loss_2, extra.loss_3].map((l) => l?.toFixed(5) ?? "").join(" ");
      const share = mine && theirs ? ` (1/${((theirs.extra.peak_rss_mb as number) / rss).toFixed(1)})` : "";
      return [
        result.name,
        side,
        rate.toFixed(4),
        counts,
        losses,
        String(extra.params),
        digits(((extra.batch as number) / ms) * 1e3),
        ...(shared ? [] : [`${rss.toFixed(0)}${share}`]),
      ];
    });
  });
  const head = [
    "model",
    "side",
    "firing rate",
    "counts",
    "losses of 3 steps",
    "parameters",
    "images/s",
    ...(shared ? [] : ["peak RSS MiB"]),
  ];
  return rows.length ? markdownTable(head, rows) : undefined;
}

/** The LIF layer task against every library. Undefined where it was not run. */
export function layerTable({ columns, results }: Report): string | undefined {
  const rows = results
    .filter(({ name }) => name.startsWith("lif-layer"))
    .flatMap((result) => {
      const mine = columns.flatMap((c) => (result.ours[c.name] ? [[c, result.ours[c.name] as Figures] as const] : []));
      const times = (ms: number, device: string) => {
        const ours = mine.find(([c]) => c.device === device);
        return ours ? factor(ms / ours[1].ms) : "";
      };
      return [
        ...Object.entries(result.peers).map(([name, f]) => [
          result.name,
          name.replace(/ \d+$/, f.setting && f.setting !== "eager" ? ` (${f.setting})` : ""),
          digits(f.ms),
          (f.extra.firing_rate as number).toFixed(4),
          times(f.ms, "native"),
          times(f.ms, "wasm"),
        ]),
        ...mine.map(([c, f]) => [result.name, `spikeloom, ${c.name}`, digits(f.ms), (f.extra.firing_rate as number).toFixed(4), "", ""]),
      ];
    });
  const head = ["LIF layer, one thread", "library", "ms", "firing rate", "/ native", "/ wasm"];
  return rows.length ? markdownTable(head, rows) : undefined;
}

/** All tables of a report. */
export function tables(report: Report): string[] {
  return [timeTable(report), limitTable(report), machineTable(report), modelTable(report), layerTable(report)].filter(
    (table) => table !== undefined,
  );
}

/** The whole as Markdown. */
export function markdown(report: Report): string {
  const { machine, versions, columns, rounds, repeat, notes } = report;
  const { peer } = versions;
  const loads = (list: number[]) => list.map((l) => l.toFixed(2)).join(" ");
  const facts = [
    `Machine: ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.platform}; instruction sets ${machine.isas.join(", ") || "unknown (no native addon)"}; load before the run ${loads(machine.loadBefore)}, after it ${loads(machine.loadAfter)}.`,
    `Spikeloom on Node ${versions.node}: ${columns.map((c) => c.name).join(", ")} ("2t": two threads). ${peer ? `Peer: PyTorch ${peer.torch} (${peer.isa}) with SpikingJelly ${peer.spikingjelly}, each row by its fastest setting, named where it is not eager.` : "The peer did not run."}`,
    `Rounds: ${rounds}, in each at most ${repeat} timed runs a side, one side after the other. Figures are medians; "x" is the peer's time over ours with as many threads, "!" below the aim.`,
    `"Difference": the largest of 64 values and the root mean square, both sides on the same numbers, over the root mean square; of a training step, the first loss.`,
    `Command: \`${report.command}\`.`,
    ...notes,
  ];
  return `${[`# Benchmark of ${report.date}`, facts.map((fact) => `- ${fact}`).join("\n"), ...tables(report)].join("\n\n")}\n`;
}

/** The whole as JSON, six digits a figure. */
export function json(report: Report): string {
  return `${JSON.stringify(report, (_, v) => (typeof v === "number" && !Number.isInteger(v) ? Number(v.toPrecision(6)) : v), 1)}\n`;
}
