/**
 * Surrogate gradients: what stands for the derivative of a spike. A table of records, not a class hierarchy.
 *
 * Libraries give one name to different functions, so a name belongs to a library: `spikingjelly.atan`, `snntorch.fastSigmoid`.
 * Unqualified names are SpikingJelly's. `u` is the membrane above its threshold, H - vThreshold; for the rounding neurons, H itself.
 */
import { nearest, SpikeloomError } from "../runtime/error.ts";
import { SURROGATE } from "../runtime/kernel-table.ts";
import { type CompiledProgram, compile, Expr, expr, input, type Value } from "./expression.ts";

/** A surrogate with its parameters: what a neuron takes. */
export interface Surrogate {
  readonly name: string;
  readonly parameters: Readonly<Record<string, number>>;
  /** Op code and parameters of the kernels. */
  readonly kind: number;
  readonly p0: number;
  readonly p1: number;
  /** Of a user-defined surrogate: the derivative, also compiled for the kernels. @internal */
  readonly custom: { readonly derivative: (u: Expr) => Expr; readonly program: CompiledProgram } | null;
}

/** What is known about a surrogate. */
export interface SurrogateRecord {
  /** `library.name`. */
  readonly name: string;
  /** Parameters in kernel order, with the library's defaults. */
  readonly defaults: Readonly<Record<string, number>>;
  /** The derivative at u. */
  readonly derivative: string;
  /** Where the function is published. */
  readonly source: string;
}

/** Makes a surrogate; parameters that are not given take the record's defaults. */
export interface SurrogateMaker<P extends string> {
  (parameters?: { readonly [K in P]?: number | undefined }): Surrogate;
  readonly record: SurrogateRecord;
}

const records: SurrogateRecord[] = [];

function withDefaults<P extends string>(
  record: SurrogateRecord,
  given: { readonly [K in P]?: number | undefined } | undefined,
): Record<P, number> {
  const parameters: Record<string, number> = { ...record.defaults };
  for (const [key, value] of Object.entries(given ?? {}) as [string, number | undefined][]) {
    if (!(key in parameters)) {
      const near = nearest(key, Object.keys(parameters));
      const known = Object.keys(parameters).join(", ") || "none";
      throw new SpikeloomError(
        `surrogate ${record.name}: unknown parameter "${key}"${near ? `, did you mean "${near}"?` : ""} (it has: ${known})`,
      );
    }
    if (value === undefined) continue;
    if (!Number.isFinite(value)) throw new SpikeloomError(`surrogate ${record.name}: ${key} must be a finite number, found ${value}`);
    parameters[key] = value;
  }
  return parameters;
}

function define<P extends string = never>(
  name: string,
  op: (typeof SURROGATE)[number],
  defaults: Record<P, number>,
  derivative: string,
  source: string,
  ...fixed: number[]
): SurrogateMaker<P> {
  const record: SurrogateRecord = { name, defaults, derivative, source };
  records.push(record);
  const make = (given?: { readonly [K in P]?: number | undefined }): Surrogate => {
    const parameters = withDefaults(record, given);
    const [p0 = 0, p1 = 0] = [...Object.values<number>(parameters), ...fixed];
    return { name, parameters, kind: SURROGATE.indexOf(op), p0, p1, custom: null };
  };
  return Object.assign(make, { record });
}

const sj = (of: string): string => `SpikingJelly, surrogate.${of}`;
const st = (of: string): string => `snnTorch, surrogate.${of}`;

