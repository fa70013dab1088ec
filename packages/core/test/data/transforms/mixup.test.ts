// Mixup and cutmix: what is mixed, by which share, how often; and the Beta distribution behind them.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { beta } from "../../../src/data/transforms/beta.ts";
import { type MixupOptions, mixup } from "../../../src/data/transforms/mixup.ts";
import { Rng } from "../../../src/runtime/random.ts";

const stream = (seed: number) => new Rng(seed).stream("test");

function run(options: MixupOptions, seed: number, shape: readonly number[], epoch = 0) {
  const batch = shape.at(-4) as number;
  // Every value of the batch is another one, so that a pixel tells where it came from.
  const before = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => i + 1);
  const x = before.slice();
  const targets = new Float32Array(batch * batch);
  for (let i = 0; i < batch; i++) targets[i * batch + i] = 1;
  const changed = mixup(options).apply(x, targets, shape, stream(seed), epoch);
  return { before, x, targets, changed, batch, share: targets[0] as number };
}

const shapes = [
  [4, 5, 6, 3],
  [5, 3, 3, 1],
  [2, 4, 6, 5, 2],
  [1, 4, 4, 1],
];

/** Where value `p` of a batch stands in the partner at the other end. */
function partner(p: number, shape: readonly number[]): number {
  const size = shape.slice(-3).reduce((a, b) => a * b);
  const batch = shape.at(-4) as number;
  const image = Math.floor(p / size);
  const step = Math.floor(image / batch);
  return (step * batch + batch - 1 - (image - step * batch)) * size + (p % size);
}

function expectTargets({ targets, batch, share }: ReturnType<typeof run>): void {
  for (let i = 0; i < batch; i++)
    for (let k = 0; k < batch; k++)
      expect(targets[i * batch + k]).toBeCloseTo((i === k ? share : 0) + (batch - 1 - i === k ? 1 - share : 0), 6);
}

describe("mixup", () => {
  test.each(shapes)("of [%i, %i, %i, %i ...]: each image with the one at the other end", (...shape) => {
    for (let seed = 0; seed < 20; seed++) {
      const result = run({ mixupAlpha: 1 }, seed, shape);
      if (result.batch === 1) {
        expect(result.targets[0]).toBeCloseTo(1, 6);
        continue;
      }
      const { x, before, share, changed } = result;
      expect(changed).toBe(true);
      expectTargets(result);
      for (let p = 0; p < x.length; p++) {
        const expected = share * (before[p] as number) + (1 - share) * (before[partner(p, shape)] as number);
        expect(Math.abs((x[p] as number) - expected)).toBeLessThan(1e-4);
      }
    }
  });

  test("cutmix: a rectangle of the partner, and the share is the area that is left", () => {
    fc.assert(
      fc.property(fc.constantFrom(...shapes.slice(0, 3)), fc.nat(1e6), (shape, seed) => {
        const result = run({ mixupAlpha: 0, cutmixAlpha: 1 }, seed, shape);
        const { x, before, batch, share, changed } = result;
        const [height, width, channels] = shape.slice(-3) as [number, number, number];
        const size = height * width * channels;
        const inside = (p: number) => x[p] !== before[p];
        const rows = new Set<number>();
        const columns = new Set<number>();
        let area = 0;
        for (let p = 0; p < size; p += channels)
          if (inside(p)) {
            area++;
            rows.add(Math.floor(p / channels / width));
            columns.add((p / channels) % width);
          }
        expect(area).toBe(rows.size * columns.size);
        expect(changed).toBe(area > 0);
        expect(share).toBeCloseTo(1 - area / (height * width), 6);
        expectTargets(result);
        for (let p = 0; p < x.length; p++) {
          const at = p % size;
          const cut = rows.has(Math.floor(at / channels / width)) && columns.has(Math.floor(at / channels) % width);
          expect(x[p]).toBe(before[cut ? partner(p, shape) : p]);
        }
        expect(batch).toBe(shape.at(-4));
      }),
      { numRuns: 60 },
    );
  });

  test("probabilities: of mixing at all, and of cutmix", () => {
    const kinds = { none: 0, mixed: 0, cut: 0 };
    const runs = 1500;
    for (let seed = 0; seed < runs; seed++) {
      const { x, before, changed } = run({ mixupAlpha: 1, cutmixAlpha: 1, probability: 0.8, switchProbability: 0.25 }, seed, [2, 8, 8, 1]);
      if (!changed && x.every((v, i) => v === before[i])) kinds.none++;
      else if (x.every((v, i) => v === before[i] || v === before[(i + 64) % 128])) kinds.cut++;
      else kinds.mixed++;
    }
    // A box that is empty, or wholly outside, counts as none: some of the 0.2 of cutmix.
    expect(kinds.mixed / runs).toBeGreaterThan(0.56);
    expect(kinds.mixed / runs).toBeLessThan(0.64);
    expect(kinds.cut / runs).toBeGreaterThan(0.12);
    expect(kinds.cut / runs).toBeLessThan(0.22);
  });

  test("off from an epoch on; nothing to do", () => {
    const options = { mixupAlpha: 0.5, offEpoch: 3 };
    expect(run(options, 1, [2, 2, 2, 1], 2).changed).toBe(true);
    const { changed, x, before } = run(options, 1, [2, 2, 2, 1], 3);
    expect([changed, x]).toEqual([false, before]);
    expect(() => mixup({ mixupAlpha: 0 })).toThrow("mixup: expected mixupAlpha or cutmixAlpha > 0, found 0 for both.");
    expect(() => mixup({ probability: 2 })).toThrow("mixup probability: expected a number from 0 to 1, found 2.");
  });
});

