/** Losses, exact as PyTorch's: cross-entropy with class indices or soft targets, squared error, binary cross-entropy on logits. */
import { checkOptions, kindOf } from "../../runtime/check.ts";
import { device } from "../../runtime/engine.ts";
import { BINARY, REDUCE, UNARY } from "../../runtime/kernel-table.ts";
import { scope } from "../scope.ts";
import { expectShape, type Shape, sameShape, show, sizeOf, wrong } from "../shape.ts";
import { apply, type OpDefinition } from "../tape.ts";
import { empty, full, type Tensor, tensor } from "../tensor.ts";
import { dense, expectDType, expectFloat, run, sumRows, tilesFor } from "./common.ts";
import { add, cast, gt, mul, neg, softplus, square, sub } from "./elementwise.ts";
import { mean, sum } from "./reduce.ts";

/** What becomes of the loss of each item: their mean, their sum, or all of them. */
export type Reduction = "mean" | "sum" | "none";

/** Settings of `crossEntropy`. */
export interface CrossEntropyOptions {
  /** Share of the target spread evenly over all classes (Szegedy et al. 2016). Default 0. */
  labelSmoothing?: number | undefined;
  /** Class index of items that count for nothing, in the loss, the mean and the gradient. Default -100. */
  ignoreIndex?: number | undefined;
  /** Default "mean", over all items that count (NaN when none does). */
  reduction?: Reduction | undefined;
}

interface Settings {
  rows: number;
  /** Items that count. */
  counted: number;
  classes: number;
  smoothing: number;
  reduction: Reduction;
  /** Shapes of the logits and of the loss. */
  input: Shape;
  output: Shape;
}

/** a * b over [rows, width], each walked by its own strides. */
function product(
  a: Tensor,
  [a4, a5]: readonly [number, number],
  b: Tensor,
  [b4, b5]: readonly [number, number],
  rows: number,
  width: number,
): Tensor {
  const y = empty([rows, width]);
  const dims = { d0: 1, d1: 1, d2: 1, d3: 1, d4: rows, d5: width };
  const none = { a0: 0, a1: 0, a2: 0, a3: 0, b0: 0, b1: 0, b2: 0, b3: 0 };
  const operands = { a: a.storage, b: b.storage, y: y.storage, op: BINARY.indexOf("mul") };
  run("binary", { ...operands, ...dims, ...none, a4, a5, b4, b5 }, rows === 1 ? tilesFor(width, 1) : tilesFor(rows, width));
  return y;
}

/** factor * x + shift. */
function scaled(x: Tensor, factor: number, shift = 0): Tensor {
  const y = empty(x.shape);
  run("unary", { x: x.storage, y: y.storage, n: x.size, op: UNARY.indexOf("affine"), p0: factor, p1: shift }, tilesFor(x.size, 1));
  return y;
}

