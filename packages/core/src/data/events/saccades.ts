/**
 * Event recordings made of pictures: what an event camera sees of a still picture while it moves. The way is that of N-MNIST (Orchard et al.
 * 2015, "Converting static image datasets to spiking neuromorphic datasets using saccades"): three saccades of 100 ms along the sides of an
 * isosceles triangle, back to where they began. A pixel is that of a contrast sensor (Lichtsteiner et al. 2008): it sends an event whenever
 * its logarithmic brightness has moved by its threshold since its last one; and it is as imperfect as real ones: thresholds differ from pixel
 * to pixel, and events come that nothing caused (as in the simulators of Rebecq et al. 2018, ESIM, and Hu et al. 2021, v2e).
 */
import { checkOptions } from "../../runtime/check.ts";
import { SpikeloomError } from "../../runtime/error.ts";
import { cos, log } from "../../runtime/math.ts";
import { Rng } from "../../runtime/random.ts";
import { type Events, makeEvents, type SensorSize } from "./events.ts";

export interface SaccadeOptions {
  /** Default 34 x 34: room for a digit of 28 x 28 and its way. */
  sensor?: SensorSize | undefined;
  /** Half the triangle's width and height in pixels. Default 3. */
  amplitude?: number | undefined;
  /** Time of one saccade in microseconds. Default 100 000. */
  duration?: number | undefined;
  /** C: change of the natural logarithm of brightness that makes an event. Default 0.4. */
  threshold?: number | undefined;
  /** Standard deviation of the pixels' thresholds, as a share of C, the same for all recordings of the camera. Default 0.05. */
  mismatch?: number | undefined;
  /** Events of each pixel and second that no change caused. Default 0.5. */
  background?: number | undefined;
  /** Brightness of black, where white is 1: the logarithm has its floor there. Default 0.1. */
  dark?: number | undefined;
  /** Seed of the camera's pixels and of the noise. Default 0. */
  seed?: number | undefined;
}

/** A picture in one colour: bytes (0..255) or floats (0..1), row by row. */
export interface Picture {
  readonly data: Uint8Array | Float32Array;
  readonly height: number;
  readonly width: number;
}

/** Corners of the triangle, in amplitudes: top left, bottom, top right. */
const CORNERS = [
  [-1, -1],
  [0, 1],
  [1, -1],
] as const;
/** Positions that a saccade is computed at; between them brightness changes linearly. */
const STEPS = 32;
/** Thresholds are not below this share of C, whatever the mismatch. */
const LEAST = 0.2;
/** Blocks of the stream of noise that one recording may take. */
const BLOCKS = 2 ** 24;

/** A camera that looks at pictures. Recordings are a pure function of the options, the picture and the recording's number. */
export class SaccadeCamera {
  readonly sensor: SensorSize;
  private readonly options: { [K in Exclude<keyof SaccadeOptions, "sensor" | "seed">]-?: number };
  /** Threshold of each pixel for brighter and for darker. */
  private readonly thresholds: readonly [Float64Array, Float64Array];
  private readonly rng: Rng;

  /** @throws SpikeloomError for an unknown option or a value that no camera has */
  constructor(options: SaccadeOptions = {}) {
    checkOptions("SaccadeCamera", options, ["sensor", "amplitude", "duration", "threshold", "mismatch", "background", "dark", "seed"]);
    const { sensor = { height: 34, width: 34 }, amplitude = 3, duration = 100_000, threshold = 0.4 } = options;
    const { mismatch = 0.05, background = 0.5, dark = 0.1, seed = 0 } = options;
    const values = { amplitude, duration, threshold, mismatch, background, dark };
    for (const [key, value] of Object.entries(values)) {
      const positive = key === "duration" || key === "threshold" || key === "dark";
      if (!(Number.isFinite(value) && (positive ? value > 0 : value >= 0)))
        throw new SpikeloomError(`SaccadeCamera: expected ${key} as a number ${positive ? "> 0" : ">= 0"}, found ${value}.`);
    }
    for (const key of ["height", "width"] as const)
      if (!(Number.isInteger(sensor?.[key]) && sensor[key] >= 1 && sensor[key] <= 4096))
        throw new SpikeloomError(`SaccadeCamera: expected sensor.${key} as a whole number from 1 to 4096, found ${sensor?.[key]}.`);
    this.sensor = sensor;
    this.options = values;
    this.rng = new Rng(seed);
    const pixels = sensor.height * sensor.width;
    const stream = this.rng.stream("saccades.sensor");
    const draw = () => Float64Array.from({ length: pixels }, () => threshold * Math.max(LEAST, 1 + mismatch * stream.normal()));
    this.thresholds = [draw(), draw()];
  }

  /** Microseconds of a recording. */
  get duration(): number {
    return CORNERS.length * this.options.duration;
  }

