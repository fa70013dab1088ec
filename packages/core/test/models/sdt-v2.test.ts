// Spike-driven Transformer V2: sizes exactly as the official code's, settings that are wrong, shapes, T changed later, the start of training,
// RepConv merged, attention and its maps, energy by its table, recomputation.
import fc from "fast-check";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { survey } from "../../src/measure/survey.ts";
import { linearAttention } from "../../src/models/linear-attention.ts";
import { createModel, modelNames, resolveModel } from "../../src/models/registry.ts";
import { attentionMaps } from "../../src/models/sdt-v2/attention.ts";
import { energyTable, type MetaSpikeFormer, mergeRepConv, RepConv, type SDTV2Config, sdtV2 } from "../../src/models/sdt-v2/index.ts";
import { Block } from "../../src/models/sdt-v2/model.ts";
import { withoutDraws } from "../../src/nn/init.ts";
import { type Module, StateBuffer } from "../../src/nn/module.ts";
import { BatchNorm2d } from "../../src/nn/norm.ts";
import { device, init } from "../../src/runtime/engine.ts";
import { SpikeloomError } from "../../src/runtime/error.ts";
import { scope } from "../../src/tensor/scope.ts";
import { backward } from "../../src/tensor/tape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { compiledDevices, draw, drawSpikes, gradcheck, numbers, RUNS, start } from "../gradcheck.ts";
import { close } from "../tensor/support.ts";
import "../../src/tensor/methods.ts";

/** Parameters and state-dict keys of the official code, measured by instantiating it. */
const OFFICIAL: [name: string, parameters: number, keys: number, overrides?: Record<string, unknown>][] = [
  ["15M", 15_112_208, 825],
  ["31M", 31_333_864, 825],
  ["55M", 55_350_248, 825],
  ["55M-kd", 55_991_248, 827],
  ["8-768", 123_741_160, 825],
  // With the head that learns from a teacher.
  ["15M", 15_473_208, 827, { kd: true }],
  ["31M", 31_814_864, 827, { kd: true }],
  ["8-768", 124_702_160, 827, { kd: true }],
];

const TINY = { T: 2, inChannels: 2, numClasses: 3, embedDims: [8, 12, 16, 20], numHeads: 2, depths: [2, 1] };
const tiny = (overrides: Record<string, unknown> = {}) => createModel("sdt-v2/15M", { ...TINY, ...overrides }) as MetaSpikeFormer;

/** Weights that keep a small network firing, and norm statistics as after training. */
function wake<M extends Module>(module: M, seed = 5): M {
  let i = seed;
  for (const [key, value] of module.namedState()) {
    i++;
    if (value.dtype !== "f32") continue;
    if (value instanceof StateBuffer || value.rank < 2)
      value.set(
        numbers(value.size, i, ...((key.endsWith("var") || key.endsWith("weight") ? [0.7, 1.5] : [-0.3, 0.3]) as [number, number])),
      );
    else {
      const bound = (key.includes("lif") ? 1 : 2.5) * Math.sqrt(3 / (value.size / (value.shape[value.rank - 1] as number)));
      value.set(numbers(value.size, i, -bound, bound));
    }
  }
  return module;
}

describe("the named configurations", () => {
  beforeAll(() => init({ device: "wasm", threads: 1 }));

  it.each(OFFICIAL)("%s: %d parameters, %d keys", (name, parameters, keys, overrides = {}) => {
    scope(() => {
      const model = withoutDraws(() => createModel(`sdt-v2/${name}`, overrides));
      expect([model.parameterCount(), model.stateShapes().size]).toEqual([parameters, keys]);
      model.dispose();
    });
    expect(device().memory().used).toBe(0);
  });

  it("are all in the table above", () => {
    const names = OFFICIAL.flatMap(([name, , , overrides]) => (overrides ? [] : [`sdt-v2/${name}`]));
    expect(modelNames().filter((name) => name.startsWith("sdt-v2/"))).toEqual(names);
  });
});

