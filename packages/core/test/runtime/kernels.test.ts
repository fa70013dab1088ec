// Every kernel on every compiled device against the float64 reference, on random small shapes; and the promise that results do not
// depend on the number of threads, bit by bit.
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import type { TypedArray } from "../../src/runtime/device.ts";
import { KERNELS, type KernelName } from "../../src/runtime/kernel-table.ts";
import { createReference } from "../../src/runtime/reference.ts";
import { type Call, cases } from "./kernels/cases.ts";
import { openVariants, runOn } from "./kernels/devices.ts";
import { Draw } from "./kernels/draw.ts";

const RUNS = 50;
/** Runs with few rows of many channels (up to 1537). */
const WIDE_RUNS = 4;
const TILES = [1, 2, 5];

const reference = createReference();
const variants = await openVariants([1, 2, 3]);
afterAll(() => {
  for (const { devices } of variants) for (const device of devices) device.close();
});

/** The first element that is farther from the reference than the call allows, as a sentence. */
function difference(found: TypedArray, expected: TypedArray, { rtol, atol }: Pick<Call, "rtol" | "atol">): string | undefined {
  for (let i = 0; i < expected.length; i++) {
    const e = expected instanceof Float64Array ? Math.fround(expected[i]!) : expected[i]!;
    const f = found[i]!;
    if (f === e || (Number.isNaN(f) && Number.isNaN(e))) continue;
    const allowed = Number.isFinite(e) ? atol + rtol * Math.abs(e) : 0;
    if (!(Math.abs(f - e) <= allowed)) return `element ${i}: expected ${expected[i]}, found ${f}`;
  }
  return undefined;
}

const EXACT = { rtol: 0, atol: 0 };

/** Arrays as words, so that NaN and the sign of zero count. */
function bits(array: TypedArray): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

function check(kernel: KernelName, call: Call): void {
  const expected = runOn(reference, kernel, call.args, 1);
  for (const { label, emulated, devices } of variants)
    for (const tiles of emulated && !("terms" in KERNELS[kernel]) ? [] : TILES) {
      const [single, ...threaded] = devices.map((device) => ({ device, results: runOn(device, kernel, call.args, tiles) }));
      const fail = (name: string, what: string) => {
        throw new Error(`${label}, ${tiles} tiles, ${name}: ${what}; arguments ${describeCall(call)}`);
      };
      for (const name of Object.keys(expected)) {
        // An input must come back as it went in.
        const touched = difference(expected[name]!, (call.args as Record<string, TypedArray>)[name]!, EXACT) !== undefined;
        const at = difference(single!.results[name]!, expected[name]!, touched ? call : EXACT);
        if (at) fail(name, at);
        for (const { device, results } of threaded)
          if (Buffer.compare(bits(results[name]!), bits(single!.results[name]!)) !== 0)
            fail(name, `${device.threads} threads give other bits than one`);
      }
    }
}

function describeCall(call: Call): string {
  const parts = Object.entries(call.args as Record<string, TypedArray | number | null>).map(([name, value]) =>
    typeof value === "number" || value === null ? `${name}=${value}` : `${name}[${value.length}]`,
  );
  return parts.join(" ");
}

it("there is a case for every kernel of the table", () => {
  expect(Object.keys(cases).sort()).toEqual(Object.keys(KERNELS).sort());
});

describe(`kernels on ${variants.map(({ label }) => label).join(", ")}`, () => {
  it.each(Object.keys(KERNELS) as KernelName[])("%s", (kernel) => {
    for (const wide of [false, true])
      fc.assert(
        fc.property(fc.gen(), (generate) => check(kernel, cases[kernel](new Draw(generate, wide)) as Call)),
        { seed: 20240229, numRuns: wide ? WIDE_RUNS : RUNS },
      );
  });
});
