import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { findAedat3, readAedat3, readAedat3Packets, readCifar10Dvs } from "../../../src/data/events/aedat.ts";
import { type Events, sliceTime } from "../../../src/data/events/events.ts";
import { FormatError } from "../../../src/runtime/error.ts";
import { aedat2, aedat3, type Event, HEADER3, mutations } from "./support.ts";

const SIZE = { height: 128, width: 128 };
const list = ({ t, x, y, p }: Events): Event[] => Array.from(t, (time, i) => ({ t: time, x: x[i]!, y: y[i]!, p: p[i]! }));
const pixel = fc.nat(127);
const event = (most: number) => fc.record({ t: fc.nat(most), x: pixel, y: pixel, p: fc.nat(1) });

/** The reader's answer, or the FormatError's message; anything else thrown is a failure. */
function attempt(read: () => Events): Events | string {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    expect(error.message).toMatch(/^file\b.*: expected .+, found .+\./s);
    return error.message;
  }
}

describe("CIFAR10-DVS", () => {
  test("any events come back as they were written", () => {
    fc.assert(
      fc.property(fc.array(event(0xffffffff), { maxLength: 40 }), (events) => {
        expect(list(readCifar10Dvs(aedat2(events)))).toEqual(events);
      }),
      { numRuns: 100 },
    );
  });

  test("the file's own fields are turned and mirrored", () => {
    // Address: y field 3, x field 5, polarity bit 1.
    const bytes = Uint8Array.from([...new TextEncoder().encode("#!AER-DAT2.0\r\n"), 0, 0, 3, (5 << 1) | 1, 0, 0, 1, 2]);
    expect(list(readCifar10Dvs(bytes))).toEqual([{ t: 258, x: 124, y: 122, p: 0 }]);
  });

  test.each<[string, Uint8Array, RegExp]>([
    ["nothing", new Uint8Array(0), /^file, byte 0: expected an AEDAT 2 file/],
    ["another format", Uint8Array.of(80, 75, 3, 4), /expected an AEDAT 2 file/],
    ["version 3", aedat3([]), /expected AEDAT 2, found AEDAT 3\.1/],
    ["a header without an end", aedat2([], "#!AER-DAT2.0"), /expected a line end/],
    ["half an event", aedat2([{ t: 1, x: 1, y: 1, p: 0 }]).subarray(0, -3), /byte 27: expected events of 8 bytes, found 5 bytes.*damaged/],
  ])("%s is refused", (_, bytes, message) => {
    expect(attempt(() => readCifar10Dvs(bytes, "file"))).toMatch(message);
  });

  test("no mutation breaks it or gives more than the bytes hold", () => {
    const file = aedat2(Array.from({ length: 6 }, (_, i) => ({ t: i * 100, x: i, y: 2 * i, p: i & 1 })));
    fc.assert(
      fc.property(mutations(file), (bytes) => {
        const found = attempt(() => readCifar10Dvs(bytes, "file"));
        if (typeof found === "string") return;
        expect(found.t.length * 8).toBeLessThanOrEqual(bytes.length);
        expect([...found.x, ...found.y].every((v) => v >= 0 && v < 128)).toBe(true);
      }),
      { numRuns: 300 },
    );
  });
});

