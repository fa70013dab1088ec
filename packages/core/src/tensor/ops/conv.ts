/**
 * Convolutions, channels last: x [..., H, W, Cin], weight [kh, kw, Cin / groups, Cout]. Spikes go through the event-driven kernels,
 * whose cost follows the number of spikes; with groups, or a window row too long for those kernels (CONV_LIMITS), they are unpacked.
 */
import { checkOptions, kindOf } from "../../runtime/check.ts";
import { device, retain } from "../../runtime/engine.ts";
import { implementation, implementationForced } from "../../runtime/implementations.ts";
import { CONV_LIMITS, productUnits, winogradColumns, winogradSize, winogradUnits } from "../../runtime/kernel-table.ts";
import { denseTerms, tilesOfTerms } from "../../runtime/tiles.ts";
import { Product } from "../lazy.ts";
import { scope } from "../scope.ts";
import { expectShape, type Shape, show, sizeOf, stridesOf, wrong } from "../shape.ts";
import { apply, Context, type OpDefinition } from "../tape.ts";
import { empty, Tensor, zeros } from "../tensor.ts";
import { dense, expectDType, expectFloat, run, spikeWeightGradient, sumRows, tilesFor } from "./common.ts";
import { once } from "./layout.ts";
import { spikeProduct } from "./spike-product.ts";
import { inSteps, stepsProduct, withoutSteps } from "./steps.ts";
import { at, copyStrided } from "./strided.ts";
import { expectWindows, imageSizes, type Pair, pair, type Window, windowCount } from "./window.ts";

interface Settings {
  window: Window;
  groups: number;
  keepOutput: boolean;
  /** Shapes of x and y. */
  input: Shape;
  output: Shape;
}

/** Steps of one output row: multiply-adds / 8; spikes are taken to be a quarter of that. */
const rowCost = (g: Window, groups: number): number => (g.ow * g.kh * g.kw * (g.ci / groups) * g.co) / 8;

const isDepthwise = ({ window, groups }: Settings): boolean => groups > 1 && groups === window.ci && groups === window.co;

/**
 * Does Winograd's form of the input gradient apply, and pay? It sums over gy, in tiles of 4 x 4 pixels of x; a tile of few channels is
 * all transforms, and tiles that hang over the border are lost work.
 */
function fitsWinograd(g: Window): boolean {
  const plain = g.kh === 3 && g.kw === 3 && g.sh === 1 && g.sw === 1 && g.dh === 1 && g.dw === 1 && g.ph <= 2 && g.pw <= 2;
  const tiles = Math.ceil(g.h / 4) * Math.ceil(g.w / 4);
  // The reference device sums as the definition says, unless it is told otherwise.
  const wanted = device().name !== "reference" || implementationForced("convGradInput");
  return plain && wanted && g.ci >= 16 && g.co >= 16 && g.n * tiles >= 24 && 72 * tiles <= 9 * g.h * g.w;
}

/** `terms` of one group's dense convolution of `ci` to `co` channels, or of its input gradient. */
const convTerms = (g: Window, ci: number, co: number): number => denseTerms(device().isa, g.n * g.oh * g.ow, ci, co);

/** Tiles of a dense convolution: each copies the weights for itself, which fewer than a few hundred pixels do not pay for. */
const denseTiles = (units: number, cost: number, pixels: number): number =>
  Math.min(tilesFor(units, cost), Math.max(16, Math.ceil(pixels / 256)));

/** One group's part of the weight, or the whole when there is one group. */
function groupWeight(weight: Tensor, g: Window, groups: number, group: number): Tensor {
  if (groups === 1) return weight;
  const rows = (g.kh * g.kw * g.ci) / groups;
  const width = g.co / groups;
  const part = empty([rows, width]);
  copyStrided("conv2d", part.shape, at(weight, [g.co, 1], group * width), at(part, [width, 1]));
  return part;
}

/**
 * One group's weight with its window turned by 180 degrees and in and out exchanged, the weight of the input gradient: of all the group's input
 * channels, or of `count` from `first` on.
 */
function turnedWeight(weight: Tensor, g: Window, groups: number, group: number, first = 0, count = g.ci / groups): Tensor {
  const co = g.co / groups;
  const tap = (g.ci / groups) * g.co;
  const turned = empty([g.kh, g.kw, co, count]);
  const last = (g.kh * g.kw - 1) * tap + first * g.co + group * co;
  copyStrided("conv2d", turned.shape, at(weight, [-g.kw * tap, -tap, 1, g.co], last), at(turned, stridesOf(turned.shape)));
  return turned;
}

function groupBias(bias: Tensor, width: number, groups: number, group: number): Tensor {
  if (groups === 1) return bias;
  const part = empty([width]);
  copyStrided("conv2d", [width], at(bias, [1], group * width), at(part, [1]));
  return part;
}

