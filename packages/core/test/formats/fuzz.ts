/** Hostile files for the readers' tests: every truncation of a valid file and random mutations of it. */
import { expect } from "vitest";
import { FormatError } from "../../src/runtime/error.ts";
import { Rng } from "../../src/runtime/random.ts";

/** Run the reader; a FormatError is an answer, anything else thrown is a failure. Returns whether the file was accepted. */
async function survives(read: (bytes: Uint8Array) => unknown, bytes: Uint8Array): Promise<boolean> {
  try {
    await read(bytes);
    return true;
  } catch (error) {
    if (!(error instanceof FormatError)) throw new Error(`not a FormatError for bytes ${bytes.join(" ")}`, { cause: error });
    expect(error.message).toMatch(/^file\b.*: expected .+, found .+\./s);
    return false;
  }
}

/** No proper prefix of `bytes` may be accepted. */
export async function rejectsEveryTruncation(read: (bytes: Uint8Array) => unknown, bytes: Uint8Array): Promise<void> {
  for (let length = 0; length < bytes.length; length++) {
    if (await survives(read, bytes.slice(0, length))) throw new Error(`accepted the first ${length} of ${bytes.length} bytes`);
  }
}

/** Change, insert, remove or repeat bytes at random; only FormatErrors may come out. Returns how many mutants were accepted. */
export async function survivesMutations(read: (bytes: Uint8Array) => unknown, bytes: Uint8Array, rounds: number): Promise<number> {
  const random = new Rng(7).stream("mutations");
  const extremes = [0, 1, 0x20, 0x7f, 0x80, 0xff];
  let accepted = 0;
  for (let round = 0; round < rounds; round++) {
    let mutant = [...bytes];
    for (let change = random.uniformInt(4); change >= 0; change--) {
      const at = random.uniformInt(mutant.length);
      const value = random.uniformInt(2) ? random.uniformInt(256) : extremes[random.uniformInt(extremes.length)]!;
      const kind = random.uniformInt(8);
      if (kind < 5) mutant[at] = value;
      else if (kind === 5) mutant.splice(at, 0, value);
      else if (kind === 6 && mutant.length > 1) mutant.splice(at, 1 + random.uniformInt(4));
      else mutant = [...mutant.slice(0, at), ...mutant.slice(random.uniformInt(mutant.length))];
      if (mutant.length === 0) mutant.push(value);
    }
    if (await survives(read, Uint8Array.from(mutant))) accepted++;
  }
  return accepted;
}
