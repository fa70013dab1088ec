import { beforeEach, describe, expect, it } from "vitest";
import { denseViews, resetDenseViews } from "../../src/tensor/ops/common.ts";
import { type Conv2dOptions, conv1d, conv2d } from "../../src/tensor/ops/conv.ts";
import { toDense } from "../../src/tensor/ops/elementwise.ts";
import { sum } from "../../src/tensor/ops/reduce.ts";
import { backward } from "../../src/tensor/tape.ts";
import { type Tensor, zeros } from "../../src/tensor/tensor.ts";
import { checkGradients, close, leaf, on, sameEverywhere, spikes, values, withGradients } from "./support.ts";

beforeEach(() => on("reference"));

const two = (v: number | readonly [number, number] | "same" | undefined, otherwise: number): [number, number] =>
  v === undefined || v === "same" ? [otherwise, otherwise] : typeof v === "number" ? [v, v] : [v[0], v[1]];

/** The definition, loop by loop. */
function naive(x: Tensor, weight: Tensor, bias: Tensor | null, options: Conv2dOptions): { shape: number[]; data: number[] } {
  const [h, w, ci] = x.shape.slice(-3) as [number, number, number];
  const [kh, kw, perGroup, co] = weight.shape as [number, number, number, number];
  const n = x.size / (h * w * ci);
  const groups = options.groups ?? 1;
  const [sh, sw] = two(options.stride, 1);
  const [ph, pw] = two(options.padding, 0);
  const [dh, dw] = two(options.dilation, 1);
  const oh = Math.floor((h + 2 * ph - dh * (kh - 1) - 1) / sh) + 1;
  const ow = Math.floor((w + 2 * pw - dw * (kw - 1) - 1) / sw) + 1;
  const [xs, ws, bs] = [x.dataSync(), weight.dataSync(), bias?.dataSync()];
  const data: number[] = [];
  for (let b = 0; b < n; b++)
    for (let oy = 0; oy < oh; oy++)
      for (let ox = 0; ox < ow; ox++)
        for (let o = 0; o < co; o++) {
          let sum = bs?.[o] ?? 0;
          const first = Math.floor(o / (co / groups)) * perGroup;
          for (let ky = 0; ky < kh; ky++)
            for (let kx = 0; kx < kw; kx++)
              for (let i = 0; i < perGroup; i++) {
                const [iy, ix] = [oy * sh - ph + ky * dh, ox * sw - pw + kx * dw];
                if (iy < 0 || iy >= h || ix < 0 || ix >= w) continue;
                sum += (xs[((b * h + iy) * w + ix) * ci + first + i] as number) * (ws[((ky * kw + kx) * perGroup + i) * co + o] as number);
              }
          data.push(sum);
        }
  return { shape: [...x.shape.slice(0, -3), oh, ow, co], data };
}

interface Case {
  name: string;
  x: number[];
  weight: number[];
  options: Conv2dOptions;
}

const cases: Case[] = [
  { name: "3x3 with padding", x: [2, 5, 6, 3], weight: [3, 3, 3, 4], options: { padding: 1 } },
  { name: "stride 2, odd sizes", x: [1, 7, 6, 2], weight: [3, 3, 2, 3], options: { stride: 2, padding: 1 } },
  { name: "stride 3 that leaves input over", x: [1, 8, 9, 1], weight: [2, 2, 1, 2], options: { stride: 3 } },
  { name: "dilation", x: [1, 7, 8, 2], weight: [3, 2, 2, 2], options: { dilation: [2, 3], padding: [2, 1] } },
  {
    name: "stride and dilation that differ by axis",
    x: [2, 8, 7, 2],
    weight: [2, 3, 2, 3],
    options: { stride: [2, 1], dilation: [1, 2], padding: [0, 2] },
  },
  { name: "padding wider than the window", x: [1, 3, 3, 2], weight: [1, 1, 2, 3], options: { padding: 2 } },
  { name: "groups", x: [1, 4, 5, 6], weight: [3, 3, 2, 9], options: { groups: 3, padding: 1 } },
  { name: "groups with stride", x: [1, 6, 5, 4], weight: [3, 3, 2, 2], options: { groups: 2, stride: 2, padding: 1 } },
  { name: "depth-wise", x: [2, 5, 4, 5], weight: [3, 3, 1, 5], options: { groups: 5, padding: 1 } },
  {
    name: "depth-wise with stride and dilation",
    x: [1, 7, 7, 3],
    weight: [3, 3, 1, 3],
    options: { groups: 3, stride: 2, dilation: 2, padding: 2 },
  },
  { name: "two leading axes", x: [2, 2, 4, 4, 2], weight: [2, 2, 2, 3], options: {} },
  { name: "one image without batch", x: [4, 4, 2], weight: [4, 4, 2, 3], options: {} },
];

