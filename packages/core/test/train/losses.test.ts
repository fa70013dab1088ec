// The loss of spiking classifiers against the formulas in plain numbers.
import { beforeAll, expect, it } from "vitest";
import { scope } from "../../src/tensor/scope.ts";
import { tensor } from "../../src/tensor/tensor.ts";
import { type ClassificationLoss, classificationLoss } from "../../src/train/losses.ts";
import { numbers, start } from "../gradcheck.ts";

const [T, B, K] = [3, 4, 5];
const logits = numbers(T * B * K, 3, -3, 3);
const labels = [4, 0, 2, 2];

beforeAll(() => start("reference"));

/** -sum target log softmax(row). */
function crossEntropy(row: number[], target: number[]): number {
  const log = Math.log(row.reduce((n, v) => n + Math.exp(v), 0));
  return row.reduce((n, v, k) => n - (target[k] as number) * (v - log), 0);
}

const smoothed = (label: number, e: number) => Array.from({ length: K }, (_, k) => (k === label ? 1 - e : 0) + e / K);
const row = (t: number, b: number) => logits.slice((t * B + b) * K, (t * B + b + 1) * K);
const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const steps = Array.from({ length: T }, (_, t) => t);
const averaged = (b: number) => Array.from({ length: K }, (_, k) => mean(steps.map((t) => row(t, b)[k] as number)));

const loss = (options: ClassificationLoss, soft?: number[][]): number =>
  scope(() =>
    classificationLoss(
      tensor(Float64Array.from(logits), [T, B, K], "f32"),
      soft ? tensor(soft) : tensor(Int32Array.from(labels)),
      options,
    ).itemSync(),
  );

it("is the cross-entropy of the mean over time, with label smoothing", () => {
  for (const labelSmoothing of [0, 0.1])
    expect(loss({ labelSmoothing })).toBeCloseTo(
      mean(labels.map((label, b) => crossEntropy(averaged(b), smoothed(label, labelSmoothing)))),
      12,
    );
});

it("takes soft targets", () => {
  const soft = labels.map((label) => smoothed(label, 0.4));
  expect(loss({}, soft)).toBeCloseTo(mean(soft.map((target, b) => crossEntropy(averaged(b), target))), 12);
});

it("with TET is (1 - lambda) of the mean over the steps plus lambda of the pull, soft targets too", () => {
  const pull = mean(logits.map((v) => (v - 1.5) ** 2));
  for (const lambda of [0, 0.05]) {
    const tet = { means: 1.5, lambda };
    const hard = mean(steps.flatMap((t) => labels.map((label, b) => crossEntropy(row(t, b), smoothed(label, 0.1)))));
    expect(loss({ labelSmoothing: 0.1, tet })).toBeCloseTo((1 - lambda) * hard + lambda * pull, 12);
    const soft = labels.map((label) => smoothed(label, 0.4));
    const softly = mean(steps.flatMap((t) => soft.map((target, b) => crossEntropy(row(t, b), target))));
    expect(loss({ tet }, soft)).toBeCloseTo((1 - lambda) * softly + lambda * pull, 12);
  }
});