  /**
   * Look at a picture, which stands in the middle of a black field.
   * @param index the recording's number, from 0: its noise is its own
   * @returns events in the order of their times; polarity 1 is brighter
   * @throws SpikeloomError for a picture that is none
   */
  record(picture: Picture, index: number): Events {
    if (!(Number.isSafeInteger(index) && index >= 0 && index < 2 ** 28))
      throw new SpikeloomError(`SaccadeCamera: expected the recording's number from 0 to 2^28 - 1, found ${index}.`);
    const all = this.changes(this.logarithm(picture));
    this.noise(all, index);
    // Those of one time by place, so that the order is everywhere the same.
    all.sort((a, b) => a.t - b.t || a.at - b.at || a.p - b.p);
    const events = makeEvents(all.length);
    all.forEach(({ t, at, p }, i) => {
      events.t[i] = t;
      events.x[i] = at % this.sensor.width;
      events.y[i] = Math.floor(at / this.sensor.width);
      events.p[i] = p;
    });
    return events;
  }

  /** Logarithms of brightness of the field: the sensor with `pad` more pixels at every side, the picture in the middle. */
  private logarithm({ data, height, width }: Picture): Field {
    if (!(data instanceof Uint8Array || data instanceof Float32Array) || data.length !== height * width)
      throw new SpikeloomError(
        `SaccadeCamera: expected a picture of height x width bytes or floats, found ${data?.length} for ${height} x ${width}.`,
      );
    const { amplitude, dark } = this.options;
    const pad = Math.ceil(amplitude) + 1;
    const [rows, columns] = [this.sensor.height + 2 * pad, this.sensor.width + 2 * pad];
    const values = new Float64Array(rows * columns).fill(log(dark));
    const top = Math.floor((rows - height) / 2);
    const left = Math.floor((columns - width) / 2);
    const scale = data instanceof Uint8Array ? 255 : 1;
    for (let y = Math.max(0, -top); y < height && top + y < rows; y++)
      for (let x = Math.max(0, -left); x < width && left + x < columns; x++) {
        const light = (data[y * width + x] as number) / scale;
        if (!(light >= 0 && Number.isFinite(light)))
          throw new SpikeloomError(`SaccadeCamera: expected brightness >= 0, found ${light} at x ${x}, y ${y}.`);
        values[(top + y) * columns + left + x] = log(dark + (1 - dark) * Math.min(light, 1));
      }
    return { values, columns, pad };
  }

  /** Events of brightness that moves by a pixel's threshold. */
  private changes({ values, columns, pad }: Field): Sent[] {
    const { amplitude, duration } = this.options;
    const { height, width } = this.sensor;
    const [brighter, darker] = this.thresholds;
    const sent: Sent[] = [];
    const before = new Float64Array(height * width);
    const last = new Float64Array(height * width);
    const steps = CORNERS.length * STEPS;
    for (let step = 0; step <= steps; step++) {
      const saccade = Math.min(Math.floor(step / STEPS), CORNERS.length - 1);
      const [from, to] = [CORNERS[saccade] as Corner, CORNERS[(saccade + 1) % CORNERS.length] as Corner];
      // The eye speeds up and slows down again.
      const way = (1 - cos((Math.PI * (step - saccade * STEPS)) / STEPS)) / 2;
      const dx = pad + amplitude * (from[0] + (to[0] - from[0]) * way);
      const dy = pad + amplitude * (from[1] + (to[1] - from[1]) * way);
      const [x0, y0] = [Math.floor(dx), Math.floor(dy)];
      const [fx, fy] = [dx - x0, dy - y0];
      for (let y = 0, i = 0; y < height; y++)
        for (let x = 0, at = (y + y0) * columns + x0; x < width; x++, at++, i++) {
          const upper = (values[at] as number) * (1 - fx) + (values[at + 1] as number) * fx;
          const lower = (values[at + columns] as number) * (1 - fx) + (values[at + columns + 1] as number) * fx;
          const now = upper * (1 - fy) + lower * fy;
          const was = before[i] as number;
          before[i] = now;
          if (step === 0) last[i] = now;
          if (step === 0 || now === was) continue;
          const p = now > was ? 1 : 0;
          const threshold = p ? (brighter[i] as number) : -(darker[i] as number);
          for (let next = (last[i] as number) + threshold; p ? next <= now : next >= now; next += threshold) {
            last[i] = next;
            const share = Math.max(0, (next - was) / (now - was));
            sent.push({ t: Math.floor(((step - 1 + share) * duration) / STEPS), at: i, p });
          }
        }
    }
    return sent;
  }

  /** Events that nothing caused: a Poisson process over all pixels. */
  private noise(sent: Sent[], index: number): void {
    const pixels = this.sensor.height * this.sensor.width;
    const rate = (this.options.background * pixels) / 1e6;
    if (!(rate > 0)) return;
    const stream = this.rng.stream("saccades.noise").at(index * BLOCKS);
    for (let t = 0; ; ) {
      t -= log(1 - stream.uniform()) / rate;
      if (t >= this.duration) return;
      sent.push({ t: Math.floor(t), at: stream.uniformInt(pixels), p: stream.uniformInt(2) });
    }
  }
}

type Corner = readonly [x: number, y: number];

interface Field {
  values: Float64Array;
  columns: number;
  pad: number;
}

/** An event with its pixel's number. */
interface Sent {
  t: number;
  at: number;
  p: number;
}
