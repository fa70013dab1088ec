/**
 * A training as the bytes of one safetensors file, and back: weights, averaged weights, the optimiser's moments and unfinished gradients as
 * tensors; where the run, its data and its random streams stand as one line of JSON; notes for whoever reads the file. It is sealed
 * with a checksum.
 */
import type { Loader, LoaderState } from "../data/loader.ts";
import { type NdArray, toFloat64 } from "../formats/array.ts";
import * as safetensors from "../formats/safetensors.ts";
import { crc32 } from "../formats/zip.ts";
import type { Module } from "../nn/module.ts";
import type { EMA } from "../optim/ema.ts";
import type { Optimizer } from "../optim/optimizer.ts";
import { kindOf } from "../runtime/check.ts";
import { PRICES } from "../runtime/costs.ts";
import type { TypedArray } from "../runtime/device.ts";
import { engineInfo, randomness } from "../runtime/engine.ts";
import { FormatError, SpikeloomError } from "../runtime/error.ts";
import { CHOICE_VERSION, forcedImplementations, type ImplementationChoice, TABLES_FROM } from "../runtime/implementations.ts";
import { kernelTableHash } from "../runtime/kernel-table.ts";
import type { MatmulPrecision } from "../runtime/precision.ts";
import type { RngState } from "../runtime/random.ts";
import { detachedScope, keep } from "../tensor/scope.ts";
import { sameShape, show } from "../tensor/shape.ts";
import { tensor } from "../tensor/tensor.ts";

/** What of a trainer a checkpoint saves. */
export interface Saved {
  model: Module;
  optimizer: Optimizer<{ lr: number; weightDecay: number }>;
  loader: Loader;
  ema?: EMA | undefined;
  accumulate?: number | undefined;
}

/** Sums over an epoch's steps so far. */
export interface Totals {
  loss: number;
  correct: number;
  images: number;
  rate: number;
  rates: number;
  seconds: number;
  waited: number;
}

export const NOTHING: Totals = { loss: 0, correct: 0, images: 0, rate: 0, rates: 0, seconds: 0, waited: 0 };

/** Where a run stands. */
export interface Standing {
  /** Batches done in all. */
  step: number;
  /** The epoch's batches are done, its test is not. */
  testing: boolean;
  totals: Totals;
}

/** What a file says of itself besides: names of classes, and the like. */
export type Notes = Readonly<Record<string, string>>;

const FORMAT = "spikeloom-checkpoint-2";

/** What a checkpoint holds beside tensors. */
interface CheckpointState extends Standing {
  format: typeof FORMAT;
  optimizer: string;
  updates: number;
  /** Updates of the averaged weights; null without. */
  emaUpdates: number | null;
  loader: LoaderState;
  rng: RngState;
  isa: string;
  device: string;
  /** What else decides the last bits: the kernels' interface and the prices they are chosen by, and implementations that were forced. */
  kernels: number;
  implementations: ImplementationChoice;
  /** Absent in checkpoints of versions that knew only the highest. */
  matmulPrecision?: MatmulPrecision;
}

/** A number that changes with the kernels' interface and with what chooses between them. */
function kernelsHash(): number {
  return crc32(new TextEncoder().encode(JSON.stringify([kernelTableHash(), CHOICE_VERSION, PRICES, TABLES_FROM])));
}

