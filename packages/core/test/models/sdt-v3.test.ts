// Spike-driven Transformer V3, base and DVS: sizes exactly as the official code's, what a membrane outlives, spikes that stay bits, energy.
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { survey } from "../../src/measure/index.ts";
import { createModel, findSystem } from "../../src/models/registry.ts";
import { Attention, Block, type ESpikeFormer, type ESpikeFormerDVS, evenNeuron, integratingNeuron } from "../../src/models/sdt-v3/index.ts";
import { withoutDraws } from "../../src/nn/init.ts";
import { type Module, withForwardHook } from "../../src/nn/module.ts";
import { device, init } from "../../src/runtime/engine.ts";
import { SpikeloomError } from "../../src/runtime/error.ts";
import { reset } from "../../src/spiking/neurons.ts";
import { denseViews, resetDenseViews } from "../../src/tensor/ops/common.ts";
import { sum } from "../../src/tensor/ops/reduce.ts";
import { scope } from "../../src/tensor/scope.ts";
import { backward } from "../../src/tensor/tape.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { compiledDevices, draw, start } from "../gradcheck.ts";
import "../../src/tensor/methods.ts";

/** Parameters and state-dict keys of the official code, measured by instantiating it. */
const OFFICIAL: [name: string, parameters: number, keys: number][] = [
  ["tiny", 2_702_048, 605],
  ["5m", 5_105_608, 605],
  ["10m", 10_023_112, 605],
  ["19m", 18_987_504, 605],
  ["dvs-19m", 18_740_004, 629],
  ["dvs-gesture", 5_604_315, 216],
  ["dvs-30m", 39_360_232, 629],
  ["dvs-50m", 61_265_800, 629],
];

const SMALL = { inChannels: 2, numClasses: 3, embedDims: [4, 6, 8, 12], blocks: [2, 1], numHeads: 2, mlpRatio: 2 };
const small = (overrides: Record<string, unknown> = {}) => createModel("sdt-v3/5m", { ...SMALL, ...overrides }) as ESpikeFormer;
const frames = (overrides: Record<string, unknown> = {}) => {
  const net = createModel("sdt-v3/dvs-19m", { ...SMALL, norm: 4, ...overrides }) as ESpikeFormerDVS;
  // Scales of 1e-6 would hide every block.
  for (const [key, p] of net.namedParameters()) if (key.includes("layer_scale")) p.set(new Float32Array(p.size).fill(0.7));
  return net;
};

describe("the named configurations", () => {
  beforeAll(() => init({ device: "wasm", threads: 1 }));

  it.each(OFFICIAL)("%s: %d parameters, %d keys", (name, parameters, keys) => {
    scope(() => {
      const model = withoutDraws(() => createModel(`sdt-v3/${name}`));
      expect([model.parameterCount(), model.stateShapes().size]).toEqual([parameters, keys]);
      model.dispose();
    });
    expect(device().memory().used).toBe(0);
  });

  it("have the published dividers, inputs and D", () => {
    const { configs } = findSystem("sdt-v3");
    expect(configs["dvs-gesture"]).toMatchObject({ blocks: [1, 0], norm: 8, numClasses: 11, inChannels: 2, imageSize: [128, 128] });
    expect(configs["dvs-19m"]).toMatchObject({ blocks: [6, 2], norm: 1, numClasses: 300, levels: 4 });
    expect(configs["dvs-50m"]).toMatchObject({ norm: 4, inChannels: 3, numClasses: 1000 });
    for (const [name] of OFFICIAL) expect(configs[name]).toMatchObject({ numHeads: 8, mlpRatio: 4, levels: 4 });
  });
});

