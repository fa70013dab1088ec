/** A run's folder belongs to one process at a time; a lock whose process is gone does not count. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SpikeloomError } from "spikeloom";
import { afterAll, beforeAll, expect, it } from "vitest";
import { RunFolder } from "../src/run-folder.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "spikeloom-run-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it("is refused to a second process while the first lives, and free afterwards", () => {
  const path = join(folder, "a");
  const first = new RunFolder(path);
  expect(first.owner()).toBeUndefined();
  first.lock();
  expect(first.owner()).toBe(process.pid);
  expect(() => new RunFolder(path).lock()).toThrow(SpikeloomError);
  expect(() => new RunFolder(path).lock()).toThrow(`in use: process ${process.pid}`);
  first.unlock();
  // Nothing was trained: nothing is left.
  expect(existsSync(path)).toBe(false);
  new RunFolder(path).lock();
});

it("is taken over from a process that is gone, or a lock that was cut off", () => {
  const path = join(folder, "b");
  new RunFolder(path).lock();
  const gone = spawnSync(process.execPath, ["-e", ""]).pid;
  // The last: a process that has the number now, but did not start when the lock's owner did.
  for (const owner of [String(gone), "", ...(existsSync("/proc/self/stat") ? [`${process.pid} 1`] : [])]) {
    writeFileSync(join(path, "run.lock"), owner);
    expect(() => new RunFolder(path).lock()).not.toThrow();
  }
});

it("of another machine or container is not taken over: nobody here can tell whether its process lives", () => {
  const path = join(folder, "c");
  new RunFolder(path).lock();
  const lock = join(path, "run.lock");
  const [pid, start, host, boot, space] = readFileSync(lock, "utf8").split(" ");
  writeFileSync(lock, [1, start, "another-machine", boot, space].join(" "));
  expect(() => new RunFolder(path).lock()).toThrow(
    /in use: process 1 on another-machine trains in it\. .*if it is gone, remove .*run\.lock/,
  );
  writeFileSync(lock, [999_999_999, start, host, boot, "pid:[1]"].join(" "));
  expect(() => new RunFolder(path).lock()).toThrow("on another container");
  // This machine before it was started anew.
  writeFileSync(lock, [pid, start, host, "another-boot", space].join(" "));
  expect(() => new RunFolder(path).lock()).not.toThrow();
});