/** Everything a resumed run needs. */
export function writeCheckpoint(
  { model, optimizer, loader, ema, accumulate = 1 }: Saved,
  standing: Standing,
  notes: Notes = {},
): Uint8Array {
  if (ema?.applied) throw new SpikeloomError("checkpoint: not while the averaged weights are being tested; the model's own are away");
  const tensors = new Map<string, NdArray>();
  for (const [key, value] of model.stateDict()) tensors.set(`model.${key}`, value);
  if (ema) for (const [key, value] of ema.stateDict()) tensors.set(`ema.${key}`, value);
  for (const [key, { shape, data }] of optimizer.stateTensors()) tensors.set(`optimizer.${key}`, floats(shape, data));
  if (accumulate > 1)
    optimizer.parameters().forEach(({ grad, shape }, i) => {
      if (grad) tensors.set(`gradient.${i}`, floats(shape, grad.dataSync()));
    });
  const { isa, device, matmulPrecision } = engineInfo();
  const state: CheckpointState = {
    format: FORMAT,
    ...standing,
    optimizer: optimizer.name,
    updates: optimizer.steps,
    emaUpdates: ema ? ema.updates : null,
    loader: loader.state(),
    rng: randomness().state(),
    isa,
    device,
    kernels: kernelsHash(),
    implementations: forcedImplementations(),
    matmulPrecision,
  };
  for (const [name, { data }] of tensors)
    if (!(data instanceof BigInt64Array) && !(data as Float32Array).every(Number.isFinite))
      throw new SpikeloomError(`checkpoint: "${name}" is not finite; it is not saved, so that the last good checkpoint stays`);
  const text = JSON.stringify(state);
  return safetensors.encode(tensors, { ...notes, spikeloom: text, checksum: checksum(tensors, text, notes) });
}

/**
 * Bring model, optimiser, loader and random streams to where the checkpoint has them. `warning`: it was made on another device or
 * instruction set, so that results will agree within rounding only.
 * @throws FormatError for bytes that are no checkpoint; SpikeloomError when it is of another model, optimiser, seed or other data. Nothing
 * is changed then.
 */
export function readCheckpoint(
  { model, optimizer, loader, ema }: Saved,
  bytes: Uint8Array,
  name: string,
): { standing: Standing; warning: string | undefined } {
  const { tensors, metadata } = safetensors.decode(bytes, name);
  const state = readState(tensors, metadata, name);
  const here = engineInfo();
  if (state.optimizer !== optimizer.name)
    throw new SpikeloomError(
      `${name}: the run was made with the optimiser ${state.optimizer}, this one has ${optimizer.name}. Resume with the run's own recipe`,
    );
  if (state.rng.seed !== here.seed)
    throw new SpikeloomError(
      `${name}: the run was made with seed ${state.rng.seed}, this one has ${here.seed}. Resume with the run's own seed`,
    );
  if ((state.emaUpdates === null) !== (ema === undefined))
    throw new SpikeloomError(
      `${name}: the run was made ${ema ? "without" : "with"} averaged weights, this one has ${ema ? "them" : "none"} (train.ema). Resume with the run's own recipe`,
    );
  const part = (prefix: string) =>
    new Map([...tensors].filter(([key]) => key.startsWith(prefix)).map(([key, value]) => [key.slice(prefix.length), value] as const));
  const gradients = part("gradient.");
  for (const [index, a] of gradients) {
    const p = optimizer.parameters()[Number(index)];
    if (!p || !sameShape(p.shape, a.shape))
      throw new FormatError(`${name}: the gradient ${index} of shape ${show(a.shape)} fits no parameter of this model`);
  }
  const before = { loader: loader.state(), model: model.stateDict(), ema: ema?.stateDict(), updates: ema?.updates };
  try {
    loader.restore(state.loader);
  } catch (error) {
    // It may well be this run's: only its data changed.
    throw error instanceof SpikeloomError ? new SpikeloomError(`${name}: ${error.message}`, { cause: error }) : error;
  }
  try {
    model.loadStateDict(part("model.") as State);
    ema?.loadStateDict(part("ema.") as State, state.emaUpdates ?? 0);
    optimizer.loadState(new Map([...part("optimizer.")].map(([key, a]) => [key, { shape: a.shape, data: toFloat64(a) }])), state.updates);
  } catch (error) {
    loader.restore(before.loader);
    model.loadStateDict(before.model);
    if (before.ema) ema?.loadStateDict(before.ema, before.updates ?? 0);
    throw error instanceof SpikeloomError ? new SpikeloomError(`${name} is of another run: ${error.message}`, { cause: error }) : error;
  }
  const parameters = optimizer.parameters();
  optimizer.zeroGrad();
  for (const [index, a] of gradients) {
    const p = parameters[Number(index)];
    if (p) p.grad = detachedScope(() => keep(tensor(toFloat64(a), a.shape, "f32")));
  }
  randomness().restore(state.rng);
  const { step, testing, totals } = state;
  return { standing: { step, testing, totals: { ...totals } }, warning: differences(state) };
}

