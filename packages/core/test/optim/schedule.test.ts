// Learning-rate schedules against tables worked out by hand. (The official training's own are a parity fixture.)
import { expect, it } from "vitest";
import { lrAt, type Schedule, totalEpochs } from "../../src/optim/schedule.ts";

const TABLES: [Schedule, [number, number][]][] = [
  [
    { name: "constant", lr: 0.2, epochs: 3 },
    [
      [0, 0.2],
      [1.7, 0.2],
      [9, 0.2],
    ],
  ],
  [
    { name: "constant", lr: 0.2, epochs: 9, warmupEpochs: 4, warmupLr: 0.04 },
    [
      [0, 0.04],
      [1, 0.08],
      [2.5, 0.14],
      [4, 0.2],
      [8, 0.2],
    ],
  ],
  [
    { name: "cosine", lr: 1, epochs: 6 },
    [
      [0, 1],
      [1, (2 + Math.sqrt(3)) / 4],
      [2, 0.75],
      [3, 0.5],
      [4.5, (2 - Math.SQRT2) / 4],
      [6, 0],
      [7, 0],
    ],
  ],
  // Unless it is: half way between the end of the warm-up and E.
  [
    { name: "cosine", lr: 1, epochs: 6, minLr: 0.2, warmupEpochs: 2, warmupPrefix: true },
    [
      [1, 0.5],
      [2, 1],
      [4, 0.6],
      [6, 0.2],
      [100, 0.2],
    ],
  ],
  [
    { name: "multistep", lr: 1, epochs: 9, milestones: [2], decayRate: 0.5, warmupEpochs: 2, warmupPrefix: true },
    [
      [2, 1],
      [3.9, 1],
      [4, 0.5],
    ],
  ],
  // Warm-up is not taken off the decay: at 3 the cosine is half way.
  [
    { name: "cosine", lr: 1, epochs: 6, minLr: 0.2, warmupEpochs: 2 },
    [
      [0, 0],
      [1, 0.5],
      [2, 0.8],
      [3, 0.6],
      [6, 0.2],
      [100, 0.2],
    ],
  ],
  [
    { name: "linear", lr: 1, epochs: 4, minLr: 0.2 },
    [
      [0, 1],
      [1, 0.8],
      [2.5, 0.5],
      [4, 0.2],
      [5, 0.2],
    ],
  ],
  [
    { name: "linear", lr: 1, epochs: 4, warmupEpochs: 1, warmupLr: 0.1 },
    [
      [0, 0.1],
      [0.5, 0.55],
      [1, 0.75],
      [3, 0.25],
      [4, 0],
    ],
  ],
  [
    { name: "step", lr: 1, epochs: 9, decayEpochs: 2, decayRate: 0.5, minLr: 0.2 },
    [
      [0, 1],
      [1.99, 1],
      [2, 0.5],
      [3.5, 0.5],
      [4, 0.25],
      [6, 0.2],
      [50, 0.2],
    ],
  ],
  [
    { name: "step", lr: 0.3, epochs: 90 },
    [
      [29, 0.3],
      [30, 0.03],
      [60, 0.003],
    ],
  ],
  [
    { name: "polynomial", lr: 1, epochs: 4, minLr: 0.2, power: 2, cooldownEpochs: 2 },
    [
      [0, 1],
      [1, 0.65],
      [2, 0.4],
      [3.5, 0.2125],
      [4, 0.2],
      [6, 0.2],
    ],
  ],
  [
    { name: "polynomial", lr: 1, epochs: 4, warmupEpochs: 1 },
    [
      [0.5, 0.5],
      [1, 0.75],
      [3, 0.25],
    ],
  ],
  [
    { name: "multistep", lr: 1, epochs: 9, milestones: [2, 3.5, 6], decayRate: 0.5, minLr: 0.2 },
    [
      [0, 1],
      [1.99, 1],
      [2, 0.5],
      [3.5, 0.25],
      [6, 0.2],
      [20, 0.2],
    ],
  ],
];

it.each(TABLES)("%o", (schedule, table) => {
  for (const [t, rate] of table) expect(lrAt(schedule, t), `t = ${t}`).toBeCloseTo(rate, 14);
});

it("cool-down is at the end's rate, and counts among the epochs to train", () => {
  const schedule: Schedule = { name: "cosine", lr: 1, epochs: 300, minLr: 0.01, cooldownEpochs: 10 };
  expect(totalEpochs(schedule)).toBe(310);
  expect(totalEpochs({ name: "constant", lr: 1, epochs: 5 })).toBe(5);
  for (let t = 300; t < totalEpochs(schedule); t++) expect(lrAt(schedule, t)).toBe(0.01);
});

it("an unknown name is refused", () => {
  const names = "(one of constant, cosine, step, multistep, linear, polynomial)";
  expect(() => lrAt({ name: "cosin" as "cosine", lr: 1, epochs: 1 }, 0)).toThrow(
    `schedule: unknown name "cosin", did you mean "cosine"? ${names}`,
  );
  expect(() => lrAt({ name: "x" as "cosine", lr: 1, epochs: 1 }, 0)).toThrow(`schedule: unknown name "x" ${names}`);
});
