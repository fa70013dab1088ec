// Group and RMS norm: the definitions in plain numbers, gradients, every device, PyTorch's keys and defaults; and normalising over nothing.
import { beforeEach, describe, expect, it } from "vitest";
import { GroupNorm, LayerNorm, RMSNorm } from "../../src/nn/norm.ts";
import { groupNorm, layerNorm, rmsNorm } from "../../src/tensor/ops/norm.ts";
import { scope } from "../../src/tensor/scope.ts";
import { type Tensor, tensor, zeros } from "../../src/tensor/tensor.ts";
import { checkGradients, close, leaf, on, sameEverywhere, spikes, values, withGradients } from "../tensor/support.ts";

beforeEach(() => on("reference"));

const weights = (shape: number[]): [Tensor, Tensor] => [leaf(values(shape, 2)), leaf(values(shape, 3))];

/** Group norm by its definition: x [outer, n, c]. */
function naiveGroups(x: Tensor, outer: number, groups: number, gamma: Tensor, beta: Tensor, eps: number): number[] {
  const data = x.dataSync();
  const c = x.shape[x.rank - 1] as number;
  const each = data.length / outer;
  const sums = new Map<string, number[]>();
  const key = (i: number) => `${Math.floor(i / each)} ${Math.floor(((i % c) * groups) / c)}`;
  data.forEach((v, i) => sums.set(key(i), [...(sums.get(key(i)) ?? []), v]));
  return [...data].map((v, i) => {
    const members = sums.get(key(i)) as number[];
    const mean = members.reduce((a, b) => a + b) / members.length;
    const variance = members.reduce((a, b) => a + (b - mean) ** 2, 0) / members.length;
    return ((v - mean) / Math.sqrt(variance + eps)) * (gamma.dataSync()[i % c] as number) + (beta.dataSync()[i % c] as number);
  });
}

describe("groupNorm", () => {
  it("is the definition, for images, tokens and vectors, with time in front", () => {
    scope(() => {
      const [gamma, beta] = weights([6]);
      for (const [shape, spatial, outer] of [
        [[2, 3, 4, 5, 6], 2, 6],
        [[3, 4, 6], 1, 3],
        [[5, 6], 0, 5],
      ] as const)
        for (const groups of [1, 2, 3, ...(spatial ? [6] : [])]) {
          const x = values(shape, 1);
          close(
            groupNorm(x, groups, gamma, beta, { spatial, eps: 1e-3 }).dataSync(),
            naiveGroups(x, outer, groups, gamma, beta, 1e-3),
            1e-11,
          );
        }
    });
  });

  it("has the gradients of finite differences, with and without weights", () => {
    const x = leaf(values([2, 2, 3, 6], 1));
    checkGradients((a, g, b) => groupNorm(a, 3, g, b), x, ...weights([6]));
    checkGradients((a) => groupNorm(a, 2, null, null, { spatial: 1 }), leaf(values([2, 3, 4], 1)));
  });

  it("is the same on every device, for many channels and many positions, and far from 0", async () => {
    for (const [shape, groups] of [
      [[3, 4, 4, 32], 8],
      [[2, 20, 20, 45], 5],
      [[1, 2, 2, 4500], 3],
      [[2, 3, 2, 7], 7],
    ] as const)
      await sameEverywhere(() => {
        const c = shape[3];
        return withGradients((a, g, b) => groupNorm(a.add(3), groups, g, b), leaf(values(shape, 1)), ...weights([c]));
      }, 1e-4);
  });

  it("takes spikes, and leaves no memory", async () => {
    await sameEverywhere(() => withGradients((g, b) => groupNorm(spikes([2, 3, 3, 40], 1), 4, g, b), ...weights([40])), 1e-4);
  });
});

