/**
 * The kernel table: every operation that a device can execute, its arguments in order, and its op codes.
 *
 * This is the one contract between TypeScript and the C++ in `kernels/`: the build generates
 * `kernels/generated/kernel_table.h` (argument structs, enums, function list) from it, `runtime/reference/`
 * implements it in naive float64 TypeScript, and `Device.run` is typed by it. Nothing else crosses that border.
 *
 * Rules of every kernel
 * - An argument is a pointer `P` (a Storage, or null where the text says "optional"), an integer `I`, or a real `F`.
 * - A call runs `tiles` tiles. A tile handles its share `[units*tile/tiles, units*(tile+1)/tiles)` of the units that the
 *   text names (rows, elements, ...). Tiles never write the same location, so that any thread may run any tile.
 *   The number of tiles follows from shapes alone (`tilesFor`), hence results are the same for every thread count.
 * - All buffers are contiguous, row-major, channels last. Unless said otherwise a buffer is f32.
 * - Spike buffers: a row (one position, all channels) is `planes` bit planes of `words = ceil(c / 32)` u32 words:
 *   `[rows][planes][words]`; channel c is bit `c & 31` of word `c >> 5`; bits past the last channel are zero.
 *   The value of a spike is `scale * sum_p 2^p * bit_p`. Where the text says `steps` instead of `planes`, each of them is a binary virtual
 *   step of an integer spike, and the value is `scale * sum_d bit_d`.
 * - `terms`, 0 to 3: where the instruction set has matrix units (`amx`), multiply on them, float32 operands as sums of so many bf16
 *   terms: 3 has float32's accuracy, 2 is about 2^-17 off, 1 is bf16. 0, and every other instruction set: float32 as it is.
 * - Kernels trust their arguments. Shapes and dtypes are checked by the ops above, before the call.
 */

/** Pointer to a storage (`Storage | null`). */
const P = "p";
/** Integer, exact up to 2^53. */
const I = "i";
/** Real number; f32 kernels round it to float32. */
const F = "f";

/** Element-wise functions of one argument, `unary.op`. `p0`, `p1` are their parameters. */
export const UNARY = [
  "copy", // x
  "neg",
  "abs",
  "sign", // -1, 0, 1
  "square",
  "sqrt",
  "rsqrt", // 1 / sqrt(x)
  "reciprocal",
  "exp",
  "log",
  "tanh",
  "sigmoid",
  "relu",
  "leakyRelu", // x >= 0 ? x : p0 * x
  "gelu", // exact: x/2 (1 + erf(x / sqrt 2))
  "silu", // x sigmoid(x)
  "softplus", // log(1 + exp(x)), without overflow
  "erf",
  "sin",
  "cos",
  "floor",
  "ceil",
  "round", // ties to even
  "clamp", // min(max(x, p0), p1); gradient 1 where p0 <= x <= p1
  "affine", // p0 * x + p1
  "powScalar", // x ^ p0
] as const;

/** Element-wise functions of two arguments, `binary.op`. */
export const BINARY = ["add", "sub", "mul", "div", "maximum", "minimum", "pow"] as const;

/** Comparisons, `compare.op`; the result is u8 0 / 1. */
export const COMPARE = ["eq", "ne", "lt", "le", "gt", "ge"] as const;

/** Logic on u8 booleans, `logical.op` (`not` ignores b). */
export const LOGICAL = ["and", "or", "xor", "not"] as const;

/** How a neuron takes its input z into the membrane V, `charge`: H is the membrane before the reset, r = 1 / tau. */
export const CHARGE = [
  "integrate", // H = V + z
  "leakInput", // H = V + (z - (V - rest)) r     (the input decays too: SpikingJelly decay_input=True, sinabs, Norse)
  "leak", // H = V - (V - rest) r + z             (SpikingJelly decay_input=False; beta V + z of snnTorch and Spyx with r = 1 - beta)
  "stateless", // H = z, V = 0 after the step      (a quantiser: no membrane passes from step to step)
] as const;

/** What comes first within a step, `order`. */
export const ORDER = [
  "fireThenReset", // H = charge(V, z); S = fire(H); V = reset(H, S)                           (SpikingJelly, Norse, sinabs)
  "delayedReset", // S' = fire(V); H = charge(V, z) reset by S'; V = H; S = fire(H)            (snnTorch)
  "fireFirst", // the same membrane, but the step emits S' = fire(V), the old voltage's spike  (Spyx)
] as const;
// In the two delayed orders a soft reset is subtracted after the decay (H = charge(V, z) - S' theta), a hard reset is
// applied before it (H = charge(S' ? vReset : V, z)).

/** What a spike does to the membrane, `reset`. */
export const RESET = [
  "hard", // V = S > 0 ? vReset : H
  "soft", // V = H - S vThreshold
  "none", // V = H
] as const;

/** How a synaptic current I, which decays by alpha a step, stands between the input z and the membrane, `current`. The charge takes u for z. */
export const CURRENT = [
  "jump", // I = alpha I + z; u = I                (snnTorch)
  "decayed", // I = alpha (I + z); u = I           (sinabs)
  "late", // u = I; I = alpha I + z                (Norse: an input reaches the membrane a step later)
] as const;

