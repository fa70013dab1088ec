/** Progress: one line that fits on a terminal, few lines elsewhere, JSON with --json. */
import type { train } from "spikeloom";
import { describe, expect, it } from "vitest";
import { createProgress } from "../src/progress.ts";

const BATCHES = 469;
const step = (n: number, more: Partial<train.StepEvent> = {}): train.StepEvent => ({
  type: "step",
  epoch: Math.floor((n - 1) / BATCHES),
  batch: ((n - 1) % BATCHES) + 1,
  batches: BATCHES,
  step: n,
  loss: 0.25,
  accuracy: 0.5,
  lr: 1e-3,
  images: 128,
  seconds: 0.1,
  ...more,
});
const epoch: train.EpochEvent = {
  type: "epoch",
  epoch: 0,
  epochs: 2,
  step: BATCHES,
  loss: 0.1,
  accuracy: 0.97,
  firingRate: 0.13,
  lr: 1e-3,
  seconds: 41.25,
  test: { loss: 0.05, accuracy: 0.9842, samples: 10000, confusion: [[1]], predictions: Int32Array.of(1), seconds: 2 },
};

/** A progress whose clock goes 100 ms a step. */
function watch(stream: { isTTY?: boolean; columns?: number }) {
  let text = "";
  let time = 0;
  const progress = createProgress({ stream: { ...stream, write: (t) => (text += t) }, now: () => time });
  return {
    progress,
    steps(from: number, to: number, more?: Partial<train.StepEvent>) {
      for (let n = from; n <= to; n++) {
        time += 100;
        progress.step(step(n, more), 2 * BATCHES);
      }
    },
    take() {
      const taken = text;
      text = "";
      return taken;
    },
  };
}

/** What a terminal shows after these bytes. */
function screen(text: string): string[] {
  return text.split("\n").map((line) => line.split("\r\x1b[K").at(-1) as string);
}

describe("on a terminal", () => {
  it("rewrites one line with place, loss, accuracy, rate, speed, ETA and memory", () => {
    const { steps, take } = watch({ isTTY: true, columns: 160 });
    steps(1, 100, { firingRate: 0.131 });
    const text = take();
    expect(text).not.toContain("\n");
    expect(screen(text)[0]).toMatch(
      /^epoch 1\/2 ━{6}─{24} {2}100\/469 {2}loss 0\.2500 {2}acc 50\.0 % {2}eta 1:24 {2}1\u202f280 img\/s {2}firing 13\.1 % {2}\d+ MiB$/,
    );
  });

  it.each([20, 40, 60, 80, 100])("never passes %i columns", (columns) => {
    const { steps, take } = watch({ isTTY: true, columns });
    steps(1, 300);
    for (const line of take().split("\r\x1b[K")) expect(line.length).toBeLessThan(columns);
  });

  it("leaves epochs and notes as lines, and takes the bar away", () => {
    const { progress, steps, take } = watch({ isTTY: true, columns: 120 });
    steps(1, BATCHES);
    expect(screen(take())[0]).toContain("testing");
    progress.epoch(epoch);
    progress.note("saved");
    steps(BATCHES + 1, BATCHES + 2);
    progress.done();
    expect(screen(take())).toEqual([
      "epoch 1/2  loss 0.1000  acc 97.00 %  firing 13.0 %  41.3 s  test loss 0.0500  test acc 98.42 %",
      "saved",
      "",
    ]);
  });

  it("redraws at most ten times a second", () => {
    let writes = 0;
    let time = 0;
    const progress = createProgress({ stream: { isTTY: true, columns: 80, write: () => writes++ }, now: () => time });
    for (let n = 1; n <= 400; n++, time += 5) progress.step(step(n), BATCHES);
    expect(writes).toBe(20);
  });
});

it("elsewhere prints the first step, then a line every ten seconds, without control characters", () => {
  const { steps, take, progress } = watch({});
  steps(1, 401);
  progress.done();
  const lines = take().trimEnd().split("\n");
  expect(lines).toHaveLength(5);
  expect(lines[1]).toMatch(/^epoch 1\/2 {2}101\/469 {2}loss 0\.2500 {2}acc 50\.0 % {2}eta 1:24 {2}/);
  for (const control of ["\r", "\x1b"]) expect(lines.join()).not.toContain(control);
});

it("with --json gives every event as one line of JSON and nothing else", () => {
  let out = "";
  const stream = { write: () => expect.unreachable("people are not written to") };
  const progress = createProgress({ json: true, stream, output: { write: (t) => (out += t) } });
  progress.note("begins");
  progress.step(step(1), 10);
  progress.epoch({ ...epoch, firingRate: Number.NaN });
  progress.done();
  const lines = out
    .trimEnd()
    .split("\n")
    .map((l) => JSON.parse(l));
  expect(lines).toEqual([
    { type: "note", text: "begins" },
    step(1),
    { ...epoch, firingRate: null, test: { loss: 0.05, accuracy: 0.9842, samples: 10000, seconds: 2 } },
  ]);
});
