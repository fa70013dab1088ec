// What a simulated event camera must do whatever it looks at: the physics of its pixels, the statistics of its noise, one seed one recording.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Events, type Picture, SaccadeCamera, type SaccadeOptions } from "../../../src/data/events/index.ts";
import { log } from "../../../src/runtime/math.ts";

const QUIET: SaccadeOptions = { background: 0, mismatch: 0 };
const picture = (height: number, width: number, of: (y: number, x: number) => number): Picture => ({
  ...{ height, width },
  data: Float32Array.from({ length: height * width }, (_, i) => of(Math.floor(i / width), i % width)),
});
const DIGIT = picture(28, 28, (y, x) => (Math.hypot(y - 14, x - 12) < 7 && Math.hypot(y - 14, x - 12) > 4 ? 1 : 0));
const count = ({ p }: Events, polarity: number) => p.reduce((n, v) => n + (v === polarity ? 1 : 0), 0);
const plain = ({ t, x, y, p }: Events) => [[...t], [...x], [...y], [...p]];

describe("without noise", () => {
  it("nothing that does not change makes an event", () => {
    const camera = new SaccadeCamera({ ...QUIET, sensor: { height: 8, width: 8 } });
    expect(
      camera.record(
        picture(40, 40, () => 0.7),
        0,
      ).t.length,
    ).toBe(0);
    expect(
      camera.record(
        picture(8, 8, () => 0),
        0,
      ).t.length,
    ).toBe(0);
    expect(new SaccadeCamera({ ...QUIET, amplitude: 0 }).record(DIGIT, 0).t.length).toBe(0);
  });

  it("what a pixel has sent never is a threshold away from what it sees, and back at the start it sees the same", () => {
    fc.assert(
      fc.property(
        fc.array(fc.float({ min: 0, max: 1, noNaN: true }), { minLength: 36, maxLength: 36 }),
        fc.double({ min: 0.1, max: 1, noNaN: true }),
        (values, threshold) => {
          const camera = new SaccadeCamera({ ...QUIET, threshold, sensor: { height: 9, width: 10 } });
          const { t, x, y, p } = camera.record({ data: Float32Array.from(values), height: 6, width: 6 }, 3);
          const sums = new Map<number, number>();
          for (let i = 0; i < t.length; i++) {
            const at = (y[i] as number) * 10 + (x[i] as number);
            sums.set(at, (sums.get(at) ?? 0) + (p[i] ? 1 : -1));
          }
          // The way is closed: the brightness is what it was, so that no more than rounding of one threshold is left.
          for (const sum of sums.values()) expect(Math.abs(sum)).toBeLessThanOrEqual(1);
        },
      ),
      { numRuns: 50 },
    );
  });

  it("a step of brightness that passes a pixel makes as many events as it has thresholds", () => {
    // A bright half-plane far to the right, seen through one pixel whose way across it is 12 pixels.
    const threshold = 0.21;
    const camera = new SaccadeCamera({ ...QUIET, threshold, dark: 0.1, amplitude: 6, sensor: { height: 1, width: 1 } });
    const events = camera.record(
      picture(31, 31, (_, x) => (x > 16 ? 1 : 0)),
      0,
    );
    // Of the three saccades the second leads into the light, and the third out of it.
    const steps = Math.floor(-log(0.1) / threshold + 1e-9);
    expect(count(events, 1)).toBe(steps);
    expect(Math.abs(count(events, 0) - steps)).toBeLessThanOrEqual(1);
    const lit = [...events.t].filter((_, i) => events.p[i] === 1);
    expect(Math.min(...lit)).toBeGreaterThanOrEqual(100_000);
    expect(Math.max(...lit)).toBeLessThan(200_000);
  });

  it("half the threshold gives about twice the events, a brighter black fewer", () => {
    const events = (options: SaccadeOptions) => new SaccadeCamera({ ...QUIET, ...options }).record(DIGIT, 0).t.length;
    expect(events({ threshold: 0.15 }) / events({ threshold: 0.3 })).toBeGreaterThan(1.8);
    expect(events({ dark: 0.3 })).toBeLessThan(0.7 * events({ dark: 0.1 }));
  });

  it("bytes are the same picture as floats", () => {
    const camera = new SaccadeCamera();
    const bytes = Uint8Array.from(DIGIT.data, (v) => 255 * v);
    expect(plain(camera.record({ ...DIGIT, data: bytes }, 5))).toEqual(plain(camera.record(DIGIT, 5)));
  });
});

