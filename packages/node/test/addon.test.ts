/** The native addon: which file is taken, and what is said where it cannot be built. */
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, it, vi } from "vitest";
import { addonIsas, addonTarget, buildAddon, findAddon } from "../src/addon.ts";
import { cloneRoot, userCache } from "../src/paths.ts";
import { versions } from "../src/versions.ts";

afterEach(() => vi.unstubAllEnvs());

const folder = () => mkdtempSync(join(tmpdir(), "spikeloom-addon-"));

it("is the one that SPIKELOOM_NATIVE names, which must exist", () => {
  const path = join(folder(), "mine.node");
  vi.stubEnv("SPIKELOOM_NATIVE", path);
  expect(() => findAddon()).toThrow(`SPIKELOOM_NATIVE: there is no file ${path}`);
  // Another device needs none: a stale variable is in nobody's way.
  expect(findAddon("wasm")).toBeUndefined();
  expect(() => findAddon("native")).toThrow("there is no file");
  writeFileSync(path, "");
  expect(findAddon()).toBe(path);
});

it("belongs into the clone's build folder, where this is a clone", () => {
  expect(addonTarget()).toBe(join(cloneRoot() as string, "build/native/spikeloom.node"));
});

it("is found in the user's cache by version and processor, for every Node", async () => {
  const cache = folder();
  vi.stubEnv("SPIKELOOM_NATIVE", "");
  vi.stubEnv("XDG_CACHE_HOME", cache);
  const own = join(cache, "spikeloom", `${versions()["@spikeloom/cli"]}-${process.platform}-${process.arch}`);
  mkdirSync(own, { recursive: true });
  writeFileSync(join(own, "spikeloom.node"), "");
  vi.resetModules();
  vi.doMock("../src/paths.ts", () => ({
    userCache,
    packageRoot: join(cloneRoot() as string, "packages/node"),
    cloneRoot: () => undefined,
  }));
  const installed = await import("../src/addon.ts");
  expect(installed.addonTarget()).toBe(join(own, "spikeloom.node"));
  expect(installed.findAddon()).toBe(join(own, "spikeloom.node"));
  vi.stubEnv("XDG_CACHE_HOME", folder());
  expect(installed.findAddon()).toBeUndefined();
  vi.doUnmock("../src/paths.ts");
});

it("that does not load says so", () => {
  const path = join(folder(), "broken.node");
  writeFileSync(path, "no library");
  expect(() => addonIsas(path)).toThrow(/native addon .*broken\.node does not load: .*Build it anew: npx spikeloom native build/s);
});

it("cannot be built without a compiler, which says what to install", async () => {
  vi.stubEnv("CXX", "");
  vi.stubEnv("PATH", folder());
  await expect(buildAddon(join(folder(), "a.node"))).rejects.toThrow(/no C\+\+ compiler found .*apt-get install g\+\+/);
});