/** When a neuron fires and what it emits, `fire`. */
export const FIRE = [
  "ge", // S = H >= vThreshold
  "gt", // S = H > vThreshold
  "roundEven", // S = clamp(H, 0, levels) rounded, ties to even
  "roundUp", // S = floor(clamp(H, 0, levels) + 1/2) in the device's own precision
] as const;

/**
 * Surrogate derivatives, `surrogate`: a function of u = H - vThreshold for `ge` and `gt`, of u = H for the rounding neurons.
 * p0, p1 are their parameters; spiking/surrogate.ts names them and says where each comes from.
 */
export const SURROGATE = [
  "piecewiseQuadratic", // |u| <= 1/p0 ? p0 - p0^2 |u| : 0
  "piecewiseExp", // p0/2 exp(-p0 |u|)
  "sigmoid", // p0 s (1 - s), s = sigmoid(p0 u)
  "softSign", // p0/2 / (1 + p0 |u|)^2
  "superSpike", // p0 / (1 + |u|)^2
  "atan", // p0/2 / (1 + (pi/2 p0 u)^2)
  "nonzeroSignLogAbs", // p0 / (1 + p0 |u|)
  "erf", // p0 / sqrt(pi) exp(-(p0 u)^2)
  "piecewiseLeakyRelu", // |u| < p0 ? 1 / (2 p0) : p1
  "squarewaveFourier", // 4/p1 sum of cos((2i - 1) 2 pi u / p1), i = 1 .. p0 - 1
  "s2nn", // u < 0 ? p0 s (1 - s), s = sigmoid(p0 u) : p1 / (u + 1)
  "qPseudoSpike", // (1 + 2/(p0 - 1) |u|)^(-p0)
  "leakyKRelu", // u >= 0 ? p1 : p0
  "fakeNumericalGradient", // min(p0, 1 / |u|)
  "logTailedRelu", // u <= 0 ? p0 : u <= 1 ? 1 : 1 / u
  "pass", // 1
  "rect", // |u| < 1/(2 p0) ? p0 : 0
  "fastSigmoid", // 1 / (1 + p0 |u|)^2
  "step", // u > 0 ? p1 : p0
  "triangular", // u < 0 ? p0 : -p0
  "spikeRateEscape", // p1 exp(-p0 |u - 1|)
  "sparseFastSigmoid", // u > p1 ? 1 / (1 + p0 |u|)^2 : 0
  "window", // p0 <= u <= p1 ? 1 : 0
  "openWindow", // p0 < u < p1 ? 1 : 0
  "custom", // a program (see VM): input register 0 is u, the result is the last instruction's
] as const;

/**
 * Instructions of the interpreter that runs user-defined neurons and surrogates, `[op, d, a, b, c]` as five i32: register d becomes the
 * function of registers a, b, c, for a block of elements at once. Comparisons give 0 or 1.
 */
export const VM = [
  "copy",
  "neg",
  "abs",
  "exp",
  "log",
  "sqrt",
  "tanh",
  "sigmoid",
  "erf",
  "sin",
  "cos",
  "floor",
  "round", // of a; round: ties to even
  "add",
  "sub",
  "mul",
  "div",
  "max",
  "min",
  "gt",
  "ge",
  "pow", // of a, b
  "where", // a != 0 ? b : c
  "mulAdd", // a b + c
  "subMul", // c - a b
  "surrogate", // the call's built-in surrogate at a
] as const;

/** Reductions, `reduce.op` and `argreduce.op`. */
export const REDUCE = ["sum", "max", "min", "prod"] as const;

/** Element types of `cast` and the strided copies. */
export const ELEMENT = ["f32", "i32", "u8", "u32"] as const;

/** Six dimensions, outermost first; unused outer ones are 1. */
const DIMS = { d0: I, d1: I, d2: I, d3: I, d4: I, d5: I } as const;
/** Strides in elements of the first, second and third operand over `DIMS` (0 = broadcast, negative = reversed). */
const STRIDES_A = { a0: I, a1: I, a2: I, a3: I, a4: I, a5: I } as const;
const STRIDES_B = { b0: I, b1: I, b2: I, b3: I, b4: I, b5: I } as const;
const STRIDES_C = { c0: I, c1: I, c2: I, c3: I, c4: I, c5: I } as const;

/**
 * Geometry of a 2-d convolution or pooling: input [n, h, w, ci], output [n, oh, ow, co], window kh x kw.
 * Input row of output row oy and window row ky: `oy*sh - ph + ky*dh`; it counts only inside [0, h).
 * `ph`, `pw` pad the top and the left; the bottom and right follow from oh, ow.
 */
const WINDOW = { n: I, h: I, w: I, ci: I, oh: I, ow: I, co: I, kh: I, kw: I, sh: I, sw: I, ph: I, pw: I, dh: I, dw: I } as const;

