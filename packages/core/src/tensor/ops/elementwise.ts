/**
 * Element-wise operations: functions of one argument, broadcasting arithmetic, comparisons, logic, selection, conversion.
 *
 * Arithmetic is f32. A spike argument is read as its dense values, and saved for backward as bits; a number stands for a
 * tensor of shape [] without a gradient. Shapes broadcast by NumPy's rule, and a gradient is summed over the axes that its
 * input was broadcast along.
 */
import { checkOptions, kindOf } from "../../runtime/check.ts";
import { BINARY, COMPARE, ELEMENT, LOGICAL, UNARY } from "../../runtime/kernel-table.ts";
import type { Affine } from "../lazy.ts";
import { scope } from "../scope.ts";
import { broadcastShape, broadcastStrides, type Shape, sameShape, wrong } from "../shape.ts";
import { apply, noGrad, type OpDefinition } from "../tape.ts";
import {
  bySteps,
  type DType,
  empty,
  emptySpikes,
  expectTensor,
  full,
  planesOf,
  type SpikeFormat,
  sameFormat,
  Tensor,
  tensor,
} from "../tensor.ts";
import { dense, expectDType, expectFloat, run, tilesFor } from "./common.ts";
import { unbroadcast } from "./reduce.ts";
import { copyStrided, walkArgs } from "./strided.ts";

/** A tensor, or a number that broadcasts. */
export type Operand = Tensor | number;

// ------------------------------------------------------------------------------------------ one argument

type UnaryName = (typeof UNARY)[number];

interface UnarySettings {
  p0: number;
  p1: number;
}

/** What the derivative is computed from: the argument, the value, nothing; or that it is zero everywhere. */
type Derivative = "x" | "y" | "constant" | "zero";

function unaryOp(name: UnaryName, derivative: Derivative, cost = 1): OpDefinition<UnarySettings> {
  const op = UNARY.indexOf(name);
  return {
    name,
    forward(ctx, [x], { p0, p1 }) {
      const input = x as Tensor;
      const y = empty(input.shape);
      if (y.size) run("unary", { x: dense(name, input).storage, y: y.storage, n: y.size, op, p0, p1 }, tilesFor(y.size, cost));
      if (derivative === "x") ctx.save(input);
      else if (derivative === "y") ctx.save(y);
      return y;
    },
    backward(ctx, [g], { p0, p1 }) {
      if (derivative === "zero") return [null];
      const gy = g as Tensor;
      // The kernel reads x or y, as the derivative is written; the other pointer only has to be valid.
      const known = derivative === "constant" ? gy : dense(name, ctx.saved[0] as Tensor);
      const gx = ctx.over(gy.shape, gy);
      const { storage } = known;
      if (gx.size)
        run("unary_grad", { x: storage, y: storage, gy: gy.storage, gx: gx.storage, n: gx.size, op, p0, p1 }, tilesFor(gx.size, cost));
      return [gx];
    },
  };
}

/** Rough cost of a transcendental function, for the tile count. */
const SLOW = 8;

const UNARY_OPS = {
  copy: unaryOp("copy", "constant"),
  neg: unaryOp("neg", "constant"),
  abs: unaryOp("abs", "x"),
  sign: unaryOp("sign", "zero"),
  square: unaryOp("square", "x"),
  sqrt: unaryOp("sqrt", "y"),
  rsqrt: unaryOp("rsqrt", "y"),
  reciprocal: unaryOp("reciprocal", "y"),
  exp: unaryOp("exp", "y", SLOW),
  log: unaryOp("log", "x", SLOW),
  tanh: unaryOp("tanh", "y", SLOW),
  sigmoid: unaryOp("sigmoid", "y", SLOW),
  // y > 0 exactly where x > 0, and y is what the next layer saves too.
  relu: unaryOp("relu", "y"),
  leakyRelu: unaryOp("leakyRelu", "x"),
  gelu: unaryOp("gelu", "x", SLOW),
  silu: unaryOp("silu", "x", SLOW),
  softplus: unaryOp("softplus", "x", SLOW),
  erf: unaryOp("erf", "x", SLOW),
  sin: unaryOp("sin", "x", SLOW),
  cos: unaryOp("cos", "x", SLOW),
  floor: unaryOp("floor", "zero"),
  ceil: unaryOp("ceil", "zero"),
  round: unaryOp("round", "zero"),
  clamp: unaryOp("clamp", "x"),
  affine: unaryOp("affine", "constant"),
  powScalar: unaryOp("powScalar", "x", SLOW),
} satisfies Record<UnaryName, OpDefinition<UnarySettings>>;