describe("settings that are wrong", () => {
  it.each<[Record<string, unknown>, string]>([
    [{ T: 0 }, "T must be a positive integer, found 0"],
    [{ numClasses: "ten" }, 'numClasses must be a positive integer, found "ten"'],
    [{ embedDims: 64 }, "embedDims must be four positive integers [e1, e2, e3, e4], found 64"],
    [{ embedDims: [8, 12, 16] }, "embedDims must be four positive integers"],
    [{ embedDims: [8, 12, 16, 2.5] }, "embedDims must be four positive integers"],
    [{ embedDims: [9, 12, 16, 20] }, "embedDims must be even in e1"],
    [{ numHeads: 8 }, "numHeads must be a divisor of e3 = 16 and of e4 = 20, found 8"],
    [{ depths: 6 }, "depths must be two positive integers, the blocks of stages 3 and 4, found 6"],
    [{ kd: 1 }, "kd must be true or false, found 1"],
    [{ imageSize: [32] }, "imageSize must be two positive integers [H, W], found [32]"],
  ])("%o", (overrides, message) => {
    expect(() => tiny(overrides)).toThrow(SpikeloomError);
    expect(() => tiny(overrides)).toThrow(`sdt-v2 config: ${message}`);
    expect(() => sdtV2.check({ ...resolveModel("sdt-v2").config, ...TINY, ...overrides } as unknown as SDTV2Config)).toThrow(message);
  });
});

describe("forward", () => {
  beforeEach(() => init({ device: "wasm", threads: 1, seed: 2 }));

  it.each<[string, Record<string, unknown>, number[]]>([
    ["images", {}, [3, 32, 32, 2]],
    ["event frames with their own number of steps", {}, [4, 3, 32, 32, 2]],
    ["an image of any size", {}, [3, 17, 30, 2]],
    ["a single pixel", {}, [3, 1, 1, 2]],
  ])("%s", (_, overrides, input) => {
    scope(() => {
      const net = wake(tiny(overrides));
      for (const training of [true, false]) {
        if (training && input[2] === 1) continue;
        const logits = net.train(training).forward(draw(input, 3)) as Tensor;
        expect(logits.shape).toEqual([3, 3]);
        expect([...logits.dataSync()].every(Number.isFinite)).toBe(true);
      }
    });
  });

  it.each([[[2, 32, 32, 3]], [[32, 32, 2]], [[1, 2, 2, 32, 32, 2]]])("refuses an input of shape %j", (shape) => {
    expect(() => scope(() => tiny().forward(draw(shape, 1)))).toThrow(
      `MetaSpikeFormer: the input must be images [B, H, W, 2] or event frames [T, B, H, W, 2], found [${shape.join(", ")}]`,
    );
  });

  it("with a distillation head: a pair in training, their mean otherwise", () => {
    scope(() => {
      const net = wake(tiny({ kd: true }));
      const x = draw([2, 32, 32, 2], 4);
      const pair = net.train().forward(x) as Tensor[];
      expect(pair.map((y) => y.shape)).toEqual([
        [2, 3],
        [2, 3],
      ]);
      const both = (net.eval().forward(x) as Tensor).dataSync();
      const head = wake(tiny()).eval();
      head.loadStateDict(net.stateDict(), { strict: false });
      const first = (head.forward(x) as Tensor).dataSync();
      const state = net.stateDict();
      for (const field of ["weight", "bias"]) state.set(`head.${field}`, state.get(`head_kd.${field}`) as never);
      head.loadStateDict(state, { strict: false });
      const second = (head.forward(x) as Tensor).dataSync();
      expect([...first]).not.toEqual([...second]);
      close(
        both,
        first.map((a, i) => (a + (second[i] as number)) / 2),
        1e-6,
      );
    });
  });

  it("T may be changed after construction: weights of T = 1 go on at T = 4", () => {
    scope(() => {
      const one = wake(tiny({ T: 1 })).eval();
      const four = tiny({ T: 4 }).eval();
      four.loadStateDict(one.stateDict());
      const x = draw([2, 32, 32, 2], 4);
      const still = [...(one.forward(x) as Tensor).dataSync()];
      one.T = 4;
      expect(one.T).toBe(4);
      const later = [...(one.forward(x) as Tensor).dataSync()];
      expect(later).toEqual([...(four.forward(x) as Tensor).dataSync()]);
      expect(later).not.toEqual(still);
      // As event frames that are all the same.
      expect([...(one.forward(x.reshape([1, ...x.shape]).expand([4, ...x.shape])) as Tensor).dataSync()]).toEqual(later);
      expect(() => {
        one.T = 0;
      }).toThrow("MetaSpikeFormer: T must be a positive integer, found 0");
    });
  });

  it("samples of a batch do not see each other in eval mode", () => {
    scope(() => {
      const model = wake(tiny()).eval();
      const x = draw([3, 32, 32, 2], 4);
      const all = (model.forward(x) as Tensor).dataSync();
      for (let i = 0; i < 3; i++) expect((model.forward(x.slice([i, i + 1])) as Tensor).dataSync()).toEqual(all.slice(3 * i, 3 * i + 3));
    });
  });

  it("starts as PyTorch's layers do, the classifier at a truncated normal", () => {
    scope(() => {
      const state = tiny({ numClasses: 400, kd: true }).stateDict();
      for (const [key, { shape, data }] of state) {
        const values = Float64Array.from(data as Float32Array, Number);
        const mean = values.reduce((a, b) => a + b, 0) / values.length;
        const std = Math.sqrt(values.reduce((a, v) => a + (v - mean) ** 2, 0) / values.length);
        if (/head(_kd)?\.weight$/.test(key)) {
          expect(std, key).toBeGreaterThan(0.019);
          expect(std, key).toBeLessThan(0.021);
        } else if (/head(_kd)?\.bias$/.test(key)) expect(new Set(values), key).toEqual(new Set([0]));
        else if (shape.length > 1) {
          const bound = 1 / Math.sqrt(shape.slice(1).reduce((a, b) => a * b, 1));
          expect(
            values.every((v) => Math.abs(v) <= bound),
            key,
          ).toBe(true);
          expect(std / (bound / Math.sqrt(3)), key).toBeGreaterThan(0.8);
        } else if (/bn.*\.weight$/.test(key)) expect(new Set(values), key).toEqual(new Set([1]));
      }
    });
  });
});