describe("a recording", () => {
  it("is in order, within the sensor and its time", () => {
    const camera = new SaccadeCamera({ background: 3 });
    const { t, x, y, p } = camera.record(DIGIT, 1);
    expect(camera.duration).toBe(300_000);
    expect(t.length).toBeGreaterThan(1000);
    for (let i = 0; i < t.length; i++) {
      expect((t[i] as number) >= (t[i - 1] ?? 0) && (t[i] as number) < 300_000 && Number.isInteger(t[i])).toBe(true);
      expect((x[i] as number) < 34 && (y[i] as number) < 34 && (p[i] as number) < 2).toBe(true);
    }
  });

  it("is the same for the same seed and number, in any order; of another number the noise is another, not the pixels", () => {
    const events = (seed: number, index: number, more: SaccadeOptions = {}) =>
      plain(new SaccadeCamera({ seed, ...more }).record(DIGIT, index));
    const camera = new SaccadeCamera();
    const later = plain(camera.record(DIGIT, 9));
    expect(plain(camera.record(DIGIT, 2))).toEqual(events(0, 2));
    expect(later).toEqual(events(0, 9));
    expect(events(0, 2)).not.toEqual(later);
    expect(events(0, 2, { background: 0 })).toEqual(events(0, 9, { background: 0 }));
    expect(events(1, 2, { background: 0 })).not.toEqual(events(0, 2, { background: 0 }));
    expect(events(1, 2, QUIET)).toEqual(events(0, 2, QUIET));
  });

  it("has as much noise as asked for, everywhere and of both kinds", () => {
    const background = 2;
    const camera = new SaccadeCamera({ background, amplitude: 0 });
    const expected = background * 34 * 34 * 0.3;
    const all = Array.from({ length: 40 }, (_, i) => camera.record(DIGIT, i));
    const mean = all.reduce((n, e) => n + e.t.length, 0) / all.length;
    // Four standard errors of a Poisson mean.
    expect(Math.abs(mean - expected)).toBeLessThan(4 * Math.sqrt(expected / all.length));
    const brighter = all.reduce((n, e) => n + count(e, 1), 0) / all.reduce((n, e) => n + e.t.length, 0);
    expect(Math.abs(brighter - 0.5)).toBeLessThan(4 * Math.sqrt(0.25 / (expected * all.length)));
    const early = all.reduce((n, e) => n + [...e.t].filter((t) => t < 150_000).length, 0);
    expect(Math.abs(early / (mean * all.length) - 0.5)).toBeLessThan(4 * Math.sqrt(0.25 / (expected * all.length)));
  });

  it("with pixels that differ has about as many events as with equal ones, at other places", () => {
    const equal = new SaccadeCamera(QUIET).record(DIGIT, 0);
    const differing = new SaccadeCamera({ ...QUIET, mismatch: 0.1 }).record(DIGIT, 0);
    expect(Math.abs(differing.t.length / equal.t.length - 1)).toBeLessThan(0.1);
    expect(plain(differing)).not.toEqual(plain(equal));
  });
});

it.each<[SaccadeOptions, string]>([
  [{ threshold: 0 }, "expected threshold as a number > 0, found 0"],
  [{ background: -1 }, "expected background as a number >= 0, found -1"],
  [{ sensor: { height: 0, width: 3 } }, "expected sensor.height as a whole number from 1 to 4096, found 0"],
  [{ treshold: 1 } as SaccadeOptions, 'there is no option "treshold", did you mean "threshold"?'],
])("%j is refused", (options, message) => {
  expect(() => new SaccadeCamera(options)).toThrow(message);
});

it("pictures and numbers that are none are refused", () => {
  const camera = new SaccadeCamera();
  expect(() => camera.record({ ...DIGIT, height: 27 }, 0)).toThrow("found 784 for 27 x 28");
  expect(() => camera.record({ ...DIGIT, data: new Float32Array(784).fill(Number.NaN) }, 0)).toThrow("expected brightness >= 0, found NaN");
  expect(() => camera.record(DIGIT, -1)).toThrow("the recording's number from 0 to 2^28 - 1, found -1");
});