// With log-probabilities l of a row and smoothing e, K classes: loss = -(1 - e) l[target] - e / K sum(l); a soft target q puts
// sum(q l) in the place of l[target]. A third input, where given, is 0 for the rows that are ignored and 1 for the others.
const crossEntropyLoss: OpDefinition<Settings> = {
  name: "crossEntropy",

  forward(ctx, inputs, { rows, counted, classes: k, smoothing, reduction, output }) {
    const [logits, targets, counts] = inputs as [Tensor, Tensor, Tensor?];
    const l = empty([rows, k]);
    run("softmax", { x: dense("crossEntropy", logits).storage, y: l.storage, rows, c: k, log: 1 }, tilesFor(rows, k * 8));
    ctx.save(l, targets, ...(counts ? [counts] : []));
    const sumOverClasses = (x: Tensor, scale: number): Tensor => {
      const y = empty([rows]);
      run(
        "reduce",
        { x: x.storage, y: y.storage, outer: rows, n: k, inner: 1, chunks: 1, op: REDUCE.indexOf("sum"), scale },
        tilesFor(rows, k),
      );
      return y;
    };
    let losses: Tensor;
    if (targets.dtype === "i32") {
      const picked = empty([rows]);
      run("gather", { x: l.storage, index: targets.storage, y: picked.storage, outer: rows, xn: k, n: 1, inner: 1 }, tilesFor(rows, 1));
      losses = scaled(picked, -(1 - smoothing));
    } else losses = sumOverClasses(product(l, [k, 1], targets, [k, 1], rows, k), -(1 - smoothing));
    if (smoothing > 0) {
      const spread = sumOverClasses(l, -smoothing / k);
      run("accumulate", { x: spread.storage, y: losses.storage, n: rows, alpha: 1 }, tilesFor(rows, 1));
    }
    if (counts) losses = product(losses, [1, 0], counts, [1, 0], rows, 1);
    return (reduction === "none" ? losses : sumRows(losses, rows, 1, reduction === "mean" ? 1 / counted : 1)).alias(output);
  },

  backward(ctx, grads, { rows, counted, classes: k, smoothing, reduction, input }) {
    const [l, targets, counts] = ctx.saved as [Tensor, Tensor, Tensor?];
    // The gradient of each row's loss: one for all unless they were returned one by one, or some are ignored.
    let g = reduction === "mean" ? scaled(grads[0] as Tensor, 1 / counted) : (grads[0] as Tensor);
    let step = reduction === "none" ? 1 : 0;
    if (counts) {
      g = product(g, [step, 0], counts, [1, 0], rows, 1);
      step = 1;
    }
    let gl: Tensor;
    let targetGradient: Tensor | null = null;
    if (targets.dtype === "i32") {
      gl = product(g, [step, 0], full([1], -smoothing / k), [0, 0], rows, k);
      const picked = product(g, [step, 0], full([1], -(1 - smoothing)), [0, 0], rows, 1);
      run(
        "scatter_add",
        { gy: picked.storage, index: targets.storage, gx: gl.storage, outer: rows, xn: k, n: 1, inner: 1 },
        tilesFor(rows, 1),
      );
    } else {
      gl = product(g, [step, 0], scaled(targets, -(1 - smoothing), -smoothing / k), [k, 1], rows, k);
      if (ctx.needs[1]) targetGradient = product(g, [step, 0], scaled(l, -(1 - smoothing)), [k, 1], rows, k).alias(input);
    }
    const gx = empty(input);
    run("softmax_grad", { y: l.storage, gy: gl.storage, gx: gx.storage, rows, c: k, log: 1 }, tilesFor(rows, k * 4));
    return [gx, targetGradient, null].slice(0, ctx.saved.length);
  },
};

/**
 * Cross-entropy of softmax(logits) with the targets, over the last axis.
 *
 * @param logits f32 or spikes [..., K], usually [B, K]
 * @param targets i32 [...]: class indices in [0, K), or `ignoreIndex`; or f32 [..., K]: probabilities
 * @returns f32: a scalar, or with reduction "none" the loss of each item [...]
 * @throws SpikeloomError for shapes that do not fit, and for a class index out of range
 */