/** In what the machine or the build is another than the one that the run was made on. */
function differences(state: CheckpointState): string | undefined {
  const here = engineInfo();
  if (here.isa !== state.isa)
    return `the run was made on ${state.device} (${state.isa}), this is ${here.device} (${here.isa}): it goes on, but not bit for bit`;
  if (state.kernels !== kernelsHash() || JSON.stringify(state.implementations) !== JSON.stringify(forcedImplementations()))
    return "the run was made with another version of the kernels, or with other implementations forced: it goes on, but not bit for bit";
  const precision = state.matmulPrecision ?? "highest";
  if (precision !== here.matmulPrecision)
    return `the run was made with matmulPrecision ${precision}, this has ${here.matmulPrecision}: it goes on, but where the machine has matrix units not bit for bit`;
  return undefined;
}

type State = Parameters<Module["loadStateDict"]>[0];

function floats(shape: readonly number[], data: TypedArray): NdArray {
  return { dtype: data instanceof Float64Array ? "f64" : "f32", shape, data: data as Float32Array };
}

/** A checkpoint's state, once it is sure that the header is as it was written. */
function readState(tensors: ReadonlyMap<string, NdArray>, metadata: Readonly<Record<string, string>>, name: string): CheckpointState {
  const text = metadata.spikeloom;
  if (text === undefined)
    throw new FormatError(
      `${name}: no training checkpoint (its metadata has no "spikeloom" entry); weights alone can be evaluated but not resumed`,
    );
  const { spikeloom: _, checksum: __, ...notes } = metadata;
  const expected = checksum(tensors, text, notes);
  if (metadata.checksum !== expected)
    throw new FormatError(
      `${name}: expected the checksum ${expected}, found ${metadata.checksum ?? "none"}. The file is damaged: go on from another checkpoint`,
    );
  let state: CheckpointState | null = null;
  try {
    state = JSON.parse(text) as CheckpointState | null;
  } catch {
    // Said below.
  }
  if (state?.format !== FORMAT) throw new FormatError(`${name}: unknown checkpoint format ${kindOf(state?.format)}, expected "${FORMAT}"`);
  if (!isWhole(state))
    throw new FormatError(
      `${name}: its training state is not one that spikeloom writes. The file is damaged: go on from another checkpoint`,
    );
  return state;
}

/** Is every part there that is read later, and of its kind? So that nothing fails half-way. */
function isWhole({ step, testing, updates, emaUpdates, totals, loader, rng }: CheckpointState): boolean {
  const counts = [step, updates, emaUpdates ?? 0, ...Object.values(rng?.streams ?? [null]).flatMap((s) => [s?.block, s?.word])];
  return (
    counts.every((n) => Number.isSafeInteger(n) && (n as number) >= 0) &&
    Object.values(rng.streams).every((s) => s.word <= 4) &&
    typeof testing === "boolean" &&
    Object.keys(NOTHING).every((key) => Number.isFinite(totals?.[key as keyof Totals])) &&
    typeof loader === "object" &&
    loader !== null
  );
}

/** CRC-32 of all that the file says: a flipped bit in a name, a number or a weight would be believed. */
function checksum(tensors: ReadonlyMap<string, NdArray>, state: string, notes: Notes): string {
  const values = ({ data }: NdArray) => crc32(new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength));
  const list = [...tensors].map(([key, a]) => `${key} ${a.dtype} ${a.shape.join()} ${values(a)}`).sort();
  list.push(
    ...Object.entries(notes)
      .map((note) => JSON.stringify(note))
      .sort(),
  );
  return crc32(new TextEncoder().encode([...list, state].join("\n")))
    .toString(16)
    .padStart(8, "0");
}
