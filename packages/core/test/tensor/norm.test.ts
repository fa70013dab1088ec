import { beforeEach, describe, expect, it } from "vitest";
import { tilesFor } from "../../src/runtime/device.ts";
import { device } from "../../src/runtime/engine.ts";
import { checkpoint } from "../../src/tensor/checkpoint.ts";
import { add, mul, relu, toDense } from "../../src/tensor/ops/elementwise.ts";
import { reshape } from "../../src/tensor/ops/layout.ts";
import { batchNorm, layerNorm } from "../../src/tensor/ops/norm.ts";
import { sum } from "../../src/tensor/ops/reduce.ts";
import { keep, scope } from "../../src/tensor/scope.ts";
import { apply, backward, noGrad } from "../../src/tensor/tape.ts";
import { empty, type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { checkGradients, close, leaf, on, sameEverywhere, spikes, values, withGradients } from "./support.ts";

beforeEach(() => on("reference"));

const C = 3;
const parameters = (c = C): [Tensor, Tensor] => [leaf(values([c], 2)), leaf(values([c], 3))];
const running = (c = C): [Tensor, Tensor] => [values([c], 4), mul(values([c], 5), values([c], 5))];

/** The definition in plain numbers. */
function naive(x: Tensor, gamma: Tensor, beta: Tensor, eps: number): { y: number[]; mean: number[]; variance: number[] } {
  const data = x.dataSync();
  const c = x.shape[x.rank - 1] as number;
  const rows = x.size / c;
  const column = (i: number): number[] => Array.from({ length: rows }, (_, r) => data[r * c + i] as number);
  const mean = Array.from({ length: c }, (_, i) => column(i).reduce((a, b) => a + b) / rows);
  const variance = Array.from({ length: c }, (_, i) => column(i).reduce((a, b) => a + (b - (mean[i] as number)) ** 2, 0) / rows);
  const [g, b] = [gamma.dataSync(), beta.dataSync()];
  const y = [...data].map((v, at) => {
    const i = at % c;
    return ((v - (mean[i] as number)) / Math.sqrt((variance[i] as number) + eps)) * (g[i] as number) + (b[i] as number);
  });
  return { y, mean, variance };
}

describe("batchNorm in training", () => {
  it("normalises by the statistics of the batch and moves the running ones", () => {
    const x = values([2, 4, 3, C], 1);
    const [gamma, beta] = parameters();
    const [mean, variance] = running();
    const before = [[...mean.dataSync()], [...variance.dataSync()]] as [number[], number[]];
    const expected = naive(x, gamma, beta, 1e-3);
    const y = batchNorm(x, gamma, beta, mean, variance, { training: true, eps: 1e-3, momentum: 0.2 });
    close(y.dataSync(), expected.y, 1e-12);
    close(
      mean.dataSync(),
      before[0].map((m, i) => 0.8 * m + 0.2 * (expected.mean[i] as number)),
      1e-12,
    );
    close(
      variance.dataSync(),
      before[1].map((v, i) => 0.8 * v + (0.2 * (expected.variance[i] as number) * 24) / 23),
      1e-12,
    );
    expect(mean.version).toBe(1);
  });

  it("has the gradients of finite differences, with and without weights", () => {
    const x = leaf(values([2, 4, 3, C], 1));
    const [gamma, beta] = parameters();
    checkGradients((a, g, b) => batchNorm(a, g, b, null, null, { training: true }), x, gamma, beta);
    checkGradients((a) => batchNorm(a, null, null, null, null, { training: true }), leaf(values([5, C], 1)));
  });

  it("is the same on every device, over many chunks too", async () => {
    for (const shape of [
      [2, 4, 3, C],
      [3, 40, 40, 17],
    ])
      await sameEverywhere(() => {
        const c = shape[shape.length - 1] as number;
        const [mean, variance] = running(c);
        const results = withGradients(
          (a, g, b) => batchNorm(a, g, b, mean, variance, { training: true }),
          leaf(values(shape, 1)),
          ...parameters(c),
        );
        return [...results, [...mean.dataSync()], [...variance.dataSync()]];
      });
  });

  it("takes spikes, saving bits", () => {
    const x = spikes([2, 4, 5, C], 1);
    const run = (input: Tensor): number[][] =>
      withGradients((a, g, b) => batchNorm(a, g, b, null, null, { training: true }), leaf(input), ...parameters());
    const [bits, floats] = [run(x), run(toDense(x).alias())];
    bits.forEach((list, i) => {
      close(list, floats[i] as number[], 1e-12);
    });
  });

  it("leaves the running statistics alone when a checkpoint runs again", () => {
    const [mean, variance] = running();
    const [gamma, beta] = parameters();
    const x = leaf(values([4, C], 1));
    const y = checkpoint((a) => relu(batchNorm(a, gamma, beta, mean, variance, { training: true })), x);
    const after = [...mean.dataSync(), ...variance.dataSync()];
    backward(sum(y));
    expect(x.grad).not.toBeNull();
    expect([...mean.dataSync(), ...variance.dataSync()]).toEqual(after);
  });
});

describe("batchNorm by running statistics", () => {
  it("has the values and gradients of its formula", () => {
    const x = leaf(values([2, 4, C], 1));
    const [gamma, beta] = parameters();
    const [mean, variance] = running();
    const y = batchNorm(x, gamma, beta, mean, variance, { training: false, eps: 1e-3 });
    const [m, v, g, b] = [mean, variance, gamma, beta].map((t) => t.dataSync()) as [Float64Array, Float64Array, Float64Array, Float64Array];
    const expected = [...x.dataSync()].map((value, at) => {
      const i = at % C;
      return ((value - (m[i] as number)) / Math.sqrt((v[i] as number) + 1e-3)) * (g[i] as number) + (b[i] as number);
    });
    close(y.dataSync(), expected, 1e-12);
    expect(mean.version).toBe(0);
    checkGradients((a, p, q) => batchNorm(a, p, q, mean, variance, { training: false }), x, gamma, beta);
  });

  it("is the same on every device", async () => {
    await sameEverywhere(() => {
      const [mean, variance] = running(17);
      return withGradients(
        (a, g, b) => batchNorm(a, g, b, mean, variance, { training: false }),
        leaf(values([3, 9, 17], 1)),
        ...parameters(17),
      );
    });
  });
});

describe("the lazy output of batchNorm", () => {
  const make = (): Tensor => batchNorm(leaf(values([2, 5, C], 1)), ...parameters(), null, null, { training: true });

  it("holds x, scale and shift until it is read, and then equals their product", () => {
    const y = make();
    const parts = y.affine?.parts;
    expect(y.made).toBe(false);
    if (!parts) throw new Error("not lazy");
    const [x, scale, shift] = [parts.x, parts.scale, parts.shift].map((t) => [...t.dataSync()]) as [number[], number[], number[]];
    close(
      y.dataSync(),
      x.map((v, i) => v * (scale[i % C] as number) + (shift[i % C] as number)),
      0,
    );
    expect(y.made).toBe(true);
    // Backward may want it made again.
    expect(y.affine?.parts).toBe(parts);
    y.dispose();
    const { x: values, scale: factor, shift: offset, mean, rstd } = parts;
    expect([values, factor, offset, mean, rstd].every((t) => t?.disposed)).toBe(true);
  });

  it("holds them no longer than until it is read where no backward is to come", () => {
    const y = noGrad(make);
    const parts = y.affine?.parts;
    sum(y).itemSync();
    expect(parts?.x.disposed).toBe(true);
    expect(y.affine).toBeNull();
  });

  it("survives a reshape that keeps the channels", () => {
    const y = make();
    const z = reshape(y, [10, C]);
    expect(z.made).toBe(false);
    close(z.dataSync(), y.dataSync(), 0);
  });

  it("frees what it holds, whether read or not", () => {
    const before = device().memory().used;
    for (const read of [false, true])
      scope(() => {
        const y = make();
        if (read) sum(y).itemSync();
      });
    expect(device().memory().used).toBe(before);
  });

  it("takes the sums that a kernel made along with the gradient", () => {
    // Stands for a neuron: its backward writes the gradient of z and, in the same pass, the sums that batch norm needs of it.
    let sums: Tensor | undefined;
    const twice = (z: Tensor, offer: boolean): Tensor =>
      apply<void>(
        {
          name: "twice",
          forward: () => add(z, z),
          backward(_ctx, grads) {
            const gz = mul(grads[0] as Tensor, 2);
            if (!offer) return [gz];
            const { x, mean, rstd } = statistics as { x: Tensor; mean: Tensor; rstd: Tensor };
            const rows = gz.size / C;
            const chunks = tilesFor(rows, C);
            sums = keep(empty([chunks, 2, C]));
            const parts = { x: x.storage, gy: gz.storage, mean: mean.storage, rstd: rstd.storage, partial: sums.storage };
            device().run("bn_grad_sums", { ...parts, rows, c: C, chunks }, chunks);
            gz.normSums = { partial: sums, chunks };
            return [gz];
          },
        },
        [z],
        undefined,
      );
    let statistics: { x: Tensor; mean: Tensor; rstd: Tensor } | undefined;
    const run = (offer: boolean, used: "once" | "twice"): number[][] =>
      withGradients(
        (a, g, b) => {
          const z = batchNorm(a, g, b, null, null, { training: true });
          const parts = z.affine?.parts;
          if (!parts?.mean || !parts.rstd) throw new Error("not lazy");
          statistics = { x: keep(parts.x.alias()), mean: keep(parts.mean.alias()), rstd: keep(parts.rstd.alias()) };
          return used === "once" ? twice(z, offer) : add(twice(z, offer), relu(z));
        },
        leaf(values([2, 5, C], 1)),
        ...parameters(),
      );
    for (const used of ["once", "twice"] as const) {
      expect(run(true, used)).toEqual(run(false, used));
      expect(sums?.disposed).toBe(true);
    }
  });
});

describe("layerNorm", () => {
  it("normalises each row over the last axes", () => {
    const x = values([2, 3, 4], 1);
    const y = layerNorm(x, [3, 4], null, null, 1e-3);
    const [a, b] = [[...x.dataSync()].slice(0, 12), [...x.dataSync()].slice(12)].map((row) => {
      const mean = row.reduce((p, q) => p + q) / 12;
      const variance = row.reduce((p, q) => p + (q - mean) ** 2, 0) / 12;
      return row.map((v) => (v - mean) / Math.sqrt(variance + 1e-3));
    }) as [number[], number[]];
    close(y.dataSync(), [...a, ...b], 1e-12);
  });

  it("has the gradients of finite differences, and is the same on every device", async () => {
    checkGradients((x, g, b) => layerNorm(x, [3, 4], g, b), leaf(values([2, 3, 4], 1)), leaf(values([3, 4], 2)), leaf(values([3, 4], 3)));
    checkGradients((x) => layerNorm(x, [4]), leaf(values([2, 3, 4], 1)));
    for (const [rows, c] of [
      [5, 7],
      [300, 65],
    ] as const)
      await sameEverywhere(() => withGradients((x, g, b) => layerNorm(x, [c], g, b), leaf(values([rows, c], 1)), ...parameters(c)));
  });
});

describe("errors", () => {
  it("name the argument that is wrong", () => {
    const x = values([2, 4, C], 1);
    const [gamma, beta] = parameters();
    const [mean, variance] = running();
    const training = { training: true };
    expect(() => batchNorm(x, values([4], 2), beta, mean, variance, training)).toThrow("batchNorm: gamma must be of shape [3], found [4]");
    expect(() => batchNorm(x, gamma, null, mean, variance, training)).toThrow(
      "batchNorm: gamma and beta must be given both or neither, found gamma alone",
    );
    expect(() => batchNorm(x, gamma, beta, null, null, { training: false })).toThrow(
      "batchNorm: runningMean must be given when not training, found null",
    );
    expect(() => batchNorm(values([1, C], 1), gamma, beta, mean, variance, training)).toThrow(
      "batchNorm: x must be of more than one value a channel in training",
    );
    expect(() => batchNorm(tensor(new Int32Array(6), [2, 3]), gamma, beta, mean, variance, training)).toThrow(
      "batchNorm: x must be of dtype f32 or spikes, found i32",
    );
    expect(() => layerNorm(x, [4])).toThrow("layerNorm: x must be of shape [..., 4], found [2, 4, 3]");
    expect(() => layerNorm(x, [C], gamma, values([4], 1))).toThrow("layerNorm: beta must be of shape [3], found [4]");
  });
});
