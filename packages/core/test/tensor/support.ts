// Shared by the tests of layers' operations: a computation with its gradients as plain numbers, the same one on every device.
import { expect } from "vitest";
import type { DeviceName } from "../../src/runtime/device.ts";
import { device } from "../../src/runtime/engine.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Shape } from "../../src/tensor/shape.ts";
import { backward } from "../../src/tensor/tape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { compiledDevices, draw, drawSpikes, gradcheck, start } from "../gradcheck.ts";

export { start as on } from "../gradcheck.ts";

/** Compiled devices of this machine. */
export const compiled: DeviceName[] = compiledDevices();

/** f32 numbers in [-1, 1); the same for the same seed. */
export function values(shape: Shape, seed: number): Tensor {
  return draw(shape, seed, -1, 1);
}

/** Spikes with values scale * integer in [0, 2^planes). */
export function spikes(shape: Shape, seed: number, { planes = 1, scale = 1 } = {}): Tensor {
  return drawSpikes(shape, seed, { planes, scale });
}

export function leaf(t: Tensor): Tensor {
  t.requiresGrad = true;
  return t;
}

/** Gradients of fn(inputs) against central differences, on the reference device; nothing may leak. */
export function checkGradients(fn: (...inputs: Tensor[]) => Tensor, ...inputs: Tensor[]): void {
  gradcheck(fn, inputs);
}

/** Values of y = fn(inputs) and the gradients of sum(w y), w fixed, for every input that wants one. */
export function withGradients(fn: (...inputs: Tensor[]) => Tensor, ...inputs: Tensor[]): number[][] {
  const y = fn(...inputs);
  backward(y, { gradient: values(y.shape, 99) });
  const wanted = inputs.filter((t) => t.requiresGrad);
  const results = [y, ...wanted.map((t) => t.grad as Tensor)].map((t) => [...t.dataSync()]);
  for (const t of wanted) {
    t.grad?.dispose();
    t.grad = null;
  }
  return results;
}

/** Run `make` on reference and on every compiled device and compare what it returns, list by list. Nothing may leak. Ends on the reference device. */
export async function sameEverywhere(make: () => number[][], tolerance = 2e-5): Promise<void> {
  const results = new Map<string, number[][]>();
  for (const name of [...compiled, "reference"] as const) {
    await start(name);
    results.set(name, scope(make));
    expect(device().memory().used, `bytes left on ${name}`).toBe(0);
  }
  const expected = results.get("reference") as number[][];
  for (const name of compiled)
    (results.get(name) as number[][]).forEach((list, i) => {
      close(list, expected[i] as number[], tolerance, `${name}, result ${i}`);
    });
}

/** Every element within `tolerance`, relative to the largest value (at least 1). */
export function close(got: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number, what = "values"): void {
  expect(got.length, what).toBe(expected.length);
  let largest = 1;
  for (let i = 0; i < expected.length; i++) largest = Math.max(largest, Math.abs(expected[i] as number));
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs((got[i] as number) - (expected[i] as number));
    if (!(difference <= tolerance * largest)) expect.fail(`${what}: element ${i} is ${got[i]}, expected ${expected[i]}`);
  }
}
