/** Event files written byte by byte, as the formats' descriptions have them; and files changed at random. */
import fc from "fast-check";

export interface Event {
  t: number;
  x: number;
  y: number;
  p: number;
}

const u16 = (v: number) => [v & 255, (v >>> 8) & 255];
const u32 = (v: number) => [...u16(v & 0xffff), ...u16(v >>> 16)];
export const text = (t: string) => [...new TextEncoder().encode(t)];

/** AEDAT 2.0 of CIFAR10-DVS; x, y, p as the reader should give them. */
export function aedat2(events: readonly Event[], header = "#!AER-DAT2.0\r\n# a comment\r\n"): Uint8Array {
  const big = (v: number) => u32(v).reverse();
  return Uint8Array.from([
    ...text(header),
    ...events.flatMap(({ t, x, y, p }) => [...big(((127 - x) << 8) | ((127 - y) << 1) | (1 - p)), ...big(t)]),
  ]);
}

export interface Packet {
  events: readonly Event[];
  type?: number;
  size?: number;
  overflow?: number;
  capacity?: number;
}

export const HEADER3 = "#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n";

/** AEDAT 3.1. Times are those within the packet, without its overflow. */
export function aedat3(packets: readonly Packet[], header = HEADER3): Uint8Array {
  return Uint8Array.from([
    ...text(header),
    ...packets.flatMap(({ events, type = 1, size = 8, overflow = 0, capacity = events.length }) => [
      ...u16(type),
      ...u16(1),
      ...[size, 4, overflow, capacity, capacity, capacity].flatMap(u32),
      ...events.flatMap(({ t, x, y, p }) => [...u32(((x << 17) | (y << 2) | (p << 1) | 1) >>> 0), ...u32(t)]),
    ]),
  ]);
}

/** Up to four changes of a file: a byte overwritten, put in, taken out, or the rest cut off. */
export function mutations(bytes: Uint8Array): fc.Arbitrary<Uint8Array> {
  const value = fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat(255));
  const change = fc.record({
    how: fc.constantFrom("set", "set", "set", "insert", "remove", "cut"),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    value,
  });
  return fc.array(change, { minLength: 1, maxLength: 4 }).map((changes) => {
    const out = [...bytes];
    for (const { how, at, value } of changes) {
      const place = Math.floor(at * out.length);
      if (how === "set") out[place] = value;
      else if (how === "insert") out.splice(place, 0, value);
      else if (how === "remove") out.splice(place, 1);
      else out.length = place;
    }
    return Uint8Array.from(out);
  });
}
