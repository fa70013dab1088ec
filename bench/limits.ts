/**
 * What the machine can do at most, measured in the run itself by limits.cpp: a program for each native instruction set, and the same source
 * as a WebAssembly module. Where there is no compiler the native ones are missing, and with them the distances to the limit.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { SpikeloomError } from "spikeloom";
import { findCompiler } from "../kernels/build-native.ts";
import type { Bandwidth, Limits } from "./work.ts";

const execute = promisify(execFile);
const pathOf = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const SOURCES = [pathOf("limits.cpp"), pathOf("../kernels/vec.h")];
const folder = pathOf("../build/bench");

/** The compilers' names of what the instruction sets are made of. Matrix units have no probe: they are held against the vector units. */
const FLAGS: Readonly<Record<string, readonly string[]>> = {
  amx: ["-march=x86-64-v4"],
  avx512: ["-march=x86-64-v4"],
  avx2: ["-march=x86-64-v3"],
  baseline: ["-march=x86-64-v2"],
  neon: [],
};

/** A file in the build folder, made once for these sources. */
async function built(name: string, make: (path: string) => Promise<void>): Promise<string> {
  const hash = createHash("sha256");
  for (const source of SOURCES) hash.update(readFileSync(source));
  const path = `${folder}/${name}-${hash.digest("hex").slice(0, 12)}`;
  mkdirSync(folder, { recursive: true });
  if (!existsSync(path)) await make(path);
  return path;
}

/** Limits of a native instruction set, or undefined without a compiler. */
async function native(isa: string, threads: number): Promise<Limits | undefined> {
  const compiler = findCompiler();
  const flags = FLAGS[isa];
  if (!compiler || !flags) return undefined;
  const program = await built(`limits-${isa}`, async (path) => {
    const args = ["-O3", "-std=c++17", "-ffp-contract=fast", "-Wno-psabi", ...flags, `-I${pathOf("../kernels")}`, "-pthread"];
    await execute(compiler, [...args, pathOf("limits.cpp"), "-o", path]);
  });
  const { stdout } = await execute(program, [String(threads)]);
  return { isa, threads, ...(JSON.parse(stdout) as Pick<Limits, "flops" | "adds" | "bandwidth">) };
}

const WASM_FLAGS = [
  "--target=wasm32",
  "-std=c++17",
  "-O3",
  "-ffreestanding",
  "-nostdlib",
  "-nostdlibinc",
  "-msimd128",
  "-fvisibility=hidden",
];
const EXPORTS = ["probe_fma", "probe_add", "probe_read", "probe_write", "__heap_base"];

interface Probe {
  probe_fma(n: number): number;
  probe_add(n: number): number;
  probe_read(x: number, n: number): number;
  probe_write(x: number, n: number, value: number): void;
  memory: WebAssembly.Memory;
  __heap_base: WebAssembly.Global;
}

async function compileWasm(path: string): Promise<void> {
  const { runClang } = (await import("@yowasp/clang")) as unknown as {
    runClang(args: string[], files: Record<string, string>, options: object): Promise<Record<string, Uint8Array>>;
  };
  const files = { "limits.cpp": readFileSync(pathOf("limits.cpp"), "utf8"), "vec.h": readFileSync(pathOf("../kernels/vec.h"), "utf8") };
  const link = ["-Wl,--no-entry", ...EXPORTS.map((name) => `-Wl,--export=${name}`)];
  const messages: string[] = [];
  const hear = (bytes: Uint8Array | null) => void (bytes && messages.push(new TextDecoder().decode(bytes)));
  try {
    const options = { stdout: hear, stderr: hear, fetchProgress: () => {} };
    const tree = await runClang(["clang++", ...WASM_FLAGS, ...link, "-o", "limits.wasm", "limits.cpp"], files, options);
    writeFileSync(path, tree["limits.wasm"] as Uint8Array);
  } catch {
    throw new SpikeloomError(`the WebAssembly probe of the limits does not compile:\n${messages.join("")}`);
  }
}

/** Seconds of the fastest of some runs. */
function best(run: () => void): number {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 12; i++) {
    const start = performance.now();
    run();
    least = Math.min(least, performance.now() - start);
  }
  return least / 1000;
}

/** Limits of WebAssembly on one thread; arithmetic on more is that many times this. */
async function wasm(): Promise<Limits> {
  const path = await built("limits.wasm", compileWasm);
  const { instance } = await WebAssembly.instantiate(readFileSync(path));
  const probe = instance.exports as unknown as Probe;
  // Sums of probe_fma and vectors of probe_add, as in limits.cpp.
  const [lanes, sums, vectors, n] = [4, 12, 6, 1 << 18];
  const base = (probe.__heap_base.value as number) + 64;
  const sizes = [1, 4, 16, 32, 64, 256];
  probe.memory.grow((256 << 4) + 1);
  const bandwidth: Bandwidth[] = [];
  for (const mib of sizes) {
    const size = mib << 18;
    const times = Math.max(1, 64 / mib);
    const rate = (run: () => void) => {
      const seconds = best(() => {
        for (let i = 0; i < times; i++) run();
      });
      return (4 * size * times) / seconds / 1e9;
    };
    const write = rate(() => probe.probe_write(base, size, mib));
    bandwidth.push({ mib, read: rate(() => void probe.probe_read(base, size)), write });
  }
  return {
    isa: "simd128",
    threads: 1,
    flops: (2 * n * sums * lanes) / best(() => void probe.probe_fma(n)) / 1e9,
    adds: (n * vectors * lanes) / best(() => void probe.probe_add(n / 16)) / 1e9,
    bandwidth,
  };
}

/**
 * The limits of a device with an instruction set and threads. Memory belongs to the machine: WebAssembly on several threads is held against
 * the native bandwidth of as many threads where that could be measured, else against the one thread's that many times.
 */
export async function measureLimits(
  device: string,
  isa: string,
  threads: number,
  nativeIsa: string | undefined,
): Promise<Limits | undefined> {
  if (device === "native") return native(isa, threads);
  const one = await wasm();
  if (threads === 1) return one;
  const times = (b: Bandwidth): Bandwidth => ({ mib: b.mib, read: b.read * threads, write: b.write * threads });
  const memory = nativeIsa === undefined ? undefined : await native(nativeIsa, threads);
  return {
    ...one,
    threads,
    flops: one.flops * threads,
    adds: one.adds * threads,
    bandwidth: memory?.bandwidth ?? one.bandwidth.map(times),
  };
}
