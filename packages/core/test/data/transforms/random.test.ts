// Random transforms: shapes, ranges, distributions, and the same draw giving the same result.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Sample, Transform } from "../../../src/data/dataset.ts";
import * as transforms from "../../../src/data/transforms/index.ts";
import { SpikeloomError } from "../../../src/runtime/error.ts";
import { Rng, type Stream } from "../../../src/runtime/random.ts";

const { randomHorizontalFlip, randomVerticalFlip, randomCrop, randomShift, pad, centerCrop, resize, randomResizedCrop } = transforms;
const { randAugment, colorJitter, randomErasing, normalize, grayscale } = transforms;

const stream = (seed = 0): Stream => new Rng(seed).stream("test");

/** An image in which no two values are the same, as far as bytes allow. */
function image(height: number, width: number, channels: number, floats = false, frames?: number): Sample {
  const length = (frames ?? 1) * height * width * channels;
  const data = floats ? Float32Array.from({ length }, (_, i) => i + 1) : Uint8Array.from({ length }, (_, i) => (i * 37 + 11) % 251);
  return { data, shape: frames === undefined ? [height, width, channels] : [frames, height, width, channels], label: 2 };
}

/** Value at (y, x, c), 0 outside. */
const at = ({ data, shape }: Sample, y: number, x: number, c = 0): number => {
  const [h, w, k] = shape as [number, number, number];
  return y < 0 || x < 0 || y >= h || x >= w ? 0 : (data[(y * w + x) * k + c] as number);
};

const everyTransform: [string, Transform, number?][] = [
  ["flip", randomHorizontalFlip()],
  ["vertical flip", randomVerticalFlip()],
  ["crop", randomCrop({ padding: 2, fill: 7 })],
  ["shift", randomShift(2)],
  ["pad", pad([1, 2, 0, 1])],
  ["centre", centerCrop([4, 3])],
  ["resize", resize([7, 5])],
  ["resized crop", randomResizedCrop({ size: 6, interpolation: "random" })],
  ["RandAugment", randAugment("rand-m9-n3-mstd0.5-inc1")],
  ["plain RandAugment", randAugment("rand-m15-mmax20-mstd101", { interpolation: "bilinear", fill: 0 })],
  ["jitter", colorJitter({ brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 })],
];

describe("every transform of images", () => {
  test.each(everyTransform)("%s: same draw same result, argument untouched, shape fits, one and three channels", (_, transform) => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 12 }),
        fc.integer({ min: 1, max: 12 }),
        fc.constantFrom(1, 3),
        fc.nat(1e6),
        (height, width, channels, seed) => {
          const sample = image(height, width, channels);
          const out = transform.apply(sample, stream(seed));
          expect(out).toEqual(transform.apply(sample, stream(seed)));
          expect(sample).toEqual(image(height, width, channels));
          expect(out.label).toBe(2);
          expect(out.data).toBeInstanceOf(Uint8Array);
          expect(out.shape.reduce((a, b) => a * b)).toBe(out.data.length);
          expect(out.shape.at(-1)).toBe(channels);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("the places of frames change together", () => {
    for (const transform of [
      randomHorizontalFlip(1),
      randomVerticalFlip(1),
      randomCrop({ padding: 2 }),
      randomShift(3),
      pad(1),
      centerCrop(3),
    ])
      for (let seed = 0; seed < 10; seed++) {
        const sample = image(4, 5, 2, true, 3);
        const out = transform.apply(sample, stream(seed));
        expect(out.shape[0]).toBe(3);
        const size = out.data.length / 3;
        for (let t = 0; t < 3; t++) {
          const frame = { data: sample.data.slice(t * 40, (t + 1) * 40), shape: [4, 5, 2], label: 2 };
          expect(transform.apply(frame, stream(seed)).data).toEqual(out.data.slice(t * size, (t + 1) * size));
        }
      }
  });
});

