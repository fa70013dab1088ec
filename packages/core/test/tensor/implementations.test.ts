/** Operations with several implementations: each can be forced, they agree, and a wrong name is told. */
import { afterEach, describe, expect, it } from "vitest";
import { engineInfo, init, noGrad, scope, tensor } from "../../src/index.ts";
import { profileKernels } from "../../src/runtime/profile.ts";
import { denseViews, resetDenseViews } from "../../src/tensor/ops/common.ts";
import { conv2d } from "../../src/tensor/ops/conv.ts";
import { matmul } from "../../src/tensor/ops/matmul.ts";

const random = (n: number, seed: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(seed + i * 12.9898) * 0.5);

/** Values and weight gradients of a convolution and a product fed with spikes. */
function results(): number[][] {
  return scope(() => {
    const x = tensor(
      random(2 * 5 * 5 * 37, 1).map((v) => (v > 0.2 ? 1 : 0)),
      [2, 5, 5, 37],
    ).toSpikes();
    const w = tensor(random(3 * 3 * 37 * 11, 2), [3, 3, 37, 11]);
    const v = tensor(random(37 * 11, 3), [37, 11]);
    w.requiresGrad = v.requiresGrad = true;
    const y = conv2d(x, w, null, { padding: 1 });
    const z = matmul(x.reshape([50, 37]), v);
    y.square().sum().add(z.square().sum()).backward();
    return noGrad(() => [y, z, w.grad, v.grad].map((t) => [...(t?.dataSync() ?? [])]));
  });
}

describe("implementations of spike products", () => {
  afterEach(async () => {
    delete process.env.SPIKELOOM_IMPLEMENTATIONS;
    await init({ device: "wasm", threads: 1 });
  });

  it("agree, and only the dense one unpacks spikes", async () => {
    await init({ device: "wasm", threads: 1 });
    resetDenseViews();
    const auto = results();
    await init({ device: "wasm", threads: 1, implementations: { spikeProduct: "event" } });
    const event = results();
    await init({ device: "wasm", threads: 1, implementations: { spikeProduct: "table" } });
    const table = results();
    expect([...denseViews().keys()]).toEqual([]);
    await init({ device: "wasm", threads: 1, implementations: { spikeProduct: "dense", spikeProductGradWeight: "dense" } });
    const dense = results();
    expect([...denseViews().keys()].sort()).toEqual(["conv2d", "matmul"]);
    for (const found of [auto, event, table])
      found.forEach((values, i) => {
        expect(values.length).toBe(dense[i]?.length);
        values.forEach((v, j) => {
          expect(Math.abs(v - (dense[i]?.[j] as number))).toBeLessThan(1e-4 * Math.max(1, Math.abs(v)));
        });
      });
  });

  it("are chosen by the number of spikes", async () => {
    const product = (density: number) => {
      const spikes = random(512 * 64, 1).map((v) => (v + 0.5 < density ? 1 : 0));
      return scope(() => {
        const x = tensor(spikes, [512, 64]).toSpikes();
        const w = tensor(random(64 * 16, 2), [64, 16]);
        return profileKernels(() => matmul(x, w)).kernels.map((k) => k.kernel);
      });
    };
    await init({ device: "wasm", threads: 1 });
    expect(product(0.02)).toContain("spike_conv2d");
    expect(product(0.9)).toContain("spike_conv2d_table");
  });

  it("can be forced by a variable", async () => {
    process.env.SPIKELOOM_IMPLEMENTATIONS = "spikeProduct=dense";
    await init({ device: "wasm", threads: 1 });
    resetDenseViews();
    results();
    expect(denseViews().get("conv2d")).toBe(1);
  });

  it("are named in the error of a wrong choice, and the engine goes on as before", async () => {
    await init({ device: "wasm", threads: 1 });
    await expect(init({ device: "wasm", implementations: { spikeProduct: "evnt" as "event" } })).rejects.toThrow(/did you mean "event"/);
    await expect(init({ device: "wasm", implementations: { spikeproduct: "event" } as never })).rejects.toThrow(
      /did you mean "spikeProduct"/,
    );
    expect(engineInfo().device).toBe("wasm");
    process.env.SPIKELOOM_IMPLEMENTATIONS = "nonsense";
    await expect(init({ device: "wasm" })).rejects.toThrow(/operation=name/);
  });
});

describe("the input gradient of a 3 x 3 convolution", () => {
  afterEach(() => init({ device: "wasm", threads: 1 }));

  /** Input gradients of some convolutions: sizes that tiles of 4 x 4 fit and do not fit, paddings, a window that steps. */
  async function gradients(device: "wasm" | "reference", convGradInput: "winograd" | "direct"): Promise<number[][]> {
    await init({ device, threads: 1, implementations: { convGradInput } });
    const shapes = [
      { n: 6, h: 8, w: 8, ci: 16, co: 24, padding: 1, stride: 1 },
      { n: 7, h: 11, w: 7, ci: 33, co: 17, padding: 2, stride: 1 },
      { n: 12, h: 9, w: 6, ci: 20, co: 16, padding: 0, stride: 1 },
      { n: 6, h: 8, w: 8, ci: 16, co: 16, padding: 1, stride: 2 },
    ];
    return shapes.map(({ n, h, w, ci, co, padding, stride }, i) =>
      scope(() => {
        const x = tensor(random(n * h * w * ci, i), [n, h, w, ci]);
        x.requiresGrad = true;
        const y = conv2d(x, tensor(random(9 * ci * co, i + 9), [3, 3, ci, co]), null, { padding, stride });
        y.mul(tensor(random(y.size, i + 5), y.shape))
          .sum()
          .backward();
        return [...(x.grad?.dataSync() ?? [])];
      }),
    );
  }

  it("is the same by Winograd's tiles and by the direct sum, to float32 rounding", async () => {
    const exact = await gradients("reference", "direct");
    for (const name of ["winograd", "direct"] as const) {
      const found = await gradients("wasm", name);
      found.forEach((values, i) => {
        const expected = exact[i] as number[];
        const rms = Math.sqrt(expected.reduce((sum, v) => sum + v * v, 0) / expected.length);
        expect(values.length).toBe(expected.length);
        expect(Math.max(...values.map((v, j) => Math.abs(v - (expected[j] as number)))) / rms).toBeLessThan(1e-5);
      });
    }
  });

  it("follows exactly from Winograd's matrices in float64", async () => {
    const [tiles, direct] = [await gradients("reference", "winograd"), await gradients("reference", "direct")];
    tiles.forEach((values, i) => {
      values.forEach((v, j) => {
        expect(Math.abs(v - (direct[i]?.[j] as number))).toBeLessThan(1e-11);
      });
    });
    // It was not the same sum.
    expect(tiles.slice(0, 3).every((values, i) => values.some((v, j) => v !== direct[i]?.[j]))).toBe(true);
    expect(tiles[3]).toEqual(direct[3]);
  });
});
