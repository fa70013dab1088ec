/**
 * Spikeloom's counterpart of the peer's script: runs the workloads of some input files on one device and prints one JSON object a line, the
 * first of them about the engine. bench.ts starts it, each time as a process of its own, just as it starts the peer.
 */
import { parseArgs } from "node:util";
import { type DeviceName, init } from "spikeloom";
import { Inputs } from "./inputs.ts";
import { timed } from "./timed.ts";
import { workloads } from "./workloads.ts";

const { values, positionals } = parseArgs({
  options: {
    device: { type: "string" },
    threads: { type: "string" },
    repeat: { type: "string" },
    seconds: { type: "string" },
  },
  allowPositionals: true,
});
const engine = await init({
  device: values.device as DeviceName,
  threads: Number(values.threads),
  seed: 0,
  native: process.env.SPIKELOOM_NATIVE,
});
console.log(JSON.stringify(engine));
for (const file of positionals)
  for (const { name, run, extra, check, work } of workloads(new Inputs(file))) {
    const ms = timed(run, Number(values.repeat), Number(values.seconds));
    const peak_rss_mb = process.resourceUsage().maxRSS / 1024;
    console.log(JSON.stringify({ name, ms, extra: { ...extra, peak_rss_mb }, check, work }));
  }
process.exit(0);
