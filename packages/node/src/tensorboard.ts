/**
 * Event files that TensorBoard reads: records (length and contents, each with its CRC-32C) that hold an Event in protocol-buffer
 * encoding. What TensorBoard asks for is little, so both are written here by hand; field numbers are those of tensorboard's own
 * event.proto, summary.proto, tensor.proto and plugins/hparams/*.proto.
 */
import { closeSync, fsyncSync, ftruncateSync, openSync, readdirSync, writeSync } from "node:fs";
import { hostname } from "node:os";
import { join } from "node:path";
import type { train } from "spikeloom";
import { diskError, makeFolder } from "./files.ts";

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0x82f63b78 : n >>> 1;
  return n;
});

/** CRC-32C (Castagnoli). */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ (CRC_TABLE[(crc ^ byte) & 255] as number);
  return (crc ^ 0xffffffff) >>> 0;
}

/** As records store it: a checksum of bytes that hold checksums is weak otherwise. */
function masked(bytes: Uint8Array): Buffer {
  const crc = crc32c(bytes);
  const out = Buffer.alloc(4);
  out.writeUInt32LE((((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0);
  return out;
}

function record(data: Buffer): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(data.length));
  return Buffer.concat([length, masked(length), data, masked(data)]);
}

// Fields of a message: a key (number and wire type), then the value.

function varint(value: number): Buffer {
  const out: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) out.push((value % 128) + 128);
  return Buffer.from([...out, value]);
}

function int(field: number, value: number): Buffer {
  return Buffer.concat([varint(field * 8), varint(value)]);
}

function double(field: number, value: number): Buffer {
  const out = Buffer.alloc(9);
  out[0] = field * 8 + 1;
  out.writeDoubleLE(value, 1);
  return out;
}

function float(field: number, value: number): Buffer {
  const out = Buffer.alloc(5);
  out[0] = field * 8 + 5;
  out.writeFloatLE(value, 1);
  return out;
}

function bytes(field: number, ...value: (Uint8Array | string)[]): Buffer {
  const data = Buffer.concat(value.map((v) => (typeof v === "string" ? Buffer.from(v) : v)));
  return Buffer.concat([varint(field * 8 + 2), varint(data.length), data]);
}

function doubles(field: number, values: readonly number[]): Buffer {
  return bytes(field, Buffer.from(Float64Array.from(values).buffer));
}

const SESSION_START = 1;
const DATA_CLASS_TENSOR = 2;
const DT_STRING = 7;
const HISTOGRAM_BUCKETS = 30;
const BUFFER_BYTES = 64 << 10;
const FLUSH_MS = 5000;

export interface EventWriterOptions {
  /** The first step that will be written (default 0): where the folder has events already, TensorBoard drops those from it on. */
  from?: number | undefined;
}

/** A setting of a run, for TensorBoard's table of hyper-parameters. */
export type HParam = string | number | boolean;

/**
 * Writes one event file into `folder`, which may hold files of the same run before it was resumed.
 *
 * Events are gathered and written every few seconds; `flush` before a checkpoint, so that a resumed run has no gap. Everything
 * throws a SpikeloomError when the disk refuses: the file then ends with the last whole record, and what was gathered is kept for
 * the next `flush`.
 */
export class EventWriter {
  readonly path: string;
  private readonly file: number;
  private pending: Buffer[] = [];
  private pendingBytes = 0;
  private written = 0;
  private flushed = performance.now();

  constructor(folder: string, { from = 0 }: EventWriterOptions = {}) {
    let seconds: number[];
    try {
      makeFolder(folder);
      // TensorBoard reads the files in the order of their names: a resumed run's must be the last.
      seconds = readdirSync(folder).flatMap(
        (name) =>
          /^events\.out\.tfevents\.(\d+)\./
            .exec(name)
            ?.slice(1)
            .map((s) => Number(s) + 1) ?? [],
      );
      const now = Math.max(Math.floor(Date.now() / 1000), ...seconds);
      this.path = join(folder, `events.out.tfevents.${String(now).padStart(10, "0")}.${hostname()}.${process.pid}`);
      this.file = openSync(this.path, "wx");
    } catch (error) {
      throw diskError(error, `cannot write TensorBoard's events in ${folder}`);
    }
    this.event(0, bytes(3, "brain.Event:2"));
    if (seconds.length) this.event(from, bytes(7, int(1, SESSION_START)));
    this.flush();
  }

  /** One number. @param wallTime seconds since 1970; now where not given */
  scalar(tag: string, value: number, step: number, wallTime?: number): void {
    this.scalars({ [tag]: value }, step, wallTime);
  }

  /** Numbers of one step. */
  scalars(values: Readonly<Record<string, number>>, step: number, wallTime?: number): void {
    const all = Object.entries(values).map(([tag, value]) => bytes(1, bytes(1, tag), float(2, value)));
    if (all.length) this.event(step, bytes(5, ...all), wallTime);
  }

