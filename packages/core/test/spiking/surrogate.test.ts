// Every surrogate of the table against numbers computed by the libraries' own formulas (Python, float64), on every device: an IF
// neuron with threshold 0 and one step has the derivative itself as its gradient.
import { describe, expect, test } from "vitest";
import { IF } from "../../src/spiking/neurons.ts";
import {
  defineSurrogate,
  openWindow,
  type Surrogate,
  type SurrogateMaker,
  snntorch,
  spikingjelly,
  surrogates,
} from "../../src/spiking/surrogate.ts";
import { scope } from "../../src/tensor/scope.ts";
import { backward } from "../../src/tensor/tape.ts";
import { ones, type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { close, compiled, leaf, on } from "../tensor/support.ts";

const U = [-2.5, -1, -0.375, -0.0625, 0, 0.0625, 0.375, 1, 2.5];

/** Name, parameters, derivatives at U. */
const TABLE: [string, Record<string, number>, number[]][] = [
  ["spikingjelly.piecewiseQuadratic", { alpha: 1.5 }, [0, 0, 0.65625, 1.359375, 1.5, 1.359375, 0.65625, 0, 0]],
  [
    "spikingjelly.piecewiseExp",
    { alpha: 1 },
    [0.0410424993119, 0.183939720586, 0.343644639395, 0.469706531407, 0.5, 0.469706531407, 0.343644639395, 0.183939720586, 0.0410424993119],
  ],
  [
    "spikingjelly.sigmoid",
    { alpha: 4 },
    [
      0.000181583230944, 0.0706508248532, 0.596585808281, 0.98453633095, 1, 0.98453633095, 0.596585808281, 0.0706508248532,
      0.000181583230944,
    ],
  ],
  [
    "spikingjelly.softSign",
    { alpha: 2 },
    [0.0277777777778, 0.111111111111, 0.326530612245, 0.79012345679, 1, 0.79012345679, 0.326530612245, 0.111111111111, 0.0277777777778],
  ],
  [
    "spikingjelly.superSpike",
    { alpha: 3 },
    [0.244897959184, 0.75, 1.5867768595, 2.65743944637, 3, 2.65743944637, 1.5867768595, 0.75, 0.244897959184],
  ],
  [
    "spikingjelly.atan",
    { alpha: 2 },
    [0.0159527727716, 0.0919996683504, 0.418775705064, 0.96287802653, 1, 0.96287802653, 0.418775705064, 0.0919996683504, 0.0159527727716],
  ],
  [
    "spikingjelly.nonzeroSignLogAbs",
    { alpha: 2 },
    [0.333333333333, 0.666666666667, 1.14285714286, 1.77777777778, 2, 1.77777777778, 1.14285714286, 0.666666666667, 0.333333333333],
  ],
  [
    "spikingjelly.erf",
    { alpha: 2 },
    [
      1.5670866531e-11, 0.0206669853541, 0.642931069195, 1.1108852696, 1.1283791671, 1.1108852696, 0.642931069195, 0.0206669853541,
      1.5670866531e-11,
    ],
  ],
  ["spikingjelly.piecewiseLeakyReLU", { w: 0.5, c: 0.01 }, [0.01, 0.01, 1, 1, 1, 1, 1, 0.01, 0.01]],
  [
    "spikingjelly.squarewaveFourierSeries",
    { n: 4, tPeriod: 8 },
    [-0.191341716183, -0.353553390593, 0.844675380113, 1.47900160968, 1.5, 1.47900160968, 0.844675380113, -0.353553390593, -0.191341716183],
  ],
  [
    "spikingjelly.s2nn",
    { alpha: 4, beta: 1.5 },
    [0.000181583230944, 0.0706508248532, 0.596585808281, 0.98453633095, 1.5, 1.41176470588, 1.09090909091, 0.75, 0.428571428571],
  ],
  [
    "spikingjelly.qPseudoSpike",
    { alpha: 2.5 },
    [0.0255826044541, 0.120242510946, 0.362887369301, 0.81864334253, 1, 0.81864334253, 0.362887369301, 0.120242510946, 0.0255826044541],
  ],
  ["spikingjelly.leakyKReLU", { leak: 0.2, k: 1.5 }, [0.2, 0.2, 0.2, 0.2, 1.5, 1.5, 1.5, 1.5, 1.5]],
  ["spikingjelly.fakeNumericalGradient", { alpha: 0.75 }, [0.4, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.4]],
  ["spikingjelly.logTailedReLU", { alpha: 0.1 }, [0.1, 0.1, 0.1, 0.1, 0.1, 1, 1, 1, 0.4]],
  ["spikingjelly.deterministicPass", {}, [1, 1, 1, 1, 1, 1, 1, 1, 1]],
  ["spikingjelly.rect", { alpha: 0.5 }, [0, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 0, 0]],
  ["spikingjelly.multiLevelSpikeCount", { lo: -1, hi: 1 }, [0, 1, 1, 1, 1, 1, 1, 1, 0]],
  [
    "snntorch.atan",
    { alpha: 2 },
    [0.0159527727716, 0.0919996683504, 0.418775705064, 0.96287802653, 1, 0.96287802653, 0.418775705064, 0.0919996683504, 0.0159527727716],
  ],
  [
    "snntorch.fastSigmoid",
    { slope: 25 },
    [
      0.000248000496001, 0.00147928994083, 0.00929017273915, 0.152290303391, 1, 0.152290303391, 0.00929017273915, 0.00147928994083,
      0.000248000496001,
    ],
  ],
  [
    "snntorch.sigmoid",
    { slope: 25 },
    [
      1.79694543477e-26, 3.47198596614e-10, 0.00212009622027, 3.58148509038, 6.25, 3.58148509038, 0.00212009622027, 3.47198596614e-10,
      1.79694543477e-26,
    ],
  ],
  ["snntorch.triangular", { threshold: 0.5 }, [0.5, 0.5, 0.5, 0.5, -0.5, -0.5, -0.5, -0.5, -0.5]],
  ["snntorch.straightThroughEstimator", {}, [1, 1, 1, 1, 1, 1, 1, 1, 1]],
  ["snntorch.heaviside", {}, [0, 0, 0, 0, 0, 1, 1, 1, 1]],
  [
    "snntorch.spikeRateEscape",
    { beta: 2, slope: 5 },
    [0.00455940982777, 0.0915781944437, 0.319639306034, 0.597164841334, 0.676676416183, 0.766774834225, 1.4325239843, 5, 0.248935341839],
  ],
  ["snntorch.lso", { slope: 0.1 }, [0.1, 0.1, 0.1, 0.1, 0.1, 1, 1, 1, 1]],
  ["snntorch.sfs", { slope: 4, b: 0.25 }, [0, 0, 0, 0, 0, 0, 0.16, 0.04, 0.00826446280992]],
  ["openWindow", { lo: -1, hi: 1 }, [0, 0, 1, 1, 1, 1, 1, 0, 0]],
];

const makers = new Map<string, SurrogateMaker<string>>(
  [...Object.values(spikingjelly), ...Object.values(snntorch), openWindow].map((make) => [
    make.record.name,
    make as SurrogateMaker<string>,
  ]),
);

/** Derivatives of `surrogate` at U, by the neuron's backward. */
function derivatives(surrogate: Surrogate): number[] {
  return scope(() => {
    const x = leaf(tensor(Float64Array.from(U), [1, U.length]));
    const y = new IF({ vThreshold: 0, surrogate }).forward(x);
    backward(y, { gradient: ones(y.shape) });
    return [...(x.grad as Tensor).dataSync()];
  });
}

for (const device of ["reference", ...compiled] as const)
  describe(device, () => {
    test.each(TABLE)("%s", async (name, parameters, expected) => {
      await on(device);
      const make = makers.get(name) as SurrogateMaker<string>;
      close(derivatives(make(parameters)), expected, device === "reference" ? 1e-11 : 5e-6, name);
    });

    test("a user-defined surrogate is its formula", async () => {
      await on(device);
      const triangle = defineSurrogate({
        name: "triangle",
        parameters: { width: 1 },
        derivative: (u, { width }) => u.abs().div(width).neg().add(1).max(0),
      });
      close(
        derivatives(triangle({ width: 2 })),
        U.map((u) => Math.max(0, 1 - Math.abs(u) / 2)),
        1e-6,
      );
      const constant = defineSurrogate({ name: "constant", derivative: () => 0.5 });
      close(
        derivatives(constant()),
        U.map(() => 0.5),
        0,
      );
      const identity = defineSurrogate({ name: "identity", derivative: (u) => u });
      close(derivatives(identity()), U, 0);
    });
  });

test("the table tests every record, and each says where it comes from", () => {
  expect(TABLE.map(([name]) => name).sort()).toEqual(surrogates.map((r) => r.name).sort());
  for (const record of surrogates) expect(`${record.derivative} ${record.source}`).toMatch(/\S+ \S+/);
});

test("defaults are the libraries'", () => {
  expect(spikingjelly.sigmoid().parameters).toEqual({ alpha: 4 });
  expect(spikingjelly.atan().parameters).toEqual({ alpha: 2 });
  expect(snntorch.fastSigmoid().parameters).toEqual({ slope: 25 });
  expect(snntorch.sfs({ slope: 3 }).parameters).toEqual({ slope: 3, b: 1 });
});

test("wrong parameters name the surrogate and the nearest right one", () => {
  expect(() => spikingjelly.atan({ alphas: 2 } as object)).toThrow(/spikingjelly\.atan.*"alphas".*"alpha"/);
  expect(() => snntorch.sigmoid({ slope: Number.NaN })).toThrow(/snntorch\.sigmoid.*slope.*NaN/);
});
