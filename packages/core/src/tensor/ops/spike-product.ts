/**
 * The product of spikes with weights, a convolution or a matrix product: which kernel makes it. Events cost as much as there are spikes;
 * tables of sums cost the same for any spikes, and less than events where those are many; where there are matrix units, their tiles do.
 */
import { device } from "../../runtime/engine.ts";
import { tablesRun } from "../../runtime/implementations.ts";
import { CONV_LIMITS, spikeUnits, TABLE_LIMITS, tableUnits } from "../../runtime/kernel-table.ts";
import { spikeTerms, tilesOfTerms } from "../../runtime/tiles.ts";
import { type SpikeFormat, type Tensor, wordsOf } from "../tensor.ts";
import { byEvents, run, setBits, tilesFor } from "./common.ts";
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
 * y [n, oh, ow, co] of spikes x [n, h, w, ci] and weights [kh, kw, ci, co], none of them empty.
 * @param adding by additions alone: never unpacked, nor on matrix units
 * @returns false, and y as it was, where the spikes should be unpacked instead
 */
export function spikeProduct(x: Tensor, weight: Tensor, bias: Tensor | null, y: Tensor, g: Window, adding = false): boolean {
  if (!fitsEvents(g)) return false;
  const format = x.spikes as SpikeFormat;
  // One spread only, and first: an object that is put together of several takes longer than some kernels.
  const args = {
    ...g,
    x: x.storage,
    wt: weight.storage,
    bias: bias?.storage ?? null,
    y: y.storage,
    planes: format.planes,
    scale: format.scale,
  };
  // One tap for each pixel: they are one row.
  const pixels = g.n * g.h * g.w;
  const row = g.kh * g.kw * g.sh * g.sw === 1 && g.ph + g.pw === 0 ? { ...g, n: 1, h: 1, oh: 1, w: pixels, ow: pixels } : g;
  const block = tableBlock(row, format.planes);
  const share = () => setBits(x) / (x.size * format.planes);
  if (block && tablesRun(device().isa, block.high * block.wide, share)) {
    const units = tableUnits(row.n * row.oh, row.ow, g.co, block);
    run(
      "spike_conv2d_table",
      { ...args, n: row.n, h: row.h, w: row.w, oh: row.oh, ow: row.ow, high: block.high, wide: block.wide },
      tilesFor(units, block.high * block.wide * g.kh * g.kw * wordsOf(g.ci) * 7),
    );
    return true;
  }
  const events = adding || byEvents("spikeProduct", x, g);
  const terms = events ? 0 : spikeTerms(device().isa);
  if (!events && !terms) return false;
  const units = spikeUnits(g.n, g.oh, g.ow, g.co, g.kh * g.kw);
  const tiles = tilesFor(units, (g.n * g.oh * g.ow * g.kh * g.kw * g.ci * g.co * format.planes) / 32 / units);
  const rows = (g.n * g.oh * g.ow * units) / spikeUnits(g.n, g.oh, g.ow, 1, 1);
  run("spike_conv2d", { ...args, terms }, tilesOfTerms(tiles, rows, terms));
  return true;
}
