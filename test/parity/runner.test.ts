/** Proof that the runner fails what it should: a parity suite that passes everything would look just as green. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { init } from "spikeloom";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { runFixture } from "./runner.ts";
import { breathe, committed } from "./suite.ts";

const path = (name: string) => committed.find((file) => basename(file) === name) as string;

describe("the runner", () => {
  let scratch: string;

  beforeAll(async () => {
    await init({ device: "reference" });
    scratch = mkdtempSync(join(tmpdir(), "spikeloom-parity-"));
  });
  beforeEach(breathe);
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  type Json = Record<string, unknown>;
  /** A fixture with something changed. */
  const changed = (name: string, change: (fixture: Json) => void): string => {
    const copy = JSON.parse(readFileSync(path(name), "utf8")) as Json;
    change(copy);
    const to = join(scratch, "changed.json");
    writeFileSync(to, JSON.stringify(copy));
    return to;
  };
  it("dispatches on what a fixture says, not on its file's name", () => {
    expect(runFixture(changed("unit_mlp.json", () => {})).ok).toBe(true);
  });

  it("fails a kind or a system that it does not know", () => {
    const outcome = runFixture(changed("unit_mlp.json", (f) => Object.assign(f, { kind: "unit_other" })));
    expect(outcome.ok).toBe(false);
    expect(outcome.worst.note).toMatch(/unknown kind "unit_other"/);
    expect(runFixture(changed("unit_mlp.json", (f) => Object.assign(f, { system: "sdt-v9" }))).ok).toBe(false);
  });

  /** What is changed, in which fixture, where, and how. */
  const tampered: [string, string, (string | number)[], (value: never) => unknown][] = [
    ["a logit off by one part in 1e5", "tiny_mlp_ratio1_eval.json", ["outputs_f64", "logits", "values", 3], (v: number) => v * (1 + 1e-5)],
    ["a tap", "tiny_mlp_ratio1_eval.json", ["taps", "head_lif", "mean"], (v: number) => v + 0.01],
    ["a spike count", "tiny_mlp_ratio1_eval.json", ["hook_firing_per_step", "MS_SPS_lif", 0], (v: number) => v + 1e-3],
    ["a gradient's norm", "tiny_tet_train.json", ["grad_norms_f64", "head.weight"], (v: number) => v * 1.001],
    ["the loss", "tiny_tet_train.json", ["loss_f64"], (v: number) => v * 1.00001],
    ["a weight's shape", "unit_mlp.json", ["state_shapes", "fc1_conv.weight"], () => [32, 8, 3, 3]],
    ["the parameter count", "tiny_mlp_ratio1_eval.json", ["params"], (v: number) => v + 1],
    ["the configuration", "tiny_mlp_ratio1_eval.json", ["config", "pooling_stat"], () => "0111"],
    ["an argument's name", "tiny_mlp_ratio1_eval.json", ["config", "pooling"], () => "0011"],
  ];
  for (const [what, name, keys, change] of tampered)
    it(`fails when ${what} is changed`, () => {
      const file = changed(name, (fixture) => {
        const last = keys.at(-1) as string;
        const owner = keys.slice(0, -1).reduce<Json>((at, key) => at[key] as Json, fixture);
        owner[last] = change(owner[last] as never);
      });
      expect(runFixture(file).ok).toBe(false);
    });
});