describe("RepConv merged", () => {
  beforeEach(() => init({ device: "reference", seed: 2 }));

  it("gives what the chain and the norm behind it give in eval", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 7 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 0, max: 999 }),
        (c, h, w, seed) => {
          scope(() => {
            const [rep, norm] = [wake(new RepConv(c), seed).eval(), wake(new BatchNorm2d(c), seed + 50).eval()];
            const x = draw([2, 3, h, w, c], seed);
            const [alone, behind] = [mergeRepConv(rep), mergeRepConv(rep, norm)];
            const y = rep.forward(x);
            close(alone.forward(x).dataSync(), y.dataSync(), 1e-9);
            close(behind.forward(x).dataSync(), norm.forward(y).dataSync(), 1e-9);
            for (const m of [rep, norm, alone, behind]) m.dispose();
          });
          expect(device().memory().used).toBe(0);
        },
      ),
      RUNS,
    );
  });

  it("in a whole network: the same logits, fewer parameters, one convolution in each place", () => {
    scope(() => {
      const net = wake(tiny()).eval();
      const x = draw([2, 32, 32, 2], 4);
      const before = [...(net.forward(x) as Tensor).dataSync()];
      const keys = net.stateShapes().size;
      expect(net.mergeRepConvs()).toBe(net);
      close((net.forward(x) as Tensor).dataSync(), before, 1e-9);
      // 3 blocks of 4 RepConvs of 18 keys with their norms, of which 2 are left.
      expect(net.stateShapes().size).toBe(keys - 3 * 4 * 16);
      expect(net.stateShapes().get("block3.1.attn.proj_conv.0.weight")).toEqual([16, 16, 3, 3]);
      net.mergeRepConvs();
      close((net.forward(x) as Tensor).dataSync(), before, 1e-9);
      net.dispose();
    });
    expect(device().memory().used).toBe(0);
  });
});

describe("linear attention", () => {
  beforeEach(() => init({ device: "reference", seed: 2 }));
  const [t, n, heads, d] = [3, 5, 2, 4];
  const three = (make: (seed: number) => Tensor) => [1, 2, 3].map(make) as [Tensor, Tensor, Tensor];

  it("is q (k^T v) of every head", () => {
    scope(() => {
      const inputs = three((seed) => drawSpikes([t, n, heads * d], seed));
      const o = linearAttention(...inputs, heads).dataSync();
      const [q, k, v] = inputs.map((x) => {
        const values = x.toDense().dataSync();
        return (m: number, i: number, h: number, c: number) => values[((m * n + i) * heads + h) * d + c] as number;
      }) as [At, At, At];
      type At = (m: number, i: number, h: number, c: number) => number;
      for (let m = 0; m < t; m++)
        for (let i = 0; i < n; i++)
          for (let h = 0; h < heads; h++)
            for (let c = 0; c < d; c++) {
              let sum = 0;
              for (let j = 0; j < n; j++) {
                let qk = 0;
                for (let e = 0; e < d; e++) qk += q(m, i, h, e) * k(m, j, h, e);
                sum += qk * v(m, j, h, c);
              }
              expect(o[((m * n + i) * heads + h) * d + c]).toBe(sum);
            }
    });
  });

  it("has the gradients of its definition", () => {
    gradcheck(
      (q, k, v) => linearAttention(q as Tensor, k as Tensor, v as Tensor, heads),
      three((seed) => draw([2, n, heads * d], seed, -1, 1)),
    );
  });

  it("says what does not fit", () => {
    scope(() => {
      const x = draw([2, 3, 8], 1);
      expect(() => linearAttention(x, x, draw([2, 3, 4], 1), 2)).toThrow("linearAttention: v must be of shape [.., N, C], that of q");
      expect(() => linearAttention(x, x, x, 3)).toThrow("linearAttention: heads must be a divisor of the 8 channels, found 3");
      expect(() => linearAttention(x, 1 as unknown as Tensor, x, 2)).toThrow("linearAttention: k must be a Tensor");
    });
  });
});