  /** Text in Markdown. */
  text(tag: string, markdown: string, step: number): void {
    const tensor = bytes(8, int(1, DT_STRING), bytes(2, bytes(2, int(1, 1))), bytes(8, markdown));
    this.value(step, bytes(1, `${tag}/text_summary`), bytes(9, bytes(1, bytes(1, "text")), int(4, DATA_CLASS_TENSOR)), tensor);
  }

  /** The settings of the run, and the tags by which runs are compared. */
  hparams(settings: Readonly<Record<string, HParam>>, metrics: readonly string[]): void {
    const type = (v: HParam) => (typeof v === "string" ? 1 : typeof v === "boolean" ? 2 : 3);
    const protoValue = (v: HParam) => (typeof v === "string" ? bytes(3, v) : typeof v === "boolean" ? int(4, Number(v)) : double(2, v));
    const put = (tag: string, field: number, ...content: Buffer[]) =>
      this.value(0, bytes(1, tag), bytes(9, bytes(1, bytes(1, "hparams"), bytes(2, bytes(field, ...content)))));
    const entries = Object.entries(settings);
    put(
      "_hparams_/experiment",
      2,
      ...entries.map(([name, v]) => bytes(4, bytes(1, name), int(4, type(v)))),
      ...metrics.map((tag) => bytes(5, bytes(1, bytes(2, tag)))),
    );
    put("_hparams_/session_start_info", 3, ...entries.map(([name, v]) => bytes(1, bytes(1, name), bytes(2, protoValue(v)))));
  }

  /** How values are spread; those that are not finite are left out. */
  histogram(tag: string, values: ArrayLike<number>, step: number): void {
    const finite = Float64Array.from(values).filter(Number.isFinite);
    if (!finite.length) return;
    let [min, max, sum, squares] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, 0];
    for (const v of finite) {
      min = Math.min(min, v);
      max = Math.max(max, v);
      sum += v;
      squares += v * v;
    }
    const counts = new Array<number>(HISTOGRAM_BUCKETS).fill(0);
    const width = (max - min) / HISTOGRAM_BUCKETS;
    for (const v of finite) {
      const bucket = width > 0 ? Math.min(HISTOGRAM_BUCKETS - 1, Math.floor((v - min) / width)) : 0;
      counts[bucket] = (counts[bucket] as number) + 1;
    }
    const limits = counts.map((_, i) => (i === HISTOGRAM_BUCKETS - 1 ? max : min + (i + 1) * width));
    const summary = [min, max, finite.length, sum, squares].map((v, i) => double(i + 1, v));
    this.value(step, bytes(1, tag), bytes(5, ...summary, doubles(6, limits), doubles(7, counts)));
  }

  /** Write what was gathered. */
  flush(): void {
    if (this.pendingBytes) {
      const data = Buffer.concat(this.pending);
      try {
        for (let at = 0; at < data.length; ) at += writeSync(this.file, data, at, data.length - at, this.written + at);
      } catch (error) {
        try {
          ftruncateSync(this.file, this.written);
        } catch {
          // TensorBoard leaves out a record that is cut off.
        }
        throw diskError(error, `cannot write ${this.path}`);
      }
      this.written += data.length;
      this.pending = [];
      this.pendingBytes = 0;
    }
    this.flushed = performance.now();
  }

  /** Write what was gathered, to the disk itself, and close the file. */
  close(): void {
    try {
      this.flush();
      fsyncSync(this.file);
    } finally {
      closeSync(this.file);
    }
  }

  private value(step: number, ...fields: Buffer[]): void {
    this.event(step, bytes(5, bytes(1, ...fields)));
  }

  private event(step: number, what: Buffer, wallTime = Date.now() / 1000): void {
    const whole = record(Buffer.concat([double(1, wallTime), int(2, step), what]));
    this.pending.push(whole);
    this.pendingBytes += whole.length;
    if (this.pendingBytes > BUFFER_BYTES || performance.now() - this.flushed > FLUSH_MS) this.flush();
  }
}

/** A training's event under the tags by which runs are compared. Steps are counted from 1, over all epochs. */
export function logEvents(writer: EventWriter, event: train.TrainEvent): void {
  const values: Record<string, number | undefined> =
    event.type === "step"
      ? {
          "loss/train": event.loss,
          "accuracy/train": event.accuracy,
          lr: event.lr,
          gradient_norm: event.gradNorm,
          "firing_rate/mean": event.firingRate,
          "time/step_seconds": event.seconds,
          "time/wait_seconds": event.waitSeconds,
        }
      : {
          "loss/train_epoch": event.loss,
          "accuracy/train_epoch": event.accuracy,
          "loss/test": event.test?.loss,
          "accuracy/test": event.test?.accuracy,
          "accuracy_top5/test": event.test?.top5,
          "time/epoch_seconds": event.seconds,
          epoch: event.epoch + 1,
        };
  const known = Object.entries(values).filter((entry): entry is [string, number] => Number.isFinite(entry[1]));
  writer.scalars(Object.fromEntries(known), event.step);
}