describe("Beta draws", () => {
  // Mean a / (a + b), variance ab / ((a + b)^2 (a + b + 1)).
  test.each([
    [0.2, 0.2],
    [1, 1],
    [0.5, 2],
    [8, 3],
  ])("Beta(%d, %d) has its mean and variance", (a, b) => {
    const rng = stream(3);
    const n = 20000;
    const draws = Float64Array.from({ length: n }, () => beta(rng, a, b));
    expect(draws.every((v) => v >= 0 && v <= 1)).toBe(true);
    const mean = draws.reduce((s, v) => s + v, 0) / n;
    const variance = draws.reduce((s, v) => s + (v - mean) ** 2, 0) / n;
    expect(mean).toBeCloseTo(a / (a + b), 2);
    expect(variance).toBeCloseTo((a * b) / ((a + b) ** 2 * (a + b + 1)), 2);
  });

  test("Beta(1, 1) is uniform, Beta(1/2, 1/2) the arcsine law (Kolmogorov and Smirnov)", () => {
    for (const [shape, cdf] of [
      [1, (x: number) => x],
      [0.5, (x: number) => (2 / Math.PI) * Math.asin(Math.sqrt(x))],
    ] as const) {
      const rng = stream(11);
      const n = 5000;
      const sorted = Float64Array.from({ length: n }, () => beta(rng, shape, shape)).sort();
      const distance = sorted.reduce((worst, x, i) => Math.max(worst, Math.abs(cdf(x) - (i + 0.5) / n)), 0);
      expect(distance).toBeLessThan(1.63 / Math.sqrt(n));
    }
  });

  test("shapes so small that a Gamma draw underflows", () => {
    const rng = stream(5);
    const draws = Array.from({ length: 500 }, () => beta(rng, 1e-4, 1e-4));
    expect(draws.every((v) => v >= 0 && v <= 1)).toBe(true);
    expect(draws.filter((v) => v > 0.5).length).toBeGreaterThan(200);
    expect(draws.filter((v) => v < 0.5).length).toBeGreaterThan(200);
  });
});
