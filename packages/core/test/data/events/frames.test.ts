import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Events, sliceEvents, sliceTime } from "../../../src/data/events/events.ts";
import {
  eventFrames,
  type Frames,
  halveFrames,
  integrate,
  segmentsByDuration,
  segmentsByNumber,
  segmentsByTime,
} from "../../../src/data/events/frames.ts";
import { byName, splitByClass } from "../../../src/data/events/split.ts";
import type { Event } from "./support.ts";

const SIZE = { height: 4, width: 6 };
const columns = (list: readonly Event[]): Events => ({
  t: Float64Array.from(list, (e) => e.t),
  x: Uint16Array.from(list, (e) => e.x),
  y: Uint16Array.from(list, (e) => e.y),
  p: Uint8Array.from(list, (e) => e.p),
});
const event = fc.record({ t: fc.nat(5000), x: fc.nat(5), y: fc.nat(3), p: fc.nat(1) });
const sorted = fc.array(event, { minLength: 1, maxLength: 60 }).map((list) => list.sort((a, b) => a.t - b.t));
const count = fc.integer({ min: 1, max: 12 });

/** Counts by definition: for each pixel the events that belong there. */
function oracle(list: readonly Event[], belongs: (e: Event, i: number, frame: number) => boolean, frames: number): number[] {
  const out: number[] = [];
  for (let j = 0; j < frames; j++)
    for (let y = 0; y < SIZE.height; y++)
      for (let x = 0; x < SIZE.width; x++)
        for (let p = 0; p < 2; p++) out.push(list.filter((e, i) => e.x === x && e.y === y && e.p === p && belongs(e, i, j)).length);
  return out;
}