describe("flips", () => {
  test("mirror, and do so with their probability", () => {
    const sample = image(3, 4, 2);
    const across = randomHorizontalFlip(1).apply(sample, stream());
    const down = randomVerticalFlip(1).apply(sample, stream());
    for (let y = 0; y < 3; y++)
      for (let x = 0; x < 4; x++)
        for (let c = 0; c < 2; c++) {
          expect(at(across, y, x, c)).toBe(at(sample, y, 3 - x, c));
          expect(at(down, y, x, c)).toBe(at(sample, 2 - y, x, c));
        }
    expect(randomHorizontalFlip(0).apply(sample, stream())).toBe(sample);
    const rng = stream(4);
    const flipped = Array.from({ length: 2000 }, () => randomHorizontalFlip(0.3).apply(sample, rng)).filter((s) => s !== sample).length;
    expect(Math.abs(flipped / 2000 - 0.3)).toBeLessThan(0.05);
  });
});

describe("windows", () => {
  test("pad", () => {
    const sample = image(2, 3, 2);
    const out = pad([1, 2, 3, 4], { fill: [8, 9] }).apply(sample, stream());
    expect(out.shape).toEqual([8, 7, 2]);
    for (let y = 0; y < 8; y++)
      for (let x = 0; x < 7; x++)
        for (let c = 0; c < 2; c++) expect(at(out, y, x, c)).toBe(y >= 2 && y < 4 && x >= 1 && x < 4 ? at(sample, y - 2, x - 1, c) : 8 + c);
  });

  test("random shifts: all offsets, equally often, zeros behind", () => {
    const sample = image(5, 4, 1, true);
    const seen = new Map<string, number>();
    const rng = stream(1);
    for (let i = 0; i < 2500; i++) {
      const out = randomShift(2).apply(sample, rng);
      // (2, 2) is moved to (2 + dy, 2 + dx), inside or just outside; the corner that stays tells where from.
      const found: string[] = [];
      for (let dy = -2; dy <= 2; dy++)
        for (let dx = -2; dx <= 2; dx++) {
          let same = true;
          for (let y = 0; y < 5 && same; y++) for (let x = 0; x < 4 && same; x++) same = at(out, y, x) === at(sample, y - dy, x - dx);
          if (same) found.push(`${dy},${dx}`);
        }
      expect(found).toHaveLength(1);
      seen.set(found[0] as string, (seen.get(found[0] as string) ?? 0) + 1);
    }
    expect(seen.size).toBe(25);
    for (const n of seen.values()) expect(Math.abs(n - 100)).toBeLessThan(50);
    expect(randomShift(9).apply(image(1, 1, 1), stream(3)).shape).toEqual([1, 1, 1]);
  });

  test("random crops of a padded image reach every place", () => {
    const sample = image(3, 3, 1, true);
    const corners = new Set<string>();
    const rng = stream(2);
    for (let i = 0; i < 400; i++) {
      const out = randomCrop({ size: [2, 3], padding: [1, 0, 0, 1] }).apply(sample, rng);
      expect(out.shape).toEqual([2, 3, 1]);
      const found: string[] = [];
      for (let top = 0; top <= 2; top++)
        for (let left = -1; left <= 0; left++) {
          const same = [0, 1].every((y) => [0, 1, 2].every((x) => at(out, y, x) === at(sample, top + y, left + x)));
          if (same) found.push(`${top},${left}`);
        }
      expect(found).toHaveLength(1);
      corners.add(found[0] as string);
    }
    expect(corners.size).toBe(6);
    expect(() => randomCrop({ size: 9, padding: 1 }).apply(sample, rng)).toThrow(
      "randomCrop: expected an image of at least 9 x 9 with its padding, found 5 x 5. Pad or resize it first.",
    );
  });
});

