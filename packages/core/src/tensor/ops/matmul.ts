/**
 * Matrix products. With a spike tensor on the left and a matrix on the right a product is a sum of the matrix's rows, one for
 * each spike; everything else is a dense product.
 */
import { checkOptions } from "../../runtime/check.ts";
import { device } from "../../runtime/engine.ts";
import { productUnits } from "../../runtime/kernel-table.ts";
import { denseTerms } from "../../runtime/tiles.ts";
import { broadcastShape, type Shape, show, sizeOf, wrong } from "../shape.ts";
import { apply, type OpDefinition } from "../tape.ts";
import { empty, expectTensor, type Tensor } from "../tensor.ts";
import { dense, expectFloat, run, spikeWeightGradient, tilesFor } from "./common.ts";
import { expand, once, transpose } from "./layout.ts";
import { unbroadcast } from "./reduce.ts";
import { spikeProduct } from "./spike-product.ts";
import { inSteps, stepsMatmul, stepsProduct, withoutSteps } from "./steps.ts";
import type { Window } from "./window.ts";

interface Gemm {
  batch: number;
  m: number;
  n: number;
  k: number;
  /** Elements from one batch entry of the operand to the next (0: the same for all). */
  sa: number;
  sb: number;
  ta: boolean;
  tb: boolean;
}

function gemm(a: Tensor, b: Tensor, shape: Shape, { batch, m, n, k, sa, sb, ta, tb }: Gemm, bias: Tensor | null = null): Tensor {
  const c = empty(shape);
  const units = productUnits(batch, m, n);
  if (c.size)
    run(
      "gemm",
      {
        a: a.storage,
        b: b.storage,
        c: c.storage,
        bias: bias ? bias.storage : null,
        batch,
        m,
        n,
        k,
        sa,
        sb,
        sc: m * n,
        ta: ta ? 1 : 0,
        tb: tb ? 1 : 0,
        alpha: 1,
        accumulate: 0,
        terms: denseTerms(device().isa, m, k, n),
      },
      tilesFor(units, (batch * m * n * k) / units / 8),
    );
  return c;
}

/** A spike matrix product as the kernels see it: a 1 x 1 convolution over `rows` images of one pixel. */
function onePixel(rows: number, ci: number, co: number): Window {
  return { n: rows, h: 1, w: 1, ci, oh: 1, ow: 1, co, kh: 1, kw: 1, sh: 1, sw: 1, ph: 0, pw: 0, dh: 1, dw: 1 };
}

/** x [.., k] times w ([k, n], or [n, k] when `tb`) plus bias [n], for f32 or spikes x. */
function project(op: string, x: Tensor, w: Tensor, tb: boolean, bias: Tensor | null): Tensor {
  const k = x.shape[x.rank - 1] as number;
  const n = w.shape[tb ? 0 : 1] as number;
  const rows = sizeOf(x.shape.slice(0, -1));
  const shape = [...x.shape.slice(0, -1), n];
  if (x.spikes && k > 0) {
    const y = empty(shape);
    const wt = tb ? transpose(w) : w;
    const g = onePixel(rows, k, n);
    if (y.size && inSteps(x)) return stepsProduct(x, wt, bias, y, g, (step) => project(op, step, wt, false, null));
    if (y.size === 0 || spikeProduct(x, wt, bias, y, g)) return y;
    y.dispose();
  }
  return gemm(dense(op, x), w, shape, { batch: 1, m: rows, n, k, sa: 0, sb: 0, ta: false, tb }, bias);
}

/** Gradient of w in `project`: sum over rows of x times g. */
function projectGrad(given: Tensor, g: Tensor, tb: boolean): Tensor {
  const x = withoutSteps(given);
  const k = x.shape[x.rank - 1] as number;
  const n = g.shape[g.rank - 1] as number;
  const rows = sizeOf(x.shape.slice(0, -1));
  const sums = x.spikes ? spikeWeightGradient(x, g, [k, n], onePixel(rows, k, n)) : null;
  if (!sums) {
    const values = dense("matmul", x);
    const [left, right, shape] = tb ? [g, values, [n, k]] : [values, g, [k, n]];
    return gemm(left, right, shape, { batch: 1, m: shape[0] as number, n: shape[1] as number, k: rows, sa: 0, sb: 0, ta: true, tb: false });
  }
  return tb ? transpose(sums) : sums;
}

/** An operand of a batched product: its values for the batch axes `lead`, and the step from one matrix to the next. */
function batched(op: string, x: Tensor, lead: Shape): { values: Tensor; step: number } {
  const values = dense(op, x);
  const matrix = x.shape.slice(-2);
  const own = sizeOf(x.shape.slice(0, -2));
  if (own === 1) return { values, step: 0 };
  if (own === sizeOf(lead)) return { values, step: sizeOf(matrix) };
  return { values: expand(values, [...lead, ...matrix]), step: sizeOf(matrix) };
}

interface MatmulSettings {
  ta: boolean;
  tb: boolean;
  /** Batch axes of the result. */
  lead: Shape;
  m: number;
  n: number;
  k: number;
  a: Shape;
  b: Shape;
}

