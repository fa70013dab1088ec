// CIFAR's binary records, written byte by byte.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type CifarKind, datasetFromCifar } from "../../src/data/cifar.ts";
import { FormatError } from "../../src/runtime/error.ts";

/** Value of channel c at (y, x) of image n. */
const pixel = (n: number, y: number, x: number, c: number) => (n * 101 + y * 7 + x * 3 + c * 85) % 256;

function record(n: number, ...labels: number[]): number[] {
  const planes = [0, 1, 2].flatMap((c) => Array.from({ length: 1024 }, (_, p) => pixel(n, p >> 5, p & 31, c)));
  return [...labels, ...planes];
}

const file = (name: string, ...records: number[][]) => ({ name, bytes: Uint8Array.from(records.flat()) });

describe("datasetFromCifar", () => {
  test("files behind one another, planes to channels", () => {
    const set = datasetFromCifar("cifar10", [file("a", record(0, 3), record(1, 9)), file("b", record(2, 0))], ["x"]);
    expect([set.length, set.classes, [...set.labels], set.classNames]).toEqual([3, 10, [3, 9, 0], ["x"]]);
    for (let n = 0; n < 3; n++) {
      const { data, shape } = set.get(n);
      expect(shape).toEqual([32, 32, 3]);
      for (let i = 0; i < 3072; i++) expect(data[i]).toBe(pixel(n, Math.floor(i / 96), Math.floor(i / 3) % 32, i % 3));
    }
  });

  test("CIFAR-100 has a coarse and a fine label", () => {
    const files = [file("train.bin", record(0, 19, 99), record(1, 4, 30))];
    const fine = datasetFromCifar("cifar100-fine", files);
    const coarse = datasetFromCifar("cifar100-coarse", files);
    expect([fine.classes, [...fine.labels]]).toEqual([100, [99, 30]]);
    expect([coarse.classes, [...coarse.labels]]).toEqual([20, [19, 4]]);
    expect(fine.get(1).data[2]).toBe(pixel(1, 0, 0, 2));
  });

  test("what is damaged says where", () => {
    const whole = file("data_batch_1.bin", record(0, 1), record(1, 2));
    expect(() => datasetFromCifar("cifar10", [{ ...whole, bytes: whole.bytes.subarray(0, 6000) }])).toThrow(
      "data_batch_1.bin: expected whole records of 3073 bytes, as cifar10 has, found 6000 bytes in all.",
    );
    expect(() => datasetFromCifar("cifar10", [{ ...whole, bytes: new Uint8Array(0) }])).toThrow("found 0 bytes in all");
    expect(() => datasetFromCifar("cifar10", [whole, file("b.bin", record(0, 9), record(1, 10))])).toThrow(
      "b.bin, byte 3073: expected a label from 0 to 9, found 10.",
    );
    expect(() => datasetFromCifar("cifar100-fine", [file("c.bin", record(0, 3, 100))])).toThrow(
      "c.bin, byte 1: expected a label from 0 to 99, found 100.",
    );
  });

  test("any bytes: a data set or a FormatError", () => {
    const valid = Uint8Array.from([...record(0, 1), ...record(1, 2)]);
    fc.assert(
      fc.property(
        fc.constantFrom<CifarKind>("cifar10", "cifar100-fine", "cifar100-coarse"),
        fc.nat(6146),
        fc.nat(6145),
        fc.nat(255),
        (kind, length, at, value) => {
          const bytes = valid.slice(0, length > 6000 ? 6146 : length);
          bytes[at] = value;
          try {
            const set = datasetFromCifar(kind, [{ name: "f", bytes }]);
            expect(set.labels.every((l) => l < set.classes)).toBe(true);
          } catch (error) {
            expect(error).toBeInstanceOf(FormatError);
          }
        },
      ),
      { numRuns: 200 },
    );
  });
});