const inputsOf = (c: Case): [Tensor, Tensor, Tensor] => [values(c.x, 1), values(c.weight, 2), values([c.weight[3] as number], 3)];

describe("conv2d", () => {
  it.each(cases)("equals the naive loop: $name", (c) => {
    const [x, weight, bias] = inputsOf(c);
    const y = conv2d(x, weight, bias, c.options);
    const expected = naive(x, weight, bias, c.options);
    expect(y.shape).toEqual(expected.shape);
    close(y.dataSync(), expected.data, 1e-12);
    close(conv2d(x, weight, null, c.options).dataSync(), naive(x, weight, null, c.options).data, 1e-12);
  });

  it.each(cases)("has the gradients of finite differences: $name", (c) => {
    const [x, weight, bias] = inputsOf(c).map(leaf) as [Tensor, Tensor, Tensor];
    checkGradients((a, b, d) => conv2d(a, b, d, c.options), x, weight, bias);
  });

  it.each(cases)("is the same on every device: $name", async (c) => {
    await sameEverywhere(() => {
      const [x, weight, bias] = inputsOf(c).map(leaf) as [Tensor, Tensor, Tensor];
      return withGradients((a, b, d) => conv2d(a, b, d, c.options), x, weight, bias);
    });
  });

  it("is the same on every device for channel counts that fill vectors and leave a rest", async () => {
    for (const [ci, co] of [
      [1, 17],
      [33, 48],
      [40, 7],
    ] as const)
      await sameEverywhere(() => {
        const inputs = [values([2, 9, 8, ci], 1), values([3, 3, ci, co], 2), values([co], 3)].map(leaf);
        return withGradients((a, b, d) => conv2d(a as Tensor, b as Tensor, d as Tensor, { padding: 1 }), ...inputs);
      });
  });

  it("keeps the size with padding same, the odd column at the end", () => {
    const [x, weight] = [values([1, 5, 6, 2], 1), values([2, 4, 2, 3], 2)];
    const y = conv2d(x, weight, null, { padding: "same" });
    expect(y.shape).toEqual([1, 5, 6, 3]);
    // top 0, bottom 1, left 1, right 2
    const padded = zeros([1, 6, 9, 2]);
    const [from, to] = [x.dataSync(), padded.dataSync()];
    for (let r = 0; r < 5; r++) for (let i = 0; i < 12; i++) to[(r * 9 + 1) * 2 + i] = from[r * 12 + i] as number;
    close(y.dataSync(), naive(padded.set(to), weight, null, {}).data, 1e-12);
  });

  it.each([1, 2, 3])("of spikes with %i planes equals the dense one, in values and gradients", (planes) => {
    for (const [ci, options] of [
      [5, { padding: 1 }],
      [33, { stride: 2 }],
      [64, { dilation: 2, padding: 1 }],
    ] as const) {
      const x = spikes([2, 2, 5, 6, ci], 4, { planes, scale: 0.5 });
      const make = (input: Tensor): number[][] =>
        withGradients((a, b, d) => conv2d(a, b, d, options), leaf(input), leaf(values([3, 3, ci, 4], 2)), leaf(values([4], 3)));
      resetDenseViews();
      const bits = make(x);
      expect(denseViews().get("conv2d")).toBeUndefined();
      make(toDense(x).alias()).forEach((list, i) => {
        close(bits[i] as number[], list, 1e-12, `result ${i}`);
      });
    }
  });

  it("of spikes is the same on every device", async () => {
    for (const [planes, ci, co] of [
      [1, 5, 3],
      [1, 64, 40],
      [2, 33, 16],
    ] as const)
      await sameEverywhere(() =>
        withGradients(
          (a, b) => conv2d(a, b, null, { padding: 1 }),
          leaf(spikes([2, 6, 5, ci], 4, { planes })),
          leaf(values([3, 3, ci, co], 2)),
        ),
      );
  });

  it("unpacks spikes where there are groups, and says so; depth-wise convolution reads bits", () => {
    const x = spikes([1, 5, 5, 4], 4);
    for (const [groups, weight, views] of [
      [2, [3, 3, 2, 6], 2],
      [4, [3, 3, 1, 4], undefined],
    ] as const) {
      resetDenseViews();
      const bits = withGradients((a, b) => conv2d(a, b, null, { groups }), leaf(x), leaf(values(weight, 2)));
      expect(denseViews().get("conv2d")).toBe(views);
      const floats = withGradients((a, b) => conv2d(a, b, null, { groups }), leaf(toDense(x).alias()), leaf(values(weight, 2)));
      expect(bits.slice(0, 1)).toEqual(floats.slice(0, 1));
      expect(bits[2]).toEqual(floats[2]);
      x.grad = null;
    }
  });

  it("gives no gradient to what does not want one", () => {
    const [x, weight] = [values([1, 4, 4, 2], 1), leaf(values([3, 3, 2, 2], 2))];
    backward(sum(conv2d(x, weight)));
    expect(x.grad).toBeNull();
    expect(weight.grad).not.toBeNull();
  });

  it("names the argument that is wrong", () => {
    const [x, weight] = [values([1, 4, 4, 2], 1), values([3, 3, 2, 3], 2)];
    expect(() => conv2d(values([4, 4], 1), weight)).toThrow("conv2d: x must be of shape [..., H, W, C], found [4, 4]");
    expect(() => conv2d(values([1, 4, 4, 3], 1), weight)).toThrow(
      "conv2d: x must be of 2 channels (weight [3, 3, 2, 3]), found [1, 4, 4, 3]",
    );
    expect(() => conv2d(x, values([3, 3], 2))).toThrow("conv2d: weight must be of shape [kh, kw, Cin / groups, Cout], found [3, 3]");
    expect(() => conv2d(x, weight, values([2], 3))).toThrow("conv2d: bias must be of shape [3], found [2]");
    expect(() => conv2d(x, weight, null, { stride: 0 })).toThrow("conv2d: stride must be an integer >= 1, or two, found 0");
    expect(() => conv2d(x, weight, null, { groups: 2 })).toThrow(
      "conv2d: weight must be of a multiple of 2 (groups) output channels, found [3, 3, 2, 3]",
    );
    expect(() => conv2d(x, weight, null, { padding: "same", stride: 2 })).toThrow('conv2d: stride must be of 1 with padding "same"');
    expect(() => conv2d(x, weight, null, { dilation: 3 })).toThrow("conv2d: x must be at least as large as the window [3, 3]");
  });
});

