import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type NdArray, ndArray } from "../../src/formats/array.ts";
import { decode, encode } from "../../src/formats/safetensors.ts";
import { FormatError, SpikeloomError } from "../../src/runtime/error.ts";
import { arrays, bits } from "./arbitrary.ts";

/** A file byte by byte: the header as text, then the data. */
function file(header: string | object, data: number[] = [], length?: bigint): Uint8Array {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const out = new Uint8Array(8 + text.length + data.length);
  new DataView(out.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  out.set(text, 8);
  out.set(data, 8 + text.length);
  return out;
}

const names = fc.string({ unit: "grapheme", maxLength: 12 }).filter((name) => name !== "__metadata__" && !/\p{Surrogate}/u.test(name));

test("any tensors and metadata come back as they were", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(names, arrays), { maxLength: 6 }), fc.dictionary(names, names, { maxKeys: 3 }), (entries, metadata) => {
      const tensors = new Map(entries);
      const bytes = encode(tensors, metadata);
      expect(Number(new DataView(bytes.buffer).getBigUint64(0, true)) % 8).toBe(0);
      const back = decode(bytes);
      expect({ ...back.metadata }).toEqual({ ...metadata });
      expect([...back.tensors.keys()].sort()).toEqual([...tensors.keys()].sort());
      for (const [name, array] of tensors) {
        const found = back.tensors.get(name)!;
        expect([found.dtype, found.shape]).toEqual([array.dtype, array.shape]);
        expect(bits(found)).toEqual(bits(array));
      }
    }),
    { numRuns: 200 },
  );
});

test("the bytes do not depend on the order of the tensors, and wide elements come first", () => {
  const entries: [string, NdArray][] = [
    ["mask", ndArray("bool", [3], Uint8Array.of(1, 0, 1))],
    ["b", ndArray("f32", [1], Float32Array.of(2))],
    ["a", ndArray("f32", [1], Float32Array.of(1))],
    ["steps", ndArray("i64", [], BigInt64Array.of(7n))],
  ];
  const bytes = encode(new Map(entries), { y: "2", x: "1" });
  expect(encode(new Map(entries.reverse()), { x: "1", y: "2" })).toEqual(bytes);
  expect([...decode(bytes).tensors.keys()]).toEqual(["steps", "a", "b", "mask"]);
});

test("a file written by hand, misaligned, in a Buffer with an odd offset", () => {
  const bytes = file(
    '{"__metadata__":{"format":"pt"},"flag":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]},' +
      '"w":{"dtype":"F32","shape":[1,2],"data_offsets":[1,9]},"n":{"dtype":"I64","shape":[],"data_offsets":[9,17]},' +
      '"none":{"dtype":"F16","shape":[0,4],"data_offsets":[17,17]},"h":{"dtype":"BF16","shape":[1],"data_offsets":[17,19]}}   ',
    [1, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0, 5, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x3f],
  );
  const shifted = Buffer.alloc(bytes.length + 1);
  shifted.set(bytes, 1);
  for (const input of [bytes, shifted.subarray(1)]) {
    const { tensors, metadata } = decode(input);
    expect(metadata).toEqual({ format: "pt" });
    expect(tensors.get("flag")).toEqual({ dtype: "bool", shape: [1], data: Uint8Array.of(1) });
    expect(tensors.get("w")).toEqual({ dtype: "f32", shape: [1, 2], data: Float32Array.of(1, -2) });
    expect(tensors.get("n")).toEqual({ dtype: "i64", shape: [], data: BigInt64Array.of(5n) });
    expect(tensors.get("none")).toEqual({ dtype: "f16", shape: [0, 4], data: new Float32Array(0) });
    expect(tensors.get("h")).toEqual({ dtype: "bf16", shape: [1], data: Float32Array.of(0.75) });
  }
});

test("names that mean something to JavaScript are names like others", () => {
  const one = ndArray("u8", [1], Uint8Array.of(1));
  const { tensors, metadata } = decode(
    encode(
      new Map([
        ["__proto__", one],
        ["constructor", one],
        ["10", one],
      ]),
      { toString: "x" },
    ),
  );
  expect([...tensors.keys()].sort()).toEqual(["10", "__proto__", "constructor"]);
  expect(Object.keys(metadata)).toEqual(["toString"]);
});

