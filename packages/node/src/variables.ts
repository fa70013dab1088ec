/** The variables of the environment that Spikeloom reads: for the help, and for `info`, which tells a misspelt one. */
import { nearest } from "spikeloom";

const PREFIX = "SPIKELOOM_";

/** Name -> what it does, in a few words. */
export const VARIABLES: Readonly<Record<string, string>> = {
  SPIKELOOM_DEVICE: "forces the device: native, wasm or reference",
  SPIKELOOM_THREADS: "forces the number of threads",
  SPIKELOOM_ISA: "forces native's instruction set: avx512, avx2, baseline, neon; amx",
  SPIKELOOM_NATIVE: "path of the native addon",
  SPIKELOOM_WASM: "path of another build of the WebAssembly kernels (relaxed SIMD)",
  SPIKELOOM_IMPLEMENTATIONS: "forces one of several implementations: spikeProduct=dense,...",
  SPIKELOOM_MATMUL_PRECISION: "highest, high or medium, where there are matrix units (amx)",
  SPIKELOOM_NO_NATIVE: "while building from source: leaves the native addon out",
  SPIKELOOM_DEBUG: "1 prints the stack of an error",
};

/** The list for the help. */
export function variablesHelp(): string {
  const width = Math.max(...Object.keys(VARIABLES).map((name) => name.length));
  return Object.entries(VARIABLES)
    .map(([name, words]) => `  ${name.padEnd(width)}  ${words}`)
    .join("\n");
}

/** What is wrong with a variable's name, if anything: "unknown, did you mean SPIKELOOM_THREADS?". */
export function unknownVariable(name: string): string | undefined {
  if (Object.hasOwn(VARIABLES, name)) return undefined;
  // What all have in common says nothing about which was meant.
  const near = nearest(
    name.slice(PREFIX.length),
    Object.keys(VARIABLES).map((known) => known.slice(PREFIX.length)),
  );
  return near === undefined ? "unknown" : `unknown, did you mean ${PREFIX}${near}?`;
}
