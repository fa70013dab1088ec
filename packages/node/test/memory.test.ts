/** Runs that cannot fit are refused, with what to change. */
import { totalmem } from "node:os";
import { join } from "node:path";
import { SpikeloomError, type train } from "spikeloom";
import { describe, expect, it } from "vitest";
import { type BatchSizes, checkMemory, machineMemory, memoryBudget, memoryLine, sizeBytes } from "../src/memory.ts";
import { parseRecipe, type Recipe } from "../src/recipe.ts";
import { child, folder, smallMnist, smallRecipe } from "./support.ts";

const GIB = 2 ** 30;
const recipe = parseRecipe(
  "model: { name: a }\ndata: { name: b }\ntrain: { epochs: 1, batchSize: 64, evalBatchSize: 256, accumulate: 2 }",
  "a.yml",
);
const estimate = (gib: number, trainGib = gib): train.MemoryEstimate => ({
  ...{ parameters: 96082, parameterBytes: 384328, optimizerBytes: 1152984 },
  ...{ heapBytes: gib * GIB, trainHeapBytes: trainGib * GIB, rssBytes: gib * GIB + 0.25 * GIB },
});

it("knows what the machine has", () => {
  expect(machineMemory()).toBeGreaterThan(2 ** 26);
  expect(machineMemory()).toBeLessThanOrEqual(totalmem());
});

it("says what the run takes", () => {
  expect(memoryLine(estimate(1))).toBe("96\u202f082 parameters (375.3 KiB), optimiser 1.1 MiB, about 1.3 GiB of memory in all");
});

it("says which parts are run again", () => {
  expect(memoryLine({ ...estimate(1), recomputed: ["block.0", "block.1"] })).toMatch(
    /; to fit, backward runs these again: block.0, block.1$/,
  );
});

it("takes a budget as a size", () => {
  expect(["500 MB", "2GiB", "1.5 kB"].map(sizeBytes)).toEqual([5e8, 2 ** 31, 1500]);
  expect(["500", "MB", "1 TB", "auto"].map(sizeBytes)).toEqual([undefined, undefined, undefined, undefined]);
  expect(memoryBudget("auto")).toBe(machineMemory());
  expect(memoryBudget("1 GiB")).toBe(GIB);
  const set = (memory: string) =>
    parseRecipe("model: { name: a }\ndata: { name: b }\ntrain: { epochs: 1 }", "a.yml", [`train.memory=${memory}`]);
  expect(set("64 MB").train.memory).toBe("64 MB");
  expect(() => set("64")).toThrow(/train.memory.*"auto", or a size such as "500 MB"/s);
});

/** A run of `fixed` GiB whatever the batches, and so many more for each image of a training and of a test batch. */
function run(fixed: number, each: number, eachTest: number, changes: Partial<Recipe["train"]> = {}, recomputed = 0) {
  const of = ({ batchSize, evalBatchSize }: BatchSizes): train.MemoryEstimate => {
    const training = each * batchSize * GIB;
    const heapBytes = Math.max(training, eachTest * evalBatchSize * GIB);
    return { ...estimate(0), heapBytes, trainHeapBytes: training, rssBytes: fixed * GIB + heapBytes };
  };
  const setup = { train: { ...recipe.train, ...changes } };
  const whole = of(setup.train);
  const memory = { ...whole, recomputed: ["a", "b"].slice(0, recomputed), plainBytes: whole.rssBytes + GIB * recomputed };
  const asked: BatchSizes[] = [];
  return {
    asked,
    check: (device: "native" | "wasm", gib: number) =>
      checkMemory(
        memory,
        setup,
        { device },
        {
          ...{ budget: gib * GIB, parts: 2 },
          estimate: async (size) => {
            asked.push(size);
            return of(size);
          },
        },
      ),
  };
}

it("lets pass what fits", async () => {
  await run(0.25, 0.05, 0).check("native", 4);
  const { check, asked } = run(1, 0.05, 0.0125);
  await check("wasm", 4.2);
  expect(asked).toEqual([]);
});

