/**
 * What `npm i spikeloom` brings: no dependencies, no install script, a size within its budget, and a quickstart (README's first
 * program) that type-checks and runs from the packed tarball in an empty folder.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Packed, pack, quickstart, root, run } from "./packed.ts";

/** Bytes of the packed tarball (gzip), WebAssembly included. */
const BUDGET = 420 * 1024;

const core = join(root, "packages/core");

describe("the packed core", () => {
  let folder: string;
  let packed: Packed;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "spikeloom-pack-"));
    packed = await pack("core", folder);
  });

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it("has no dependencies and no install script", () => {
    const manifest = JSON.parse(readFileSync(join(core, "package.json"), "utf8")) as Record<string, Record<string, string> | undefined>;
    for (const field of ["dependencies", "peerDependencies", "optionalDependencies", "bundledDependencies"])
      expect(manifest[field]).toBeUndefined();
    for (const script of ["preinstall", "install", "postinstall", "prepare"]) expect(manifest.scripts?.[script]).toBeUndefined();
  });

  it("stays within its size budget", () => {
    console.log(
      `spikeloom packs to ${(packed.size / 1024).toFixed(1)} KiB gzip (${(packed.unpackedSize / 1024).toFixed(1)} KiB unpacked) of ${BUDGET / 1024}`,
    );
    expect(packed.size).toBeLessThan(BUDGET);
    expect(packed.files.map((f) => f.path)).toContain("dist/index.js");
    expect(packed.files.map((f) => f.path)).toContain("dist/index.d.ts");
  });

  it("runs README's quickstart, type-checked, from an empty folder", async () => {
    const app = join(folder, "app");
    mkdirSync(app);
    writeFileSync(join(app, "package.json"), JSON.stringify({ name: "app", private: true, type: "module" }));
    await run("npm", ["install", "--no-audit", "--no-fund", "--offline", join(folder, packed.filename)], { cwd: app });
    writeFileSync(join(app, "quickstart.ts"), quickstart());
    writeFileSync(
      join(app, "tsconfig.json"),
      JSON.stringify({
        compilerOptions: {
          target: "ES2022",
          module: "NodeNext",
          moduleResolution: "NodeNext",
          strict: true,
          lib: ["ES2023", "DOM", "ESNext.Disposable"],
          types: [],
          outDir: "out",
          skipLibCheck: false,
        },
        include: ["quickstart.ts"],
      }),
    );
    await run(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", app], { cwd: app });
    const output = await run(process.execPath, [join(app, "out/quickstart.js")], {
      cwd: app,
      env: { ...process.env, SPIKELOOM_DEVICE: "", SPIKELOOM_NATIVE: "" },
    });
    expect(output).toMatch(/fc/);
    expect(output).toMatch(/\d+ bytes of weights/);
  });
});
