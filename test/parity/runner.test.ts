/** Proof that the runner fails what it should: a parity suite that passes everything would look just as green. */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type DeviceName, init } from "spikeloom";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { describe as line, runFixture } from "./runner.ts";
import { breathe, committed } from "./suite.ts";

const path = (name: string) => committed.find((file) => basename(file) === `${name}.json`) as string;

// biome-ignore lint/suspicious/noExplicitAny: a fixture of any kind
type Json = any;

const scratch = mkdtempSync(join(tmpdir(), "spikeloom-parity-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
beforeEach(breathe);

/** A fixture with something changed. */
function changed(name: string, change: (fixture: Json) => void, file = "changed.json"): string {
  const copy = JSON.parse(readFileSync(path(name), "utf8")) as Json;
  change(copy);
  const to = join(scratch, file);
  writeFileSync(to, JSON.stringify(copy));
  return to;
}

/** Give a stored string of bits another bit at `at`. */
const flipped = (bits: string, at: number) => bits.slice(0, at) + (bits[at] === "0" ? "1" : "0") + bits.slice(at + 1);
/** Change the value at a place by `factor`, or, where it is a string of bits, flip one. */
const alter =
  (keys: string, factor = 1) =>
  (fixture: Json) => {
    const place = keys.split("/");
    const last = place.pop() as string;
    const owner = place.reduce((at, key) => at[key], fixture);
    owner[last] = typeof owner[last] === "string" ? flipped(owner[last], 7) : owner[last] * factor + (factor === 1 ? 1 : 0);
  };

/** On a device: which fixture, which value is changed and by which factor (1: one is added), and the only check that then fails. */
type Tampered = [name: string, keys: string, factor: number, fails: string];

const PARTS: Tampered[] = [
  ["unit_lif", "cases/soft_reset/spikes/bits", 1, "soft_reset spikes"],
  ["unit_lif", "cases/soft_reset/H/values/5", 1 + 1e-4, "soft_reset H"],
  ["unit_plif", "cases/w_pos/grad_w", 1.001, "w_pos grad w"],
  ["unit_sdsa_operator", "version_2_code/out/bits", 1, "version 2 out"],
  ["unit_sdsa_operator", "version_1_paper/mask/bits", 1, "version 1 mask"],
  ["unit_erode", "outputs/y/values/3", 1.001, "y"],
  ["unit_sdsa", "grad_x/values/9", 1, "grad x"],
  ["unit_sdsa", "grads/q_bn.weight/values/2", 1, "grad q_bn.weight"],
  ["unit_sdsa_dvs", "outputs/v_returned/bits", 1, "v_returned"],
  ["unit_mlp", "outputs/y/values/9", 1, "y"],
  ["unit_mlp_res", "hooks/MS_MLP_Conv0_fc2_lif/bits", 1, "tap MS_MLP_Conv0_fc2_lif"],
  ["unit_sps", "cases_by_pooling_stat/0111/out/values/2", 1, "0111 out"],
  ["unit_losses", "cases/TET soft_target(mixup) lamb=0.001 means=1.0/loss", 1 + 1e-5, "TET soft_target(mixup) lamb=0.001 means=1.0: loss"],
  ["unit_losses", "cases/ce on mean over T/grad/values/3", 1.001, "ce on mean over T: gradient"],
  ["unit_optimizers", "params_after_each_step/lamb lr=1e-2 wd=0.01/3/w/values/5", 1 + 1e-4, "lamb lr=1e-2 wd=0.01: w after step 4"],
  ["unit_events", "cases/duration_1000/frames/nonzero/3/4", 1, "duration_1000 frames"],
  ["unit_events", "cases/time_4/j_r/1", 1, "time_4 last events"],
  ["unit_events", "aedat2_cifar10dvs/decoded/x/3", 1, "CIFAR10-DVS x"],
  ["unit_events", "aedat3_gesture/decoded/t/6", 1, "DVS128 Gesture t"],
  ["unit_events", "resize_half/output/values/1", 1.001, "half size"],
  ["unit_split", "outputs/test/0", 1, "test"],
  ["unit_dvs_augment", "outputs_frame0/Rotate 30.0/values/9", 1, "Rotate 30.0"],
  ["unit_dvs_augment", "magnitude_bins/ShearX/values/9", 1 + 1e-6, "ShearX magnitudes"],
  ["unit_dvs_augment", "cutout/zeroed_y0x0y1x1/2", 1, "cutout"],
  ["unit_dvs_augment", "roll_2_-3_frame0/values/5", 1, "roll"],
  ["unit_lr_schedule", "configs/cifar10/2_256_300E_t4.yml/lr_at_epoch/50", 1 + 1e-6, "cifar10/2_256_300E_t4.yml"],
];
const NETWORKS: Record<"reference" | "wasm", Tampered[]> = {
  reference: [
    ["tiny_mlp_ratio1_eval", "outputs_f64/logits/values/3", 1 + 1e-5, "logits"],
    ["tiny_tet_train", "grad_norms_f64/head.weight", 1.001, "grad norm head.weight"],
    ["tiny_tet_train", "loss_f64", 1.00001, "loss"],
  ],
  wasm: [
    ["tiny_lif_eval", "outputs/logits/values/3", 1.0005, "logits"],
    ["tiny_lif_eval", "taps/block.0.attn.q_lif/spike_count", 1, "tap block.0.attn.q_lif"],
    ["tiny_lif_eval", "hook_firing_per_step/MS_SSA_Conv1_kv/3", 1.05, "spike counts of MS_SSA_Conv1_kv"],
    ["tiny_plif_eval", "hook_firing_per_step/MS_SPS_lif/1", 1.001, "spike counts of MS_SPS_lif"],
    ["tiny_lif_train", "loss", 1.00001, "loss"],
    ["tiny_lif_train", "grad_norms/head.weight", 1.001, "grad norm head.weight"],
    ["tiny_plif_train", "bn_after/patch_embed.proj_bn1/running_var/values/0", 1, "patch_embed.proj_bn1.running_var"],
    ["tiny_dvs_tet_eval", "params", 1, "parameter count"],
  ],
};

describe.each(["reference", "wasm"] as const)("the runner on %s", (device: DeviceName) => {
  beforeAll(async () => void (await init({ device, threads: 2 })));

  it("dispatches on what a fixture says, not on its file's name", () => {
    expect(runFixture(changed("unit_mlp", () => {})).ok).toBe(true);
  });

  it.each([...PARTS, ...NETWORKS[device as "wasm"]])("fails %s when %s is changed", (name, keys, factor, fails) => {
    // A key may have slashes of its own.
    const change = keys.startsWith("configs/") ? (f: Json) => (f.configs[fails].lr_at_epoch["50"] *= factor) : alter(keys, factor);
    const { checks } = runFixture(changed(name, change));
    expect(checks.flatMap((c) => (c.ok ? [] : [c.what]))).toEqual([fails]);
  });
});

describe("the runner fails", () => {
  beforeAll(async () => void (await init({ device: "wasm", threads: 2 })));

  it.each<[string, (fixture: Json) => void]>([
    ["a weight's shape", (f) => f.state_shapes["block.0.mlp.fc2_conv.weight"].reverse()],
    ["a key too many", (f) => (f.state_shapes["block.0.extra"] = [3])],
    ["a key too few", (f) => delete f.state_shapes["head.bias"]],
    ["the depth", (f) => (f.config.depths += 1)],
    ["the fill rule's gain", (f) => (f.fill.gain = (f.fill.gain ?? 2) * 1.01)],
    ["the input's name, which fills it", (f) => (f.inputs.x.name = "another")],
    ["the pooling", (f) => (f.config.pooling_stat = "0111")],
  ])("when %s is changed", (_, change) => {
    expect(runFixture(changed("tiny_mlp_ratio1_eval", change)).ok).toBe(false);
  });

  it.each<[string, (fixture: Json) => void, string]>([
    ["a kind", (f) => (f.kind = "unit_other"), 'unknown kind "unit_other" of system "sdt-v1"'],
    ["a kind that every object has", (f) => (f.kind = "toString"), 'unknown kind "toString" of system "sdt-v1"'],
    ["a system", (f) => (f.system = "sdt-v9"), 'unknown kind "unit_mlp" of system "sdt-v9"'],
  ])("%s that it does not know", (_, change, message) => {
    const outcome = runFixture(changed("unit_mlp", change));
    expect([outcome.ok, outcome.checks.length]).toEqual([false, 1]);
    expect(line(outcome)).toMatch(/^FAIL {2}/);
    expect(line(outcome)).toContain(message);
  });

  it("an argument that the official code does not have", () => {
    const outcome = runFixture(changed("tiny_mlp_ratio1_eval", (f) => (f.config.embed_dim = 64)));
    expect(line(outcome)).toMatch(/^FAIL .*unknown key "embed_dim", did you mean "embed_dims"\?/);
  });
});

describe("npm run parity", () => {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const run = (...args: string[]) =>
    new Promise<{ code: number; out: string; err: string }>((resolve) => {
      const env = { ...process.env, TSX_TSCONFIG_PATH: join(root, "tsconfig.json") };
      execFile(process.execPath, ["--import", "tsx", join(root, "test/parity/cli.ts"), ...args], { cwd: root, env }, (error, out, err) =>
        resolve({ code: error ? Number(error.code) : 0, out, err }),
      );
    });

  it("prints a line for each fixture and exits 1 on any failure", async () => {
    const good = changed("unit_lif", () => {}, "a.json");
    const bad = changed("unit_lif", (f) => (f.kind = "unit_fil"), "b.json");
    const passed = await run(good, "--device", "wasm");
    expect(passed.out).toMatch(
      /^pass {2}sdt-v1\/unit_lif {2}a\.json {2}wasm .*: \S+e-\d+ \(tolerance 1\.0e-6\); flips 0; 34 checks; [\d.]+ s\n1 passed, 0 failed\n$/,
    );
    expect([passed.code, passed.err]).toEqual([0, ""]);
    const failed = await run(good, bad, "--device", "wasm");
    expect(failed.code).toBe(1);
    expect(failed.out).toMatch(/^FAIL {2}sdt-v1\/unit_fil {2}b\.json .*unknown kind "unit_fil"/m);
    expect(failed.out).toMatch(/\n1 passed, 1 failed\n$/);
  });

  it("says what is wrong with its arguments", async () => {
    const none = join(scratch, "none");
    expect(await run(none)).toMatchObject({ code: 1, err: `parity: no such file or folder: ${none}\n` });
    expect((await run(scratch, "--devise", "wasm")).err).toMatch(/Unknown option '--devise'/);
  });
});
