/**
 * Builds the kernels to one freestanding WebAssembly binary with SIMD128, atomics and an imported shared memory, through the
 * @yowasp/clang package (a compiler that itself runs in WebAssembly: no system compiler is needed).
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "@yowasp/clang";

const FLAGS = [
  "--target=wasm32",
  "-std=c++17",
  "-O3",
  "-DISA=simd128",
  "-ffreestanding",
  "-fno-builtin",
  "-fno-exceptions",
  "-fno-rtti",
  "-fno-threadsafe-statics",
  "-fno-math-errno",
  "-fno-trapping-math",
  "-fvisibility=hidden",
  "-nostdlib",
  "-nostdinc++",
  "-nostdlibinc",
  "-msimd128",
  "-matomics",
  "-mbulk-memory",
  "-mmutable-globals",
  "-Wall",
  "-Wno-unused-function",
  "-Wl,--no-entry",
  "-Wl,--shared-memory",
  "-Wl,--import-memory",
  "-Wl,--max-memory=4294967296",
  "-Wl,--export=__stack_pointer",
  "-Wl,--export=__heap_base",
  "-Wl,-z,stack-size=65536",
  "-Wl,--strip-all",
];

/** Fused multiply-adds, whose rounding is the processor's own: results differ from machine to machine in their last bits. */
const RELAXED = ["-mrelaxed-simd", "-ffp-contract=fast"];

/** @param folder the kernels folder, with generated/ in it. @param relaxed with relaxed SIMD instructions. @returns the binary. */
export async function buildWasm(folder: string, relaxed = false): Promise<Uint8Array> {
  // The package's own types lag behind: they do not know this export yet.
  const { runClang } = (await import("@yowasp/clang")) as unknown as { runClang: Command };
  const files: Record<string, string | Record<string, string>> = {};
  for (const name of readdirSync(folder)) if (/\.(h|cpp)$/.test(name)) files[name] = readFileSync(join(folder, name), "utf8");
  const generated: Record<string, string> = {};
  for (const name of readdirSync(join(folder, "generated"))) generated[name] = readFileSync(join(folder, "generated", name), "utf8");
  files.generated = generated;
  const messages: string[] = [];
  const decoder = new TextDecoder();
  const keep = (bytes: Uint8Array | null) => {
    if (bytes) messages.push(decoder.decode(bytes, { stream: true }));
  };
  // The compiler is unpacked first, by itself: where compiling does it, every few percent are printed and read like a download.
  let unpacked = "nothing of it";
  const fetchProgress = ({ doneLength, totalLength }: { doneLength: number; totalLength: number }) => {
    unpacked = `${doneLength} of ${totalLength} bytes`;
  };
  try {
    await runClang(undefined, {}, { fetchProgress });
  } catch (error) {
    throw new Error(`the WebAssembly compiler could not be read (${unpacked}): ${(error as Error).message}`, { cause: error });
  }
  try {
    const tree = (await runClang(
      ["clang++", ...FLAGS, ...(relaxed ? RELAXED : []), "-o", "kernels.wasm", "wasm.cpp", "kernels.cpp"],
      files,
      {
        stdout: keep,
        stderr: keep,
      },
    )) as Record<string, Uint8Array>;
    const text = messages.join("").trim();
    if (text) console.error(text);
    return tree["kernels.wasm"] as Uint8Array;
  } catch (error) {
    throw new Error(`the WebAssembly kernels do not compile:\n${messages.join("")}`, { cause: error });
  }
}
