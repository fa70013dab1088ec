import { deflateRawSync, crc32 as zlibCrc32 } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { NdArray } from "../../src/formats/array.ts";
import { decode, encode } from "../../src/formats/npz.ts";
import { crc32, readZip, writeZip } from "../../src/formats/zip.ts";
import { FormatError } from "../../src/runtime/error.ts";
import { arrays, bits } from "./arbitrary.ts";

interface Spec {
  path?: string;
  data?: Uint8Array;
  deflate?: boolean;
  /** As numpy writes: 0xffffffff in the local header, the sizes in a zip64 field. */
  zip64Local?: boolean;
  /** The same in the directory. */
  zip64Central?: boolean;
  /** Zeros in the local header and a data descriptor after the data. */
  streamed?: boolean;
  flags?: number;
  method?: number;
  crc?: number;
  size?: number;
  packedSize?: number;
  localPath?: string;
  offset?: number;
}

/** An archive byte by byte, with whatever lies the test wants told. */
function archive(specs: Spec[], end: { count?: number; begin?: number; comment?: string; zip64?: boolean } = {}): Uint8Array {
  const out: number[] = [];
  const u16 = (v: number) => [v & 255, (v >>> 8) & 255];
  const u32 = (v: number) => [...u16(v & 0xffff), ...u16(v >>> 16)];
  const u64 = (v: number) => [...u32(v % 2 ** 32), ...u32(Math.floor(v / 2 ** 32))];
  const text = (t: string) => [...new TextEncoder().encode(t)];
  const directory: number[] = [];
  for (const spec of specs) {
    const data = spec.data ?? Uint8Array.of(1, 2, 3);
    const packed = spec.deflate ? deflateRawSync(data) : data;
    const path = text(spec.path ?? "a.npy");
    const localPath = text(spec.localPath ?? spec.path ?? "a.npy");
    const crc = spec.crc ?? zlibCrc32(data);
    const size = spec.size ?? data.length;
    const packedSize = spec.packedSize ?? packed.length;
    const method = spec.method ?? (spec.deflate ? 8 : 0);
    const flags = (spec.flags ?? 0) | (spec.streamed ? 8 : 0);
    const offset = spec.offset ?? out.length;
    const head = [...u16(flags), ...u16(method), ...u32(0)];
    const local = spec.streamed ? [0, 0, 0] : spec.zip64Local ? [crc, 0xffffffff, 0xffffffff] : [crc, packedSize, size];
    const localExtra = spec.zip64Local ? [...u16(1), ...u16(16), ...u64(size), ...u64(packedSize)] : [];
    out.push(...u32(0x04034b50), ...u16(20), ...head, ...local.flatMap(u32), ...u16(localPath.length), ...u16(localExtra.length));
    out.push(...localPath, ...localExtra, ...packed);
    if (spec.streamed) out.push(...u32(0x08074b50), ...u32(crc), ...u32(packedSize), ...u32(size));
    // A field that is not zip64's comes first, to be skipped.
    const extra = spec.zip64Central
      ? [...u16(7), ...u16(1), 0, ...u16(1), ...u16(24), ...u64(size), ...u64(packedSize), ...u64(offset)]
      : [];
    const wide = (v: number) => (spec.zip64Central ? 0xffffffff : v);
    directory.push(...u32(0x02014b50), ...u16(20), ...u16(20), ...head, ...u32(crc), ...u32(wide(packedSize)), ...u32(wide(size)));
    directory.push(
      ...u16(path.length),
      ...u16(extra.length),
      ...u16(0),
      ...u16(0),
      ...u16(0),
      ...u32(0),
      ...u32(wide(offset)),
      ...path,
      ...extra,
    );
  }
  const begin = end.begin ?? out.length;
  const count = end.count ?? specs.length;
  out.push(...directory);
  if (end.zip64) {
    const record = out.length;
    out.push(...u32(0x06064b50), ...u64(44), ...u16(45), ...u16(45), ...u32(0), ...u32(0), ...u64(count), ...u64(count));
    out.push(...u64(directory.length), ...u64(begin), ...u32(0x07064b50), ...u32(0), ...u64(record), ...u32(1));
  }
  const comment = text(end.comment ?? "");
  const wide = (v: number, all: number) => (end.zip64 ? all : v);
  out.push(...u32(0x06054b50), ...u32(0), ...u16(wide(count, 0xffff)), ...u16(wide(count, 0xffff)));
  out.push(...u32(wide(directory.length, 0xffffffff)), ...u32(wide(begin, 0xffffffff)), ...u16(comment.length), ...comment);
  return Uint8Array.from(out);
}

