/**
 * Spikeloom's counterpart of the peer's script: runs the named cases on one device and prints one JSON object a line, the first
 * of them about the engine. bench.ts starts it, each time as a process of its own, just as it starts the peer.
 */
import { parseArgs } from "node:util";
import { init } from "spikeloom";
import { findAddon } from "../packages/node/src/addon.ts";
import { median } from "./report.ts";
import { CASES, type Workload } from "./workloads.ts";

/** A wasm function is compiled again, optimised, once it has run a little: the warm-up lasts until that is over. */
const WARM_MS = 500;

function timed({ run }: Workload, repeat: number): { median: number; min: number } {
  const begin = performance.now();
  for (let i = 0; i < 2 || performance.now() - begin < WARM_MS; i++) run();
  const times = Array.from({ length: repeat }, () => {
    const start = performance.now();
    run();
    return performance.now() - start;
  });
  return { median: median(times), min: Math.min(...times) };
}

const { values } = parseArgs({
  options: {
    device: { type: "string" },
    threads: { type: "string" },
    repeat: { type: "string" },
    only: { type: "string", multiple: true },
  },
});
const engine = await init({ device: values.device as "native" | "wasm", threads: Number(values.threads), seed: 0, native: findAddon() });
console.log(JSON.stringify(engine));
for (const name of values.only ?? [])
  for (const workload of CASES[name]?.() ?? []) {
    const ms = timed(workload, Number(values.repeat));
    const { batch, extra } = workload;
    const training = batch ? { images_per_s: (batch / ms.median) * 1e3, peak_rss_mb: process.resourceUsage().maxRSS / 1024 } : {};
    console.log(JSON.stringify({ name: workload.name, ms, extra: { ...extra, ...training } }));
  }
process.exit(0);
