// Recordings of DVS Gait: the .npy file, windows and frames by their definition.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Events, sliceEvents } from "../../../src/data/events/events.ts";
import {
  gaitClips,
  gaitFrames,
  gaitSample,
  readEventNpy,
  segmentsFromFirst,
  shiftEvents,
  shrinkEvents,
} from "../../../src/data/events/gait.ts";
import { encode } from "../../../src/formats/npy.ts";
import { FormatError, SpikeloomError } from "../../../src/runtime/error.ts";
import { Rng } from "../../../src/runtime/random.ts";
import { type Event, mutations } from "./support.ts";

const SIZE = { height: 4, width: 6 };
const columns = (list: readonly Event[]): Events => ({
  t: Float64Array.from(list, (e) => e.t),
  x: Uint16Array.from(list, (e) => e.x),
  y: Uint16Array.from(list, (e) => e.y),
  p: Uint8Array.from(list, (e) => e.p),
});
const rows = ({ t, x, y, p }: Events): Event[] => Array.from(t, (_, i) => ({ t: t[i]!, x: x[i]!, y: y[i]!, p: p[i]! }));
const event = fc.record({ t: fc.nat(300), x: fc.nat(5), y: fc.nat(3), p: fc.nat(1) });
const sorted = fc.array(event, { minLength: 1, maxLength: 60 }).map((list) => list.sort((a, b) => a.t - b.t));
const few = fc.integer({ min: 1, max: 8 });
const file = (list: readonly Event[]) =>
  encode({
    dtype: "i64",
    shape: [list.length, 4],
    data: BigInt64Array.from(
      list.flatMap(({ t, x, y, p }) => [t, x, y, p]),
      BigInt,
    ),
  });

