/** `spikeloom native build`: compile the native addon where this machine's runs find it. */
import { resolve } from "node:path";
import { addonIsas, buildAddon } from "../addon.ts";

export interface NativeOptions {
  output?: string | undefined;
}

export async function run({ output }: NativeOptions): Promise<void> {
  const start = performance.now();
  const path = await buildAddon(output === undefined ? undefined : resolve(output));
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`built in ${seconds} s: ${path}\ninstruction sets here: ${addonIsas(path).join(", ")}`);
}