const convolution: OpDefinition<Settings> = {
  name: "conv2d",

  forward(ctx, inputs, settings) {
    const [x, weight, bias] = inputs as [Tensor, Tensor, Tensor?];
    const { window: g, groups } = settings;
    ctx.save(weight);
    if (ctx.needs[1]) ctx.save(x);
    const y = empty(settings.output);
    if (x.size === 0 || y.size === 0) {
      // Nothing to sum: the bias alone.
      const start = bias ?? zeros([g.co]);
      copyStrided("conv2d", [g.n * g.oh * g.ow, g.co], at(start, [0, 1]), at(y, [g.co, 1]));
      return y;
    }
    if (inSteps(x)) {
      const product = (step: Tensor) => convolution.forward(new Context([]), [step, weight], settings) as Tensor;
      return stepsProduct(x, weight, bias ?? null, y, groups === 1 ? g : null, product);
    }
    if (x.dtype === "spikes" && groups === 1 && spikeProduct(x, weight, bias ?? null, y, g)) {
      if (settings.keepOutput || !ctx.recording) return y;
      const again = new Product(settings.output, bias ? [x, weight, bias] : [x, weight], ([x, weight, bias]) =>
        scope(() => {
          const y = empty(settings.output);
          spikeProduct(x as Tensor, weight as Tensor, bias ?? null, y, g);
          return retain(y.storage);
        }),
      );
      return new Tensor(settings.output, "f32", retain(y.storage), null, again);
    }
    if (isDepthwise(settings)) {
      const args = { x: x.storage, wt: weight.storage, bias: bias?.storage ?? null, y: y.storage, ...g };
      const tiles = tilesFor(g.n * g.oh, rowCost(g, groups));
      if (x.spikes) run("spike_dwconv2d", { ...args, ...x.spikes }, tiles);
      else run("dwconv2d", args, tiles);
      return y;
    }
    const values = dense("conv2d", x).storage;
    const tiles = denseTiles(g.n * g.oh, rowCost(g, groups) / groups, g.n * g.oh * g.ow);
    const [ci, co] = [g.ci / groups, g.co / groups];
    for (let group = 0; group < groups; group++) {
      const wt = groupWeight(weight, g, groups, group);
      const part = bias ? groupBias(bias, co, groups, group).storage : null;
      const pixels = { xs: g.ci, xo: group * ci, ys: g.co, yo: group * co, terms: convTerms(g, ci, co) };
      run(
        "conv2d",
        { x: values, wt: wt.storage, bias: part, y: y.storage, ...g, ci, co, ih: 1, iw: 1, ...pixels },
        tilesOfTerms(tiles, g.n * g.oh * g.ow, pixels.terms),
      );
    }
    return y;
  },

  backward(ctx, grads, settings) {
    const gy = grads[0] as Tensor;
    const weight = ctx.load(0);
    const { co, n, oh, ow } = settings.window;
    // One after the other, each giving back what it made, x among it, before the next begins.
    const gw = ctx.needs[1] ? scope(() => weightGradient(ctx.load(1), gy, weight.shape, settings)) : null;
    return [ctx.needs[0] ? scope(() => inputGradient(gy, weight, settings)) : null, gw, ctx.needs[2] ? sumRows(gy, n * oh * ow, co) : null];
  },
};

function inputGradient(gy: Tensor, weight: Tensor, settings: Settings): Tensor {
  const { window: g, groups, input } = settings;
  if (gy.size === 0 || sizeOf(input) === 0) return zeros(input);
  const gx = empty(input);
  const cost = (g.w * g.kh * g.kw * g.ci * g.co) / (8 * groups * g.sh * g.sw);
  if (isDepthwise(settings)) {
    run("dwconv2d_grad_input", { gy: gy.storage, wt: weight.storage, gx: gx.storage, ...g }, tilesFor(g.n * g.h, cost));
    return gx;
  }
  if (groups === 1 && fitsWinograd(g) && implementation("convGradInput") === "winograd") {
    const back = { n: g.n, h: g.oh, w: g.ow, ci: g.co, oh: g.h, ow: g.w, ph: 2 - g.ph, pw: 2 - g.pw, ys: g.ci };
    const units = winogradUnits(g.n, g.h, g.w);
    const most = winogradColumns(g.co, g.ci);
    for (let yo = 0; yo < g.ci; yo += most)
      scope(() => {
        const co = Math.min(most, g.ci - yo);
        const u = empty([winogradSize(g.co, co)]);
        const wt = turnedWeight(weight, g, 1, 0, yo, co);
        run("winograd_weights", { wt: wt.storage, u: u.storage, ci: g.co, co }, tilesFor(g.co, 16 * co));
        run("winograd_conv2d", { x: gy.storage, u: u.storage, y: gx.storage, ...back, co, yo }, tilesFor(units, 54 * g.co * co));
      });
    return gx;
  }
  // The transposed convolution: an ordinary one over gy, between whose rows lie stride - 1 rows of zeros.
  const back = { n: g.n, h: g.oh, w: g.ow, ci: g.co / groups, oh: g.h, ow: g.w, co: g.ci / groups, kh: g.kh, kw: g.kw, sh: 1, sw: 1 };
  const edges = { ph: g.dh * (g.kh - 1) - g.ph, pw: g.dw * (g.kw - 1) - g.pw, dh: g.dh, dw: g.dw, ih: g.sh, iw: g.sw };
  for (let group = 0; group < groups; group++) {
    const wt = turnedWeight(weight, g, groups, group);
    const pixels = { xs: g.co, xo: group * back.ci, ys: g.ci, yo: group * back.co, terms: convTerms(g, back.co, back.ci) };
    run(
      "conv2d",
      { x: gy.storage, wt: wt.storage, bias: null, y: gx.storage, ...back, ...edges, ...pixels },
      tilesOfTerms(denseTiles(g.n * g.h, cost / groups, g.n * g.h * g.w), g.n * g.h * g.w, pixels.terms),
    );
  }
  return gx;
}

