// The kernel profile: it counts what ran, names shapes, and leaves the device as it was.
import { beforeAll, describe, expect, it } from "vitest";
import { init, measure, nn, scope, zeros } from "../../src/index.ts";

beforeAll(async () => {
  await init({ device: "reference" });
});

const product = () =>
  scope(() =>
    zeros([3, 4])
      .matmul(zeros([4, 5]))
      .add(1)
      .dataSync(),
  );

describe("measure.profileKernels", () => {
  it("counts calls by kernel and shape and hands on the result", () => {
    const { result, kernels, ms } = measure.profileKernels(() => [product(), product()]);
    expect(result.map((values) => [...values])).toEqual([Array(15).fill(1), Array(15).fill(1)]);
    const gemm = kernels.find((k) => k.kernel === "gemm");
    expect(gemm).toMatchObject({ calls: 2, shape: "batch 1, n 5, m 3, k 4" });
    expect(kernels.filter((k) => k.kernel === "fill").map((k) => [k.shape, k.calls])).toContainEqual(["n 20", 2]);
    const parts = kernels.reduce((sum, k) => sum + k.share, 0);
    expect(parts).toBeGreaterThan(0);
    expect(parts).toBeLessThanOrEqual(1);
    expect(kernels.map((k) => k.ms)).toEqual(kernels.map((k) => k.ms).sort((a, b) => b - a));
    expect(ms).toBeGreaterThan(0);
  });

  it("names the function of element-wise kernels and the window of convolutions", () => {
    const { kernels } = measure.profileKernels(() =>
      scope(() => {
        nn.conv2d(zeros([2, 6, 6, 3]), zeros([3, 3, 3, 8]), null, { stride: 2 });
        zeros([7]).exp();
      }),
    );
    expect(kernels.find((k) => k.kernel === "conv2d")?.shape).toBe("2x6x6x3 -> 2x2x8, 3x3");
    expect(kernels.find((k) => k.kernel === "unary.exp")?.shape).toBe("n 7");
  });

  it("can be nested, and stops when the work fails or waits", () => {
    const outer = measure.profileKernels(() => measure.profileKernels(product).kernels);
    expect(outer.kernels.map((k) => k.kernel).sort()).toEqual(outer.result.map((k) => k.kernel).sort());

    let calls = 0;
    const failing = () => {
      product();
      calls++;
      throw new Error("stop here");
    };
    const { kernels } = measure.profileKernels(() => {
      expect(() => measure.profileKernels(failing)).toThrow("stop here");
    });
    expect(calls).toBe(1);
    expect(kernels.find((k) => k.kernel === "gemm")?.calls).toBe(1);
    expect(() => measure.profileKernels(async () => {})).toThrow(/must be synchronous/);
  });
});