describe("frames", () => {
  test("by number: floor(n / T) events each, the rest in the last", () => {
    fc.assert(
      fc.property(sorted, count, (list, frames) => {
        const each = Math.floor(list.length / frames);
        const belongs = (_: Event, i: number, j: number) => i >= j * each && (j === frames - 1 || i < (j + 1) * each);
        const found = eventFrames(columns(list), { ...SIZE, timeSteps: frames });
        expect(found.shape).toEqual([frames, 4, 6, 2]);
        expect([...found.data]).toEqual(oracle(list, belongs, frames));
      }),
      { numRuns: 100 },
    );
  });

  test("by time: whole microseconds each, the rest in the last", () => {
    fc.assert(
      fc.property(sorted, count, (list, frames) => {
        const [first, last] = [list[0]!.t, list.at(-1)!.t];
        const each = Math.floor((last - first) / frames);
        const belongs = ({ t }: Event, _: number, j: number) => t >= first + j * each && (j === frames - 1 || t < first + (j + 1) * each);
        expect([...eventFrames(columns(list), { ...SIZE, timeSteps: frames, splitBy: "time" }).data]).toEqual(
          oracle(list, belongs, frames),
        );
      }),
      { numRuns: 100 },
    );
  });

  test("by duration: each begins at the first event left and takes what follows within the limit", () => {
    const times = columns([0, 5, 10, 11, 30, 41].map((t) => ({ t, x: 0, y: 0, p: 0 })));
    const cut = (duration: number) => segmentsByDuration(times, duration).map(({ from, to }) => [from, to]);
    expect(cut(10)).toEqual([
      [0, 3],
      [3, 4],
      [4, 5],
      [5, 6],
    ]);
    expect(cut(0)).toHaveLength(6);
    expect(cut(1000)).toEqual([[0, 6]]);
    expect(() => segmentsByDuration(times, -1)).toThrow("duration >= 0");
  });

  test("more frames than events, and a recording without any", () => {
    const two = columns([
      { t: 7, x: 0, y: 0, p: 1 },
      { t: 7, x: 0, y: 0, p: 1 },
    ]);
    expect(segmentsByNumber(two, 3)).toEqual([
      { from: 0, to: 0 },
      { from: 0, to: 0 },
      { from: 0, to: 2 },
    ]);
    // All at one time: nothing lies before the last frame.
    expect(segmentsByTime(two, 3)).toEqual([
      { from: 0, to: 0 },
      { from: 0, to: 0 },
      { from: 0, to: 2 },
    ]);
    for (const splitBy of ["number", "time"] as const)
      expect(eventFrames(columns([]), { ...SIZE, timeSteps: 3, splitBy }).data.every((v) => v === 0)).toBe(true);
  });

  test("where times jump back a frame reaches from its first event to its last", () => {
    const jump = columns([0, 50, 10, 99, 60, 200].map((t) => ({ t, x: 0, y: 0, p: 0 })));
    expect(segmentsByTime(jump, 4)).toEqual([
      { from: 0, to: 3 },
      { from: 1, to: 5 },
      { from: 0, to: 0 },
      { from: 5, to: 6 },
    ]);
  });

  test.each<[string, () => unknown, RegExp]>([
    ["no frames", () => segmentsByNumber(columns([]), 0), /expected the number of frames as a whole number from 1 to 65536, found 0/],
    [
      "an event outside",
      () => integrate(columns([{ t: 0, x: 6, y: 0, p: 0 }]), [{ from: 0, to: 1 }], SIZE),
      /within 6 x 4 pixels, found x 6, y 0 at event 0/,
    ],
    [
      "frames beyond memory",
      () => eventFrames(columns([]), { height: 4096, width: 4096, timeSteps: 1024 }),
      /at most 1 GiB, found 1024 of 4096 x 4096 x 2/,
    ],
    [
      "an unknown way",
      () => eventFrames(columns([]), { ...SIZE, timeSteps: 1, splitBy: "times" as "time" }),
      /expected splitBy "number" or "time", found "times"/,
    ],
  ])("%s is an error", (_, run, message) => {
    expect(run).toThrow(message);
  });

  test("half the size: the mean of 2 x 2, exact", () => {
    const data = Float32Array.from({ length: 2 * 4 * 6 * 2 }, (_, i) => (i * i) % 23);
    const at = (t: number, y: number, x: number, c: number) => data[((t * 4 + y) * 6 + x) * 2 + c]!;
    const half = halveFrames({ data, shape: [2, 4, 6, 2] });
    expect(half.shape).toEqual([2, 2, 3, 2]);
    let i = 0;
    for (let t = 0; t < 2; t++)
      for (let y = 0; y < 4; y += 2)
        for (let x = 0; x < 6; x += 2)
          for (let c = 0; c < 2; c++)
            expect(half.data[i++]).toBe((at(t, y, x, c) + at(t, y, x + 1, c) + at(t, y + 1, x, c) + at(t, y + 1, x + 1, c)) / 4);
    expect(i).toBe(half.data.length);
    expect(() => halveFrames({ data, shape: [2, 3, 8, 2] } as Frames)).toThrow("expected an even height and width, found 3 x 8");
  });
});

test("slices by number share memory, by time keep the order", () => {
  const events = columns([
    { t: 5, x: 1, y: 0, p: 1 },
    { t: 9, x: 2, y: 1, p: 0 },
    { t: 7, x: 3, y: 2, p: 1 },
    { t: 10, x: 4, y: 3, p: 0 },
  ]);
  expect([...sliceEvents(events, 1, 3).x]).toEqual([2, 3]);
  expect(sliceEvents(events, 1, 3).t.buffer).toBe(events.t.buffer);
  const slice = sliceTime(events, 7, 10);
  expect([[...slice.t], [...slice.x], [...slice.y], [...slice.p]]).toEqual([
    [9, 7],
    [2, 3],
    [1, 2],
    [0, 1],
  ]);
});

test("a split by class: the first ceil(f n) of each train", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(3), { maxLength: 60 }), fc.constantFrom(0, 0.5, 0.9, 1), (labels, fraction) => {
      const { train, test } = splitByClass(labels, fraction);
      expect([...train, ...test].sort((a, b) => a - b)).toEqual(labels.map((_, i) => i));
      for (const label of new Set(labels)) {
        const mine = labels.flatMap((l, i) => (l === label ? [i] : []));
        expect(train.filter((i) => labels[i] === label)).toEqual(mine.slice(0, Math.ceil(fraction * mine.length)));
      }
    }),
    { numRuns: 100 },
  );
  expect(() => splitByClass([0], 1.1)).toThrow("a fraction from 0 to 1, found 1.1");
  expect(byName(["b_10", "b_2", "a_9"])).toEqual(["a_9", "b_10", "b_2"]);
});
