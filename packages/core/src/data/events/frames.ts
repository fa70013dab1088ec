/**
 * Frames of events: counts of events for each pixel and polarity, [T, H, W, 2], by which the published spiking models see a
 * recording. The three ways to cut a recording are SpikingJelly's.
 */
import { SpikeloomError } from "../../runtime/error.ts";
import type { Events, SensorSize } from "./events.ts";

/** Frames of one recording: counts, or means of counts. Channel 0 holds events of polarity 0, channel 1 all others. */
export interface Frames {
  readonly data: Float32Array;
  readonly shape: readonly [frames: number, height: number, width: number, polarities: number];
}

/** Events `from` to before `to`. */
export interface Segment {
  readonly from: number;
  readonly to: number;
}

/** 1 GiB of frames: beyond it an argument is wrong rather than a recording long. */
const MAX_VALUES = 2 ** 28;

/** Coordinates are 16 bits wide, and nobody cuts a recording into more frames. */
const MAX_SIDE = 65536;

/** A number of things, checked. */
export function whole(value: number, what: string): number {
  if (!Number.isSafeInteger(value) || value < 1 || value > MAX_SIDE)
    throw new SpikeloomError(`events: expected ${what} as a whole number from 1 to ${MAX_SIDE}, found ${value}.`);
  return value;
}

/** As many events in each frame; the last one takes what remains. */
export function segmentsByNumber({ t }: Events, frames: number): Segment[] {
  const step = Math.floor(t.length / whole(frames, "the number of frames"));
  return Array.from({ length: frames }, (_, j) => ({ from: j * step, to: j === frames - 1 ? t.length : (j + 1) * step }));
}

/**
 * As much time in each frame, in whole microseconds; the last one takes what remains. Where times are not sorted a frame reaches
 * from the first event in its time to the last.
 */
export function segmentsByTime({ t }: Events, frames: number): Segment[] {
  const last = whole(frames, "the number of frames") - 1;
  const step = Math.floor(((t.at(-1) ?? 0) - (t[0] ?? 0)) / frames);
  const segments: ({ from: number; to: number } | undefined)[] = new Array(frames).fill(undefined);
  for (let i = 0; i < t.length; i++) {
    const since = t[i]! - t[0]!;
    if (since < 0) continue;
    const j = step > 0 ? Math.min(last, Math.floor(since / step)) : last;
    const segment = segments[j];
    if (segment) segment.to = i + 1;
    else segments[j] = { from: i, to: i + 1 };
  }
  return segments
    .map((segment) => segment ?? { from: 0, to: 0 })
    .map(({ from, to }, j) => ({ from, to: j === last && to ? t.length : to }));
}

/** A frame begins at the first event not yet used and takes what follows within `duration` microseconds (that limit included). */
export function segmentsByDuration({ t }: Events, duration: number): Segment[] {
  if (!(duration >= 0)) throw new SpikeloomError(`events: expected a duration >= 0 microseconds, found ${duration}.`);
  const segments: Segment[] = [];
  for (let from = 0; from < t.length; ) {
    let to = from + 1;
    while (to < t.length && t[to]! - t[from]! <= duration) to++;
    segments.push({ from, to });
    from = to;
  }
  return segments;
}

/**
 * Count the events of each segment.
 * @returns [segments, height, width, 2]
 * @throws SpikeloomError for an event outside `size`, or frames of more than 1 GiB
 */
export function integrate({ x, y, p }: Events, segments: readonly Segment[], { height, width }: SensorSize): Frames {
  const size = whole(height, "the height") * whole(width, "the width") * 2;
  if (size * segments.length > MAX_VALUES)
    throw new SpikeloomError(
      `events: expected frames of at most 1 GiB, found ${segments.length} of ${height} x ${width} x 2. Take fewer or longer ones.`,
    );
  const data = new Float32Array(segments.length * size);
  for (let frame = 0; frame < segments.length; frame++) {
    const { from, to } = segments[frame]!;
    for (let i = from; i < to; i++) {
      const [column, row] = [x[i]!, y[i]!];
      if (!(column < width && row < height))
        throw new SpikeloomError(`events: expected events within ${width} x ${height} pixels, found x ${column}, y ${row} at event ${i}.`);
      const at = frame * size + (row * width + column) * 2 + (p[i] === 0 ? 0 : 1);
      data[at] = data[at]! + 1;
    }
  }
  return { data, shape: [segments.length, height, width, 2] };
}

/** How a recording is made into frames. */
export interface FrameOptions extends SensorSize {
  /** Number of frames. */
  readonly timeSteps: number;
  /** Frames share the recording's events ("number", the default) or its time. */
  readonly splitBy?: "number" | "time" | undefined;
}

/** A recording as [timeSteps, height, width, 2] counts. @throws SpikeloomError as `integrate` */
export function eventFrames(events: Events, options: FrameOptions): Frames {
  const { timeSteps, splitBy = "number" } = options;
  if (splitBy !== "number" && splitBy !== "time")
    throw new SpikeloomError(`events: expected splitBy "number" or "time", found ${JSON.stringify(splitBy)}.`);
  return integrate(events, (splitBy === "time" ? segmentsByTime : segmentsByNumber)(events, timeSteps), options);
}

/**
 * Half the height and width, each value the mean of 2 x 2: what bilinear resizing without antialiasing is at this factor. Exact on
 * counts.
 * @throws SpikeloomError for an odd height or width
 */
export function halveFrames({ data, shape }: Frames): Frames {
  const [frames, height, width, channels] = shape;
  if (height % 2 || width % 2) throw new SpikeloomError(`halveFrames: expected an even height and width, found ${height} x ${width}.`);
  const [h, w, row] = [height / 2, width / 2, width * channels];
  const out = new Float32Array(frames * h * w * channels);
  let to = 0;
  for (let y = 0; y < frames * h; y++)
    for (let x = 0; x < w; x++)
      for (let c = 0; c < channels; c++) {
        const at = 2 * y * row + 2 * x * channels + c;
        out[to++] = (data[at]! + data[at + channels]! + (data[at + row]! + data[at + row + channels]!)) / 4;
      }
  return { data: out, shape: [frames, h, w, channels] };
}
