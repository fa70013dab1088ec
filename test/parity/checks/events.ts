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