/** SpikingJelly's surrogates (repository fangwei123456/spikingjelly, activation_based/surrogate.py). */
export const spikingjelly = {
  piecewiseQuadratic: define(
    "spikingjelly.piecewiseQuadratic",
    "piecewiseQuadratic",
    { alpha: 1 },
    "|u| <= 1/alpha ? alpha - alpha^2 |u| : 0",
    sj("PiecewiseQuadratic"),
  ),
  piecewiseExp: define("spikingjelly.piecewiseExp", "piecewiseExp", { alpha: 1 }, "alpha/2 exp(-alpha |u|)", sj("PiecewiseExp")),
  sigmoid: define("spikingjelly.sigmoid", "sigmoid", { alpha: 4 }, "alpha s (1 - s), s = sigmoid(alpha u)", sj("Sigmoid")),
  softSign: define("spikingjelly.softSign", "softSign", { alpha: 2 }, "alpha / (2 (1 + alpha |u|)^2)", sj("SoftSign")),
  superSpike: define("spikingjelly.superSpike", "superSpike", { alpha: 1 }, "alpha / (1 + |u|)^2", sj("SuperSpike")),
  atan: define("spikingjelly.atan", "atan", { alpha: 2 }, "alpha / (2 (1 + (pi/2 alpha u)^2))", sj("ATan")),
  nonzeroSignLogAbs: define(
    "spikingjelly.nonzeroSignLogAbs",
    "nonzeroSignLogAbs",
    { alpha: 1 },
    "alpha / (1 + alpha |u|)",
    sj("NonzeroSignLogAbs"),
  ),
  erf: define("spikingjelly.erf", "erf", { alpha: 2 }, "alpha / sqrt(pi) exp(-alpha^2 u^2)", sj("Erf")),
  piecewiseLeakyReLU: define(
    "spikingjelly.piecewiseLeakyReLU",
    "piecewiseLeakyRelu",
    { w: 1, c: 0.01 },
    "|u| < w ? 1 / (2 w) : c",
    sj("PiecewiseLeakyReLU"),
  ),
  /** The sum has n - 1 terms, as in the library's code. */
  squarewaveFourierSeries: define(
    "spikingjelly.squarewaveFourierSeries",
    "squarewaveFourier",
    { n: 2, tPeriod: 8 },
    "4/tPeriod sum of cos((2i - 1) 2 pi u / tPeriod), i = 1 .. n - 1",
    sj("SquarewaveFourierSeries"),
  ),
  s2nn: define(
    "spikingjelly.s2nn",
    "s2nn",
    { alpha: 4, beta: 1 },
    "u < 0 ? alpha s (1 - s), s = sigmoid(alpha u) : beta / (u + 1)",
    sj("S2NN"),
  ),
  qPseudoSpike: define("spikingjelly.qPseudoSpike", "qPseudoSpike", { alpha: 2 }, "(1 + 2 |u| / (alpha - 1))^(-alpha)", sj("QPseudoSpike")),
  leakyKReLU: define("spikingjelly.leakyKReLU", "leakyKRelu", { leak: 0, k: 1 }, "u >= 0 ? k : leak", sj("LeakyKReLU")),
  fakeNumericalGradient: define(
    "spikingjelly.fakeNumericalGradient",
    "fakeNumericalGradient",
    { alpha: 0.3 },
    "min(1 / |u|, alpha)",
    sj("FakeNumericalGradient"),
  ),
  logTailedReLU: define(
    "spikingjelly.logTailedReLU",
    "logTailedRelu",
    { alpha: 0 },
    "u <= 0 ? alpha : u <= 1 ? 1 : 1 / u",
    sj("LogTailedReLU"),
  ),
  deterministicPass: define("spikingjelly.deterministicPass", "pass", {}, "1", sj("DeterministicPass")),
  rect: define("spikingjelly.rect", "rect", { alpha: 1 }, "|u| < 1 / (2 alpha) ? alpha : 0", sj("Rect")),
  /** For the rounding neurons: `hi` is their largest integer. */
  multiLevelSpikeCount: define(
    "spikingjelly.multiLevelSpikeCount",
    "window",
    { lo: 0, hi: 1 },
    "lo <= u <= hi ? 1 : 0",
    sj("MultiLevelSpikeCount"),
  ),
} as const;

/**
 * snnTorch's surrogates (repository jeshraghian/snntorch, snntorch/surrogate.py). The random ones (SSO) are left out: a
 * gradient that draws numbers would not be repeatable.
 */
