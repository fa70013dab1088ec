// One test run for the whole workspace. Few workers: each test process may own a thread pool of its own.
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: { alias: { spikeloom: fileURLToPath(new URL("packages/core/src/index.ts", import.meta.url)) } },
  test: {
    include: ["packages/*/test/**/*.test.ts", "test/**/*.test.ts"],
    pool: "forks",
    poolOptions: { forks: { minForks: 1, maxForks: 2 } },
    testTimeout: 60_000,
    hookTimeout: 60_000,
    allowOnly: false,
    reporters: ["default", "./scripts/summary-reporter.ts"],
  },
});
