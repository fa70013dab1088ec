/** A run that ended is told from one that learnt. */
import { describe, expect, it } from "vitest";
import { learningWarnings } from "../src/learnt.ts";

/** Two classes of `a` and `b` images; `right` of all are recognised. */
const test = (a: number, b: number, right: number) => ({
  ...{ samples: a + b, accuracy: right / (a + b) },
  confusion: [
    [a, 0],
    [b, 0],
  ],
});
const falling = Array.from({ length: 100 }, (_, i) => 2 - i / 100);
const good = { losses: falling, updates: 100, test: test(500, 500, 900), firingRate: 0.1 };

describe("learningWarnings", () => {
  it("has nothing to say of a run that learnt", () => {
    expect(learningWarnings(good)).toEqual([]);
    // One class is always named rightly; one step cannot be compared with another.
    expect(learningWarnings({ ...good, losses: [2], test: { samples: 4, accuracy: 1, confusion: [[4]] } })).toEqual([]);
  });

  it("names a loss that rose or stood still", () => {
    expect(learningWarnings({ ...good, losses: [...falling].reverse() })).toEqual([
      "the training did not learn: the training loss ended at 1.955 and began at 1.01. Train longer, lower the learning rate, or look at the data",
    ]);
    expect(learningWarnings({ ...good, losses: [1, 1] }).length).toBe(1);
    expect(learningWarnings({ ...good, losses: [1, Number.NaN] }).length).toBe(1);
    // What began the run is its first step, not a mean over steps that have diverged already.
    const diverged = [2.3, ...Array.from({ length: 99 }, (_, i) => 1e6 / (i + 1))];
    expect(learningWarnings({ ...good, losses: diverged })).toEqual([expect.stringMatching(/ended at 1\d{4} and began at 2\.3\./)]);
    // One spike of the loss at the end is no divergence.
    expect(learningWarnings({ ...good, losses: [...falling.slice(0, -1), 5] })).toEqual([]);
  });

  it("names an accuracy that always naming the commonest class would reach, within two standard errors", () => {
    const of = (a: number, b: number, right: number) => learningWarnings({ ...good, test: test(a, b, right) });
    expect(of(500, 500, 531)).toEqual([expect.stringContaining("the test accuracy of 53.10 % is not better than chance yet")]);
    expect(of(500, 500, 532)).toEqual([]);
    expect(of(900, 100, 900)).toEqual([expect.stringContaining("the commonest class gives 90.00 %")]);
  });

  it("says more softly of a run whose loss fell that its test accuracy lags", () => {
    const [note, ...more] = learningWarnings({ ...good, updates: 7, test: test(5, 5, 5) });
    expect(more).toEqual([]);
    expect(note).toBe(
      "the test accuracy of 50.00 % is not better than chance yet (always naming the commonest class gives 50.00 %), though the training loss fell from 2 to 1.055. After 7 updates the running statistics of batch norm, which the test uses, may still lag behind the weights: train longer, or look at the test data",
    );
    const rising = learningWarnings({ ...good, losses: [...falling].reverse(), test: test(5, 5, 5) });
    expect(rising).toEqual([
      expect.stringMatching(/^the training did not learn: .*; the test accuracy of 50.00 % is no better than chance \(/),
    ]);
  });

  it("asks only for a loss that fell where there are no classes", () => {
    expect(learningWarnings({ ...good, test: undefined })).toEqual([]);
    expect(learningWarnings({ ...good, test: undefined, losses: [1, 2] })).toEqual([
      expect.stringContaining("the training loss ended at 2"),
    ]);
  });

  it("has no word on firing where there are no neurons", () => {
    const [note] = learningWarnings({ ...good, test: test(5, 5, 5), firingRate: Number.NaN });
    expect(note).not.toContain("fires");
  });

  it("adds that nothing fires, where that was seen", () => {
    const silent = { ...good, test: test(5, 5, 5), firingRate: 0 };
    expect(learningWarnings(silent)).toEqual([expect.stringContaining("; no neuron fires in evaluation, though")]);
    expect(learningWarnings({ ...silent, losses: [1, 2] })).toEqual([expect.stringContaining("; no neuron fires in evaluation. Train")]);
  });
});
