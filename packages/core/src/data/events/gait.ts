/**
 * Recordings of DVS Gait as the V3 models take them (repository BICLab/Spike-Driven-Transformer-V3, SDT_V3/DVS): an .npy array with a row
 * (t, x, y, p) for each event, cut into windows, and a window into frames that each span the same time from its first event.
 */
import { DAMAGED, malformed, toFloat64 } from "../../formats/array.ts";
import * as npy from "../../formats/npy.ts";
import { SpikeloomError } from "../../runtime/error.ts";
import type { Stream } from "../../runtime/random.ts";
import { type Events, makeEvents, type SensorSize, sliceEvents } from "./events.ts";
import { type Frames, integrate, type Segment, whole } from "./frames.ts";

/**
 * A recording from an .npy file [n, 4] with the columns t (microseconds), x, y, p; a polarity that is not 0 counts as 1.
 * @throws FormatError when the file is damaged, has another shape, or holds what no event within `size` has
 */
export function readEventNpy(bytes: Uint8Array, size: SensorSize, name = "npy"): Events {
  const array = npy.decode(bytes, name);
  const [count, columns] = array.shape;
  if (array.shape.length !== 2 || columns !== 4)
    throw malformed(name, undefined, "the shape [n, 4]: t, x, y, p of each event", `[${array.shape.join(", ")}]`);
  const values = toFloat64(array);
  const events = makeEvents(count!);
  const limits = { t: 2 ** 53, x: size.width, y: size.height };
  for (let i = 0; i < count!; i++) {
    (["t", "x", "y"] as const).forEach((key, column) => {
      const v = values[4 * i + column]!;
      if (!(v >= 0 && v < limits[key] && Number.isInteger(v)))
        throw malformed(`${name}, ${key}`, undefined, `whole numbers from 0 to below ${limits[key]}`, `${v} at event ${i}`, DAMAGED);
      events[key][i] = v;
    });
    events.p[i] = values[4 * i + 3] === 0 ? 0 : 1;
  }
  return events;
}

/** The time that a window spans. @throws SpikeloomError for another duration than whole microseconds */
function span(frames: number, duration: number): number {
  if (!Number.isSafeInteger(duration) || duration < 1 || duration > 2 ** 32)
    throw new SpikeloomError(`events: expected the duration of a frame in whole microseconds, 1 to 2^32, found ${duration}.`);
  return whole(frames, "the number of frames") * duration;
}

/** @throws SpikeloomError where times go back */
function expectSorted({ t }: Events): void {
  for (let i = 1; i < t.length; i++)
    if (t[i]! < t[i - 1]!)
      throw new SpikeloomError(
        `events: expected times that do not go back, found ${t[i - 1]} and then ${t[i]} at event ${i}. Sort the recording first.`,
      );
}

/** First event at or after `time`. */
function firstFrom({ t }: Events, time: number): number {
  let [low, high] = [0, t.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (t[middle]! < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * `frames` frames of `duration` microseconds each, counted from the first event: one exactly on a border belongs to the later frame, what
 * comes after the last frame to none.
 * @throws SpikeloomError for times that are not sorted
 */
export function segmentsFromFirst(events: Events, frames: number, duration: number): Segment[] {
  span(frames, duration);
  expectSorted(events);
  const start = events.t[0] ?? 0;
  const borders = Array.from({ length: frames + 1 }, (_, k) => firstFrom(events, start + k * duration));
  return borders.slice(1).map((to, k) => ({ from: borders[k]!, to }));
}

/** What a window of a recording spans. */
export interface WindowOptions {
  /** T; default 8. */
  readonly frames?: number | undefined;
  /** Microseconds of a frame; default 15 ms. */
  readonly duration?: number | undefined;
}

/** Coordinates divided by `factor` and cut to whole numbers: a smaller sensor, whose pixels see the events of factor x factor. */
export function shrinkEvents({ t, x, y, p }: Events, factor: number): Events {
  whole(factor, "the factor");
  return { t, x: x.map((v) => Math.trunc(v / factor)), y: y.map((v) => Math.trunc(v / factor)), p };
}

/** Moved by whole pixels; events that leave the sensor are gone. */
export function shiftEvents({ t, x, y, p }: Events, right: number, down: number, { width, height }: SensorSize): Events {
  const stays = Array.from(t, (_, i) => i).filter((i) => {
    const [column, row] = [x[i]! + right, y[i]! + down];
    return column >= 0 && column < width && row >= 0 && row < height;
  });
  const out = makeEvents(stays.length);
  stays.forEach((i, to) => {
    out.t[to] = t[i]!;
    out.x[to] = x[i]! + right;
    out.y[to] = y[i]! + down;
    out.p[to] = p[i]!;
  });
  return out;
}

/**
 * A window as frames [frames, H / factor, W / factor, 2] of counts. The official frames have the columns before the rows: a network with
 * weights from there wants the two exchanged (`transposed`).
 * @throws SpikeloomError as `segmentsFromFirst` and `integrate`
 */
export function gaitFrames(
  window: Events,
  size: SensorSize,
  { frames = 8, duration = 15_000, factor = 1, transposed = false }: WindowOptions & { factor?: number; transposed?: boolean } = {},
): Frames {
  const small = shrinkEvents(window, factor);
  const [height, width] = [Math.ceil(size.height / factor), Math.ceil(size.width / factor)];
  const segments = segmentsFromFirst(window, frames, duration);
  if (!transposed) return integrate(small, segments, { height, width });
  return integrate({ ...small, x: small.y, y: small.x }, segments, { height: width, width: height });
}

/**
 * The official test windows: `clips` of them, each of `frames` x `duration` microseconds; window i begins i times the recording's duration /
 * clips (in whole microseconds) after its first event. What is shorter gives shorter windows.
 * @throws SpikeloomError for times that are not sorted
 */
export function gaitClips(events: Events, clips: number, { frames = 8, duration = 15_000 }: WindowOptions = {}): Events[] {
  whole(clips, "the number of clips");
  expectSorted(events);
  const { t } = events;
  const first = t[0] ?? 0;
  const length = span(frames, duration);
  const step = Math.floor(((t.at(-1) ?? 0) - first) / clips);
  return Array.from({ length: clips }, (_, i) => {
    const start = first + i * step;
    return sliceEvents(events, firstFrom(events, start), firstFrom(events, start + length));
  });
}

/**
 * A training window: from a time drawn so that all of it lies in the recording, with probability 1/2 moved by up to `shift` pixels (20) in both
 * directions. A recording that is no longer than a window is taken whole.
 */
export function gaitSample(
  events: Events,
  size: SensorSize,
  rng: Stream,
  { frames = 8, duration = 15_000, shift = 20 }: WindowOptions & { shift?: number } = {},
): Events {
  expectSorted(events);
  if (!Number.isSafeInteger(shift) || shift < 0 || shift > 65535)
    throw new SpikeloomError(`events: expected shift as a whole number of pixels, 0 to 65535, found ${shift}.`);
  const { t } = events;
  const first = t[0] ?? 0;
  const length = span(frames, duration);
  const free = (t.at(-1) ?? 0) - first + 1 - length;
  const start = first + (free > 0 ? Math.floor(rng.uniform() * (free + 1)) : 0);
  const window = sliceEvents(events, firstFrom(events, start), firstFrom(events, start + length));
  if (rng.uniform() >= 0.5) return window;
  const draw = () => rng.uniformInt(2 * shift + 1) - shift;
  return shiftEvents(window, draw(), draw(), size);
}
