/**
 * Encoders: numbers to spikes over T steps. They give bits [T, ...x.shape] and pass no gradient. (Direct coding, the values themselves at
 * every step, is `snn.repeat`.) Poisson, latency and phase coding give the same bits on every device for inputs that float32 holds: where a
 * code has a logarithm, the host computes the values at which the code changes, and the device only compares.
 */
import { exp } from "../runtime/math.ts";
import { dense, expectFloat, run, tilesFor } from "../tensor/ops/common.ts";
import { affine, cast, clamp, floor, ge, le, logicalXor, pack, sub } from "../tensor/ops/elementwise.ts";
import { indexSelect } from "../tensor/ops/index.ts";
import { concat, narrow, reshape } from "../tensor/ops/layout.ts";
import { reserveDraws } from "../tensor/ops/random.ts";
import { copyStrided } from "../tensor/ops/strided.ts";
import { scope } from "../tensor/scope.ts";
import { show, sizeOf, wrong } from "../tensor/shape.ts";
import { noGrad } from "../tensor/tape.ts";
import { emptySpikes, type Tensor, tensor, wordsOf, zeros } from "../tensor/tensor.ts";

const BINARY = { planes: 1, scale: 1 } as const;

function check(op: string, x: Tensor, counts: Record<string, number>): void {
  expectFloat(op, "x", x);
  if (x.rank < 1) wrong(op, "x", "of rank 1 or more", show(x.shape));
  for (const [name, value] of Object.entries(counts))
    if (!Number.isInteger(value) || value < 1) wrong(op, name, "an integer of at least 1", String(value));
}

const encoded = (fn: () => Tensor): Tensor => scope(() => noGrad(fn));

/** Binary spikes where a condition holds. */
const spikesWhere = (condition: Tensor): Tensor => pack(cast(condition, "f32"), BINARY);

/**
 * Rate coding: at each step an independent spike with probability x (at or below 0 never, at or above 1 always, NaN never); the
 * number of spikes in T steps is binomial, the Poisson code's usual form in discrete time (SpikingJelly's PoissonEncoder,
 * snnTorch's spikegen.rate). Draws come from the named stream, one for each element of [T, ...x.shape], as `rand` takes them.
 *
 * @param x f32 [..., C], probabilities
 * @param steps T
 */
export function poisson(x: Tensor, steps: number, { stream = "encode" }: { stream?: string | undefined } = {}): Tensor {
  check("poisson", x, { steps });
  return encoded(() => {
    const y = emptySpikes([steps, ...x.shape], BINARY);
    const c = x.shape[x.rank - 1] as number;
    const rows = sizeOf(x.shape.slice(0, -1));
    const storages = { x: dense("poisson", x).storage, y: y.storage };
    if (y.size) run("spike_bernoulli", { ...storages, steps, rows, c, ...reserveDraws(stream, y.size) }, tilesFor(steps * rows, 4 * c));
    return y;
  });
}

export interface LatencyOptions {
  /**
   * When an x fires, rounded to a step, ties to even:
   * - "linear" (default): (T - 1) (1 - x), SpikingJelly's LatencyEncoder;
   * - "log": T - 1 - ln(a x + 1) with a = e^(T - 1) - 1, its enc_function "log";
   * - "rc": tau ln(x / (x - threshold)), when a membrane charged by x through a resistance reaches the threshold (snnTorch's
   *   spikegen.latency). Times past the last step, and x that never gets there, give no spike.
   */
  code?: "linear" | "log" | "rc" | undefined;
  /** Below this an x never fires. Default: none for "linear" and "log", where all x up to 0 fire last; 0.01 for "rc". */
  threshold?: number | undefined;
  /** Time constant of "rc" in steps. Default 1. */
  tau?: number | undefined;
}

/** The least float32 number that is at least `value`, or above it. */
function floatFrom(value: number, above: boolean): number {
  const f = new Float32Array([value]);
  if ((f[0] as number) < value || (above && f[0] === value)) {
    const bits = new Int32Array(f.buffer);
    bits[0] = f[0] === 0 ? 1 : (bits[0] as number) + ((f[0] as number) > 0 ? 1 : -1);
  }
  return f[0] as number;
}

/**
 * Latency coding: one spike for each x in [0, 1], the earlier the larger x is; above 1 as 1, NaN never.
 *
 * @param x f32 [..., C]
 * @param steps T
 */
