// The limit to what is under way at a time.
import { expect, test } from "vitest";
import { atMost } from "../../src/data/at-most.ts";

test("atMost runs so many at once, in order, and goes on after a failure", async () => {
  const limited = atMost(2);
  const log: string[] = [];
  let running = 0;
  const task = (name: string, fails = false) =>
    limited(async () => {
      running++;
      log.push(`${name}${running}`);
      await new Promise((resolve) => setImmediate(resolve));
      running--;
      if (fails) throw new Error(name);
    });
  const results = await Promise.allSettled([task("a"), task("b", true), task("c"), task("d"), task("e")]);
  expect(results.map((r) => r.status)).toEqual(["fulfilled", "rejected", "fulfilled", "fulfilled", "fulfilled"]);
  expect(log.map((entry) => entry[0])).toEqual(["a", "b", "c", "d", "e"]);
  expect(Math.max(...log.map((entry) => Number(entry[1])))).toBe(2);
});
