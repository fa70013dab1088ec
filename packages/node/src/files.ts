/**
 * Files on disk, so that a run never loses what it had: writes that are whole or do not happen, and errors that say what
 * the disk refused and what to do about it.
 */
import { linkSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { open, readFile, rename, unlink } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { SpikeloomError } from "spikeloom";

let written = 0;

/** A name beside `path` that no other write has, in this process or another. */
function temporaryOf(path: string): string {
  return join(dirname(path), `.${basename(path)}.${process.pid}.${written++}.tmp`);
}

const TEMPORARY = /^\..+\.(\d+)\.\d+\.tmp$/;

/**
 * Remove the temporary files that killed processes left in a folder: those whose process `isAlive` denies, and those under this
 * process's own number, which another had before it. For who has written nothing there yet.
 */
export function removeLeftovers(folder: string, isAlive: (pid: number) => boolean): void {
  for (const name of readdirSync(folder)) {
    const pid = Number(TEMPORARY.exec(name)?.[1] ?? Number.NaN);
    if (pid === process.pid || (pid && !isAlive(pid))) rmSync(join(folder, name), { force: true });
  }
}

/** Make a folder and those above it where they are not there. Node's own recursive way gives ENOENT for whatever fails. */
export function makeFolder(path: string): void {
  const make = (): string => {
    try {
      mkdirSync(path);
    } catch (error) {
      const { code = "" } = error as NodeJS.ErrnoException;
      if (code === "ENOENT") return code;
      if (code !== "EEXIST" || !statSync(path).isDirectory()) throw error;
    }
    return "";
  };
  const above = dirname(path);
  if (make() !== "ENOENT") return;
  if (above !== path) makeFolder(above);
  // What is above is there now: whatever fails is the reason.
  mkdirSync(path);
}

/**
 * Make a small file that nobody made before, whole at once: who sees it sees all of `text`.
 * @returns false when there is one already
 */
export function createWhole(path: string, text: string): boolean {
  const temporary = temporaryOf(path);
  writeFileSync(temporary, text, { flag: "wx" });
  try {
    linkSync(temporary, path);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST") return false;
    if (!["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"].includes(code ?? "")) throw error;
    // A file system without links: the next best.
    try {
      writeFileSync(path, text, { flag: "wx" });
      return true;
    } catch (second) {
      if ((second as NodeJS.ErrnoException).code === "EEXIST") return false;
      throw second;
    }
  } finally {
    rmSync(temporary, { force: true });
  }
}

/**
 * Remove a file that `isStale` condemns. It is taken aside first and looked at there, so that of several processes that try, none
 * removes what another has made in the meantime.
 */
export function removeStale(path: string, isStale: (path: string) => boolean): void {
  const aside = temporaryOf(path);
  try {
    renameSync(path, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  try {
    // It was made anew between the look at it and the taking: back with it.
    if (!isStale(aside)) linkSync(aside, path);
  } catch (error) {
    // A third process has made its own meanwhile: that one counts.
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    rmSync(aside, { force: true });
  }
}

/**
 * Write a file so that at any moment `path` holds its old content or all of `bytes`, through a crash or a power cut: a
 * temporary file beside it is filled (part by part, where `bytes` come so), flushed to the disk and renamed over it. On failure the temporary file is removed.
 * @throws SpikeloomError when the disk refuses
 */
export async function writeFileAtomic(path: string, bytes: Uint8Array | string | AsyncIterable<Uint8Array>): Promise<void> {
  const folder = dirname(path);
  const temporary = temporaryOf(path);
  let created = false;
  try {
    const file = await open(temporary, "wx");
    created = true;
    try {
      if (typeof bytes === "string" || bytes instanceof Uint8Array) await file.writeFile(bytes);
      else for await (const part of bytes) await file.writeFile(part);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    created = false;
    await syncFolder(folder);
  } catch (error) {
    if (created) await unlink(temporary).catch(() => undefined);
    throw diskError(error, `cannot write ${path}`);
  }
}

// Without this the rename itself may be lost in a power cut. Some systems cannot open or flush a folder; the file is whole there too.
async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (!["EACCES", "EINVAL", "EISDIR", "ENOTSUP", "EPERM"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}

/**
 * All bytes of a file.
 * @param what what the file is to the user ("weights", "recipe"), for messages
 * @throws SpikeloomError when it cannot be read
 */
export async function readFileChecked(path: string, what: string): Promise<Uint8Array> {
  try {
    const buffer = await readFile(path);
    return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
  } catch (error) {
    throw diskError(error, `cannot read ${what} ${path}`);
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full. Free some space or choose a folder on another disk; what was there before is untouched.",
  EDQUOT: "your disk quota is used up. Free some space or choose a folder on another disk; what was there before is untouched.",
  EFBIG:
    "the file would be larger than the file system or a limit (ulimit -f) allows. Choose a folder on another disk, or raise the limit.",
  EROFS: "the file system is read-only. Choose a folder that can be written.",
  EACCES: "permission denied. Change the permissions of the file or its folder, or choose another one.",
  EPERM: "the system does not permit it. Change the permissions of the file or its folder, or choose another one.",
  ENOENT: "there is no such file or folder. Check the path, or create the folder first.",
  EEXIST: "there is a file of that name. Choose another name, or move the file.",
  ENOTDIR: "a part of the path is a file, not a folder. Check the path.",
  EISDIR: "it is a folder, not a file. Name a file in it.",
  EMFILE: "too many files are open. Close some programs or raise the limit (ulimit -n).",
  ENAMETOOLONG: "the name is too long. Choose a shorter one.",
  ERR_FS_FILE_TOO_LARGE: "it is larger than 2 GiB, the most that can be read at once. Split it.",
};

/** A failure of the file system in words: what was tried, why it failed, what to do. Other errors are returned as they are. */
export function diskError(error: unknown, tried: string): Error {
  if (!(error instanceof Error)) return new Error(String(error));
  const { code } = error as NodeJS.ErrnoException;
  if (code === undefined) return error;
  return new SpikeloomError(`${tried}: ${REASONS[code] ?? error.message} (${code})`, { cause: error });
}
