/** Reference kernels: element-wise functions, comparisons, conversions. */
import { BINARY, COMPARE, ELEMENT, LOGICAL, UNARY } from "../kernel-table.ts";
import { cos, erf, exp, log, log1p, pow, roundHalfEven, sin, tanh } from "../math.ts";
import type { ReferenceArgs } from "./args.ts";
import { walk } from "./layout.ts";

const sigmoid = (x: number): number => 1 / (1 + exp(-x));
const normalCdf = (x: number): number => 0.5 * (1 + erf(x / Math.SQRT2));
const normalDensity = (x: number): number => exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);

/** An op: its value, and its derivative at x where the value is y. */
interface Unary {
  value(x: number, p0: number, p1: number): number;
  slope(x: number, y: number, p0: number, p1: number): number;
}

const unaryOps: Record<(typeof UNARY)[number], Unary> = {
  copy: { value: (x) => x, slope: () => 1 },
  neg: { value: (x) => -x, slope: () => -1 },
  abs: { value: Math.abs, slope: (x) => Math.sign(x) },
  sign: { value: Math.sign, slope: () => 0 },
  square: { value: (x) => x * x, slope: (x) => 2 * x },
  sqrt: { value: Math.sqrt, slope: (_x, y) => 0.5 / y },
  rsqrt: { value: (x) => 1 / Math.sqrt(x), slope: (_x, y) => -0.5 * y * y * y },
  reciprocal: { value: (x) => 1 / x, slope: (_x, y) => -y * y },
  exp: { value: exp, slope: (_x, y) => y },
  log: { value: log, slope: (x) => 1 / x },
  tanh: { value: tanh, slope: (_x, y) => 1 - y * y },
  sigmoid: { value: sigmoid, slope: (_x, y) => y * (1 - y) },
  relu: { value: (x) => Math.max(x, 0), slope: (x) => (x > 0 ? 1 : 0) },
  leakyRelu: { value: (x, p0) => (x >= 0 ? x : p0 * x), slope: (x, _y, p0) => (x >= 0 ? 1 : p0) },
  gelu: { value: (x) => x * normalCdf(x), slope: (x) => normalCdf(x) + x * normalDensity(x) },
  silu: { value: (x) => x * sigmoid(x), slope: (x) => sigmoid(x) * (1 + x * (1 - sigmoid(x))) },
  softplus: { value: (x) => (x > 0 ? x + log1p(exp(-x)) : log1p(exp(x))), slope: sigmoid },
  erf: { value: erf, slope: (x) => (2 / Math.sqrt(Math.PI)) * exp(-x * x) },
  sin: { value: sin, slope: cos },
  cos: { value: cos, slope: (x) => -sin(x) },
  floor: { value: Math.floor, slope: () => 0 },
  ceil: { value: Math.ceil, slope: () => 0 },
  round: { value: roundHalfEven, slope: () => 0 },
  clamp: { value: (x, p0, p1) => Math.min(Math.max(x, p0), p1), slope: (x, _y, p0, p1) => (x >= p0 && x <= p1 ? 1 : 0) },
  affine: { value: (x, p0, p1) => p0 * x + p1, slope: (_x, _y, p0) => p0 },
  powScalar: { value: pow, slope: (x, _y, p0) => (p0 === 0 ? 0 : p0 * pow(x, p0 - 1)) },
};

const binaryOps: Record<(typeof BINARY)[number], (a: number, b: number) => number> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  maximum: Math.max,
  minimum: Math.min,
  pow,
};

const compareOps: Record<(typeof COMPARE)[number], (a: number, b: number) => boolean> = {
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  lt: (a, b) => a < b,
  le: (a, b) => a <= b,
  gt: (a, b) => a > b,
  ge: (a, b) => a >= b,
};

const logicalOps: Record<(typeof LOGICAL)[number], (a: boolean, b: boolean) => boolean> = {
  and: (a, b) => a && b,
  or: (a, b) => a || b,
  xor: (a, b) => a !== b,
  not: (a) => !a,
};

/** Smallest and largest value of the integer types. */
const RANGE = { i32: [-(2 ** 31), 2 ** 31 - 1], u8: [0, 255], u32: [0, 2 ** 32 - 1] } as const;

export const elementwise = {
  fill({ y, n, value }: ReferenceArgs<"fill">): void {
    for (let i = 0; i < n; i++) y[i] = value;
  },

  unary({ x, y, n, op, p0, p1 }: ReferenceArgs<"unary">): void {
    const { value } = unaryOps[UNARY[op]!];
    for (let i = 0; i < n; i++) y[i] = value(x[i]!, p0, p1);
  },

  unary_grad({ x, y, gy, gx, n, op, p0, p1 }: ReferenceArgs<"unary_grad">): void {
    const { slope } = unaryOps[UNARY[op]!];
    for (let i = 0; i < n; i++) gx[i] = gy[i]! * slope(x[i]!, y[i]!, p0, p1);
  },

  binary(args: ReferenceArgs<"binary">): void {
    const { a, b, y } = args;
    const f = binaryOps[BINARY[args.op]!];
    walk(args, (i, ia, ib) => {
      y[i] = f(a[ia]!, b[ib]!);
    });
  },

  compare(args: ReferenceArgs<"compare">): void {
    const { a, b, y } = args;
    const f = compareOps[COMPARE[args.op]!];
    walk(args, (i, ia, ib) => {
      y[i] = f(a[ia]!, b[ib]!) ? 1 : 0;
    });
  },

  logical(args: ReferenceArgs<"logical">): void {
    const { a, b, y } = args;
    const f = logicalOps[LOGICAL[args.op]!];
    walk(args, (i, ia, ib) => {
      y[i] = f(a[ia] !== 0, b !== null && b[ib] !== 0) ? 1 : 0;
    });
  },

  where(args: ReferenceArgs<"where">): void {
    const { cond, a, b, y } = args;
    walk(args, (i, ia, ib, ic) => {
      y[i] = cond[ic] !== 0 ? a[ia]! : b[ib]!;
    });
  },

  cast({ x, y, n, from, to }: ReferenceArgs<"cast">): void {
    const target = ELEMENT[to]!;
    for (let i = 0; i < n; i++) {
      const value = x[i]!;
      if (ELEMENT[from] !== "f32" || target === "f32") {
        y[i] = value; // integers wrap, as typed arrays do
      } else {
        const [low, high] = RANGE[target];
        y[i] = Number.isNaN(value) ? 0 : Math.min(Math.max(Math.trunc(value), low), high);
      }
    }
  },

  accumulate({ x, y, n, alpha }: ReferenceArgs<"accumulate">): void {
    for (let i = 0; i < n; i++) y[i]! += alpha * x[i]!;
  },

  affine({ x, scale, shift, y, rows, c }: ReferenceArgs<"affine">): void {
    for (let r = 0; r < rows; r++) for (let j = 0; j < c; j++) y[r * c + j] = x[r * c + j]! * scale[j]! + shift[j]!;
  },

  affine_add({ x, scale, shift, u, y, rows, c }: ReferenceArgs<"affine_add">): void {
    for (let r = 0; r < rows; r++) for (let j = 0; j < c; j++) y[r * c + j] = x[r * c + j]! * scale[j]! + shift[j]! + u[r * c + j]!;
  },

  affine2({ u, x, a, b, d, y, rows, c }: ReferenceArgs<"affine2">): void {
    for (let r = 0; r < rows; r++) for (let j = 0; j < c; j++) y[r * c + j] = u[r * c + j]! * a[j]! + x[r * c + j]! * b[j]! + d[j]!;
  },
};