export function latency(x: Tensor, steps: number, { code = "linear", threshold, tau = 1 }: LatencyOptions = {}): Tensor {
  const op = "latency";
  check(op, x, { steps });
  const least = threshold ?? (code === "rc" ? 0.01 : Number.NEGATIVE_INFINITY);
  if (Number.isNaN(least) || (code === "rc" && !(least > 0)))
    wrong(op, "threshold", code === "rc" ? "above 0" : "a number", String(threshold));
  if (!(tau > 0)) wrong(op, "tau", "above 0", String(tau));
  const end = exp(1 - steps);
  /** The x whose time is t. */
  const at = {
    linear: (t: number) => 1 - t / (steps - 1),
    log: (t: number) => (exp(-t) - end) / (1 - end),
    rc: (t: number) => least / (1 - exp(-t / tau)),
  }[code];
  if (!at) wrong(op, "code", `one of "linear", "log", "rc"`, String(code));
  // What fires at step t or before: everything from `from[t]` on.
  const from = Float64Array.from({ length: steps }, (_, t) => {
    if (t === steps - 1 && code !== "rc") return least;
    const value = at(t + 0.5);
    // Nothing fires earlier than x = 1 does.
    return value > 1 ? Number.POSITIVE_INFINITY : Math.max(least, floatFrom(value, t % 2 === 1));
  });
  return encoded(() => {
    const begun = ge(reshape(x, [1, ...x.shape]), tensor(from, [steps, ...x.shape.map(() => 1)]));
    if (steps === 1) return spikesWhere(begun);
    const first = narrow(begun, 0, 0, 1);
    return spikesWhere(concat([first, logicalXor(narrow(begun, 0, 1, steps - 1), narrow(begun, 0, 0, steps - 1))]));
  });
}

/**
 * Weighted phase coding (Kim et al. 2018; SpikingJelly's WeightedPhaseEncoder): x as a binary fraction of `phases` digits, the spike of step
 * k standing for 2^-(1 + k mod phases). x is cut off to a multiple of 2^-phases in [0, 1 - 2^-phases].
 *
 * @param x f32 [..., C]
 * @param phases K, 1 to 16
 * @param steps T, default K: one period
 */
export function phase(x: Tensor, phases: number, { steps = phases }: { steps?: number | undefined } = {}): Tensor {
  check("phase", x, { phases, steps });
  if (phases > 16) wrong("phase", "phases", "at most 16", String(phases));
  return encoded(() => {
    const digits = clamp(floor(affine(dense("phase", x), 2 ** phases)), 0, 2 ** phases - 1);
    const planes = pack(digits, { planes: phases, scale: 1 });
    const y = emptySpikes([phases, ...x.shape], BINARY);
    // Bit planes lie inside each row, the lowest digit first; steps go outermost, the highest digit first.
    const [rows, words] = [sizeOf(x.shape.slice(0, -1)), wordsOf(x.shape[x.rank - 1] as number)];
    copyStrided(
      "phase",
      [phases, rows, words],
      { storage: planes.storage, strides: [-words, phases * words, 1], offset: (phases - 1) * words },
      { storage: y.storage, strides: [rows * words, words, 1], offset: 0 },
    );
    if (steps === phases) return y;
    return indexSelect(
      y,
      0,
      Array.from({ length: steps }, (_, t) => t % phases),
    );
  });
}

export interface DeltaOptions {
  /** Least change that gives a spike. Default 0.1. */
  threshold?: number | undefined;
  /** Spikes for falling values too, in C more channels after those for rising ones: [T, ..., 2 C]. Default false. */
  off?: boolean | undefined;
  /** Compare the first step with itself (no spikes), or with 0 (default). */
  padding?: boolean | undefined;
}

/**
 * Delta modulation (snnTorch's spikegen.delta, whose off-spikes are -1 where these have channels of their own): a spike where x rises by
 * the threshold or more from one step to the next.
 *
 * @param x f32 [T, ..., C]
 */
export function delta(x: Tensor, { threshold = 0.1, off = false, padding = false }: DeltaOptions = {}): Tensor {
  const op = "delta";
  check(op, x, {});
  if (x.rank < 2 || x.shape[0] === 0) wrong(op, "x", "of shape [T, ..., C] with T of at least 1", show(x.shape));
  if (!(threshold > 0)) wrong(op, "threshold", "above 0", String(threshold));
  return encoded(() => {
    const values = dense(op, x);
    const steps = x.shape[0] as number;
    const before = padding ? narrow(values, 0, 0, 1) : zeros([1, ...x.shape.slice(1)]);
    const change = sub(values, concat([before, narrow(values, 0, 0, steps - 1)]));
    const rises = ge(change, threshold);
    return spikesWhere(off ? concat([rises, le(change, -threshold)], -1) : rises);
  });
}
