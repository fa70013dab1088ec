/** `npm run bench -- --profile NAME`: which kernels a workload spends its time in, on which shapes. */
import { join } from "node:path";
import { type DeviceName, init, measure } from "spikeloom";
import { findAddon } from "../packages/node/src/addon.ts";
import { CASES } from "./cases.ts";
import { Inputs, writeInputs } from "./inputs.ts";
import { markdownTable } from "./report.ts";
import { type Workload, workloads } from "./workloads.ts";

/** Lines below this share are added up. */
const SMALL = 0.003;

interface ProfileOptions {
  device: string;
  threads: number;
  /** Profiled runs; the figures are those of one run. */
  repeat: number;
  /** For the inputs. */
  folder: string;
}

/** The workloads of some files, each made when the one before is done with. */
function* lines(files: readonly string[]): Generator<Workload> {
  for (const file of files) yield* workloads(new Inputs(file));
}

/** Profiles each workload of a case on one device and gives the tables. */
export async function profileCase(name: string, { device, threads, repeat, folder }: ProfileOptions): Promise<string> {
  const engine = await init({ device: device as DeviceName, threads, seed: 0, native: findAddon() });
  const parts: string[] = [];
  const files = (CASES[name]?.specs ?? []).map((spec) => {
    const file = join(folder, `${spec.name}.safetensors`);
    writeInputs(spec, file);
    return file;
  });
  for (const { name: workload, run } of lines(files)) {
    for (let i = 0; i < 3; i++) run();
    const { kernels, ms } = measure.profileKernels(() => {
      for (let i = 0; i < repeat; i++) run();
    });
    const row = (kernel: string, shape: string, calls: number, time: number) => [
      kernel,
      shape,
      String(Math.round(calls / repeat)),
      (time / repeat).toFixed(2),
      `${((100 * time) / ms).toFixed(1)} %`,
    ];
    const small = kernels.filter((k) => k.share < SMALL);
    const sum = (list: typeof kernels, of: "calls" | "ms") => list.reduce((total, k) => total + k[of], 0);
    const rows = [
      ...kernels.filter((k) => k.share >= SMALL).map((k) => row(k.kernel, k.shape, k.calls, k.ms)),
      row(`${small.length} others`, "", sum(small, "calls"), sum(small, "ms")),
    ];
    const byKernel = [...new Set(kernels.map((k) => k.kernel))]
      .map((kernel) => ({ kernel, list: kernels.filter((k) => k.kernel === kernel) }))
      .map(({ kernel, list }) => ({ kernel, calls: sum(list, "calls"), ms: sum(list, "ms") }))
      .sort((a, b) => b.ms - a.ms)
      .filter((k) => k.ms / ms >= SMALL);
    parts.push(
      `${workload} on ${engine.device} (${engine.isa}), threads ${engine.threads}: ${(ms / repeat).toFixed(1)} ms a run, ` +
        `${((100 * sum(kernels, "ms")) / ms).toFixed(1)} % of it in kernels`,
      markdownTable(
        ["kernel", "calls", "ms", "share"],
        byKernel.map((k) => row(k.kernel, "", k.calls, k.ms).toSpliced(1, 1)),
      ),
      markdownTable(["kernel", "shape", "calls", "ms", "share"], rows),
    );
  }
  return parts.join("\n\n");
}
