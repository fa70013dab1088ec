/** The Node side: the command and what programs import. Dependencies stay outside, spikeloom among them. */
import { defineConfig } from "tsdown";

export default defineConfig({
  entry: ["src/cli.ts", "src/index.ts", "src/sample-worker.ts"],
  format: "esm",
  platform: "node",
  target: "node20",
  dts: true,
  fixedExtension: false,
  tsconfig: "../../tsconfig.json",
  inputOptions: { checks: { pluginTimings: false } },
  deps: { neverBundle: [/^spikeloom($|\/)/, "commander", "yaml", "zod", "node-api-headers"] },
});
