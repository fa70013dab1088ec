/**
 * What a training shows while it runs: on a terminal one line that is rewritten, elsewhere a line now and then, with --json
 * every event as a line of JSON on standard output. What people read goes to standard error, so that output can be piped.
 */
import type { train } from "spikeloom";
import { bytes, count, percent } from "./report/format.ts";

export interface ProgressOptions {
  json?: boolean;
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

export function createProgress(options: ProgressOptions = {}): Progress {
  const { json = false, stream = process.stderr, output = process.stdout, now = () => performance.now() } = options;
  if (json) return jsonLines(output);
  const tty = stream.isTTY === true;
  const clear = tty ? "\r\x1b[K" : "";
  let drawn = false;
  let lastDraw = Number.NEGATIVE_INFINITY;
  let lastStep: number | undefined;
  const loss = average();
  const accuracy = average();
  const rate = average();
  /** Seconds from step to step, and images in a second. */
  const pace = average(0.05);
  const speed = average(0.05);

  const say = (text: string) => {
    stream.write(`${drawn ? clear : ""}${text}\n`);
    drawn = false;
  };

  return {
    step(event, totalSteps) {
      const time = now();
      const seconds = lastStep === undefined ? event.seconds : (time - lastStep) / 1000;
      lastStep = time;
      loss.add(event.loss);
      accuracy.add(event.accuracy);
      if (event.firingRate !== undefined) rate.add(event.firingRate);
      pace.add(seconds);
      if (seconds > 0) speed.add(event.images / seconds);
      const ended = event.batch === event.batches;
      if (time - lastDraw < (tty ? REDRAW_MS : LINE_MS) && !(tty && ended)) return;
      lastDraw = time;
      const epochs = Math.round(totalSteps / event.batches);
      const head = `epoch ${event.epoch + 1}/${epochs}`;
      const place = `${event.batch}/${event.batches}`;
      const parts = [
        `loss ${fixed(loss.value)}`,
        `acc ${percent(accuracy.value, 1)}`,
        tty && ended ? "testing" : `eta ${clock((totalSteps - event.step) * (pace.value ?? Number.NaN))}`,
        `${count(speed.value)} img/s`,
        `firing ${percent(rate.value, 1)}`,
        bytes(process.memoryUsage.rss()),
      ];
      if (!tty) return say([head, place, ...parts].join("  "));
      stream.write(`${clear}${fit(head, place, parts, event.batch / event.batches, (stream.columns ?? 80) - 1)}`);
      drawn = true;
    },
    epoch(event) {
      // Testing is no training: the next step is not measured from here.
      lastStep = undefined;
      const parts = [
        `epoch ${event.epoch + 1}/${event.epochs}`,
        `loss ${fixed(event.loss)}`,
        `acc ${percent(event.accuracy)}`,
        `firing ${percent(event.firingRate, 1)}`,
        `${event.seconds.toFixed(1)} s`,
      ];
      if (event.test) parts.push(`test loss ${fixed(event.test.loss)}`, `test acc ${percent(event.test.accuracy)}`);
      say(parts.join("  "));
    },
    note: say,
    done() {
      if (drawn) stream.write(clear);
      drawn = false;
    },
  };
}

function jsonLines(output: { write(text: string): unknown }): Progress {
  const line = (value: unknown) => output.write(`${JSON.stringify(value)}\n`);
  return {
    step: line,
    epoch({ test, ...event }) {
      // The confusion matrix and the predictions are in the run's files.
      line(test ? { ...event, test: { loss: test.loss, accuracy: test.accuracy, samples: test.samples, seconds: test.seconds } } : event);
    },
    note: (text) => line({ type: "note", text }),
    done() {},
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

/** 187 -> "3:07". */
function clock(seconds: number): string {
  if (!Number.isFinite(seconds)) return "–";
  const s = Math.max(0, Math.round(seconds));
  const two = (n: number) => String(n).padStart(2, "0");
  return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor((s % 3600) / 60))}:${two(s % 60)}`;
}
