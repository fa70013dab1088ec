/** TensorBoard's event files, read back by a small reader of their own: framing, checksums, values, a run that goes on, a full disk. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import { SpikeloomError, type train } from "spikeloom";
import { afterEach, describe, expect, it, vi } from "vitest";
import { crc32c, EventWriter, logEvents } from "../src/tensorboard.ts";
import { folder } from "./support.ts";

const disk = vi.hoisted(() => ({ room: Number.POSITIVE_INFINITY }));
vi.mock("node:fs", async (original) => {
  const fs = await original<typeof import("node:fs")>();
  return {
    ...fs,
    writeSync: (file: number, data: Uint8Array, at: number, length: number, position: number) => {
      const fits = Math.min(length, disk.room - position);
      if (fits <= 0) throw Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
      return fs.writeSync(file, data, at, fits, position);
    },
  };
});
afterEach(() => {
  disk.room = Number.POSITIVE_INFINITY;
});

type Message = Map<number, (bigint | Buffer)[]>;

/** A message's fields by number: varints as bigint, all else as bytes. */
function decode(bytes: Buffer): Message {
  const fields: Message = new Map();
  let at = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes.readUInt8(at++);
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const key = Number(varint());
    const kind = key % 8;
    expect([0, 1, 2, 5]).toContain(kind);
    let value: bigint | Buffer;
    if (kind === 0) value = varint();
    else {
      const length = kind === 1 ? 8 : kind === 5 ? 4 : Number(varint());
      value = bytes.subarray(at, at + length);
      expect(value.length).toBe(length);
      at += length;
    }
    fields.set(Math.floor(key / 8), [...(fields.get(Math.floor(key / 8)) ?? []), value]);
  }
  return fields;
}

const first = (m: Message, field: number) => m.get(field)?.[0] as Buffer;
const message = (m: Message, ...path: number[]): Message => path.reduce((at, field) => decode(first(at, field)), m);

/** A masked CRC-32C, bit by bit. */
function maskedCrc(bytes: Buffer): number {
  let crc = 0xffffffffn;
  for (const byte of bytes) {
    crc ^= BigInt(byte);
    for (let bit = 0; bit < 8; bit++) crc = crc & 1n ? (crc >> 1n) ^ 0x82f63b78n : crc >> 1n;
  }
  crc ^= 0xffffffffn;
  return Number((((crc >> 15n) | (crc << 17n)) + 0xa282ead8n) & 0xffffffffn);
}

/** The events of one file; its records must be whole and right. */
function events(path: string): Message[] {
  const bytes = readFileSync(path);
  const out: Message[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at));
    expect(bytes.readUInt32LE(at + 8)).toBe(maskedCrc(bytes.subarray(at, at + 8)));
    const data = bytes.subarray(at + 12, at + 12 + length);
    expect(bytes.readUInt32LE(at + 12 + length)).toBe(maskedCrc(data));
    out.push(decode(data));
    at += 16 + length;
  }
  return out;
}

/** [tag, step, value] of every scalar. */
function scalars(list: readonly Message[]): [string, number, number][] {
  return list.flatMap((e) =>
    (e.has(5) ? (message(e, 5).get(1) as Buffer[]) : [])
      .map(decode)
      .flatMap((v): [string, number, number][] =>
        v.has(2) ? [[String(first(v, 1)), Number(e.get(2)?.[0]), first(v, 2).readFloatLE()]] : [],
      ),
  );
}

const write = (fn: (w: EventWriter) => void) => {
  const writer = new EventWriter(folder());
  fn(writer);
  writer.close();
  return events(writer.path);
};

it("computes CRC-32C", () => {
  // RFC 3720, appendix B.4, and the check value of the catalogues.
  expect(crc32c(Buffer.from("123456789"))).toBe(0xe3069283);
  expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
  expect(crc32c(new Uint8Array(32).fill(255))).toBe(0x62a8ab43);
  expect(crc32c(Uint8Array.from({ length: 32 }, (_, i) => i))).toBe(0x46dd794e);
});