describe("resizing", () => {
  test("a constant stays, floats are averaged, and the mean of bytes is kept", () => {
    const flat: Sample = { data: new Uint8Array(9 * 7).fill(201), shape: [9, 7, 1], label: 0 };
    for (const interpolation of ["nearest", "bilinear", "bicubic"] as const)
      for (const size of [3, 20, [1, 30]] as const) {
        const out = resize(size, { interpolation }).apply(flat, stream());
        expect(new Set(out.data)).toEqual(new Set([201]));
      }
    const ramp: Sample = { data: Float32Array.from({ length: 16 }, (_, i) => i % 4), shape: [4, 4, 1], label: 0 };
    const half = resize(2, { interpolation: "bilinear" }).apply(ramp, stream());
    // Weights 1 3 3 1 over 8; those beyond the border are left out and the others scaled to a sum of 1.
    const left = (0 * 3 + 1 * 3 + 2) / 7;
    for (const [i, v] of half.data.entries()) expect(v).toBeCloseTo(i % 2 ? 3 - left : left, 6);
  });

  test("floats go the way of bytes, without rounding in between", () => {
    const side = fc.integer({ min: 1, max: 24 });
    fc.assert(
      fc.property(side, side, side, side, fc.constantFrom("nearest", "bilinear", "bicubic"), (h, w, height, width, interpolation) => {
        const bytes = image(h, w, 2);
        const transform = resize([height, width], { interpolation });
        const rounded = transform.apply(bytes, stream()).data;
        const exact = transform.apply({ ...bytes, data: Float32Array.from(bytes.data) }, stream()).data;
        expect(exact).toBeInstanceOf(Float32Array);
        // Overshoot is clipped to bytes after the rows already, so it is left out; two roundings are at most 1.5.
        for (const [i, v] of exact.entries())
          if (interpolation !== "bicubic") expect(Math.abs(v - (rounded[i] as number))).toBeLessThan(1.5);
        const low = Math.min(...bytes.data);
        const high = Math.max(...bytes.data);
        const reach = interpolation === "bicubic" ? 0.3 * (high - low) : 1e-3;
        expect(Math.min(...exact)).toBeGreaterThanOrEqual(low - reach);
        expect(Math.max(...exact)).toBeLessThanOrEqual(high + reach);
      }),
      { numRuns: 80 },
    );
  });

  test("the shorter side", () => {
    const shape = (h: number, w: number, size: number) => resize(size).apply(image(h, w, 1), stream()).shape;
    expect(shape(10, 15, 4)).toEqual([4, 6, 1]);
    expect(shape(16, 10, 4)).toEqual([6, 4, 1]);
    expect(shape(5, 5, 8)).toEqual([8, 8, 1]);
  });
});

describe("randomResizedCrop", () => {
  test("with a scale and a ratio of 1 it is the image", () => {
    const sample = image(8, 8, 3);
    const out = randomResizedCrop({ size: 8, scale: [1, 1], ratio: [1, 1] }).apply(sample, stream(5));
    expect([...out.data]).toEqual([...sample.data]);
  });

  test("areas and shapes of the parts", () => {
    // Channel 0 grows along x, channel 1 along y: the range of what comes out tells which part was taken.
    const side = 64;
    const data = new Float32Array(side * side * 2);
    for (let y = 0; y < side; y++) for (let x = 0; x < side; x++) data.set([x, y], (y * side + x) * 2);
    const sample = { data, shape: [side, side, 2], label: 0 };
    const rng = stream(6);
    const transform = randomResizedCrop({ size: 256, scale: [0.2, 0.5], ratio: [0.5, 2], interpolation: "nearest" });
    let area = 0;
    const runs = 60;
    for (let i = 0; i < runs; i++) {
      const { data: out } = transform.apply(sample, rng);
      const size = [0, 1].map((c) => (out.at(c - 2) as number) - (out[c] as number) + 1) as [number, number];
      const ratio = size[0] / size[1];
      expect(ratio).toBeGreaterThan(0.47);
      expect(ratio).toBeLessThan(2.1);
      area += (size[0] * size[1]) / side ** 2 / runs;
      expect((size[0] * size[1]) / side ** 2).toBeGreaterThan(0.17);
      expect((size[0] * size[1]) / side ** 2).toBeLessThan(0.53);
    }
    expect(Math.abs(area - 0.35)).toBeLessThan(0.04);
  });

  test("where no draw fits, the middle", () => {
    const wide = image(2, 40, 1, true);
    const out = randomResizedCrop({ size: [2, 3], scale: [1, 1], interpolation: "nearest" }).apply(wide, stream());
    // Ratio 4/3 of height 2: three columns from the middle.
    expect(out.data).toEqual(Float32Array.from([19, 20, 21, 59, 60, 61]));
    expect(randomResizedCrop({ size: 1, scale: [2, 2] }).apply(image(1, 1, 3), stream()).shape).toEqual([1, 1, 3]);
  });
});

