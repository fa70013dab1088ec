/** Fixtures of the official training's learning rates: timm's cosine schedule with warm-up, by epoch. */
import { optim } from "spikeloom";
import { type Check, check, relative } from "../compare.ts";
import type { Fixture } from "../fixture.ts";

interface OfficialSchedule {
  lr: number;
  min_lr: number;
  warmup_lr: number;
  warmup_epochs: number;
  epochs: number;
  lr_at_epoch: Record<string, number>;
}

export function scheduleChecks(fixture: Fixture): Check[] {
  return Object.entries(fixture.configs as Record<string, OfficialSchedule>).map(([name, c]) => {
    const schedule: optim.Schedule = {
      name: "cosine",
      lr: c.lr,
      epochs: c.epochs,
      minLr: c.min_lr,
      warmupEpochs: c.warmup_epochs,
      warmupLr: c.warmup_lr,
    };
    const differences = Object.entries(c.lr_at_epoch).map(([epoch, rate]) => relative([optim.lrAt(schedule, Number(epoch))], [rate]));
    // Rates are stored with nine digits.
    return check(name, Math.max(...differences), 5e-9);
  });
}