describe("an event file", () => {
  it("begins with its version, then holds numbers with step and time", () => {
    const [version, ...rest] = write((w) => {
      w.scalar("loss", 0.25, 3, 1234.5);
      w.scalars({ a: 1, "b/ü": -2 }, 2 ** 40 + 1);
    });
    expect(String(first(version as Message, 3))).toBe("brain.Event:2");
    expect(first(rest[0] as Message, 1).readDoubleLE()).toBe(1234.5);
    expect(scalars(rest)).toEqual([
      ["loss", 3, 0.25],
      ["a", 2 ** 40 + 1, 1],
      ["b/ü", 2 ** 40 + 1, -2],
    ]);
  });

  it("gives back any number, step and tag", () => {
    const entry = fc.record({ tag: fc.string({ unit: "binary", minLength: 1 }), value: fc.float(), step: fc.maxSafeNat() });
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 20 }), (list) => {
        const read = scalars(write((w) => list.forEach(({ tag, value, step }) => w.scalar(tag, value, step))));
        expect(read).toEqual(list.map(({ tag, value, step }) => [tag, step, value]));
      }),
      { numRuns: 20 },
    );
  });

  it("holds text, settings and histograms", () => {
    const list = write((w) => {
      w.text("recipe", "# Grüße", 1);
      w.hparams({ lr: 0.5, name: "x", on: true }, ["accuracy/test"]);
      w.histogram("h", [1, 2, 2, 4, Number.NaN], 2);
    }).slice(1);
    const [text, experiment, session, histogram] = list.map((e) => message(e, 5, 1)) as [Message, Message, Message, Message];
    expect(String(first(text, 1))).toBe("recipe/text_summary");
    expect(String(first(message(text, 9, 1), 1))).toBe("text");
    expect(String(first(message(text, 8), 8))).toBe("# Grüße");

    expect(String(first(experiment, 1))).toBe("_hparams_/experiment");
    const asked = message(experiment, 9, 1, 2, 2);
    expect((asked.get(4) as Buffer[]).map(decode).map((m) => [String(first(m, 1)), m.get(4)?.[0]])).toEqual([
      ["lr", 3n],
      ["name", 1n],
      ["on", 2n],
    ]);
    expect(String(first(message(asked, 5, 1), 2))).toBe("accuracy/test");
    const settings = (message(session, 9, 1, 2, 3).get(1) as Buffer[]).map(decode).map((m) => message(m, 2));
    expect(first(settings[0] as Message, 2).readDoubleLE()).toBe(0.5);
    expect(String(first(settings[1] as Message, 3))).toBe("x");
    expect(settings[2]?.get(4)).toEqual([1n]);

    const h = message(histogram, 5);
    expect([1, 2, 3, 4, 5].map((f) => first(h, f).readDoubleLE())).toEqual([1, 4, 4, 9, 25]);
    const list64 = (b: Buffer) => Array.from({ length: b.length / 8 }, (_, i) => b.readDoubleLE(8 * i));
    const [limits, counts] = [list64(first(h, 6)), list64(first(h, 7))];
    expect(limits).toEqual([...limits].sort((a, b) => a - b));
    expect(limits.at(-1)).toBe(4);
    expect(counts.reduce((a, b) => a + b)).toBe(4);
    // The two 2s are in the bucket that has them below its upper limit.
    expect(counts[limits.findIndex((l) => l > 2)]).toBe(2);
  });

  it("of a run that goes on says from where, and comes after the others in name", () => {
    const path = folder();
    for (let n = 0; n < 3; n++) new EventWriter(path, { from: 10 * n }).close();
    const names = readdirSync(path).sort();
    expect(names).toHaveLength(3);
    const starts = names.map((name) => events(join(path, name))[1]);
    expect(starts[0]).toBeUndefined();
    expect(starts.slice(1).map((e) => [e?.get(2)?.[0], message(e as Message, 7).get(1)?.[0]])).toEqual([
      [10n, 1n],
      [20n, 1n],
    ]);
  });
});

it("keeps what it has on a full disk, and writes it when there is room again", () => {
  const writer = new EventWriter(folder());
  writer.scalar("a", 1, 1);
  writer.flush();
  const before = readFileSync(writer.path);
  disk.room = before.length + 10;
  writer.scalar("a", 2, 2);
  expect(() => writer.flush()).toThrow(SpikeloomError);
  expect(() => writer.flush()).toThrow(`cannot write ${writer.path}: the disk is full`);
  expect(readFileSync(writer.path).equals(before)).toBe(true);
  disk.room = Number.POSITIVE_INFINITY;
  writer.close();
  expect(scalars(events(writer.path)).map(([, step]) => step)).toEqual([1, 2]);
});

it("writes a training's events under the tags that are compared", () => {
  const step: train.StepEvent = {
    ...{ type: "step", epoch: 0, batch: 1, batches: 2, step: 1, loss: 0.5, accuracy: 0.25, lr: 0.125 },
    ...{ gradNorm: 2, firingRate: 0.0625, images: 8, seconds: 1, waitSeconds: 0.25 },
  };
  const test = { loss: 0.5, accuracy: 0.75, top5: 1, samples: 4, confusion: [[4]], predictions: new Int32Array(4), seconds: 1 };
  const epoch: train.EpochEvent = {
    ...{ type: "epoch", epoch: 0, epochs: 1, step: 2, loss: 0.25, accuracy: 0.5, firingRate: 0.0625, lr: 0.125 },
    ...{ seconds: 2, waitSeconds: 0.5, test },
  };
  const { firingRate: _, gradNorm: __, ...bare } = step;
  const read = scalars(
    write((w) => {
      for (const event of [step, { ...bare, step: 2 }, epoch]) logEvents(w, event);
    }),
  );
  expect(Object.fromEntries(read.filter(([, s]) => s === 1).map(([tag, , value]) => [tag, value]))).toEqual({
    "loss/train": 0.5,
    "accuracy/train": 0.25,
    lr: 0.125,
    gradient_norm: 2,
    "firing_rate/mean": 0.0625,
    "time/step_seconds": 1,
    "time/wait_seconds": 0.25,
  });
  const second = Object.fromEntries(read.filter(([, s]) => s === 2).map(([tag, , value]) => [tag, value]));
  expect(second).toMatchObject({ "loss/test": 0.5, "accuracy/test": 0.75, "accuracy_top5/test": 1, "loss/train_epoch": 0.25, epoch: 1 });
  expect(Object.keys(second)).not.toContain("firing_rate/mean");
});
