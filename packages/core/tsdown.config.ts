/** The core as one module that runs in Node, workers and pages alike: nothing of any platform may get in. */
import { defineConfig } from "tsdown";

export default defineConfig({
  entry: ["src/index.ts"],
  format: "esm",
  platform: "neutral",
  target: "es2022",
  dts: true,
  fixedExtension: false,
  // The wasm binary is most of it; the rest is small enough to keep readable in stack traces, minified names apart.
  minify: false,
  tsconfig: "../../tsconfig.json",
});