describe("settings that are wrong", () => {
  beforeAll(() => init({ device: "wasm", threads: 1 }));

  it.each<[Record<string, unknown>, string]>([
    [{ levels: 0 }, "levels must be an integer from 1 to 255, found 0"],
    [{ levels: 256 }, "levels must be an integer from 1 to 255, found 256"],
    [{ numClasses: "ten" }, 'numClasses must be a positive integer, found "ten"'],
    [{ embedDims: [4, 6, 8] }, "embedDims must be four positive integers, found [4,6,8]"],
    [{ embedDims: [5, 6, 8, 12] }, "embedDims must be even in its first number"],
    [{ embedDims: [4, 6, 9, 12] }, "embedDims must be multiples of numHeads = 2 in its last two numbers, found [4,6,9,12]"],
    [{ blocks: [6] }, "blocks must be two integers of at least 0, found [6]"],
    [{ blocks: [-1, 2] }, "blocks must be"],
    [{ mlpRatio: 0.5 }, "mlpRatio must be a number of at least 1, found 0.5"],
    [{ imageSize: [224] }, "imageSize must be two positive integers [H, W], found [224]"],
  ])("%o", (overrides, message) => {
    expect(() => small(overrides)).toThrow(SpikeloomError);
    expect(() => small(overrides)).toThrow(`sdt-v3 config: ${message}`);
  });

  it.each<[Record<string, unknown>, string]>([
    [{ norm: 0 }, "norm must be a number above 0, found 0"],
    [{ state: "always" }, 'state must be "none", "calls" or "frames", found "always"'],
  ])("of DVS: %o", (overrides, message) => {
    expect(() => frames(overrides)).toThrow(`sdt-v3 config: ${message}`);
  });

  it("and a family that is another configuration's", () => {
    expect(() => small({ family: "bass" })).toThrow("sdt-v3 config: family must be");
    expect(() => small({ family: "dvs" })).toThrow("sdt-v3 config: norm must be");
  });
});

describe("forward", () => {
  beforeAll(() => init({ device: "wasm", threads: 1, seed: 2 }));

  it.each<[string, () => Module, number[], number[]]>([
    ["images", small, [2, 32, 32, 2], [2, 3]],
    ["an image of odd size that is not square", small, [1, 37, 51, 2], [1, 3]],
    ["event frames", frames, [3, 2, 32, 32, 2], [2, 3]],
    ["no block at all", () => frames({ blocks: [0, 0] }), [1, 2, 16, 16, 2], [2, 3]],
  ])("%s", (_, make, input, output) => {
    scope(() => {
      const logits = make().forward(draw(input, 3)) as Tensor;
      expect(logits.shape).toEqual(output);
      expect([...logits.dataSync()].every(Number.isFinite)).toBe(true);
    });
  });

  it("refuses other inputs", () => {
    scope(() => {
      expect(() => small().forward(draw([1, 1, 8, 8, 2], 1))).toThrow(
        "ESpikeFormer: the input must be images [B, H, W, 2], found [1, 1, 8, 8, 2]",
      );
      expect(() => small().forward(draw([1, 8, 8, 3], 1))).toThrow("found [1, 8, 8, 3]");
      expect(() => frames().forward(draw([1, 8, 8, 2], 1))).toThrow(
        "ESpikeFormerDVS: the input must be event frames [T, B, H, W, 2], found [1, 8, 8, 2]",
      );
    });
  });

  it("samples of a batch do not see each other in eval mode", () => {
    scope(() => {
      const model = small().eval();
      const x = draw([3, 16, 16, 2], 4, -2, 2);
      const all = model.forward(x).dataSync();
      for (let i = 0; i < 3; i++) expect(model.forward(x.slice([i, i + 1])).dataSync()).toEqual(all.slice(3 * i, 3 * i + 3));
    });
  });
});

/** What the official neuron does to one membrane, in plain numbers. */
function emits(inputs: readonly number[], norm: number): number[] {
  let v = 0;
  return inputs.map((x) => {
    v += x;
    const low = Math.floor(Math.min(Math.max(v, 0), 4));
    const over = Math.min(Math.max(v, 0), 4) - low;
    const s = over > 0.5 || (over === 0.5 && low % 2 === 1) ? low + 1 : low;
    v -= s;
    return s / norm;
  });
}

