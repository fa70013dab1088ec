// The library's own elementary functions against Math.* (whose engine-dependent error is below 1 ulp) and, for erf and the
// reduction of large angles, against integer arithmetic with 200 digits.
import { describe, expect, it } from "vitest";
import { cos, erf, exp, expm1, log, log1p, pow, roundHalfEven, sin, tanh } from "../../src/runtime/math.ts";

const buffer = new DataView(new ArrayBuffer(8));
/** Doubles in order as integers, so that a difference counts ulps. */
function ordinal(x: number): bigint {
  buffer.setFloat64(0, x);
  const bits = buffer.getBigInt64(0);
  return bits < 0n ? -(bits & 0x7fffffffffffffffn) : bits;
}
function ulps(a: number, b: number): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) === Number.isNaN(b) ? 0 : Infinity;
  const d = ordinal(a) - ordinal(b);
  return Number(d < 0n ? -d : d);
}
/** `count` points: half evenly spaced over [low, high], half spread over its magnitudes. */
function* points(low: number, high: number, count = 4000): Generator<number> {
  for (let i = 0; i <= count; i++) yield low + ((high - low) * i) / count;
  for (let i = 0; i <= count; i++) yield (i % 2 && low < 0 ? low : high) * 2 ** (-(60 * i) / count) * (1 + 0.37 * Math.abs(Math.sin(i)));
}
function worst(own: (x: number) => number, expected: (x: number) => number, xs: Iterable<number>): number {
  let largest = 0;
  for (const x of xs) largest = Math.max(largest, ulps(own(x), expected(x)));
  return largest;
}

describe("elementary functions", () => {
  it.each([
    ["exp", exp, Math.exp, -745, 709],
    ["exp near 0", exp, Math.exp, -2, 2],
    ["expm1", expm1, Math.expm1, -50, 700],
    ["expm1 near 0", expm1, Math.expm1, -1, 1],
    ["log", log, Math.log, 1e-300, 1e300],
    ["log near 1", log, Math.log, 0.5, 2],
    ["log1p", log1p, Math.log1p, -0.99, 100],
    ["tanh", tanh, Math.tanh, -25, 25],
    ["sin", sin, Math.sin, -100, 100],
    ["cos", cos, Math.cos, -100, 100],
    ["sin of large angles", sin, Math.sin, -1e6, 1e22],
    ["cos of large angles", cos, Math.cos, -1e6, 1e22],
  ] as const)("%s agrees with Math", (name, own, expected, low, high) => {
    // Both tanh divide two rounded numbers; their errors add up.
    expect(worst(own, expected, points(low, high))).toBeLessThanOrEqual(name === "tanh" ? 3 : 2);
  });

  it("agrees with Math at special values, signs of zero included", () => {
    const special = [
      0,
      -0,
      1,
      -1,
      Infinity,
      -Infinity,
      NaN,
      5e-324,
      -5e-324,
      2 ** -1022,
      Number.MAX_VALUE,
      -Number.MAX_VALUE,
      Math.PI,
      710,
    ];
    for (const x of special) {
      for (const [own, expected] of [
        [exp, Math.exp],
        [expm1, Math.expm1],
        [log, Math.log],
        [log1p, Math.log1p],
        [tanh, Math.tanh],
        [sin, Math.sin],
        [cos, Math.cos],
      ] as const) {
        const a = own(x);
        const b = expected(x);
        if (Number.isFinite(b) && b !== 0) expect(ulps(a, b), `${expected.name}(${x})`).toBeLessThanOrEqual(2);
        else expect(a, `${expected.name}(${x})`).toBe(b);
      }
    }
  });

  it("pow agrees with Math.pow to 2 ulp", () => {
    let largest = 0;
    for (const x of points(1e-3, 1e3, 200)) for (const y of points(-90, 90, 60)) largest = Math.max(largest, ulps(pow(x, y), x ** y));
    for (const x of points(0.9, 1.1, 200)) for (const y of points(-3000, 3000, 60)) largest = Math.max(largest, ulps(pow(x, y), x ** y));
    expect(largest).toBeLessThanOrEqual(2);
    expect(pow(10, 22)).toBe(1e22);
    expect(pow(3, 30)).toBe(205891132094649);
    expect(pow(0.5, 1074)).toBe(5e-324);
  });

  it("pow keeps the special cases", () => {
    const values = [0, -0, 0.5, -0.5, 1, 2, -2, 3, -3, 2.5, -2.5, Infinity, -Infinity, NaN, 1e300, -1e300, 2 ** 53 + 2];
    for (const x of values)
      for (const y of values) {
        const one = x === 1 || (x === -1 && Math.abs(y) === Infinity);
        const expected = one ? 1 : x ** y;
        if (Number.isFinite(expected) && expected !== 0) expect(ulps(pow(x, y), expected), `${x} ** ${y}`).toBeLessThanOrEqual(1);
        else expect(pow(x, y), `${x} ** ${y}`).toBe(expected);
      }
  });

  it("roundHalfEven sends ties to the even neighbour", () => {
    const cases = [
      [0.5, 0],
      [1.5, 2],
      [2.5, 2],
      [3.5, 4],
      [-0.5, -0],
      [-1.5, -2],
      [-2.5, -2],
      [2.4999999999999996, 2],
      [0.49999999999999994, 0],
      [2 ** 52 + 1, 2 ** 52 + 1],
      [-0, -0],
      [Infinity, Infinity],
    ] as const;
    for (const [x, y] of cases) expect(roundHalfEven(x)).toBe(y);
    expect(roundHalfEven(NaN)).toBeNaN();
  });
});

