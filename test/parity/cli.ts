/** `npm run parity -- DIR... [--device reference|wasm|native]`: run every fixture below the folders, a line each; exit 1 on any failure. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { init, SpikeloomError } from "spikeloom";
import { fixtureFiles } from "./fixture.ts";
import { describe, runFixture } from "./runner.ts";

const addon = fileURLToPath(new URL("../../build/native/spikeloom.node", import.meta.url));

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { device: { type: "string", default: "reference" }, threads: { type: "string" } },
  });
  const folders = positionals.length ? positionals : [fileURLToPath(new URL("../fixtures/parity", import.meta.url))];
  for (const folder of folders) if (!existsSync(folder)) throw new SpikeloomError(`parity: no such file or folder: ${folder}`);
  const files = folders.flatMap(fixtureFiles);
  if (!files.length) throw new SpikeloomError(`parity: no fixture (*.json) below ${folders.join(", ")}`);
  await init({
    device: values.device as "reference",
    native: existsSync(addon) ? addon : undefined,
    threads: values.threads ? Number(values.threads) : undefined,
  });
  let failed = 0;
  for (const file of files) {
    const outcome = runFixture(file);
    if (!outcome.ok) failed++;
    console.log(describe(outcome));
  }
  console.log(`${files.length - failed} passed, ${failed} failed`);
  return failed ? 1 : 0;
}

try {
  process.exit(await main());
} catch (error) {
  console.error(
    error instanceof SpikeloomError || (error as { code?: string }).code?.startsWith("ERR_PARSE_ARGS") ? (error as Error).message : error,
  );
  process.exit(1);
}