describe("the membranes of the DVS network", () => {
  beforeAll(() => init({ device: "reference", seed: 3 }));
  const inputs = [0.5, 0.7, 1.5, -2, 9, 0.3, 2.5, 0.2];

  it("go on from frame to frame where asked, and start anew with the next recording", () => {
    const neuron = integratingNeuron(4, 8, "frames")();
    const x = tensor(inputs, [inputs.length, 1, 1]);
    for (let i = 0; i < 2; i++) expect([...(neuron.forward(x) as Tensor).dataSync()]).toEqual(emits(inputs, 8));
  });

  it("go on from call to call until they are reset, all frames being one step", () => {
    const neuron = integratingNeuron(4, 4, "calls")();
    const call = (x: number) => [...(neuron.forward(tensor([x, 2 * x], [2, 1, 1])) as Tensor).dataSync()];
    const both = [
      emits(inputs, 4),
      emits(
        inputs.map((x) => 2 * x),
        4,
      ),
    ] as const;
    inputs.forEach((x, i) => expect(call(x)).toEqual([both[0][i], both[1][i]]));
    reset(neuron);
    expect(call(inputs[0] as number)).toEqual([both[0][0], both[1][0]]);
  });

  it("make no difference to the first recording; the second is another one", () => {
    scope(() => {
      const [none, calls] = [frames().eval(), frames({ state: "calls" }).eval()];
      calls.loadStateDict(none.stateDict());
      const x = draw([2, 1, 16, 16, 2], 5, 0, 3);
      const inside = (net: ESpikeFormerDVS) => {
        let values: ArrayLike<number> = [];
        const hear = (m: Module, _: readonly unknown[], y: unknown) => {
          if (m === net.downsample4) values = (y as Tensor).dataSync();
        };
        withForwardHook(hear, () => net.forward(x));
        return values;
      };
      const first = inside(none);
      expect(inside(calls)).toEqual(first);
      expect(inside(calls)).not.toEqual(first);
      reset(calls);
      expect(inside(calls)).toEqual(first);
      expect(inside(none)).toEqual(first);
    });
  });

  it("of another batch size are refused with the mend", () => {
    scope(() => {
      const calls = frames({ state: "calls" }).eval();
      calls.forward(draw([1, 2, 16, 16, 2], 5));
      expect(() => calls.forward(draw([1, 1, 16, 16, 2], 5))).toThrow(/Call snn.reset\(net\) before a batch of another size/);
    });
  });
});

it("attention is (q k') v scaled once, with ties to even", async () => {
  await init({ device: "reference", seed: 4 });
  scope(() => {
    const attention = new Attention(8, 2, evenNeuron(4)).eval();
    const seen = new Map<string, Float64Array>();
    const x = draw([1, 2, 3, 8], 6, -1, 5);
    let found = new Float64Array();
    const hear = (m: Module, [u]: readonly unknown[], y: unknown) => {
      for (const part of ["q", "k", "v"] as const)
        if (m === attention[`${part}_spike`]) seen.set(part, Float64Array.from((y as Tensor).dataSync()));
      if (m === attention.attn_spike) found = Float64Array.from((u as Tensor).dataSync());
    };
    withForwardHook(hear, () => attention.forward(x));
    const [q, k, v] = ["q", "k", "v"].map((part) => seen.get(part) as Float64Array) as [Float64Array, Float64Array, Float64Array];
    const expected = Float64Array.from({ length: 6 * 32 }, (_, i) => {
      const [n, c] = [Math.floor(i / 32), i % 32];
      const head = Math.floor(c / 16);
      let total = 0;
      for (let m = 0; m < 6; m++) {
        let product = 0;
        for (let d = 0; d < 4; d++) product += (q[n * 8 + head * 4 + d] as number) * (k[m * 8 + head * 4 + d] as number);
        total += product * (v[m * 32 + c] as number);
      }
      // 2 / sqrt(4)
      return total * 1;
    });
    expect(found).toEqual(expected);
    expect(expected.some((value) => value !== 0)).toBe(true);
  });
});

describe.each(compiledDevices())("on %s", (name) => {
  beforeEach(() => start(name));

  it("integers go through every weight layer as bits, forward and backward; the products of attention alone unpack q, k and v", () => {
    scope(() => {
      const model = createModel("sdt-v3/tiny", { numClasses: 5, blocks: [1, 1] }).train();
      resetDenseViews();
      sum(model.forward(draw([1, 32, 32, 3], 7, -2, 2))).backward();
      expect([...denseViews()]).toEqual([["toDense", 6]]);
    });
  });

  it("a recomputed block gives the same values, gradients and running statistics", () => {
    const block = () => new Block({ dim: 8, heads: 2, mlpRatio: 2, neuron: evenNeuron(4), layerScale: 0.5 });
    const first = block();
    const weights = first.stateDict();
    first.dispose();
    const run = (recompute: boolean) =>
      scope(() => {
        const b = block();
        b.loadStateDict(weights);
        b.train();
        b.recompute = recompute;
        const x = draw([2, 4, 4, 8], 8, -1, 3);
        x.requiresGrad = true;
        const y = b.forward(x);
        backward(y, { gradient: draw(y.shape, 9) });
        const gradients = [...b.namedParameters()].map(([key, p]) => [key, p.grad && [...p.grad.dataSync()]]);
        return { y: [...y.dataSync()], x: [...(x.grad as Tensor).dataSync()], gradients, state: [...b.stateDict()] };
      });
    const plain = run(false);
    expect(plain.gradients.filter(([, g]) => g !== null).length).toBeGreaterThan(20);
    expect(run(true)).toEqual(plain);
  });
});

