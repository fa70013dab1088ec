/**
 * One runner for every parity fixture. It dispatches on what a fixture says of itself (`system`, `kind`), never on its file
 * name: a further fixture of a known kind runs with no new code.
 */
import { engineInfo, models, scope } from "spikeloom";
import { augmentChecks, dvsDataChecks, eventChecks, splitChecks } from "./checks/events.ts";
import { integerNetworkChecks } from "./checks/integer-networks.ts";
import { attentionChecks, energyChecks, firingChecks } from "./checks/measure.ts";
import { moduleChecks } from "./checks/model.ts";
import { lifChecks, plifChecks, quantiserChecks } from "./checks/neurons.ts";
import { scheduleChecks } from "./checks/schedule.ts";
import { erodeChecks, operatorChecks } from "./checks/sdsa.ts";
import * as sdtV2 from "./checks/sdt-v2.ts";
import { baseBlockChecks, energyTableChecks } from "./checks/sdt-v3.ts";
import { largeBlockChecks, maeChecks, reconstructionChecks, sparseChecks } from "./checks/sdt-v3-large.ts";
import {
  classifierLossChecks,
  distillationChecks,
  lossChecks,
  optimizerChecks,
  rateAndGroupChecks,
  trainingRuleChecks,
} from "./checks/training.ts";
import type { Check } from "./compare.ts";
import { type Fixture, readFixture } from "./fixture.ts";

export interface Outcome {
  fixture: Fixture;
  checks: Check[];
  ok: boolean;
  /** The check that came nearest to failing, or failed worst. */
  worst: Check;
  seconds: number;
}

type KindChecks = (fixture: Fixture, double: boolean) => Check[];

/** Kinds that are no module of a system, by system and kind. */
const UNITS: Readonly<Record<string, KindChecks>> = {
  "sdt-v1/unit_lif": lifChecks,
  "sdt-v1/unit_plif": plifChecks,
  "sdt-v3/unit-neuron": quantiserChecks,
  "sdt-v3/model": integerNetworkChecks,
  "sdt-v3/dvs": integerNetworkChecks,
  "sdt-v3/unit-blocks-base": baseBlockChecks,
  "sdt-v3/mae": maeChecks,
  "sdt-v3/unit-blocks-large": largeBlockChecks,
  "sdt-v3/unit-sparse": sparseChecks,
  "sdt-v3/unit-energy": energyTableChecks,
  "sdt-v3/unit-dvs-data": dvsDataChecks,
  "sdt-v1/unit_events": eventChecks,
  "sdt-v1/unit_split": splitChecks,
  "sdt-v1/unit_dvs_augment": augmentChecks,
  "sdt-v1/unit_lr_schedule": scheduleChecks,
  "sdt-v1/unit_sdsa_operator": operatorChecks,
  "sdt-v1/unit_erode": erodeChecks,
  "sdt-v1/unit_energy": energyChecks,
  "sdt-v1/unit_firing_stats": firingChecks,
  "sdt-v1/unit_attention_map": attentionChecks,
  "sdt-v1/unit_losses": lossChecks,
  "sdt-v1/unit_optimizers": optimizerChecks,
  ...Object.fromEntries(Object.keys(models.sdtV2.sdtV2.official).map((kind) => [`sdt-v2/${kind}`, sdtV2.partChecks])),
  "sdt-v2/model": sdtV2.networkChecks,
  "sdt-v2/unit_sdsa3_operator": sdtV2.operatorChecks,
  "sdt-v2/unit_distillation": distillationChecks,
  "sdt-v2/unit_lr_and_groups": rateAndGroupChecks,
  "sdt-v3/unit-losses": (fixture, double) => [...classifierLossChecks(fixture), ...reconstructionChecks(fixture, double)],
  "sdt-v3/unit-optim": trainingRuleChecks,
  "sdt-v2/unit_energy": sdtV2.energyChecks,
};

/** Kinds of one system that are modules of another. */
const OF_ANOTHER: Readonly<Record<string, readonly [system: string, kind: string]>> = {
  "sdt-v2/teacher": ["caformer", "model"],
  "sdt-v3/teacher": ["caformer", "model"],
};

/** The checks of a fixture's kind, or undefined when none is known. */
export function checksFor({ system, kind }: Fixture): KindChecks | undefined {
  const unit = UNITS[`${system}/${kind}`];
  if (unit) return unit;
  const owner = OF_ANOTHER[`${system}/${kind}`];
  if (owner) return (fixture, double) => moduleChecks({ ...fixture, system: owner[0], kind: owner[1] }, double);
  const official = models.systems.find((s) => s.name === system)?.official ?? {};
  return Object.hasOwn(official, kind) ? moduleChecks : undefined;
}

/** Run one fixture on the device in use. An unknown kind fails. */
export function runFixture(path: string): Outcome {
  const fixture = readFixture(path);
  const start = performance.now();
  let checks: Check[];
  const run = checksFor(fixture);
  if (!run) checks = [failure(`unknown kind "${fixture.kind}" of system "${fixture.system}"`)];
  else {
    try {
      checks = scope(() => run(fixture, engineInfo().device === "reference"));
      if (!checks.length) checks = [failure("nothing was compared")];
    } catch (error) {
      checks = [failure(error instanceof Error ? (process.env.SPIKELOOM_DEBUG ? `${error.stack}` : error.message) : String(error))];
    }
  }
  const ratio = (c: Check) => (c.ok ? (c.tolerance ? c.difference / c.tolerance : 0) : Number.POSITIVE_INFINITY);
  const worst = checks.reduce((a, b) => (ratio(b) > ratio(a) ? b : a));
  return { fixture, checks, ok: checks.every((c) => c.ok), worst, seconds: (performance.now() - start) / 1000 };
}

function failure(note: string): Check {
  return { what: "run", difference: Number.POSITIVE_INFINITY, tolerance: 0, flips: 0, ok: false, note };
}

/** One line: verdict, fixture, the largest difference against its tolerance, flipped spikes, number of checks. */
export function describe({ fixture, checks, ok, worst, seconds }: Outcome): string {
  const flips = checks.reduce((n, c) => n + c.flips, 0);
  const head = `${ok ? "pass" : "FAIL"}  ${fixture.system}/${fixture.kind}  ${fixture.file}  ${engineInfo().device}`;
  const failed = checks.filter((c) => !c.ok);
  const tail = `${worst.what}: ${worst.difference.toExponential(1)} (tolerance ${worst.tolerance.toExponential(1)})${worst.note ? `, ${worst.note}` : ""}; flips ${flips}; ${checks.length} checks; ${seconds.toFixed(1)} s`;
  return `${head}  ${tail}${
    failed.length > 1
      ? `; ${failed.length} failed: ${failed
          .slice(0, 4)
          .map((c) => c.what)
          .join(", ")}`
      : ""
  }`;
}
