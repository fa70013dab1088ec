/** Versions of what runs, for reports and `spikeloom info`. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { packageRoot } from "./paths.ts";

/** Version by name: spikeloom, @spikeloom/cli and node. */
export function versions(): { spikeloom: string; "@spikeloom/cli": string; node: string } {
  const version = (path: string) => (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
  return {
    spikeloom: version(createRequire(import.meta.url).resolve("spikeloom/package.json")),
    "@spikeloom/cli": version(join(packageRoot, "package.json")),
    node: process.versions.node,
  };
}