const ramp = Uint8Array.from({ length: 70_000 }, (_, i) => (i * i) >> 8);

test("any arrays come back as they were, in their order, from the same bytes each time", async () => {
  const name = fc.stringMatching(/^[\w./ é-]{0,12}$/);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(name, arrays), { maxLength: 5 }), async (entries) => {
      const tensors = new Map(entries);
      const bytes = await encode(tensors);
      expect(await encode(tensors)).toEqual(bytes);
      const back = await decode(bytes);
      expect([...back.keys()]).toEqual([...tensors.keys()]);
      for (const [key, array] of tensors) expect(bits(back.get(key) as NdArray)).toEqual(bits(array));
    }),
    { numRuns: 100 },
  );
});

test("crc32 agrees with zlib's", () => {
  for (const bytes of [new Uint8Array(0), Uint8Array.of(0), ramp]) expect(crc32(bytes)).toBe(zlibCrc32(bytes));
});

describe("archives written by hand", () => {
  test.each<[string, Spec[], Parameters<typeof archive>[1]]>([
    ["stored", [{ data: ramp }], {}],
    ["deflated", [{ data: ramp, deflate: true }], {}],
    ["deflated to nothing", [{ data: new Uint8Array(0), deflate: true }], {}],
    ["highly compressible", [{ data: new Uint8Array(1_000_000), deflate: true }], {}],
    ["zip64 in the local header, as numpy writes", [{ data: ramp, zip64Local: true }], {}],
    ["zip64 everywhere", [{ data: ramp, deflate: true, zip64Local: true, zip64Central: true }], { zip64: true }],
    [
      "streamed with a data descriptor",
      [
        { data: ramp, deflate: true, streamed: true },
        { path: "b.npy", data: ramp, streamed: true },
      ],
      {},
    ],
    ["with a comment", [{ data: ramp }], { comment: "made by hand PK\x05\x06" }],
    ["several", [{ data: ramp }, { path: "b.npy" }, { path: "c/d.npy", deflate: true }], {}],
    ["none", [], {}],
  ])("%s", async (_, specs, end) => {
    const files = await readZip(archive(specs, end));
    expect([...files.keys()]).toEqual(specs.map((s) => s.path ?? "a.npy"));
    for (const spec of specs) expect(Buffer.from(files.get(spec.path ?? "a.npy")!).equals(spec.data ?? Uint8Array.of(1, 2, 3))).toBe(true);
  });

  test("directories are left out", async () => {
    expect([...(await readZip(archive([{ path: "d/", data: new Uint8Array(0) }, { path: "d/a" }]))).keys()]).toEqual(["d/a"]);
  });
});

