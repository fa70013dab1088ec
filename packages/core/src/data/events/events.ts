/**
 * What an event camera records: a list of brightness changes, each with its time, place and sign. Readers of the published formats
 * give it, frames are made of it.
 */

/** Events as parallel arrays, in the order of the recording. */
export interface Events {
  /** Time in microseconds, whole numbers. */
  readonly t: Float64Array;
  /** Column, from 0 at the left. */
  readonly x: Uint16Array;
  /** Row, from 0 at the top. */
  readonly y: Uint16Array;
  /** Polarity, 0 or 1; which of them is "brighter" is the data set's own convention. */
  readonly p: Uint8Array;
}

/** Pixels of the sensor. */
export interface SensorSize {
  readonly height: number;
  readonly width: number;
}

/** Room for `count` events. */
export function makeEvents(count: number): Events {
  return { t: new Float64Array(count), x: new Uint16Array(count), y: new Uint16Array(count), p: new Uint8Array(count) };
}

/** Events `from` to before `to`, sharing memory. */
export function sliceEvents({ t, x, y, p }: Events, from: number, to: number): Events {
  return { t: t.subarray(from, to), x: x.subarray(from, to), y: y.subarray(from, to), p: p.subarray(from, to) };
}

/** The events with start <= t < end, in their order, also where times are not sorted. A copy. */
export function sliceTime(events: Events, start: number, end: number): Events {
  const { t, x, y, p } = events;
  let count = 0;
  for (let i = 0; i < t.length; i++) if (t[i]! >= start && t[i]! < end) count++;
  const out = makeEvents(count);
  for (let i = 0, to = 0; i < t.length; i++) {
    if (!(t[i]! >= start && t[i]! < end)) continue;
    out.t[to] = t[i]!;
    out.x[to] = x[i]!;
    out.y[to] = y[i]!;
    out.p[to++] = p[i]!;
  }
  return out;
}
