/** Runs that cannot fit are refused, with what to change. */
import { totalmem } from "node:os";
import { SpikeloomError, type train } from "spikeloom";
import { expect, it } from "vitest";
import { checkMemory, machineMemory, memoryBudget, memoryLine, sizeBytes } from "../src/memory.ts";
import { parseRecipe } from "../src/recipe.ts";

const GIB = 2 ** 30;
const recipe = parseRecipe(
  "model: { name: a }\ndata: { name: b }\ntrain: { epochs: 1, batchSize: 64, evalBatchSize: 256, accumulate: 2 }",
  "a.yml",
);
const estimate = (gib: number, trainGib = gib): train.MemoryEstimate => ({
  ...{ parameters: 96082, parameterBytes: 384328, optimizerBytes: 1152984 },
  ...{ heapBytes: gib * GIB, trainHeapBytes: trainGib * GIB, rssBytes: gib * GIB + 0.25 * GIB },
});
const native = { device: "native" } as const;

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

it("lets pass what fits", () => {
  expect(() => checkMemory(estimate(3), recipe, { device: "wasm" }, 4 * GIB)).not.toThrow();
  expect(() => checkMemory(estimate(3.75), recipe, native, 4 * GIB)).not.toThrow();
});

it("refuses what does not, and names batch sizes that would", () => {
  const refused = (...args: Parameters<typeof checkMemory>) => {
    expect(() => checkMemory(...args)).toThrow(SpikeloomError);
    try {
      checkMemory(...args);
    } catch (error) {
      return (error as Error).message;
    }
    return "";
  };
  const train = refused(estimate(9), recipe, native, 4 * GIB);
  expect(train).toContain("this run would take about 9.3 GiB of memory, and there are 4.0 GiB here");
  expect(train).toContain("train.batchSize=16; with train.accumulate=8");
  expect(train).not.toContain("evalBatchSize");
  const tests = refused(estimate(9, 2), recipe, native, 4 * GIB);
  expect(tests).toContain("train.evalBatchSize=64");
  expect(tests).not.toContain("train.batchSize");
  const one = { train: { ...recipe.train, batchSize: 1 } };
  expect(refused(estimate(9), one, native, 4 * GIB)).not.toContain("batchSize=");
  const wasm = refused(estimate(5), recipe, { device: "wasm" }, 64 * GIB);
  expect(wasm).toContain("about 5.0 GiB of tensors, and WebAssembly has 4.0 GiB at most");
  expect(wasm).toContain("--device native");
});