describe("refuses what does not fit", () => {
  const refused = async (work: Promise<void>): Promise<string> => {
    const error = await work.then(
      () => undefined,
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(SpikeloomError);
    return (error as SpikeloomError).message;
  };

  it("and advises the largest half of the batch that fits, the part that stays taken off", async () => {
    // 3 GiB stay; of 6.4 GiB more there is room for one: 64 -> 8, not 64 -> 16 as 9.4 to 4 would give.
    expect(await refused(run(3, 0.1, 0).check("native", 4))).toBe(
      "there are 4.0 GiB of memory here; this run takes about 9.4 GiB: train in smaller batches (train.batchSize=8; with train.accumulate=16 as many images count for an update as before), or use fewer time steps or a smaller model",
    );
  });

  it("tests alone where they are what is too large, both where both are", async () => {
    const tests = await refused(run(0.25, 0.03, 0.035).check("native", 4));
    expect(tests).toContain(": test in smaller batches (train.evalBatchSize=64), or use");
    expect(tests).not.toContain("train.batchSize");
    expect(await refused(run(0.25, 0.1, 0.035).check("native", 4))).toContain(
      ": test in smaller batches (train.evalBatchSize=32) and train in smaller batches (train.batchSize=32; with train.accumulate=4 ",
    );
  });

  it("and advises only what was confirmed: where no batch fits, none", async () => {
    for (const [batchSize, fixed] of [
      [64, 3.95],
      [1, 3.95],
    ] as const) {
      const { check, asked } = run(fixed, 0.1, 0, { batchSize });
      const message = await refused(check("native", 4));
      expect(message).toMatch(/; with one image a batch about 4\.\d GiB: use fewer time steps or a smaller model$/);
      expect(message).not.toContain("batchSize=");
      expect(asked).toEqual([{ batchSize: 1, evalBatchSize: 1 }]);
    }
  });

  it("of a budget says that it is the recipe's, and what running parts again came to", async () => {
    const own = { memory: "4 GiB" };
    expect(await refused(run(3.5, 0.6, 0, own, 2).check("native", 4))).toBe(
      "train.memory allows 4.0 GiB; this run takes about 43.9 GiB, with every part run again 41.9 GiB; with one image a batch about 4.1 GiB: use fewer time steps or a smaller model, or allow more (train.memory)",
    );
    expect(await refused(run(5, 0.1, 0, own, 1).check("native", 4))).toBe(
      "train.memory allows 4.0 GiB; this run takes about 12.4 GiB, with a run again 11.4 GiB; with one image a batch about 5.1 GiB, of which 5.0 GiB are Node and the data, whatever the model: allow more (train.memory)",
    );
  });

  it("by WebAssembly's limit, which counts tensors alone", async () => {
    const message = await refused(run(1, 0.1, 0).check("wasm", 64));
    expect(message).toContain(
      "WebAssembly has 4.0 GiB at most; this run takes about 6.4 GiB of tensors: train in smaller batches (train.batchSize=32;",
    );
    expect(message).toContain("--device native");
  });
});

it("a training is told what fits by the estimate of itself, and the batch that was advised runs", { timeout: 120_000 }, async () => {
  const path = smallRecipe(smallMnist(256, 8));
  // Processes of their own, which begin with the same memory.
  const run = (...more: string[]) => {
    const sets = ["train.batchSize=256", "train.evalBatchSize=1", "model.config.embedDims=64", ...more].flatMap((s) => ["--set", s]);
    return child(["train", path, "--out", join(folder(), "run"), ...sets]);
  };
  const { code, err } = await run("train.memory=50 MiB");
  expect(code).toBe(1);
  const [, whole, one] =
    /train\.memory allows 50 MiB; this run takes about \d.* MiB, with .* run again (\d.*) MiB; with one image a batch about (\d.*) MiB, of which \d.* MiB are Node and the data, whatever the model: allow more \(train\.memory\)/.exec(
      err,
    ) ?? [];
  // Room for a third of what the batch adds: for 64 images, not for 128.
  const memory = `train.memory=${Math.round(Number(one) + 0.35 * (Number(whole) - Number(one)))} MiB`;
  expect((await run(memory)).err).toContain(": train in smaller batches (train.batchSize=64; with train.accumulate=4 as many images count");
  expect((await run(memory, "train.batchSize=64", "data.limit=64")).code).toBe(0);
});