function unary(name: UnaryName, x: Tensor, p0 = 0, p1 = 0): Tensor {
  expectFloat(name, "the argument", x);
  for (const p of [p0, p1]) if (typeof p !== "number") wrong(name, "every other argument", "a number", kindOf(p));
  return apply(UNARY_OPS[name], [x], { p0, p1 });
}

/** -x */
export function neg(x: Tensor): Tensor {
  return unary("neg", x);
}

/** |x|; gradient 0 at 0. */
export function abs(x: Tensor): Tensor {
  return unary("abs", x);
}

/** -1, 0 or 1; no gradient. */
export function sign(x: Tensor): Tensor {
  return unary("sign", x);
}

/** x^2 */
export function square(x: Tensor): Tensor {
  return unary("square", x);
}

/** Square root. */
export function sqrt(x: Tensor): Tensor {
  return unary("sqrt", x);
}

/** 1 / sqrt(x) */
export function rsqrt(x: Tensor): Tensor {
  return unary("rsqrt", x);
}

/** 1 / x */
export function reciprocal(x: Tensor): Tensor {
  return unary("reciprocal", x);
}

/** e^x */
export function exp(x: Tensor): Tensor {
  return unary("exp", x);
}

/** Natural logarithm. */
export function log(x: Tensor): Tensor {
  return unary("log", x);
}

/** Hyperbolic tangent. */
export function tanh(x: Tensor): Tensor {
  return unary("tanh", x);
}

/** 1 / (1 + e^-x) */
export function sigmoid(x: Tensor): Tensor {
  return unary("sigmoid", x);
}

/** max(x, 0); gradient 0 at 0. */
export function relu(x: Tensor): Tensor {
  return unary("relu", x);
}

/** x where x >= 0, else slope * x. */
export function leakyRelu(x: Tensor, slope = 0.01): Tensor {
  return unary("leakyRelu", x, slope);
}

/** x/2 (1 + erf(x / sqrt 2)), the exact form. */
export function gelu(x: Tensor): Tensor {
  return unary("gelu", x);
}

/** x sigmoid(x) */
export function silu(x: Tensor): Tensor {
  return unary("silu", x);
}

/** log(1 + e^x), without overflow. */
export function softplus(x: Tensor): Tensor {
  return unary("softplus", x);
}

/** The error function. */
export function erf(x: Tensor): Tensor {
  return unary("erf", x);
}

/** Sine. */
export function sin(x: Tensor): Tensor {
  return unary("sin", x);
}

/** Cosine. */
export function cos(x: Tensor): Tensor {
  return unary("cos", x);
}

/** Largest integer <= x; no gradient. */
export function floor(x: Tensor): Tensor {
  return unary("floor", x);
}

/** Smallest integer >= x; no gradient. */
export function ceil(x: Tensor): Tensor {
  return unary("ceil", x);
}

/** Nearest integer, ties to even; no gradient. */
export function round(x: Tensor): Tensor {
  return unary("round", x);
}

/** min(max(x, low), high); the gradient passes where low <= x <= high. */
export function clamp(x: Tensor, low = Number.NEGATIVE_INFINITY, high = Number.POSITIVE_INFINITY): Tensor {
  if (!(low <= high)) wrong("clamp", "low", `at most high (${kindOf(high)})`, kindOf(low));
  return unary("clamp", x, low, high);
}

/** scale * x + shift with numbers. */
export function affine(x: Tensor, scale: number, shift = 0): Tensor {
  return unary("affine", x, scale, shift);
}

/** A copy of the values (any dtype); the gradient of a float or spike tensor passes. */
export function clone(x: Tensor): Tensor {
  expectTensor("clone", "the tensor", x);
  if (x.dtype === "f32") return unary("copy", x);
  return apply(copyWordsOp, [x], undefined);
}

const copyWordsOp: OpDefinition<void> = {
  name: "clone",
  forward(_ctx, [x]) {
    const { shape, dtype, spikes, storage } = x as Tensor;
    const y = dtype === "spikes" ? emptySpikes(shape, spikes as SpikeFormat) : empty(shape, dtype);
    copyStrided("clone", [storage.length], { storage, strides: [1], offset: 0 }, { storage: y.storage, strides: [1], offset: 0 });
    return y;
  },
  backward: (_ctx, [g]) => [g as Tensor],
};

