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

/**
 * Refuse a run that cannot fit.
 * @throws SpikeloomError that says what to change
 */
export function checkMemory(
  { rssBytes, heapBytes, trainHeapBytes }: train.MemoryEstimate,
  recipe: Pick<Recipe, "train">,
  { device }: Pick<EngineInfo, "device">,
  limit = machineMemory(),
): void {
  const wasm = device === "wasm" && heapBytes > WASM_BYTES;
  if (!wasm && rssBytes <= limit) return;
  const excess = wasm ? heapBytes / WASM_BYTES : rssBytes / limit;
  const { batchSize, evalBatchSize, accumulate } = recipe.train;
  let parts = 2;
  while (parts < excess) parts *= 2;
  const smaller = Math.max(1, Math.floor(batchSize / parts));
  const tests = heapBytes > 1.05 * trainHeapBytes;
  const training = wasm ? trainHeapBytes > WASM_BYTES : rssBytes - heapBytes + trainHeapBytes > limit;
  const mends = [
    ...(tests ? [`test in smaller batches (train.evalBatchSize=${Math.max(1, Math.floor(evalBatchSize / parts))})`] : []),
    ...(training && batchSize > 1
      ? [
          `train in smaller batches (train.batchSize=${smaller}; with train.accumulate=${accumulate * Math.ceil(batchSize / smaller)} as many images count for an update as before)`,
        ]
      : []),
    "use fewer time steps or a smaller model",
    ...(wasm ? ["use --device native"] : []),
  ];
  throw new SpikeloomError(
    wasm
      ? `this run would take about ${bytes(heapBytes)} of tensors, and WebAssembly has ${bytes(WASM_BYTES)} at most: ${mends.join(", or ")}`
      : `this run would take about ${bytes(rssBytes)} of memory, and there are ${bytes(limit)} here: ${mends.join(", or ")}`,
  );
}
