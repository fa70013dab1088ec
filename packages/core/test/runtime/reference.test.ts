// The oracle's own tests: its gradient kernels against central differences of its forward kernels, or, where a kernel is linear,
// against the adjoint identity <A x, g> = <x, A' g>; spike kernels against dense ones on the same values; and tables by hand.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { UNARY } from "../../src/runtime/kernel-table.ts";
import { referenceKernels as k } from "../../src/runtime/reference/index.ts";
import { Draw, unwritten } from "./kernels/draw.ts";

function property(check: (d: Draw) => void, numRuns = 30): void {
  fc.assert(
    fc.property(fc.gen(), (generate) => check(new Draw(generate))),
    { seed: 7, numRuns },
  );
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

function expectNear(found: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(found.length).toBe(expected.length);
  for (let i = 0; i < expected.length; i++)
    expect(Math.abs(found[i]! - expected[i]!), `element ${i}`).toBeLessThanOrEqual(tolerance * (1 + Math.abs(expected[i]!)));
}

/** Gradient of `loss` for x by central differences. */
function slopes(x: Float64Array, loss: () => number): Float64Array {
  const step = 1e-5;
  return x.map((value, i) => {
    x[i] = value + step;
    const up = loss();
    x[i] = value - step;
    const down = loss();
    x[i] = value;
    return (up - down) / (2 * step);
  });
}

describe("reference gradients", () => {
  it.each(UNARY)("unary_grad of %s", (name) => {
    const op = UNARY.indexOf(name);
    const domain = ["sqrt", "rsqrt", "log", "reciprocal", "powScalar"].includes(name) ? [0.3, 3] : [-3, 3];
    // Away from the corners of clamp, relu and the steps of round: corners lie at multiples of 1/2.
    const x = new Float64Array(50).map((_, i) => domain[0]! + ((domain[1]! - domain[0]!) * (i + 0.5)) / 50.7);
    const [n, p0, p1] = [x.length, name === "clamp" ? -0.5 : 1.7, 1];
    const gy = x.map((_, i) => Math.cos(i));
    const y = unwritten(n);
    const gx = unwritten(n);
    k.unary({ x, y, n, op, p0, p1 });
    k.unary_grad({ x, y, gy, gx, n, op, p0, p1 });
    const value = unwritten(n);
    const expected = slopes(x, () => {
      k.unary({ x, y: value, n, op, p0, p1 });
      return dot(value, gy);
    });
    expectNear(gx, expected, 1e-5);
  });

  it("convolution: the weight gradient, and the input gradient as a convolution of the dilated gradient", () =>
    property((d) => {
      const { ih: _ih, iw: _iw, ...g } = d.window({ limit: 3000 });
      const plain = { ih: 1, iw: 1, xs: g.ci, xo: 0, ys: g.co, yo: 0 };
      const x = d.floats(g.n * g.h * g.w * g.ci);
      const wt = d.floats(g.kh * g.kw * g.ci * g.co);
      const gy = d.floats(g.n * g.oh * g.ow * g.co);
      const y = unwritten(gy.length);
      k.conv2d({ x, wt, bias: null, y, ...g, ...plain, terms: 0 });
      const gw = unwritten(wt.length);
      k.conv2d_grad_weight({ x, gy, gw, ...g, ...plain });
      expectNear([dot(gw, wt)], [dot(y, gy)], 1e-9);

      const flipped = unwritten(wt.length); // [kh, kw, co, ci], both window axes reversed
      for (let tap = 0; tap < g.kh * g.kw; tap++)
        for (let i = 0; i < g.ci; i++)
          for (let o = 0; o < g.co; o++) flipped[((g.kh * g.kw - 1 - tap) * g.co + o) * g.ci + i] = wt[(tap * g.ci + i) * g.co + o]!;
      const back = {
        h: g.oh,
        w: g.ow,
        ci: g.co,
        oh: g.h,
        ow: g.w,
        co: g.ci,
        sh: 1,
        sw: 1,
        ih: g.sh,
        iw: g.sw,
        xs: g.co,
        xo: 0,
        ys: g.ci,
        yo: 0,
      };
      const pads = { ph: g.dh * (g.kh - 1) - g.ph, pw: g.dw * (g.kw - 1) - g.pw };
      const gx = unwritten(x.length);
      k.conv2d({ x: gy, wt: flipped, bias: null, y: gx, ...g, ...back, ...pads, terms: 0 });
      expectNear([dot(gx, x)], [dot(y, gy)], 1e-9);
    }));

  it("depth-wise convolution and average pooling are adjoint to their gradients", () =>
    property((d) => {
      const { ih: _ih, iw: _iw, ...g } = d.window({ sameChannels: true, covered: true, limit: 3000 });
      const c = g.co;
      const x = d.floats(g.n * g.h * g.w * c);
      const gy = d.floats(g.n * g.oh * g.ow * c);
      const [y, gx] = [unwritten(gy.length), unwritten(x.length)];
      const wt = d.floats(g.kh * g.kw * c);
      const gw = unwritten(wt.length);
      k.dwconv2d({ x, wt, bias: null, y, ...g });
      k.dwconv2d_grad_weight({ x, gy, gw, ...g });
      k.dwconv2d_grad_input({ gy, wt, gx, ...g });
      expectNear([dot(gw, wt), dot(gx, x)], [dot(y, gy), dot(y, gy)], 1e-9);

      const countPad = d.flag();
      k.avgpool2d({ x, y, ...g, countPad });
      k.avgpool2d_grad({ gy, gx, ...g, countPad });
      expectNear([dot(gx, x)], [dot(y, gy)], 1e-9);

      k.adaptive_avgpool2d({ x, y, ...g, c });
      k.adaptive_avgpool2d_grad({ gy, gx, ...g, c });
      expectNear([dot(gx, x)], [dot(y, gy)], 1e-9);
    }));

  it("selection is adjoint to indexed addition", () =>
    property((d) => {
      const [outer, xn, n, inner] = [d.int(1, 3), d.int(1, 6), d.int(1, 6), d.int(1, 4)];
      const sizes = { outer, xn, n, inner };
      const x = d.floats(outer * xn * inner);
      const gy = d.floats(outer * n * inner);
      const [y, gx] = [unwritten(gy.length), unwritten(x.length)];
      const rows = d.ints(n, 0, xn - 1);
      k.index_select({ x, index: rows, y, type: 0, ...sizes });
      k.index_add({ gy, index: rows, gx, ...sizes });
      expectNear([dot(gx, x)], [dot(y, gy)], 1e-12);
      const index = d.ints(gy.length, 0, xn - 1);
      gx.fill(0);
      k.gather({ x, index, y, ...sizes });
      k.scatter_add({ gy, index, gx, ...sizes });
      expectNear([dot(gx, x)], [dot(y, gy)], 1e-12);
    }));

  it("maximum pooling", () =>
    property((d) => {
      const { ih: _ih, iw: _iw, ...g } = d.window({ sameChannels: true, covered: true, limit: 400 });
      const x = Float64Array.from(d.floats(g.n * g.h * g.w * g.co), (v, i) => v + i * 1e-3); // no ties
      const gy = d.floats(g.n * g.oh * g.ow * g.co);
      const [y, gx, index] = [unwritten(gy.length), unwritten(x.length), new Int32Array(gy.length)];
      k.maxpool2d({ x, y, index, ...g });
      k.maxpool2d_grad({ gy, index, gx, ...g });
      const value = unwritten(gy.length);
      const expected = slopes(x, () => {
        k.maxpool2d({ x, y: value, index: null, ...g });
        return dot(value, gy);
      });
      expectNear(gx, expected, 1e-6);
    }, 10));

  it.each([0, 1])("softmax, log = %d", (log) =>
    property((d) => {
      const [rows, c] = [d.int(1, 3), d.int(1, 7)];
      const x = d.floats(rows * c);
      const gy = d.floats(rows * c);
      const [y, gx] = [unwritten(x.length), unwritten(x.length)];
      k.softmax({ x, y, rows, c, log });
      k.softmax_grad({ y, gy, gx, rows, c, log });
      const value = unwritten(x.length);
      const expected = slopes(x, () => {
        k.softmax({ x, y: value, rows, c, log });
        return dot(value, gy);
      });
      expectNear(gx, expected, 1e-7);
    }),
  );

  it("layer normalisation", () =>
    property((d) => {
      const [rows, c] = [d.int(1, 4), d.int(2, 7)];
      const [x, gy, gamma, beta] = [d.floats(rows * c), d.floats(rows * c), d.floats(c), d.floats(c)];
      const [y, gx, mean, rstd] = [unwritten(x.length), unwritten(x.length), unwritten(rows), unwritten(rows)];
      const partial = unwritten(2 * c);
      const forward = () => k.layernorm({ x, gamma, beta, y, mean, rstd, rows, c, eps: 0.01, centre: 1 });
      forward();
      k.layernorm_grad({ x, gamma, gy, mean, rstd, gx, partial, rows, c, chunks: 1, centre: 1 });
      const loss = () => {
        forward();
        return dot(y, gy);
      };
      expectNear(gx, slopes(x, loss), 1e-6);
      expectNear(partial.subarray(0, c), slopes(gamma, loss), 1e-6);
      expectNear(partial.subarray(c), slopes(beta, loss), 1e-6);
    }));

  it("batch normalisation, chunk by chunk", () =>
    property((d) => {
      const [rows, c, chunks] = [d.int(3, 9), d.int(1, 4), d.int(1, 3)];
      const [x, gy, gamma, beta] = [d.floats(rows * c), d.floats(rows * c), d.floats(c), d.floats(c)];
      const [y, gx, mean, rstd] = [unwritten(x.length), unwritten(x.length), unwritten(c), unwritten(c)];
      const [partial, scale, shift] = [unwritten(2 * chunks * c), unwritten(c), unwritten(c)];
      const [ggamma, gbeta, a, b, e] = [unwritten(c), unwritten(c), unwritten(c), unwritten(c), unwritten(c)];
      const forward = () => {
        k.channel_stats({ x, partial, rows, c, chunks });
        const state = { runningMean: null, runningVar: null, mean, rstd, scale, shift };
        k.bn_coefficients({ partial, chunks, c, rows, copies: 1, gamma, beta, eps: 0.01, momentum: 0.1, ...state });
        k.affine({ x, scale, shift, y, rows, c });
      };
      forward();
      k.bn_grad_sums({ x, gy, mean, rstd, partial, rows, c, chunks });
      k.bn_grad_coefficients({ partial, chunks, c, rows, gamma, mean, rstd, training: 1, ggamma, gbeta, a, b, d: e });
      k.affine2({ u: gy, x, a, b, d: e, y: gx, rows, c });
      const loss = () => {
        forward();
        return dot(y, gy);
      };
      expectNear(gx, slopes(x, loss), 1e-5);
      expectNear(ggamma, slopes(gamma, loss), 1e-6);
      expectNear(gbeta, slopes(beta, loss), 1e-6);
    }));
});

describe("reference spikes", () => {
  it("are the dense kernels on the same values", () =>
    property((d) => {
      const { ih: _ih, iw: _iw, ...g } = d.window({ limit: 3000 });
      const [planes, scale] = [d.int(1, 3), d.real(1, 0.25)];
      const rows = g.n * g.h * g.w;
      const x = d.spikes(rows, planes, g.ci);
      const dense = unwritten(rows * g.ci);
      k.spike_unpack({ x, y: dense, rows, c: g.ci, planes, scale });
      const packed = new Uint32Array(x.length).fill(0xffffffff);
      k.spike_pack({ x: dense, y: packed, rows, c: g.ci, planes, scale });
      expect(packed).toEqual(x);

      const plain = { ih: 1, iw: 1, xs: g.ci, xo: 0, ys: g.co, yo: 0 };
      const [wt, bias] = [d.floats(g.kh * g.kw * g.ci * g.co), d.floats(g.co)];
      const gy = d.floats(g.n * g.oh * g.ow * g.co);
      const results = [unwritten(gy.length), unwritten(gy.length), unwritten(wt.length), unwritten(wt.length)] as const;
      k.spike_conv2d({ x, wt, bias, y: results[0], ...g, planes, scale, terms: 0 });
      k.conv2d({ x: dense, wt, bias, y: results[1], ...g, ...plain, terms: 0 });
      expectNear(results[0], results[1], 1e-12);
      k.spike_conv2d_grad_weight({ x, gy, gw: results[2], ...g, planes, scale, chunks: 1, terms: 0 });
      k.conv2d_grad_weight({ x: dense, gy, gw: results[3], ...g, ...plain });
      expectNear(results[2], results[3], 1e-12);

      const partial = unwritten(2);
      k.spike_stats({ x, partial, rows, c: g.ci, planes, chunks: 1 });
      expectNear(partial, [dense.reduce((s, v) => s + v, 0) / scale, dense.filter((v) => v !== 0).length], 1e-12);
    }));

  it("pool as their values do, and send the gradient to the first spike", () => {
    const g = { n: 1, h: 3, w: 3, ci: 2, oh: 2, ow: 2, co: 2, kh: 2, kw: 2, sh: 2, sw: 2, ph: 1, pw: 1, dh: 1, dw: 1 };
    const x = Uint32Array.of(0, 1, 0, 2, 3, 0, 0, 0, 1); // channel bits of 3 x 3 pixels
    const y = new Uint32Array(4);
    k.spike_maxpool2d({ x, y, ...g });
    expect([...y]).toEqual([0, 1, 2, 3]); // windows {0}, {1, 2}, {3, 6}, {4, 5, 7, 8}
    const gx = unwritten(18);
    k.spike_maxpool2d_grad({ x, gy: Float64Array.of(1, 2, 3, 4, 5, 6, 7, 8), gx, ...g });
    // Channel 0: window 0 and 2 are silent there and give to their first pixels (0 and 3); channel 1: windows 0 and 1 (0 and 1).
    expect([...gx]).toEqual([1, 2, 3, 4, 0, 0, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
  });
});

describe("reference tables", () => {
  it("casts saturate, truncate and send NaN to 0", () => {
    const x = Float64Array.of(1.9, -1.9, 300, -5, NaN, Infinity, -Infinity, 2 ** 31);
    const [i32, u8, u32] = [new Int32Array(8), new Uint8Array(8), new Uint32Array(8)];
    k.cast({ x, y: i32, n: 8, from: 0, to: 1 });
    k.cast({ x, y: u8, n: 8, from: 0, to: 2 });
    k.cast({ x, y: u32, n: 8, from: 0, to: 3 });
    expect([...i32]).toEqual([1, -1, 300, -5, 0, 2147483647, -2147483648, 2147483647]);
    expect([...u8]).toEqual([1, 0, 255, 0, 0, 255, 0, 255]);
    expect([...u32]).toEqual([1, 0, 300, 0, 0, 4294967295, 0, 2147483648]);
  });

  it("reductions work by chunks, ties go to the first, sums run both ways", () => {
    const x = Float64Array.of(3, 1, 3, -2, 5);
    const y = unwritten(2);
    k.reduce({ x, y, outer: 1, n: 5, inner: 1, chunks: 2, op: 0, scale: 0.5 });
    expect([...y]).toEqual([2, 3]); // {3, 1} and {3, -2, 5}
    k.reduce({ x, y, outer: 1, n: 5, inner: 1, chunks: 2, op: 2, scale: 1 });
    expect([...y]).toEqual([1, -2]);
    const first = new Int32Array(1);
    k.argreduce({ x: Float64Array.of(3, 1, 3), y: first, outer: 1, n: 3, inner: 1, op: 1 });
    expect(first[0]).toBe(0);
    const sums = unwritten(5);
    k.cumsum({ x, y: sums, outer: 1, n: 5, inner: 1, reverse: 1 });
    expect([...sums]).toEqual([10, 7, 6, 3, 5]);
  });

  it("running statistics take the unbiased variance", () => {
    const [rows, c] = [4, 1];
    const partial = unwritten(2);
    k.channel_stats({ x: Float64Array.of(1, 2, 3, 6), partial, rows, c, chunks: 1 });
    const [runningMean, runningVar] = [Float64Array.of(1), Float64Array.of(1)];
    const outputs = { mean: unwritten(1), rstd: unwritten(1), scale: unwritten(1), shift: unwritten(1) };
    const settings = { eps: 0, momentum: 0.1, copies: 1 };
    k.bn_coefficients({ partial, chunks: 1, c, rows, gamma: null, beta: null, ...settings, runningMean, runningVar, ...outputs });
    expectNear([outputs.mean[0]!, outputs.rstd[0]!], [3, 1 / Math.sqrt(3.5)], 1e-14);
    expectNear([runningMean[0]!, runningVar[0]!], [1.2, 1 + 0.1 * (14 / 3 - 1)], 1e-14);
  });

  it("optimiser steps by hand", () => {
    const sgd = { n: 1, lr: 0.1, momentum: 0.9, dampening: 0, weightDecay: 0.5, nesterov: 0, first: 0, gradScale: 2 };
    const [p, buf] = [Float64Array.of(1), Float64Array.of(1)];
    k.sgd({ p, g: Float64Array.of(3), buf, ...sgd }); // g' = 6.5, buf = 0.9 + 6.5
    expectNear([p[0]!, buf[0]!], [1 - 0.74, 7.4], 1e-14);
    const [q, m, v] = [Float64Array.of(1), Float64Array.of(0), Float64Array.of(0)];
    const adam = { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 0, weightDecay: 0.5, bias1: 1 - 0.9, bias2: 1 - 0.99, gradScale: 1 };
    k.adamw({ p: q, g: Float64Array.of(-4), m, v, n: 1, ...adam });
    expectNear([q[0]!, m[0]!, v[0]!], [0.95 + 0.1, -0.4, 0.16], 1e-12); // the first step is lr * sign(g)
  });

  it("random kernels read the sequence that scalar draws read", () => {
    const y = unwritten(6);
    k.random_uniform({ y, n: 6, key0: 3, key1: 4, offset: 2 ** 32 - 1, lo: -1, hi: 1 });
    const again = unwritten(2);
    k.random_uniform({ y: again, n: 2, key0: 3, key1: 4, offset: 2 ** 32, lo: -1, hi: 1 });
    expect([...y.subarray(4)]).toEqual([...again]);
    k.random_normal({ y, n: 6, key0: 3, key1: 4, offset: 0, mean: 0, std: 1, lo: -0.5, hi: 0.5 });
    expect(y.every((value) => Math.abs(value) <= 0.5)).toBe(true);
    const x = new Float64Array(1000).fill(1);
    const kept = unwritten(1000);
    k.dropout({ x, y: kept, n: 1000, key0: 3, key1: 4, offset: 0, p: 0.25 });
    expect(new Set(kept)).toEqual(new Set([0, 4 / 3]));
    expect(Math.abs(kept.filter((value) => value > 0).length - 750)).toBeLessThan(60);
  });
});
