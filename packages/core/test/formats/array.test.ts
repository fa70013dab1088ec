import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bytesOfElements, countElements, elementsFromBytes, ndArray, permute, toFloat32, toFloat64 } from "../../src/formats/array.ts";
import { SpikeloomError } from "../../src/runtime/error.ts";

const half = (...halves: number[]) => elementsFromBytes("f16", new Uint8Array(Uint16Array.from(halves).buffer), true, "t", 0);
const narrow = (dtype: "f16" | "bf16", ...values: number[]) => {
  const bytes = bytesOfElements(ndArray(dtype, [values.length], Float32Array.from(values)));
  return [...new Uint16Array(bytes.slice().buffer)];
};

describe("half precision", () => {
  test("binary16 patterns have the values that IEEE 754 gives them", () => {
    expect([...half(0x3c00, 0xc000, 0x7bff, 0x0400, 0x0001, 0x03ff, 0x8000, 0x7c00, 0xfc00)]).toEqual([
      1,
      -2,
      65504,
      2 ** -14,
      2 ** -24,
      1023 * 2 ** -24,
      -0,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
    ]);
    expect(half(0x7e00)[0]).toBeNaN();
  });

  test("every one of the 65536 patterns survives a round trip, NaN payloads too", () => {
    for (const dtype of ["f16", "bf16"] as const) {
      const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
      const data = elementsFromBytes(dtype, new Uint8Array(all.buffer), true, "t", 0);
      const back = new Uint16Array(bytesOfElements(ndArray(dtype, [65536], data)).slice().buffer);
      expect(back).toEqual(all);
    }
  });

  test("rounds to the nearest, ties to even", () => {
    const ulp = 2 ** -10;
    expect(narrow("f16", 1 + ulp / 2, 1 + (3 * ulp) / 2, 1 + ulp / 2 + 2 ** -20)).toEqual([0x3c00, 0x3c02, 0x3c01]);
    expect(narrow("f16", 65519, 65520, 1e9, -1e9)).toEqual([0x7bff, 0x7c00, 0x7c00, 0xfc00]);
    expect(narrow("f16", 2 ** -25, 1.5 * 2 ** -25, 1.5 * 2 ** -24, 2.5 * 2 ** -24, 2 ** -26)).toEqual([0, 1, 2, 2, 0]);
    expect(narrow("f16", 2 ** -14 - 2 ** -26)).toEqual([0x0400]);
    expect(narrow("bf16", 1 + 2 ** -8, 1 + 3 * 2 ** -8, 3.4e38)).toEqual([0x3f80, 0x3f82, 0x7f80]);
  });
});

test("elements in the other byte order are swapped, misaligned ones copied, the input left alone", () => {
  const bytes = Uint8Array.of(9, 0, 0, 1, 2, 255, 255, 255, 254);
  const copy = bytes.slice();
  expect([...elementsFromBytes("i32", bytes.subarray(1), false, "t", 0)]).toEqual([258, -2]);
  expect([...elementsFromBytes("i64", bytes.subarray(1), false, "t", 0)]).toEqual([0x102_ffff_fffen]);
  expect([...elementsFromBytes("u16", Uint8Array.of(7, 1, 2).subarray(1), true, "t", 0)]).toEqual([513]);
  expect(bytes).toEqual(copy);
});

test("a boolean that is neither 0 nor 1 is named with its position", () => {
  expect(() => elementsFromBytes("bool", Uint8Array.of(0, 1, 2), true, "mask.npy", 100)).toThrow(
    "mask.npy, byte 102: expected a boolean byte 0 or 1, found 2.",
  );
});

test("countElements: 0-d is one element, empty is none, nonsense is undefined", () => {
  expect(countElements([])).toBe(1);
  expect(countElements([3, 0, 5])).toBe(0);
  expect(countElements([2, 3, 4])).toBe(24);
  for (const shape of [[-1], [1.5], [Number.NaN], ["2"], [2 ** 53], [2 ** 30, 2 ** 30], [2 ** 40, 2 ** 40, 0], new Array(65).fill(1)]) {
    expect(countElements(shape)).toBeUndefined();
  }
});

test("ndArray checks dtype, class and length", () => {
  expect(ndArray("f32", [], Float32Array.of(1)).shape).toEqual([]);
  expect(() => ndArray("f32", [2], Float32Array.of(1), "weight")).toThrow("weight: expected 2 elements for shape [2], found 1.");
  expect(() => ndArray("i64", [1], Int32Array.of(1))).toThrow("expected a BigInt64Array for i64, found an Int32Array of 1");
  expect(() => ndArray("c64" as "f32", [1], Float32Array.of(1))).toThrow(SpikeloomError);
});

test("conversion to floats copies, from every dtype", () => {
  const big = ndArray("i64", [2], BigInt64Array.of(-3n, 1n << 40n));
  expect([...toFloat64(big)]).toEqual([-3, 2 ** 40]);
  expect([...toFloat32(big)]).toEqual([-3, 2 ** 40]);
  const floats = Float32Array.of(1, 2);
  const copy = toFloat32(ndArray("f32", [2], floats));
  copy[0] = 9;
  expect(floats[0]).toBe(1);
});

test("permute moves element [i0, i1, i2] to where the axes say", () => {
  fc.assert(
    fc.property(fc.tuple(fc.nat(4), fc.nat(4), fc.nat(4)), fc.shuffledSubarray([0, 1, 2], { minLength: 3 }), (shape, axes) => {
      const [a, b, c] = shape;
      const source = ndArray(
        "i32",
        shape,
        Int32Array.from({ length: a * b * c }, (_, i) => i),
      );
      const out = permute(source, axes);
      expect(out.shape).toEqual(axes.map((axis) => shape[axis]));
      const [, d1, d2] = out.shape as [number, number, number];
      for (let i = 0; i < a; i++)
        for (let j = 0; j < b; j++)
          for (let k = 0; k < c; k++) {
            const at = axes.map((axis) => [i, j, k][axis]!) as [number, number, number];
            expect(out.data[(at[0] * d1 + at[1]) * d2 + at[2]]).toBe((i * b + j) * c + k);
          }
    }),
    { numRuns: 60 },
  );
  expect(permute(ndArray("u8", [], Uint8Array.of(5)), []).data).toEqual(Uint8Array.of(5));
  expect(() => permute(ndArray("u8", [1, 1], Uint8Array.of(5)), [0, 0])).toThrow("each of the 2 axes");
});
