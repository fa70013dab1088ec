/** From the rounds to figures: medians, the tables as Markdown, and the document that is saved. */
import type { PeerVersions, Row } from "./sides.ts";

/** One side's figures for one workload over all rounds. */
export interface Figures {
  /** Median over the rounds of each round's median, milliseconds. */
  ms: number;
  /** Fastest single run. */
  min: number;
  /** Each round's median, in order. */
  rounds: number[];
  /** The last round's further figures; peak_rss_mb and images_per_s over all rounds. */
  extra: Record<string, number>;
}

export interface Result {
  name: string;
  /** By device. */
  ours: Record<string, Figures>;
  /** Null where the peer did not run. */
  peer: Figures | null;
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
    /** Load of the last minute when the run began: near 0 on a quiet machine. */
    loadBefore: number;
  };
  versions: { node: string; peer: PeerVersions | null };
  /** Instruction set by device. */
  devices: Record<string, string>;
  threads: number;
  rounds: number;
  repeat: number;
  results: Result[];
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/** One workload's rows, one a round. */
export function figures(rows: readonly Row[]): Figures {
  const rounds = rows.map((row) => row.ms.median);
  const ms = median(rounds);
  const extra = { ...(rows.at(-1) as Row).extra };
  if (extra.peak_rss_mb !== undefined) extra.peak_rss_mb = Math.max(...rows.map((row) => row.extra.peak_rss_mb as number));
  if (extra.images_per_s !== undefined) extra.images_per_s = ((extra.batch as number) / ms) * 1e3;
  return { ms, min: Math.min(...rows.map((row) => row.ms.min)), rounds, extra };
}

/** A Markdown table that reads well on a terminal too; all columns but the first stand to the right. */
export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((cell, i) => Math.max(3, cell.length, ...rows.map((row) => (row[i] as string).length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => (i ? cell.padStart(widths[i] as number) : cell.padEnd(widths[i] as number))).join(" | ")} |`;
  const rule = `| ${widths.map((w, i) => (i ? `${"-".repeat(w - 1)}:` : "-".repeat(w))).join(" | ")} |`;
  return [line(head), rule, ...rows.map(line)].join("\n");
}

const digits = (value: number) => value.toFixed(value < 10 ? 2 : 1);

/** Times: each device's milliseconds and how many times faster than the peer it is. */
export function timeTable({ devices, results }: Report): string {
  const names = Object.keys(devices);
  const head = ["workload", "peer ms", ...names.flatMap((device) => [`${device} ms`, "peer / ours"])];
  const rows = results.map(({ name, ours, peer }) => [
    name,
    peer ? digits(peer.ms) : "",
    ...names.flatMap((device) => {
      const mine = ours[device];
      return mine ? [digits(mine.ms), peer ? (peer.ms / mine.ms).toFixed(2) : ""] : ["", ""];
    }),
  ]);
  return markdownTable(head, rows);
}

/** What belongs to the training steps beside their time, or undefined where none was run. */
export function trainingTable({ results }: Report): string | undefined {
  const rows = results.flatMap(({ name, ours, peer }) =>
    Object.entries({ ...(peer ? { peer } : {}), ...ours })
      .filter(([, { extra }]) => extra.firing_rate !== undefined)
      .map(([side, { extra }]) => [
        name,
        side,
        (extra.firing_rate as number).toFixed(4),
        String(extra.params),
        digits(extra.images_per_s as number),
        (extra.peak_rss_mb as number).toFixed(0),
      ]),
  );
  return rows.length ? markdownTable(["workload", "side", "firing rate", "parameters", "images/s", "peak RSS MiB"], rows) : undefined;
}

/** The whole as Markdown. */
export function markdown(report: Report): string {
  const { machine, versions, devices, threads, rounds, repeat } = report;
  const sides = Object.entries(devices).map(([device, isa]) => `${device} (${isa})`);
  const { peer } = versions;
  const facts = [
    `Machine: ${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.platform}; instruction sets ${machine.isas.join(", ") || "unknown (no native addon)"}; load before the run ${machine.loadBefore.toFixed(2)}.`,
    `Sides: ${sides.join(", ")} on Node ${versions.node}; ${peer ? `peer PyTorch ${peer.torch} (${peer.isa}) with SpikingJelly ${peer.spikingjelly}` : "the peer did not run"}.`,
    `Threads a side: ${threads}. Rounds: ${rounds}, in each ${repeat} timed runs a side, one side after the other. Figures are medians; a ratio above 1 means faster here.`,
    `Command: \`${report.command}\`.`,
  ];
  const training = trainingTable(report);
  const parts = [`# Benchmark of ${report.date}`, facts.map((fact) => `- ${fact}`).join("\n"), timeTable(report)];
  if (training) parts.push("A comparison of training steps holds only at like firing rates.", training);
  return `${parts.join("\n\n")}\n`;
}

/** The whole as JSON, six digits a figure. */
export function json(report: Report): string {
  return `${JSON.stringify(report, (_, v) => (typeof v === "number" && !Number.isInteger(v) ? Number(v.toPrecision(6)) : v), 2)}\n`;
}
