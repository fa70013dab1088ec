/** `train --profile`: the trace and the list of kernels, that the run stays the same, and what wrong flags are told. */
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { parseSteps } from "../src/profile.ts";
import { fails, folder, smallMnist, smallRecipe, spikeloom } from "./support.ts";

let recipe: string;
let plain: string;

interface Event {
  name: string;
  cat?: string;
  ph: string;
  ts: number;
  dur: number;
}

const events = (file: string): Event[] => JSON.parse(readFileSync(file, "utf8")).traceEvents;

beforeAll(async () => {
  recipe = smallRecipe(smallMnist());
  plain = join(folder(), "plain");
  expect((await spikeloom("train", recipe, "--out", plain)).code).toBe(0);
});

describe("train --profile", () => {
  it("writes a trace of the steps asked for into the run's folder and prints the slowest kernels; the run stays the same", async () => {
    const out = join(folder(), "run");
    const { code, err } = await spikeloom("train", recipe, "--out", out, "--profile", "--profile-steps", "7..9");
    expect(code).toBe(0);
    const bars = events(join(out, "trace.json")).filter((e) => e.ph === "X");
    const steps = bars.filter((e) => e.cat === "step");
    // The run has 8 steps; the test after them belongs to none.
    expect(steps.map((e) => e.name)).toEqual(["step 7", "step 8"]);
    const kernels = bars.filter((e) => e.cat === "kernel");
    for (const { ts, dur } of kernels) expect(steps.some((s) => ts >= s.ts - 0.002 && ts + dur <= s.ts + s.dur + 0.002)).toBe(true);
    const within = ({ ts, dur }: Event, name: string) => kernels.filter((k) => k.name === name && k.ts >= ts && k.ts < ts + dur).length;
    const [seventh, eighth] = steps as [Event, Event];
    for (const name of ["spike_conv2d", "spike_conv2d_grad_weight", "neuron_forward", "adamw"]) {
      expect(within(seventh, name), name).toBeGreaterThan(0);
      expect(within(eighth, name), name).toBe(within(seventh, name));
    }
    const table = err.slice(err.indexOf("kernel "));
    expect(table.split("\n").slice(0, 2).join("\n")).toMatch(/^kernel +shape +implementation +calls +ms +share +bytes\/s\n-+/);
    expect(table).toMatch(/\n\S+ .* \d+\.\d\d +\d+\.\d % +[\d.]+ [KMG]iB\n/);
    // With the other kernels and what is no kernel the shares are the whole, but for their rounding.
    expect(table).toMatch(/\n\d+ others .*\noutside kernels +\d+\.\d\d +\d+\.\d %\nprofile/);
    const shares = [...table.matchAll(/ (\d+\.\d) %/g)].map(([, share]) => Number(share));
    expect(shares.length).toBe(12);
    expect(Math.abs(shares.reduce((a, b) => a + b) - 100)).toBeLessThanOrEqual(0.6);
    expect(table).toContain("profile of 2 steps of ");
    for (const name of ["model.safetensors", "best.safetensors"])
      expect(readFileSync(join(out, name)).equals(readFileSync(join(plain, name))), name).toBe(true);
    expect(readdirSync(out).sort()).toEqual([...readdirSync(plain), "trace.json"].sort());
  });

  it("writes to a file, with --json as an event; a run that ends too early says so and leaves no file", async () => {
    const file = join(folder(), "profile.json");
    const out = join(folder(), "run");
    const first = await spikeloom("train", recipe, "--out", out, `--profile=${file}`, "--profile-steps=2", "--json");
    expect(first.code).toBe(0);
    const event = first.out
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line))
      .find((e) => e.type === "profile");
    expect(event).toMatchObject({ file, steps: 1, stepMs: expect.any(Number) });
    expect(event.kernels.length).toBe(10);
    expect(event.others.kernels).toBeGreaterThan(0);
    const parts = [...event.kernels, event.others, event.outside].map(({ share }: { share: number }) => share);
    expect(parts.reduce((a, b) => a + b)).toBeCloseTo(1, 9);
    expect(
      events(file)
        .filter((e) => e.cat === "step")
        .map((e) => e.name),
    ).toEqual(["step 2"]);
    const none = join(folder(), "none.json");
    const second = await spikeloom("train", recipe, "--out", join(folder(), "run"), "--profile", none, "--profile-steps", "9..10");
    expect(second.code).toBe(0);
    expect(second.err).toContain("the run ended before step 9; nothing was recorded");
    expect(existsSync(none)).toBe(false);
  });

  it("refuses flags that make no sense before anything runs", async () => {
    const out = join(folder(), "run");
    const train = (...more: string[]) => fails("train", ...more, "--out", out);
    expect(await train("--profile", recipe)).toMatch(
      /--profile: the trace is a \.json file, found ".*yml"\. Give the recipe before --profile/,
    );
    expect(await train(recipe, "--profile-steps", "3..4")).toMatch(/--profile-steps chooses the steps of --profile/);
    const place = join(folder(), "folder.json");
    mkdirSync(place);
    expect(await train(recipe, "--profile", place)).toMatch(/--profile: cannot write .*folder\.json/);
    const nowhere = join(folder(), "nonexist");
    expect(await train(recipe, "--profile", join(nowhere, "dir", "tr.json"))).toContain(
      `--profile: cannot write ${join(nowhere, "dir", "tr.json")}: there is no folder ${join(nowhere, "dir")}. Make it, or choose another file`,
    );
    expect(existsSync(nowhere)).toBe(false);
    for (const wrong of ["0", "5..4", "a", "1..", "-3"]) {
      const { code, err } = await spikeloom("train", recipe, "--out", out, "--profile", `--profile-steps=${wrong}`);
      expect(code).not.toBe(0);
      expect(err).toMatch(/Expected a step from 1 on/);
    }
    expect(existsSync(out)).toBe(false);
  });
});

it("reads steps", () => {
  expect(parseSteps("3..12")).toEqual({ first: 3, last: 12 });
  expect(parseSteps(" 4 - 6 ")).toEqual({ first: 4, last: 6 });
  expect(parseSteps("5")).toEqual({ first: 5, last: 5 });
});
