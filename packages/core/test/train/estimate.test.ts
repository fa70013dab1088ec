// The estimate of a run's memory: right about the device's heap, and without any trace in the run.
import { describe, expect, it } from "vitest";
import { Loader } from "../../src/data/loader.ts";
import { BatchNorm2d } from "../../src/nn/index.ts";
import { memoryInfo, randomness } from "../../src/runtime/engine.ts";
import { estimateMemory, fitMemory } from "../../src/train/estimate.ts";
import { compiledDevices } from "../gradcheck.ts";
import { advance, averaged, images, lamb, type Setup, STANDARD, sgd, tinySdt, trainer, weights } from "./support.ts";

const MIB = 2 ** 20;

/** A network whose steps take some MiB, so that pages and rests of blocks do not count. */
const wide = { model: () => tinySdt({ embedDims: 64, pooling: "0010" }), samples: 200, batchSize: 64 } satisfies Setup;
const tests = (count: number, batchSize: number) => new Loader(images(count, 9), { batchSize, transforms: STANDARD });

describe.each(compiledDevices())("on %s", (device) => {
  it.each<[string, Setup, number]>([
    ["of training", {}, 0],
    ["of tests in large batches", {}, 400],
    ["of accumulated gradients", { accumulate: 3 }, 0],
    ["of SGD", { optimizer: sgd, clipNorm: 1 }, 0],
    ["of LAMB and averaged weights", { optimizer: lamb, ema: averaged }, 0],
  ])("the heap %s is what is used and the gaps between", async (_, setup, testBatch) => {
    const t = await trainer({ ...wide, device, ...setup, ...(testBatch ? { testLoader: tests(testBatch, testBatch) } : {}) });
    const { heapBytes, trainHeapBytes } = await estimateMemory(t, 0);
    await advance(t);
    const { peak } = memoryInfo();
    expect(peak).toBeGreaterThan(3 * MIB);
    // Memory that is touched may be more than what is used at one time, for the gaps between blocks.
    expect(heapBytes / peak).toBeGreaterThan(0.97);
    expect(heapBytes / peak).toBeLessThan(1.25);
    if (testBatch) expect(heapBytes).toBeGreaterThan(1.2 * trainHeapBytes);
    else expect(heapBytes).toBe(trainHeapBytes);
  });

  it("a batch is never larger than the data", async () => {
    const of = async (batchSize: number) => (await estimateMemory(await trainer({ device, samples: 40, batchSize }), 0)).heapBytes;
    expect(await of(1000)).toBe(await of(40));
    expect(await of(40)).toBeGreaterThan(await of(10));
  });
});

describe.each(compiledDevices())("a budget on %s", (device) => {
  const deep = { ...wide, device, model: () => tinySdt({ embedDims: 64, pooling: "0010", depths: 3 }) } satisfies Setup;

  it("has as few parts run again as will do, and the training is the same", async () => {
    const plain = await trainer(deep);
    const { rssBytes, heapBytes } = await estimateMemory(plain, 0);
    await advance(plain, 5);
    const expected = weights(plain.options.model);
    const { peak } = memoryInfo();

    const t = await trainer(deep);
    const enough = await fitMemory(t, rssBytes, 0);
    expect(enough).toMatchObject({ rssBytes, plainBytes: rssBytes, recomputed: [] });
    const fitted = await fitMemory(t, rssBytes - 1, 0);
    expect(fitted.recomputed).toEqual(["patch_embed"]);
    expect(fitted.rssBytes).toBeLessThan(rssBytes);
    expect(fitted.plainBytes).toBe(rssBytes);
    await advance(t, 5);
    expect(memoryInfo().peak / peak).toBeCloseTo(fitted.heapBytes / heapBytes, 1);
    expect(memoryInfo().peak).toBeLessThan(0.9 * peak);
    expect(weights(t.options.model)).toEqual(expected);

    // More than it can be: what takes least is chosen, and said.
    const least = await fitMemory(t, 1, 0);
    expect(least.rssBytes).toBeLessThanOrEqual(fitted.rssBytes);
    expect(least.recomputed.length).toBeGreaterThan(0);
  });
});

it("counts parameters, optimiser and gradients, and adds to what the process has", async () => {
  const t = await trainer();
  const e = await estimateMemory(t, 100 * MIB);
  const floats = t.options.model.parameterCount();
  expect(e.parameters).toBe(floats);
  // Beside the parameters the norm's mean, variance and counter.
  expect(e.parameterBytes).toBe(4 * (floats + 13));
  // AdamW: two moments, and the gradient.
  expect(e.optimizerBytes).toBe(12 * floats);
  expect(e.rssBytes).toBeGreaterThan(100 * MIB + e.heapBytes);
  expect(e.rssBytes - (await estimateMemory(t, 0)).rssBytes).toBe(100 * MIB);
});

describe("leaves no trace", () => {
  it.each<[string, Setup]>([
    ["of a fresh run", { testLoader: tests(12, 5) }],
    ["with dropout, augmentation, accumulation and averages", { shift: 1, accumulate: 2, ema: averaged, testLoader: tests(12, 5) }],
  ])("%s", async (_, setup) => {
    const plain = await trainer(setup);
    await advance(plain);
    const expected = weights(plain.options.model);

    const t = await trainer(setup);
    const { model, optimizer } = t.options;
    // A frozen layer.
    for (const [, m] of model.namedModules()) if (m instanceof BatchNorm2d) m.eval();
    const look = () => ({
      used: memoryInfo().used,
      modes: [...model.namedModules()].map(([, m]) => m.training),
      versions: [...model.namedState()].map(([, p]) => p.version),
      gradients: model.parameters().map((p) => p.grad),
      optimizer: [optimizer.steps, optimizer.stateSize, optimizer.gradScale, optimizer.lr],
      state: weights(t.options.model),
      draws: Object.values(randomness().state().streams).filter((s) => s.block || s.word),
    });
    const before = look();
    await estimateMemory(t, 0);
    expect(look()).toEqual(before);
    await advance(t);
    expect(weights(t.options.model)).toEqual(expected);
  });

  it("in the middle of a run, between two gradients that are summed", async () => {
    const setup = { accumulate: 3, samples: 64 };
    const plain = await trainer(setup);
    await advance(plain);
    const expected = weights(plain.options.model);
    const t = await trainer(setup);
    await advance(t, 4);
    await estimateMemory(t, 0);
    await advance(t);
    expect(weights(t.options.model)).toEqual(expected);
  });
});
