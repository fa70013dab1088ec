/** Where this package stands: in a clone of the repository, or installed. Works from src/ and, bundled, from dist/. */
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The folder of @spikeloom/cli. */
export const packageRoot = fileURLToPath(new URL("..", import.meta.url));

/** The clone that this package is a part of, or undefined where it is installed. */
export function cloneRoot(): string | undefined {
  const root = fileURLToPath(new URL("../../..", import.meta.url));
  return existsSync(join(root, "kernels/kernels.cpp")) && existsSync(join(root, "packages/node/package.json")) ? root : undefined;
}

/** This user's cache of ours. XDG_CACHE_HOME moves it. */
export function userCache(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "spikeloom");
}
