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
  waitSeconds: 0.001,
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
  waitSeconds: 0.4125,
  test: { loss: 0.05, accuracy: 0.9842, top5: 0.999, samples: 10000, confusion: [[1]], predictions: Int32Array.of(1), seconds: 2 },
};

/** A progress whose clock goes 100 ms a step. */
function watch({ tests, ...stream }: { isTTY?: boolean; columns?: number; tests?: { images: number; every: number } }) {
  let text = "";
  let time = 0;
  const progress = createProgress({ stream: { ...stream, write: (t) => (text += t) }, now: () => time, tests });
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
    steps(1, 40, { firingRate: 0.131 });
    const text = take();
    expect(text).not.toContain("\n");
    expect(screen(text)[0]).toMatch(
      /^epoch 1\/2 ━{3}─{27} {2}40\/469 {2}loss 0\.2500 {2}acc 50\.0 % {2}eta 1 min 30 s {2}1\u202f280 img\/s {2}firing 13\.1 % {2}wait 1\.0 % {2}\d+ MiB$/,
    );
  });

  it.each([20, 40, 60, 80, 100])("never passes %i columns", (columns) => {
    const { steps, take } = watch({ isTTY: true, columns });
    steps(1, 40);
    for (const line of take().split("\r\x1b[K")) expect(line.length).toBeLessThan(columns);
  });

  it("leaves epochs and notes as lines, and takes the bar away", () => {
    const { progress, steps, take } = watch({ isTTY: true, columns: 120 });
    steps(1, BATCHES);
    progress.epoch(epoch);
    progress.note("saved");
    steps(BATCHES + 1, BATCHES + 2);
    progress.done();
    expect(screen(take())).toEqual([
      "about 1 min 34 s in all",
      "epoch 1/2  loss 0.1000  acc 97.00 %  firing 13.0 %  41 s  wait 1.0 %  test loss 0.0500  test acc 98.42 %",
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
  expect(lines).toHaveLength(6);
  expect(lines[1]).toBe("about 1 min 34 s in all");
  expect(lines[2]).toMatch(/^epoch 1\/2 {2}101\/469 {2}loss 0\.2500 {2}acc 50\.0 % {2}eta 1 min 24 s {2}/);
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
    { ...epoch, firingRate: null, test: { loss: 0.05, accuracy: 0.9842, top5: 0.999, samples: 10000, seconds: 2 } },
  ]);
});

describe("the time of the whole run", () => {
  const told = (text: string) => text.split("\n").filter((line) => line.startsWith("about"));

  it("counts the tests, by what a training image costs and then by what a test cost", () => {
    const { steps, take, progress } = watch({ tests: { images: 10_000, every: 1 } });
    steps(1, BATCHES);
    // 938 steps of 0.1 s, and two tests of 10 000 images at 0.3 * 0.1 s / 128 each.
    expect(told(take())).toEqual(["about 1 min 38 s in all"]);
    progress.epoch({ ...epoch, test: { ...(epoch.test as train.Evaluation), seconds: 60 } });
    steps(BATCHES + 1, BATCHES + 100);
    // At step 501: 437 steps and a test of a minute.
    expect(take()).toContain("eta 1 min 44 s");
  });

  it("counts as many tests as there will be", () => {
    const { steps, take } = watch({ tests: { images: 128 * 1000, every: 2 } });
    steps(1, 60);
    // One of 1000 batches, after both epochs.
    expect(told(take())).toEqual(["about 2 min 4 s in all"]);
  });

  it("of a run that goes on is what is left", () => {
    const { steps, take } = watch({});
    steps(401, 500);
    expect(told(take())).toEqual(["about 49 s to go"]);
  });

  it("is an event of its own with --json", () => {
    let out = "";
    let time = 0;
    const progress = createProgress({ json: true, output: { write: (t) => (out += t) }, now: () => time });
    for (let n = 1; n <= 100; n++, time += 100) progress.step(step(n), 1000);
    const events = out.split("\n").filter((line) => line.includes("estimate"));
    expect(events.map((line) => JSON.parse(line))).toEqual([
      { type: "estimate", seconds: 100, resumed: false, text: "about 1 min 40 s in all" },
    ]);
  });
});
