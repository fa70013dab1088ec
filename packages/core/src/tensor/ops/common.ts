/** What every op file needs: running kernels, dense views of spikes, and the profile that counts where those happen. */
import type { ProductShape } from "../../runtime/costs.ts";
import { type KernelArgs, tilesFor } from "../../runtime/device.ts";
import { device } from "../../runtime/engine.ts";
import { spikeImplementation } from "../../runtime/implementations.ts";
import { type KernelName, REDUCE, spikeGradBlocks, spikeGradTiles } from "../../runtime/kernel-table.ts";
import { spikeTerms } from "../../runtime/tiles.ts";
import { type Shape, wrong } from "../shape.ts";
import { type DType, denseStorage, empty, expectTensor, type SpikeFormat, Tensor } from "../tensor.ts";
import type { Window } from "./window.ts";

export { tilesFor };

export function run<K extends KernelName>(kernel: K, args: KernelArgs<K>, tiles: number): void {
  device().run(kernel, args, tiles);
}

/** Check dtypes: f32, or spikes where `spikes` is true. */
export function expectFloat(op: string, argument: string, t: Tensor): void {
  expectTensor(op, argument, t);
  if (t.dtype !== "f32" && t.dtype !== "spikes") wrong(op, argument, "of dtype f32 or spikes", t.dtype);
}

export function expectDType(op: string, argument: string, t: Tensor, ...dtypes: DType[]): void {
  expectTensor(op, argument, t);
  if (!dtypes.includes(t.dtype)) wrong(op, argument, `of dtype ${dtypes.join(" or ")}`, t.dtype);
}

const unpacked = new Map<string, number>();

/** How often each op had to unpack spikes to floats, since the last reset: where a model pays for having no spike kernel. */
export function denseViews(): ReadonlyMap<string, number> {
  return unpacked;
}

export function resetDenseViews(): void {
  unpacked.clear();
}

/** f32 view of a float or spike tensor (the tensor itself when it is f32). Lives until the surrounding scope ends. */
export function dense(op: string, t: Tensor): Tensor {
  if (t.dtype === "f32") return t;
  if (t.dtype !== "spikes") wrong(op, "every argument", "of dtype f32 or spikes", t.dtype);
  unpacked.set(op, (unpacked.get(op) ?? 0) + 1);
  return new Tensor(t.shape, "f32", denseStorage(t));
}

/** The set bits of a spike tensor, of all planes; counted once for its memory. */
export function setBits(t: Tensor): number {
  const { storage } = t;
  const on = device();
  if (storage.counted?.on === on) return storage.counted.bits;
  const rows = storage.length;
  // Partial sums are f32: each must stay below 2^24 to be exact.
  const chunks = Math.max(tilesFor(rows, 0.25), Math.ceil(rows / 2 ** 18));
  const partial = empty([chunks, 2]);
  run("spike_stats", { x: storage, partial: partial.storage, rows, c: 32, planes: 1, chunks }, chunks);
  const values = on.view(partial.storage);
  let bits = 0;
  for (let q = 0; q < chunks; q++) bits += values[2 * q] as number;
  partial.dispose();
  storage.counted = { on, bits };
  return bits;
}

/** Does a product with spikes go through the event-driven kernels? By its shape and its spikes, or as forced. */
export function byEvents(operation: "spikeProduct" | "spikeProductGradWeight", x: Tensor, shape: ProductShape): boolean {
  const { planes } = x.spikes as SpikeFormat;
  return spikeImplementation(operation, device().isa, shape, planes, () => setBits(x)) === "event";
}

/**
 * Weight gradient [kh, kw, ci, co] of a convolution fed with spikes x, whose output has the gradient gy. A few blocks of channels are
 * not work for many threads: images are then cut into chunks, and their sums added.
 * @returns null where the spikes should be unpacked instead
 */
export function spikeWeightGradient(x: Tensor, gy: Tensor, shape: Shape, g: Window): Tensor | null {
  const format = x.spikes as SpikeFormat;
  const events = byEvents("spikeProductGradWeight", x, g);
  const terms = events ? 0 : spikeTerms(device().isa);
  if (!events && !terms) return null;
  const gw = empty(shape);
  if (gw.size === 0) return gw;
  const blocks = (terms ? spikeGradTiles : spikeGradBlocks)(g.ci, g.co, g.kh * g.kw);
  const chunks = terms ? 1 : Math.max(1, Math.min(g.n, Math.floor(8 / blocks)));
  const partial = chunks > 1 ? empty([chunks, gw.size]) : gw;
  const units = chunks * blocks;
  const cost = (g.n * g.oh * g.ow * format.planes * g.kh * g.kw * g.ci * g.co) / 32 / units;
  const args = { ...g, ...format, x: x.storage, gy: gy.storage, gw: partial.storage, chunks, terms };
  run("spike_conv2d_grad_weight", args, tilesFor(units, cost));
  if (chunks > 1) {
    const op = REDUCE.indexOf("sum");
    run("reduce", { x: partial.storage, y: gw.storage, outer: 1, n: chunks, inner: gw.size, chunks: 1, op, scale: 1 }, 1);
  }
  return gw;
}

/** scale * sum over the rows of x [rows, c]: f32 [c]. In chunks that follow from the shape alone. */
export function sumRows(x: Tensor, rows: number, c: number, scale = 1): Tensor {
  const op = REDUCE.indexOf("sum");
  const chunks = tilesFor(rows, c);
  const y = empty([c]);
  const partial = chunks > 1 ? empty([chunks, c]) : y;
  run("reduce", { x: x.storage, y: partial.storage, outer: 1, n: rows, inner: c, chunks, op, scale: chunks > 1 ? 1 : scale }, chunks);
  if (chunks > 1) run("reduce", { x: partial.storage, y: y.storage, outer: 1, n: chunks, inner: c, chunks: 1, op, scale }, 1);
  return y;
}