describe("energy", () => {
  beforeAll(() => init({ device: "wasm", threads: 1, seed: 5 }));

  it.each([
    ["5m", 29_503_488, 1_848_324_608, 221_276_160],
    ["10m", 44_255_232, 3_890_824_320, 313_474_560],
    ["19m", 59_006_976, 7_141_088_448, 433_332_480],
  ])("%s at 224: the specified operations of the first convolution, the other layers, attention", (name, first, layers, attention) => {
    const system = findSystem("sdt-v3");
    const config = system.configs[name] as Record<string, unknown>;
    const { rows } = system.energyTable?.(config, { timeSteps: 1, height: 224, width: 224 }) as { rows: readonly { part: string; ops: number }[] };
    const sum = (list: typeof rows) => list.reduce((n, { ops }) => n + ops, 0);
    const products = rows.filter(({ part }) => part.includes(" "));
    expect([rows[0]?.ops, sum(rows.slice(1)) - sum(products), sum(products)]).toEqual([first, layers, attention]);
  });

  it("the table's layers and mean integers are those counted in the network; attention comes on top; T and D are written out", async () => {
    const net = small({ levels: 3 });
    // Two batches of different sizes: an image has no time steps.
    const batches = [draw([2, 24, 20, 2], 10, -3, 3), draw([1, 24, 20, 2], 11, -3, 3)];
    const found = await survey(net, batches);
    expect(found.operations).toMatchObject({ timeSteps: 1, samples: 3 });
    expect(found.rates.every((r) => r.perStep.length === 1 && r.samples === 3)).toBe(true);
    const system = findSystem("sdt-v3");
    const input = { timeSteps: 1, height: 24, width: 20 };
    const table = () => system.energyTable?.({ ...net.config }, input) as NonNullable<ReturnType<NonNullable<typeof system.energyTable>>>;
    const report = found.energy({ preset: "sdt-v3" }, table, system.energyPreset);
    const products = report.layers.filter((l) => l.layer.includes(" "));
    const layers = report.layers.filter((l) => !products.includes(l));
    expect(layers.map((l) => [l.layer, l.denseOps])).toEqual(found.operations.layers.map((l) => [l.layer, l.denseOps]));
    const counted = found.operations.layers;
    layers.slice(1).forEach((l, i) => expect(l.meanSpike).toBeCloseTo(counted[i + 1]?.value as number, 9));
    expect(products).toHaveLength(6);
    const [tokens, dim] = [2 * 2, 8];
    const rate = (layer: string) => found.rates.find((r) => r.layer === layer) as (typeof found.rates)[number];
    const q = rate("block3.0.attn.q_spike");
    const v = rate("block3.0.attn.v_spike");
    expect(products[0]?.acs).toBeCloseTo((q.value / q.unit) * tokens * tokens * dim, 6);
    expect(products[1]?.acs).toBeCloseTo((v.value / v.unit) * 4 * tokens * tokens * dim, 6);
    const without = found.energy({ preset: "sdt-v3" });
    expect(report.total.energy - products.reduce((n, l) => n + l.energy, 0)).toBeCloseTo(without.total.energy, 6);
    for (const { rule } of [report, without]) expect(rule).toContain("T = 1, D = 3");
    // Another system's convention does not take this table.
    expect(found.energy({ preset: "sdt" }, table, system.energyPreset).layers.map((l) => l.layer)).not.toContain("head");
  });

  it("frames of events count T times", async () => {
    const net = frames();
    const found = await survey(net, draw([3, 2, 16, 16, 2], 12, 0, 3));
    expect(found.operations).toMatchObject({ timeSteps: 3, samples: 2 });
    const system = findSystem("sdt-v3");
    const report = found.energy(
      { preset: "sdt-v3" },
      () => system.energyTable?.({ ...net.config }, { timeSteps: 3, height: 16, width: 16 }) as never,
      "sdt-v3",
    );
    expect(report.layers[0]?.macs).toBe(3 * 49 * 8 * 8 * 2 * 2);
    expect(report.rule).toContain("T = 3, D = 4");
    expect(report.total.acs).toBeGreaterThan(0);
  });
});