describe("rmsNorm", () => {
  it("is the definition", () => {
    scope(() => {
      const x = values([3, 2, 5], 1);
      const gamma = values([2, 5], 2);
      const [data, g] = [x.dataSync(), gamma.dataSync()];
      const want = [...data].map((v, i) => {
        const row = [...data.slice(Math.floor(i / 10) * 10, Math.floor(i / 10) * 10 + 10)];
        return (v / Math.sqrt(row.reduce((a, b) => a + b * b, 0) / 10 + 0.01)) * (g[i % 10] as number);
      });
      close(rmsNorm(x, [2, 5], gamma, 0.01).dataSync(), want, 1e-12);
    });
  });

  it("has the gradients of finite differences, and is the same on every device", async () => {
    checkGradients((a, g) => rmsNorm(a, [4], g), leaf(values([3, 4], 1)), leaf(values([4], 2)));
    checkGradients((a) => rmsNorm(a, [2, 3], null, 0.1), leaf(values([2, 2, 3], 1)));
    for (const c of [1, 33, 100])
      await sameEverywhere(() => withGradients((a, g) => rmsNorm(a, [c], g, 1e-3), leaf(values([70, c], 1)), leaf(values([c], 2))), 1e-4);
  });
});

describe("layers", () => {
  it("have PyTorch's keys, defaults and numbers", () => {
    scope(() => {
      expect([...new GroupNorm(2, 4).stateShapes()]).toEqual([
        ["weight", [4]],
        ["bias", [4]],
      ]);
      expect([...new RMSNorm([2, 3]).stateShapes()]).toEqual([["weight", [2, 3]]]);
      expect(new GroupNorm(2, 4, { affine: false }).parameters()).toEqual([]);
      expect([new GroupNorm(1, 1).eps, new RMSNorm(1).eps, new LayerNorm(1).eps]).toEqual([1e-5, 1.1920928955078125e-7, 1e-5]);
      // torch.nn.GroupNorm(2, 4) on [[1, 3, 10, 10]]: each pair by itself; torch.nn.RMSNorm(2) on [3, 4]: by sqrt(12.5).
      const pair = 1 / Math.sqrt(1 + 1e-5);
      close(new GroupNorm(2, 4, { spatial: 0 }).forward(tensor([[1, 3, 10, 10]])).dataSync(), [-pair, pair, 0, 0], 1e-12);
      close(new RMSNorm(2).forward(tensor([3, 4])).dataSync(), [3 / Math.sqrt(12.5), 4 / Math.sqrt(12.5)], 1e-7);
    });
  });

  it("say what does not fit", () => {
    scope(() => {
      expect(() => new GroupNorm(3, 4)).toThrow(/GroupNorm: numChannels must be divisible by numGroups \(3\), found 4/);
      expect(() => new GroupNorm(0, 4)).toThrow(/numGroups must be an integer >= 1/);
      expect(() => new GroupNorm(2, 4).forward(values([2, 2, 2, 6], 1))).toThrow(/GroupNorm: x must be of shape \[..., 4\]/);
      expect(() => new GroupNorm(2, 4).forward(values([2, 4], 1))).toThrow(
        /groupNorm: x must be of rank 3 or more .*see the option spatial/,
      );
      expect(() => groupNorm(values([2, 0, 3, 4], 1), 2)).toThrow(/one position a sample or more/);
    });
  });

  it("refuse to normalise over nothing, which would be NaN", () => {
    scope(() => {
      for (const Layer of [LayerNorm, RMSNorm])
        for (const shape of [0, [], [3, 0], 1.5])
          expect(() => new Layer(shape)).toThrow(/normalizedShape must be one or more integers of at least 1/);
      for (const op of [layerNorm, rmsNorm])
        expect(() => op(zeros([2, 0]), [0])).toThrow(/normalizedShape must be one or more sizes of at least 1, found \[0\]/);
      expect(() => groupNorm(zeros([2, 2, 2, 0]), 1)).toThrow(/groups must be a whole number that divides the 0 channels/);
    });
  });
});
