import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ndArray } from "../../src/formats/array.ts";
import { decode, encode } from "../../src/formats/npy.ts";
import { FormatError } from "../../src/runtime/error.ts";
import { arrays, bits } from "./arbitrary.ts";

function file(header: string, data: number[] = [], version = 1): Uint8Array {
  const text = [...new TextEncoder().encode(header)];
  const length = [text.length & 255, text.length >> 8, ...(version === 1 ? [] : [0, 0])];
  return Uint8Array.of(0x93, ...new TextEncoder().encode("NUMPY"), version, 0, ...length, ...text, ...data);
}
const header = (descr: string, shape: string, fortran = "False") =>
  `{'descr': '${descr}', 'fortran_order': ${fortran}, 'shape': ${shape}, }\n`;

test("any array comes back as it was (bf16 as float32)", () => {
  fc.assert(
    fc.property(arrays, (array) => {
      const bytes = encode(array);
      const headerEnd = 10 + new DataView(bytes.buffer).getUint16(8, true);
      expect(headerEnd % 64).toBe(0);
      expect(bytes[headerEnd - 1]).toBe(10);
      const back = decode(bytes);
      expect([back.dtype, back.shape]).toEqual([array.dtype === "bf16" ? "f32" : array.dtype, array.shape]);
      expect(bits(back)).toEqual(bits(array));
    }),
    { numRuns: 300 },
  );
});

test("the header is numpy's own", () => {
  const text = (shape: number[]) =>
    new TextDecoder("latin1")
      .decode(encode(ndArray("f64", shape, new Float64Array(6))))
      .slice(10)
      .trim();
  expect(text([2, 3])).toMatch(/^\{'descr': '<f8', 'fortran_order': False, 'shape': \(2, 3\), \} *\n/);
  expect(text([6])).toContain("'shape': (6,), }");
  expect(new TextDecoder("latin1").decode(encode(ndArray("bool", [], Uint8Array.of(1))))).toContain(
    "'descr': '|b1', 'fortran_order': False, 'shape': (), }",
  );
});

describe("files written by hand", () => {
  test.each([
    ["big-endian i2", file(header(">i2", "(2,)"), [1, 2, 255, 254]), "i16", [2], [258, -2]],
    ["little-endian u4", file(header("<u4", "(1,)"), [1, 2, 0, 128]), "u32", [1], [0x80000201]],
    ["native order", file(header("=u2", "(1,)"), [1, 2]), "u16", [1], [513]],
    ["one byte, any order", file(header("<i1", "(2,)"), [127, 128]), "i8", [2], [127, -128]],
    ["big-endian f2", file(header(">f2", "(2,)"), [0x3c, 0, 0xc0, 0]), "f16", [2], [1, -2]],
    ["big-endian f8", file(header(">f8", "(1,)"), [0x3f, 0xf8, 0, 0, 0, 0, 0, 0]), "f64", [1], [1.5]],
    ["i8", file(header("<i8", "()"), [255, 255, 255, 255, 255, 255, 255, 255]), "i64", [], [-1n]],
    ["bool", file(header("|b1", "(2,)"), [0, 1]), "bool", [2], [0, 1]],
    ["Fortran order", file(header("|u1", "(2, 3)", "True"), [0, 10, 1, 11, 2, 12]), "u8", [2, 3], [0, 1, 2, 10, 11, 12]],
    ["Fortran order, big-endian", file(header(">i2", "(2, 2)", "True"), [0, 1, 0, 3, 0, 2, 0, 4]), "i16", [2, 2], [1, 2, 3, 4]],
    ["version 2", file(header("|u1", "(1,)"), [7], 2), "u8", [1], [7]],
    ["version 3", file(header("|u1", "(1,)"), [7], 3), "u8", [1], [7]],
    ["other order of keys, double quotes, Python 2's L", file(`{"shape":(1L,),"fortran_order":False,"descr":"|u1"}`, [7]), "u8", [1], [7]],
    ["empty", file(header("<f4", "(0, 5)")), "f32", [0, 5], []],
  ])("%s", (_, bytes, dtype, shape, values) => {
    const array = decode(bytes);
    expect([array.dtype, array.shape, [...array.data]]).toEqual([dtype, shape, values]);
  });
});

describe("a file that contradicts the format", () => {
  const cases: [string, Uint8Array, string][] = [
    ["empty", new Uint8Array(0), "x.npy, byte 0: expected at least 10 bytes, found 0."],
    ["other magic", new TextEncoder().encode("PK\x03\x04 this is a zip"), "expected the magic \\x93NUMPY"],
    ["version 4", file(header("|u1", "(1,)"), [7], 4), "byte 6: expected version 1.0, 2.0 or 3.0, found 4.0"],
    ["huge header length", Uint8Array.of(0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 2, 0, 255, 255, 255, 255), "a header of at most 65535 bytes"],
    ["header beyond the end", file(header("|u1", "(1,)")).slice(0, 20), "bytes of header, found 10"],
    [
      "structured",
      file("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,), }"),
      "expected a plain dtype, found a structured one",
    ],
    ["complex", file(header("<c8", "(1,)"), new Array(8).fill(0)), "found '<c8'. Convert it with numpy's astype."],
    ["object", file(header("|O", "(1,)"), [1]), "found '|O'"],
    ["no byte order", file(header("f4", "(1,)"), [0, 0, 0, 0]), "found 'f4'"],
    ["wide with |", file(header("|f4", "(1,)"), [0, 0, 0, 0]), "found '|f4'"],
    [
      "code in place of a value",
      file("{'descr': '|u1', 'fortran_order': __import__('os'), 'shape': (1,), }", [7]),
      "expected True or False",
    ],
    ["tuple of one without its comma", file(header("|u1", "(1)"), [7]), "expected a comma"],
    ["negative size", file(header("|u1", "(-1,)"), [7]), "expected a whole number"],
    ["size with too many digits", file(header("|u1", "(99999999999999999999,)"), [7]), "expected a whole number below 10^16"],
    ["overflow", file(header("|u1", "(9007199254740991, 9007199254740991)"), [7]), "a shape of at most 64 axes and 2^50 elements"],
    ["key twice", file("{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (1,), }", [7]), 'once each, found "descr"'],
    ["key missing", file("{'descr': '|u1', 'shape': (1,), }", [7]), "found not all of them"],
    ["other key", file("{'descr': '|u1', 'fortran_order': False, 'shape': (1,), 'x': 1}", [7]), 'found "x"'],
    ["text after the dict", file(`${header("|u1", "(1,)")}; 1`, [7]), "nothing but blanks after"],
    ["too little data", file(header("<f4", "(2, 3)"), [0, 0, 0, 0]), "expected 24 bytes of f32 (2, 3), found 4."],
    ["too much data", file(header("|u1", "(1,)"), [7, 8]), "expected 1 bytes of u8 (1), found 2."],
  ];
  test.each(cases)("%s", (_, bytes, message) => {
    const run = () => decode(bytes, "x.npy");
    expect(run).toThrow(FormatError);
    expect(run).toThrow(message);
  });
});
