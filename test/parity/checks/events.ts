/** Fixtures of event data: decoding, frames, the split of a set published without one, and augmentation of frames. */
import { data, formats } from "spikeloom";
import { type Check, check, compare, holds, relative } from "../compare.ts";
import { type Fixture, type InputSpec, inputArray, type NdArray, type Stored } from "../fixture.ts";

const { events } = data;
type Pixels = { data: Float32Array; shape: readonly number[] };

const same = (what: string, found: ArrayLike<number>, expected: ArrayLike<number>) => check(what, relative(found, expected), 0);

/** [T, 2, H, W] as the official code has it <-> [T, H, W, 2]. */
function channelsLast(array: NdArray): Pixels {
  const { data, shape } = formats.permute(array, [0, 2, 3, 1]);
  return { data: data as Float32Array, shape };
}
function channelsFirst({ data, shape }: Pixels): NdArray {
  return formats.permute({ dtype: "f32", shape, data }, [0, 3, 1, 2]);
}

interface FrameCase {
  j_l?: number[];
  j_r?: number[];
  frames: { shape: number[]; nonzero: [frame: number, polarity: number, y: number, x: number, count: number][] };
  sum_per_frame?: number[];
}

const CUTS: Record<string, (e: data.events.Events, n: number) => data.events.Segment[]> = {
  number: events.segmentsByNumber,
  time: events.segmentsByTime,
  duration: events.segmentsByDuration,
};

function frameChecks(name: string, recording: data.events.Events, size: data.events.SensorSize, stored: FrameCase): Check[] {
  const [how, amount] = name.split("_") as [string, string];
  const cut = CUTS[how];
  if (!cut) return [holds(name, false, "is no known way to cut a recording")];
  const segments = cut(recording, Number(amount));
  const frames = events.integrate(recording, segments, size);
  const found = channelsFirst(frames);
  const [, polarities, h, w] = stored.frames.shape as [number, number, number, number];
  const expected = new Float32Array(stored.frames.shape.reduce((a, b) => a * b, 1));
  for (const [t, p, y, x, n] of stored.frames.nonzero) expected[((t * polarities + p) * h + y) * w + x] = n;
  const checks = [compare(`${name} frames`, found, { shape: stored.frames.shape, values: [...expected] }, 0)];
  const list = (key: "from" | "to") => segments.map((segment) => segment[key]);
  if (stored.j_l) checks.push(same(`${name} first events`, list("from"), stored.j_l));
  if (stored.j_r) checks.push(same(`${name} last events`, list("to"), stored.j_r));
  if (stored.sum_per_frame) {
    const sums = stored.sum_per_frame.map((_, t) => {
      const one = frames.data.length / segments.length;
      return frames.data.subarray(t * one, (t + 1) * one).reduce((a, b) => a + b, 0);
    });
    checks.push(same(`${name} events a frame`, sums, stored.sum_per_frame));
  }
  return checks;
}

interface Recorded {
  base64: string;
  decoded: Record<keyof data.events.Events, number[]>;
}

function decodingChecks(name: string, found: data.events.Events, { decoded }: Recorded): Check[] {
  return (["t", "x", "y", "p"] as const).map((key) => same(`${name} ${key}`, found[key], decoded[key]));
}

export function eventChecks(fixture: Fixture): Check[] {
  const list = (key: string) => fixture.inputs[key] as number[];
  const recording: data.events.Events = {
    t: Float64Array.from(list("t")),
    x: Uint16Array.from(list("x")),
    y: Uint16Array.from(list("y")),
    p: Uint8Array.from(list("p")),
  };
  const size = { height: fixture.config.H as number, width: fixture.config.W as number };
  const cases = Object.entries(fixture.cases as Record<string, FrameCase>).flatMap(([name, stored]) =>
    frameChecks(name, recording, size, stored),
  );
  const bytes = ({ base64 }: Recorded) => Uint8Array.from(Buffer.from(base64, "base64"));
  const two = fixture.aedat2_cifar10dvs as Recorded;
  const three = fixture.aedat3_gesture as Recorded;
  const half = fixture.resize_half as { input: InputSpec; output: Stored };
  const halved = events.halveFrames(channelsLast(inputArray("x", half.input)) as data.events.Frames);
  return [
    ...cases,
    ...decodingChecks("CIFAR10-DVS", events.readCifar10Dvs(bytes(two)), two),
    ...decodingChecks("DVS128 Gesture", events.readAedat3(bytes(three), { height: 128, width: 128 }), three),
    compare("half size", channelsFirst(halved), half.output, 1e-7),
  ];
}

export function splitChecks(fixture: Fixture): Check[] {
  const { train, test } = events.splitByClass(fixture.inputs.labels as number[], 0.9);
  const expected = fixture.outputs as unknown as { train: number[]; test: number[] };
  const files = fixture.file_order_example as { given: string[]; dataset_order: string[] };
  return [
    same("train", train, expected.train),
    same("test", test, expected.test),
    holds("order of files", events.byName(files.given).join() === files.dataset_order.join()),
  ];
}

