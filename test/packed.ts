/** The packages as npm would publish them, packed once for a test file, and programs run without blocking the test runner. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));

export interface Packed {
  filename: string;
  size: number;
  unpackedSize: number;
  files: { path: string }[];
}

/** Run a program; its output. @throws when it fails, with what it said */
export function run(program: string, args: readonly string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    let err = "";
    child.stdout.on("data", (part) => {
      out += part;
    });
    child.stderr.on("data", (part) => {
      err += part;
    });
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve(out);
      else reject(new Error(`${program} ${args.join(" ")} ended with ${code}\n${out.slice(-3000)}\n${err.slice(-3000)}`));
    });
  });
}

/** Pack a package of the workspace into a folder. */
export async function pack(name: "core" | "node", into: string): Promise<Packed> {
  const json = await run("npm", ["pack", "--json", "--pack-destination", into], { cwd: join(root, "packages", name) });
  // npm 10 gives a list, npm 11 and later an object by name.
  return Object.values(JSON.parse(json) as Packed[] | Record<string, Packed>)[0] as Packed;
}

/** README's first program. @throws where README has none */
export function quickstart(): string {
  const program = /```ts\n(import \{ init[\s\S]*?)```/.exec(readFileSync(join(root, "README.md"), "utf8"))?.[1];
  if (program === undefined) throw new Error("README must hold the quickstart as its first ts block that imports init");
  return program;
}
