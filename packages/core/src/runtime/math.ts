/**
 * Elementary functions whose last bit is the same on every JavaScript engine. `Math.exp` and its kin may differ between Node
 * and browsers; whatever reaches a tensor, a draw or a learning rate comes from here instead.
 *
 * Only + - * / and `Math.sqrt` (exact by IEEE 754) and bit patterns are used. Each function reduces its argument to a short
 * interval and sums its Taylor series there; errors stay below about 1 ulp (erf: 2).
 */

const bits = new DataView(new ArrayBuffer(8));

/** ln 2 in two pieces: the first has 32 bits, so that `k * LN2_HI` is exact for every exponent k. */
const LN2_HI = 0.6931471803691238;
const LN2_LO = 1.9082149292705877e-10;

/** 1/n! for n = 0..17. */
const INVERSE_FACTORIAL = [1];
for (let n = 1, f = 1; n <= 17; n++) {
  f *= n; // exact: 17! < 2^53
  INVERSE_FACTORIAL.push(1 / f);
}

/** c[from] + t c[from + step] + t^2 c[from + 2 step] + ... up to index `to`. */
function series(t: number, c: readonly number[], from: number, to: number, step: number): number {
  let sum = 0;
  for (let n = to; n >= from; n -= step) sum = sum * t + c[n]!;
  return sum;
}

/** 2^k as a double, -1022 <= k <= 1023. */
function powerOfTwo(k: number): number {
  bits.setUint32(0, (k + 1023) << 20);
  bits.setUint32(4, 0);
  return bits.getFloat64(0);
}

/** x * 2^k, rounded once, for any k that a double's exponent range can ask for. */
function scale(x: number, k: number): number {
  if (k > 1023) return x * powerOfTwo(1023) * powerOfTwo(Math.min(k - 1023, 1023));
  if (k < -1022) return x * powerOfTwo(-1000) * powerOfTwo(Math.max(k + 1000, -1022));
  return x * powerOfTwo(k);
}

/** The k with sqrt(1/2) <= x / 2^k < sqrt(2), for finite x > 0. */
function exponent(x: number): number {
  if (x < 2 ** -1022) return exponent(x * 2 ** 54) - 54;
  bits.setFloat64(0, x);
  const k = (bits.getUint32(0) >>> 20) - 1023;
  return scale(x, -k) >= Math.SQRT2 ? k + 1 : k;
}

/** Round to the nearest integer, ties to even (JavaScript's `Math.round` sends ties up). */
export function roundHalfEven(x: number): number {
  if (!(x > -(2 ** 52) && x < 2 ** 52) || x === 0) return x;
  return x > 0 ? x + 2 ** 52 - 2 ** 52 : -(-x + 2 ** 52 - 2 ** 52);
}

/** e^(hi + lo), lo far below an ulp of hi (or 0). */
function expOf(hi: number, lo: number): number {
  if (Number.isNaN(hi)) return hi;
  if (hi > 710) return Infinity;
  if (hi < -746) return 0;
  const k = roundHalfEven(hi * Math.LOG2E);
  const a = hi - k * LN2_HI; // exact
  const b = lo - k * LN2_LO;
  const r = a + b;
  const lost = a - r + b;
  return scale(1 + (r + (lost + r * r * series(r, INVERSE_FACTORIAL, 2, 14, 1))), k);
}

/** e^x. */
export function exp(x: number): number {
  return expOf(x, 0);
}

/** e^x - 1 without cancellation near 0. */
export function expm1(x: number): number {
  if (x > 60 || Number.isNaN(x)) return exp(x);
  if (x < -40) return -1;
  const k = roundHalfEven(x * Math.LOG2E);
  const a = x - k * LN2_HI;
  const b = -k * LN2_LO;
  const r = a + b;
  const p = r + (a - r + b + r * r * series(r, INVERSE_FACTORIAL, 2, 14, 1));
  if (k === 0) return x === 0 ? x : p;
  return scale(1 - powerOfTwo(-k) + p, k);
}

/** 2 / (2n + 1), the coefficients of 2 atanh(s) in s^2. */
const ATANH = Array.from({ length: 13 }, (_, n) => 2 / (2 * n + 1));

/** Natural logarithm; NaN below 0, -Infinity at 0. */
export function log(x: number): number {
  if (!(x > 0)) return x === 0 ? -Infinity : NaN;
  if (x === Infinity) return x;
  // x = 2^k (1 + f), s = f / (2 + f): log(1 + f) = 2 atanh(s) = f - f^2/2 + s (f^2/2 + s^2 (2/3 + ...)).
  const k = exponent(x);
  const f = scale(x, -k) - 1;
  const s = f / (2 + f);
  const half = 0.5 * f * f;
  const tail = s * s * series(s * s, ATANH, 1, 12, 1);
  return k * LN2_HI - (half - (s * (half + tail) + k * LN2_LO) - f);
}