describe("conv1d", () => {
  it("is conv2d over one row, with its gradients", () => {
    const [x, weight, bias] = [values([2, 3, 9, 4], 1), values([3, 2, 6], 2), values([6], 3)];
    const options = { stride: 2, padding: 2, dilation: 2, groups: 2 };
    const y = conv1d(x, weight, bias, options);
    expect(y.shape).toEqual([2, 3, 5, 6]);
    const wide = { stride: [1, 2], padding: [0, 2], dilation: [1, 2], groups: 2 } as const;
    close(y.dataSync(), conv2d(x.alias([2, 3, 1, 9, 4]), weight.alias([1, 3, 2, 6]), bias, wide).dataSync(), 0);
    checkGradients((a, b, d) => conv1d(a, b, d, options), leaf(x), leaf(weight), leaf(bias));
  });

  it("takes spikes, and a window of one with padding same", () => {
    const [x, weight] = [spikes([2, 7, 40], 4), values([1, 40, 3], 2)];
    close(conv1d(x, weight, null, { padding: "same" }).dataSync(), conv1d(toDense(x), weight).dataSync(), 1e-12);
  });

  it("names the argument that is wrong", () => {
    expect(() => conv1d(values([4], 1), values([1, 4, 2], 2))).toThrow("conv1d: x must be of shape [..., L, Cin], found [4]");
    expect(() => conv1d(values([2, 4], 1), values([3, 4, 2], 2))).toThrow("conv1d: x must be at least as large as the window");
  });
});
