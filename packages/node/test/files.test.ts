import { mkdir, mkdtemp, open, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SpikeloomError } from "spikeloom";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { createWhole, diskError, makeFolder, readFileChecked, removeStale, writeFileAtomic } from "../src/files.ts";

// What the next file opened for writing, or the next folder opened for its flush, is to fail with.
const failure = vi.hoisted(() => ({ step: "" as "" | "open" | "write" | "sync" | "folder", code: "" }));

vi.mock("node:fs/promises", async (original) => {
  const fs = await original<typeof import("node:fs/promises")>();
  const fail = () => Promise.reject(Object.assign(new Error(`${failure.code}: injected`), { code: failure.code }));
  return {
    ...fs,
    open: async (path: string, flags: string) => {
      if (failure.step === "open" && flags === "wx") return fail();
      const handle = await fs.open(path, flags);
      if (failure.step === "write" && flags === "wx") {
        handle.writeFile = async () => {
          await handle.write("half of");
          return fail();
        };
      }
      if ((failure.step === "sync" && flags === "wx") || (failure.step === "folder" && flags === "r")) handle.sync = fail;
      return handle;
    },
  };
});

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "spikeloom-"));
});
afterEach(async () => {
  failure.step = "";
  await rm(dir, { recursive: true });
});

describe("writeFileAtomic", () => {
  test("writes bytes and text, over an old file too, and leaves nothing else behind", async () => {
    const path = join(dir, "a.bin");
    await writeFileAtomic(path, "first, and longer");
    await writeFileAtomic(path, Uint8Array.of(1, 2, 255));
    expect([...(await readFile(path))]).toEqual([1, 2, 255]);
    expect(await readdir(dir)).toEqual(["a.bin"]);
  });

  test("writes of the same file at the same time leave one of them whole", async () => {
    const path = join(dir, "a.bin");
    await Promise.all(Array.from({ length: 8 }, (_, i) => writeFileAtomic(path, new Uint8Array(50_000).fill(i))));
    const bytes = await readFile(path);
    expect(bytes.length).toBe(50_000);
    expect(new Set(bytes).size).toBe(1);
    expect(await readdir(dir)).toEqual(["a.bin"]);
  });

  test.each([
    ["open", "EROFS", "the file system is read-only. Choose a folder that can be written."],
    ["open", "EACCES", "permission denied. Change the permissions"],
    ["write", "ENOSPC", "the disk is full. Free some space or choose a folder on another disk; what was there before is untouched."],
    ["sync", "EIO", "EIO: injected"],
  ] as const)("a failure to %s (%s) keeps the old file and removes the temporary one", async (step, code, reason) => {
    const path = join(dir, "a.bin");
    await writeFileAtomic(path, "old");
    Object.assign(failure, { step, code });
    const run = writeFileAtomic(path, "new");
    await expect(run).rejects.toThrow(SpikeloomError);
    await expect(run).rejects.toThrow(`cannot write ${path}: ${reason}`);
    expect(await readFile(path, "utf8")).toBe("old");
    expect(await readdir(dir)).toEqual(["a.bin"]);
  });

  test("a file system that cannot flush folders is no failure, a disk that fails there is one", async () => {
    const path = join(dir, "a.bin");
    Object.assign(failure, { step: "folder", code: "EINVAL" });
    await writeFileAtomic(path, "new");
    expect(await readFile(path, "utf8")).toBe("new");
    failure.code = "EIO";
    await expect(writeFileAtomic(path, "newer")).rejects.toThrow(SpikeloomError);
  });

  test("paths that cannot be written say why", async () => {
    await writeFile(join(dir, "file"), "");
    await mkdir(join(dir, "folder"));
    const wrong: [string, string][] = [
      ["none/a.bin", "there is no such file or folder. Check the path, or create the folder first. (ENOENT)"],
      ["file/a.bin", "a part of the path is a file, not a folder. Check the path. (ENOTDIR)"],
      ["folder", "it is a folder, not a file. Name a file in it. (EISDIR)"],
      ["x".repeat(300), "the name is too long. Choose a shorter one. (ENAMETOOLONG)"],
    ];
    for (const [path, message] of wrong) await expect(writeFileAtomic(join(dir, path), "x")).rejects.toThrow(message);
    expect((await readdir(dir)).sort()).toEqual(["file", "folder"]);
  });
});

test("makeFolder makes what is missing, and says what fails", async () => {
  makeFolder(join(dir, "a/b/c"));
  makeFolder(join(dir, "a/b/c/"));
  expect(await readdir(join(dir, "a/b"))).toEqual(["c"]);
  await writeFile(join(dir, "file"), "");
  expect(() => makeFolder(join(dir, "file"))).toThrow("EEXIST");
  expect(() => makeFolder(join(dir, "file/a/b"))).toThrow("ENOTDIR");
  expect(() => makeFolder("")).toThrow("ENOENT");
});

test("createWhole makes a file once, and leaves nothing else", async () => {
  const path = join(dir, "a.lock");
  expect([createWhole(path, "first"), createWhole(path, "second")]).toEqual([true, false]);
  expect(await readFile(path, "utf8")).toBe("first");
  expect(await readdir(dir)).toEqual(["a.lock"]);
});

test("removeStale puts back what was made anew in the meantime", async () => {
  const path = join(dir, "a.lock");
  removeStale(path, () => true);
  await writeFile(path, "living");
  removeStale(path, () => false);
  expect(await readFile(path, "utf8")).toBe("living");
  removeStale(path, () => true);
  expect(await readdir(dir)).toEqual([]);
});

describe("readFileChecked", () => {
  test("gives the bytes as a plain Uint8Array, whose slice copies", async () => {
    await writeFile(join(dir, "a"), "abc");
    const bytes = await readFileChecked(join(dir, "a"), "weights");
    expect(bytes).toEqual(Uint8Array.of(97, 98, 99));
    expect(Buffer.isBuffer(bytes)).toBe(false);
  });

  test("a file that cannot be read says what and why", async () => {
    await symlink("loop", join(dir, "loop"));
    await expect(readFileChecked(join(dir, "none"), "weights")).rejects.toThrow(
      `cannot read weights ${join(dir, "none")}: there is no such file or folder. Check the path, or create the folder first. (ENOENT)`,
    );
    await expect(readFileChecked(dir, "weights")).rejects.toThrow("it is a folder, not a file");
    await expect(readFileChecked(join(dir, "loop"), "weights")).rejects.toThrow("(ELOOP)");
  });
});

test("diskError leaves errors that are not the disk's alone, and keeps the cause", async () => {
  const bug = new TypeError("x is not a function");
  expect(diskError(bug, "cannot write")).toBe(bug);
  const cause = await open(join(dir, "none"), "r").catch((error: unknown) => error);
  expect(diskError(cause, "cannot read")).toMatchObject({ name: "SpikeloomError", cause });
});