describe("an archive that contradicts the format", () => {
  const cases: [string, Uint8Array, string][] = [
    ["empty", new Uint8Array(0), "expected a zip archive, which ends with a directory, found none"],
    ["wrong CRC", archive([{ crc: 1 }]), "expected a.npy with CRC-32 00000001, found 55bc801d"],
    ["wrong CRC, deflated", archive([{ crc: 1, deflate: true }]), "CRC-32"],
    ["encrypted", archive([{ flags: 1 }]), "unencrypted, found encryption"],
    ["other method", archive([{ method: 12 }]), "stored or deflated, found method 12"],
    ["stored with two sizes", archive([{ size: 4 }]), "stored, of one size, found 3 and 4"],
    ["unpacks to less", archive([{ data: ramp, deflate: true, size: 70_001 }]), "expected 70001 bytes once unpacked, found 70000"],
    ["unpacks to more", archive([{ data: ramp, deflate: true, size: 10 }]), "expected 10 bytes once unpacked, found more"],
    [
      "declares more than deflate can hold",
      archive([{ deflate: true, size: 4_000_000_000 }]),
      "to unpack to at most 1032 times its 5 bytes, found 4000000000 declared",
    ],
    ["not deflate data", archive([{ method: 8, data: Uint8Array.of(7, 7, 7), size: 3 }]), "expected deflated data, found something else"],
    [
      "cut deflate data",
      archive([{ data: ramp, deflate: true, packedSize: 100, size: 5000 }]),
      "expected deflated data, found something else",
    ],
    ["data beyond the directory", archive([{ size: 99, packedSize: 99 }]), "expected 99 bytes of"],
    ["header elsewhere", archive([{ offset: 5 }]), 'expected the header of "a.npy", found something else'],
    ["header beyond the file", archive([{ offset: 0xfffffff0 }]), "expected the header of"],
    ["another path in the local header", archive([{ localPath: "b.npy" }]), "the same path and method"],
    ["path twice", archive([{}, {}]), 'each path once, found "a.npy" twice'],
    ["two entries on one place", archive([{}, { path: "b.npy", localPath: "a.npy", offset: 0 }]), "the same path and method"],
    ["count too large", archive([{}], { count: 2 }), "entry 2 of 2 in the zip directory, found its end"],
    ["count too small", archive([{}], { count: 0 }), "end after 0 entries"],
    ["directory elsewhere", archive([{}], { begin: 3 }), "expected a directory that ends at"],
    ["zip64 without its field", archive([{ size: 0xffffffff, packedSize: 0xffffffff }]), "expected zip64 sizes"],
  ];
  test.each(cases)("%s", async (_, bytes, message) => {
    const run = readZip(bytes, { name: "x.npz" });
    await expect(run).rejects.toThrow(FormatError);
    await expect(run).rejects.toThrow(message);
  });

  test("overlapping entries", async () => {
    // The second entry's header and data lie in the first one's data.
    const inner = archive([{ path: "b.npy" }]).subarray(0, 38);
    const bytes = archive([{ data: inner }, { path: "b.npy", offset: 35 }]);
    await expect(readZip(bytes)).rejects.toThrow('entries that do not overlap, found "b.npy" inside another');
  });

  test("more than maxBytes in all is refused before anything is unpacked", async () => {
    const bytes = archive([
      { data: ramp, deflate: true },
      { path: "b.npy", data: ramp, deflate: true },
    ]);
    await expect(readZip(bytes, { maxBytes: 139_999 })).rejects.toThrow(
      "expected at most 139999 bytes once unpacked, found 140000 declared",
    );
    expect((await readZip(bytes, { maxBytes: 140_000 })).size).toBe(2);
  });

  test("an entry that is no array, or a damaged one, is named", async () => {
    await expect(decode(archive([{ path: "notes.txt" }]), { name: "x.npz" })).rejects.toThrow(
      'x.npz: expected only .npy files in the archive, found "notes.txt".',
    );
    await expect(decode(archive([{ path: "w.npy" }]), { name: "x.npz" })).rejects.toThrow(
      "x.npz, w.npy, byte 0: expected at least 10 bytes, found 3.",
    );
  });
});

test("writeZip refuses what a plain zip cannot hold", () => {
  expect(() => writeZip(new Map(Array.from({ length: 65535 }, (_, i) => [`${i}`, new Uint8Array(0)])))).toThrow("at most 65534 entries");
  expect(() => writeZip(new Map([["x".repeat(70_000), new Uint8Array(0)]]))).toThrow("names of at most 65534 bytes");
});
