/** Makes input files: pairs of arguments, a specification as JSON and the path of its file. A process of its own, as an engine is needed. */
import { init } from "spikeloom";
import { findAddon } from "../packages/node/src/addon.ts";
import type { Spec } from "./cases.ts";
import { writeInputs } from "./inputs.ts";

const args = process.argv.slice(2);
for (let i = 0; i < args.length; i += 2) {
  // Anew for each file, so that its numbers do not depend on which others are made.
  await init({ native: findAddon(), seed: 5 });
  writeInputs(JSON.parse(args[i] as string) as Spec, args[i + 1] as string);
}
process.exit(0);
