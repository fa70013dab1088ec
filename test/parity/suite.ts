/** The committed fixtures as tests, for one device. */
import { existsSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { type DeviceName, init } from "spikeloom";
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { fixtureFiles } from "./fixture.ts";
import { describe as line, runFixture } from "./runner.ts";

const addon = fileURLToPath(new URL("../../build/native/spikeloom.node", import.meta.url));

/** Fixture files of the repository. */
export const committed = fixtureFiles(fileURLToPath(new URL("../fixtures/parity", import.meta.url)));

/** Too long for every test run on that device: they belong to `npm run parity`. */
const LONG: Record<DeviceName, RegExp> = {
  reference: /^full_(imagenet|gesture|cifar10_2_512|cifar10dvs|15M|8_384_31M|8_512_55M_kd)|^base-1[09]m|^large-171m|^mae-tiny-base-eval/,
  wasm: /^full_(imagenet_8_(384|512)|gesture|8_384_31M|8_512_55M_kd)|^base-19m|^large-171m/,
  native: /^full_(imagenet_8_512|15M|8_384_31M|8_512_55M_kd)|^base-19m|^large-171m/,
};

export const nativeBuilt = existsSync(addon);

/** The test process answers its parent between fixtures, which run for seconds without a pause. */
export const breathe = () => new Promise<void>((resolve) => setImmediate(resolve));

export function paritySuite(device: DeviceName): void {
  describe(`parity on ${device}`, () => {
    beforeAll(async () => {
      await init({ device, native: nativeBuilt ? addon : undefined });
    });
    beforeEach(breathe);

    for (const file of committed.filter((f) => !LONG[device].test(basename(f))))
      it(basename(file), () => {
        const outcome = runFixture(file);
        expect(outcome.ok, line(outcome)).toBe(true);
        expect(outcome.checks.length).toBeGreaterThan(0);
      });
  });
}
