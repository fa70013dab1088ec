import { beforeEach, describe, expect, it } from "vitest";
import { indexSelect } from "../../src/tensor/ops/index.ts";
import { bceWithLogits, type CrossEntropyOptions, crossEntropy, mse } from "../../src/tensor/ops/loss.ts";
import { logSoftmax, softmax } from "../../src/tensor/ops/softmax.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { checkGradients, close, leaf, on, sameEverywhere, spikes, values, withGradients } from "./support.ts";

beforeEach(() => on("reference"));

const classes = (...indices: number[]): Tensor => tensor(Int32Array.from(indices));

/** Rows of probabilities. */
const soft = (shape: number[], seed: number): Tensor => softmax(values(shape, seed));

/** log softmax of one row in plain numbers. */
function logProbabilities(row: number[]): number[] {
  const top = Math.max(...row);
  const total = Math.log(row.reduce((s, v) => s + Math.exp(v - top), 0));
  return row.map((v) => v - top - total);
}

describe("softmax and logSoftmax", () => {
  it("follow their definition along any axis", () => {
    const x = values([2, 3, 4], 1);
    const data = x.dataSync();
    for (const [axis, stride, length] of [
      [0, 12, 2],
      [1, 4, 3],
      [-1, 1, 4],
    ] as const) {
      const [p, l] = [softmax(x, axis).dataSync(), logSoftmax(x, axis).dataSync()];
      for (let start = 0; start < 24; start++) {
        if (Math.floor(start / stride) % length !== 0) continue;
        const at = Array.from({ length }, (_, i) => start + i * stride);
        const expected = logProbabilities(at.map((i) => data[i] as number));
        close(
          at.map((i) => l[i] as number),
          expected,
          1e-12,
        );
        close(
          at.map((i) => p[i] as number),
          expected.map(Math.exp),
          1e-12,
        );
      }
    }
  });

  it("do not overflow", async () => {
    const results = (): number[][] => {
      const x = tensor([1000, 999, -1000]);
      return [[...softmax(x).dataSync()], [...logSoftmax(x).dataSync()]];
    };
    expect(results().flat().every(Number.isFinite)).toBe(true);
    await sameEverywhere(results);
  });

  it("have the gradients of finite differences, and are the same on every device", async () => {
    for (const fn of [softmax, logSoftmax])
      for (const axis of [0, 1, -1]) {
        checkGradients((x) => fn(x, axis), leaf(values([2, 3, 4], 1)));
        await sameEverywhere(() => withGradients((x) => fn(x, axis), leaf(values([5, 3, 19], 1))));
      }
  });

  it("name a wrong axis", () => {
    expect(() => softmax(values([2, 3], 1), 2)).toThrow("softmax: axis must be an integer in [-2, 2), found 2");
    expect(() => logSoftmax(tensor(3))).toThrow("logSoftmax: axis must be");
  });
});

