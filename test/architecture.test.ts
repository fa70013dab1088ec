/** Dependencies point downwards only: which folder of core may import which, and that core needs nothing but itself. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const core = join(root, "packages/core/src");

/** Folder -> folders it may import, itself included silently. docs/architecture.md draws the same. */
const ALLOWED: Record<string, string[]> = {
  runtime: [],
  formats: ["runtime"],
  tensor: ["runtime"],
  nn: ["runtime", "tensor"],
  optim: ["runtime", "tensor", "nn"],
  data: ["runtime", "tensor", "formats"],
  spiking: ["runtime", "tensor", "nn"],
  measure: ["runtime", "tensor", "nn", "spiking"],
  train: ["runtime", "tensor", "nn", "spiking", "optim", "data", "formats"],
  models: ["runtime", "tensor", "nn", "spiking", "formats", "measure"],
};

/** A model never touches the runtime, but for its errors. */
const RUNTIME_FOR_MODELS = ["error.ts"];

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((e) =>
    e.isDirectory() ? sources(join(folder, e.name)) : e.name.endsWith(".ts") ? [join(folder, e.name)] : [],
  );
}

function imports(file: string): string[] {
  return [...readFileSync(file, "utf8").matchAll(/(?:^|\n)\s*(?:import|export)\b[^;]*?from\s+"([^"]+)"|\bimport\("([^"]+)"\)/g)].map(
    (m) => (m[1] ?? m[2]) as string,
  );
}

describe("architecture of packages/core", () => {
  const files = sources(core);

  it("has only folders that the rule knows", () => {
    const folders = new Set(
      files
        .map((f) => relative(core, f))
        .filter((f) => f.includes("/"))
        .map((f) => f.split("/")[0]),
    );
    expect([...folders].sort()).toEqual(Object.keys(ALLOWED).sort());
  });

  it("imports downwards only, and nothing from outside", () => {
    const wrong: string[] = [];
    for (const file of files) {
      const from = relative(core, file);
      const folder = from.split("/")[0] as string;
      for (const target of imports(file)) {
        if (!target.startsWith(".")) {
          // Types of Node's modules are erased; nothing else may come from outside.
          if (!(folder === "runtime" && target.startsWith("node:"))) wrong.push(`${from} imports ${target}`);
          continue;
        }
        const to = relative(core, resolve(dirname(file), target));
        const toFolder = to.split("/")[0] as string;
        if (!from.includes("/") || folder === toFolder) continue;
        if (!ALLOWED[folder]?.includes(toFolder)) wrong.push(`${from} imports ${to}`);
        if (folder === "models" && toFolder === "runtime" && !RUNTIME_FOR_MODELS.includes(to.split("/")[1] as string))
          wrong.push(`${from} imports ${to}: a model never touches the runtime`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it("lets no model know another", () => {
    const wrong = files
      .map((f) => relative(core, f))
      .filter((f) => /^models\/[^/]+\//.test(f))
      .flatMap((from) =>
        imports(join(core, from))
          .filter((t) => t.startsWith("."))
          .map((t) => relative(core, resolve(dirname(join(core, from)), t)))
          .filter((to) => /^models\/[^/]+\//.test(to) && to.split("/")[1] !== from.split("/")[1])
          .map((to) => `${from} imports ${to}`),
      );
    expect(wrong).toEqual([]);
  });
});
