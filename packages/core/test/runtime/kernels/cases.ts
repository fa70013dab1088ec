// For every kernel of the table, random arguments. The type of `cases` makes a kernel without a case an error.
import { BINARY, COMPARE, type KernelName, LOGICAL, REDUCE, UNARY, winogradSize } from "../../../src/runtime/kernel-table.ts";
import { philoxBlock } from "../../../src/runtime/random.ts";
import { type ReferenceArgs, referenceKernels } from "../../../src/runtime/reference/index.ts";
import { words } from "../../../src/runtime/reference/spikes.ts";
import { type Draw, unwritten } from "./draw.ts";
import { neuronCases } from "./neuron-cases.ts";

/** A call to make on every device. f32 results may differ from float64 by `atol + rtol * |expected|`. */
export interface Call<K extends KernelName = KernelName> {
  readonly args: ReferenceArgs<K>;
  readonly rtol: number;
  readonly atol: number;
}

export type Cases<K extends KernelName> = { readonly [Name in K]: (d: Draw) => Call<Name> };

/** Nothing is rounded: every element must be equal. */
const exact = { rtol: 0, atol: 0 };
/** A few roundings of values around 1. */
const close = { rtol: 2e-6, atol: 1e-6 };
/** Sums of n products of values around 1. */
const summed = (n: number) => ({ rtol: 4e-6, atol: 1e-6 + 4e-7 * Math.sqrt(n) * Math.log2(n + 2) });

/** Function domains for `unary` and its gradient: a range of ordinary values, and edges. */
function unaryInput(d: Draw, op: (typeof UNARY)[number], n: number): { x: Float64Array; p0: number; p1: number } {
  const edges = [0, -0, 0.5, 1.5, -0.5, -2.5, 1, -1, 30, -30, NaN];
  switch (op) {
    case "sqrt":
    case "log":
      return { x: d.floatsWith(n, 0.01, 4, [1, 1e-6, 1e6, 1e-30, 3e38, NaN]), p0: 0, p1: 0 };
    case "rsqrt":
      return { x: d.floatsWith(n, 0.01, 4, [1, 1e-6, 1e6, NaN]), p0: 0, p1: 0 };
    case "reciprocal":
      return { x: d.floatsWith(n, 0.25, 4, [-1, -0.5, 1024, NaN]), p0: 0, p1: 0 };
    case "exp":
      return { x: d.floatsWith(n, -10, 10, [0, 88.5, 100, -80, -150, NaN]), p0: 0, p1: 0 };
    case "tanh":
    case "sigmoid":
    case "softplus":
    case "silu":
    case "gelu":
    case "erf":
      return { x: d.floatsWith(n, -6, 6, [...edges, 1e-6, -1e-6, 90, -90, 120, -120]), p0: 0, p1: 0 };
    case "sin":
    case "cos":
      return { x: d.floatsWith(n, -10, 10, [0, 100, -100, 1e-6, 3.1415927410125732, NaN]), p0: 0, p1: 0 };
    case "powScalar": {
      const p0 = d.real(0, 0.5, 1, 2, 3, -1, 1.7, -0.5);
      const signed = Number.isInteger(p0) && d.bool();
      return { x: d.floats(n, 0.1, 4).map((x, i) => (signed && i % 2 ? -x : x)), p0, p1: 0 };
    }
    case "leakyRelu":
      return { x: d.floatsWith(n, -2, 2, edges), p0: d.real(0, 0.01, 0.2), p1: 0 };
    case "clamp":
      return { x: d.floatsWith(n, -2, 2, edges), p0: d.real(-1, 0, -0.5), p1: d.real(0.5, 1) };
    case "affine":
      return { x: d.floats(n), p0: d.real(2, -0.3, 0), p1: d.real(0, 1.25) };
    default:
      return { x: d.floatsWith(n, -4, 4, edges), p0: 0, p1: 0 };
  }
}

function elementCount(d: Draw): number {
  return d.wide ? d.pick(5000, 20001) : d.pick(1, 2, 3, 7, 15, 16, 17, 31, 33, 64, 100, 257, 1000);
}

function dim(d: Draw): number {
  return d.wide ? d.int(1, 3) : d.pick(1, 2, 3, 5, 8, 17, 33);
}

/** x [rows, c] whose channels have different means and deviations. */
function channelled(d: Draw, rows: number, c: number): Float64Array {
  const shift = d.floats(c, -3, 3);
  return d.floats(rows * c).map((x, i) => Math.fround(x + shift[i % c]!));
}

const key = (d: Draw) => ({
  key0: d.pick(0, 1, 0xffffffff, 0x12345678),
  key1: d.pick(0, 7, 0xdeadbeef),
  offset: d.pick(0, 5, 2 ** 32 - 1, 2 ** 33 + 3),
});

function broadcast(d: Draw) {
  const dims = d.dims();
  const a = d.layout("a", dims, { broadcast: true });
  const b = d.layout("b", dims, { broadcast: true });
  const n = Object.values(dims).reduce((product, size) => product * size, 1);
  return { n, a: a.length, b: b.length, dims, strides: { ...dims, ...a.strides, ...b.strides } };
}

/** Groups of a convolution: this call's is one of them, inside wider pixels. */
function grouped(d: Draw, ci: number, co: number) {
  const groups = d.pick(1, 1, 2, 3);
  const group = d.int(0, groups - 1);
  return { xs: ci * groups, xo: ci * group, ys: co * groups, yo: co * group };
}

