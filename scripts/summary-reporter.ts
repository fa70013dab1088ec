/** Ends a test run with one plain line, "N passed, N failed, N skipped", and fails it when a test was skipped. */
import type { Reporter, TestModule } from "vitest/node";

export default class SummaryReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const counts = { passed: 0, failed: 0, skipped: 0, pending: 0 };
    for (const module of modules) {
      for (const test of module.children.allTests()) counts[test.result().state]++;
      // A file that fails to load has no tests to count.
      if (module.errors().length) counts.failed++;
    }
    if (counts.skipped || counts.pending) {
      console.error(`${counts.skipped + counts.pending} tests were skipped: every test must run`);
      process.exitCode = 1;
    }
    const line = `${counts.passed} passed, ${counts.failed + unhandled.length} failed, ${counts.skipped + counts.pending} skipped`;
    // The last line of all, behind what the other reporters print.
    process.once("exit", () => process.stdout.write(`\n${line}\n`));
  }
}
