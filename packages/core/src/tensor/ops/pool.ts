/** Pooling over images [..., H, W, C]: maximum (binary spikes stay spikes), average, adaptive average. */
import { checkOptions } from "../../runtime/check.ts";
import { type Shape, show, wrong } from "../shape.ts";
import { apply, type OpDefinition } from "../tape.ts";
import { empty, emptySpikes, type SpikeFormat, type Tensor } from "../tensor.ts";
import { dense, expectFloat, run, tilesFor } from "./common.ts";
import { pack } from "./elementwise.ts";
import { pad } from "./layout.ts";
import { mean } from "./reduce.ts";
import { isBinary } from "./spikes.ts";
import { inSteps, stepsAsChannels, withoutSteps } from "./steps.ts";
import { expectWindows, imageSizes, type Pair, pair, type Window, windowCount } from "./window.ts";

/** Settings of `maxPool2d`. */
export interface MaxPool2dOptions {
  /** Default: the window's size. */
  stride?: Pair | undefined;
  /** At most half of the window; counts as -infinity. Default 0. */
  padding?: Pair | undefined;
  dilation?: Pair | undefined;
  /** Let a last window hang over the end. Default false. */
  ceilMode?: boolean | undefined;
}

/** Settings of `avgPool2d`. */
export interface AvgPool2dOptions {
  stride?: Pair | undefined;
  padding?: Pair | undefined;
  ceilMode?: boolean | undefined;
  /** Does the padding count in the divisor? Default true. */
  countIncludePad?: boolean | undefined;
}

/** For the layers too, whose mistakes should show when they are made. */
export function checkMaxPool(where: string, options: MaxPool2dOptions): void {
  checkOptions(where, options, ["stride", "padding", "dilation", "ceilMode"]);
}

export function checkAvgPool(where: string, options: AvgPool2dOptions): void {
  checkOptions(where, options, ["stride", "padding", "ceilMode", "countIncludePad"]);
}

interface Settings {
  window: Window;
  input: Shape;
  output: Shape;
}

function settingsOf(op: string, x: Tensor, kernel: Pair, options: MaxPool2dOptions): Settings {
  expectFloat(op, "x", x);
  const { leading, n, h, w, c } = imageSizes(op, x.shape);
  const [kh, kw] = pair(op, "kernelSize", kernel, 1);
  const [sh, sw] = pair(op, "stride", options.stride ?? kernel, 1);
  const [ph, pw] = pair(op, "padding", options.padding ?? 0, 0);
  const [dh, dw] = pair(op, "dilation", options.dilation ?? 1, 1);
  if (2 * ph > kh || 2 * pw > kw) wrong(op, "padding", `at most half of the window ${show([kh, kw])}`, show([ph, pw]));
  const ceil = options.ceilMode ?? false;
  const oh = windowCount(h, { kernel: kh, stride: sh, padding: ph, dilation: dh, ceil });
  const ow = windowCount(w, { kernel: kw, stride: sw, padding: pw, dilation: dw, ceil });
  expectWindows(op, x.shape, { oh, ow }, [kh, kw], [ph, pw]);
  return { window: { n, h, w, ci: c, oh, ow, co: c, kh, kw, sh, sw, ph, pw, dh, dw }, input: x.shape, output: [...leading, oh, ow, c] };
}

/** Tiles of a pass over the output rows, and over the input rows. */
const forwardTiles = (g: Window): number => tilesFor(g.n * g.oh, g.ow * g.kh * g.kw * g.co);
const backwardTiles = (g: Window): number => tilesFor(g.n * g.h, g.w * g.co * (1 + (g.kh * g.kw) / (g.sh * g.sw)));

const maxPooling: OpDefinition<Settings> = {
  name: "maxPool2d",

  forward(ctx, inputs, { window: g, output }) {
    const given = inputs[0] as Tensor;
    if (inSteps(given) && given.size && !ctx.recording) {
      // The largest of integers fires in every step in which one of them does.
      const x = stepsAsChannels(given);
      const y = emptySpikes(output, given.spikes as SpikeFormat);
      const channels = x.shape.at(-1) as number;
      const sizes = { ...g, ci: channels, co: channels };
      run("spike_maxpool2d", { x: x.storage, y: y.storage, ...sizes }, tilesFor(g.n * g.oh, (g.ow * g.kh * g.kw * channels) / 32));
      return y;
    }
    const x = withoutSteps(given);
    if (isBinary(x)) {
      ctx.save(x);
      const y = emptySpikes(output, x.spikes as SpikeFormat);
      run("spike_maxpool2d", { x: x.storage, y: y.storage, ...g }, tilesFor(g.n * g.oh, (g.ow * g.kh * g.kw * g.co) / 32));
      return y;
    }
    const y = empty(output);
    const index = ctx.recording ? empty(output, "i32") : null;
    run("maxpool2d", { x: dense("maxPool2d", x).storage, y: y.storage, index: index?.storage ?? null, ...g }, forwardTiles(g));
    if (index) ctx.save(index);
    return given.spikes ? pack(y, given.spikes) : y;
  },

  backward(ctx, grads, { window: g, input }) {
    const gy = (grads[0] as Tensor).storage;
    const saved = ctx.saved[0] as Tensor;
    const gx = empty(input);
    if (saved.dtype === "spikes")
      run("spike_maxpool2d_grad", { x: saved.storage, gy, gx: gx.storage, ...g }, tilesFor(g.n, g.h * g.w * g.co));
    else run("maxpool2d_grad", { gy, index: saved.storage, gx: gx.storage, ...g }, backwardTiles(g));
    return [gx];
  },
};

