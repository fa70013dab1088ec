/** The choice by density: a pure function of instruction set, shape and spikes, whose count is exact and made once. */
import { existsSync } from "node:fs";
import fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { init, measure, noGrad, scope, type Tensor, tensor } from "../../src/index.ts";
import { LANES, mostEventBits, PRICES, type ProductShape } from "../../src/runtime/costs.ts";
import { device } from "../../src/runtime/engine.ts";
import { observeChoices } from "../../src/runtime/implementations.ts";
import { Rng } from "../../src/runtime/random.ts";
import { setBits } from "../../src/tensor/ops/common.ts";
import { conv2d } from "../../src/tensor/ops/conv.ts";
import { matmul } from "../../src/tensor/ops/matmul.ts";
import { emptySpikes } from "../../src/tensor/tensor.ts";
import { ADDON } from "../gradcheck.ts";

afterEach(() => void observeChoices(undefined));

/** Spikes of which `density` fire, the same for every device. */
function spikes(shape: readonly number[], density: number): Tensor {
  const stream = new Rng(3).stream("spikes");
  const size = shape.reduce((a, b) => a * b, 1);
  return tensor(
    Float32Array.from({ length: size }, () => (stream.uniformInt(1000) < 1000 * density ? 1 : 0)),
    shape,
  ).toSpikes();
}

const values = (shape: readonly number[]) =>
  tensor(
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i * 12.9898)),
    shape,
  );

/** Forward and weight gradient of a convolution and of a product; what they chose, and their values. */
function products(density: number): { chosen: string[]; results: number[][]; counts: number } {
  return scope(() => {
    const x = spikes([4, 16, 16, 64], density);
    const w = values([3, 3, 64, 128]);
    const v = values([64, 128]);
    w.requiresGrad = v.requiresGrad = true;
    const chosen: string[] = [];
    const { result, kernels } = measure.profileKernels(() => {
      const before = observeChoices((operation, name) => {
        if (operation.startsWith("spikeProduct")) chosen.push(`${operation}=${name}`);
      });
      const y = conv2d(x, w, null, { padding: 1 });
      const z = matmul(x.reshape([1024, 64]), v);
      y.square().sum().add(z.square().sum()).backward();
      observeChoices(before);
      return noGrad(() => [y, z, w.grad, v.grad].map((t) => [...(t?.dataSync() ?? [])]));
    });
    return { chosen, results: result, counts: kernels.find((k) => k.kernel === "spike_stats")?.calls ?? 0 };
  });
}

const devices = [
  { device: "wasm", isa: undefined },
  ...(existsSync(ADDON) ? ["avx512", "avx2", "baseline"].map((isa) => ({ device: "native", isa })) : []),
] as const;

/** Start a device; false where this machine does not have it. */
async function start({ device, isa }: { device: string; isa: string | undefined }, threads: number): Promise<boolean> {
  try {
    await init({ device: device as "wasm", threads, ...(device === "native" ? { native: ADDON, isa } : {}) });
    return true;
  } catch (error) {
    expect((error as Error).message).toMatch(/no instruction set/);
    return false;
  }
}

describe.each(devices)("on $device $isa", (where) => {
  it("counts every bit, whatever the number of words", async () => {
    if (!(await start(where, 2))) return;
    for (const words of [1, 3, 15, 16, 17, 4 * 31, 16 * 31 + 5, 16 * 62, 70_001])
      scope(() => {
        for (const fill of [0, 0xffffffff, undefined]) {
          const t = emptySpikes([words, 32]);
          const stream = new Rng(words).stream("words");
          const bits = Uint32Array.from({ length: words }, () => fill ?? stream.uniformInt(2 ** 32));
          device().view(t.storage).set(bits);
          let expected = 0;
          for (let word of bits) for (; word; word &= word - 1) expected++;
          expect(setBits(t)).toBe(expected);
        }
      });
  });

  it("takes events for few spikes, tables or a dense product for many, and counts once", async () => {
    if (!(await start(where, 1))) return;
    const few = products(0.1);
    expect(few.chosen).toEqual(few.chosen.map((c) => c.replace("dense", "event")));
    expect(few.chosen.length).toBe(4);
    expect(few.counts).toBeLessThanOrEqual(1);
    const many = products(1);
    if (where.isa === "avx512" || where.isa === "avx2") {
      expect(many.chosen.slice(0, 2)).toEqual(["spikeProduct=table", "spikeProduct=table"]);
      expect(many.chosen).toContain("spikeProductGradWeight=dense");
      expect(many.counts).toBe(1);
    }
  });

  it.each([0.1, 0.6, 1])("gives the same bits for any number of threads, at %s", async (density) => {
    if (!(await start(where, 1))) return;
    const one = products(density);
    await start(where, 3);
    const three = products(density);
    expect(three.chosen).toEqual(one.chosen);
    expect(three.results).toEqual(one.results);
  });
});

it("counts the bits of all planes of integer spikes, and those of a reshape only once", async () => {
  await init({ device: "wasm", threads: 1 });
  scope(() => {
    const t = tensor([0, 1, 2, 3, 7, 4], [2, 3]).toSpikes({ planes: 3 });
    expect(setBits(t)).toBe(0 + 1 + 1 + 2 + 3 + 1);
    const { kernels } = measure.profileKernels(() => setBits(t.reshape([3, 2])));
    expect(kernels.filter((k) => k.kernel === "spike_stats").length).toBeLessThanOrEqual(1);
  });
});

it("asks nothing and adds rows on the reference device", async () => {
  await init({ device: "reference" });
  expect(new Set(products(1).chosen.map((c) => c.split("=")[1]))).toEqual(new Set(["event"]));
});

it("has a limit of spikes that is a whole number, above a quarter of the elements, and higher the dearer a dense product", () => {
  const size = fc.integer({ min: 0, max: 64 });
  const arbitrary = fc.record({ n: size, h: size, w: size, ci: size, oh: size, ow: size, co: size, kh: size, kw: size });
  for (const [isa, table] of Object.entries(PRICES))
    for (const operation of ["spikeProduct", "spikeProductGradWeight"] as const)
      fc.assert(
        fc.property(arbitrary, fc.integer({ min: 1, max: 8 }), (shape: ProductShape, planes) => {
          const most = (factor: number) =>
            mostEventBits(
              { ...table[operation], multiply: table[operation].multiply * factor },
              operation,
              shape,
              planes,
              LANES[isa] as number,
            );
          const limit = most(1);
          if (limit === Number.POSITIVE_INFINITY) return;
          expect(Number.isSafeInteger(limit)).toBe(true);
          expect(limit).toBeGreaterThanOrEqual(Math.floor((shape.n * shape.h * shape.w * shape.ci) / 4));
          expect(limit).toBeLessThanOrEqual(shape.n * shape.h * shape.w * shape.ci * planes);
          expect(most(2)).toBeGreaterThanOrEqual(limit);
        }),
      );
});