describe("what the system shows of itself", () => {
  beforeEach(() => init({ device: "wasm", threads: 1, seed: 2 }));

  it("attention maps: rates of queries and of what attention gives, for each block and sample", () => {
    const net = wake(tiny()).train();
    const x = draw([2, 32, 48, 2], 4);
    const used = device().memory().used;
    const maps = attentionMaps(net, x);
    expect(device().memory().used).toBe(used);
    expect(net.training && net.lif.training).toBe(true);
    expect(maps.map((m) => [m.block, m.height, m.width])).toEqual([
      ["block3.0", 2, 3],
      ["block3.1", 2, 3],
      ["block4.0", 2, 3],
    ]);
    for (const rates of maps.flatMap((m) => [...m.before, ...m.after])) {
      expect(rates.length).toBe(6);
      expect(rates.every((r) => r >= 0 && r <= 1)).toBe(true);
    }
    expect(maps.map((m) => [m.before.length, m.after.length])).toEqual(maps.map(() => [2, 2]));
    expect(maps.some((m) => m.after.some((rates) => rates.some((r) => r > 0)))).toBe(true);
  });

  it("energy by its table: rates of its neurons, the same with RepConv merged", async () => {
    const config = { ...resolveModel("sdt-v2").config, ...TINY } as unknown as SDTV2Config;
    const net = wake(tiny());
    const x = draw([2, 32, 32, 2], 4);
    const table = (settings: Record<string, string>) => energyTable(config, { timeSteps: 2, height: 32, width: 32 }, settings);
    const used = device().memory().used;
    const measured = await survey(net, x);
    expect(device().memory().used).toBe(used);
    const report = measured.energy({ preset: "sdt-v2" }, table, "sdt-v2");
    const rate = (neuron: string) => measured.rates.find((r) => r.layer === neuron)?.rate as number;
    const row = (part: string) => report.layers.find((l) => l.layer === part);
    expect(row("block3.1.proj")).toMatchObject({ denseOps: 9 * 4 * 16 * 16, firingRate: rate("block3.1.attn.attn_lif") });
    expect(row("block4.0.sdsa3")?.firingRate).toBeCloseTo((rate("block4.0.attn.q_lif") + rate("block4.0.attn.k_lif")) / 2, 12);
    expect(row("block4.0.sdsa3")?.firingRate).toBeGreaterThan(0);
    expect(report.layers.filter((l) => l.macs > 0).map((l) => l.layer)).toEqual(["downsample1_1"]);
    const dense = measured.energy({ preset: "sdt-v2", settings: { pwconv2: "mac" } }, table, "sdt-v2");
    expect(dense.layers.filter((l) => l.macs > 0)).toHaveLength(5);
    expect(measured.energy({ preset: "sdt-v2", settings: { repConv: "unfused" } }, table, "sdt-v2").total.energy).toBeLessThan(
      report.total.energy,
    );
    const merged = (await survey(net.mergeRepConvs(), x)).energy({ preset: "sdt-v2" }, table, "sdt-v2");
    expect(merged.total.energy / report.total.energy).toBeCloseTo(1, 2);
  });
});

describe.each(compiledDevices())("a recomputed block on %s", (name) => {
  beforeEach(() => start(name));

  it("gives the same values, gradients and running statistics", () => {
    const run = (recompute: boolean) =>
      scope(() => {
        const block = wake(new Block(16, 2)).train();
        const x = draw([2, 2, 4, 4, 16], 8);
        x.requiresGrad = true;
        block.recompute = recompute;
        const y = block.forward(x);
        backward(y, { gradient: draw(y.shape, 9) });
        const gradients = [...block.namedParameters()].map(([key, p]) => [key, p.grad && [...p.grad.dataSync()]]);
        const result = { y: [...y.dataSync()], x: [...(x.grad as Tensor).dataSync()], gradients, state: [...block.stateDict()] };
        block.zeroGrad();
        x.dispose();
        block.dispose();
        return result;
      });
    const plain = run(false);
    expect(plain.gradients.filter(([, g]) => g !== null).length).toBe(44);
    expect(run(true)).toEqual(plain);
    expect(device().memory().used).toBe(0);
  });
});