/**
 * The switches of a built-in neuron. x is [steps, rows, c]; spikes are [steps][rows][planes][words(c)]. `r` = 1 / tau where no `rtau` [c] is
 * given (ignored by `integrate` and `stateless`); a membrane starts at v0 [rows, c] where given, else at vInit. With `alpha` [c] there is a
 * synaptic current too (see CURRENT; `ge` and `gt` only), which starts at 0: states are then [2][rows, c], the membrane and the current.
 */
const NEURON = {
  steps: I,
  rows: I,
  c: I,
  charge: I,
  order: I,
  reset: I,
  current: I,
  fire: I,
  levels: I,
  planes: I,
  r: F,
  vThreshold: F,
  vReset: F,
  vRest: F,
  vInit: F,
} as const;

export const KERNELS = {
  // ---------------------------------------------------------------- element-wise (units: elements, unless said)
  /** y[0..n) = value. */
  fill: { y: P, n: I, value: F },
  /** y = f_op(x). x and y may be the same. */
  unary: { x: P, y: P, n: I, op: I, p0: F, p1: F },
  /** gx = gy * f_op'(x). `y` = f_op(x) is given too (ops differ in which one they need). */
  unary_grad: { x: P, y: P, gy: P, gx: P, n: I, op: I, p0: F, p1: F },
  /** y = a op b over six broadcast dimensions; y contiguous. Units: rows of d5 (d0*..*d4 of them); if that is 1, chunks of d5. */
  binary: { a: P, b: P, y: P, op: I, ...DIMS, ...STRIDES_A, ...STRIDES_B },
  /** As `binary`; a and b of element type `type` (ELEMENT), y u8. */
  compare: { a: P, b: P, y: P, op: I, type: I, ...DIMS, ...STRIDES_A, ...STRIDES_B },
  /** As `binary`; all u8. b is optional for `not`. */
  logical: { a: P, b: P, y: P, op: I, ...DIMS, ...STRIDES_A, ...STRIDES_B },
  /** y = cond ? a : b; cond u8 with strides C. */
  where: { cond: P, a: P, b: P, y: P, ...DIMS, ...STRIDES_A, ...STRIDES_B, ...STRIDES_C },
  /** y = x converted; `from`, `to` in ELEMENT. f32 to integers truncates towards zero and saturates; NaN gives 0. */
  cast: { x: P, y: P, n: I, from: I, to: I },
  /** y += alpha * x. */
  accumulate: { x: P, y: P, n: I, alpha: F },
  /** y[r, c] = x[r, c] * scale[c] + shift[c]. Units: rows. */
  affine: { x: P, scale: P, shift: P, y: P, rows: I, c: I },
  /** y[r, c] = (x[r, c] * scale[c] + shift[c]) + u[r, c]; u may be y. Units: rows. */
  affine_add: { x: P, scale: P, shift: P, u: P, y: P, rows: I, c: I },
  /** y[r, c] = u[r, c] * a[c] + x[r, c] * b[c] + d[c]; y may be u or x (the batch-norm gradient). Units: rows. */
  affine2: { u: P, x: P, a: P, b: P, d: P, y: P, rows: I, c: I },

  // ---------------------------------------------------------------- layout
  /** y[offsetB + i.B] = x[offsetA + i.A] over DIMS; `type` (ELEMENT) sets the width. Permute, slice, pad, concat, expand, flip. Units: rows of d5, or chunks of d5 when one row. */
  copy_strided: { x: P, y: P, type: I, offsetA: I, offsetB: I, ...DIMS, ...STRIDES_A, ...STRIDES_B },
  /** As copy_strided for f32, but y += x. Destination indices are distinct. */
  accumulate_strided: { x: P, y: P, offsetA: I, offsetB: I, ...DIMS, ...STRIDES_A, ...STRIDES_B },
  /** y[o, j, :] = x[o, index[j], :]; x [outer, xn, inner] of element type `type`, index i32 [n], y [outer, n, inner]. Units: outer * n. */
  index_select: { x: P, index: P, y: P, type: I, outer: I, xn: I, n: I, inner: I },
  /** gx[o, index[j], :] += gy[o, j, :] in the order of j (f32). Units: outer * xn destination rows (a tile scans the index). gx is zeroed by the kernel. */
  index_add: { gy: P, index: P, gx: P, outer: I, xn: I, n: I, inner: I },
  /** y[o, j, i] = x[o, index[o, j, i], i]; index i32 [outer, n, inner] (torch.gather along the middle axis). Units: outer. */
  gather: { x: P, index: P, y: P, outer: I, xn: I, n: I, inner: I },
  /** gx[o, index[o, j, i], i] += gy[o, j, i] in the order of j. gx [outer, xn, inner] is NOT zeroed. Units: outer. */
  scatter_add: { gy: P, index: P, gx: P, outer: I, xn: I, n: I, inner: I },

  // ---------------------------------------------------------------- reductions over the middle of [outer, n, inner]
  /**
   * y[o, q, i] = scale * op over chunk q of the n entries; chunk q covers [n*q/chunks, n*(q+1)/chunks).
   * y is [outer, chunks, inner]. Units: outer * chunks. Sums in f32 use at least pairwise-quality accumulation (several lanes).
   */
  reduce: { x: P, y: P, outer: I, n: I, inner: I, chunks: I, op: I, scale: F },
  /** y i32 [outer, inner] = index of the first max (op max) or min. Units: outer. */
  argreduce: { x: P, y: P, outer: I, n: I, inner: I, op: I },
  /**
   * The k first of the n entries of each row in rising (or falling) order: y [rows, k], and their positions i32 index [rows, k]. Equal
   * entries (-0 and 0 too) keep their order; NaN counts as above every number. Units: rows.
   */
  sort: { x: P, y: P, index: P, rows: I, n: I, k: I, descending: I },
  /** y[o, j, i] = sum of x[o, 0..j, i]; reverse: of x[o, j.., i]. Units: outer. */
  cumsum: { x: P, y: P, outer: I, n: I, inner: I, reverse: I },
  /** partial[q] = sum of squares of chunk q of x (as f32 pairs are not enough for norms: accumulate in double, store f32). Units: chunks. */
  sum_squares: { x: P, partial: P, n: I, chunks: I },

  // ---------------------------------------------------------------- dense products
  /**
   * C[b] = alpha * op(A[b]) op(B[b]) (+ C[b] if accumulate) (+ bias[n] if given). op(A) is m x k, op(B) is k x n.
   * A is [m, k] (or [k, m] when ta), B is [k, n] (or [n, k] when tb), C is [m, n]; sa, sb, sc are batch strides in elements.
   * Units: `productUnits(batch, m, n)`.
   */
  gemm: { a: P, b: P, c: P, bias: P, batch: I, m: I, n: I, k: I, sa: I, sb: I, sc: I, ta: I, tb: I, alpha: F, accumulate: I, terms: I },
  /**
   * Dense convolution, one group: x f32 [n, h, w, ci], wt [kh, kw, ci, co], bias optional [co], y [n, oh, ow, co].
   * `ih`, `iw` are the input dilation (lhs dilation, 1 = none): the input behaves as if ih-1 zero rows stood between its rows
   * (h stays the undilated height), which makes this kernel the input gradient of a strided convolution too.
   * With groups the pixel strides differ from the channel counts: `xs` (floats from pixel to pixel of x, >= ci, x already offset by
   * `xo` channels), `ys`, `yo` likewise for y. `wt` is one group's. Units: n * oh output rows.
   */
  conv2d: { x: P, wt: P, bias: P, y: P, ...WINDOW, ih: I, iw: I, xs: I, xo: I, ys: I, yo: I, terms: I },
  /** gw [kh, kw, ci, co] = sum over positions of x patch times gy. xs, xo, ys, yo as in conv2d (y stands for gy). Units: `productUnits(1, kh * kw * ci, co)`. */
  conv2d_grad_weight: { x: P, gy: P, gw: P, ...WINDOW, xs: I, xo: I, ys: I, yo: I },
  /**
   * Winograd's transform of the weights for F(4 x 4, 3 x 3) with points 0, +-3/4, +-3/2, infinity: u [36][panels][ci][32] from
   * wt [3, 3, ci, co], in panels of 32 columns, zero past co (`winogradSize(ci, co)` floats). Units: ci.
   */
  winograd_weights: { wt: P, u: P, ci: I, co: I },
  /**
   * 3 x 3 convolution, stride 1, one group, no bias: x f32 [n, h, w, ci], u from winograd_weights, y [n, oh, ow, co] inside pixels of `ys`
   * floats, from float `yo` of them on; zeros of `ph` rows above and `pw` columns before x, and as many as needed after it. Units:
   * `winogradUnits(n, oh, ow)`.
   */
  winograd_conv2d: { x: P, u: P, y: P, n: I, h: I, w: I, ci: I, oh: I, ow: I, co: I, ph: I, pw: I, ys: I, yo: I },
  /** Depth-wise: ci = co = channels, wt [kh, kw, c]. Units: n * oh. */
  dwconv2d: { x: P, wt: P, bias: P, y: P, ...WINDOW },
  /** Input gradient of dwconv2d: gx from gy and wt. Units: n * h. */
  dwconv2d_grad_input: { gy: P, wt: P, gx: P, ...WINDOW },
  /** gw [kh, kw, c]. Units: ceil(c / 32). */
  dwconv2d_grad_weight: { x: P, gy: P, gw: P, ...WINDOW },
  /** As dwconv2d, of the values of spikes x [n, h, w, planes, words(c)]; the same bits but where windows of 5 to 7 taps go by tables. Units: n * oh. */
  spike_dwconv2d: { x: P, wt: P, bias: P, y: P, ...WINDOW, planes: I, scale: F },
  /** As dwconv2d_grad_weight, likewise. Units: ceil(c / 32). */
  spike_dwconv2d_grad_weight: { x: P, gy: P, gw: P, ...WINDOW, planes: I, scale: F },

  // ---------------------------------------------------------------- products with spikes (event-driven)
  /**
   * y [n, oh, ow, co] = conv of spikes x [n, h, w, planes, words(ci)] with wt [kh, kw, ci, co], times scale, plus bias (optional):
   * for every set bit add the weight row. kh = kw = 1 and h = w = 1 is a spike matrix product. Units: `spikeUnits(n, oh, ow, co, kh * kw)`.
   */
  spike_conv2d: { x: P, wt: P, bias: P, y: P, ...WINDOW, planes: I, scale: F, terms: I },
  /**
   * The same by tables of sums of weight rows, whose cost does not follow the spikes. Blocks of `high` output rows (of all images) by `wide`
   * output columns, as `tableBlock` gives them. Units: `tableUnits`.
   */
  spike_conv2d_table: { x: P, wt: P, bias: P, y: P, ...WINDOW, planes: I, scale: F, high: I, wide: I },
  /**
   * gw [chunks, kh, kw, ci, co] = scale * sum over positions of spike x gy, chunk q over images n * q / chunks to n * (q + 1) / chunks.
   * Units: `chunks * spikeGradBlocks(ci, co, kh * kw)`; with `terms`, which take one chunk, `spikeGradTiles(ci, co, kh * kw)`.
   */
  spike_conv2d_grad_weight: { x: P, gy: P, gw: P, ...WINDOW, planes: I, scale: F, chunks: I, terms: I },
  /** Pack x f32 [rows, c] (values scale * integer in [0, 2^planes)) to spikes. Units: rows. */
  spike_pack: { x: P, y: P, rows: I, c: I, planes: I, scale: F },
  /** y f32 [rows, c] = value of each spike. Units: rows. */
  spike_unpack: { x: P, y: P, rows: I, c: I, planes: I, scale: F },
  /** y = a AND b over `n` words. Binary spikes. Units: words. */
  spike_and: { a: P, b: P, y: P, n: I },
  /** y[o, j, :] = a[o, j, :] AND mask[o, :]; words per row `words`. Units: outer. */
  spike_and_rows: { a: P, mask: P, y: P, outer: I, n: I, words: I },
  /** y f32 [outer, c] = scale * number of set bits of channel c over the n rows of x [outer, n, words] (1 plane). Units: outer. */
  spike_count_rows: { x: P, y: P, outer: I, n: I, c: I, scale: F },
  /** y f32 [outer, n, c] = scale * g * bit; g f32 [outer, gn, c] with gn = n or 1 (broadcast); x spikes [outer, xn, words], xn = n or 1. Units: outer. */
  spike_mask: { g: P, x: P, y: P, outer: I, n: I, gn: I, xn: I, c: I, scale: F },
  /** y f32 [outer, c] = sum over n of g [outer, n, c] * bit of x [outer, n, words]. Units: outer. */
  spike_mask_reduce: { g: P, x: P, y: P, outer: I, n: I, c: I },
  /** partial f32 [chunks][2]: sum of the integer spike values, and number of non-zero spikes, of chunk q of the rows. Units: chunks. */
  spike_stats: { x: P, partial: P, rows: I, c: I, planes: I, chunks: I },
  /** y [rows, steps, words] of integers x [rows, planes, words]: bit d of n is [n > d], d < steps < 2^planes. Units: rows. */
  spike_steps: { x: P, y: P, rows: I, words: I, planes: I, steps: I },
  /** y [rows, planes, words]: the integers sum_d bit_d of x [rows, steps, words], which fit the planes. Units: rows. */
  spike_levels: { x: P, y: P, rows: I, words: I, planes: I, steps: I },
  /**
   * y [batch, m, n] = scale * x w, of spikes x [batch, m, steps, words(k)] and f32 w [batch, k, n]: for every set bit add a row of w. At most
   * STEPS_LIMITS.words words of all steps in a row, and 2^30 elements in one w. Units: batch * m.
   */
  spike_matmul: { x: P, w: P, y: P, batch: I, m: I, k: I, n: I, steps: I, scale: F },

  // ---------------------------------------------------------------- pooling (ci = co)
  /** y, index i32 (optional) = position h*w index (iy * w + ix) of the first maximum of the window in row-major order; padding is -inf. Units: n * oh. */
  maxpool2d: { x: P, y: P, index: P, ...WINDOW },
  /** gx gathers gy from every window whose index is this pixel, windows in row-major order. Units: n * h. */
  maxpool2d_grad: { gy: P, index: P, gx: P, ...WINDOW },
  /** Binary spikes: y = OR of the window. Units: n * oh. */
  spike_maxpool2d: { x: P, y: P, ...WINDOW },
  /** gx f32 from gy f32: the gradient of a window goes to its first set bit, or, none set, to its first position inside the image. Units: n. */
  spike_maxpool2d_grad: { x: P, gy: P, gx: P, ...WINDOW },
  /** Average; divisor kh*kw when `countPad`, else the number of positions inside. Units: n * oh. */
  avgpool2d: { x: P, y: P, ...WINDOW, countPad: I },
  avgpool2d_grad: { gy: P, gx: P, ...WINDOW, countPad: I },
  /** Window of output row oy: [floor(oy*h/oh), ceil((oy+1)*h/oh)). Units: n * oh. */
  adaptive_avgpool2d: { x: P, y: P, n: I, h: I, w: I, c: I, oh: I, ow: I },
  /** Units: n * h. */
  adaptive_avgpool2d_grad: { gy: P, gx: P, n: I, h: I, w: I, c: I, oh: I, ow: I },

  // ---------------------------------------------------------------- normalisation
  /** partial[q][0][c] = mean, partial[q][1][c] = sum of squared deviations, of the rows of chunk q of x [rows, c]. Units: chunks. */
  channel_stats: { x: P, partial: P, rows: I, c: I, chunks: I },
  /**
   * Merge the partials (in order, Chan's formula, double): mean[c], rstd[c] = 1/sqrt(var + eps) with the biased variance;
   * scale = gamma * rstd, shift = beta - mean * scale (gamma, beta optional: 1, 0); running_mean += momentum * (mean - running_mean), running_var likewise with the
   * unbiased variance of `copies` times the rows (both optional). One unit.
   */
  bn_coefficients: {
    partial: P,
    chunks: I,
    c: I,
    rows: I,
    copies: I,
    gamma: P,
    beta: P,
    eps: F,
    momentum: F,
    runningMean: P,
    runningVar: P,
    mean: P,
    rstd: P,
    scale: P,
    shift: P,
  },
  /** partial[q][0][c] = sum gy, partial[q][1][c] = sum gy * (x - mean) * rstd over chunk q. Units: chunks. */
  bn_grad_sums: { x: P, gy: P, mean: P, rstd: P, partial: P, rows: I, c: I, chunks: I },
  /**
   * ggamma = sum gy*xhat, gbeta = sum gy (each optional), and a, b, d such that gx = a*gy + b*x + d: with s = gamma*rstd,
   * training: a = s, b = -s*rstd*ggamma/rows, d = -s*gbeta/rows - b*mean; not training: a = s, b = d = 0. One unit.
   */
  bn_grad_coefficients: {
    partial: P,
    chunks: I,
    c: I,
    rows: I,
    gamma: P,
    mean: P,
    rstd: P,
    training: I,
    ggamma: P,
    gbeta: P,
    a: P,
    b: P,
    d: P,
  },
  /**
   * Over the last axis: y = (x - mean) * rstd * gamma + beta (gamma, beta optional); mean, rstd [rows] are written. Without `centre` the mean
   * counts as 0 (RMS norm). Units: rows.
   */
  layernorm: { x: P, gamma: P, beta: P, y: P, mean: P, rstd: P, rows: I, c: I, eps: F, centre: I },
  /** gx; and partial[q][0][c] += gy * xhat, partial[q][1][c] += gy of chunk q of the rows (partial optional, overwritten). Units: chunks. */
  layernorm_grad: { x: P, gamma: P, gy: P, mean: P, rstd: P, gx: P, partial: P, rows: I, c: I, chunks: I, centre: I },
  /**
   * x [outer, n, c]: each of `groups` runs of c / groups channels is normalised over its channels and the n positions of one `outer`;
   * y = x * scale + shift. Written too: mean, rstd [outer, groups], coefficients [outer][2][c] (scale = rstd * gamma, shift = beta - mean * scale;
   * gamma, beta optional). Units: outer.
   */
  groupnorm: {
    x: P,
    gamma: P,
    beta: P,
    y: P,
    mean: P,
    rstd: P,
    coefficients: P,
    outer: I,
    n: I,
    c: I,
    groups: I,
    eps: F,
  },
  /** gx; and partial[o][0][c] = sum gy * xhat, partial[o][1][c] = sum gy over the n positions. Units: outer. */
  groupnorm_grad: { x: P, gamma: P, gy: P, mean: P, rstd: P, gx: P, partial: P, outer: I, n: I, c: I, groups: I },
  /** y = softmax (or log-softmax when `log`) over the last axis. Units: rows. */
  softmax: { x: P, y: P, rows: I, c: I, log: I },
  /** From y: softmax gx = y * (gy - sum(gy * y)); log-softmax gx = gy - exp(y) * sum(gy). Units: rows. */
  softmax_grad: { y: P, gy: P, gx: P, rows: I, c: I, log: I },

  // ---------------------------------------------------------------- random numbers: Philox 4x32-10, key (key0, key1), counter (i / 4 + offset, stream)
  /** y[i] = lo + (hi - lo) * u, u = (word >> 8) / 2^24 of word i % 4 of block offset + floor(i / 4). Counter words: (block low, block high, 0, 0). Units: blocks of 4. */
  random_uniform: { y: P, n: I, key0: I, key1: I, offset: I, lo: F, hi: F },
  /** Box-Muller on word pairs: r = sqrt(-2 ln((w0 + 0.5) / 2^32)), theta = 2 pi w1 / 2^32; values r cos, r sin, (then w2, w3); y = mean + std * value, redrawn from block + 2^40 * try until it lies in [lo, hi]. */
  random_normal: { y: P, n: I, key0: I, key1: I, offset: I, mean: F, std: F, lo: F, hi: F },
  /** y = u >= p ? x / (1 - p) : 0 with u as in random_uniform. Its own gradient with gy for x. */
  dropout: { x: P, y: P, n: I, key0: I, key1: I, offset: I, p: F },
  /** Binary spikes y [steps][rows][words(c)]: element i of [steps, rows, c] is u < x, x [rows, c], u as in random_uniform. Units: steps * rows. */
  spike_bernoulli: { x: P, y: P, steps: I, rows: I, c: I, key0: I, key1: I, offset: I },

  // ---------------------------------------------------------------- neurons, all steps in one pass
  /**
   * z = x * scale[c] + shift[c] (scale and shift: both or neither; a step's x lies `xStep` elements behind the last one's: rows * c, or 0 where
   * all steps have the same x), then `steps` steps of CHARGE, FIRE, RESET in ORDER. Writes the spikes,
   * and where given v [rows, c], the state after the last step (in the delayed orders the membrane that is not reset yet), and
   * h [steps, rows, c], every H. Units: rows. `steps` (times 2 with a current) at most NEURON_LIMITS.history, planes at most 8.
   */
  neuron_forward: { x: P, scale: P, shift: P, rtau: P, alpha: P, v0: P, spikes: P, v: P, h: P, xStep: I, ...NEURON },
  /**
   * From gy [steps, rows, c], the gradient for what the neuron emits (multiplied by `gain`), and gv [rows, c] (optional), the gradient for v:
   * gz [steps, rows, c], the gradient for z; where given gv0 [rows, c], the gradient for v0; gr and galpha [chunks][c], partial sums of the
   * gradients for rtau and alpha; and, with mean and rstd [c] of the batch norm that z = x * scale + shift comes from, stats [chunks][2][c] as `bn_grad_sums` writes
   * them (gz in the place of gy). Membranes are recomputed from x. `detach`: the reset is a constant. `custom` surrogates: `length` instructions of
   * `program`, `registers` registers, of which 1 .. constantCount hold `constants`. Units: chunks (of the rows); `steps` at most
   * NEURON_LIMITS.history.
   */
  neuron_backward: {
    x: P,
    scale: P,
    shift: P,
    rtau: P,
    alpha: P,
    v0: P,
    gy: P,
    gv: P,
    gz: P,
    gv0: P,
    gr: P,
    galpha: P,
    mean: P,
    rstd: P,
    stats: P,
    chunks: I,
    ...NEURON,
    surrogate: I,
    p0: F,
    p1: F,
    detach: I,
    gain: F,
    program: P,
    constants: P,
    length: I,
    registers: I,
    constantCount: I,
  },
  /**
   * A user-defined neuron: one run of `program` a step. Registers: 0 = z, 1 .. states = the states (read: before the step; written: after it),
   * then the parameters (`params` [paramCount][c]), then the constants, then the spike (written, 0 or 1), then temporaries. States start at
   * s0 [states][rows, c] where given, else at init [states]; s1 likewise receives the last ones (optional). Units: rows.
   */
  neuron_vm_forward: {
    x: P,
    scale: P,
    shift: P,
    params: P,
    s0: P,
    init: P,
    spikes: P,
    s1: P,
    program: P,
    constants: P,
    steps: I,
    rows: I,
    c: I,
    states: I,
    paramCount: I,
    constantCount: I,
    registers: I,
    length: I,
  },
  /**
   * Its gradient: `program` as above recomputes the states, `gradProgram` runs backwards in time. Its registers: 0 = z, then the states before
   * the step, the parameters, `gradConstants`, then the gradient for the spike, then the states' gradients (read: after the step; written:
   * before it), then (written) the gradient for z and for each parameter, then temporaries. gs0, gparams [chunks][paramCount][c]: optional.
   * Units: chunks. states * steps at most NEURON_LIMITS.history.
   */
  neuron_vm_backward: {
    x: P,
    scale: P,
    shift: P,
    params: P,
    s0: P,
    init: P,
    gy: P,
    gs1: P,
    gz: P,
    gs0: P,
    gparams: P,
    mean: P,
    rstd: P,
    stats: P,
    program: P,
    constants: P,
    gradProgram: P,
    gradConstants: P,
    steps: I,
    rows: I,
    c: I,
    states: I,
    paramCount: I,
    constantCount: I,
    registers: I,
    length: I,
    gradConstantCount: I,
    gradRegisters: I,
    gradLength: I,
    chunks: I,
    surrogate: I,
    p0: F,
    p1: F,
  },

  // ---------------------------------------------------------------- optimisers (units: elements)
  /** Decoupled decay: p *= 1 - lr*wd; m, v moments; p -= lr * (m / bias1) / (sqrt(v / bias2) + eps). Gradient is g * gradScale. bias1 = 1 - beta1^k. */
  adamw: { p: P, g: P, m: P, v: P, n: I, lr: F, beta1: F, beta2: F, eps: F, weightDecay: F, bias1: F, bias2: F, gradScale: F },
  /** g' = g*gradScale + wd*p; buf = first ? g' : momentum*buf + (1-dampening)*g'; p -= lr * (nesterov ? g' + momentum*buf : buf). buf is optional (momentum 0). */
  sgd: { p: P, g: P, buf: P, n: I, lr: F, momentum: F, dampening: F, weightDecay: F, nesterov: I, first: I, gradScale: F },
} as const satisfies Record<string, Record<string, "p" | "i" | "f">>;

