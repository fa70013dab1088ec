// Checks for every operation: gradients against central differences in float64, compiled devices against the reference device, and
// that nothing made on the way stays in memory.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { expect } from "vitest";
import type { DeviceName } from "../src/runtime/device.ts";
import { device, engineInfo, init, randomness } from "../src/runtime/engine.ts";
import { Rng } from "../src/runtime/random.ts";
import "../src/tensor/methods.ts";
import { scope } from "../src/tensor/scope.ts";
import { type Shape, sizeOf } from "../src/tensor/shape.ts";
import { backward, noGrad } from "../src/tensor/tape.ts";
import { type DType, type SpikeFormat, type Tensor, tensor } from "../src/tensor/tensor.ts";

/** Where the build puts the native addon. */
export const ADDON = process.env.SPIKELOOM_NATIVE ?? fileURLToPath(new URL("../../../build/native/spikeloom.node", import.meta.url));

/** Uniform numbers in [low, high) that float32 holds exactly; the same for the same seed. */
export function numbers(n: number, seed: number, low = -2, high = 2): number[] {
  const stream = new Rng(seed).stream("test");
  return Array.from({ length: n }, () => Math.fround(low + (high - low) * stream.uniform()));
}

/** An f32 tensor of such numbers. */
export function draw(shape: Shape, seed: number, low = -2, high = 2): Tensor {
  return tensor(Float64Array.from(numbers(sizeOf(shape), seed, low, high)), shape, "f32");
}

/** Integers in [0, n). */
export function integers(shape: Shape, seed: number, n: number): Tensor {
  return tensor(Int32Array.from(numbers(sizeOf(shape), seed, 0, n), Math.floor), shape);
}

/** A random spike tensor: values scale * integer in [0, 2^planes). */
export function drawSpikes(shape: Shape, seed: number, format: SpikeFormat = { planes: 1, scale: 1 }): Tensor {
  return scope(() =>
    integers(shape, seed, 2 ** format.planes)
      .to("f32")
      .mul(format.scale)
      .toSpikes(format),
  );
}

/** Shapes of a few small axes. */
export function shapes(min = 0, max = 4): fc.Arbitrary<number[]> {
  return fc.array(fc.integer({ min: 1, max: 4 }), { minLength: min, maxLength: max });
}

/** Check a tensor's values against a list, to `digits` decimals. */
export function expectClose(found: Tensor, expected: ArrayLike<number>, digits = 9): void {
  const values = found.dataSync();
  expect(values.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++) expect(values[i], `element ${i}`).toBeCloseTo(expected[i] as number, digits);
}

/** Few runs, the same every time. */
export const RUNS = { seed: 1, numRuns: 12 };

/** Run `fn` and check that it leaves no memory behind but what it returns. */
export function leakless<R>(fn: () => R): R {
  const before = device().memory().used;
  const result = scope(fn);
  if (result === undefined) expect(device().memory().used, "bytes in use after the scope").toBe(before);
  return result;
}

export interface GradcheckOptions {
  /** Step of the difference, relative to max(1, |x|). */
  step?: number;
  /** Largest |analytic - numeric| / max(1, |analytic|, |numeric|). */
  tolerance?: number;
}

/**
 * Compare the gradients of every f32 input of `fn`, weighted at random, with central differences. Other inputs are constants.
 * Random draws inside `fn` repeat. The reference device must run. Also checks that nothing leaks.
 */
export function gradcheck(
  fn: (...inputs: Tensor[]) => Tensor,
  inputs: readonly Tensor[],
  { step = 1e-6, tolerance = 1e-6 }: GradcheckOptions = {},
): void {
  if (engineInfo().device !== "reference") throw new Error(`gradcheck needs the reference device, found ${engineInfo().device}`);
  const draws = randomness().state();
  const call = (leaves: readonly Tensor[]) => {
    randomness().restore(draws);
    return fn(...leaves);
  };
  leakless(() => {
    const leaves = inputs.map((t) => {
      const leaf = t.detach().clone();
      leaf.requiresGrad = t.dtype === "f32";
      return leaf;
    });
    const y = call(leaves);
    const weights = numbers(y.size, 99, -1, 1);
    backward(y, { gradient: tensor(Float64Array.from(weights), y.shape, "f32") });
    const value = () =>
      scope(() => noGrad(() => Array.from(call(leaves).dataSync()).reduce((sum, v, i) => sum + v * (weights[i] as number), 0)));
    leaves.forEach((leaf, k) => {
      if (!leaf.requiresGrad) return;
      const analytic = leaf.grad?.dataSync() ?? new Float64Array(leaf.size);
      const x = leaf.dataSync();
      for (let i = 0; i < leaf.size; i++) {
        const at = x[i] as number;
        const h = step * Math.max(1, Math.abs(at));
        x[i] = at + h;
        leaf.set(x);
        const above = value();
        x[i] = at - h;
        leaf.set(x);
        const below = value();
        x[i] = at;
        leaf.set(x);
        const numeric = (above - below) / (2 * h);
        const found = analytic[i] as number;
        if (!(Math.abs(found - numeric) <= tolerance * Math.max(1, Math.abs(found), Math.abs(numeric))))
          throw new Error(
            `gradient of input ${k} [${leaf.shape}], element ${i} (${at}): backward gives ${found}, differences give ${numeric}`,
          );
      }
    });
  });
}

