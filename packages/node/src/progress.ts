/**
 * What a training shows while it runs: on a terminal one line that is rewritten, elsewhere a line now and then, with --json
 * every event as a line of JSON on standard output. What people read goes to standard error, so that output can be piped.
 */
import type { train } from "spikeloom";
import { bytes, count, duration, percent } from "./report/format.ts";

export interface ProgressOptions {
  json?: boolean;
  /** The tests on the way, so that the time they take is known before the first. */
  tests?: { images: number; every: number } | undefined;
  /** Where people read; standard error by default. */
  stream?: { write(text: string): unknown; isTTY?: boolean; columns?: number };
  /** Where machines read; standard output by default. */
  output?: { write(text: string): unknown };
  /** Milliseconds from any origin. */
  now?: () => number;
}

export interface Progress {
  /** After a step. @param totalSteps of the whole run */
  step(event: train.StepEvent, totalSteps: number): void;
  /** After an epoch: a line that stays. */
  epoch(event: train.EpochEvent): void;
  /** A line that stays. */
  note(text: string): void;
  /** Take the bar away. */
  done(): void;
}

const REDRAW_MS = 100;
const LINE_MS = 10_000;
/** The time of the whole run is told after so long, and so many steps. */
const FIRST_MS = 5000;
const FIRST_STEPS = 5;
/** What an image costs in a test, of what it costs in training, until one was made. */
const TEST_SHARE = 0.3;

export function createProgress(options: ProgressOptions = {}): Progress {
  const { json = false, stream = process.stderr, output = process.stdout, now = () => performance.now(), tests } = options;
  const time = timing(now, tests);
  if (json) return jsonLines(output, time);
  const tty = stream.isTTY === true;
  const clear = tty ? "\r\x1b[K" : "";
  let drawn = false;
  let lastDraw = Number.NEGATIVE_INFINITY;
  const loss = average();
  const accuracy = average();
  const rate = average();

  const say = (text: string) => {
    stream.write(`${drawn ? clear : ""}${text}\n`);
    drawn = false;
  };

  return {
    step(event, totalSteps) {
      const whole = time.step(event, totalSteps);
      loss.add(event.loss);
      accuracy.add(event.accuracy);
      if (event.firingRate !== undefined) rate.add(event.firingRate);
      const ended = event.batch === event.batches;
      if (whole !== undefined) say(inWords(whole));
      if (now() - lastDraw < (tty ? REDRAW_MS : LINE_MS) && !(tty && ended)) return;
      lastDraw = now();
      const epochs = Math.round(totalSteps / event.batches);
      const head = `epoch ${event.epoch + 1}/${epochs}`;
      const place = `${event.batch}/${event.batches}`;
      const parts = [
        `loss ${fixed(loss.value)}`,
        ...accurate(event.accuracy, `acc ${percent(accuracy.value, 1)}`),
        tty && ended ? "testing" : `eta ${duration(time.left(event, totalSteps))}`,
        `${count(time.imagesPerSecond)} img/s`,
        `firing ${percent(rate.value, 1)}`,
        `wait ${percent(time.waiting, 1)}`,
        bytes(process.memoryUsage.rss()),
      ];
      if (!tty) return say([head, place, ...parts].join("  "));
      stream.write(`${clear}${fit(head, place, parts, event.batch / event.batches, (stream.columns ?? 80) - 1)}`);
      drawn = true;
    },
    epoch(event) {
      time.epoch(event);
      const parts = [
        `epoch ${event.epoch + 1}/${event.epochs}`,
        `loss ${fixed(event.loss)}`,
        ...accurate(event.accuracy, `acc ${percent(event.accuracy)}`),
        `firing ${percent(event.firingRate, 1)}`,
        duration(event.seconds),
        `wait ${percent(event.waitSeconds / event.seconds, 1)}`,
      ];
      if (event.test)
        parts.push(`test loss ${fixed(event.test.loss)}`, ...accurate(event.test.accuracy, `test acc ${percent(event.test.accuracy)}`));
      say(parts.join("  "));
    },
    note: say,
    done() {
      if (drawn) stream.write(clear);
      drawn = false;
    },
  };
}

/** The words where there is an accuracy: a model that names no classes has none. */
function accurate(accuracy: number, words: string): string[] {
  return Number.isFinite(accuracy) ? [words] : [];
}