export type KernelName = keyof typeof KERNELS;

/** Units of `gemm` and `conv2d_grad_weight`: blocks of 12 to 96 rows (at least about eight of them, if there are rows enough) by 128 columns. */
export function productUnits(batch: number, m: number, n: number): number {
  const across = Math.ceil(n / 128);
  const rows = Math.min(96, Math.max(12, Math.ceil(Math.ceil((m * batch * across) / 8) / 12) * 12));
  return batch * Math.ceil(m / rows) * across;
}

/** Floats of the weights that `winograd_weights` writes: 36 points, columns in panels. */
export const winogradSize = (ci: number, co: number): number => 36 * ci * Math.ceil(co / 32) * 32;

/**
 * Columns whose transformed weights are in memory at one time. More channels in than one step of depth have the input transformed for every 128
 * columns in any case; below, all columns share one transform.
 */
export const winogradColumns = (ci: number, co: number): number => (ci > 256 ? Math.min(co, 128) : co);

/** Units of `winograd_conv2d`: 12 tiles of 4 x 4 outputs. */
export const winogradUnits = (n: number, oh: number, ow: number): number => Math.ceil((n * Math.ceil(oh / 4) * Math.ceil(ow / 4)) / 12);

/** Units of `spike_conv2d`: groups of output rows of about 256 pixels by 64 output channels (256 if the window is a single tap). */
export function spikeUnits(n: number, oh: number, ow: number, co: number, taps: number): number {
  const rows = ow >= 256 ? 1 : Math.ceil(256 / ow);
  return Math.ceil((n * oh) / rows) * Math.ceil(co / (taps > 1 ? 64 : 256));
}

