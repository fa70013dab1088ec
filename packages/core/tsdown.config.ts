/**
 * The core as one module that runs in Node, workers and pages alike, and its types as one file. They are two builds because
 * together they would share a chunk.
 */
import { defineConfig } from "tsdown";

const shared = {
  entry: ["src/index.ts"],
  format: "esm",
  platform: "neutral",
  target: "es2022",
  fixedExtension: false,
  tsconfig: "../../tsconfig.json",
  inputOptions: { checks: { pluginTimings: false } },
} as const;

export default defineConfig([
  // What a module does when it is loaded (tensor/methods.ts adds the tensor's methods) must stay, whatever package.json says of it.
  // Names of classes and functions stay: messages and stack traces show them.
  {
    ...shared,
    dts: false,
    treeshake: { moduleSideEffects: true },
    minify: { compress: true, mangle: { toplevel: true, keepNames: true }, codegen: true },
  },
  { ...shared, clean: false, dts: { emitDtsOnly: true } },
]);