describe("a file that contradicts the format", () => {
  const f32 = (begin: number, end: number, shape: unknown = [1]) => ({ dtype: "F32", shape, data_offsets: [begin, end] });
  const cases: [string, Uint8Array, string][] = [
    ["empty", new Uint8Array(0), "w.st, byte 0: expected 8 bytes of header length, found 0 bytes in all"],
    ["header beyond the end", file("{}", [], 3n), "expected a header within the file's 10 bytes, found one of 3"],
    ["header above the limit", file("{}", [], 100_000_001n), "expected a header of at most 100000000 bytes, found 100000001"],
    ["header of 2^64 - 1", file("{}", [], 0xffff_ffff_ffff_ffffn), "found 18446744073709551615"],
    ["empty header", file(""), 'expected a JSON header that starts with "{", found an empty header'],
    ["leading blank", file(" {}"), 'starts with "{", found byte 32'],
    ["not JSON", file("{nope}"), "expected a header of UTF-8 JSON"],
    ["deep nesting", file(`{"a":${"[".repeat(300_000)}${"]".repeat(300_000)}}`), 'tensor "a" as an object, found something deeply nested'],
    ["deep nesting without an end", file(`{"a":${"[".repeat(300_000)}`), "expected a header of UTF-8 JSON"],
    ["not UTF-8", Uint8Array.of(5, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x22, 0xff, 0x22, 0x7d), "UTF-8"],
    [
      "tensor twice",
      file('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\\u0061" :{}}'),
      'each key once in the JSON header, found "a" twice',
    ],
    ["field twice", file('{"a":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), '"dtype" twice'],
    ["metadata not strings", file({ __metadata__: { a: 1 } }), '__metadata__ "a" as a string, found 1'],
    ["metadata not an object", file({ __metadata__: [] }), "__metadata__ as an object of strings, found []"],
    ["tensor not an object", file({ a: 1 }), 'tensor "a" as an object, found 1'],
    [
      "unknown dtype",
      file({ a: { dtype: "F8_E4M3", shape: [0], data_offsets: [0, 0] } }),
      'among BOOL, U8, I8, I16, U16, F16, BF16, I32, U32, F32, F64, I64, found "F8_E4M3"',
    ],
    ["no dtype", file({ a: { shape: [0], data_offsets: [0, 0] } }), "found none"],
    ["negative size", file({ a: f32(0, 4, [-1]) }, [0, 0, 0, 0]), "shape of whole numbers whose product is below 2^50, found [-1]"],
    ["fractional size", file({ a: f32(0, 4, [1.5]) }, [0, 0, 0, 0]), "found [1.5]"],
    ["overflowing size", file({ a: f32(0, 0, [2 ** 33, 2 ** 33]) }), "found [8589934592,8589934592]"],
    ["overflow hidden by a zero", file({ a: f32(0, 0, [2 ** 40, 2 ** 40, 0]) }), "product is below 2^50"],
    [
      "shape and offsets disagree",
      file({ a: f32(0, 8, [3]) }, new Array(8).fill(0)),
      'tensor "a", F32 [3], to span 12 bytes, found data_offsets [0,8], 8 bytes',
    ],
    ["offsets reversed", file({ a: f32(4, 0) }, [0, 0, 0, 0]), "found data_offsets [4,0], -4 bytes"],
    ["three offsets", file({ a: { dtype: "U8", shape: [0], data_offsets: [0, 0, 0] } }), "two data_offsets, found [0,0,0]"],
    ["negative offset", file({ a: f32(-4, 0) }), "two data_offsets, found [-4,0]"],
    ["hole at the start", file({ a: f32(4, 8) }, new Array(8).fill(0)), 'tensor "a" at offset 0, found offset 4, which leaves a hole'],
    ["hole between", file({ a: f32(0, 4), b: f32(8, 12) }, new Array(12).fill(0)), 'tensor "b" at offset 4, found offset 8'],
    ["overlap", file({ a: f32(0, 4), b: f32(2, 6) }, new Array(6).fill(0)), 'tensor "b" at offset 4, found offset 2, which overlaps'],
    ["data missing", file({ a: f32(0, 4) }, [0, 0]), 'expected 4 bytes of tensors, up to tensor "a", found 2'],
    ["data left over", file({ a: f32(0, 4) }, [0, 0, 0, 0, 9]), "expected the end of the file, found 1 more bytes"],
    [
      "boolean 2",
      file({ a: { dtype: "BOOL", shape: [1], data_offsets: [0, 1] } }, [2]),
      'w.st, tensor "a", byte 63: expected a boolean byte 0 or 1, found 2',
    ],
    ["half a surrogate pair", file('{"\\ud800":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), "whole Unicode characters"],
  ];
  test.each(cases)("%s", (_, bytes, message) => {
    const run = () => decode(bytes, "w.st");
    expect(run).toThrow(FormatError);
    expect(run).toThrow(message);
  });
});

test("what cannot be written says so", () => {
  const one = ndArray("u8", [1], Uint8Array.of(1));
  const wrong = { dtype: "f32", shape: [3], data: Float32Array.of(1) } as const;
  expect(() => encode(new Map([["__metadata__", one]]))).toThrow("which the format reserves");
  expect(() => encode(new Map([["conv.weight", wrong]]))).toThrow(
    'safetensors tensor "conv.weight": expected 3 elements for shape [3], found 1.',
  );
  expect(() => encode(new Map([["\ud800", one]]))).toThrow(SpikeloomError);
  expect(() => encode(new Map([["a", one]]), { a: 1 as unknown as string })).toThrow('metadata "a": expected a string, found number');
});
