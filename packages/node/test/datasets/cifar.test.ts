// CIFAR's folders and archives, and tar archives of any kind.
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { FormatError, SpikeloomError } from "spikeloom";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { cifar10, cifar100 } from "../../src/datasets/cifar.ts";
import { readTar } from "../../src/datasets/unpack.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "spikeloom-"));
});
afterEach(async () => {
  await rm(dir, { recursive: true });
});

/** A record whose pixels all have the value of its last label. */
const record = (...labels: number[]) => Uint8Array.from([...labels, ...new Array<number>(3072).fill(labels.at(-1) as number)]);

async function writeCifar10(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (let n = 1; n <= 5; n++) await writeFile(join(folder, `data_batch_${n}.bin`), record(n));
  await writeFile(join(folder, "test_batch.bin"), record(9));
}

const labelsOf = async (set: { length: number; get(i: number): unknown }) =>
  Promise.all(Array.from({ length: set.length }, async (_, i) => ((await set.get(i)) as { label: number }).label));

describe("CIFAR-10", () => {
  test.each(["the folder itself", "its parent"])("%s", async (which) => {
    const folder = join(dir, "cifar-10-batches-bin");
    await writeCifar10(folder);
    const { train, test: held } = await cifar10.load({ dir: which === "its parent" ? dir : folder });
    expect([await labelsOf(train), await labelsOf(held), train.classNames?.[9]]).toEqual([[1, 2, 3, 4, 5], [9], "truck"]);
  });

  test("its archive", async () => {
    await writeCifar10(join(dir, "cifar-10-batches-bin"));
    execFileSync("tar", ["-czf", "cifar-10-binary.tar.gz", "cifar-10-batches-bin"], { cwd: dir });
    await rm(join(dir, "cifar-10-batches-bin"), { recursive: true });
    const { train, test: held } = await cifar10.load({ dir });
    expect([await labelsOf(train), await labelsOf(held)]).toEqual([[1, 2, 3, 4, 5], [9]]);
  });

  test("what is missing or damaged", async () => {
    await expect(cifar10.load({})).rejects.toThrow(/CIFAR-10: no folder given\. Download cifar-10-binary\.tar\.gz/);
    await mkdir(join(dir, "cifar-10-batches-py"));
    await expect(cifar10.load({ dir })).rejects.toThrow(SpikeloomError);
    await expect(cifar10.load({ dir })).rejects.toThrow("cifar-10-batches-py, which is the Python version");
    await writeCifar10(dir);
    await writeFile(join(dir, "data_batch_3.bin"), record(3).subarray(0, 3000));
    await expect(cifar10.load({ dir })).rejects.toThrow(FormatError);
    await expect(cifar10.load({ dir })).rejects.toThrow(
      `${join(dir, "data_batch_3.bin")}: expected whole records of 3073 bytes, as cifar10 has, found 3000 bytes in all.`,
    );
    await rm(join(dir, "data_batch_3.bin"));
    await expect(cifar10.load({ dir })).rejects.toThrow("there is no such file");
    await rm(join(dir, "test_batch.bin"));
    await writeFile(join(dir, "cifar-10-binary.tar.gz"), gzipSync(new Uint8Array(1024)));
    await expect(cifar10.load({ dir })).rejects.toThrow(/CIFAR-10: no data_batch_1\.bin in .*cifar-10-binary\.tar\.gz/);
  });
});

test("CIFAR-100: fine labels", async () => {
  await writeFile(join(dir, "train.bin"), Uint8Array.from([...record(4, 30), ...record(0, 99)]));
  await writeFile(join(dir, "test.bin"), record(1, 0));
  const { train, test: held } = await cifar100.load({ dir });
  expect([await labelsOf(train), await labelsOf(held), train.classes]).toEqual([[30, 99], [0], 100]);
  expect([cifar100.classes.length, new Set(cifar100.classes).size, train.classNames?.[30]]).toEqual([100, 100, "dolphin"]);
  // The published numbering is that of the names' order.
  expect([...cifar100.classes].sort()).toEqual(cifar100.classes);
});

describe("readTar", () => {
  test("files of any length, with and without folders", async () => {
    const contents: Record<string, Uint8Array> = {
      "a.bin": Uint8Array.of(1, 2, 3),
      "b.bin": new Uint8Array(512).fill(7),
      empty: new Uint8Array(0),
    };
    await mkdir(join(dir, "in"));
    for (const [name, bytes] of Object.entries(contents)) await writeFile(join(dir, "in", name), bytes);
    const archive = new Uint8Array(execFileSync("tar", ["-cf", "-", "in"], { cwd: dir }));
    const files = readTar(archive, "x.tar");
    expect(Object.fromEntries([...files].map(([name, bytes]) => [name, [...bytes]]))).toEqual(
      Object.fromEntries(Object.entries(contents).map(([name, bytes]) => [name, [...bytes]])),
    );
    expect(() => readTar(archive.subarray(0, 1024), "x.tar")).toThrow(FormatError);
    fc.assert(
      fc.property(fc.nat(archive.length - 1), fc.nat(255), fc.nat(archive.length), (at, value, length) => {
        const bytes = archive.slice(0, length);
        bytes[at] = value;
        try {
          for (const file of readTar(bytes, "x.tar").values()) expect(file.length).toBeLessThanOrEqual(bytes.length);
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
      { numRuns: 300 },
    );
    expect(() => readTar(new TextEncoder().encode("hello"), "x.tar")).toThrow(
      "x.tar, byte 0: expected the header of a file in a tar archive",
    );
  });
});