function pooled(d: Draw) {
  const { ih: _ih, iw: _iw, ...g } = d.window({ covered: true, sameChannels: true, limit: 40_000 });
  return g;
}

function grouping(d: Draw) {
  const [outer, n, size] = [d.int(1, 4), d.pick(1, 3, 17, 70), d.wide ? d.pick(40, 513) : d.pick(1, 2, 3, 4, 16, 17)];
  const groups = d.wide ? d.pick(1, 2, 9) : d.pick(1, 2, 3, 8);
  const c = size * groups;
  return { x: channelled(d, outer * n, c), outer, n, c, groups };
}

const cases: Cases<KernelName> = {
  fill: (d) => {
    const n = elementCount(d);
    return { args: { y: unwritten(n), n, value: d.real(0, 1, -0.1, Infinity) }, ...exact };
  },
  unary: (d) => {
    const n = elementCount(d);
    const op = d.int(0, UNARY.length - 1);
    const { x, p0, p1 } = unaryInput(d, UNARY[op]!, n);
    const y = d.bool() ? x : unwritten(n); // in place half the time
    return { args: { x, y, n, op, p0, p1 }, ...close };
  },
  unary_grad: (d) => {
    const n = elementCount(d);
    const op = d.int(0, UNARY.length - 1);
    const { x: input, p0, p1 } = unaryInput(d, UNARY[op]!, n);
    const x = input.map((value) => (Number.isNaN(value) ? 1 : value)); // no op promises a gradient there
    const y = unwritten(n);
    referenceKernels.unary({ x, y, n, op, p0, p1 });
    return { args: { x, y: y.map(Math.fround), gy: d.floats(n), gx: unwritten(n), n, op, p0, p1 }, rtol: 1e-5, atol: 2e-6 };
  },
  binary: (d) => {
    const op = d.int(0, BINARY.length - 1);
    const { n, a, b, strides } = broadcast(d);
    const positive = BINARY[op] === "pow" || BINARY[op] === "div";
    return {
      args: {
        a: d.floatsWith(a, positive ? 0.1 : -2, 2, [1, NaN]),
        b: d.floatsWith(b, BINARY[op] === "div" ? 0.1 : -2, 2, [1, NaN]),
        y: unwritten(n),
        op,
        ...strides,
      },
      ...close,
    };
  },
  compare: (d) => {
    const { n, a, b, strides } = broadcast(d);
    const type = d.int(0, 3);
    const values = (count: number) =>
      type === 0
        ? d.whole(count, -2, 2)
        : type === 1
          ? d.ints(count, -2, 2)
          : type === 2
            ? d.bytes(count, 0, 3)
            : d.u32(count).map((x) => x & 0x80000001);
    return {
      args: { a: values(a), b: values(b), y: new Uint8Array(n).fill(9), op: d.int(0, COMPARE.length - 1), type, ...strides },
      ...exact,
    };
  },
  logical: (d) => {
    const { n, a, b, strides } = broadcast(d);
    const op = d.int(0, LOGICAL.length - 1);
    return {
      args: { a: d.bytes(a, 0, 1), b: LOGICAL[op] === "not" ? null : d.bytes(b, 0, 1), y: new Uint8Array(n).fill(9), op, ...strides },
      ...exact,
    };
  },
  where: (d) => {
    const { n, a, b, dims, strides } = broadcast(d);
    const c = d.layout("c", dims, { broadcast: true });
    return { args: { cond: d.bytes(c.length, 0, 1), a: d.floats(a), b: d.floats(b), y: unwritten(n), ...strides, ...c.strides }, ...exact };
  },
  cast: (d) => {
    const n = elementCount(d);
    const from = d.int(0, 3);
    const to = d.int(0, 3);
    const limits = [0, -0, 0.9, -0.9, 255, 256, -1, 2 ** 31, -(2 ** 31), 2 ** 32, 1e20, -1e20, NaN, Infinity, -Infinity];
    const x = from === 0 && to !== 0 ? d.floatsWith(n, -300, 300, limits) : d.elements(from, n);
    const y = [unwritten(n), new Int32Array(n).fill(77), new Uint8Array(n).fill(77), new Uint32Array(n).fill(77)][to]!;
    return { args: { x, y, n, from, to }, rtol: 6e-8, atol: 0 };
  },
  accumulate: (d) => {
    const n = elementCount(d);
    return { args: { x: d.floats(n), y: d.floats(n), n, alpha: d.real(1, -0.5, 3.3) }, ...close };
  },
  affine: (d) => {
    const rows = dim(d);
    const c = d.channels();
    return { args: { x: d.floats(rows * c), scale: d.floats(c), shift: d.floats(c), y: unwritten(rows * c), rows, c }, ...close };
  },
  affine_add: (d) => {
    const rows = dim(d);
    const c = d.channels();
    const n = rows * c;
    return { args: { x: d.floats(n), scale: d.floats(c), shift: d.floats(c), u: d.floats(n), y: unwritten(n), rows, c }, ...close };
  },
  affine2: (d) => {
    const rows = dim(d);
    const c = d.channels();
    const n = rows * c;
    return { args: { u: d.floats(n), x: d.floats(n), a: d.floats(c), b: d.floats(c), d: d.floats(c), y: unwritten(n), rows, c }, ...close };
  },

  copy_strided: (d) => {
    const type = d.int(0, 3);
    const dims = d.dims();
    const from = d.layout("a", dims, { broadcast: true, reverse: true });
    const to = d.layout("b", dims, { reverse: true });
    const args = { x: d.elements(type, from.length), y: d.elements(type, to.length), type, offsetA: from.offset, offsetB: to.offset };
    return { args: { ...args, ...dims, ...from.strides, ...to.strides }, ...exact };
  },
  accumulate_strided: (d) => {
    const dims = d.dims();
    const from = d.layout("a", dims, { broadcast: true, reverse: true });
    const to = d.layout("b", dims, { reverse: true });
    const args = { x: d.floats(from.length), y: d.floats(to.length), offsetA: from.offset, offsetB: to.offset };
    return { args: { ...args, ...dims, ...from.strides, ...to.strides }, ...close };
  },
  index_select: (d) => {
    const [type, outer, xn, n, inner] = [d.int(0, 3), d.int(1, 4), dim(d), dim(d), d.channels()];
    const y = d.elements(type, outer * n * inner);
    return { args: { x: d.elements(type, outer * xn * inner), index: d.ints(n, 0, xn - 1), y, type, outer, xn, n, inner }, ...exact };
  },
  index_add: (d) => {
    const [outer, xn, n, inner] = [d.int(1, 4), dim(d), dim(d), d.channels()];
    const args = { gy: d.floats(outer * n * inner), index: d.ints(n, 0, xn - 1), gx: unwritten(outer * xn * inner) };
    return { args: { ...args, outer, xn, n, inner }, ...summed(n) };
  },
  gather: (d) => {
    const [outer, xn, n, inner] = [d.int(1, 6), dim(d), dim(d), d.pick(1, 3, 16, 33)];
    const args = { x: d.floats(outer * xn * inner), index: d.ints(outer * n * inner, 0, xn - 1), y: unwritten(outer * n * inner) };
    return { args: { ...args, outer, xn, n, inner }, ...exact };
  },
  scatter_add: (d) => {
    const [outer, xn, n, inner] = [d.int(1, 6), dim(d), dim(d), d.pick(1, 3, 16, 33)];
    const args = { gy: d.floats(outer * n * inner), index: d.ints(outer * n * inner, 0, xn - 1), gx: d.floats(outer * xn * inner) };
    return { args: { ...args, outer, xn, n, inner }, ...summed(n) };
  },

  reduce: (d) => {
    const [outer, n, inner] = [d.int(1, 5), d.pick(1, 2, 7, 33, 100, 1000), d.pick(1, 1, 3, 16, 33)];
    const chunks = Math.min(n, d.pick(1, 1, 2, 5));
    const op = d.int(0, REDUCE.length - 1);
    const product = REDUCE[op] === "prod";
    const x = product ? d.floats(outer * n * inner, 0.9, 1.1) : d.floats(outer * n * inner);
    if (d.int(0, 3) === 0) x[d.int(0, x.length - 1)] = NaN; // must not vanish, in a maximum either
    const args = { x, y: unwritten(outer * chunks * inner), outer, n, inner, chunks, op, scale: d.real(1, 0.25, -2) };
    return { args, ...(product ? { rtol: 1e-4, atol: 0 } : summed(n)) };
  },
  argreduce: (d) => {
    const [outer, n, inner] = [d.int(1, 9), d.pick(1, 2, 7, 33, 100), d.pick(1, 1, 3, 16, 33)];
    const y = new Int32Array(outer * inner).fill(-1);
    return {
      args: { x: d.whole(outer * n * inner, -5, 5), y, outer, n, inner, op: d.pick(REDUCE.indexOf("max"), REDUCE.indexOf("min")) },
      ...exact,
    };
  },
  sort: (d) => {
    const [rows, n] = [d.int(1, 9), d.pick(1, 2, 7, 33, 100, d.wide ? 3000 : 257)];
    const k = d.pick(1, n, d.int(1, n));
    const args = { y: unwritten(rows * k), index: new Int32Array(rows * k).fill(-1), rows, n, k, descending: d.flag() };
    return { args: { x: d.floatsWith(rows * n, -2, 2, [0, -0, 1, NaN, Infinity, -Infinity]), ...args }, ...exact };
  },
  cumsum: (d) => {
    const [outer, n, inner] = [d.int(1, 9), d.pick(1, 2, 7, 33, 100), d.pick(1, 1, 3, 16, 33)];
    const args = { x: d.floats(outer * n * inner), y: unwritten(outer * n * inner), outer, n, inner, reverse: d.flag() };
    return { args, rtol: 4e-6, atol: 4e-7 * (n + 3) };
  },
  sum_squares: (d) => {
    const n = d.pick(1, 5, 33, 1000, 3000);
    const chunks = Math.min(n, d.pick(1, 2, 5));
    return { args: { x: d.floats(n), partial: unwritten(chunks), n, chunks }, rtol: 2e-7, atol: 0 };
  },

  gemm: (d) => {
    const size = () => d.pick(1, 2, 5, 16, 17, 33, 64, 65);
    const [batch, m, k] = d.wide ? [1, d.pick(1, 70), d.pick(1000, 2500)] : [d.int(1, 3), size(), d.pick(1, 2, 7, 32, 45, 300)];
    const n = d.wide ? d.pick(5, 600) : d.pick(1, 3, 8, 16, 31, 48, 64, 100, 257);
    const [sa, sb, sc] = [d.pick(m * k, 0, m * k + 3), d.pick(k * n, 0, k * n + 5), m * n + d.pick(0, 2)];
    const accumulate = d.flag();
    const c = accumulate ? d.floats(batch * sc) : unwritten(batch * sc);
    const operands = {
      a: d.floats((batch - 1) * sa + m * k),
      b: d.floats((batch - 1) * sb + k * n),
      c,
      bias: d.bool() ? d.floats(n) : null,
    };
    const args = {
      ...operands,
      batch,
      m,
      n,
      k,
      sa,
      sb,
      sc,
      ta: d.flag(),
      tb: d.flag(),
      alpha: d.real(1, 0.125, -1.7),
      accumulate,
      terms: d.pick(0, 3),
    };
    return { args, ...summed(4 * k) };
  },
  conv2d: (d) => {
    const { ih, iw, ...g } = d.window({ dilation: true, minPad: -1 });
    const strides = grouped(d, g.ci, g.co);
    const buffers = {
      x: d.floats(g.n * g.h * g.w * strides.xs),
      wt: d.floats(g.kh * g.kw * g.ci * g.co, -1, 1),
      bias: d.bool() ? d.floats(g.co) : null,
      y: unwritten(g.n * g.oh * g.ow * strides.ys),
    };
    return { args: { ...buffers, ...g, ih, iw, ...strides, terms: d.pick(0, 3) }, ...summed(g.kh * g.kw * g.ci) };
  },
  conv2d_grad_weight: (d) => {
    const { ih: _ih, iw: _iw, ...g } = d.window();
    const strides = grouped(d, g.ci, g.co);
    const buffers = {
      x: d.floats(g.n * g.h * g.w * strides.xs),
      gy: d.floats(g.n * g.oh * g.ow * strides.ys, -1, 1),
      gw: unwritten(g.kh * g.kw * g.ci * g.co),
    };
    return { args: { ...buffers, ...g, ...strides }, ...summed(g.n * g.oh * g.ow) };
  },
  winograd_weights: (d) => {
    const [ci, co] = d.wide ? [3, d.channels()] : [d.channels(40), d.channels()];
    // Columns past co are written too.
    return { args: { wt: d.floats(9 * ci * co), u: unwritten(winogradSize(ci, co)), ci, co }, ...close };
  },
  winograd_conv2d: (d) => {
    const [ci, co] = d.wide ? [d.pick(128, 129, 250, 300), d.pick(5, 140)] : [d.channels(), d.channels(40)];
    const [n, oh, ow] = d.wide ? [1, 5, 3] : [d.int(1, 4), d.int(1, 10), d.int(1, 10)];
    // Zeros after the image as before it, or none, or more.
    const [ph, pw] = [d.int(0, 2), d.int(0, 2)];
    const [h, w] = [Math.max(1, oh + 2 - ph - d.int(0, 2)), Math.max(1, ow + 2 - pw - d.int(0, 2))];
    const u = new Float64Array(winogradSize(ci, co));
    referenceKernels.winograd_weights({ wt: d.floats(9 * ci * co, -1, 1), u, ci, co });
    // Inside wider pixels, or alone.
    const yo = d.bool() ? 0 : d.int(1, 40);
    const ys = co + yo + d.int(0, 9);
    const buffers = { x: d.floats(n * h * w * ci), u: u.map(Math.fround), y: unwritten(n * oh * ow * ys) };
    // The transforms go through numbers larger than the result's.
    const { rtol, atol } = summed(9 * ci);
    return { args: { ...buffers, n, h, w, ci, oh, ow, co, ph, pw, ys, yo }, rtol, atol: 4 * atol };
  },
  dwconv2d: (d) => {
    const { ih: _ih, iw: _iw, ...g } = d.window({ sameChannels: true, limit: 40_000 });
    const c = g.co;
    const buffers = { x: d.floats(g.n * g.h * g.w * c), wt: d.floats(g.kh * g.kw * c), bias: d.bool() ? d.floats(c) : null };
    return { args: { ...buffers, y: unwritten(g.n * g.oh * g.ow * c), ...g }, ...summed(g.kh * g.kw) };
  },
  dwconv2d_grad_input: (d) => {
    const { ih: _ih, iw: _iw, ...g } = d.window({ sameChannels: true, limit: 40_000 });
    const c = g.co;
    const buffers = { gy: d.floats(g.n * g.oh * g.ow * c), wt: d.floats(g.kh * g.kw * c), gx: unwritten(g.n * g.h * g.w * c) };
    return { args: { ...buffers, ...g }, ...summed(g.kh * g.kw) };
  },
  dwconv2d_grad_weight: (d) => {
    const { ih: _ih, iw: _iw, ...g } = d.window({ sameChannels: true, limit: 40_000 });
    const c = g.co;
    const buffers = { x: d.floats(g.n * g.h * g.w * c), gy: d.floats(g.n * g.oh * g.ow * c), gw: unwritten(g.kh * g.kw * c) };
    return { args: { ...buffers, ...g }, ...summed(g.n * g.oh * g.ow) };
  },
  spike_dwconv2d: (d) => {
    const { ih: _ih, iw: _iw, ...any } = d.window({ sameChannels: true, limit: 40_000 });
    // Half of the calls are of large windows over wider rows, which go by tables.
    const large = () => {
      const [kh, kw, oh, ow, ph, pw] = [d.int(5, 7), d.int(5, 7), d.int(1, 20), d.int(6, 36), d.int(0, 4), d.int(0, 4)];
      const [h, w, c] = [Math.max(1, oh + kh - 1 - 2 * ph), Math.max(1, ow + kw - 1 - 2 * pw), d.pick(16, 17, 32, 45)];
      const sizes = { n: d.int(1, 3), h, w, ci: c, oh: h + 2 * ph - kh + 1, ow: w + 2 * pw - kw + 1, co: c };
      return { ...sizes, kh, kw, sh: 1, sw: 1, ph, pw, dh: 1, dw: 1 };
    };
    const g = d.bool() ? any : large();
    const c = g.co;
    const planes = d.pick(1, 1, 2, 3);
    const buffers = { x: d.spikes(g.n * g.h * g.w, planes, c), wt: d.floats(g.kh * g.kw * c), bias: d.bool() ? d.floats(c) : null };
    const args = { ...buffers, y: unwritten(g.n * g.oh * g.ow * c), ...g, planes, scale: d.real(1, 1, 0.25) };
    return { args, ...summed(g.kh * g.kw * 4 ** planes) };
  },
  spike_dwconv2d_grad_weight: (d) => {
    const { ih: _ih, iw: _iw, ...g } = d.window({ sameChannels: true, limit: 40_000 });
    const c = g.co;
    const planes = d.pick(1, 1, 2, 3);
    const buffers = { x: d.spikes(g.n * g.h * g.w, planes, c), gy: d.floats(g.n * g.oh * g.ow * c), gw: unwritten(g.kh * g.kw * c) };
    return { args: { ...buffers, ...g, planes, scale: d.real(1, 1, 0.25) }, ...summed(g.n * g.oh * g.ow * 4 ** planes) };
  },

  spike_conv2d: (d) => {
    // A third of the calls are matrix products: one pixel per image.
    const { ih: _ih, iw: _iw, ...image } = d.window();
    const point = { n: d.int(1, d.wide ? 3 : 40), h: 1, w: 1, oh: 1, ow: 1, kh: 1, kw: 1, sh: 1, sw: 1, ph: 0, pw: 0, dh: 1, dw: 1 };
    const g = d.int(0, 2) === 0 ? { ...point, ci: d.channels(), co: d.channels() } : image;
    const planes = d.pick(1, 1, 2, 3);
    const scale = d.real(1, 1, 0.25);
    const buffers = {
      x: d.spikes(g.n * g.h * g.w, planes, g.ci),
      wt: d.floats(g.kh * g.kw * g.ci * g.co, -1, 1),
      bias: d.bool() ? d.floats(g.co) : null,
      y: unwritten(g.n * g.oh * g.ow * g.co),
    };
    return { args: { ...buffers, ...g, planes, scale, terms: d.pick(0, 3) }, ...summed(g.kh * g.kw * g.ci * 4 ** planes) };
  },
  spike_conv2d_table: (d) => {
    const { args: convolution, ...rest } = cases.spike_conv2d(d);
    const { terms: _terms, ...args } = convolution;
    const block = { high: d.int(1, args.n * args.oh), wide: d.int(1, args.ow) };
    return { args: { ...args, ...block }, ...rest };
  },
  spike_conv2d_grad_weight: (d) => {
    const { ih: _ih, iw: _iw, ...window } = d.window();
    // More often than by chance: a last block of columns that is narrower than those before; and rows as long as a block's, below windows
    // of which hardly one row fits.
    const long = {
      h: d.int(1, 6),
      w: d.pick(61, 64, 65, 121, 128),
      ci: d.pick(3, 33),
      kh: 5,
      kw: d.pick(5, 9),
      sh: 1,
      sw: 1,
      dh: 1,
      dw: 1,
    };
    const [ph, pw] = [d.int(0, 2), d.int(0, 2)];
    const oh = long.h + 2 * ph - 4;
    const row = { ...long, n: 2, ph, pw, oh, ow: long.w + 2 * pw - (long.kw - 1), co: 4 };
    const g = d.int(0, 7) === 0 && oh > 0 ? row : { ...window, co: d.pick(window.co, 33, 40, 45, 100) };
    const planes = d.pick(1, 1, 2, 3);
    const scale = d.real(1, 1, 0.25);
    // Matrix units take one chunk.
    const terms = d.pick(0, 3);
    const chunks = terms ? 1 : d.int(1, g.n);
    const buffers = {
      x: d.spikes(g.n * g.h * g.w, planes, g.ci),
      gy: d.floats(g.n * g.oh * g.ow * g.co, -1, 1),
      gw: unwritten(chunks * g.kh * g.kw * g.ci * g.co),
    };
    return { args: { ...buffers, ...g, planes, scale, chunks, terms }, ...summed(g.n * g.oh * g.ow * 4 ** planes) };
  },
  spike_pack: (d) => {
    const [rows, c, planes, scale] = [dim(d), d.channels(), d.int(1, 4), d.real(1, 1, 0.25, 1 / 3)];
    const x = d.whole(rows * c, 0, 2 ** planes - 1).map((value) => Math.fround(value * scale));
    return { args: { x, y: new Uint32Array(rows * planes * words(c)).fill(0xaaaaaaaa), rows, c, planes, scale }, ...exact };
  },
  spike_unpack: (d) => {
    const [rows, c, planes] = [dim(d), d.channels(), d.int(1, 4)];
    return { args: { x: d.spikes(rows, planes, c), y: unwritten(rows * c), rows, c, planes, scale: d.real(1, 1, 0.25, -2) }, ...exact };
  },
  spike_and: (d) => {
    const n = elementCount(d);
    return { args: { a: d.u32(n), b: d.u32(n), y: new Uint32Array(n), n }, ...exact };
  },
  spike_and_rows: (d) => {
    const [outer, n, width] = [dim(d), dim(d), d.int(1, 9)];
    const args = { a: d.u32(outer * n * width), mask: d.u32(outer * width), y: new Uint32Array(outer * n * width), outer, n, words: width };
    return { args, ...exact };
  },
  spike_count_rows: (d) => {
    const [outer, n, c] = [dim(d), d.pick(1, 2, 9, 64, 300), d.channels()];
    return { args: { x: d.spikes(outer * n, 1, c), y: unwritten(outer * c), outer, n, c, scale: d.real(1, 0.25) }, ...exact };
  },
  spike_mask: (d) => {
    const [outer, n, c] = [dim(d), dim(d), d.channels()];
    const [gn, xn] = [d.pick(n, 1), d.pick(n, 1)];
    const buffers = { g: d.floats(outer * gn * c), x: d.spikes(outer * xn, 1, c), y: unwritten(outer * n * c) };
    return { args: { ...buffers, outer, n, gn, xn, c, scale: d.real(1, 0.25) }, ...exact };
  },
  spike_mask_reduce: (d) => {
    const [outer, n, c] = [dim(d), d.pick(1, 2, 9, 64), d.channels()];
    return { args: { g: d.floats(outer * n * c), x: d.spikes(outer * n, 1, c), y: unwritten(outer * c), outer, n, c }, ...summed(n) };
  },
  spike_stats: (d) => {
    const [rows, c, planes] = [dim(d), d.channels(), d.int(1, 4)];
    const chunks = Math.min(rows, d.pick(1, 2, 5));
    return { args: { x: d.spikes(rows, planes, c), partial: unwritten(2 * chunks), rows, c, planes, chunks }, ...exact };
  },
  spike_steps: (d) => {
    const [rows, width, planes] = [dim(d), d.int(1, 9), d.int(1, 4)];
    const steps = d.int(1, 2 ** planes - 1);
    const buffers = { x: d.spikes(rows, planes, 32 * width), y: new Uint32Array(rows * steps * width).fill(0xaaaaaaaa) };
    return { args: { ...buffers, rows, words: width, planes, steps }, ...exact };
  },
  spike_levels: (d) => {
    const [rows, width, planes] = [dim(d), d.int(1, 9), d.int(1, 4)];
    const steps = d.int(1, 2 ** planes - 1);
    const buffers = { x: d.u32(rows * steps * width), y: new Uint32Array(rows * planes * width).fill(0xaaaaaaaa) };
    return { args: { ...buffers, rows, words: width, planes, steps }, ...exact };
  },
  spike_matmul: (d) => {
    const [batch, m, k, n, steps] = [d.int(1, 3), d.pick(1, 2, 9), d.channels(), d.channels(), d.int(1, 4)];
    const buffers = { x: d.spikes(batch * m * steps, 1, k), w: d.floats(batch * k * n, -1, 1), y: unwritten(batch * m * n) };
    return { args: { ...buffers, batch, m, k, n, steps, scale: d.real(1, 0.25, 1 / 3) }, ...summed(k * steps) };
  },

  maxpool2d: (d) => {
    const g = pooled(d);
    const n = g.n * g.oh * g.ow * g.co;
    const index = d.bool() ? new Int32Array(n).fill(-7) : null;
    const nan = d.bool();
    return {
      args: { x: d.whole(g.n * g.h * g.w * g.co, -3, 3).map((value) => (value === -3 && nan ? NaN : value)), y: unwritten(n), index, ...g },
      ...exact,
    };
  },
  maxpool2d_grad: (d) => {
    const g = pooled(d);
    const n = g.n * g.oh * g.ow * g.co;
    const index = new Int32Array(n);
    referenceKernels.maxpool2d({ x: d.whole(g.n * g.h * g.w * g.co, -3, 3), y: unwritten(n), index, ...g });
    return { args: { gy: d.floats(n), index, gx: unwritten(g.n * g.h * g.w * g.co), ...g }, ...close };
  },
  spike_maxpool2d: (d) => {
    const g = pooled(d);
    const y = new Uint32Array(g.n * g.oh * g.ow * words(g.co)).fill(0x55555555);
    return { args: { x: d.spikes(g.n * g.h * g.w, 1, g.co), y, ...g }, ...exact };
  },
  spike_maxpool2d_grad: (d) => {
    const g = pooled(d);
    const buffers = {
      x: d.spikes(g.n * g.h * g.w, 1, g.co),
      gy: d.floats(g.n * g.oh * g.ow * g.co),
      gx: unwritten(g.n * g.h * g.w * g.co),
    };
    return { args: { ...buffers, ...g }, ...close };
  },
  avgpool2d: (d) => {
    const g = pooled(d);
    return { args: { x: d.floats(g.n * g.h * g.w * g.co), y: unwritten(g.n * g.oh * g.ow * g.co), ...g, countPad: d.flag() }, ...close };
  },
  avgpool2d_grad: (d) => {
    const g = pooled(d);
    return { args: { gy: d.floats(g.n * g.oh * g.ow * g.co), gx: unwritten(g.n * g.h * g.w * g.co), ...g, countPad: d.flag() }, ...close };
  },
  adaptive_avgpool2d: (d) => {
    const [n, h, w, c, oh, ow] = [d.int(1, 3), d.int(1, 9), d.int(1, 9), d.channels(), d.int(1, 7), d.int(1, 7)];
    return { args: { x: d.floats(n * h * w * c), y: unwritten(n * oh * ow * c), n, h, w, c, oh, ow }, ...close };
  },
  adaptive_avgpool2d_grad: (d) => {
    const [n, h, w, c, oh, ow] = [d.int(1, 3), d.int(1, 9), d.int(1, 9), d.channels(), d.int(1, 7), d.int(1, 7)];
    return { args: { gy: d.floats(n * oh * ow * c), gx: unwritten(n * h * w * c), n, h, w, c, oh, ow }, ...close };
  },

  channel_stats: (d) => {
    const [rows, c] = [d.pick(2, 5, 33, 200), d.channels()];
    const chunks = Math.min(rows, d.pick(1, 2, 5));
    return { args: { x: channelled(d, rows, c), partial: unwritten(2 * chunks * c), rows, c, chunks }, rtol: 1e-5, atol: 1e-5 };
  },
  bn_coefficients: (d) => {
    const [rows, c] = [d.pick(2, 5, 33, 200), d.channels()];
    const chunks = Math.min(rows, d.pick(1, 2, 5));
    const partial = unwritten(2 * chunks * c);
    referenceKernels.channel_stats({ x: channelled(d, rows, c), partial, rows, c, chunks });
    const buffers = {
      partial: partial.map(Math.fround),
      gamma: d.bool() ? d.floats(c) : null,
      beta: d.bool() ? d.floats(c) : null,
      runningMean: d.bool() ? d.floats(c) : null,
      runningVar: d.bool() ? d.floats(c, 0.5, 2) : null,
      mean: unwritten(c),
      rstd: unwritten(c),
      scale: unwritten(c),
      shift: unwritten(c),
    };
    return {
      args: { ...buffers, chunks, c, rows, copies: d.pick(1, 4), eps: d.real(1e-5, 1e-3), momentum: d.real(0.1, 1) },
      rtol: 2e-6,
      atol: 4e-6,
    };
  },
  bn_grad_sums: (d) => {
    const [rows, c] = [d.pick(2, 5, 33, 200), d.channels()];
    const chunks = Math.min(rows, d.pick(1, 2, 5));
    const buffers = {
      x: d.floats(rows * c),
      gy: d.floats(rows * c),
      mean: d.floats(c),
      rstd: d.floats(c, 0.5, 2),
      partial: unwritten(2 * chunks * c),
    };
    return { args: { ...buffers, rows, c, chunks }, ...summed(20 * rows) };
  },
  bn_grad_coefficients: (d) => {
    const [rows, c, chunks] = [d.pick(2, 5, 33, 200), d.channels(), d.pick(1, 2, 5)];
    const buffers = {
      partial: d.floats(2 * chunks * c, -5, 5),
      gamma: d.bool() ? d.floats(c) : null,
      mean: d.floats(c),
      rstd: d.floats(c, 0.5, 2),
      ggamma: d.bool() ? unwritten(c) : null,
      gbeta: d.bool() ? unwritten(c) : null,
      a: unwritten(c),
      b: unwritten(c),
      d: unwritten(c),
    };
    return { args: { ...buffers, chunks, c, rows, training: d.flag() }, rtol: 4e-6, atol: 1e-5 };
  },
  layernorm: (d) => {
    const [rows, c] = [dim(d), d.channels()];
    const buffers = { x: d.floats(rows * c), gamma: d.bool() ? d.floats(c) : null, beta: d.bool() ? d.floats(c) : null };
    const outputs = { y: unwritten(rows * c), mean: unwritten(rows), rstd: unwritten(rows) };
    // With one channel the deviation is 0 and rstd = 1 / sqrt(eps) amplifies nothing but zeros.
    return { args: { ...buffers, ...outputs, rows, c, eps: d.real(1e-5, 1e-3), centre: d.flag() }, rtol: 1e-5, atol: 1e-5 };
  },
  layernorm_grad: (d) => {
    const [rows, c] = [dim(d), d.channels()];
    const chunks = Math.min(rows, d.pick(1, 2, 5));
    const x = d.floats(rows * c);
    const mean = unwritten(rows);
    const rstd = unwritten(rows);
    const centre = d.flag();
    referenceKernels.layernorm({ x, gamma: null, beta: null, y: unwritten(rows * c), mean, rstd, rows, c, eps: 0.01, centre });
    const buffers = {
      x,
      gamma: d.bool() ? d.floats(c) : null,
      gy: d.floats(rows * c),
      mean: mean.map(Math.fround),
      rstd: rstd.map(Math.fround),
      gx: unwritten(rows * c),
      partial: d.bool() ? unwritten(2 * chunks * c) : null,
    };
    return { args: { ...buffers, rows, c, chunks, centre }, rtol: 1e-5, atol: 2e-5 };
  },
  groupnorm: (d) => {
    const { x, ...sizes } = grouping(d);
    const { outer, c, groups } = sizes;
    const weights = { gamma: d.bool() ? d.floats(c) : null, beta: d.bool() ? d.floats(c) : null };
    const statistics = { mean: unwritten(outer * groups), rstd: unwritten(outer * groups), coefficients: unwritten(2 * outer * c) };
    return { args: { x, ...weights, y: unwritten(x.length), ...statistics, ...sizes, eps: 0.01 }, rtol: 2e-5, atol: 1e-4 };
  },
  groupnorm_grad: (d) => {
    const { x, ...sizes } = grouping(d);
    const { outer, c, groups } = sizes;
    const [mean, rstd, coefficients] = [unwritten(outer * groups), unwritten(outer * groups), unwritten(2 * outer * c)];
    referenceKernels.groupnorm({ x, gamma: null, beta: null, y: unwritten(x.length), mean, rstd, coefficients, ...sizes, eps: 0.01 });
    const statistics = { mean: mean.map(Math.fround), rstd: rstd.map(Math.fround) };
    const outputs = { gx: unwritten(x.length), partial: unwritten(2 * outer * c) };
    return {
      args: { x, gamma: d.bool() ? d.floats(c) : null, gy: d.floats(x.length), ...statistics, ...outputs, ...sizes },
      rtol: 2e-5,
      atol: 2e-4,
    };
  },
  softmax: (d) => {
    const [rows, c] = [dim(d), d.channels()];
    return {
      args: {
        x: d.floatsWith(rows * c, -5, 5, d.pick([60, -90], [60, -90, -Infinity], [NaN])),
        y: unwritten(rows * c),
        rows,
        c,
        log: d.flag(),
      },
      rtol: 4e-6,
      atol: 1e-6,
    };
  },
  softmax_grad: (d) => {
    const [rows, c, log] = [dim(d), d.channels(), d.flag()];
    const y = unwritten(rows * c);
    referenceKernels.softmax({ x: d.floats(rows * c, -3, 3), y, rows, c, log });
    return { args: { y: y.map(Math.fround), gy: d.floats(rows * c), gx: unwritten(rows * c), rows, c, log }, rtol: 1e-5, atol: 4e-6 };
  },

  random_uniform: (d) => {
    const n = elementCount(d);
    const [lo, hi] = d.pick([0, 1], [-1, 1], [-0.25, 0.75]);
    return { args: { y: unwritten(n), n, ...key(d), lo, hi }, ...exact };
  },
  random_normal: (d) => {
    const n = elementCount(d);
    const [lo, hi] = d.pick([-Infinity, Infinity], [-2, 2], [-1, 3]);
    const scale = d.real(1, 0.25);
    return { args: { y: unwritten(n), n, ...key(d), mean: d.real(0, 0.5), std: scale, lo, hi }, rtol: 4e-6, atol: 4e-6 };
  },
  dropout: (d) => {
    const n = elementCount(d);
    const at = key(d);
    // p equal to a drawn u too, so that the comparison itself is seen.
    const block = new Uint32Array(4);
    philoxBlock(at.offset, at.key0, at.key1, block);
    const p = d.real(0, 0.1, 0.5, 0.9, (block[0]! >>> 8) / 2 ** 24);
    return { args: { x: d.floats(n, 0.5, 2), y: unwritten(n), n, ...at, p }, rtol: 1e-6, atol: 0 };
  },

  spike_bernoulli: (d) => {
    const [steps, rows, c, at] = [d.int(1, 4), d.wide ? d.int(1, 2) : d.pick(1, 2, 5, 9), d.channels(), key(d)];
    // A drawn u among the probabilities, so that the comparison itself is seen.
    const block = new Uint32Array(4);
    philoxBlock(at.offset, at.key0, at.key1, block);
    const x = d.floatsWith(rows * c, -0.1, 1.1, [0, 1, NaN]);
    x[0] = (block[0]! >>> 8) / 2 ** 24;
    return { args: { x, y: new Uint32Array(steps * rows * words(c)).fill(0xaaaaaaaa), steps, rows, c, ...at }, ...exact };
  },

  adamw: (d) => {
    const n = elementCount(d);
    const k = d.pick(1, 2, 100);
    const [beta1, beta2] = [d.real(0.9, 0.5), d.real(0.999, 0.98)];
    const [bias1, bias2] = [Math.fround(1 - beta1 ** k), Math.fround(1 - beta2 ** k)];
    const buffers = { p: d.floats(n), g: d.floats(n), m: d.floats(n, -0.1, 0.1), v: d.floats(n, 0, 0.1) };
    const rates = { lr: d.real(1e-3, 0.1), eps: d.real(1e-8, 1e-3), weightDecay: d.real(0, 0.05), gradScale: d.real(1, 1 / 3) };
    return { args: { ...buffers, n, ...rates, beta1, beta2, bias1, bias2 }, rtol: 1e-5, atol: 2e-6 };
  },
  sgd: (d) => {
    const n = elementCount(d);
    const buffers = { p: d.floats(n), g: d.floats(n), buf: d.bool() ? d.floats(n) : null };
    const momentum = buffers.buf ? d.real(0.9, 0.5) : 0;
    const rates = { lr: d.real(1e-3, 0.1), momentum, dampening: d.real(0, 0.1), weightDecay: d.real(0, 0.05), gradScale: d.real(1, 1 / 3) };
    const first = d.flag();
    if (first) buffers.buf?.fill(NaN); // what an unused buffer holds must not matter
    return { args: { ...buffers, n, ...rates, nesterov: d.flag(), first }, ...close };
  },

  ...neuronCases,
};

export { cases };