describe("randAugment", () => {
  test("half of single operations change nothing by being left out", () => {
    const sample = image(9, 8, 3);
    const rng = stream(7);
    const transform = randAugment("rand-m9-n1-mstd0.5-inc1");
    const runs = 2000;
    const results = Array.from({ length: runs }, () => transform.apply(sample, rng));
    const same = results.filter((s) => s === sample).length;
    expect(Math.abs(same / runs - 0.5)).toBeLessThan(0.05);
    // Invert is one of fifteen.
    const inverted = results.filter((s) => s.data.every((v, i) => v === 255 - (sample.data[i] as number))).length;
    expect(Math.abs(inverted / runs - 0.5 / 15)).toBeLessThan(0.015);
  });

  test.each([
    ["auto", 'expected a setting that begins with "rand", found "auto"'],
    ["rand-m9-x2", 'found "x2" in "rand-m9-x2"'],
    ["rand-m2.5", 'found "m2.5"'],
    ["rand-n0", 'found "n0"'],
    ["rand-inc0", 'timm takes "inc0" for "inc1"'],
  ])("%s", (setting, message) => {
    expect(() => randAugment(setting)).toThrow(SpikeloomError);
    expect(() => randAugment(setting)).toThrow(message);
  });

  test("needs bytes, and a fill for its channels", () => {
    expect(() => randAugment("rand-m9").apply(image(3, 3, 3, true), stream())).toThrow("Put randAugment before normalize.");
    expect(() => {
      for (let seed = 0; seed < 99; seed++) randAugment("rand-m9", { fill: [1, 2, 3] }).apply(image(3, 3, 1), stream(seed));
    }).toThrow("randAugment: expected fill as one number or 1, one a channel, found [1, 2, 3].");
  });
});

describe("colorJitter", () => {
  test("strength 0 changes nothing; brightness is uniform around 1", () => {
    const sample: Sample = { data: new Uint8Array(12).fill(100), shape: [2, 2, 3], label: 0 };
    expect([...colorJitter({}).apply(sample, stream()).data]).toEqual([...sample.data]);
    const rng = stream(8);
    const levels = Array.from({ length: 1000 }, () => colorJitter({ brightness: 0.5 }).apply(sample, rng).data[0] as number);
    expect(Math.min(...levels)).toBeGreaterThanOrEqual(50);
    expect(Math.max(...levels)).toBeLessThanOrEqual(150);
    expect(Math.abs(levels.reduce((a, b) => a + b) / 1000 - 99.5)).toBeLessThan(4);
    expect(new Set(levels).size).toBeGreaterThan(95);
  });
});

describe("grayscale", () => {
  test("luma of colours; one channel stays", () => {
    const data = Uint8Array.of(255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255, 10, 20, 30, 7, 7, 7);
    const grey = grayscale().apply({ data, shape: [2, 3, 3], label: 1 }, stream());
    expect(grey).toEqual({ data: Uint8Array.of(76, 150, 29, 255, 18, 7), shape: [2, 3, 1], label: 1 });
    expect(grayscale().apply(grey, stream())).toEqual(grey);
  });
});