describe("AEDAT 3.1", () => {
  const packet = fc.record({
    events: fc.array(event(0x7fffffff), { maxLength: 8 }),
    type: fc.constantFrom(0, 1, 1, 1, 2),
    overflow: fc.nat(2 ** 22 - 1),
  });

  test("polarity packets come back, with their overflow; others are passed over", () => {
    fc.assert(
      fc.property(fc.array(packet, { maxLength: 6 }), (packets) => {
        const expected = packets
          .filter(({ type }) => type === 1)
          .flatMap(({ events, overflow }) => events.map((e) => ({ ...e, t: e.t + overflow * 2 ** 31 })));
        expect(list(readAedat3(aedat3(packets), SIZE))).toEqual(expected);
      }),
      { numRuns: 100 },
    );
  });

  test("a part found by its time holds the events of that time, and few others", () => {
    fc.assert(
      fc.property(fc.array(packet, { maxLength: 8 }), fc.nat(2 ** 40), fc.integer({ min: 1, max: 2 ** 45 }), (packets, start, length) => {
        const bytes = aedat3(packets);
        const range = { start, end: start + length };
        const [part] = findAedat3(bytes, [range]) as [{ begin: number; end: number }];
        const of = (events: Events) => list(sliceTime(events, range.start, range.end));
        expect(of(readAedat3Packets(bytes.subarray(part.begin, part.end), SIZE))).toEqual(of(readAedat3(bytes, SIZE)));
      }),
      { numRuns: 200 },
    );
    const steps = Array.from({ length: 5 }, (_, i) => ({
      events: [
        { t: 10 * i, x: 0, y: 0, p: 0 },
        { t: 10 * i + 9, x: 1, y: 1, p: 1 },
      ],
    }));
    const bytes = aedat3(steps);
    const at = (i: number) => HEADER3.length + i * (28 + 16);
    expect(
      findAedat3(bytes, [
        { start: 20, end: 40 },
        { start: 9, end: 10 },
        { start: 50, end: 60 },
      ]),
    ).toEqual([
      { begin: at(2), end: at(4) },
      { begin: at(0), end: at(1) },
      { begin: 0, end: 0 },
    ]);
  });

  const one = [{ t: 5, x: 1, y: 2, p: 1 }];
  test.each<[string, Uint8Array, RegExp]>([
    ["version 2", aedat2([]), /expected AEDAT 3, found AEDAT 2\.0/],
    ["no end of the header", aedat3([], "#!AER-DAT3.1\r\n"), /expected the line #!END-HEADER/],
    ["half a packet header", aedat3([{ events: one }]).subarray(0, HEADER3.length + 20), /expected a packet header of 28 bytes, found 20/],
    ["half an event", aedat3([{ events: one }]).subarray(0, -2), /expected 8 bytes of events \(1 of 8\), found 6/],
    ["a capacity beyond the file", aedat3([{ events: one, capacity: 0xffffffff }]), /expected 34359738360 bytes of events/],
    ["events of another size", aedat3([{ events: one, size: 4, capacity: 2 }]), /expected polarity events of 8 bytes, found 4/],
    ["a time beyond 2^53", aedat3([{ events: one, overflow: 2 ** 22 }]), /expected times below 2\^53 microseconds/],
    ["a negative time", aedat3([{ events: [{ t: 0x80000000, x: 1, y: 2, p: 1 }] }]), /expected a timestamp of 31 bits, found -2147483648/],
    [
      "an event outside the sensor",
      aedat3([{ events: [{ t: 1, x: 128, y: 2, p: 1 }] }]),
      /expected an event within 128 x 128 pixels, found one at x 128, y 2/,
    ],
  ])("%s is refused", (_, bytes, message) => {
    expect(attempt(() => readAedat3(bytes, SIZE, "file"))).toMatch(message);
  });

  test("a file that ends early is refused wherever it ends, but between packets", () => {
    const bytes = aedat3([{ events: one }, { events: one, type: 0 }]);
    const between = [HEADER3.length, HEADER3.length + 36];
    for (let length = 0; length < bytes.length; length++)
      expect([length, typeof attempt(() => readAedat3(bytes.subarray(0, length), SIZE, "file"))]).toEqual([
        length,
        between.includes(length) ? "object" : "string",
      ]);
  });

  test("no mutation breaks it or gives more than the bytes hold", () => {
    const file = aedat3([{ events: [...one, ...one], overflow: 1 }, { events: one, type: 0 }, { events: [...one, ...one] }]);
    fc.assert(
      fc.property(mutations(file), (bytes) => {
        const found = attempt(() => readAedat3(bytes, SIZE, "file"));
        if (typeof found !== "string") expect(found.t.length * 8).toBeLessThanOrEqual(bytes.length);
        attempt(() => {
          findAedat3(bytes, [{ start: 0, end: 100 }], "file");
          return readAedat3Packets(new Uint8Array(0), SIZE);
        });
      }),
      { numRuns: 400 },
    );
  });
});
