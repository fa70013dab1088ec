/**
 * The product of spikes with weights, a convolution or a matrix product: which kernel makes it. Events cost as much as there are spikes;
 * tables of sums cost the same for any spikes, and less than events where those are many.
 */
import { device } from "../../runtime/engine.ts";
import { implementation } from "../../runtime/implementations.ts";
import { CONV_LIMITS, spikeUnits, TABLE_LIMITS, tableUnits } from "../../runtime/kernel-table.ts";
import { empty, type SpikeFormat, type Tensor, wordsOf } from "../tensor.ts";
import { run, tilesFor } from "./common.ts";
import type { Window } from "./window.ts";

/** Do the spikes that one window row may meet fit the tables of the event-driven kernel? */
const fitsEvents = (g: Window): boolean => wordsOf(g.ci) * Math.min(g.w, (g.kw - 1) * g.dw + 1) <= CONV_LIMITS.words;

/** Output rows and columns of a block for the table kernel: large, since tables are made anew for each; null where none has room. */
export function tableBlock(g: Window, planes: number): { high: number; wide: number } | null {
  const words = wordsOf(g.ci) * planes * g.kh;
  const reach = (g.kw - 1) * g.dw + 1;
  const columns = Math.floor(TABLE_LIMITS.words / words);
  if (columns < reach) return null;
  const even = (size: number, most: number) => Math.ceil(size / Math.ceil(size / Math.min(size, most)));
  const wide = even(g.ow, Math.min(TABLE_LIMITS.pixels, Math.floor((columns - reach) / g.sw) + 1));
  const most = Math.min(Math.floor(TABLE_LIMITS.pixels / wide), Math.floor(columns / ((wide - 1) * g.sw + reach)));
  return { high: even(g.n * g.oh, most), wide };
}

/**
 * From which share of spikes on tables take less time than events (measured for 3 x 3 and 1 x 1 windows of 64 to 2048 channels), by instruction
 * set: vectors of four lanes need four loads where one of sixteen needs one. Few pixels pay for the making of the tables later.
 */
const TABLES_FROM: Readonly<Record<string, number>> = { avx512: 0.22, avx2: 0.24, baseline: 0.36 };
const tablesPay = (share: number, pixels: number): boolean => share > (TABLES_FROM[device().isa] ?? 0.47) + 16 / pixels;

/** Which share of the elements spikes. */
function spikeShare(x: Tensor): number {
  const c = x.shape[x.rank - 1] as number;
  const { planes } = x.spikes as SpikeFormat;
  const rows = x.size / c;
  const chunks = tilesFor(rows, (planes * c) / 32);
  const partial = empty([chunks, 2]);
  run("spike_stats", { x: x.storage, partial: partial.storage, rows, c, planes, chunks }, chunks);
  const counts = device().view(partial.storage);
  let active = 0;
  for (let q = 0; q < chunks; q++) active += counts[2 * q + 1] as number;
  partial.dispose();
  return active / x.size;
}

/**
 * y [n, oh, ow, co] of spikes x [n, h, w, ci] and weights [kh, kw, ci, co], none of them empty.
 * @returns false, and y as it was, where the spikes should be unpacked instead
 */
export function spikeProduct(x: Tensor, weight: Tensor, bias: Tensor | null, y: Tensor, g: Window): boolean {
  const choice = implementation("spikeProduct");
  if (choice === "dense") return false;
  const format = x.spikes as SpikeFormat;
  const args = { x: x.storage, wt: weight.storage, bias: bias?.storage ?? null, y: y.storage, ...format };
  const events = fitsEvents(g);
  // One tap for each pixel: they are one row.
  const row =
    g.kh * g.kw * g.sh * g.sw === 1 && g.ph + g.pw === 0 ? { ...g, n: 1, h: 1, oh: 1, w: g.n * g.h * g.w, ow: g.n * g.h * g.w } : g;
  const block = choice === "event" ? null : tableBlock(row, format.planes);
  if (block && (choice === "table" || !events || tablesPay(spikeShare(x), block.high * block.wide))) {
    const units = tableUnits(row.n * row.oh, row.ow, g.co, block);
    run("spike_conv2d_table", { ...args, ...row, ...block }, tilesFor(units, block.high * block.wide * g.kh * g.kw * wordsOf(g.ci) * 7));
    return true;
  }
  if (!events) return false;
  const units = spikeUnits(g.n, g.oh, g.ow, g.co, g.kh * g.kw);
  run("spike_conv2d", { ...args, ...g }, tilesFor(units, (g.n * g.oh * g.ow * g.kh * g.kw * g.ci * g.co * format.planes) / 32 / units));
  return true;
}