describe("crossEntropy", () => {
  const logits = (): Tensor =>
    tensor([
      [0.5, -1, 2],
      [1, 0, -0.5],
      [-2, 3, 0.25],
      [0, 0, 0],
    ]);
  const target = [2, 0, 2, 1];
  const soft4 = (): Tensor =>
    tensor([
      [0.2, 0.3, 0.5],
      [1, 0, 0],
      [0.1, 0.1, 0.8],
      [0.25, 0.25, 0.5],
    ]);

  /** The definition: sum over classes of -q log p, q smoothed. */
  function naive(q: (r: number, k: number) => number, smoothing: number): number[] {
    return [
      [0.5, -1, 2],
      [1, 0, -0.5],
      [-2, 3, 0.25],
      [0, 0, 0],
    ].map((row, r) => logProbabilities(row).reduce((s, l, k) => s - ((1 - smoothing) * q(r, k) + smoothing / 3) * l, 0));
  }

  it.each([0, 0.1, 1])("follows its definition with smoothing %d, for indices and soft targets, in every reduction", (labelSmoothing) => {
    const forms = [
      [classes(...target), naive((r, k) => (target[r] === k ? 1 : 0), labelSmoothing)],
      [soft4(), naive((r, k) => soft4().dataSync()[r * 3 + k] as number, labelSmoothing)],
    ] as const;
    for (const [targets, losses] of forms) {
      const none = crossEntropy(logits(), targets, { labelSmoothing, reduction: "none" });
      expect(none.shape).toEqual([4]);
      close(none.dataSync(), losses, 1e-7);
      const total = losses.reduce((a, b) => a + b);
      close(crossEntropy(logits(), targets, { labelSmoothing, reduction: "sum" }).dataSync(), [total], 1e-7);
      const mean = crossEntropy(logits(), targets, { labelSmoothing });
      expect(mean.shape).toEqual([]);
      close(mean.dataSync(), [total / 4], 1e-7);
    }
  });

  it("has known values", () => {
    close(crossEntropy(tensor([[0, 0, 0, 0]]), classes(3)).dataSync(), [Math.log(4)], 1e-12);
    close(crossEntropy(tensor([[Math.log(3), 0]]), classes(1)).dataSync(), [Math.log(4)], 1e-7);
  });

  const settings: CrossEntropyOptions[] = [{}, { labelSmoothing: 0.1 }, { reduction: "sum" }, { reduction: "none", labelSmoothing: 0.2 }];

  it.each(settings)("has the gradients of finite differences, and is the same on every device: %o", async (options) => {
    checkGradients((x) => crossEntropy(x, classes(0, 4, 2), options), leaf(values([3, 5], 1)));
    checkGradients((x, q) => crossEntropy(x, q, options), leaf(values([3, 5], 1)), leaf(values([3, 5], 2)));
    await sameEverywhere(() => [
      ...withGradients((x) => crossEntropy(x, classes(0, 4, 2), options), leaf(values([3, 5], 1))),
      ...withGradients((x, q) => crossEntropy(x, q, options), leaf(values([40, 37], 1)), leaf(soft([40, 37], 2))),
    ]);
  });

  describe("with ignored items", () => {
    const all = [2, -100, 0, -100, 4];
    const kept = [0, 2, 4];

    it.each(settings)("is the loss of the others: %o", async (options) => {
      const x = values([5, 6], 1);
      const others = crossEntropy(indexSelect(x, 0, kept), classes(2, 0, 4), options);
      const found = crossEntropy(x, classes(...all), options);
      if (options.reduction === "none") {
        expect(found.shape).toEqual([5]);
        expect(Array.from(found.dataSync()).filter((_, i) => !kept.includes(i))).toEqual([0, 0]);
        close(indexSelect(found, 0, kept).dataSync(), others.dataSync(), 1e-15);
      } else close(found.dataSync(), others.dataSync(), 1e-15);
      checkGradients((a) => crossEntropy(a, classes(...all), options), leaf(x));
      const [, gradient] = withGradients((a) => crossEntropy(a, classes(...all), options), leaf(values([5, 6], 1)));
      expect([...(gradient ?? []).slice(6, 12), ...(gradient ?? []).slice(18, 24)].every((v) => v === 0)).toBe(true);
      await sameEverywhere(() => withGradients((a) => crossEntropy(a, classes(...all), options), leaf(values([5, 6], 1))));
    });

    it("takes any number for the ignored ones, a class too; without one that counts the mean is NaN, the sum 0", () => {
      const x = values([2, 3], 1);
      const first = crossEntropy(indexSelect(x, 0, [0]), classes(1)).itemSync();
      for (const ignoreIndex of [255, -1, 0]) {
        expect(crossEntropy(x, classes(1, ignoreIndex), { ignoreIndex }).itemSync()).toBe(first);
        expect(crossEntropy(x, classes(ignoreIndex, ignoreIndex), { ignoreIndex }).itemSync()).toBeNaN();
        expect(crossEntropy(x, classes(ignoreIndex, ignoreIndex), { ignoreIndex, reduction: "sum" }).itemSync()).toBe(0);
      }
      expect(() => crossEntropy(x, classes(1, -100), { ignoreIndex: 255 })).toThrow("found -100 at position 1");
      expect(() => crossEntropy(x, soft([2, 3], 1), { ignoreIndex: 0 })).toThrow(
        "crossEntropy: targets must be class indices (i32) where ignoreIndex is given, found f32",
      );
    });
  });

  it("treats every leading axis as items", () => {
    const x = leaf(values([2, 3, 4], 1));
    const targets = tensor(Int32Array.from([0, 1, 2, 3, 0, 1]), [2, 3]);
    expect(crossEntropy(x, targets, { reduction: "none" }).shape).toEqual([2, 3]);
    close(crossEntropy(x, targets).dataSync(), crossEntropy(x.alias([6, 4]), targets.alias([6])).dataSync(), 0);
    checkGradients((a) => crossEntropy(a, targets), x);
  });

  it("names what is wrong", () => {
    const x = values([2, 3], 1);
    expect(() => crossEntropy(x, classes(0, 3))).toThrow("crossEntropy: targets must be class indices in [0, 3), found 3 at position 1");
    expect(() => crossEntropy(x, classes(-1, 0))).toThrow("class indices in [0, 3), found -1 at position 0");
    expect(() => crossEntropy(x, classes(0, 1, 2))).toThrow("crossEntropy: targets must be of shape [2], found [3]");
    expect(() => crossEntropy(x, values([2, 2], 1))).toThrow("crossEntropy: targets must be of shape [2, 3], found [2, 2]");
    expect(() => crossEntropy(x, spikes([2, 3], 1))).toThrow("crossEntropy: targets must be of dtype i32 or f32, found spikes");
    expect(() => crossEntropy(x, classes(0, 1), { labelSmoothing: 2 })).toThrow("crossEntropy: labelSmoothing must be in [0, 1], found 2");
    expect(() => crossEntropy(x, classes(0, 1), { reduction: "avg" as "mean" })).toThrow(
      'crossEntropy: reduction must be "mean", "sum" or "none", found "avg"',
    );
  });
});