/**
 * Maximum of each window. Of equal values the first in row-major order is the maximum: it gets the gradient.
 *
 * @param x f32 or spikes [..., H, W, C]
 * @returns f32, or spikes of the same format, [..., OH, OW, C]
 * @throws SpikeloomError when the window does not fit, or padding passes half of it
 */
export function maxPool2d(x: Tensor, kernelSize: Pair, options: MaxPool2dOptions = {}): Tensor {
  checkMaxPool("maxPool2d", options);
  return apply(maxPooling, [x], settingsOf("maxPool2d", x, kernelSize, options));
}

const averagePooling: OpDefinition<Settings & { countPad: number }> = {
  name: "avgPool2d",
  forward(_ctx, inputs, { window: g, output, countPad }) {
    const y = empty(output);
    run("avgpool2d", { x: dense("avgPool2d", inputs[0] as Tensor).storage, y: y.storage, ...g, countPad }, forwardTiles(g));
    return y;
  },
  backward(_ctx, grads, { window: g, input, countPad }) {
    const gx = empty(input);
    run("avgpool2d_grad", { gy: (grads[0] as Tensor).storage, gx: gx.storage, ...g, countPad }, backwardTiles(g));
    return [gx];
  },
};

/**
 * Average of each window.
 *
 * @param x f32 or spikes [..., H, W, C]
 * @returns f32 [..., OH, OW, C]
 * @throws SpikeloomError when the window does not fit, or padding passes half of it
 */
export function avgPool2d(x: Tensor, kernelSize: Pair, options: AvgPool2dOptions = {}): Tensor {
  checkAvgPool("avgPool2d", options);
  const { countIncludePad = true, ceilMode = false } = options;
  const settings = settingsOf("avgPool2d", x, kernelSize, options);
  const { window: g, output } = settings;
  if (!ceilMode || !countIncludePad) return apply(averagePooling, [x], { ...settings, countPad: countIncludePad ? 1 : 0 });
  // A window that hangs over the padded end counts only what lies before that end: pad first, then count positions inside.
  const padded = g.ph || g.pw ? pad(x, [...x.shape.slice(3).map((): [number, number] => [0, 0]), [g.ph, g.ph], [g.pw, g.pw], [0, 0]]) : x;
  const window = { ...g, h: g.h + 2 * g.ph, w: g.w + 2 * g.pw, ph: 0, pw: 0 };
  return apply(averagePooling, [padded], { window, input: padded.shape, output, countPad: 0 });
}

interface AdaptiveSettings {
  sizes: { n: number; h: number; w: number; c: number; oh: number; ow: number };
  input: Shape;
  output: Shape;
}

const adaptivePooling: OpDefinition<AdaptiveSettings> = {
  name: "adaptiveAvgPool2d",
  forward(_ctx, inputs, { sizes, output }) {
    const y = empty(output);
    const { n, h, w, c, oh } = sizes;
    const x = dense("adaptiveAvgPool2d", inputs[0] as Tensor).storage;
    run("adaptive_avgpool2d", { x, y: y.storage, ...sizes }, tilesFor(n * oh, (h * w * c) / oh));
    return y;
  },
  backward(_ctx, grads, { sizes, input }) {
    const gx = empty(input);
    const { n, h, w, c } = sizes;
    run("adaptive_avgpool2d_grad", { gy: (grads[0] as Tensor).storage, gx: gx.storage, ...sizes }, tilesFor(n * h, w * c));
    return [gx];
  },
};

/**
 * Average over `outputSize` windows that cover the image: window i of an axis is [floor(i n / out), ceil((i + 1) n / out)).
 *
 * @param x f32 or spikes [..., H, W, C]
 * @returns f32 [..., OH, OW, C]
 */
export function adaptiveAvgPool2d(x: Tensor, outputSize: Pair): Tensor {
  const op = "adaptiveAvgPool2d";
  expectFloat(op, "x", x);
  const { leading, n, h, w, c } = imageSizes(op, x.shape);
  if (h < 1 || w < 1) wrong(op, "x", "of at least one pixel", show(x.shape));
  const [oh, ow] = pair(op, "outputSize", outputSize, 1);
  const output = [...leading, oh, ow, c];
  if (oh === 1 && ow === 1) return mean(x, [-3, -2], true);
  return apply(adaptivePooling, [x], { sizes: { n, h, w, c, oh, ow }, input: x.shape, output });
}

/**
 * Average over the whole image. Binary spikes are counted, not unpacked.
 *
 * @param x f32 or spikes [..., H, W, C]
 * @returns f32 [..., C]
 */
export function globalAvgPool2d(x: Tensor): Tensor {
  expectFloat("globalAvgPool2d", "x", x);
  const { h, w } = imageSizes("globalAvgPool2d", x.shape);
  if (h < 1 || w < 1) wrong("globalAvgPool2d", "x", "of at least one pixel", show(x.shape));
  return mean(x, [-3, -2]);
}