function jsonLines(output: { write(text: string): unknown }, time: Timing): Progress {
  const line = (value: unknown) => output.write(`${JSON.stringify(value)}\n`);
  return {
    step(event, totalSteps) {
      line(event);
      const whole = time.step(event, totalSteps);
      if (whole) line({ type: "estimate", ...whole, text: inWords(whole) });
    },
    epoch(event) {
      time.epoch(event);
      const { test, ...rest } = event;
      if (!test) return void line(rest);
      // The confusion matrix and the predictions are in the run's files.
      const { confusion: _, predictions: __, ...figures } = test;
      line({ ...rest, test: figures });
    },
    note: (text) => line({ type: "note", text }),
    done() {},
  };
}

/** Seconds from the first step on, tests included; of a run that was resumed, those still to come. */
interface Whole {
  seconds: number;
  resumed: boolean;
}

function inWords({ seconds, resumed }: Whole): string {
  return `about ${duration(seconds)} ${resumed ? "to go" : "in all"}`;
}

interface Timing {
  /** @returns once, as soon as it is known, how long the run will take */
  step(event: train.StepEvent, totalSteps: number): Whole | undefined;
  epoch(event: train.EpochEvent): void;
  /** Seconds to the end, tests included. */
  left(event: train.StepEvent, totalSteps: number): number;
  readonly imagesPerSecond: number | undefined;
  /** Share of the time that is spent waiting for data. */
  readonly waiting: number | undefined;
}

function timing(now: () => number, tests: ProgressOptions["tests"]): Timing {
  /** Seconds from step to step, images in a step, seconds of waiting. */
  const pace = average(0.05);
  const images = average(0.05);
  const wait = average(0.05);
  let last: number | undefined;
  let begun: { at: number; step: number; seconds: number } | undefined;
  let told = false;
  let secondsAnImage: number | undefined;

  const left = ({ step, batches, epoch }: train.StepEvent, totalSteps: number, seconds: number) => {
    const training = (totalSteps - step) * seconds;
    if (!tests) return training;
    const epochs = Math.round(totalSteps / batches);
    const ahead = Math.ceil(epochs / tests.every) - Math.floor(epoch / tests.every);
    return training + ahead * tests.images * (secondsAnImage ?? (TEST_SHARE * seconds) / (images.value ?? 1));
  };

  return {
    step(event, totalSteps) {
      const time = now();
      const seconds = last === undefined ? event.seconds : (time - last) / 1000;
      last = time;
      pace.add(seconds);
      images.add(event.images);
      wait.add(event.waitSeconds);
      // The very first step is slower than all others: code is compiled, memory touched.
      begun ??= { at: time, step: event.step, seconds };
      const steps = event.step - begun.step;
      const elapsed = time - begun.at;
      if (told || elapsed < FIRST_MS || steps < FIRST_STEPS) return undefined;
      told = true;
      const resumed = begun.step > 1;
      return { seconds: left(event, totalSteps, elapsed / 1000 / steps) + (resumed ? 0 : begun.seconds + elapsed / 1000), resumed };
    },
    epoch({ test }) {
      // Testing is no training: the next step is not measured from here.
      last = undefined;
      if (test?.samples) secondsAnImage = test.seconds / test.samples;
    },
    left: (event, totalSteps) => left(event, totalSteps, pace.value ?? Number.NaN),
    get imagesPerSecond() {
      return images.value !== undefined && pace.value ? images.value / pace.value : undefined;
    },
    get waiting() {
      return wait.value !== undefined && pace.value ? wait.value / pace.value : undefined;
    },
  };
}

/** The line for a terminal of `width` columns: the last parts go first where it is narrow, the bar takes what is left. */
function fit(head: string, place: string, parts: readonly string[], share: number, width: number): string {
  for (let n = parts.length; n >= 0; n--) {
    const tail = [place, ...parts.slice(0, n)].join("  ");
    const room = width - head.length - tail.length - 3;
    if (room >= 8) return `${head} ${bar(share, Math.min(room, 30))}  ${tail}`;
  }
  return `${head}  ${place}`.slice(0, Math.max(0, width));
}

function bar(share: number, width: number): string {
  const full = Math.round(share * width);
  return "━".repeat(full) + "─".repeat(width - full);
}

/** An exponential average that begins at its first value. @param weight of a new value */
function average(weight = 0.1): { add(value: number): void; readonly value: number | undefined } {
  let value: number | undefined;
  return {
    add(next) {
      value = value === undefined ? next : value + weight * (next - value);
    },
    get value() {
      return value;
    },
  };
}

function fixed(value: number | undefined): string {
  return value === undefined ? "–" : value.toFixed(4);
}