// ------------------------------------------------------------------------------------------ two arguments

type BinaryName = (typeof BINARY)[number];

/** Gradients of a binary op before they are summed over broadcast axes; each is asked for only where needed. */
interface BinaryRule {
  saves: boolean;
  a(g: Tensor, a: Tensor, b: Tensor): Tensor;
  b(g: Tensor, a: Tensor, b: Tensor): Tensor;
}

/** g where `wins`, g/2 where a = b (as PyTorch splits it), else 0. */
function shared(g: Tensor, wins: Tensor, a: Tensor, b: Tensor): Tensor {
  return where(wins, g, where(eq(a, b), affine(g, 0.5), 0));
}

const RULES: Record<BinaryName, BinaryRule> = {
  add: { saves: false, a: (g) => g, b: (g) => g },
  sub: { saves: false, a: (g) => g, b: neg },
  mul: { saves: true, a: (g, _a, b) => mul(g, b), b: (g, a) => mul(g, a) },
  div: { saves: true, a: (g, _a, b) => div(g, b), b: (g, a, b) => neg(mul(div(g, b), div(a, b))) },
  maximum: { saves: true, a: (g, a, b) => shared(g, gt(a, b), a, b), b: (g, a, b) => shared(g, lt(a, b), a, b) },
  minimum: { saves: true, a: (g, a, b) => shared(g, lt(a, b), a, b), b: (g, a, b) => shared(g, gt(a, b), a, b) },
  pow: {
    saves: true,
    a: (g, a, b) => where(eq(b, 0), 0, mul(g, mul(b, pow(a, sub(b, 1))))),
    // 0^b is constant in b > 0; the logarithm there is not finite.
    b: (g, a, b) => where(logicalAnd(eq(a, 0), ge(b, 0)), 0, mul(g, mul(pow(a, b), log(a)))),
  },
};

function binaryOp(name: BinaryName): OpDefinition<{ a: Shape; b: Shape; shape: Shape }> {
  const op = BINARY.indexOf(name);
  const rule = RULES[name];
  return {
    name,
    forward(ctx, inputs, settings) {
      const [a, b] = inputs.map((t) => dense(name, t)) as [Tensor, Tensor];
      const { shape } = settings;
      const y = empty(shape);
      if (y.size) {
        const { args, tiles } = walkArgs(name, shape, [broadcastStrides(a.shape, shape), broadcastStrides(b.shape, shape)]);
        run("binary", { a: a.storage, b: b.storage, y: y.storage, op, ...args }, tiles);
      }
      if (rule.saves) ctx.save(...inputs);
      return y;
    },
    backward(ctx, [g], settings) {
      const [a, b] = ctx.saved as [Tensor, Tensor];
      const gy = g as Tensor;
      return [
        ctx.needs[0] ? unbroadcast(rule.a(gy, a, b), settings.a) : null,
        ctx.needs[1] ? unbroadcast(rule.b(gy, a, b), settings.b) : null,
      ];
    },
  };
}

const BINARY_OPS = Object.fromEntries(BINARY.map((name) => [name, binaryOp(name)])) as Record<BinaryName, ReturnType<typeof binaryOp>>;

function lift(x: Operand): Tensor {
  return typeof x === "number" ? full([], x) : x;
}

function binary(name: BinaryName, a: Operand, b: Operand): Tensor {
  return scope(() => {
    const x = lift(a);
    const y = lift(b);
    expectFloat(name, "the first argument", x);
    expectFloat(name, "the second argument", y);
    return apply(BINARY_OPS[name], [x, y], { a: x.shape, b: y.shape, shape: broadcastShape(name, x.shape, y.shape) });
  });
}

/** A batch norm's output and a shortcut: normalised and added in one pass. */
const addShortcut: OpDefinition<void> = {
  name: "add",
  forward(ctx, [norm, other]) {
    const { shape } = norm as Tensor;
    const how = (norm as Tensor).affine as Affine;
    return new Tensor(shape, "f32", how.plus(other as Tensor), null, ctx.recording ? how.followedBy(other as Tensor) : null);
  },
  backward: (ctx, [g]) => [ctx.needs[0] ? (g as Tensor) : null, ctx.needs[1] ? (g as Tensor) : null],
};