/** log(1 + x) without cancellation near 0. */
export function log1p(x: number): number {
  const u = 1 + x;
  if (u === 1 || u === Infinity) return x;
  // The division gives back what rounding 1 + x lost.
  return log(u) + (u > 0 ? (x - (u - 1)) / u : 0);
}

/** Hyperbolic tangent. */
export function tanh(x: number): number {
  const a = Math.abs(x);
  if (a > 22) return x > 0 ? 1 : -1;
  if (x === 0) return x;
  const e = expm1(2 * a);
  const t = a >= 1 ? 1 - 2 / (e + 2) : e / (e + 2);
  return x < 0 ? -t : t;
}

// ------------------------------------------------------------------------------------------------ sine and cosine

/** pi/2 in three pieces; the first two have 33 bits, so that their products with a quotient below 2^20 are exact. */
const HALF_PI = [1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21] as const;

/** Binary places of the exact reduction: 1024 for the largest exponent, the rest for the result. */
const PLACES = 1200n;
let halfPi: bigint | undefined;

/** pi/2 scaled by 2^PLACES, from Machin's formula pi/4 = 4 atan(1/5) - atan(1/239). */
function exactHalfPi(): bigint {
  const inverseTangent = (n: bigint): bigint => {
    let sum = 0n;
    let power = (1n << (PLACES + 16n)) / n;
    for (let k = 1n; power !== 0n; k += 2n) {
      sum += k % 4n === 1n ? power / k : -(power / k);
      power /= n * n;
    }
    return sum;
  };
  halfPi ??= (8n * inverseTangent(5n) - 2n * inverseTangent(239n)) >> 16n;
  return halfPi;
}

/** x = quadrant * pi/2 + hi + lo with |hi| <= pi/4, by integers: exact for the whole double range. */
function reduceExactly(x: number): { quadrant: number; hi: number; lo: number } {
  const shift = exponent(Math.abs(x)) - 54;
  const mantissa = BigInt(scale(x, -shift));
  const places = PLACES + BigInt(shift);
  const fixed = places >= 0n ? mantissa << places : mantissa >> -places;
  const unit = exactHalfPi();
  // Nearest quotient, also for negative values (BigInt division truncates).
  let quotient = (2n * fixed + unit) / (2n * unit);
  if (2n * (fixed - quotient * unit) < -unit) quotient -= 1n;
  const rest = (fixed - quotient * unit) >> (PLACES - 180n);
  const hi = Number(rest);
  const lo = Number(rest - BigInt(hi));
  return { quadrant: Number(((quotient % 4n) + 4n) % 4n), hi: hi * 2 ** -180, lo: lo * 2 ** -180 };
}

/** As `reduceExactly`, fast where three pieces of pi/2 are enough. */
function reduce(x: number): { quadrant: number; hi: number; lo: number } {
  if (Math.abs(x) <= Math.PI / 4) return { quadrant: 0, hi: x, lo: 0 };
  if (Math.abs(x) > 1e5) return reduceExactly(x);
  const q = roundHalfEven(x / (Math.PI / 2));
  const a = x - q * HALF_PI[0]; // exact
  const b = q * HALF_PI[1]; // exact
  const difference = a - b;
  const back = difference - a;
  const lost = a - (difference - back) - (b + back) - q * HALF_PI[2];
  const hi = difference + lost;
  if (Math.abs(hi) < 2 ** -30) return reduceExactly(x);
  return { quadrant: ((q % 4) + 4) % 4, hi, lo: difference - hi + lost };
}

/** (-1)^n / (2n)! and (-1)^n / (2n + 1)! in the order of n!. */
const ALTERNATING = INVERSE_FACTORIAL.map((c, n) => (n % 4 < 2 ? c : -c));

function sinNear(hi: number, lo: number): number {
  const z = hi * hi;
  return hi + (hi * z * series(z, ALTERNATING, 3, 17, 2) + lo * (1 - 0.5 * z));
}

function cosNear(hi: number, lo: number): number {
  const z = hi * hi;
  const half = 0.5 * z;
  const w = 1 - half;
  return w + (1 - w - half + (z * z * series(z, ALTERNATING, 4, 16, 2) - hi * lo));
}

/** Sine of x radians. */
export function sin(x: number): number {
  if (!Number.isFinite(x)) return NaN;
  if (x === 0) return x;
  const { quadrant, hi, lo } = reduce(x);
  const value = quadrant % 2 === 0 ? sinNear(hi, lo) : cosNear(hi, lo);
  return quadrant < 2 ? value : -value;
}

/** Cosine of x radians. */
export function cos(x: number): number {
  if (!Number.isFinite(x)) return NaN;
  const { quadrant, hi, lo } = reduce(x);
  const value = quadrant % 2 === 0 ? cosNear(hi, lo) : sinNear(hi, lo);
  return quadrant === 0 || quadrant === 3 ? value : -value;
}

// ------------------------------------------------------------------------------------------------ error function