/** An input of a case: values for shape, and the dtype or spike format to make of them. */
export interface Input {
  shape: Shape;
  values: readonly number[];
  dtype?: Exclude<DType, "spikes">;
  spikes?: SpikeFormat;
}

export interface Case {
  inputs: readonly Input[];
  run: (...inputs: Tensor[]) => Tensor;
  /** |found - expected| <= atol + rtol * |expected|; default 1e-5 and 1e-5. */
  rtol?: number;
  atol?: number;
}

export function floats(shape: Shape, seed: number, low = -2, high = 2): Input {
  return { shape, values: numbers(sizeOf(shape), seed, low, high) };
}

export function ints(shape: Shape, seed: number, n: number): Input {
  return { shape, values: numbers(sizeOf(shape), seed, 0, n).map(Math.floor), dtype: "i32" };
}

export function spikes(shape: Shape, seed: number, format: SpikeFormat = { planes: 1, scale: 1 }): Input {
  return { shape, values: numbers(sizeOf(shape), seed, 0, 2 ** format.planes).map((v) => Math.floor(v) * format.scale), spikes: format };
}

interface Outcome {
  value: number[];
  gradients: (number[] | null)[];
}

function outcomeOf({ inputs, run }: Case): Outcome {
  const before = device().memory().used;
  const outcome = scope(() => {
    const leaves = inputs.map(({ shape, values, dtype, spikes: format }) => {
      const t = tensor(Float64Array.from(values), shape, dtype ?? "f32");
      const leaf = format ? t.toSpikes(format) : t;
      leaf.requiresGrad = leaf.dtype === "f32" || leaf.dtype === "spikes";
      return leaf;
    });
    const y = run(...leaves);
    if (y.node) backward(y, { gradient: tensor(Float64Array.from(numbers(y.size, 99, -1, 1)), y.shape, "f32") });
    return { value: [...y.dataSync()], gradients: leaves.map((leaf) => (leaf.grad ? [...leaf.grad.dataSync()] : null)) };
  });
  expect(device().memory().used, "bytes in use after the scope").toBe(before);
  return outcome;
}

/** The devices to hold against the reference: wasm, and native where its addon is built. */
export function compiledDevices(): DeviceName[] {
  return existsSync(ADDON) ? ["wasm", "native"] : ["wasm"];
}

/** Start one of the devices, with two threads. */
export async function start(name: DeviceName): Promise<void> {
  await init({ device: name, threads: 2, seed: 5, native: ADDON });
}

/** Run the cases on `name` and on the reference device; compare values and gradients, and check that nothing leaks. */
export async function acrossDevices(name: DeviceName, cases: Readonly<Record<string, Case>>): Promise<void> {
  await start("reference");
  const expected = Object.entries(cases).map(([label, c]) => ({ label, c, outcome: outcomeOf(c) }));
  await start(name);
  const failures: string[] = [];
  for (const { label, c, outcome } of expected) {
    const found = outcomeOf(c);
    const { rtol = 1e-5, atol = 1e-5 } = c;
    const compare = (what: string, e: number[] | null, f: number[] | null) => {
      if (e?.length !== f?.length) failures.push(`${label}: ${what} has ${f?.length} values, expected ${e?.length}`);
      const i = e?.findIndex((v, k) => !(Math.abs((f?.[k] as number) - v) <= atol + rtol * Math.abs(v)) && !Object.is(f?.[k], v)) ?? -1;
      if (i >= 0) failures.push(`${label}: ${what}[${i}] is ${f?.[i]} on ${name}, expected ${e?.[i]}`);
    };
    compare("value", outcome.value, found.value);
    outcome.gradients.forEach((g, k) => {
      compare(`gradient of input ${k}`, g, found.gradients[k] as number[] | null);
    });
  }
  expect(failures).toEqual([]);
}