/** Units of `spike_conv2d_table`: blocks of output rows and columns by 64 output channels. */
export function tableUnits(lines: number, ow: number, co: number, { high, wide }: { high: number; wide: number }): number {
  return Math.ceil(lines / high) * Math.ceil(ow / wide) * Math.ceil(co / TABLE_LIMITS.columns);
}

/** Units of `spike_conv2d_grad_weight` in one chunk: 64 or more input channels by 64 output channels (256 if the window is a single tap). */
export function spikeGradBlocks(ci: number, co: number, taps: number): number {
  const across = Math.ceil(co / (taps > 1 ? 64 : 256));
  return Math.ceil(ci / Math.max(64, Math.ceil(Math.ceil((ci * across) / 8) / 8) * 8)) * across;
}

/** Units of `spike_conv2d_grad_weight` with `terms`: 64 or 128 output channels by whole words of input channels. */
export function spikeGradTiles(ci: number, co: number, taps: number): number {
  const across = Math.ceil(co / (co > 64 ? 128 : 64));
  const words = Math.ceil(ci / 32);
  return across * Math.ceil(words / Math.max(1, Math.min(Math.floor((words * across) / 8), Math.floor(32 / taps))));
}

/** Most steps (times states) that the neuron kernels keep for a block in scratch memory; most registers of a program. */
export const NEURON_LIMITS = { history: 4096, registers: 96 } as const;