describe("randomErasing", () => {
  test.each(["const", "pixel"] as const)("%s: one rectangle of the size asked for", (mode) => {
    const rng = stream(9);
    let erased = 0;
    let sum = 0;
    let squares = 0;
    let count = 0;
    for (let i = 0; i < 300; i++) {
      const sample = image(20, 30, 2, true);
      const out = randomErasing({ probability: 0.6, scale: [0.1, 0.3], mode }).apply(sample, rng);
      if (out === sample) continue;
      erased++;
      const gone: [number, number][] = [];
      for (let y = 0; y < 20; y++) for (let x = 0; x < 30; x++) if (at(out, y, x) !== at(sample, y, x)) gone.push([y, x]);
      const ys = gone.map(([y]) => y);
      const xs = gone.map(([, x]) => x);
      const [height, width] = [Math.max(...ys) - Math.min(...ys) + 1, Math.max(...xs) - Math.min(...xs) + 1];
      expect(gone).toHaveLength(height * width);
      expect(gone.length / 600).toBeGreaterThan(0.08);
      expect(gone.length / 600).toBeLessThan(0.33);
      for (const [y, x] of gone)
        for (const c of [0, 1]) {
          const v = at(out, y, x, c);
          if (mode === "const") expect(v).toBe(0);
          sum += v;
          squares += v * v;
          count++;
        }
    }
    expect(Math.abs(erased / 300 - 0.6)).toBeLessThan(0.1);
    if (mode === "pixel") {
      expect(Math.abs(sum / count)).toBeLessThan(0.03);
      expect(Math.abs(squares / count - 1)).toBeLessThan(0.03);
    }
  });

  test("needs normalised pixels", () => {
    expect(() => randomErasing().apply(image(3, 3, 1), stream())).toThrow("Put randomErasing after normalize.");
  });
});

describe("settings that are none", () => {
  test.each<[string, () => unknown, string]>([
    ["p", () => randomHorizontalFlip(1.5), "randomHorizontalFlip p: expected a number from 0 to 1, found 1.5."],
    ["NaN", () => randomVerticalFlip(Number.NaN), "expected a number from 0 to 1, found NaN"],
    ["size", () => resize(0), "resize: expected a whole number >= 1, found 0."],
    ["interpolation", () => resize(3, { interpolation: "lanczos" as "nearest" }), "expected nearest, bilinear, bicubic, found lanczos"],
    ["scale", () => randomResizedCrop({ size: 3, scale: [0.5, 0.2] }), "randomResizedCrop scale: expected two numbers [low, high]"],
    [
      "padding",
      () => pad([1, 2] as unknown as [number, number, number, number]),
      "pad: expected padding as one number or [left, top, right, bottom]",
    ],
    ["hue", () => colorJitter({ hue: 0.7 }), "colorJitter hue: expected a number from 0 to 0.5, found 0.7."],
    ["means", () => normalize({ mean: [0.5], std: [] }), "normalize: expected as many means as deviations, one a channel, found 1 and 0."],
    ["deviation", () => normalize({ mean: [0.5], std: [0] }), "normalize: expected finite means and deviations > 0"],
    ["shift", () => randomShift(0), "randomShift: expected a whole number >= 1, found 0."],
  ])("%s", (_, make, message) => {
    expect(make).toThrow(SpikeloomError);
    expect(make).toThrow(message);
  });

  test("samples that do not fit", () => {
    expect(() => normalize({ mean: [0, 0, 0], std: [1, 1, 1] }).apply(image(2, 2, 1), stream())).toThrow(
      "normalize: expected samples of 3 channels, as mean and std have, found [2, 2, 1].",
    );
    expect(() => resize(3).apply({ data: new Uint8Array(4), shape: [2, 2], label: 0 }, stream())).toThrow(
      "resize: expected a sample [H, W, C] or [T, H, W, C], found 4 values with shape [2, 2].",
    );
  });
});