/** a + b. f32 or spikes, or numbers; shapes broadcast. */
export function add(a: Operand, b: Operand): Tensor {
  if (a instanceof Tensor && b instanceof Tensor && a.dtype === "f32" && b.dtype === "f32" && sameShape(a.shape, b.shape)) {
    if (a.affine?.isNorm) return apply(addShortcut, [a, b], undefined);
    if (b.affine?.isNorm) return apply(addShortcut, [b, a], undefined);
  }
  if (typeof b === "number" && typeof a !== "number") return affine(a, 1, b);
  if (typeof a === "number" && typeof b !== "number") return affine(b, 1, a);
  return binary("add", a, b);
}

/** a - b. f32 or spikes, or numbers; shapes broadcast. */
export function sub(a: Operand, b: Operand): Tensor {
  if (typeof b === "number" && typeof a !== "number") return affine(a, 1, -b);
  if (typeof a === "number" && typeof b !== "number") return affine(b, -1, a);
  return binary("sub", a, b);
}

/** a b, element by element. f32 or spikes, or numbers; shapes broadcast. */
export function mul(a: Operand, b: Operand): Tensor {
  if (typeof b === "number" && typeof a !== "number") return affine(a, b);
  if (typeof a === "number" && typeof b !== "number") return affine(b, a);
  return binary("mul", a, b);
}

/** a / b. f32 or spikes, or numbers; shapes broadcast. */
export function div(a: Operand, b: Operand): Tensor {
  return binary("div", a, b);
}

/** The larger of a and b; where they are equal each takes half of the gradient. Shapes broadcast. */
export function maximum(a: Operand, b: Operand): Tensor {
  return binary("maximum", a, b);
}

/** The smaller of a and b; where they are equal each takes half of the gradient. Shapes broadcast. */
export function minimum(a: Operand, b: Operand): Tensor {
  return binary("minimum", a, b);
}

/** a^b. f32 or spikes, or numbers; shapes broadcast. */
export function pow(a: Operand, b: Operand): Tensor {
  if (typeof b === "number" && typeof a !== "number") return b === 2 ? square(a) : unary("powScalar", a, b);
  return binary("pow", a, b);
}

// ------------------------------------------------------------------------------------------ comparisons, logic, selection

function unrecorded(name: string, forward: (inputs: readonly Tensor[]) => Tensor): (...inputs: Tensor[]) => Tensor {
  const op: OpDefinition<void> = { name, forward: (_ctx, inputs) => forward(inputs), backward: (_ctx) => [] };
  return (...inputs) => noGrad(() => apply(op, inputs, undefined));
}

const COMPARE_OPS = Object.fromEntries(
  COMPARE.map((name, op) => [
    name,
    unrecorded(name, ([first, second]) => {
      const [a, b] = [first, second].map((t) => ((t as Tensor).dtype === "spikes" ? dense(name, t as Tensor) : t)) as [Tensor, Tensor];
      const { type } = a.storage;
      if (type !== b.storage.type) wrong(name, "the second argument", `of dtype ${a.dtype}, as the first (cast one of them)`, b.dtype);
      const shape = broadcastShape(name, a.shape, b.shape);
      const y = empty(shape, "bool");
      if (y.size) {
        const { args, tiles } = walkArgs(name, shape, [broadcastStrides(a.shape, shape), broadcastStrides(b.shape, shape)]);
        run("compare", { a: a.storage, b: b.storage, y: y.storage, op, type: ELEMENT.indexOf(type), ...args }, tiles);
      }
      return y;
    }),
  ]),
) as Record<(typeof COMPARE)[number], (a: Tensor, b: Tensor) => Tensor>;

function compare(name: (typeof COMPARE)[number], a: Tensor, b: Operand): Tensor {
  expectTensor(name, "the first argument", a);
  if (typeof b !== "number") return COMPARE_OPS[name](a, b);
  return scope(() => {
    if (a.dtype === "f32" || a.dtype === "spikes") return COMPARE_OPS[name](a, full([], b));
    const [low, high] = a.dtype === "i32" ? [-(2 ** 31), 2 ** 31 - 1] : [0, 255];
    if (!Number.isInteger(b) || b < low || b > high)
      wrong(name, "the second argument", `an integer in [${low}, ${high}] for dtype ${a.dtype}`, String(b));
    return COMPARE_OPS[name](a, tensor(b, [], a.dtype));
  });
}

/** a = b as bool. Both f32 (or spikes), both i32, or both u8 or bool; b may be a number. Shapes broadcast. */
export function eq(a: Tensor, b: Operand): Tensor {
  return compare("eq", a, b);
}