export function augmentChecks(fixture: Fixture): Check[] {
  const x = channelsLast(inputArray("x", (fixture.inputs as Record<string, InputSpec>).x as InputSpec));
  // What happens to the first frame happens to all: the fixture stores the first.
  const first = (what: string, found: Float32Array, stored: Stored): Check[] => {
    const all = channelsFirst({ data: found, shape: x.shape });
    const size = stored.shape.reduce((a, b) => a * b, 1);
    return [compare(what, { dtype: "f32", shape: stored.shape, data: all.data.slice(0, size) as Float32Array }, stored, 0)];
  };
  const geometric = Object.entries(fixture.outputs_frame0 as Record<string, Stored>).flatMap(([name, stored]) => {
    const [op, magnitude] = name.split(" ") as [data.events.GeometricOp, string];
    return first(name, events.geometric(x.data, x.shape, op, Number(magnitude)), stored);
  });
  const bins = Object.entries(fixture.magnitude_bins as Record<string, Stored>).map(([op, stored]) =>
    same(`${op} magnitudes`, events.magnitudes(op as data.events.GeometricOp), (stored.values as number[]).map(Math.fround)),
  );
  const hole = fixture.cutout as { size: [number, number]; length: number; centre_yx: [number, number]; zeroed_y0x0y1x1: number[] };
  const { top, left, bottom, right } = events.cutoutHole(...hole.size, ...hole.centre_yx, hole.length);
  const { shift_y: down, shift_x: right_ } = fixture.roll_args as { shift_y: number; shift_x: number };
  return [
    ...geometric,
    ...bins,
    same("cutout", [top, left, bottom, right], hole.zeroed_y0x0y1x1),
    ...first("flip", events.flipWidth(x.data, x.shape), fixture.flip_w_frame0 as Stored),
    ...first("roll", events.roll(x.data, x.shape, down, right_), fixture[`roll_${down}_${right_}_frame0`] as Stored),
  ];
}

interface DvsData {
  events: { values: [t: number, x: number, y: number, p: number][] };
  first_event_time: number;
  gait_frames_T8_dt15000_ds16: Stored;
  gesture_frames_T8_dt15000_ds16: Stored;
  hardvs_polarity: { gray_input: InputSpec; name: string; channel0: Stored; channel1: Stored };
  gesture_split_by_number_T4: { segment_left: number[]; segment_right: number[]; frames: Stored };
  gait_test_clips: { first_and_last_event_times: number[][]; "clips=1": number[][] };
}

function recordingOf(rows: readonly (readonly number[])[]): data.events.Events {
  const column = (i: number) => rows.map((row) => row[i] as number);
  return { t: Float64Array.from(column(0)), x: Uint16Array.from(column(1)), y: Uint16Array.from(column(2)), p: Uint8Array.from(column(3)) };
}

/** Windows and frames of the DVS models' data. */
export function dvsDataChecks(fixture: Fixture): Check[] {
  const stored = fixture.outputs as unknown as DvsData;
  const recording = recordingOf(stored.events.values);
  const sensor = { height: 128, width: 128 };
  const window = { frames: 8, duration: 15_000 };
  // [T, H, W, 2] to [bin, polarity, x, y]; the frames with rows and columns exchanged to the same.
  const official = ({ data, shape }: Pixels, axes: number[]) => formats.permute({ dtype: "f32", shape, data }, axes);
  const frames = events.gaitFrames(recording, sensor, { ...window, factor: 16 });
  const transposed = events.gaitFrames(recording, sensor, { ...window, factor: 16, transposed: true });
  const { gray_input, name, channel0, channel1 } = stored.hardvs_polarity;
  const gray = inputArray(name, gray_input);
  const both = events.harDvsChannels(gray.data as Float32Array);
  const channel = (c: number): NdArray => ({
    dtype: "f32",
    shape: gray.shape,
    data: Float32Array.from(both.filter((_, i) => i % 2 === c)),
  });
  const split = stored.gesture_split_by_number_T4;
  const coarse = events.shrinkEvents(recording, 8);
  const cuts = events.segmentsByNumber(coarse, 4);
  const long = recordingOf(Array.from({ length: 400 }, (_, i) => [1000 * i, 0, 0, 0]));
  const clips = (n: number) => events.gaitClips(long, n, window).map(({ t }) => [t[0], t.at(-1), t.length]);
  const { gait_test_clips: test } = stored;
  return [
    holds("first event", recording.t[0] === stored.first_event_time),
    compare("gait frames", official(frames, [0, 3, 2, 1]), stored.gait_frames_T8_dt15000_ds16, 0),
    compare("gait frames transposed", official(transposed, [0, 3, 1, 2]), stored.gait_frames_T8_dt15000_ds16, 0),
    compare("gesture frames", official(frames, [0, 3, 2, 1]), stored.gesture_frames_T8_dt15000_ds16, 0),
    compare("dark pixels", channel(0), channel0, 0),
    compare("light pixels", channel(1), channel1, 0),
    holds(
      "segments by number",
      JSON.stringify(cuts.map(({ from, to }) => [from, to])) ===
        JSON.stringify(split.segment_left.map((l, i) => [l, split.segment_right[i]])),
    ),
    compare("frames by number", channelsFirst(events.integrate(coarse, cuts, { height: 16, width: 16 })), split.frames, 0),
    holds("test windows", JSON.stringify(clips(3)) === JSON.stringify(test.first_and_last_event_times), JSON.stringify(clips(3))),
    holds("one test window", JSON.stringify(clips(1)) === JSON.stringify(test["clips=1"]), JSON.stringify(clips(1))),
  ];
}
