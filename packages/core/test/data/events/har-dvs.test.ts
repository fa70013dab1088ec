// HAR-DVS: the lists, which pictures are shown, grey to two polarities.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { harDvsChannels, harDvsPolarity, harDvsWindow, readHarDvsList } from "../../../src/data/events/har-dvs.ts";
import { FormatError } from "../../../src/runtime/error.ts";
import { Rng } from "../../../src/runtime/random.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

test("a list of recordings", () => {
  expect(readHarDvsList(bytes("action_001/a 25 0\r\n\r\n  action_300/b x 299 \n"))).toEqual([
    { path: "action_001/a", label: 0 },
    { path: "action_300/b", label: 299 },
  ]);
});

test.each<[Uint8Array, RegExp]>([
  [bytes(""), /expected a line for each recording, found none/],
  [bytes("a 1 2\nb 1"), /list, line 2: expected path, a number, and the label, found "b 1"/],
  [bytes("a 1 two"), /line 1: .*found "a 1 two"/],
  [Uint8Array.of(0xff, 0x20), /expected text, found other bytes/],
])("a list that is wrong: %#", (list, message) => {
  expect(() => readHarDvsList(list, "list")).toThrow(FormatError);
  expect(() => readHarDvsList(list, "list")).toThrow(message);
});

test("pictures in a row from any start, all where there are no more than asked for", () => {
  const rng = new Rng(3).stream("w");
  expect(harDvsWindow(5, 8, rng)).toEqual({ first: 0, count: 5 });
  expect(harDvsWindow(8, 8, rng)).toEqual({ first: 0, count: 8 });
  const firsts = new Set(Array.from({ length: 200 }, () => harDvsWindow(11, 8, rng).first));
  expect([...firsts].sort()).toEqual([0, 1, 2, 3]);
});

describe("polarities", () => {
  test("bytes: dark below 0.12, light above 0.3 up to 0.78", () => {
    const grey = Uint8Array.from({ length: 256 }, (_, i) => i);
    const both = harDvsChannels(grey);
    const ones = (c: number) => [...grey].filter((v) => both[2 * v + c] === 1);
    expect([ones(0)[0], ones(0).at(-1), ones(0).length]).toEqual([0, 30, 31]);
    expect([ones(1)[0], ones(1).at(-1), ones(1).length]).toEqual([77, 198, 122]);
  });

  test("floats at the borders", () => {
    const f = Math.fround;
    expect([...harDvsChannels(Float32Array.of(f(0.12), f(0.3), f(0.78), 0.1199, 0.3001, 0.7801))]).toEqual([
      ...[0, 0],
      ...[0, 0],
      ...[0, 1],
      ...[1, 0],
      ...[0, 1],
      ...[0, 0],
    ]);
  });

  test("frames that are missing are zero in both", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 3 }), (steps) => {
        const data = new Uint8Array(steps * 2 * 3);
        const { data: out, shape } = harDvsPolarity({ frames: 3 }).apply(
          { data, shape: [steps, 2, 3, 1], label: 4 },
          new Rng(1).stream("p"),
        );
        expect(shape).toEqual([3, 2, 3, 2]);
        expect([...out]).toEqual(Array.from({ length: 3 * 6 * 2 }, (_, i) => (i < steps * 12 && i % 2 === 0 ? 1 : 0)));
      }),
    );
  });

  test.each([[[4, 2, 3, 1]], [[2, 3, 1]], [[1, 2, 3, 3]]])("a sample of shape %j is refused", (shape) => {
    const data = new Uint8Array(shape.reduce((a, b) => a * b, 1));
    expect(() => harDvsPolarity({ frames: 3 }).apply({ data, shape, label: 0 }, new Rng(1).stream("p"))).toThrow(
      `expected at most 3 grey pictures [T, H, W, 1], found [${shape.join(", ")}]`,
    );
  });
});
