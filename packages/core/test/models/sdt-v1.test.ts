// Spike-driven Transformer V1: sizes exactly as the official code's, settings that are wrong, shapes, recomputation.
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createModel, findSystem, modelNames, resolveModel } from "../../src/models/registry.ts";
import { Block, type SpikeDrivenTransformer } from "../../src/models/sdt-v1/index.ts";
import { withoutDraws } from "../../src/nn/init.ts";
import type { Module } from "../../src/nn/module.ts";
import { device, init } from "../../src/runtime/engine.ts";
import { SpikeloomError } from "../../src/runtime/error.ts";
import { scope } from "../../src/tensor/scope.ts";
import { backward } from "../../src/tensor/tape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { ADDON, compiledDevices, draw, start } from "../gradcheck.ts";
import { close } from "../tensor/support.ts";
import "../../src/tensor/methods.ts";

/** Parameters and state-dict keys of the official code, measured by instantiating it. */
const OFFICIAL: [name: string, parameters: number, keys: number, overrides?: Record<string, unknown>][] = [
  ["imagenet-8-384", 16_816_536, 352],
  ["imagenet-6-512", 23_373_736, 272],
  ["imagenet-8-512", 29_689_896, 352],
  ["imagenet-10-512", 36_006_056, 432],
  ["imagenet-8-768", 66_339_144, 352],
  ["cifar10-2-256", 2_567_082, 112],
  ["cifar10-2-512", 10_233_546, 112],
  ["cifar10-2-512-tet", 10_233_546, 112],
  ["cifar100-2-256", 2_590_212, 112],
  ["cifar100-2-512", 10_279_716, 112],
  ["cifar10-dvs-2-256-tet", 2_566_794, 112],
  ["gesture-2-256-t10", 2_567_051, 112],
  ["gesture-2-256-t16", 2_567_051, 112],
  // With PLIF every neuron has one parameter more.
  ["imagenet-8-384", 16_816_606, 422, { spikeMode: "plif" }],
  ["cifar10-2-256", 2_567_104, 134, { spikeMode: "plif" }],
];

const TINY = { T: 2, inChannels: 2, numClasses: 3, embedDims: 16, depths: 2, numHeads: 2, mlpRatio: 2, pooling: "1000" };
const tiny = (overrides: Record<string, unknown> = {}) =>
  createModel("sdt-v1/cifar10-2-256", { ...TINY, ...overrides }) as SpikeDrivenTransformer;

describe("the named configurations", () => {
  beforeAll(() => init({ device: "wasm", threads: 1 }));

  it.each(OFFICIAL)("%s: %d parameters, %d keys", (name, parameters, keys, overrides = {}) => {
    scope(() => {
      const model = withoutDraws(() => createModel(`sdt-v1/${name}`, overrides));
      expect([model.parameterCount(), model.stateShapes().size]).toEqual([parameters, keys]);
      model.dispose();
    });
    expect(device().memory().used).toBe(0);
  });

  it("are all in the table above", () => {
    const names = OFFICIAL.flatMap(([name, , , overrides]) => (overrides ? [] : [`sdt-v1/${name}`]));
    expect(modelNames().filter((name) => name.startsWith("sdt-v1/"))).toEqual(names);
  });

  it("have the published time steps, images and switches", () => {
    const { configs } = findSystem("sdt-v1");
    const of = (name: string) => configs[name] as Record<string, unknown>;
    expect(of("imagenet-8-768")).toMatchObject({
      T: 4,
      inChannels: 3,
      numClasses: 1000,
      pooling: "1111",
      imageSize: [224, 224],
      dvsMode: false,
      tet: false,
    });
    expect(of("cifar100-2-512")).toMatchObject({ T: 4, numClasses: 100, pooling: "0011", imageSize: [32, 32], tet: false });
    expect(of("cifar10-2-512-tet")).toMatchObject({ numClasses: 10, tet: true, dvsMode: false });
    expect(of("cifar10-dvs-2-256-tet")).toMatchObject({
      T: 10,
      inChannels: 2,
      imageSize: [64, 64],
      pooling: "0011",
      dvsMode: true,
      tet: true,
    });
    expect(of("gesture-2-256-t16")).toMatchObject({
      T: 16,
      inChannels: 2,
      numClasses: 11,
      imageSize: [128, 128],
      pooling: "0111",
      dvsMode: false,
    });
    for (const name of Object.keys(configs)) expect(of(name)).toMatchObject({ numHeads: 8, mlpRatio: 4, spikeMode: "lif" });
  });
});

