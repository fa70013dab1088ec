// N-MNIST's five bytes an event, and voxel grids, against their definitions.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Events, readNMnist, voxelGrid } from "../../../src/data/events/index.ts";

type Event = [t: number, x: number, y: number, p: number];

function bytesOf(events: readonly Event[]): Uint8Array {
  return Uint8Array.from(events.flatMap(([t, x, y, p]) => [x, y, (p << 7) | ((t >> 16) & 0x7f), (t >> 8) & 0xff, t & 0xff]));
}

const listed = ({ t, x, y, p }: Events): Event[] => Array.from(t, (time, i) => [time, x[i], y[i], p[i]] as Event);

function eventsOf(events: readonly Event[]): Events {
  return {
    t: Float64Array.from(events, ([t]) => t),
    x: Uint16Array.from(events, ([, x]) => x),
    y: Uint16Array.from(events, ([, , y]) => y),
    p: Uint8Array.from(events, ([, , , p]) => p),
  };
}

const event = fc.tuple(fc.nat(2 ** 23 - 1), fc.nat(33), fc.nat(33), fc.nat(1));

describe("readNMnist", () => {
  it("gives back what was written", () => {
    fc.assert(
      fc.property(fc.array(event), (events) => {
        expect(listed(readNMnist(bytesOf(events as Event[])))).toEqual(events);
      }),
    );
  });

  it("goes on 2^13 microseconds later where the clock ran over", () => {
    const bytes = bytesOf([
      [5, 1, 2, 1],
      [0, 0, 240, 0],
      [7, 3, 4, 0],
      [0, 9, 240, 1],
      [1, 33, 33, 1],
    ]);
    expect(listed(readNMnist(bytes))).toEqual([
      [5, 1, 2, 1],
      [8192 + 7, 3, 4, 0],
      [2 * 8192 + 1, 33, 33, 1],
    ]);
  });

  it("refuses half an event, and one outside the sensor", () => {
    const bytes = bytesOf([
      [5, 1, 2, 1],
      [6, 34, 0, 1],
    ]);
    expect(() => readNMnist(bytes.subarray(0, 9), undefined, "a.bin")).toThrow(/a\.bin.*events of 5 bytes.*9 bytes in all/);
    expect(() => readNMnist(bytes)).toThrow("an event within 34 x 34 pixels, found one at x 34, y 0");
    expect(listed(readNMnist(bytes, { height: 180, width: 240 }))[1]).toEqual([6, 34, 0, 1]);
    expect(readNMnist(new Uint8Array(0)).t.length).toBe(0);
  });
});

describe("voxelGrid", () => {
  const size = { height: 3, width: 4 };

  it("is the sum of its definition", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(1000), fc.nat(3), fc.nat(2), fc.nat(1)), { minLength: 1, maxLength: 30 }),
        fc.integer({ min: 1, max: 6 }),
        (list, bins) => {
          const events = [...list].sort((a, b) => a[0] - b[0]) as Event[];
          const { data, shape } = voxelGrid(eventsOf(events), { bins, ...size });
          expect(shape).toEqual([bins, 3, 4, 1]);
          const [start, end] = [(events[0] as Event)[0], (events.at(-1) as Event)[0]];
          const expected = new Float64Array(bins * 12);
          for (const [t, x, y, p] of events) {
            const time = end > start ? ((bins - 1) * (t - start)) / (end - start) : 0;
            for (let b = 0; b < bins; b++)
              expected[b * 12 + y * 4 + x] = (expected[b * 12 + y * 4 + x] as number) + (p ? 1 : -1) * Math.max(0, 1 - Math.abs(b - time));
          }
          data.forEach((v, i) => expect(v).toBeCloseTo(expected[i] as number, 4));
        },
      ),
    );
  });

  it("keeps the sum of polarities, and is empty without events", () => {
    const events = eventsOf([
      [0, 0, 0, 1],
      [30, 1, 1, 1],
      [70, 1, 1, 0],
      [100, 3, 2, 1],
    ]);
    expect(voxelGrid(events, { bins: 4, ...size }).data.reduce((a, b) => a + b, 0)).toBeCloseTo(2, 5);
    expect(voxelGrid(eventsOf([]), { bins: 2, ...size }).data).toEqual(new Float32Array(24));
  });

  it("refuses what is no grid, events outside it, and times that fall", () => {
    const one = eventsOf([[0, 4, 0, 1]]);
    expect(() => voxelGrid(one, { bins: 0, ...size })).toThrow("expected bins as a whole number from 1 to 65536, found 0");
    expect(() => voxelGrid(one, { bins: 65536, height: 65536, width: 4 })).toThrow("at most 1 GiB");
    expect(() => voxelGrid(one, { bins: 2, ...size })).toThrow("within 4 x 3 pixels, found x 4, y 0 at event 0");
    const falling = eventsOf([
      [5, 0, 0, 1],
      [4, 0, 0, 1],
    ]);
    expect(() => voxelGrid(falling, { bins: 2, ...size })).toThrow("times that do not fall, found 4 after 5 at event 1");
  });
});
