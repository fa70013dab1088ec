/**
 * Builds the kernels to a Node addon with any C++17 compiler: the same source once per instruction set, linked with
 * addon.cpp, which picks one at start-up. Used by the clone's build and, from the sources that ship with the Node package,
 * by `spikeloom native build`.
 */
import { execFile, execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

const COMMON = [
  "-std=c++17",
  "-O3",
  "-fPIC",
  "-fno-exceptions",
  "-fno-rtti",
  "-fno-math-errno",
  "-fno-trapping-math",
  "-ffp-contract=fast",
  "-fvisibility=hidden",
  "-Wall",
  "-Wno-unused-function",
  "-Wno-psabi",
];

const AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mpopcnt", "-mlzcnt"];
const AMX = ["-mamx-tile", "-mamx-bf16"];

/** Instruction sets by processor, with the compiler's flags: the best that was measured first, `amx` last, which runs only when asked for. */
const ISAS: Record<string, Record<string, string[]>> = {
  x64: {
    avx512: AVX512,
    avx2: ["-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mpopcnt", "-mlzcnt"],
    baseline: ["-msse4.2", "-mpopcnt"],
    amx: [...AVX512, ...AMX],
  },
  arm64: { neon: [] },
};

/** AVX-512 with tiles in plain code (kernels/amx.h): for tests, in an addon of its own. */
const EMULATED: Record<string, Record<string, string[]>> = { x64: { amx_emulated: [...AVX512, "-DEMULATED_TILES"] } };

/** The first C++ compiler that answers (the one that CXX names; else c++, g++, clang++), or undefined. */
export function findCompiler(): string | undefined {
  // A compiler that was named is the one that is meant.
  for (const name of process.env.CXX ? [process.env.CXX] : ["c++", "g++", "clang++"]) {
    try {
      execFileSync(name, ["--version"], { stdio: "ignore" });
      return name;
    } catch {
      // try the next one
    }
  }
  return undefined;
}

export interface NativeBuild {
  /** The kernels folder, with generated/ in it. */
  sources: string;
  /** Folder of node_api.h (the node-api-headers package). */
  headers: string;
  /** Where the addon goes; written under another name first, then renamed. */
  output: string;
  compiler: string;
  /** Build the addon for tests that emulates AMX instead. */
  emulated?: boolean;
}

/** Do the compiler and its assembler know AMX? Some do not (GCC before 11). */
async function knowsAmx(compiler: string, work: string): Promise<boolean> {
  if (process.platform !== "linux") return false;
  const probe = join(work, "probe.cpp");
  writeFileSync(probe, 'void f() { asm volatile("tdpbf16ps %tmm2, %tmm1, %tmm0"); }\n');
  try {
    await promisify(execFile)(compiler, [...AMX, "-c", probe, "-o", join(work, "probe.o")]);
    return true;
  } catch {
    return false;
  }
}

/** Compiles and links the addon. Throws an Error with the compiler's words. */
export async function buildNative({ sources, headers, output, compiler, emulated = false }: NativeBuild): Promise<void> {
  const isas = (emulated ? EMULATED : ISAS)[process.arch];
  if (!isas) throw new Error(`no native kernels for the processor "${process.arch}" yet: use the wasm device`);
  mkdirSync(dirname(output), { recursive: true });
  const work = mkdtempSync(join(tmpdir(), "spikeloom-native-"));
  const compile = async (args: string[]) => {
    try {
      const { stderr } = await promisify(execFile)(compiler, args, { maxBuffer: 64 << 20 });
      if (stderr.trim()) console.error(stderr.trim());
    } catch (error) {
      throw new Error(
        `the native kernels do not compile (${compiler} ${args.join(" ")}):\n${(error as { stderr?: string }).stderr ?? error}`,
      );
    }
  };
  try {
    const amx = await knowsAmx(compiler, work);
    const chosen = Object.entries(isas).filter(([isa]) => isa !== "amx" || amx);
    const objects = chosen.map(([isa, flags]) => ({ isa, flags, object: join(work, `${isa}.o`) }));
    const table = `-DISA_TABLES=${objects.map(({ isa }) => `ISA_TABLE(${isa})`).join("")}`;
    const addon = join(work, "addon.o");
    const jobs = [
      ...objects.map(({ isa, flags, object }) => [...COMMON, ...flags, `-DISA=${isa}`, "-c", join(sources, "kernels.cpp"), "-o", object]),
      [...COMMON.filter((f) => f !== "-fno-exceptions"), `-I${headers}`, table, "-c", join(sources, "addon.cpp"), "-o", addon],
    ];
    let next = 0;
    const worker = async () => {
      for (let job = jobs[next++]; job; job = jobs[next++]) await compile(job);
    };
    await Promise.all([worker(), worker()]);
    const link = process.platform === "darwin" ? ["-bundle", "-undefined", "dynamic_lookup"] : ["-shared", "-pthread"];
    const fresh = `${output}.${process.pid}`;
    await compile([...link, "-o", fresh, addon, ...objects.map(({ object }) => object)]);
    renameSync(fresh, output);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