export const snntorch = {
  atan: define("snntorch.atan", "atan", { alpha: 2 }, "alpha / (2 (1 + (pi/2 alpha u)^2))", st("ATan")),
  fastSigmoid: define("snntorch.fastSigmoid", "fastSigmoid", { slope: 25 }, "1 / (1 + slope |u|)^2", st("FastSigmoid")),
  sigmoid: define("snntorch.sigmoid", "sigmoid", { slope: 25 }, "slope s (1 - s), s = sigmoid(slope u)", st("Sigmoid")),
  /** The sign turns at the threshold, as in the library's code. */
  triangular: define("snntorch.triangular", "triangular", { threshold: 1 }, "u < 0 ? threshold : -threshold", st("Triangular")),
  straightThroughEstimator: define("snntorch.straightThroughEstimator", "pass", {}, "1", st("StraightThroughEstimator")),
  heaviside: define("snntorch.heaviside", "step", {}, "u > 0 ? 1 : 0", st("Heaviside"), 0, 1),
  spikeRateEscape: define(
    "snntorch.spikeRateEscape",
    "spikeRateEscape",
    { beta: 1, slope: 25 },
    "slope exp(-beta |u - 1|)",
    st("SpikeRateEscape"),
  ),
  lso: define("snntorch.lso", "step", { slope: 0.1 }, "u > 0 ? 1 : slope", st("LeakySpikeOperator"), 1),
  sfs: define("snntorch.sfs", "sparseFastSigmoid", { slope: 25, b: 1 }, "u > b ? 1 / (1 + slope |u|)^2 : 0", st("SparseFastSigmoid")),
} as const;

/** Straight-through windows of the integer-valued neurons: with both ends (Quant, SpikeYOLO), or without (SDT-V3 large, E-3DSNN). */
export const { multiLevelSpikeCount: window } = spikingjelly;
export const openWindow = define(
  "openWindow",
  "openWindow",
  { lo: 0, hi: 1 },
  "lo < u < hi ? 1 : 0",
  "repository BICLab/Spike-Driven-Transformer-V3, Model_Large",
);

export const {
  piecewiseQuadratic,
  piecewiseExp,
  sigmoid,
  softSign,
  superSpike,
  atan,
  nonzeroSignLogAbs,
  erf,
  piecewiseLeakyReLU,
  squarewaveFourierSeries,
  s2nn,
  qPseudoSpike,
  leakyKReLU,
  fakeNumericalGradient,
  logTailedReLU,
  deterministicPass,
  rect,
} = spikingjelly;

/** Every surrogate of the table. */
export const surrogates: readonly SurrogateRecord[] = records;

export interface SurrogateDefinition<P extends string> {
  readonly name: string;
  /** Parameters with their defaults. */
  readonly parameters?: Readonly<Record<P, number>>;
  /** The derivative at u. */
  readonly derivative: (u: Expr, parameters: Readonly<Record<P, number>>) => Value;
}

/**
 * A surrogate of your own, for any neuron: an expression in u, run by the interpreter kernel within the neuron's one pass.
 *
 *     const bump = defineSurrogate({
 *       name: "bump", parameters: { alpha: 3 },
 *       derivative: (u, { alpha }) => u.square().mul(-alpha).exp(),
 *     });
 *     new LIF({ surrogate: bump({ alpha: 5 }) });
 */
export function defineSurrogate<P extends string = never>({ name, parameters, derivative }: SurrogateDefinition<P>): SurrogateMaker<P> {
  const record: SurrogateRecord = { name, defaults: parameters ?? {}, derivative: "user-defined", source: "user" };
  const make = (given?: { readonly [K in P]?: number | undefined }): Surrogate => {
    const values = withDefaults(record, given);
    const of = (u: Expr): Expr => expr(derivative(u, values));
    const u = input("u");
    const program = compile(`surrogate ${name}`, { before: [u], after: [null] }, [{ value: of(u), to: { after: 0 } }]);
    return { name, parameters: values, kind: SURROGATE.indexOf("custom"), p0: 0, p1: 0, custom: { derivative: of, program } };
  };
  return Object.assign(make, { record });
}

/** The derivative of a surrogate as an expression in u, for user-defined neurons. */
export function slopeOf(surrogate: Surrogate): (u: Expr) => Expr {
  return surrogate.custom?.derivative ?? ((u) => new Expr("surrogate", [u]));
}
