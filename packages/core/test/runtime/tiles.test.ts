// Products on matrix units, emulated: accuracy by terms, blocks larger than those of the kernel tests, values at float32's borders,
// and operations through them. `npm test` builds the addon.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { init, noGrad, scope, tensor } from "../../src/index.ts";
import type { Device } from "../../src/runtime/device.ts";
import { createNative, usualIsa } from "../../src/runtime/native.ts";
import { Rng } from "../../src/runtime/random.ts";
import { createReference } from "../../src/runtime/reference.ts";
import { denseTerms, spikeTerms } from "../../src/runtime/tiles.ts";
import { denseViews, resetDenseViews } from "../../src/tensor/ops/common.ts";
import { conv2d } from "../../src/tensor/ops/conv.ts";
import { matmul } from "../../src/tensor/ops/matmul.ts";
import { EMULATED, runOn } from "./kernels/devices.ts";

const stream = new Rng(5).stream("tiles");
const floats = (n: number) => Float64Array.from({ length: n }, () => Math.fround(stream.normal()));
const bits = (n: number) => Uint32Array.from({ length: n }, () => stream.uniformInt(2 ** 16) * 2 ** 16 + stream.uniformInt(2 ** 16));

/** Root mean square of found - expected over that of expected. */
function error(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  let [off, size] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    off += (found[i]! - expected[i]!) ** 2;
    size += expected[i]! ** 2;
  }
  return Math.sqrt(off / size);
}

const MATRIX = { batch: 1, sa: 0, sb: 0, sc: 0, ta: 0, tb: 0, alpha: 1, accumulate: 0, bias: null };
const POINT = { h: 1, w: 1, oh: 1, ow: 1, kh: 1, kw: 1, sh: 1, sw: 1, ph: 0, pw: 0, dh: 1, dw: 1, planes: 1, scale: 1 };

function gemm(device: Device, m: number, n: number, k: number, a: Float64Array, b: Float64Array, terms: number) {
  return runOn(device, "gemm", { ...MATRIX, m, n, k, a, b, c: new Float64Array(m * n), terms }, 1).c!;
}
function spikeProduct(device: Device, n: number, ci: number, co: number, x: Uint32Array, wt: Float64Array, terms: number) {
  return runOn(device, "spike_conv2d", { ...POINT, n, ci, co, x, wt, bias: null, y: new Float64Array(n * co), terms }, 1).y!;
}

it("matrix units run only when asked for", () => {
  expect(usualIsa(["avx512", "avx2", "baseline", "amx"])).toBe("avx512");
  expect(usualIsa(["amx", "avx512"])).toBe("avx512");
  expect(usualIsa(["amx_emulated"])).toBe("amx_emulated");
});

it("only matrix units take terms, and float32 goes to them at the highest precision only when told to", async () => {
  await init({ device: "wasm", threads: 1 });
  expect([spikeTerms("avx512"), denseTerms("avx512", 64, 64, 64), spikeTerms("amx"), denseTerms("amx", 64, 64, 64)]).toEqual([0, 0, 3, 0]);
  await init({ device: "wasm", threads: 1, matmulPrecision: "high" });
  expect([spikeTerms("amx"), denseTerms("amx", 64, 64, 64), denseTerms("amx", 64, 64, 8)]).toEqual([2, 2, 0]);
  await init({ device: "wasm", threads: 1, implementations: { denseProduct: "tiles" } });
  expect(denseTerms("amx", 64, 64, 64)).toBe(3);
  await init({ device: "wasm", threads: 1, matmulPrecision: "medium", implementations: { denseProduct: "vectors" } });
  expect([spikeTerms("amx"), denseTerms("amx", 64, 64, 64)]).toEqual([1, 0]);
});

