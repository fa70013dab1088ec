#!/usr/bin/env node
// The command lives in @spikeloom/cli, so that this package stays free of dependencies.
let cli;
try {
  cli = await import("@spikeloom/cli");
} catch (error) {
  if (error.code !== "ERR_MODULE_NOT_FOUND" || !error.message.includes("'@spikeloom/cli'")) throw error;
  console.error("The spikeloom command is a package of its own. Install it beside spikeloom: npm install @spikeloom/cli");
  process.exit(1);
}
process.exitCode = await cli.main(process.argv.slice(2));