describe("settings that are wrong", () => {
  beforeAll(() => init({ device: "wasm", threads: 1 }));

  it.each<[Record<string, unknown>, string]>([
    [{ T: 0 }, "T must be a positive integer, found 0"],
    [{ depths: 1.5 }, "depths must be a positive integer, found 1.5"],
    [{ numClasses: "ten" }, 'numClasses must be a positive integer, found "ten"'],
    [{ embedDims: 20 }, "embedDims must be a multiple of 8"],
    [{ numHeads: 3 }, "numHeads must be a divisor of embedDims = 16, found 3"],
    [{ mlpRatio: 0 }, "mlpRatio must be a positive number, found 0"],
    [{ mlpRatio: 0.01 }, "mlpRatio must be"],
    [{ mlpRatio: "4" }, 'mlpRatio must be a positive number, found "4"'],
    [{ pooling: "111" }, 'pooling must be four characters "0" or "1", found "111"'],
    [{ pooling: 1100 }, 'pooling must be four characters "0" or "1", found 1100'],
    [{ spikeMode: "alif" }, 'spikeMode must be "lif" or "plif", found "alif"'],
    [{ dvsMode: 1 }, "dvsMode must be true or false, found 1"],
    [{ tet: "no" }, 'tet must be true or false, found "no"'],
    [{ imageSize: 32 }, "imageSize must be two positive integers [H, W], found 32"],
  ])("%o", (overrides, message) => {
    expect(() => tiny(overrides)).toThrow(SpikeloomError);
    expect(() => tiny(overrides)).toThrow(`sdt-v1 config: ${message}`);
  });

  it("and names that do not exist tell the nearest", () => {
    expect(() => createModel("sdt-v1/imagenet-8-521")).toThrow(
      'unknown model "sdt-v1/imagenet-8-521", did you mean "sdt-v1/imagenet-8-512"?',
    );
    expect(() => createModel("sdt-v1/resnet")).toThrow('unknown model "sdt-v1/resnet". `spikeloom models` lists them all');
    expect(() => createModel("std-v1")).toThrow('unknown system "std-v1", did you mean "sdt-v1"?');
    expect(() => createModel("yolo")).toThrow(/unknown system "yolo" \(one of .*sdt-v1/);
    expect(() => createModel("sdt-v1/toString")).toThrow("unknown model");
    expect(() => tiny({ embedDim: 32 })).toThrow('model sdt-v1/cifar10-2-256: unknown setting "embedDim", did you mean "embedDims"?');
    expect(() => resolveModel("sdt-v1", { lr: 1 })).toThrow(/unknown setting "lr" \(one of T, inChannels/);
    expect(() => resolveModel("sdt-v1", { constructor: 1 })).toThrow('unknown setting "constructor"');
  });

  it("a system's name alone is its first configuration, with settings over it", () => {
    const { system, config } = resolveModel("sdt-v1", { numClasses: 7 });
    expect(system.name).toBe("sdt-v1");
    expect(config).toEqual({ ...(findSystem("sdt-v1").configs["imagenet-8-384"] as object), numClasses: 7 });
  });
});

describe("forward", () => {
  beforeAll(() => init({ device: "wasm", threads: 1, seed: 2 }));

  it.each<[string, Record<string, unknown>, number[], number[]]>([
    ["images", {}, [3, 8, 8, 2], [3, 3]],
    ["event frames with their own number of steps", {}, [5, 3, 8, 8, 2], [3, 3]],
    ["TET: every step", { tet: true }, [3, 8, 8, 2], [2, 3, 3]],
    ["frames and TET", { tet: true, dvsMode: true }, [4, 1, 8, 8, 2], [4, 1, 3]],
    ["an image that is not square", { pooling: "0110" }, [1, 8, 12, 2], [1, 3]],
  ])("%s", (_, overrides, input, output) => {
    scope(() => {
      const logits = tiny(overrides).forward(draw(input, 3)) as Tensor;
      expect(logits.shape).toEqual(output);
      expect([...logits.dataSync()].every(Number.isFinite)).toBe(true);
    });
  });

  it.each([[[2, 8, 8, 3]], [[8, 8, 2]], [[1, 2, 2, 8, 8, 2]]])("refuses an input of shape %j", (shape) => {
    expect(() => scope(() => tiny().forward(draw(shape, 1)))).toThrow(
      `SpikeDrivenTransformer: the input must be images [B, H, W, 2] or event frames [T, B, H, W, 2], found [${shape.join(", ")}]`,
    );
  });

  it("samples of a batch do not see each other in eval mode", () => {
    scope(() => {
      const model = tiny().eval();
      const x = draw([3, 8, 8, 2], 4);
      const all = (model.forward(x) as Tensor).dataSync();
      for (let i = 0; i < 3; i++) expect((model.forward(x.slice([i, i + 1])) as Tensor).dataSync()).toEqual(all.slice(3 * i, 3 * i + 3));
    });
  });
});

describe.each(compiledDevices())("a recomputed block on %s", (name) => {
  beforeEach(() => start(name));

  it("gives the same values, gradients and running statistics", () => {
    const run = (recompute: boolean) =>
      scope(() => {
        const block = new Block({ dim: 16, heads: 2, mlpRatio: 2, dvs: false, spikeMode: "plif", layer: 0 });
        block.loadStateDict(weights);
        block.train();
        const x = draw([2, 2, 4, 4, 16], 8);
        x.requiresGrad = true;
        block.recompute = recompute;
        const y = block.forward(x);
        backward(y, { gradient: draw(y.shape, 9) });
        const gradients = [...block.namedParameters()].map(([key, p]) => [key, p.grad && [...p.grad.dataSync()]]);
        const result = { y: [...y.dataSync()], x: [...(x.grad as Tensor).dataSync()], gradients, state: [...block.stateDict()] };
        free(block, x);
        return result;
      });
    const free = (block: Module, x: Tensor) => {
      block.zeroGrad();
      x.dispose();
      block.dispose();
    };
    const first = new Block({ dim: 16, heads: 2, mlpRatio: 2, dvs: false, spikeMode: "plif", layer: 0 });
    const weights = first.stateDict();
    first.dispose();
    const plain = run(false);
    expect(plain.gradients.filter(([, g]) => g !== null).length).toBeGreaterThan(15);
    expect(run(true)).toEqual(plain);
    expect(device().memory().used).toBe(0);
  });
});

it("one seed gives the same weights on every device, but for rounding", async () => {
  const all: Map<string, ArrayLike<number>>[] = [];
  for (const name of ["reference", ...compiledDevices()] as const) {
    await init({ device: name, threads: 1, seed: 11, native: ADDON });
    all.push(new Map([...tiny().stateDict()].map(([key, { data }]) => [key, Float64Array.from(data as Float32Array, Number)])));
  }
  const [first, ...others] = all as [Map<string, ArrayLike<number>>, ...Map<string, ArrayLike<number>>[]];
  for (const other of others) for (const [key, values] of other) close(values, first.get(key) as ArrayLike<number>, 1e-6, key);
});