export function crossEntropy(logits: Tensor, targets: Tensor, options: CrossEntropyOptions = {}): Tensor {
  const op = "crossEntropy";
  checkOptions(op, options, ["labelSmoothing", "reduction", "ignoreIndex"]);
  const { labelSmoothing: smoothing = 0, reduction = "mean", ignoreIndex = -100 } = options;
  expectFloat(op, "logits", logits);
  expectDType(op, "targets", targets, "i32", "f32");
  if (logits.rank < 1 || logits.shape[logits.rank - 1] === 0) wrong(op, "logits", "of shape [..., K], K >= 1", show(logits.shape));
  if (!(smoothing >= 0 && smoothing <= 1)) wrong(op, "labelSmoothing", "in [0, 1]", String(smoothing));
  expectReduction(op, reduction);
  const input = logits.shape;
  const leading = input.slice(0, -1);
  const classes = input[input.length - 1] as number;
  const rows = sizeOf(leading);
  const output = reduction === "none" ? leading : [];
  expectShape(op, "targets", targets.shape, targets.dtype === "i32" ? leading : input);
  const settings = { rows, counted: rows, classes, smoothing, reduction, input, output };
  if (targets.dtype === "f32") {
    if (options.ignoreIndex !== undefined) wrong(op, "targets", "class indices (i32) where ignoreIndex is given", "f32");
    return apply(crossEntropyLoss, [logits, targets], settings);
  }
  const indices = device().view(targets.storage) as Int32Array;
  let ignored = 0;
  for (let i = 0; i < rows; i++) {
    const index = indices[i] as number;
    if (index === ignoreIndex) ignored++;
    else if (index < 0 || index >= classes) wrong(op, "targets", `class indices in [0, ${classes})`, `${index} at position ${i}`);
  }
  if (!ignored) return apply(crossEntropyLoss, [logits, targets], settings);
  const given = indices.slice();
  return scope(() => {
    const counts = tensor(Float32Array.from(given, (index) => (index === ignoreIndex ? 0 : 1)));
    // Any class will do for a row that counts for nothing.
    const safe = tensor(given.map((index) => (index === ignoreIndex ? 0 : index)));
    return apply(crossEntropyLoss, [logits, safe, counts], { ...settings, counted: rows - ignored });
  });
}

function expectReduction(op: string, reduction: Reduction): void {
  if (!["mean", "sum", "none"].includes(reduction)) wrong(op, "reduction", '"mean", "sum" or "none"', kindOf(reduction));
}

function reduced(losses: Tensor, reduction: Reduction): Tensor {
  return reduction === "none" ? losses : reduction === "mean" ? mean(losses) : sum(losses);
}

/**
 * Squared error (input - target)^2.
 *
 * @param input f32 or spikes
 * @param target f32 or spikes of the same shape
 * @returns f32: a scalar, or with reduction "none" a tensor of the inputs' shape
 */
export function mse(input: Tensor, target: Tensor, options: { reduction?: Reduction | undefined } = {}): Tensor {
  checkOptions("mse", options, ["reduction"]);
  const { reduction = "mean" } = options;
  expectSame("mse", input, target, reduction);
  return reduced(square(sub(input, target)), reduction);
}

/** Settings of `bceWithLogits`. */
export interface BCEOptions {
  /** Targets above it count as 1, the others as 0 (timm's target_threshold). Default: as they are. */
  targetThreshold?: number | undefined;
  /** Default "mean", over all elements. */
  reduction?: Reduction | undefined;
}

/**
 * Binary cross-entropy of sigmoid(logits) with targets in [0, 1], without overflow.
 *
 * @param logits f32 or spikes
 * @param target f32 or spikes of the same shape
 * @returns f32: a scalar, or with reduction "none" a tensor of the inputs' shape
 */
export function bceWithLogits(logits: Tensor, target: Tensor, options: BCEOptions = {}): Tensor {
  checkOptions("bceWithLogits", options, ["reduction", "targetThreshold"]);
  const { reduction = "mean", targetThreshold } = options;
  expectSame("bceWithLogits", logits, target, reduction);
  return scope(() => {
    const t = targetThreshold === undefined ? target : cast(gt(target, targetThreshold), "f32");
    // -(t log s(x) + (1 - t) log(1 - s(x))) = (1 - t) x + log(1 + exp(-x))
    return reduced(add(mul(sub(1, t), logits), softplus(neg(logits))), reduction);
  });
}

function expectSame(op: string, input: Tensor, target: Tensor, reduction: Reduction): void {
  expectFloat(op, "the first argument", input);
  expectFloat(op, "target", target);
  if (!sameShape(input.shape, target.shape)) wrong(op, "target", `of shape ${show(input.shape)}`, show(target.shape));
  expectReduction(op, reduction);
}