// Not on a processor without AVX-512, or where the addon was not built.
const runs = existsSync(EMULATED) && (createRequire(import.meta.url)(EMULATED) as { isas(): string[] }).isas().length > 0;
if (runs)
  describe("emulated tiles", () => {
    const tiles = createNative({ path: EMULATED, threads: 1, isa: "amx_emulated" });
    const reference = createReference();
    afterAll(() => tiles.close());
    afterEach(() => init({ device: "wasm", threads: 1 }));

    it("have float32's accuracy with three terms, less with fewer", () => {
      const [m, n, k] = [48, 40, 600];
      const [a, b] = [floats(m * k), floats(k * n)];
      const expected = gemm(reference, m, n, k, a, b, 0);
      const errors = [3, 2, 1].map((terms) => error(gemm(tiles, m, n, k, a, b, terms), expected));
      expect(errors[0]).toBeLessThan(3e-7);
      expect(errors[0]).toBeLessThan(1.2 * error(gemm(tiles, m, n, k, a, b, 0), expected));
      expect(errors[1]).toBeGreaterThan(1e-6);
      expect(errors[1]).toBeLessThan(6e-6);
      expect(errors[2]).toBeGreaterThan(1e-3);
      expect(errors[2]).toBeLessThan(4e-3);
      const x = bits(m * 19);
      for (let i = 18; i < x.length; i += 19) x[i]! &= 2 ** 24 - 1; // 600 channels
      const sums = spikeProduct(reference, m, k, n, x, b, 0);
      const off = [3, 2, 1].map((terms) => error(spikeProduct(tiles, m, k, n, x, b, terms), sums));
      expect(off[0]).toBeLessThan(2e-7);
      expect(off[1]).toBeGreaterThan(5e-7);
      expect(off[1]).toBeLessThan(4e-6);
      expect(off[2]).toBeGreaterThan(5e-4);
      expect(off[2]).toBeLessThan(3e-3);
    });

    it("walk more rows and columns than scratch holds", () => {
      for (const [n, ci, co] of [
        [3300, 40, 50],
        [1700, 33, 210],
      ] as const) {
        const words = Math.ceil(ci / 32);
        const x = bits(n * words).map((w, i) => (i % words === words - 1 ? w & (2 ** (ci % 32) - 1) : w));
        const wt = floats(ci * co);
        expect(error(spikeProduct(tiles, n, ci, co, x, wt, 3), spikeProduct(tiles, n, ci, co, x, wt, 0))).toBeLessThan(2e-7);
        const gy = floats(n * co);
        const grad = (terms: number) =>
          runOn(tiles, "spike_conv2d_grad_weight", { ...POINT, n, ci, co, x, gy, gw: new Float64Array(ci * co), chunks: 1, terms }, 1).gw!;
        expect(error(grad(3), grad(0))).toBeLessThan(1e-6);
      }
      const [m, n, k] = [1500, 20, 300];
      const [a, b] = [floats(m * k), floats(k * n)];
      expect(error(gemm(tiles, m, n, k, a, b, 3), gemm(tiles, m, n, k, a, b, 0))).toBeLessThan(5e-7);
    });

    it("keep NaN and infinity from getting lost, and count what is denormal as zero", () => {
      // Not as numbers: reading a NaN back may change its bits.
      const words = [0x7fffffff, 0xffffffff, 0x7f800001, 0x7f800000, 0xff800000, 0x00012345];
      for (const terms of [1, 2, 3])
        for (const [i, word] of words.entries()) {
          const wt = new Float32Array(32 * 16).fill(1);
          new Uint32Array(wt.buffer)[3 * 16] = word;
          const weights = tiles.alloc("f32", wt.length);
          const view = tiles.view(weights);
          new Uint8Array(view.buffer, view.byteOffset, view.byteLength).set(new Uint8Array(wt.buffer));
          const [x, out] = [tiles.alloc("u32", 1), tiles.alloc("f32", 16)];
          tiles.view(x)[0] = 0xffffffff;
          tiles.run("spike_conv2d", { ...POINT, n: 1, ci: 32, co: 16, x, wt: weights, bias: null, y: out, terms }, 1);
          const y = tiles.view(out).slice();
          for (const storage of [weights, x, out]) tiles.free(storage);
          if (i < 5) expect(Number.isFinite(y[0])).toBe(false);
          else expect(y[0]).toBe(31);
          expect(y[1]).toBe(32);
        }
    });

    it("serve operations without unpacking, and agree with WebAssembly", async () => {
      const dense = { spikeProduct: "dense", spikeProductGradWeight: "dense", denseProduct: "tiles", convGradInput: "direct" } as const;
      // Values, weight gradients and input gradients of a convolution and of a product fed with spikes.
      const results = () =>
        scope(() => {
          const draws = new Rng(7).stream("x");
          const draw = (n: number) => Float32Array.from({ length: n }, () => draws.normal());
          const x = tensor(
            draw(2 * 9 * 7 * 37).map((v) => (v > 0.8 ? 1 : 0)),
            [2, 9, 7, 37],
          ).toSpikes();
          const [w, v, h] = [tensor(draw(9 * 37 * 21), [3, 3, 37, 21]), tensor(draw(37 * 21), [37, 21]), tensor(draw(126 * 37), [126, 37])];
          const deep = tensor(draw(2 * 9 * 7 * 37), [2, 9, 7, 37]);
          w.requiresGrad = v.requiresGrad = h.requiresGrad = deep.requiresGrad = true;
          const y = conv2d(x, w, null, { padding: 1, stride: 2 });
          const z = matmul(x.reshape([126, 37]), v);
          const [p, q] = [matmul(h, v), conv2d(deep, w, null, { padding: 1 })];
          [y, z, p, q].reduce((sum, t) => sum.add(t.square().sum()), tensor(0)).backward();
          return noGrad(() => [y, z, p, q, w.grad, v.grad, h.grad, deep.grad].map((t) => t?.dataSync() as Float32Array));
        });
      await init({ device: "wasm", threads: 1 });
      const expected = results();
      await init({ device: "native", native: EMULATED, isa: "amx_emulated", threads: 2, implementations: dense });
      resetDenseViews();
      const found = results();
      expect([...denseViews().keys()]).toEqual([]);
      found.forEach((values, i) => {
        expect(error(values, expected[i]!)).toBeLessThan(5e-7);
      });
      await init({ device: "native", native: EMULATED, isa: "amx_emulated", threads: 2, implementations: dense, matmulPrecision: "high" });
      results().forEach((values, i) => {
        const off = error(values, expected[i]!);
        expect(off).toBeGreaterThan(3e-7);
        expect(off).toBeLessThan(2e-5);
      });
    });
  });
