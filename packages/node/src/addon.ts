/** The native addon: where it is, where a new one goes, and building it. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { SpikeloomError } from "spikeloom";
import { buildNative, findCompiler } from "../../../kernels/build-native.ts";
import { cloneRoot, packageRoot, userCache } from "./paths.ts";
import { versions } from "./versions.ts";

/**
 * Where an installed package keeps the addon: this user's cache, by version and processor. Not by Node's
 * version: the addon asks for Node-API 8, which every Node that is supported has.
 */
function cached(): string {
  const build = `${versions()["@spikeloom/cli"]}-${process.platform}-${process.arch}`;
  return join(userCache(), build, "spikeloom.node");
}

/** Where `buildAddon` puts the addon: the clone's build folder, or this user's cache. */
export function addonTarget(): string {
  const clone = cloneRoot();
  return clone ? join(clone, "build/native/spikeloom.node") : cached();
}

/**
 * Path of the built addon for `init({ native })`: the variable SPIKELOOM_NATIVE, the clone's build folder, or this user's
 * cache. Undefined where none was built: the engine then runs on WebAssembly.
 * @param device what the engine is asked for: another one than native needs no addon
 * @throws SpikeloomError when SPIKELOOM_NATIVE names no file
 */
export function findAddon(device = "auto"): string | undefined {
  if (device !== "auto" && device !== "native") return undefined;
  const named = process.env.SPIKELOOM_NATIVE;
  if (named) {
    if (!existsSync(named))
      throw new SpikeloomError(`SPIKELOOM_NATIVE: there is no file ${named}. Correct the path, or unset the variable.`);
    return named;
  }
  return [addonTarget(), cached()].find((path) => existsSync(path));
}

/** The instruction sets of a built addon that this processor has, the default first. @throws SpikeloomError when it does not load */
export function addonIsas(path: string): string[] {
  try {
    return (createRequire(import.meta.url)(path) as { isas(): string[] }).isas();
  } catch (error) {
    throw new SpikeloomError(
      `the native addon ${path} does not load: ${error instanceof Error ? error.message : error}. Build it anew: npx spikeloom native build`,
    );
  }
}

/**
 * Compile the addon from the kernel sources of the clone, or those that ship with this package.
 * @param output where it goes; `addonTarget()` by default
 * @returns its path
 * @throws SpikeloomError without a C++ compiler, without sources, or with the compiler's words
 */
export async function buildAddon(output = addonTarget()): Promise<string> {
  const compiler = findCompiler();
  if (!compiler) {
    throw new SpikeloomError(
      "no C++ compiler found (tried CXX, c++, g++, clang++). Install one (Debian and Ubuntu: apt-get install g++; macOS: xcode-select --install), or name it: CXX=path. Without the addon everything runs on WebAssembly.",
    );
  }
  const clone = cloneRoot();
  const sources = clone ? join(clone, "kernels") : join(packageRoot, "kernels");
  if (!existsSync(join(sources, "generated/kernel_table.h"))) {
    throw new SpikeloomError(
      `the kernel sources in ${sources} are not complete. ${clone ? "Run `npm run build` in the clone." : "Install @spikeloom/cli anew."}`,
    );
  }
  const headers = (createRequire(import.meta.url)("node-api-headers") as { include_dir: string }).include_dir;
  try {
    await buildNative({ sources, headers, output, compiler });
  } catch (error) {
    throw new SpikeloomError(error instanceof Error ? error.message : String(error), { cause: error });
  }
  return output;
}