/** a != b as bool; arguments as `eq`. */
export function ne(a: Tensor, b: Operand): Tensor {
  return compare("ne", a, b);
}

/** a < b as bool; arguments as `eq`. */
export function lt(a: Tensor, b: Operand): Tensor {
  return compare("lt", a, b);
}

/** a <= b as bool; arguments as `eq`. */
export function le(a: Tensor, b: Operand): Tensor {
  return compare("le", a, b);
}

/** a > b as bool; arguments as `eq`. */
export function gt(a: Tensor, b: Operand): Tensor {
  return compare("gt", a, b);
}

/** a >= b as bool; arguments as `eq`. */
export function ge(a: Tensor, b: Operand): Tensor {
  return compare("ge", a, b);
}

const LOGICAL_OPS = Object.fromEntries(
  LOGICAL.map((name, op) => [
    name,
    unrecorded(`logical ${name}`, (inputs) => {
      for (const [i, t] of inputs.entries()) expectDType(`logical ${name}`, `argument ${i + 1}`, t, "bool", "u8");
      const [a, b] = inputs as [Tensor, Tensor?];
      const shape = b ? broadcastShape(`logical ${name}`, a.shape, b.shape) : a.shape;
      const y = empty(shape, "bool");
      if (y.size) {
        const { args, tiles } = walkArgs(name, shape, [broadcastStrides(a.shape, shape), broadcastStrides((b ?? a).shape, shape)]);
        run("logical", { a: a.storage, b: b ? b.storage : null, y: y.storage, op, ...args }, tiles);
      }
      return y;
    }),
  ]),
) as Record<(typeof LOGICAL)[number], (...inputs: Tensor[]) => Tensor>;

/** a and b, of bool or u8 (non-zero is true). Shapes broadcast. */
export function logicalAnd(a: Tensor, b: Tensor): Tensor {
  return LOGICAL_OPS.and(a, b);
}

/** a or b, of bool or u8 (non-zero is true). Shapes broadcast. */
export function logicalOr(a: Tensor, b: Tensor): Tensor {
  return LOGICAL_OPS.or(a, b);
}

/** Exactly one of a and b, of bool or u8 (non-zero is true). Shapes broadcast. */
export function logicalXor(a: Tensor, b: Tensor): Tensor {
  return LOGICAL_OPS.xor(a, b);
}

/** not a, of bool or u8 (non-zero is true). */
export function logicalNot(a: Tensor): Tensor {
  return LOGICAL_OPS.not(a);
}

const whereOp: OpDefinition<{ a: Shape; b: Shape; shape: Shape }> = {
  name: "where",
  forward(ctx, [cond, first, second], { shape }) {
    const c = cond as Tensor;
    const a = dense("where", first as Tensor);
    const b = dense("where", second as Tensor);
    const y = empty(shape);
    if (y.size) {
      const { args, tiles } = walkArgs(
        "where",
        shape,
        [a, b, c].map((t) => broadcastStrides(t.shape, shape)),
      );
      run("where", { cond: c.storage, a: a.storage, b: b.storage, y: y.storage, ...args }, tiles);
    }
    ctx.save(c);
    return y;
  },
  backward(ctx, [g], settings) {
    const [c] = ctx.saved as [Tensor];
    return [
      null,
      ctx.needs[1] ? unbroadcast(where(c, g as Tensor, 0), settings.a) : null,
      ctx.needs[2] ? unbroadcast(where(c, 0, g as Tensor), settings.b) : null,
    ];
  },
};

/** a where `cond` (bool or u8), else b; a and b are f32, spikes or numbers. Shapes broadcast. */
export function where(cond: Tensor, a: Operand, b: Operand): Tensor {
  return scope(() => {
    const x = lift(a);
    const y = lift(b);
    expectDType("where", "the condition", cond, "bool", "u8");
    expectFloat("where", "the second argument", x);
    expectFloat("where", "the third argument", y);
    const shape = broadcastShape("where", broadcastShape("where", x.shape, y.shape), cond.shape);
    return apply(whereOp, [cond, x, y], { a: x.shape, b: y.shape, shape });
  });
}

// ------------------------------------------------------------------------------------------ conversion

const castElements = (to: "f32" | "i32" | "u8") =>
  unrecorded("cast", ([x]) => {
    const { storage, shape, size } = x as Tensor;
    const y = empty(shape, to);
    if (size)
      run("cast", { x: storage, y: y.storage, n: size, from: ELEMENT.indexOf(storage.type), to: ELEMENT.indexOf(to) }, tilesFor(size, 1));
    return y;
  });
