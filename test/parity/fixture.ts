/**
 * Parity fixtures: reading them, and making again the weights and inputs they were computed from. A fixture is what the
 * official code gave for deterministic weights; the fill rule is FNV-1a of a name, murmur3's finaliser of a counter.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { type formats, SpikeloomError } from "spikeloom";

export type NdArray = formats.NdArray;

export interface InputSpec {
  name?: string;
  shape?: number[];
  lo?: number;
  hi?: number;
  dtype?: string;
  post?: string;
  binarise_below?: number;
  values?: number[];
}

/** A stored result: all values, all bits, or a summary of a large tensor. */
export interface Stored {
  shape: number[];
  values?: number[];
  bits?: string;
  mean?: number;
  std?: number;
  abs_mean?: number;
  first16?: number[];
  last16?: number[];
  strided64?: number[];
  spike_count?: number;
}

interface Rule {
  rank?: number;
  key_ends_with?: string | string[];
  key_starts_with?: string | string[];
  gain?: number;
  base?: number;
  signed_times?: number;
  set_to?: number;
  multiply_by?: number;
  channel?: number;
  channel_from?: number;
  channel_step?: number;
}

export interface Fixture {
  file: string;
  system: string;
  kind: string;
  // The official constructor's arguments, or a sentence where there are none.
  config: Record<string, unknown>;
  mode: string;
  fill: { gain?: number; override?: { rules?: Rule[]; then?: Rule[] } & Record<string, unknown> };
  inputs: Record<string, InputSpec | number[]>;
  state_shapes?: Record<string, number[]>;
  params?: number;
  state_keys?: number;
  outputs?: Record<string, Stored>;
  outputs_f64?: Record<string, Stored>;
  taps?: Record<string, Stored>;
  // Everything else differs from kind to kind; the checks know their own.
  [field: string]: unknown;
}

/** Every fixture file below a folder (or the file itself), sorted. */
export function fixtureFiles(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path, { withFileTypes: true })
    .flatMap((entry) =>
      entry.isDirectory() ? fixtureFiles(join(path, entry.name)) : entry.name.endsWith(".json") ? [join(path, entry.name)] : [],
    )
    .sort();
}

export function readFixture(path: string): Fixture {
  let data: Fixture | null;
  try {
    data = JSON.parse(readFileSync(path, "utf8")) as Fixture | null;
  } catch (error) {
    throw new SpikeloomError(`${path}: this is no JSON: ${(error as Error).message}`);
  }
  for (const key of ["system", "kind"] as const)
    if (typeof data?.[key] !== "string") throw new SpikeloomError(`${path}: a fixture names its "${key}", this does not`);
  return { ...(data as Fixture), fill: data?.fill ?? {}, inputs: data?.inputs ?? {}, file: basename(path) };
}

function fnv1a(name: string): number {
  let h = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) h = Math.imul(h ^ byte, 0x01000193) >>> 0;
  return h;
}

/** n values u(i) in [0, 1). */
export function unit(name: string, n: number): Float64Array {
  const seed = fnv1a(name);
  const out = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    let h = (seed + Math.imul(i, 0x9e3779b9)) >>> 0;
    h ^= h >>> 16;
    h = Math.imul(h, 0x85ebca6b);
    h ^= h >>> 13;
    h = Math.imul(h, 0xc2b2ae35);
    h ^= h >>> 16;
    out[i] = (h >>> 8) / 16777216;
  }
  return out;
}

const signed = (name: string, n: number) => unit(name, n).map((u) => 2 * u - 1);
const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

function f32(shape: readonly number[], values: ArrayLike<number>): NdArray {
  return { dtype: "f32", shape, data: Float32Array.from(values) };
}

/** An input as the fixture states it; without a name its key names the fill. */
export function inputArray(key: string, spec: InputSpec): NdArray {
  if (spec.values) return f32(spec.shape ?? [spec.values.length], spec.values);
  const { name = key, shape = [], lo = 0, hi = 1, post, binarise_below: below } = spec;
  let data = Float32Array.from(unit(name, sizeOf(shape)), (u) => lo + (hi - lo) * u);
  if (below !== undefined) data = data.map((x) => (x < below ? 1 : 0));
  if (post !== undefined) {
    if (post !== "floor" && !post.startsWith("floor(max(x,0))")) throw new Error(`unknown post-processing of an input: ${post}`);
    data = data.map((x) => Math.floor(post === "floor" ? x : Math.max(x, 0)));
  }
  return { dtype: "f32", shape, data };
}

