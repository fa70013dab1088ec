/**
 * The long run of the fuzzing: npx tsx test/fuzz/cli.ts [--runs N] [--only READER] [--seed N]
 * Prints what each reader did, and the smallest file that broke one. Exit code 1 if one broke.
 */
import { parseArgs } from "node:util";
import { fuzz } from "./harness.ts";
import { cleanUp, READERS } from "./readers.ts";

const { values } = parseArgs({
  options: { runs: { type: "string", default: "100000" }, only: { type: "string" }, seed: { type: "string" } },
});
const readers = READERS.filter(({ name }) => values.only === undefined || name.includes(values.only));
if (!readers.length) throw new Error(`there is no reader ${values.only}: ${READERS.map((r) => r.name).join(", ")}`);

try {
  for (const reader of readers) {
    const start = performance.now();
    let words: string;
    try {
      const { accepted, refused } = await fuzz(reader, Number(values.runs), values.seed === undefined ? undefined : Number(values.seed));
      words = `${accepted} accepted, ${refused} refused`;
    } catch (error) {
      process.exitCode = 1;
      const { message, cause } = error as Error;
      words = `BROKEN\n${message}\n${cause instanceof Error ? cause.stack : ""}`;
    }
    console.log(`${reader.name}: ${words} (${((performance.now() - start) / 1000).toFixed(0)} s)`);
  }
} finally {
  cleanUp();
}
