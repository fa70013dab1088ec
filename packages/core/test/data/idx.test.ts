import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { datasetFromIdx } from "../../src/data/dataset.ts";
import { readIdx } from "../../src/data/idx.ts";
import { FormatError, SpikeloomError } from "../../src/runtime/error.ts";

/** An IDX file byte by byte. */
function idx(type: number, dims: number[], data: number[], magic = [0, 0]): Uint8Array {
  return Uint8Array.of(
    ...magic,
    type,
    dims.length,
    ...dims.flatMap((d) => [d >>> 24, (d >>> 16) & 255, (d >>> 8) & 255, d & 255]),
    ...data,
  );
}

test.each([
  ["u8", idx(8, [2, 1, 3], [0, 1, 2, 253, 254, 255]), [2, 1, 3], [0, 1, 2, 253, 254, 255]],
  ["i8", idx(9, [2], [127, 128]), [2], [127, -128]],
  ["i16", idx(11, [2], [1, 2, 255, 254]), [2], [258, -2]],
  ["i32", idx(12, [1], [1, 0, 0, 2]), [1], [0x01000002]],
  ["f32", idx(13, [1], [0x3f, 0xc0, 0, 0]), [1], [1.5]],
  ["f64", idx(14, [1], [0xbf, 0xf8, 0, 0, 0, 0, 0, 0]), [1], [-1.5]],
  ["u8", idx(8, [0, 28, 28], []), [0, 28, 28], []],
])("reads %s", (dtype, bytes, shape, values) => {
  const array = readIdx(bytes);
  expect([array.dtype, array.shape, [...array.data]]).toEqual([dtype, shape, values]);
});

test("reads any bytes of any shape", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 }),
      fc.infiniteStream(fc.nat(255)),
      (dims, stream) => {
        const data = [...stream.take(dims.reduce((a, b) => a * b))];
        const array = readIdx(idx(8, dims, data));
        expect([array.shape, [...array.data]]).toEqual([dims, data]);
      },
    ),
  );
});

describe("a file that contradicts the format", () => {
  test.each([
    ["empty", new Uint8Array(0), "t.idx, byte 0: expected a header of at least 4 bytes, found 0."],
    ["gzip", Uint8Array.of(0x1f, 0x8b, 8, 0), "expected IDX data, found gzip data. Unpack it first"],
    ["other magic", idx(8, [1], [0], [0x89, 0x50]), "expected the magic bytes 0 0, found 137 80"],
    ["unknown type", idx(10, [1], [0]), "byte 2: expected an element type among 8, 9, 11, 12, 13, 14, found 10"],
    ["no axes", idx(8, [], [0]), "byte 3: expected 1 to 64 axes, found 0"],
    ["axis lengths cut off", idx(8, [1, 1, 1], []).slice(0, 10), "byte 4: expected 12 bytes of axis lengths, found 6"],
    ["product beyond memory", idx(8, [0xffffffff, 0xffffffff, 2], []), "expected axis lengths whose product is below 2^50"],
    ["huge claim", idx(14, [0xffffffff], [0]), "expected 34359738360 bytes of elements (4294967295 f64), found 1"],
    ["too little data", idx(8, [2, 2], [1, 2, 3]), "byte 12: expected 4 bytes of elements (2 x 2 u8), found 3."],
    ["too much data", idx(8, [2], [1, 2, 3]), "byte 8: expected 2 bytes of elements (2 u8), found 3."],
  ])("%s", (_, bytes, message) => {
    const run = () => readIdx(bytes, "t.idx");
    expect(run).toThrow(FormatError);
    expect(run).toThrow(message);
  });
});

describe("a dataset from two IDX files", () => {
  const names = { images: "images", labels: "labels" };

  test("pairs images with labels", () => {
    const set = datasetFromIdx(idx(8, [2, 1, 2], [1, 2, 3, 4]), idx(8, [2], [9, 0]), names);
    expect([set.length, set.shape, set.classes, [...set.images], [...set.labels]]).toEqual([2, [2, 1, 2, 1], 10, [1, 2, 3, 4], [9, 0]]);
  });

  test.each([
    [
      "swapped",
      idx(8, [2], [9, 0]),
      idx(8, [2, 1, 2], [1, 2, 3, 4]),
      "images: expected images, which are u8 with 3 axes, found u8 with 1. Is it the other file",
    ],
    ["floats", idx(13, [1, 1, 1], [0, 0, 0, 0]), idx(8, [1], [0]), "found f32 with 3"],
    ["not as many", idx(8, [2, 1, 1], [1, 2]), idx(8, [3], [1, 2, 3]), "images with labels: expected 2 labels, one an image, found 3."],
    ["label 10", idx(8, [2, 1, 1], [1, 2]), idx(8, [2], [1, 10]), "expected labels from 0 to 9, found 10 at image 1."],
    ["no images", idx(8, [0, 1, 1], []), idx(8, [0], []), "expected a shape [N, H, W, C] of whole numbers >= 1, found [0, 1, 1, 1]."],
  ])("%s", (_, images, labels, message) => {
    const run = () => datasetFromIdx(images, labels, names);
    expect(run).toThrow(SpikeloomError);
    expect(run).toThrow(message);
  });
});
