import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Sample } from "../../../src/data/dataset.ts";
import {
  cutout,
  cutoutHole,
  flipRoll,
  flipWidth,
  type GeometricOp,
  geometric,
  magnitudes,
  roll,
  trivialAugment,
} from "../../../src/data/events/augment.ts";
import { Rng } from "../../../src/runtime/random.ts";

const SHAPE = [3, 6, 8, 2];
const [T, H, W, C] = SHAPE as [number, number, number, number];
const data = Float32Array.from({ length: T * H * W * C }, (_, i) => i + 1);
const at = (values: ArrayLike<number>, t: number, y: number, x: number, c: number) => values[((t * H + y) * W + x) * C + c];
const rng = (block = 0) => new Rng(1).stream("augment.test").at(block);

/** Every pixel of every plane against a rule for where it comes from. */
function expectFrom(found: ArrayLike<number>, from: (y: number, x: number) => [number, number] | undefined) {
  for (let t = 0; t < T; t++)
    for (let y = 0; y < H; y++)
      for (let x = 0; x < W; x++)
        for (let c = 0; c < C; c++) {
          const source = from(y, x);
          const inside = source && source[0] >= 0 && source[0] < H && source[1] >= 0 && source[1] < W;
          expect(at(found, t, y, x, c)).toBe(inside ? at(data, t, source[0], source[1], c) : 0);
        }
}

describe("geometry", () => {
  test("translations move right and down by whole pixels, cut towards zero", () => {
    expectFrom(geometric(data, SHAPE, "TranslateX", 2.9), (y, x) => [y, x - 2]);
    expectFrom(geometric(data, SHAPE, "TranslateX", -1.9999999), (y, x) => [y, x + 1]);
    expectFrom(geometric(data, SHAPE, "TranslateY", 3), (y, x) => [y - 3, x]);
    expectFrom(geometric(data, SHAPE, "TranslateY", -9), () => undefined);
  });

  test("shear and rotation take the nearest pixel of the formula, in float64", () => {
    for (const m of [0.3, -0.18, 0.02]) {
      const shear = geometric(data, SHAPE, "ShearX", m);
      expectFrom(shear, (y, x) => [y, Math.round(x + (y + 0.5 - H / 2) * Math.tan(m))]);
    }
    for (const degrees of [30, -14, 2]) {
      const a = (degrees * Math.PI) / 180;
      expectFrom(geometric(data, SHAPE, "Rotate", degrees), (y, x) => {
        const [u, v] = [x + 0.5 - W / 2, y + 0.5 - H / 2];
        return [Math.round(u * Math.sin(a) + v * Math.cos(a) + H / 2 - 0.5), Math.round(u * Math.cos(a) - v * Math.sin(a) + W / 2 - 0.5)];
      });
    }
  });

  test("a quarter turn of a square is counter-clockwise", () => {
    expect([...geometric(Uint8Array.of(1, 2, 3, 4), [2, 2, 1], "Rotate", 90)]).toEqual([2, 4, 1, 3]);
  });

  test("nothing changes without a magnitude, and the argument never does", () => {
    const before = data.slice();
    for (const op of ["Identity", "ShearX", "TranslateX", "TranslateY", "Rotate"] as GeometricOp[])
      expect(geometric(data, SHAPE, op, 0)).toEqual(data);
    geometric(data, SHAPE, "Rotate", 20);
    expect(data).toEqual(before);
  });

  test("a shape without pixels is an error", () => {
    expect(() => roll(data, [4, 4], 1, 1)).toThrow("roll: expected a shape [..., H, W, C], found [4, 4]");
  });
});

test("31 magnitudes from -max to max", () => {
  for (const [op, largest] of [
    ["ShearX", 0.3],
    ["TranslateX", 5],
    ["TranslateY", 5],
    ["Rotate", 30],
  ] as const) {
    const bins = magnitudes(op);
    bins.forEach((m, i) => expect(m).toBeCloseTo(((i - 15) / 15) * largest, 5));
    expect([bins[0], bins[30]]).toEqual([-Math.fround(largest), Math.fround(largest)]);
  }
});

test("flip and roll", () => {
  expectFrom(flipWidth(data, SHAPE), (y, x) => [y, W - 1 - x]);
  fc.assert(
    fc.property(fc.integer({ min: -20, max: 20 }), fc.integer({ min: -20, max: 20 }), (down, right) => {
      const modulo = (i: number, n: number) => ((i % n) + n) % n;
      expectFrom(roll(data, SHAPE, down, right), (y, x) => [modulo(y - down, H), modulo(x - right, W)]);
    }),
    { numRuns: 20 },
  );
});

describe("transforms", () => {
  const sample: Sample = { data, shape: SHAPE, label: 3 };

  test("trivialAugment draws operation, magnitude and sign", () => {
    const { name, apply } = trivialAugment();
    expect(name).toBe("trivialAugment");
    const ops = ["Identity", "ShearX", "TranslateX", "TranslateY", "Rotate"] as const;
    for (let block = 0; block < 40; block++) {
      const draws = rng(block);
      const op = ops[draws.uniformInt(5)] as GeometricOp;
      const magnitude = magnitudes(op)[draws.uniformInt(31)] as number;
      const sign = draws.uniformInt(2) ? -1 : 1;
      expect(apply(sample, rng(block))).toEqual({ data: geometric(data, SHAPE, op, sign * magnitude), shape: SHAPE, label: 3 });
    }
  });

  test("flipRoll mirrors in its share of samples and rolls within its limit", () => {
    const { apply } = flipRoll({ flip: 0.5, shift: 2 });
    const seen = new Map<string, number>();
    const results = new Map<string, string>();
    for (const flip of [false, true])
      for (let down = -2; down <= 2; down++)
        for (let right = -2; right <= 2; right++)
          results.set(roll(flip ? flipWidth(data, SHAPE) : data, SHAPE, down, right).join(), `${flip} ${down} ${right}`);
    for (let block = 0; block < 600; block++) {
      const what = results.get((apply(sample, rng(2 * block)).data as Float32Array).join());
      expect(what).toBeDefined();
      seen.set(what as string, (seen.get(what as string) ?? 0) + 1);
    }
    expect(seen.size).toBe(50);
    const flipped = [...seen].reduce((n, [what, times]) => n + (what.startsWith("true") ? times : 0), 0);
    expect(Math.abs(flipped - 300)).toBeLessThan(60);
    expect(() => flipRoll({ flip: 2 })).toThrow("expected flip from 0 to 1, found 2");
    expect(() => flipRoll({ shift: -1 })).toThrow("expected shift as a whole number >= 0, found -1");
  });

  test("cutout: one hole at the same place of the whole batch, targets as they were", () => {
    const { apply } = cutout({ size: 4 });
    const targets = Float32Array.of(1, 0);
    for (let block = 0; block < 50; block++) {
      const draws = rng(block);
      const [cy, cx] = [draws.uniformInt(H), draws.uniformInt(W)];
      // [T, B, H, W, C] with one sample.
      const x = data.slice();
      expect(apply(x, targets, [T, 1, H, W, C], rng(block), 0)).toBe(false);
      expectFrom(x, (y, column) => (Math.abs(y + 0.5 - cy) < 2 && Math.abs(column + 0.5 - cx) < 2 ? undefined : [y, column]));
    }
    expect([...targets]).toEqual([1, 0]);
    expect(cutoutHole(24, 24, 10, 3, 16)).toEqual({ top: 2, left: 0, bottom: 18, right: 11 });
    expect(() => cutout({ size: 0 })).toThrow("expected size as a whole number >= 1, found 0");
  });
});