describe("against integers with 200 digits", () => {
  const ONE = 10n ** 200n;
  const pi = (() => {
    const inverseTangent = (n: bigint) => {
      let sum = 0n;
      let power = ONE / n;
      for (let k = 1n; power; k += 2n, power = -power / (n * n)) sum += power / k;
      return sum;
    };
    return 16n * inverseTangent(5n) - 4n * inverseTangent(239n);
  })();
  const root = (n: bigint): bigint => {
    let r = n;
    for (let next = (r + n / r) / 2n; next < r; next = (r + n / r) / 2n) r = next;
    return r;
  };
  const fixed = (x: number): bigint => (BigInt(Math.round(x * 2 ** 40)) * ONE) / 2n ** 40n;
  const float = (x: bigint): number => Number((x * 2n ** 900n) / ONE) * 2 ** -900;

  it("erf is within 2 ulp", () => {
    let largest = 0;
    for (let i = 1; i <= 800; i++) {
      const x = i / 128; // exact in both
      const square = (fixed(x) * fixed(x)) / ONE;
      let term = fixed(x);
      let sum = 0n;
      for (let n = 0n; term; n++, term = (-term * square) / ONE / n) sum += term / (2n * n + 1n);
      const expected = float((2n * sum * ONE) / root(pi * ONE));
      largest = Math.max(largest, ulps(erf(x), expected), ulps(erf(-x), -expected));
    }
    expect(largest).toBeLessThanOrEqual(2);
    expect(erf(1e-300)).toBeCloseTo(1.1283791670955126e-300, 310);
    expect([erf(0), erf(-0), erf(Infinity), erf(-Infinity), erf(7)]).toEqual([0, -0, 1, -1, 1]);
    expect(erf(NaN)).toBeNaN();
  });

  it("sin of a double next to a multiple of pi keeps every digit", () => {
    for (const k of [1, 2, 3, 50, 355, 10000, 123456789]) {
      const x = k * Math.PI;
      const rest =
        (BigInt(Math.round(x * 2 ** 20)) * ONE) / 2n ** 20n +
        (BigInt(Math.round((x - Math.round(x * 2 ** 20) / 2 ** 20) * 2 ** 70)) * ONE) / 2n ** 70n;
      const angle = rest - BigInt(Math.round(x / Math.PI)) * pi; // tiny: sin(angle) = angle
      const sign = Math.round(x / Math.PI) % 2 === 0 ? 1 : -1;
      expect(ulps(sin(x), sign * float(angle))).toBeLessThanOrEqual(1);
    }
  });
});
