/** Writes kernels/generated/: the C++ face of the kernel table (argument structs, op-code enums, the kernel list). */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as table from "../packages/core/src/runtime/kernel-table.ts";

const FIELD = { p: "Ptr", i: "Int", f: "Real" } as const;

function enumOf(prefix: string, names: readonly string[]): string {
  return `enum { ${names.map((name, i) => `${prefix}_${name} = ${i}`).join(", ")} };`;
}

/** Upper-case exported arrays of the table become enums `UNARY_exp`, `SURROGATE_atan`, ... */
function enums(): string[] {
  return Object.entries<unknown>(table)
    .filter((entry): entry is [string, readonly string[]] => Array.isArray(entry[1]))
    .map(([name, values]) => enumOf(name, values));
}

/** Upper-case exported numbers and flat records of numbers become constants. */
function constants(): string[] {
  const out: string[] = [];
  for (const [name, value] of Object.entries(table)) {
    if (typeof value === "number") out.push(`#define ${name} ${value}`);
    else if (/^[A-Z_]+$/.test(name) && name !== "KERNELS" && !Array.isArray(value) && typeof value === "object")
      for (const [key, v] of Object.entries(value)) if (typeof v === "number") out.push(`#define ${name}_${key.toUpperCase()} ${v}`);
  }
  return out;
}

export function generateHeaders(folder: string): void {
  mkdirSync(folder, { recursive: true });
  const kernels = Object.entries(table.KERNELS) as [string, Record<string, keyof typeof FIELD>][];
  const structs = kernels.map(
    ([name, args]) =>
      `struct ${name}_args { ${Object.entries(args)
        .map(([arg, kind]) => `${FIELD[kind]} ${arg};`)
        .join(" ")} };`,
  );
  writeIfChanged(join(folder, "kernel_table.h"), [...enums(), ...structs].join("\n"));
  writeIfChanged(join(folder, "kernel_list.h"), kernels.map(([name]) => `KERNEL_ENTRY(${name})`).join("\n"));
  writeIfChanged(
    join(folder, "constants.h"),
    [
      "#pragma once",
      ...constants(),
      `#define KERNEL_COUNT ${kernels.length}`,
      `#define KERNEL_TABLE_HASH ${table.kernelTableHash()}u`,
    ].join("\n"),
  );
}

/** Leaves an unchanged file alone, so that time stamps stay true. */
function writeIfChanged(path: string, text: string): void {
  const whole = `// Generated from packages/core/src/runtime/kernel-table.ts by the build. Do not edit.\n${text}\n`;
  try {
    if (readFileSync(path, "utf8") === whole) return;
  } catch {
    // not there yet
  }
  writeFileSync(path, whole);
}
