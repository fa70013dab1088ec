import fc from "fast-check";
import { expect, test } from "vitest";
import { readEventNpz } from "../../../src/data/events/npz.ts";
import { type NdArray, ndArray } from "../../../src/formats/array.ts";
import { encode } from "../../../src/formats/npz.ts";
import { FormatError } from "../../../src/runtime/error.ts";
import { mutations } from "./support.ts";

const SIZE = { height: 128, width: 128 };
const i64 = (values: number[]) => ndArray("i64", [values.length], BigInt64Array.from(values, BigInt));
const recording = (change: Record<string, NdArray> = {}) =>
  new Map<string, NdArray>(
    Object.entries({ t: i64([3, 5, 2 ** 40]), x: i64([0, 127, 4]), y: i64([9, 8, 7]), p: i64([0, 1, 1]), ...change }),
  );

test("events, of whatever integers the arrays are", async () => {
  const bools = { p: ndArray("bool", [3], Uint8Array.of(1, 0, 1)), x: ndArray("u8", [3], Uint8Array.of(1, 2, 3)) };
  for (const [arrays, x, p] of [
    [recording(), [0, 127, 4], [0, 1, 1]],
    [recording(bools), [1, 2, 3], [1, 0, 1]],
    // Polarities of -1 and 1 are both "not 0".
    [recording({ p: i64([-1, 0, 1]) }), [0, 127, 4], [1, 0, 1]],
  ] as const) {
    const found = await readEventNpz(await encode(arrays), SIZE);
    if (!("events" in found)) throw new Error("expected events");
    const { events } = found;
    expect([[...events.t], [...events.x], [...events.y], [...events.p]]).toEqual([[3, 5, 2 ** 40], x, [9, 8, 7], p]);
  }
});

test("frames come out channels-last", async () => {
  const frames = ndArray(
    "f64",
    [2, 2, 1, 3],
    Float64Array.from({ length: 12 }, (_, i) => i),
  );
  const found = await readEventNpz(await encode(new Map([["frames", frames]])), SIZE);
  expect(found).toEqual({ frames: { shape: [2, 1, 3, 2], data: Float32Array.of(0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11) } });
});

test.each<[string, Map<string, NdArray>, RegExp]>([
  ["no polarity", new Map([...recording()].filter(([key]) => key !== "p")), /expected arrays t, x, y, p, or frames, found t, x, y/],
  ["nothing", new Map(), /expected arrays t, x, y, p, or frames, found none/],
  ["two axes", recording({ y: ndArray("u8", [3, 1], new Uint8Array(3)) }), /file, y: expected one axis, found \[3, 1\]/],
  ["another length", recording({ x: i64([1]) }), /file, x: expected 3 values, one an event, found 1/],
  ["a pixel outside", recording({ x: i64([1, 128, 2]) }), /file, x: expected whole numbers from 0 to below 128, found 128 at event 1/],
  ["a negative time", recording({ t: i64([1, -5, 2]) }), /file, t: expected whole numbers .*, found -5 at event 1/],
  ["half a pixel", recording({ y: ndArray("f32", [3], Float32Array.of(1, 1.5, 2)) }), /file, y: .*, found 1.5 at event 1/],
  [
    "frames of one channel",
    new Map([["frames", ndArray("u8", [2, 1, 2, 2], new Uint8Array(8))]]),
    /expected the shape \[T, 2, H, W\], found \[2, 1, 2, 2\]/,
  ],
  ["frames that are no numbers", new Map([["frames", ndArray("f32", [1, 2, 1, 1], Float32Array.of(NaN, 1))]]), /expected finite counts/],
])("%s is refused", async (_, arrays, message) => {
  const error = await readEventNpz(await encode(arrays), SIZE, "file").catch((e: Error) => e);
  expect(error).toBeInstanceOf(FormatError);
  expect((error as Error).message).toMatch(message);
});

test("no mutation breaks it", async () => {
  const file = await encode(recording());
  await fc.assert(
    fc.asyncProperty(mutations(file), async (bytes) => {
      const found = await readEventNpz(bytes, SIZE, "file").catch((e: Error) => e);
      if (found instanceof Error) expect(found).toBeInstanceOf(FormatError);
    }),
    { numRuns: 300 },
  );
});
