/** Every reader on thousands of changed files; `npx tsx test/fuzz/cli.ts` gives it as many as one has time for. */
import { afterAll, describe, expect, it } from "vitest";
import { fuzz, type Reader, rejectsEveryTruncation, survives } from "./harness.ts";
import { cleanUp, READERS } from "./readers.ts";

afterAll(cleanUp);

describe.each(READERS.map((reader) => [reader.name, reader] as const))("%s", (_name, reader) => {
  it("gives a value or says what is wrong, whatever the file", async () => {
    const { accepted, refused } = await fuzz(reader, 2000, 1);
    // Both were met: changes that all break the file's first bytes would test nothing behind them.
    if (!reader.sealed) expect(accepted).toBeGreaterThan(5);
    if (!reader.lenient) expect(refused).toBeGreaterThan(5);
  });
});

it.each(READERS.filter((r) => !r.prefixes).map((r) => [r.name, r] as const))(
  "%s: takes no beginning of a file for the whole",
  (_name, reader) => rejectsEveryTruncation(reader),
);

describe("the harness finds readers that", () => {
  const reader = (read: Reader["read"]): Reader => ({ name: "bad", seeds: () => [Uint8Array.of(1)], read, memory: 8, time: 200 });
  it.each([
    ["throw something else", () => (undefined as unknown as string).length, "bad: threw TypeError"],
    [
      "loop without end",
      () => {
        for (;;);
      },
      "bad: still reading after",
    ],
    ["never settle", () => new Promise(() => undefined), "bad: still reading after"],
    ["believe a size", () => new Uint8Array(2 ** 28), /bad: took 26\d{7} bytes of memory/],
  ])("%s", async (_what, read, words) => {
    await expect(survives(reader(read), Uint8Array.of(2))).rejects.toThrow(words);
  });
});
