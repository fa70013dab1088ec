/** The long run of the kill test: npx tsx test/robustness/kill.ts [--kills N] [--seed N] [--epochs N] */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { killRuns } from "./kill-runs.ts";

const { values } = parseArgs({
  options: {
    kills: { type: "string", default: "20" },
    seed: { type: "string", default: "1" },
    epochs: { type: "string", default: "8" },
  },
});
const folder = mkdtempSync(join(tmpdir(), "spikeloom-kill-"));
try {
  const numbers = { kills: Number(values.kills), seed: Number(values.seed), epochs: Number(values.epochs) };
  console.log(await killRuns({ ...numbers, folder, note: console.log }));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
