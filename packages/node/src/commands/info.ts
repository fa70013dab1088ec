/** `spikeloom info`: what runs here, so that a report of a problem can say it. */
import { availableParallelism, cpus, totalmem } from "node:os";
import { addonIsas, addonTarget, findAddon } from "../addon.ts";
import { bytes } from "../report/format.ts";
import { type EngineChoice, engineWarnings, startEngine } from "../session.ts";
import { unknownVariable } from "../variables.ts";
import { versions } from "../versions.ts";

export interface InfoOptions extends EngineChoice {
  json?: boolean | undefined;
}

export async function run({ json, ...choice }: InfoOptions): Promise<void> {
  const engine = await startEngine(choice);
  const variables = Object.entries(process.env).filter(([name]) => name.startsWith("SPIKELOOM_"));
  const info = {
    device: engine.device,
    isa: engine.isa,
    threads: engine.threads,
    native: nativeInfo(),
    wasm: { isa: "simd128", sharedMemory: typeof SharedArrayBuffer !== "undefined" },
    versions: versions(),
    platform: `${process.platform} ${process.arch}`,
    processor: cpus()[0]?.model.trim() ?? "unknown",
    processors: availableParallelism(),
    memoryBytes: totalmem(),
    variables: Object.fromEntries(variables),
    warnings: [
      ...variables.flatMap(([name]) => {
        const problem = unknownVariable(name);
        return problem ? [`${name}: ${problem}`] : [];
      }),
      ...engineWarnings(engine),
    ],
  };
  if (json) {
    console.log(JSON.stringify(info, null, 2));
    return;
  }
  const rows: [string, string][] = [
    ["device", `${info.device} (${info.isa}), ${info.threads} thread${info.threads === 1 ? "" : "s"}`],
    ["native", info.native.problem ?? `${info.native.isas.join(", ")}; ${info.native.path}`],
    ["wasm", `${info.wasm.isa}, ${info.wasm.sharedMemory ? "threads by shared memory" : "one thread: memory cannot be shared"}`],
    [
      "versions",
      Object.entries(info.versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(", "),
    ],
    ["platform", `${info.platform}, ${info.processors} x ${info.processor}, ${bytes(info.memoryBytes)}`],
    ...Object.entries(info.variables).map(([name, value]): [string, string] => {
      const problem = unknownVariable(name);
      return ["variable", `${name}=${value}${problem ? `  (${problem})` : ""}`];
    }),
    ...engineWarnings(engine).map((warning): [string, string] => ["warning", warning]),
  ];
  for (const [name, value] of rows) console.log(`${name.padEnd(9)} ${value}`);
}

/** An addon that is not there or does not load is said, not thrown: `info` is what one runs to find out. */
function nativeInfo(): { path: string | null; isas: string[]; problem: string | undefined } {
  let path: string | undefined;
  try {
    path = findAddon("native");
    if (path === undefined) return { path: null, isas: [], problem: `not built: spikeloom native build puts it at ${addonTarget()}` };
    return { path, isas: addonIsas(path), problem: undefined };
  } catch (error) {
    return { path: path ?? null, isas: [], problem: (error as Error).message };
  }
}