/** (-1)^n / (n! (2n + 1)): the Maclaurin series of erf(x) sqrt(pi)/2 / x in x^2. */
const ERF_SERIES = Array.from({ length: 21 }, (_, n) => {
  let factorial = 1;
  for (let i = 2; i <= n; i++) factorial *= i;
  return (n % 2 ? -1 : 1) / (factorial * (2 * n + 1));
});
/** Nodes t = (k - 1/2) / 2 of the midpoint rule with step 1/2: t^2 and exp(-t^2). */
const ERF_NODES = Array.from({ length: 13 }, (_, k) => ({ square: (k + 0.5) ** 2 / 4, weight: exp(-((k + 0.5) ** 2) / 4) }));
const TWO_OVER_SQRT_PI = 2 / Math.sqrt(Math.PI);

/**
 * Error function. Below 1 its Maclaurin series; above, 1 - erfc with erfc(x) = x/pi exp(-x^2) integral of exp(-t^2) / (t^2 + x^2) by
 * the midpoint rule and its pole correction (Chiarella and Reichel 1968; Matta and Reichel 1971), whose error is exp(-4 pi^2).
 */
export function erf(x: number): number {
  const a = Math.abs(x);
  if (a < 1) return x * TWO_OVER_SQRT_PI * series(x * x, ERF_SERIES, 0, 20, 1);
  if (Number.isNaN(x)) return x;
  let tail = 0;
  if (a < 6) {
    for (const { square, weight } of ERF_NODES) tail += weight / (square + a * a);
    tail = (tail * a * exp(-a * a)) / Math.PI + 2 / (1 + exp(4 * Math.PI * a));
  }
  return x < 0 ? tail - 1 : 1 - tail;
}

// ------------------------------------------------------------------------------------------------ power

/** A number as the unevaluated sum hi + lo, |lo| <= ulp(hi) / 2: about 106 bits. */
type Double2 = readonly [hi: number, lo: number];

function exactSum(a: number, b: number): Double2 {
  const sum = a + b;
  const back = sum - a;
  return [sum, a - (sum - back) + (b - back)];
}

/** Dekker's product: each factor is cut into halves of 26 bits whose products are exact. */
function exactProduct(a: number, b: number): Double2 {
  const product = a * b;
  const ta = a * 134217729;
  const tb = b * 134217729;
  const ah = ta - (ta - a);
  const bh = tb - (tb - b);
  const al = a - ah;
  const bl = b - bh;
  return [product, al * bl - (product - ah * bh - al * bh - ah * bl)];
}

function add2(a: Double2, b: Double2): Double2 {
  const [sum, lost] = exactSum(a[0], b[0]);
  return exactSum(sum, lost + a[1] + b[1]);
}

function multiply2(a: Double2, b: Double2): Double2 {
  const [product, lost] = exactProduct(a[0], b[0]);
  return exactSum(product, lost + (a[0] * b[1] + a[1] * b[0]));
}

function divide2(a: Double2, b: Double2): Double2 {
  const q = a[0] / b[0];
  const [product, lost] = exactProduct(q, b[0]);
  return exactSum(q, (a[0] - product - lost + a[1] - q * b[1]) / b[0]);
}

const ATANH2 = Array.from({ length: 16 }, (_, n) => divide2([2, 0], [2 * n + 1, 0]));

/** log of finite x > 0 to about 85 bits. */
function log2parts(x: number): Double2 {
  const k = exponent(x);
  const m = scale(x, -k);
  const s = divide2([m - 1, 0], exactSum(m, 1));
  const z = multiply2(s, s);
  let sum: Double2 = [0, 0];
  for (let n = 15; n >= 0; n--) sum = add2(multiply2(sum, z), ATANH2[n]!);
  return add2(add2([k * LN2_HI, 0], exactProduct(k, LN2_LO)), multiply2(s, sum));
}

/** x^y with the special cases of IEEE 754 (also 1^NaN = 1 and (-1)^Infinity = 1, where `Math.pow` says NaN). */
export function pow(x: number, y: number): number {
  if (y === 0 || x === 1) return 1;
  if (Number.isNaN(x) || Number.isNaN(y)) return NaN;
  const odd = Math.abs(y) < 2 ** 53 && Math.abs(y % 2) === 1;
  const magnitude = Math.abs(x);
  if (magnitude === 0 || magnitude === Infinity) {
    const value = (magnitude === 0) === y > 0 ? 0 : Infinity;
    return odd && (x < 0 || Object.is(x, -0)) ? -value : value;
  }
  if (Math.abs(y) === Infinity) return magnitude === 1 ? 1 : magnitude > 1 === y > 0 ? Infinity : 0;
  if (x < 0 && y % 1 !== 0) return NaN;
  const logarithm = log2parts(magnitude);
  // Out of range either way: keeps the exact product below from overflowing.
  const rough = logarithm[0] * y;
  const [hi, lo] = Math.abs(rough) > 1000 ? [rough, 0] : multiply2(logarithm, [y, 0]);
  const value = expOf(hi, lo);
  return odd && x < 0 ? -value : value;
}
