/** The build of the WebAssembly binary, on a file of one line: quiet where it succeeds, and telling where it does not. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, it, vi } from "vitest";
import { buildWasm } from "../kernels/build-wasm.ts";

let folder: string | undefined;

function sources(kernels: string): string {
  folder = mkdtempSync(join(tmpdir(), "spikeloom-"));
  mkdirSync(join(folder, "generated"));
  writeFileSync(join(folder, "wasm.cpp"), 'extern "C" __attribute__((visibility("default"))) int seven() { return 7; }\n');
  writeFileSync(join(folder, "kernels.cpp"), kernels);
  return folder;
}

afterEach(() => {
  vi.restoreAllMocks();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

it("prints nothing where it succeeds: no progress that reads like a download", async () => {
  const printed = [vi.spyOn(console, "log"), vi.spyOn(console, "error")];
  const binary = await buildWasm(sources("int nothing;\n"));
  expect([...binary.subarray(0, 4)]).toEqual([0, 0x61, 0x73, 0x6d]);
  for (const spy of printed) expect(spy.mock.calls).toEqual([]);
}, 60_000);

it("says what the compiler says where it fails", async () => {
  await expect(buildWasm(sources("int wrong(\n"))).rejects.toThrow(/the WebAssembly kernels do not compile:.*kernels\.cpp:.*error/s);
}, 60_000);