function weightGradient(given: Tensor, gy: Tensor, shape: Shape, settings: Settings): Tensor {
  const { window: g, groups } = settings;
  const x = withoutSteps(given);
  if (x.size === 0 || gy.size === 0) return zeros(shape);
  const sums = x.dtype === "spikes" && groups === 1 ? spikeWeightGradient(x, gy, shape, g) : null;
  if (sums) return sums;
  const gw = empty(shape);
  const positions = g.n * g.oh * g.ow;
  const taps = g.kh * g.kw;
  if (isDepthwise(settings)) {
    const args = { x: x.storage, gy: gy.storage, gw: gw.storage, ...g };
    const tiles = tilesFor(Math.ceil(g.ci / 32), 4 * positions * taps);
    if (x.spikes) run("spike_dwconv2d_grad_weight", { ...args, ...x.spikes }, tiles);
    else run("dwconv2d_grad_weight", args, tiles);
    return gw;
  }
  const values = dense("conv2d", x).storage;
  const [ci, co] = [g.ci / groups, g.co / groups];
  const units = productUnits(1, taps * ci, co);
  const tiles = tilesFor(units, (positions * taps * ci * co) / 8 / units);
  for (let group = 0; group < groups; group++) {
    const part = groups === 1 ? gw : empty([taps * ci, co]);
    const pixels = { xs: g.ci, xo: group * ci, ys: g.co, yo: group * co };
    run("conv2d_grad_weight", { x: values, gy: gy.storage, gw: part.storage, ...g, ci, co, ...pixels }, tiles);
    if (part !== gw) copyStrided("conv2d", part.shape, at(part, [co, 1]), at(gw, [g.co, 1], group * co));
  }
  return gw;
}

const OPTIONS = ["stride", "padding", "dilation", "groups", "keepOutput"] as const;

/** Settings of a convolution. */
export interface Conv2dOptions {
  /** Default 1. */
  stride?: Pair | undefined;
  /** Rows and columns of zeros at each side, or "same": as many as keep the size (stride 1 only; the odd one goes to the end). Default 0. */
  padding?: Pair | "same" | undefined;
  /** Distance between the taps of the window. Default 1. */
  dilation?: Pair | undefined;
  /** Channels in and out are cut into so many groups that do not see each other. Default 1. */
  groups?: number | undefined;
  /**
   * Keep the output for backward (default true), or, of spikes and one group, make it again there from the spikes, to the same bits: the product
   * runs a second time, and its output takes no memory in between where only batch norms, neurons and residual sums of both read it.
   */
  keepOutput?: boolean | undefined;
}

/** As `Conv2dOptions`, along one axis. */
export interface Conv1dOptions {
  stride?: number | undefined;
  padding?: number | "same" | undefined;
  dilation?: number | undefined;
  groups?: number | undefined;
  keepOutput?: boolean | undefined;
}

/**
 * 2-d convolution (cross-correlation, as in PyTorch).
 *
 * @param x f32 or spikes [..., H, W, Cin]; all leading axes are batch
 * @param weight f32 [kh, kw, Cin / groups, Cout]
 * @param bias f32 [Cout]
 * @returns f32 [..., OH, OW, Cout], OH = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1
 * @throws SpikeloomError for dtypes, shapes that do not fit together, an input smaller than the window, or a window of more than
 *   CONV_LIMITS.taps (65,536) taps
 */
