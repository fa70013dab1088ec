// The loss of spiking classifiers against the formulas in plain numbers.
import { beforeAll, describe, expect, it } from "vitest";
import { scope } from "../../src/tensor/scope.ts";
import { sizeOf } from "../../src/tensor/shape.ts";
import { tensor } from "../../src/tensor/tensor.ts";
import { type ClassificationLoss, classificationLoss } from "../../src/train/losses.ts";
import { gradcheck, numbers, start } from "../gradcheck.ts";
import { leaf, sameEverywhere, values, withGradients } from "../tensor/support.ts";

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

/** Mean over the classes of the binary cross-entropy. */
function binary(row: number[], target: number[]): number {
  const s = (x: number) => 1 / (1 + Math.exp(-x));
  return mean(row.map((v, k) => -(target[k] as number) * Math.log(s(v)) - (1 - (target[k] as number)) * Math.log(1 - s(v))));
}

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

it("by binary cross-entropy takes classes one by one, with smoothing and a threshold", () => {
  const soft = labels.map((label) => smoothed(label, 0.4));
  for (const tet of [undefined, { means: 0.5, lambda: 0 }]) {
    const of = (targets: number[][]) =>
      tet
        ? mean(steps.flatMap((t) => targets.map((target, b) => binary(row(t, b), target))))
        : mean(targets.map((target, b) => binary(averaged(b), target)));
    expect(loss({ base: "bce", tet })).toBeCloseTo(of(labels.map((label) => smoothed(label, 0))), 12);
    expect(loss({ base: "bce", tet, labelSmoothing: 0.1 })).toBeCloseTo(of(labels.map((label) => smoothed(label, 0.1))), 12);
    expect(loss({ base: "bce", tet }, soft)).toBeCloseTo(of(soft), 7);
    const smoother = soft.map((target) => target.map((v) => 0.8 * v + 0.2 / K));
    expect(loss({ base: "bce", tet, labelSmoothing: 0.2 }, soft)).toBeCloseTo(of(smoother), 7);
    const hardened = soft.map((target) => target.map((v) => (v > 0.1 ? 1 : 0)));
    expect(loss({ base: "bce", tet, targetThreshold: 0.1 }, soft)).toBeCloseTo(of(hardened), 12);
  }
});

describe("every form", () => {
  const hard = () => tensor(Int32Array.from(labels));
  const soft = () => tensor(labels.map((label) => smoothed(label, 0.4)));
  const forms = [undefined, { means: 0.7, lambda: 0.05 }, { means: 1, lambda: 0 }].flatMap((tet) =>
    (["ce", "bce"] as const).flatMap((base) => [0, 0.1].map((labelSmoothing) => ({ base, labelSmoothing, tet }))),
  );

  it("has the gradients of finite differences, for classes and soft targets, of one step too", () => {
    for (const options of forms)
      for (const targets of [hard, soft])
        for (const shape of [
          [T, B, K],
          [B, K],
        ])
          gradcheck((x) => classificationLoss(x, targets(), options), [tensor(Float64Array.from(numbers(sizeOf(shape), 7)), shape, "f32")]);
  });

  it("is the same on every device", async () => {
    await sameEverywhere(() =>
      forms.flatMap((options) =>
        [hard, soft].flatMap((targets) => withGradients((x) => classificationLoss(x, targets(), options), leaf(values([T, B, K], 3)))),
      ),
    );
  });

  it("names what is wrong", () => {
    const x = values([T, B, K], 1);
    expect(() => classificationLoss(x, hard(), { base: "bse" as "bce" })).toThrow(
      'loss: base must be one of ce, bce, found "bse", did you mean "bce"?',
    );
    expect(() => classificationLoss(x, hard(), { targetThreshold: 0.2 })).toThrow('loss: targetThreshold needs base "bce"');
    expect(() => classificationLoss(values([K], 1), hard())).toThrow("loss: logits must be of shape [B, K] or [T, B, K], found [5]");
    for (const options of forms) {
      expect(() => classificationLoss(x, tensor(Int32Array.of(0, 1)), options)).toThrow(/ce|crossEntropy|bceWithLogits/);
      expect(() => classificationLoss(x, tensor(Int32Array.of(0, 1, 2, K)), options)).toThrow(`[0, ${K})`);
    }
  });
});