const MATMUL: OpDefinition<MatmulSettings> = {
  name: "matmul",
  forward(ctx, [a, b], { ta, tb, lead, m, n, k }) {
    const [left, right] = [a as Tensor, b as Tensor];
    ctx.save(left, right);
    if (right.rank === 2 && !ta && !inSteps(right)) return project("matmul", left, dense("matmul", right), tb, null);
    const added = stepsMatmul(left, right, { ta, tb, lead, m, n, k });
    if (added) return added;
    const { values: x, step: sa } = batched("matmul", left, lead);
    const { values: y, step: sb } = batched("matmul", right, lead);
    return gemm(x, y, [...lead, m, n], { batch: sizeOf(lead), m, n, k, sa, sb, ta, tb });
  },
  backward(ctx, [g], { ta, tb, a, b }) {
    const [left, right] = ctx.saved as [Tensor, Tensor];
    const gy = g as Tensor;
    const gradA = () => (ta ? matmul(right, gy, { transposeA: tb, transposeB: true }) : matmul(gy, right, { transposeB: !tb }));
    const gradB = () => {
      if (b.length === 2 && !ta) return projectGrad(left, gy, tb);
      return tb ? matmul(gy, left, { transposeA: true, transposeB: ta }) : matmul(left, gy, { transposeA: !ta });
    };
    return [ctx.needs[0] ? unbroadcast(gradA(), a) : null, ctx.needs[1] ? unbroadcast(gradB(), b) : null];
  },
};

export interface MatmulOptions {
  /** Take the left matrices as [k, m]. */
  transposeA?: boolean;
  /** Take the right matrices as [n, k]. */
  transposeB?: boolean;
}

/**
 * Product of matrices, [.., m, k] x [.., k, n] = [.., m, n]; batch axes broadcast. f32 or spikes; spikes on the left of one
 * matrix [k, n] are added up without a multiplication.
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  checkOptions("matmul", options, ["transposeA", "transposeB"]);
  const { transposeA = false, transposeB = false } = options;
  expectFloat("matmul", "the left argument", a);
  expectFloat("matmul", "the right argument", b);
  if (a.rank < 2) wrong("matmul", "the left argument", "of rank 2 or more", show(a.shape));
  if (b.rank < 2) wrong("matmul", "the right argument", "of rank 2 or more", show(b.shape));
  const [m, k] = a.shape.slice(-2) as [number, number];
  const [rows, columns] = b.shape.slice(-2) as [number, number];
  const [left, inner] = transposeA ? [k, m] : [m, k];
  const [found, right] = transposeB ? [columns, rows] : [rows, columns];
  if (found !== inner) {
    const expected = transposeB ? `[.., n, ${inner}]` : `[.., ${inner}, n]`;
    wrong(
      "matmul",
      "the right argument",
      `of shape ${expected} to go with ${show(a.shape)}${transposeA ? " transposed" : ""}`,
      show(b.shape),
    );
  }
  const lead = broadcastShape("matmul", a.shape.slice(0, -2), b.shape.slice(0, -2));
  return apply(MATMUL, [a, b], { ta: transposeA, tb: transposeB, lead, m: left, n: right, k: inner, a: a.shape, b: b.shape });
}

const LINEAR: OpDefinition<void> = {
  name: "linear",
  forward(ctx, [x, w, bias]) {
    ctx.save(x as Tensor, w as Tensor);
    return project("linear", x as Tensor, w as Tensor, false, bias ?? null);
  },
  backward(ctx, [g]) {
    const [x, w] = ctx.saved as [Tensor, Tensor];
    const gy = g as Tensor;
    return [
      ctx.needs[0] ? project("linear", gy, w, true, null) : null,
      ctx.needs[1] ? projectGrad(x, gy, false) : null,
      ctx.needs[2] ? unbroadcast(gy, [w.shape[1] as number]) : null,
    ];
  },
};

/**
 * x w + bias over the last axis.
 * @param x f32 or spikes [.., in]
 * @param weight f32 [in, out] (PyTorch's, transposed)
 * @param bias f32 [out]
 */
export function linear(x: Tensor, weight: Tensor, bias: Tensor | null = null): Tensor {
  expectFloat("linear", "the input", x);
  expectTensor("linear", "the weight", weight);
  if (bias) expectTensor("linear", "the bias", bias);
  if (weight.dtype !== "f32" || weight.rank !== 2)
    wrong("linear", "the weight", "f32 of shape [in, out]", `${weight.dtype} ${show(weight.shape)}`);
  const [inputs, outputs] = weight.shape as [number, number];
  if (x.rank < 1 || x.shape[x.rank - 1] !== inputs)
    wrong("linear", "the input", `of shape [.., ${inputs}] to go with weight ${show(weight.shape)}`, show(x.shape));
  if (bias && (bias.dtype !== "f32" || bias.rank !== 1 || bias.shape[0] !== outputs))
    wrong("linear", "the bias", `f32 of shape [${outputs}]`, `${bias.dtype} ${show(bias.shape)}`);
  return once(x, 1, (values) => linear(values, weight, bias)) ?? apply(LINEAR, bias ? [x, weight, bias] : [x, weight], undefined);
}