export function conv2d(x: Tensor, weight: Tensor, bias: Tensor | null = null, options: Conv2dOptions = {}): Tensor {
  const op = "conv2d";
  expectFloat(op, "x", x);
  expectDType(op, "weight", weight, "f32");
  checkOptions(op, options, OPTIONS);
  const still = once(x, 3, (image) => conv2d(image, weight, bias, options));
  if (still) return still;
  const { leading, n, h, w, c: ci } = imageSizes(op, x.shape);
  if (weight.rank !== 4) wrong(op, "weight", "of shape [kh, kw, Cin / groups, Cout]", show(weight.shape));
  const [kh, kw] = weight.shape as [number, number];
  return convolve(op, x, weight, bias, { n, h, w, ci, kh, kw }, options, (oh, ow, co) => [...leading, oh, ow, co]);
}

/**
 * 1-d convolution over the last axis but one.
 *
 * @param x f32 or spikes [..., L, Cin]; all leading axes are batch
 * @param weight f32 [k, Cin / groups, Cout]
 * @param bias f32 [Cout]
 * @returns f32 [..., OL, Cout]
 * @throws SpikeloomError as `conv2d`
 */
export function conv1d(x: Tensor, weight: Tensor, bias: Tensor | null = null, options: Conv1dOptions = {}): Tensor {
  const op = "conv1d";
  expectFloat(op, "x", x);
  expectDType(op, "weight", weight, "f32");
  checkOptions(op, options, OPTIONS);
  const still = once(x, 2, (line) => conv1d(line, weight, bias, options));
  if (still) return still;
  if (x.rank < 2) wrong(op, "x", "of shape [..., L, Cin]", show(x.shape));
  if (weight.rank !== 3) wrong(op, "weight", "of shape [k, Cin / groups, Cout]", show(weight.shape));
  const leading = x.shape.slice(0, -2);
  const [w, ci] = x.shape.slice(-2) as [number, number];
  const { stride = 1, padding = 0, dilation = 1, groups, keepOutput } = options;
  return convolve(
    op,
    x,
    weight,
    bias,
    { n: sizeOf(leading), h: 1, w, ci, kh: 1, kw: weight.shape[0] as number },
    { stride: [1, stride], padding: padding === "same" ? padding : [0, padding], dilation: [1, dilation], groups, keepOutput },
    (_, ow, co) => [...leading, ow, co],
  );
}

function convolve(
  op: string,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  sizes: { n: number; h: number; w: number; ci: number; kh: number; kw: number },
  options: Conv2dOptions,
  outputShape: (oh: number, ow: number, co: number) => Shape,
): Tensor {
  const { h, w, ci, kh, kw } = sizes;
  const { groups = 1, keepOutput = true } = options;
  if (typeof keepOutput !== "boolean") wrong(op, "keepOutput", "true or false", kindOf(keepOutput));
  const co = weight.shape[weight.rank - 1] as number;
  const perGroup = weight.shape[weight.rank - 2] as number;
  if (kh * kw < 1 || kh * kw > CONV_LIMITS.taps)
    wrong(op, "weight", `of a window of 1 to ${CONV_LIMITS.taps} taps`, `${show([kh, kw])} (${kh * kw} taps)`);
  if (!Number.isInteger(groups) || groups < 1) wrong(op, "groups", "an integer >= 1", kindOf(groups));
  if (co % groups !== 0) wrong(op, "weight", `of a multiple of ${groups} (groups) output channels`, show(weight.shape));
  if (perGroup * groups !== ci)
    wrong(
      op,
      "x",
      `of ${perGroup * groups} channels (weight ${show(weight.shape)}${groups > 1 ? `, ${groups} groups` : ""})`,
      show(x.shape),
    );
  if (bias) {
    expectDType(op, "bias", bias, "f32");
    expectShape(op, "bias", bias.shape, [co]);
  }
  const [sh, sw] = pair(op, "stride", options.stride ?? 1, 1);
  const [dh, dw] = pair(op, "dilation", options.dilation ?? 1, 1);
  const same = options.padding === "same";
  if (same && (sh !== 1 || sw !== 1)) wrong(op, "stride", 'of 1 with padding "same"', show([sh, sw]));
  const [ph, pw] = same ? [(dh * (kh - 1)) >> 1, (dw * (kw - 1)) >> 1] : pair(op, "padding", (options.padding as Pair | undefined) ?? 0, 0);
  const oh = same ? h : windowCount(h, { kernel: kh, stride: sh, padding: ph, dilation: dh });
  const ow = same ? w : windowCount(w, { kernel: kw, stride: sw, padding: pw, dilation: dw });
  expectWindows(op, x.shape, { oh, ow }, [kh, kw], [ph, pw]);
  const window = { n: sizes.n, h, w, ci, oh, ow, co, kh, kw, sh, sw, ph, pw, dh, dw };
  return apply(convolution, bias ? [x, weight, bias] : [x, weight], {
    window,
    groups,
    keepOutput,
    input: x.shape,
    output: outputShape(oh, ow, co),
  });
}