const CAST = { f32: castElements("f32"), i32: castElements("i32"), u8: castElements("u8") };

/**
 * `x` in another dtype. Floats become integers by cutting towards zero and saturating (NaN gives 0); bool is x != 0; spikes are
 * read as their dense values. Only spikes -> f32 (and f32 -> f32) carry a gradient.
 * @throws SpikeloomError for dtype spikes, which needs a format: `toSpikes`.
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  expectTensor("cast", "the tensor", x);
  if (dtype !== "bool" && dtype !== "spikes" && !Object.hasOwn(CAST, dtype)) wrong("cast", "dtype", "f32, i32, u8 or bool", kindOf(dtype));
  if (dtype === "spikes") {
    if (x.dtype === "spikes") return clone(x);
    wrong("cast", "dtype", "f32, i32, u8 or bool (toSpikes makes spikes)", dtype);
  }
  if (x.dtype === dtype) return clone(x);
  if (x.dtype === "spikes")
    return scope(() =>
      dtype === "f32"
        ? toDense(x)
        : cast(
            noGrad(() => toDense(x)),
            dtype,
          ),
    );
  return dtype === "bool" ? ne(x, 0) : CAST[dtype](x);
}

const toDenseOp: OpDefinition<void> = {
  name: "toDense",
  forward: (_ctx, [x]) => dense("toDense", x as Tensor),
  backward: (_ctx, [g]) => [g as Tensor],
};

/** The values of a spike tensor as f32, with the gradient passed on as it is. An f32 tensor is copied. */
export function toDense(x: Tensor): Tensor {
  expectDType("toDense", "the tensor", x, "spikes", "f32");
  if (x.dtype === "f32") return clone(x);
  return apply(toDenseOp, [x], undefined);
}

/** Pack f32 values that are known to fit `format` into a spike tensor. For ops. */
export function pack(x: Tensor, format: SpikeFormat): Tensor {
  const { planes, scale } = format;
  if (format.steps) return bySteps(pack(x, { planes: planesOf(planes), scale }), true, planes);
  const y = emptySpikes(x.shape, format);
  const c = x.shape[x.rank - 1] as number;
  if (x.size) run("spike_pack", { x: x.storage, y: y.storage, rows: x.size / c, c, planes, scale }, tilesFor(x.size / c, c));
  return y;
}

const toSpikesOp: OpDefinition<SpikeFormat> = {
  name: "toSpikes",
  forward: (_ctx, [x], format) => pack(x as Tensor, format),
  backward: (_ctx, [g]) => [g as Tensor],
};

/**
 * Bit-packed spikes with the values of `x` (f32, u8 or bool, rank 1 or more), the gradient passed on as it is (straight through).
 * @param format value = scale * integer in [0, 2^planes); planes from 1 to 8; default one plane, scale 1
 * @throws SpikeloomError when a value of `x` is none of these.
 */
export function toSpikes(x: Tensor, format: Partial<Pick<SpikeFormat, "planes" | "scale">> = {}): Tensor {
  checkOptions("toSpikes", format, ["planes", "scale"]);
  const { planes = 1, scale = 1 } = format;
  expectDType("toSpikes", "the tensor", x, "f32", "u8", "bool", "spikes");
  if (sameFormat(x.spikes, { planes, scale })) return clone(x);
  if (!Number.isInteger(planes) || planes < 1 || planes > 8) wrong("toSpikes", "planes", "an integer from 1 to 8", kindOf(planes));
  if (!(scale > 0 && scale < Number.POSITIVE_INFINITY)) wrong("toSpikes", "scale", "a positive number", kindOf(scale));
  if (x.rank === 0) wrong("toSpikes", "the tensor", "of rank 1 or more", "[]");
  return scope(() => {
    const values = x.dtype === "f32" ? x : cast(x, "f32");
    const read = values.dataSync();
    const top = 2 ** planes - 1;
    for (const v of read) {
      const level = Math.round(v / scale);
      if (!(level >= 0 && level <= top && Math.abs(level * scale - v) <= 1e-6 * Math.abs(v)))
        wrong("toSpikes", "every value", `${scale} times an integer from 0 to ${top}`, String(v));
    }
    return apply(toSpikesOp, [values], { planes, scale });
  });
}