/** All array inputs of a fixture by name (lists of labels are left out). */
export function inputArrays(fixture: Fixture): Map<string, NdArray> {
  return new Map(
    Object.entries(fixture.inputs).flatMap(([name, spec]) => (Array.isArray(spec) ? [] : [[name, inputArray(name, spec)] as const])),
  );
}

function fillValue(key: string, shape: readonly number[], gain: number): Float64Array | undefined {
  const n = sizeOf(shape);
  if (key.endsWith("running_mean")) return signed(key, n).map((s) => 0.1 * s);
  if (key.endsWith("running_var")) return signed(key, n).map((s) => 1 + 0.3 * s);
  if (shape.length >= 2) {
    const fanIn = sizeOf(shape.slice(1));
    return signed(key, n).map((s) => s * gain * Math.sqrt(3 / fanIn));
  }
  if (shape.length === 1 && key.endsWith("weight")) return signed(key, n).map((s) => 1 + 0.2 * s);
  if (shape.length === 1 && key.endsWith("bias")) return signed(key, n).map((s) => 0.1 * s);
  return undefined;
}

const anyOf = (list: string | string[] | undefined, test: (part: string) => boolean) =>
  list === undefined || [list].flat().length === 0 || [list].flat().some(test);

function hits(rule: Rule, key: string, shape: readonly number[]): boolean {
  return (
    (rule.rank === undefined || rule.rank === shape.length) &&
    anyOf(rule.key_ends_with, (end) => key.endsWith(end)) &&
    anyOf(rule.key_starts_with, (start) => key.startsWith(start))
  );
}

/** The weights of a fixture under its fill rule and overrides. Keys that the rule leaves alone are absent. */
export function filledState(fixture: Fixture): Map<string, NdArray> {
  const override = fixture.fill.override ?? {};
  const state = new Map<string, NdArray>();
  for (const [key, shape] of Object.entries(fixture.state_shapes ?? {})) {
    if (key.endsWith("num_batches_tracked")) {
      state.set(key, { dtype: "i64", shape, data: new BigInt64Array([1n]) });
      continue;
    }
    const given = override[key] as Stored | undefined;
    if (given?.values) {
      state.set(key, f32(given.shape, given.values));
      continue;
    }
    const rules = (override.rules ?? []).filter((rule) => hits(rule, key, shape));
    const gain = rules.findLast((rule) => rule.gain !== undefined)?.gain ?? fixture.fill.gain ?? 2;
    const rule = fillValue(key, shape, gain);
    let value = rule && Float32Array.from(rule);
    for (const { signed_times: times, base = 0, set_to: constant, multiply_by: factor } of rules) {
      if (times !== undefined) value = Float32Array.from(signed(key, sizeOf(shape)), (s) => base + times * s);
      if (constant !== undefined) value = new Float32Array(sizeOf(shape)).fill(constant);
      if (factor !== undefined && value) value = value.map((v) => v * Math.fround(factor));
    }
    if (value) state.set(key, { dtype: "f32", shape, data: value });
  }
  for (const rule of override.then ?? [])
    for (const [key, { shape, data }] of state) {
      if (!hits(rule, key, shape) || !(data instanceof Float32Array)) continue;
      const [from, step] =
        rule.channel_from !== undefined ? [rule.channel_from, rule.channel_step ?? 1] : [rule.channel as number, shape[1] as number];
      const inner = sizeOf(shape.slice(2));
      for (let i = 0; i < data.length; i++) {
        const channel = Math.floor(i / inner) % (shape[1] as number);
        if (channel < from || (channel - from) % step) continue;
        if (rule.set_to !== undefined) data[i] = rule.set_to;
        if (rule.multiply_by !== undefined) data[i] = (data[i] as number) * Math.fround(rule.multiply_by);
      }
    }
  return state;
}

/** All values of a stored result that has them (values or bits). */
export function storedValues(stored: Stored): Float64Array | undefined {
  if (stored.values) return Float64Array.from(stored.values);
  if (stored.bits !== undefined) return Float64Array.from(stored.bits, Number);
  return undefined;
}