/**
 * What the tables of the convolution kernels hold. `taps`: most kh * kw of a window, dense or depth-wise. `words`: most words of one plane
 * of spikes that one window row may span, `ceil(ci / 32) * min(w, (kw - 1) * dw + 1)`, in `spike_conv2d`.
 */
export const CONV_LIMITS = { taps: 65536, words: 5120 } as const;

/** `spike_matmul`: most words of all steps in a row of spikes. */
export const STEPS_LIMITS = { words: 4096 } as const;

/** `spike_conv2d_table`: output pixels of a block, words of spikes gathered for it, and output channels of a unit, at most. */
export const TABLE_LIMITS = { pixels: 1024, words: 160 << 10, columns: 64 } as const;

/** Bytes of scratch memory that a kernel finds for its thread. */
export const SCRATCH_BYTES = 1 << 20;

/** A number that changes with the kernels' names and arguments: an addon built from another table must not be called. */
export function kernelTableHash(): number {
  let hash = 0x811c9dc5;
  for (const char of JSON.stringify([
    KERNELS,
    UNARY,
    BINARY,
    COMPARE,
    LOGICAL,
    REDUCE,
    ELEMENT,
    CHARGE,
    ORDER,
    RESET,
    CURRENT,
    FIRE,
    SURROGATE,
    VM,
  ]))
    hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193) >>> 0;
  return hash;
}