describe("mse and bceWithLogits", () => {
  it("follow their definitions", () => {
    close(mse(tensor([1, 2, 3]), tensor([1, 0, 5])).dataSync(), [8 / 3], 1e-12);
    close(mse(tensor([1, 2, 3]), tensor([1, 0, 5]), { reduction: "none" }).dataSync(), [0, 4, 4], 0);
    const s = (x: number): number => 1 / (1 + Math.exp(-x));
    const expected = [-Math.log(s(0.5)), -Math.log(1 - s(-1)), -0.25 * Math.log(s(2)) - 0.75 * Math.log(1 - s(2))];
    close(bceWithLogits(tensor([0.5, -1, 2]), tensor([1, 0, 0.25]), { reduction: "none" }).dataSync(), expected, 1e-7);
    close(bceWithLogits(tensor([300, -300]), tensor([1, 0]), { reduction: "sum" }).dataSync(), [0], 1e-12);
  });

  it("have the gradients of finite differences, and are the same on every device", async () => {
    for (const loss of [mse, bceWithLogits])
      for (const reduction of ["mean", "sum", "none"] as const) {
        checkGradients((x, t) => loss(x, t, { reduction }), leaf(values([2, 5], 1)), leaf(values([2, 5], 2)));
        await sameEverywhere(() => withGradients((x, t) => loss(x, t, { reduction }), leaf(values([7, 5], 1)), values([7, 5], 2)));
      }
  });

  it("bceWithLogits counts targets above a threshold as 1, the others as 0", async () => {
    const target = (): Tensor => tensor([0.2, 0.21, 0.9, 0]);
    const x = (): Tensor => leaf(values([4], 1));
    const found = withGradients((a) => bceWithLogits(a, target(), { targetThreshold: 0.2 }), x());
    expect(found).toEqual(withGradients((a) => bceWithLogits(a, tensor([0, 1, 1, 0])), x()));
    checkGradients((a) => bceWithLogits(a, target(), { targetThreshold: 0.2 }), x());
    await sameEverywhere(() => withGradients((a) => bceWithLogits(a, target(), { targetThreshold: 0.5, reduction: "none" }), x()));
  });

  it("name a wrong shape", () => {
    expect(() => mse(values([2, 3], 1), values([3], 2))).toThrow("mse: target must be of shape [2, 3], found [3]");
    expect(() => bceWithLogits(values([2], 1), values([3], 2))).toThrow("bceWithLogits: target must be of shape [2], found [3]");
  });
});
