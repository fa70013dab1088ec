/** A fixture repeated with the command alone: weights and input in files, outputs and taps compared with what the fixture holds. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { npy, npz, safetensors } from "spikeloom";
import { afterAll, expect, it, vi } from "vitest";
import { main } from "../../packages/node/src/program.ts";
import { type Check, compare } from "./compare.ts";
import { filledState, inputArrays, type NdArray, readFixture, type Stored } from "./fixture.ts";
import { breathe, committed } from "./suite.ts";

const dir = mkdtempSync(join(tmpdir(), "spikeloom-run-"));
afterAll(() => rmSync(dir, { recursive: true }));

/** Run the command and read what it wrote. */
async function run(
  name: string,
  file: string,
  device: string,
  weights: "safetensors" | "npz",
): Promise<{ checks: Check[]; outputs: Map<string, NdArray> }> {
  const fixture = readFixture(committed.find((path) => basename(path) === `${file}.json`) as string);
  const at = (end: string) => join(dir, `${file}.${end}`);
  const state = filledState(fixture);
  writeFileSync(at(weights), weights === "npz" ? await npz.encode(state) : safetensors.encode(state));
  writeFileSync(at("npy"), npy.encode(inputArrays(fixture).get("x") as NdArray));
  const printed = vi.spyOn(console, "log").mockImplementation(() => undefined);
  const errors: string[] = [];
  const args = [
    "--model",
    name,
    "--config",
    JSON.stringify(fixture.config),
    "--weights",
    at(weights),
    "--input",
    at("npy"),
    "--output",
    at("out.npz"),
    "--taps",
    "--device",
    device,
  ];
  const code = await main(["run", ...args], { err: (text) => errors.push(text) });
  printed.mockRestore();
  expect({ code, errors }).toEqual({ code: 0, errors: [] });
  const outputs = await npz.decode(new Uint8Array(readFileSync(at("out.npz"))));
  const double = device === "reference";
  const expected = Object.entries({
    ...(double ? (fixture.outputs_f64 ?? fixture.outputs) : fixture.outputs),
    ...fixture.taps,
    ...(fixture.hooks as Record<string, Stored> | undefined),
  });
  return {
    checks: expected.map(([key, stored]) => compare(key, outputs.get(key), stored, double && fixture.outputs_f64?.[key] ? 1e-6 : 1e-5)),
    outputs,
  };
}

it.each([
  ["sdt-v1", "tiny_lif_eval", "wasm", "safetensors"],
  ["sdt-v1", "tiny_lif_eval", "reference", "npz"],
  ["sdt-v1/model", "tiny_plif_eval", "wasm", "npz"],
  ["sdt-v1", "tiny_dvs_tet_eval", "wasm", "safetensors"],
  ["sdt-v1/unit_sdsa", "unit_sdsa", "wasm", "safetensors"],
  ["sdt-v1/unit_mlp_res", "unit_mlp_res", "wasm", "npz"],
  ["sdt-v2", "tiny_T1_eval", "wasm", "safetensors"],
] as const)("%s: %s on %s, weights as %s", async (name, file, device, weights) => {
  await breathe();
  const { checks, outputs } = await run(name, file, device, weights);
  expect(checks.filter((c) => !c.ok)).toEqual([]);
  expect(checks.length).toBeGreaterThan(1);
  // What was computed in float64 is written as such.
  const [first] = outputs.values();
  expect(first?.dtype).toBe(device === "reference" ? "f64" : "f32");
});