describe("the file", () => {
  test("gives the events that were written", () => {
    fc.assert(
      fc.property(fc.array(event), (list) => {
        expect(rows(readEventNpy(file(list), SIZE))).toEqual(list);
      }),
      { numRuns: 50 },
    );
  });

  test.each<[string, Uint8Array, RegExp]>([
    [
      "another shape",
      encode({ dtype: "i32", shape: [3], data: new Int32Array(3) }),
      /the shape \[n, 4\]: t, x, y, p of each event, found \[3\]/,
    ],
    ["an event outside the sensor", file([{ t: 1, x: 6, y: 0, p: 0 }]), /x.*whole numbers from 0 to below 6.*6 at event 0/],
    ["a negative time", encode({ dtype: "f64", shape: [1, 4], data: Float64Array.of(-1, 0, 0, 0) }), /t.*-1 at event 0/],
    ["half a pixel", encode({ dtype: "f32", shape: [1, 4], data: Float32Array.of(1, 0, 0.5, 0) }), /y.*0.5 at event 0/],
  ])("is refused with %s", (_, bytes, message) => {
    expect(() => readEventNpy(bytes, SIZE)).toThrow(FormatError);
    expect(() => readEventNpy(bytes, SIZE)).toThrow(message);
  });

  test("damaged at random is read or refused, never more", () => {
    const whole = file([
      { t: 1, x: 2, y: 3, p: 1 },
      { t: 5, x: 0, y: 1, p: 0 },
    ]);
    fc.assert(
      fc.property(mutations(whole), (bytes) => {
        try {
          for (const e of rows(readEventNpy(bytes, SIZE))) expect(e.x < 6 && e.y < 4 && e.p < 2 && e.t >= 0).toBe(true);
        } catch (error) {
          expect(error).toBeInstanceOf(SpikeloomError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("frames of equal time from the first event", () => {
  test("a border belongs to the later frame, what comes after the last to none", () => {
    fc.assert(
      fc.property(sorted, few, fc.integer({ min: 1, max: 90 }), few, fc.boolean(), (list, frames, duration, factor, transposed) => {
        const found = gaitFrames(columns(list), SIZE, { frames, duration, factor, transposed });
        const [h, w] = [Math.ceil(4 / factor), Math.ceil(6 / factor)];
        expect(found.shape).toEqual([frames, ...(transposed ? [w, h] : [h, w]), 2]);
        const expected = new Float32Array(frames * h * w * 2);
        for (const { t, x, y, p } of list) {
          const bin = Math.floor((t - list[0]!.t) / duration);
          const [row, column] = [Math.floor(y / factor), Math.floor(x / factor)];
          const pixel = transposed ? column * h + row : row * w + column;
          if (bin < frames) expected[(bin * h * w + pixel) * 2 + p]!++;
        }
        expect(found.data).toEqual(expected);
      }),
      { numRuns: 200 },
    );
  });

  test("of no events are empty", () => {
    expect(segmentsFromFirst(columns([]), 3, 10)).toEqual([0, 1, 2].map(() => ({ from: 0, to: 0 })));
  });

  test.each<[() => unknown, RegExp]>([
    [
      () =>
        segmentsFromFirst(
          columns([
            { t: 2, x: 0, y: 0, p: 0 },
            { t: 1, x: 0, y: 0, p: 0 },
          ]),
          1,
          1,
        ),
      /found 2 and then 1 at event 1. Sort/,
    ],
    [() => segmentsFromFirst(columns([]), 0, 1), /the number of frames as a whole number from 1 to 65536, found 0/],
    [() => segmentsFromFirst(columns([]), 1e9, 1), /found 1000000000/],
    [() => segmentsFromFirst(columns([]), 1, 0.5), /whole microseconds, 1 to 2\^32, found 0.5/],
    [() => shrinkEvents(columns([]), 0), /the factor as a whole number .*, found 0/],
    [() => gaitClips(columns([]), 0), /the number of clips as a whole number .*, found 0/],
    [() => gaitSample(columns([]), SIZE, new Rng(1).stream("x"), { shift: -1 }), /shift as a whole number of pixels, 0 to 65535, found -1/],
    [() => gaitFrames(columns([{ t: 0, x: 7, y: 0, p: 0 }]), SIZE), /events within 6 x 4 pixels, found x 7/],
  ])("wrong arguments: %#", (run, message) => {
    expect(run).toThrow(SpikeloomError);
    expect(run).toThrow(message);
  });
});

describe("windows", () => {
  test("of the test: i times the floor of the duration / clips after the first event", () => {
    fc.assert(
      fc.property(sorted, few, few, fc.integer({ min: 1, max: 60 }), (list, clips, frames, duration) => {
        const first = list[0]!.t;
        const step = Math.floor((list.at(-1)!.t - first) / clips);
        const found = gaitClips(columns(list), clips, { frames, duration });
        expect(found).toHaveLength(clips);
        found.forEach((window, i) => {
          const start = first + i * step;
          expect(rows(window)).toEqual(list.filter(({ t }) => t >= start && t < start + frames * duration));
        });
      }),
      { numRuns: 100 },
    );
  });

  test("of the training lie in the recording, all starts come up, and half of them are moved", () => {
    const list = Array.from({ length: 40 }, (_, t) => ({ t, x: 3, y: 2, p: 0 }));
    const rng = new Rng(7).stream("window");
    const starts = new Set<number>();
    let [moved, all] = [0, 0];
    for (let i = 0; i < 400; i++) {
      const window = gaitSample(columns(list), SIZE, rng, { frames: 2, duration: 10, shift: 1 });
      all++;
      expect(window.t.length).toBe(20);
      expect(window.t.at(-1)! - window.t[0]!).toBe(19);
      starts.add(window.t[0]!);
      if (window.x[0] !== 3 || window.y[0] !== 2) moved++;
    }
    expect([...starts].sort((a, b) => a - b)).toEqual(Array.from({ length: 21 }, (_, i) => i));
    // Half of 8 / 9: one draw in nine stays.
    expect(moved / all).toBeGreaterThan(0.35);
    expect(moved / all).toBeLessThan(0.55);
  });

  test("of a recording shorter than one are all of it", () => {
    const list = columns([{ t: 3, x: 1, y: 1, p: 1 }]);
    expect(gaitSample(list, SIZE, new Rng(1).stream("w"), { shift: 0 })).toEqual(sliceEvents(list, 0, 1));
  });

  test("events that are moved off the sensor are gone", () => {
    fc.assert(
      fc.property(sorted, fc.integer({ min: -7, max: 7 }), fc.integer({ min: -7, max: 7 }), (list, right, down) => {
        const expected = list
          .map((e) => ({ ...e, x: e.x + right, y: e.y + down }))
          .filter((e) => e.x >= 0 && e.x < 6 && e.y >= 0 && e.y < 4);
        expect(rows(shiftEvents(columns(list), right, down, SIZE))).toEqual(expected);
      }),
      { numRuns: 100 },
    );
  });
});
