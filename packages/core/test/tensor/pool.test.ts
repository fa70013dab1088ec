import { beforeEach, describe, expect, it } from "vitest";
import { toDense, toSpikes } from "../../src/tensor/ops/elementwise.ts";
import { adaptiveAvgPool2d, avgPool2d, globalAvgPool2d, maxPool2d } from "../../src/tensor/ops/pool.ts";
import { backward } from "../../src/tensor/tape.ts";
import { ones, type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { checkGradients, close, leaf, on, sameEverywhere, spikes, values, withGradients } from "./support.ts";

beforeEach(() => on("reference"));

const image = (data: number[], h: number, w: number): Tensor => tensor(data, [1, h, w, 1]);

describe("maxPool2d", () => {
  it("takes the maximum, with padding as -infinity", () => {
    const x = image([-1, -2, -3, -4, -5, -6, -7, -8, -9], 3, 3);
    const y = maxPool2d(x, 3, { stride: 2, padding: 1 });
    expect(y.shape).toEqual([1, 2, 2, 1]);
    expect([...y.dataSync()]).toEqual([-1, -2, -4, -5]);
  });

  it("gives the gradient to the first of equal values in row-major order", () => {
    const x = leaf(image([1, 5, 5, 2, 5, 5, 0, 0, 3], 3, 3));
    const y = maxPool2d(x, 2, { stride: 1 });
    backward(y, { gradient: ones(y.shape) });
    // Windows [1 5 / 2 5], [5 5 / 5 5], [2 5 / 0 0], [5 5 / 0 3]: the first 5 of each.
    expect([...(x.grad as Tensor).dataSync()]).toEqual([0, 2, 0, 0, 2, 0, 0, 0, 0]);
  });

  it("gives the gradient of a window of silent spikes to its first position inside the image", () => {
    const x = leaf(spikesOf([0, 0, 1, 0, 0, 1, 0, 0, 0]));
    const y = maxPool2d(x, 2, { stride: 1, padding: 1 });
    expect(y.dtype).toBe("spikes");
    expect([...y.dataSync()]).toEqual([0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0]);
    backward(y, {
      gradient: tensor(
        Float32Array.from({ length: 16 }, (_, i) => i + 1),
        [1, 4, 4, 1],
      ),
    });
    // In the order of windows: pixel 0 gets 1 + 2 + 5 + 6, ...
    expect([...(x.grad as Tensor).dataSync()]).toEqual([1 + 2 + 5 + 6, 0, 3 + 4 + 7 + 8, 9 + 10, 0, 11 + 12, 13 + 14, 15, 16]);
  });

  it.each([1, 2, 3])("of spikes with %i planes equals the dense one, and stays spikes", (planes) => {
    for (const c of [3, 33]) {
      const x = spikes([2, 7, 6, c], 5, { planes, scale: 0.5 });
      const run = (input: Tensor): number[][] => withGradients((a) => maxPool2d(a, 3, { stride: 2, padding: 1 }), leaf(input));
      const y = maxPool2d(x, 3, { stride: 2, padding: 1 });
      expect(y.spikes).toEqual({ planes, scale: 0.5 });
      const [bits, floats] = [run(x), run(toDense(x).alias())];
      expect(bits).toEqual(floats);
    }
  });

  it.each([
    ["stride of the window", [2, 6, 6, 3], 2, {}],
    ["overlap and padding", [1, 7, 8, 2], 3, { stride: 2, padding: 1 }],
    ["dilation", [1, 7, 7, 2], 2, { stride: 1, dilation: 3 }],
    ["ceil mode", [1, 6, 5, 2], 3, { stride: 2, ceilMode: true }],
    ["different axes", [1, 6, 7, 2], [2, 3], { stride: [1, 2], padding: [1, 0] }],
  ] as const)("has the gradients of finite differences, on every device the same: %s", async (_name, shape, kernel, options) => {
    checkGradients((a) => maxPool2d(a, kernel, options), leaf(values(shape, 6)));
    await sameEverywhere(() => withGradients((a) => maxPool2d(a, kernel, options), leaf(values(shape, 6))));
    await sameEverywhere(() => withGradients((a) => maxPool2d(a, kernel, options), leaf(spikes(shape, 6))));
  });

  it("counts a last window that hangs over only in ceil mode, and only if it begins inside", () => {
    const sizes = (h: number, kernel: number, stride: number, padding: number): number[] =>
      [false, true].map(
        (ceilMode) =>
          maxPool2d(values([1, h, 4, 1], 1), [kernel, 1], { stride: [stride, 1], padding: [padding, 0], ceilMode }).shape[1] as number,
      );
    // Size 1 and stride 3 on a length of 5: a third window would begin at 6, which is not inside.
    expect(sizes(6, 3, 2, 0)).toEqual([2, 3]);
    expect(sizes(7, 3, 2, 0)).toEqual([3, 3]);
    expect(sizes(5, 2, 2, 1)).toEqual([3, 3]);
    expect(sizes(5, 1, 3, 0)).toEqual([2, 2]);
  });

  it("names the argument that is wrong", () => {
    expect(() => maxPool2d(values([4, 4], 1), 2)).toThrow("maxPool2d: x must be of shape [..., H, W, C], found [4, 4]");
    expect(() => maxPool2d(values([1, 4, 4, 1], 1), 2, { padding: 2 })).toThrow(
      "maxPool2d: padding must be at most half of the window [2, 2], found [2, 2]",
    );
    expect(() => maxPool2d(values([1, 2, 2, 1], 1), 3)).toThrow("maxPool2d: x must be at least as large as the window [3, 3]");
    expect(() => maxPool2d(values([1, 4, 4, 1], 1), 1.5)).toThrow("maxPool2d: kernelSize must be an integer >= 1, or two, found 1.5");
    expect(() => maxPool2d(tensor(new Int32Array(16), [1, 4, 4, 1]), 2)).toThrow("maxPool2d: x must be of dtype f32 or spikes, found i32");
  });
});

describe("avgPool2d", () => {
  it("divides by the window, by the positions inside, or by what lies before the padded end", () => {
    const x = image([1, 2, 3, 4, 5, 6, 7, 8, 9], 3, 3);
    close(avgPool2d(x, 2, { stride: 2, padding: 1 }).dataSync(), [1 / 4, 5 / 4, 11 / 4, 28 / 4], 1e-12);
    close(avgPool2d(x, 2, { stride: 2, padding: 1, countIncludePad: false }).dataSync(), [1, 5 / 2, 11 / 2, 28 / 4], 1e-12);
    close(avgPool2d(x, 2, { ceilMode: true }).dataSync(), [12 / 4, 9 / 2, 15 / 2, 9], 1e-12);
    // Window 4, stride 3, padding 1: the second window of an axis has 2 positions before the padded end, one of them inside.
    const wide = avgPool2d(image([1, 2, 3, 4, 5, 6, 7, 8, 9], 3, 3), 4, { stride: 3, padding: 1, ceilMode: true });
    close(wide.dataSync(), [45 / 16, 18 / 8, 24 / 8, 9 / 4], 1e-12);
  });

  it.each([
    ["plain", [2, 6, 6, 3], 2, {}],
    ["padding counted", [1, 7, 6, 2], 3, { stride: 2, padding: 1 }],
    ["padding not counted", [1, 7, 6, 2], 3, { stride: 2, padding: 1, countIncludePad: false }],
    ["ceil mode", [1, 6, 5, 2], [3, 2], { stride: 2, ceilMode: true }],
    ["ceil mode, padding counted", [2, 1, 6, 5, 2], 4, { stride: 3, padding: [1, 2], ceilMode: true }],
  ] as const)("has the gradients of finite differences, on every device the same: %s", async (_name, shape, kernel, options) => {
    checkGradients((a) => avgPool2d(a, kernel, options), leaf(values(shape, 6)));
    await sameEverywhere(() => withGradients((a) => avgPool2d(a, kernel, options), leaf(values(shape, 6))));
  });
});

describe("adaptiveAvgPool2d and globalAvgPool2d", () => {
  it("average over windows that cover the image", () => {
    const x = image([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], 3, 4);
    const y = adaptiveAvgPool2d(x, [2, 3]);
    expect(y.shape).toEqual([1, 2, 3, 1]);
    // rows [0, 2), [1, 3); columns [0, 2), [1, 3), [2, 4)
    close(y.dataSync(), [3.5, 4.5, 5.5, 7.5, 8.5, 9.5], 1e-12);
    expect(globalAvgPool2d(x).shape).toEqual([1, 1]);
    close(globalAvgPool2d(x).dataSync(), [6.5], 1e-12);
    expect(adaptiveAvgPool2d(x, 1).shape).toEqual([1, 1, 1, 1]);
  });

  it.each([[[2, 3]], [[1, 1]], [[7, 5]]] as const)(
    "have the gradients of finite differences, on every device the same: %s",
    async ([oh, ow]) => {
      const shape = [2, 5, 4, 3];
      checkGradients((a) => adaptiveAvgPool2d(a, [oh, ow]), leaf(values(shape, 6)));
      await sameEverywhere(() => withGradients((a) => adaptiveAvgPool2d(a, [oh, ow]), leaf(values(shape, 6))));
    },
  );

  it("count spikes exactly as the dense average", () => {
    for (const planes of [1, 2]) {
      const x = spikes([2, 4, 5, 33], 5, { planes, scale: 0.5 });
      const [bits, floats] = [x, toDense(x).alias()].map((input) => withGradients(globalAvgPool2d, leaf(input)));
      close(bits?.[0] as number[], floats?.[0] as number[], 1e-12);
      close(bits?.[1] as number[], floats?.[1] as number[], 1e-12);
    }
  });
});

function spikesOf(bits: number[]): Tensor {
  return toSpikes(image(bits, 3, 3));
}
