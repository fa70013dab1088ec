/**
 * AEDAT, the files of jAER and cAER (inivation's documentation describes them): version 2.0 as CIFAR10-DVS is published in, and
 * 3.1 as DVS128 Gesture is. The fields are decoded as SpikingJelly does, so that frames equal those of the published trainings.
 */
import { DAMAGED, malformed } from "../../formats/array.ts";
import { type Events, makeEvents, type SensorSize } from "./events.ts";

const HASH = 0x23;
const NEWLINE = 0x0a;
/** cAER's number of polarity events, the only ones a DVS frame is made of. */
const POLARITY = 1;
const PACKET_HEADER = 28;
const EVENT_BYTES = 8;

/** Text lines that begin with "#"; the file must say the version asked for. @returns where the data begins */
function skipHeader(bytes: Uint8Array, name: string, version: "2" | "3"): number {
  let at = 0;
  while (bytes[at] === HASH) {
    const end = bytes.indexOf(NEWLINE, at);
    if (end < 0) throw malformed(name, at, "a line end after the header's text", "none", DAMAGED);
    const line = new TextDecoder().decode(bytes.subarray(at, Math.min(end, at + 80))).trimEnd();
    const found = /^#!AER-DAT(\S*)/.exec(line)?.[1];
    if (at === 0 && found !== undefined && !found.startsWith(version)) throw malformed(name, 0, `AEDAT ${version}`, `AEDAT ${found}`);
    at = end + 1;
    if (version === "3" && line === "#!END-HEADER") return at;
  }
  if (at === 0) throw malformed(name, 0, `an AEDAT ${version} file, which begins with #!AER-DAT${version}`, "something else");
  if (version === "3") throw malformed(name, at, "the line #!END-HEADER at the header's end", "none", DAMAGED);
  return at;
}

/**
 * One recording of CIFAR10-DVS: AEDAT 2.0 of a 128 x 128 sensor, turned upright as SpikingJelly does (x = 127 - y field,
 * y = 127 - x field, p = 1 - polarity bit). Timestamps are unsigned 32 bit microseconds.
 * @throws FormatError when it is no AEDAT 2 file or ends in the middle of an event
 */
export function readCifar10Dvs(bytes: Uint8Array, name = "aedat"): Events {
  const start = skipHeader(bytes, name, "2");
  const size = bytes.length - start;
  if (size % EVENT_BYTES) throw malformed(name, start, `events of ${EVENT_BYTES} bytes`, `${size} bytes in all`, DAMAGED);
  const view = new DataView(bytes.buffer, bytes.byteOffset + start, size);
  const events = makeEvents(size / EVENT_BYTES);
  for (let i = 0; i < events.t.length; i++) {
    const address = view.getUint32(i * EVENT_BYTES);
    events.t[i] = view.getUint32(i * EVENT_BYTES + 4);
    events.x[i] = 127 - ((address & 0x7f00) >> 8);
    events.y[i] = 127 - ((address & 0xfe) >> 1);
    events.p[i] = 1 - (address & 1);
  }
  return events;
}

/** A packet of polarity events within the file. */
interface Packet {
  /** Where its events begin, and how many there are. */
  readonly begin: number;
  readonly count: number;
  /** What to add to its timestamps. */
  readonly base: number;
}

/** The polarity packets from `at` on. Every size is checked against the bytes that are there before it is believed. */
function* packets(bytes: Uint8Array, view: DataView, at: number, name: string): Generator<Packet, void, undefined> {
  while (at < bytes.length) {
    if (at + PACKET_HEADER > bytes.length)
      throw malformed(name, at, `a packet header of ${PACKET_HEADER} bytes`, `${bytes.length - at}`, DAMAGED);
    const type = view.getUint16(at, true);
    const size = view.getUint32(at + 4, true);
    const overflow = view.getUint32(at + 12, true);
    const capacity = view.getUint32(at + 16, true);
    const begin = at + PACKET_HEADER;
    const end = begin + capacity * size;
    if (end > bytes.length)
      throw malformed(name, at, `${capacity * size} bytes of events (${capacity} of ${size})`, `${bytes.length - begin}`, DAMAGED);
    if (type === POLARITY) {
      if (size !== EVENT_BYTES) throw malformed(name, at + 4, `polarity events of ${EVENT_BYTES} bytes`, `${size}`, DAMAGED);
      if (overflow >= 2 ** 22) throw malformed(name, at + 12, "times below 2^53 microseconds", `overflow ${overflow}`, DAMAGED);
      yield { begin, count: capacity, base: overflow * 2 ** 31 };
    }
    at = end;
  }
}

function timestamp(view: DataView, at: number, name: string): number {
  const t = view.getInt32(at, true);
  if (t < 0) throw malformed(name, at, "a timestamp of 31 bits", `${t}`, DAMAGED);
  return t;
}

/**
 * The polarity events of an AEDAT 3.1 file. Like SpikingJelly it takes every event a packet has room for, whatever its valid bit.
 * @param size the sensor's: an event outside it is an error
 * @throws FormatError when it is no AEDAT 3 file, ends in the middle of a packet or contradicts itself
 */
export function readAedat3(bytes: Uint8Array, size: SensorSize, name = "aedat"): Events {
  return readAedat3Packets(bytes.subarray(skipHeader(bytes, name, "3")), size, name);
}

/**
 * The polarity events of whole AEDAT 3.1 packets without the file's header: of a part that `findAedat3` found. Positions in
 * messages count from where the part begins.
 */
export function readAedat3Packets(bytes: Uint8Array, size: SensorSize, name = "aedat"): Events {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let count = 0;
  for (const packet of packets(bytes, view, 0, name)) count += packet.count;
  const events = makeEvents(count);
  let to = 0;
  for (const packet of packets(bytes, view, 0, name))
    for (let i = 0, at = packet.begin; i < packet.count; i++, at += EVENT_BYTES, to++) {
      const word = view.getUint32(at, true);
      const x = word >>> 17;
      const y = (word >>> 2) & 0x7fff;
      if (x >= size.width || y >= size.height)
        throw malformed(name, at, `an event within ${size.width} x ${size.height} pixels`, `one at x ${x}, y ${y}`, DAMAGED);
      events.t[to] = packet.base + timestamp(view, at + 4, name);
      events.x[to] = x;
      events.y[to] = y;
      events.p[to] = (word >>> 1) & 1;
    }
  return events;
}

/** A stretch of time, start <= t < end, in microseconds. */
export interface TimeRange {
  readonly start: number;
  readonly end: number;
}

/**
 * Where in an AEDAT 3.1 file the events of each time range lie: the bytes from the first packet that has one of them to the last,
 * empty where there is none. So a gesture can be read later without the minutes around it.
 * @throws FormatError as `readAedat3`
 */
export function findAedat3(bytes: Uint8Array, ranges: readonly TimeRange[], name = "aedat"): { begin: number; end: number }[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = ranges.map(() => ({ begin: 0, end: 0 }));
  for (const { begin, count, base } of packets(bytes, view, skipHeader(bytes, name, "3"), name)) {
    let first = Number.POSITIVE_INFINITY;
    let last = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < count; i++) {
      const t = base + timestamp(view, begin + i * EVENT_BYTES + 4, name);
      if (t < first) first = t;
      if (t > last) last = t;
    }
    ranges.forEach(({ start, end }, i) => {
      const span = found[i]!;
      if (last < start || first >= end) return;
      if (span.end === 0) span.begin = begin - PACKET_HEADER;
      span.end = begin + count * EVENT_BYTES;
    });
  }
  return found;
}
