import { beforeEach, describe, expect, it } from "vitest";
import { init, randomness } from "../../src/runtime/engine.ts";
import { checkpoint } from "../../src/tensor/checkpoint.ts";
import { dropout } from "../../src/tensor/ops/dropout.ts";
import { toDense } from "../../src/tensor/ops/elementwise.ts";
import { rand, randn, truncNormal, uniform } from "../../src/tensor/ops/random.ts";
import { sum } from "../../src/tensor/ops/reduce.ts";
import { backward } from "../../src/tensor/tape.ts";
import { ones, type Tensor } from "../../src/tensor/tensor.ts";
import { close, compiled, leaf, on, sameEverywhere, spikes, values } from "./support.ts";

beforeEach(() => on("reference"));

const training = { training: true };

function moments(t: Tensor): { mean: number; std: number; least: number; most: number } {
  const data = [...t.dataSync()];
  const mean = data.reduce((a, b) => a + b) / data.length;
  const std = Math.sqrt(data.reduce((a, b) => a + (b - mean) ** 2, 0) / data.length);
  return { mean, std, least: data.reduce((a, b) => Math.min(a, b)), most: data.reduce((a, b) => Math.max(a, b)) };
}

describe("random tensors", () => {
  it("have the distribution asked for", () => {
    const u = moments(uniform([100, 100], { low: -2, high: 4 }));
    expect(Math.abs(u.mean - 1)).toBeLessThan(0.06);
    expect(Math.abs(u.std - 6 / Math.sqrt(12))).toBeLessThan(0.06);
    expect(u.least >= -2 && u.most < 4).toBe(true);
    const n = moments(randn([100, 100], { mean: 3, std: 2 }));
    expect(Math.abs(n.mean - 3)).toBeLessThan(0.08);
    expect(Math.abs(n.std - 2)).toBeLessThan(0.06);
    expect(n.most).toBeGreaterThan(8);
    // Standard normal cut to [-1, 1]: variance 1 - 2 phi(1) / (Phi(1) - Phi(-1)) = 0.2911.
    const t = moments(truncNormal([100, 100], { a: -1, b: 1 }));
    expect(t.least >= -1 && t.most <= 1).toBe(true);
    expect(Math.abs(t.std - Math.sqrt(0.2911))).toBeLessThan(0.02);
  });

  it("are the same on every device, for sizes that end within a block", async () => {
    await sameEverywhere(
      () => [rand([3, 7]), randn([2, 31]), truncNormal([101], { std: 0.02, a: -0.03, b: 0.03 })].map((t) => [...t.dataSync()]),
      1e-5,
    );
  });

  it("continue the stream they name, and no other", () => {
    const first = [...rand([6], { stream: "a" }).dataSync()];
    const second = [...rand([6], { stream: "a" }).dataSync()];
    expect(second).not.toEqual(first);
    const scalar = randomness().stream("b");
    const drawn = Array.from({ length: 6 }, () => scalar.uniform());
    randomness().stream("b").restore({ block: 0, word: 0 });
    expect([...rand([6], { stream: "b" }).dataSync()]).toEqual(drawn);
    randomness().stream("a").restore({ block: 0, word: 0 });
    expect([...rand([6], { stream: "a" }).dataSync()]).toEqual(first);
  });

  it("depend on the seed", async () => {
    const first = [...rand([4]).dataSync()];
    await init({ device: "reference", seed: 8 });
    expect([...rand([4]).dataSync()]).not.toEqual(first);
  });

  it("refuse bounds that would be drawn for ever", () => {
    expect(() => truncNormal([2], { a: 5, b: 6 })).toThrow(
      "truncNormal: [a, b] must be bounds that a normal draw often meets, found [5, 6] with mean 0, std 1",
    );
    expect(() => truncNormal([2], { a: 1, b: -1 })).toThrow("truncNormal: [a, b]");
    expect(() => uniform([2], { low: 1, high: 0 })).toThrow("uniform: high must be at least low (1), found 0");
  });
});

describe("dropout", () => {
  it("drops a share p and scales the rest, and its gradient has the same mask", () => {
    const x = leaf(ones([50, 40]));
    const y = dropout(x, 0.25, training);
    const data = [...y.dataSync()];
    const kept = data.filter((v) => v !== 0);
    expect(kept.every((v) => Math.abs(v - 4 / 3) < 1e-12)).toBe(true);
    expect(Math.abs(kept.length / 2000 - 0.75)).toBeLessThan(0.04);
    backward(sum(y));
    expect([...(x.grad as Tensor).dataSync()]).toEqual(data);
  });

  it("draws anew at every call, and again in the second run of a checkpoint", () => {
    const x = leaf(ones([64]));
    const [a, b] = [dropout(x, 0.5, training), dropout(x, 0.5, training)];
    expect([...a.dataSync()]).not.toEqual([...b.dataSync()]);
    let runs = 0;
    const y = checkpoint((t) => {
      runs++;
      return dropout(t, 0.5, training);
    }, x);
    const mask = [...y.dataSync()];
    backward(sum(y));
    expect(runs).toBe(2);
    expect([...(x.grad as Tensor).dataSync()]).toEqual(mask);
  });

  it("is the same on every device", async () => {
    await sameEverywhere(() => [[...dropout(values([7, 13], 1), 0.3, training).dataSync()]], 1e-6);
  });

  it("returns x itself out of training or with p = 0, and zeros with p = 1", async () => {
    for (const device of [...compiled, "reference"] as const) {
      await on(device);
      const x = values([3, 5], 1);
      expect(dropout(x, 0.5, { training: false })).toBe(x);
      expect(dropout(x, 0, training)).toBe(x);
      expect([...dropout(x, 1, training).dataSync()].every((v) => v === 0)).toBe(true);
    }
  });

  it("takes spikes", () => {
    const x = spikes([6, 40], 1);
    const y = dropout(x, 0.5, training);
    randomness().stream("dropout").restore({ block: 0, word: 0 });
    close(y.dataSync(), dropout(toDense(x), 0.5, training).dataSync(), 0);
  });

  it("refuses a p that is no probability", () => {
    expect(() => dropout(values([2], 1), 1.5, training)).toThrow("dropout: p must be in [0, 1], found 1.5");
  });
});
