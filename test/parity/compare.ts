/** Comparing what was computed with what a fixture stores, and saying how far apart they are. */
import { formats } from "spikeloom";
import { type NdArray, type Stored, storedValues } from "./fixture.ts";

/** One comparison: how large the difference was, what was allowed, and the spikes that flipped. */
export interface Check {
  what: string;
  difference: number;
  tolerance: number;
  flips: number;
  ok: boolean;
  note?: string;
}

export function check(what: string, difference: number, tolerance: number, flips = 0): Check {
  return { what, difference, tolerance, flips, ok: Number.isFinite(difference) && difference <= tolerance && flips === 0 };
}

/** A statement that holds or not. */
export function holds(what: string, ok: boolean, note?: string): Check {
  return { what, difference: ok ? 0 : Number.POSITIVE_INFINITY, tolerance: 0, flips: 0, ok, ...(note === undefined ? {} : { note }) };
}

/** Largest absolute difference over `scale` (the largest absolute reference value unless given). */
export function relative(found: ArrayLike<number>, expected: ArrayLike<number>, scale?: number): number {
  if (found.length !== expected.length) return Number.POSITIVE_INFINITY;
  let worst = 0;
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs((found[i] as number) - (expected[i] as number));
    if (!(difference <= worst)) worst = difference;
    largest = Math.max(largest, Math.abs(expected[i] as number));
  }
  const by = scale ?? largest;
  return worst === 0 ? 0 : worst / (by || 1);
}

/** Compare an array with a stored result: shape, then values relative to the largest, or the summary likewise; bits exactly. */
export function compare(what: string, found: NdArray | undefined, stored: Stored, tolerance: number): Check {
  if (!found) return holds(what, false, "was not computed");
  if (found.shape.join() !== stored.shape.join()) return holds(what, false, `has shape [${found.shape}], expected [${stored.shape}]`);
  const values = formats.toFloat64(found);
  if (stored.bits !== undefined) {
    const expected = storedValues(stored) as Float64Array;
    return check(
      what,
      0,
      0,
      values.reduce((n, v, i) => n + (v === expected[i] ? 0 : 1), 0),
    );
  }
  if (stored.values) return check(what, relative(values, stored.values), tolerance);
  let sum = 0;
  let abs = 0;
  for (const v of values) {
    sum += v;
    abs += Math.abs(v);
  }
  const mean = sum / values.length;
  let square = 0;
  for (const v of values) square += (v - mean) ** 2;
  const std = Math.sqrt(square / values.length);
  const scale =
    Math.max(stored.abs_mean ?? 0, stored.std ?? 0, ...(stored.first16 ?? []).map(Math.abs), ...(stored.last16 ?? []).map(Math.abs)) || 1;
  const strided = values.filter((_, i) => i % Math.max(1, Math.floor(values.length / 64)) === 0).slice(0, 64);
  const difference = Math.max(
    relative([mean, std, abs / values.length], [stored.mean ?? mean, stored.std ?? std, stored.abs_mean ?? abs / values.length], scale),
    relative(values.slice(0, 16), stored.first16 ?? values.slice(0, 16), scale),
    relative(values.slice(-16), stored.last16 ?? values.slice(-16), scale),
    relative(strided, stored.strided64 ?? strided, scale),
  );
  // A summary of spikes counts them: one more or less would hide in the mean.
  return check(what, difference, tolerance, stored.spike_count === undefined ? 0 : Math.abs(Math.round(sum) - stored.spike_count));
}

export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let dot = 0;
  let aa = 0;
  let bb = 0;
  for (let i = 0; i < a.length; i++) {
    const x = a[i] as number;
    const y = b[i] as number;
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  return dot / Math.sqrt(aa * bb);
}
