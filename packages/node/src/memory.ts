/** The memory a run will take against what this machine has: said before the first step, and refused where it cannot fit. */
import { totalmem } from "node:os";
import { type EngineInfo, SpikeloomError, type train } from "spikeloom";
import type { Recipe } from "./recipe.ts";
import { bytes, count } from "./report/format.ts";

/** Most that one WebAssembly memory can be. */
const WASM_BYTES = 2 ** 32;

/** Bytes of memory that this process may use: the machine's, or less where its control group has a limit. */
export function machineMemory(): number {
  const limit = process.constrainedMemory?.() ?? 0;
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

const SIZE = /^(\d+(?:\.\d+)?) ?(k|M|G)(i?)B$/;
const POWER = { k: 1, M: 2, G: 3 };

/** Bytes of "500 MB" or "2 GiB"; undefined of what is no size. */
export function sizeBytes(text: string): number | undefined {
  const [, number, unit, binary] = SIZE.exec(text) ?? [];
  return unit ? Number(number) * (binary ? 1024 : 1000) ** POWER[unit as keyof typeof POWER] : undefined;
}

/** Bytes that a run may take by `train.memory`: a size, or "auto" for what the machine has. */
export function memoryBudget(setting: string): number {
  return sizeBytes(setting) ?? machineMemory();
}

/** "96 082 parameters (375 KiB), optimiser 1.1 MiB, about 360 MiB of memory in all". */
export function memoryLine(estimate: train.MemoryEstimate & { recomputed?: readonly string[] }): string {
  const { parameters, parameterBytes, optimizerBytes, rssBytes, recomputed = [] } = estimate;
  const again = recomputed.length ? `; to fit, backward runs these again: ${recomputed.join(", ")}` : "";
  return `${count(parameters)} parameters (${bytes(parameterBytes)}), optimiser ${bytes(optimizerBytes)}, about ${bytes(rssBytes)} of memory in all${again}`;
}

/** Images of a batch. */
export interface BatchSizes {
  batchSize: number;
  evalBatchSize: number;
}

export interface MemoryLimits {
  /** Bytes that the run may take. */
  budget: number;
  /** How many parts of the model can be run again. */
  parts: number;
  /** The same run in smaller batches, with the same parts run again. */
  estimate(size: BatchSizes): Promise<train.MemoryEstimate>;
}

/**
 * Refuse a run that cannot fit. Smaller batches are advised only where the estimate confirms that they do: most of a small run's memory is
 * Node's own, and stays.
 * @throws SpikeloomError that says what to change
 */
export async function checkMemory(
  memory: train.FittedMemory,
  { train }: Pick<Recipe, "train">,
  { device }: Pick<EngineInfo, "device">,
  { budget, parts, estimate }: MemoryLimits,
): Promise<void> {
  const tooMuch = (e: train.MemoryEstimate) => (device === "wasm" && e.heapBytes > WASM_BYTES ? "heap" : e.rssBytes > budget && "process");
  const excess = tooMuch(memory);
  if (!excess) return;
  const wasm = excess === "heap";
  const own = train.memory !== "auto";
  const takes = (e: train.MemoryEstimate) => bytes(wasm ? e.heapBytes : e.rssBytes);

  const fits = async (size: BatchSizes) => !tooMuch(await estimate(size));
  const one = await estimate({ batchSize: 1, evalBatchSize: 1 });
  // Where what is no tensor is too large already, no model is small enough.
  const fixed = one.rssBytes - one.heapBytes;
  const smaller = tooMuch(one) ? undefined : await smallerBatches(train, fits);
  const mends = [
    ...(smaller ? [smallerWords(train, smaller)] : []),
    ...(wasm || fixed <= budget ? ["use fewer time steps or a smaller model"] : []),
    ...(wasm ? ["use --device native"] : own ? ["allow more (train.memory)"] : []),
  ];
  const count = memory.recomputed.length;
  const again = count ? `, with ${count === parts ? "every part" : memory.recomputed.join(", ")} run again ${takes(memory)}` : "";
  const first = wasm
    ? `WebAssembly has ${bytes(WASM_BYTES)} at most; this run takes about ${takes(memory)} of tensors`
    : `${own ? `train.memory allows ${bytes(budget)}` : `there are ${bytes(budget)} of memory here`}; this run takes about ${bytes(memory.plainBytes)}${again}`;
  const least = smaller ? "" : `; with one image a batch about ${takes(one)}`;
  const node = !wasm && fixed > budget ? `, of which ${bytes(fixed)} are Node and the data, whatever the model` : "";
  throw new SpikeloomError(`${first}${least}${node}${mends.length ? `: ${mends.join(", or ")}` : ""}`);
}

/** The largest halves of the batches that fit: tests alone where that is enough, then training alone, then both. */
async function smallerBatches(
  { batchSize, evalBatchSize }: BatchSizes,
  fits: (size: BatchSizes) => Promise<boolean>,
): Promise<BatchSizes | undefined> {
  const halves = (size: number) => Array.from({ length: Math.floor(Math.log2(size)) }, (_, i) => Math.floor(size / 2 ** (i + 1)));
  const ways = [
    halves(evalBatchSize).map((n) => ({ batchSize, evalBatchSize: n })),
    halves(batchSize).map((n) => ({ batchSize: n, evalBatchSize })),
    halves(Math.max(batchSize, evalBatchSize)).map((n) => ({
      batchSize: Math.min(batchSize, n),
      evalBatchSize: Math.min(evalBatchSize, n),
    })),
  ];
  for (const sizes of ways) {
    const least = sizes.at(-1);
    if (least && (await fits(least))) for (const size of sizes) if (await fits(size)) return size;
  }
  return undefined;
}

function smallerWords(
  { batchSize, evalBatchSize, accumulate }: Pick<Recipe["train"], "batchSize" | "evalBatchSize" | "accumulate">,
  smaller: BatchSizes,
): string {
  const words = [
    ...(smaller.evalBatchSize < evalBatchSize ? [`test in smaller batches (train.evalBatchSize=${smaller.evalBatchSize})`] : []),
    ...(smaller.batchSize < batchSize
      ? [
          `train in smaller batches (train.batchSize=${smaller.batchSize}; with train.accumulate=${accumulate * Math.ceil(batchSize / smaller.batchSize)} as many images count for an update as before)`,
        ]
      : []),
  ];
  return words.join(" and ");
}
