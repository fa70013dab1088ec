// Operation counts against brute-force loops over every synapse; the rule that splits them; totals; firing rates.
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { type EnergyOptions, energy as energyOf, HOROWITZ_45NM, priceOperations } from "../../src/measure/index.ts";
import { OperationCounter } from "../../src/measure/operations.ts";
import { walk } from "../../src/measure/walk.ts";
import * as nn from "../../src/nn/index.ts";
import { init } from "../../src/runtime/engine.ts";
import * as snn from "../../src/spiking/index.ts";
import { mean } from "../../src/tensor/ops/reduce.ts";
import { scope } from "../../src/tensor/scope.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { draw, drawSpikes, RUNS } from "../gradcheck.ts";
import "../../src/tensor/methods.ts";

beforeAll(() => init({ device: "wasm", threads: 1, seed: 1 }));

/** A tensor is measured before the promise is given: in a scope the report can be read at once. */
function energy(model: nn.Module, input: Tensor, options: EnergyOptions = {}) {
  const counter = new OperationCounter(options);
  void walk(model, input, counter);
  return priceOperations(counter.result(model), options);
}

/** A model that is one layer. */
function measured(layer: nn.Module, input: Tensor) {
  const report = energy(new nn.Sequential(layer), input);
  expect(report.layers.length).toBe(1);
  return { row: report.layers[0] as (typeof report.layers)[number], report };
}

/** Begin and end of the zeros of "same" padding: the smaller half before. */
const before = (padding: number | "same", kernel: number, dilation: number) =>
  padding === "same" ? Math.floor((dilation * (kernel - 1)) / 2) : padding;

/** Walk every synapse of a 2-d convolution: (value at its input or 0 outside, is it inside). */
function synapses(conv: nn.Conv2d, shape: readonly number[], output: readonly number[], values: ArrayLike<number>) {
  const [h, w, cin] = shape.slice(-3) as [number, number, number];
  const [oh, ow, cout] = output.slice(-3) as [number, number, number];
  const images = shape.slice(0, -3).reduce((a, b) => a * b, 1);
  const [kh, kw] = conv.kernelSize;
  const [ph, pw] = conv.padding === "same" ? (["same", "same"] as const) : conv.padding;
  const top = before(ph, kh, conv.dilation[0]);
  const left = before(pw, kw, conv.dilation[1]);
  let dense = 0;
  let spikes = 0;
  for (let n = 0; n < images; n++)
    for (let oy = 0; oy < oh; oy++)
      for (let ox = 0; ox < ow; ox++)
        for (let oc = 0; oc < cout; oc++) {
          const group = Math.floor(oc / (cout / conv.groups));
          for (let ky = 0; ky < kh; ky++)
            for (let kx = 0; kx < kw; kx++)
              for (let ic = 0; ic < cin / conv.groups; ic++) {
                dense++;
                const y = oy * conv.stride[0] - top + ky * conv.dilation[0];
                const x = ox * conv.stride[1] - left + kx * conv.dilation[1];
                if (y < 0 || y >= h || x < 0 || x >= w) continue;
                spikes += values[((n * h + y) * w + x) * cin + group * (cin / conv.groups) + ic] as number;
              }
        }
  return { dense, spikes };
}

const pair = (min: number, max: number) => fc.tuple(fc.integer({ min, max }), fc.integer({ min, max }));

describe("synaptic operations equal a count of every synapse", () => {
  it("conv2d: borders, strides, padding, dilation, groups, integer spikes, steps, batch", () => {
    fc.assert(
      fc.property(
        fc.record({
          groups: fc.integer({ min: 1, max: 3 }),
          perGroup: pair(1, 3),
          kernel: pair(1, 3),
          stride: pair(1, 3),
          padding: fc.oneof(pair(0, 2), fc.constant("same" as const)),
          dilation: pair(1, 2),
          image: pair(5, 7),
          time: pair(1, 3),
          planes: fc.integer({ min: 1, max: 3 }),
          scale: fc.constantFrom(1, 0.25),
        }),
        ({ groups, perGroup: [cin, cout], kernel, stride, padding, dilation, image, time, planes, scale }) =>
          scope(() => {
            const conv = new nn.Conv2d(groups * cin, groups * cout, kernel, {
              stride: padding === "same" ? 1 : stride,
              padding,
              dilation,
              groups,
            });
            const x = drawSpikes([...time, ...image, groups * cin], 7, { planes, scale });
            const { row } = measured(conv, x);
            const values = x.dataSync().map((v) => v / scale);
            const { dense, spikes } = synapses(conv, x.shape, row.output, values);
            const [steps, batch] = time;
            expect(row).toMatchObject({
              type: "Conv2d",
              timeSteps: steps,
              input: [...image, groups * cin],
              rule: "AC: spikes in",
              macs: 0,
            });
            expect(row.denseOps).toBe(dense / (steps * batch));
            expect(row.synOps).toBeCloseTo(spikes / batch, 9);
            expect(row.acs).toBe(row.synOps);
            const rate = (from: number, to: number) => values.slice(from, to).filter((v) => v !== 0).length / (to - from);
            expect(row.firingRate).toBeCloseTo(rate(0, values.length), 12);
            row.perStep?.forEach((r, t) => expect(r).toBeCloseTo(rate((t * values.length) / steps, ((t + 1) * values.length) / steps), 12));
            expect(row.perStep?.length).toBe(steps);
            conv.dispose();
          }),
      ),
      { ...RUNS, numRuns: 60 },
    );
  });

  it("conv1d", () => {
    fc.assert(
      fc.property(
        fc.record({
          groups: fc.integer({ min: 1, max: 2 }),
          kernel: fc.integer({ min: 1, max: 4 }),
          stride: fc.integer({ min: 1, max: 3 }),
          padding: fc.oneof(fc.integer({ min: 0, max: 2 }), fc.constant("same" as const)),
          dilation: fc.integer({ min: 1, max: 2 }),
          length: fc.integer({ min: 7, max: 11 }),
        }),
        ({ groups, kernel, stride, padding, dilation, length }) =>
          scope(() => {
            const step = padding === "same" ? 1 : stride;
            const conv = new nn.Conv1d(2 * groups, 3 * groups, kernel, { stride: step, padding, dilation, groups });
            const x = drawSpikes([2, 3, length, 2 * groups], 5);
            const { row } = measured(conv, x);
            // The same as a 2-d convolution over one row.
            const flat = new nn.Conv2d(2 * groups, 3 * groups, [1, kernel], { groups });
            const like = Object.assign(Object.create(nn.Conv2d.prototype), flat, {
              stride: [1, step],
              padding: [0, padding === "same" ? before("same", kernel, dilation) : padding],
              dilation: [1, dilation],
            }) as nn.Conv2d;
            const [ol, cout] = row.output as [number, number];
            const { dense, spikes } = synapses(like, [2, 3, 1, length, 2 * groups], [1, ol, cout], x.dataSync());
            expect(row).toMatchObject({ type: "Conv1d", timeSteps: 2, weight: [3 * groups, 2, kernel], denseOps: dense / 6 });
            expect(row.synOps).toBeCloseTo(spikes / 3, 9);
            conv.dispose();
            flat.dispose();
          }),
      ),
      RUNS,
    );
  });

  it("linear, on tokens too", () => {
    scope(() => {
      const layer = new nn.Linear(5, 7);
      for (const shape of [
        [3, 2, 5],
        [3, 2, 4, 5],
      ]) {
        const x = drawSpikes(shape, 4, { planes: 2, scale: 1 });
        const { row, report } = measured(layer, x);
        const tokens = shape.length === 4 ? 4 : 1;
        const sum = Array.from(x.dataSync()).reduce((a, b) => a + b, 0);
        expect(row).toMatchObject({ type: "Linear", timeSteps: 3, weight: [7, 5], denseOps: tokens * 35, input: shape.slice(2) });
        expect(row.synOps).toBeCloseTo((sum * 7) / 2, 9);
        expect(report.samples).toBe(2);
      }
    });
  });
});

class Net extends nn.Module {
  conv = new nn.Conv2d(2, 4, 3, { padding: 1, stride: 2 });
  bn = new nn.BatchNorm2d(4);
  lif = new snn.LIF();
  mid = new nn.Conv2d(4, 3, 3, { padding: 1 });
  lif2 = new snn.LIF();
  fc = new nn.Linear(3 * 9, 5);

  forward(x: Tensor): Tensor {
    const input = x.rank === 4 ? snn.repeat(x, 3) : x;
    const s = this.lif.forward(this.bn.forward(this.conv.forward(input)));
    return mean(this.fc.forward(nn.flatten(this.lif2.forward(this.mid.forward(s)), 2)), 0);
  }
}

describe("the report", () => {
  it("splits by the rule, adds up, and compares with one dense pass", () =>
    scope(() => {
      const net = new Net().train();
      const input = draw([4, 6, 6, 2], 3, 0, 4);
      const report = energy(net, input);
      expect(net.training).toBe(true);
      const [conv, mid, fc] = report.layers as [
        (typeof report.layers)[number],
        (typeof report.layers)[number],
        (typeof report.layers)[number],
      ];
      expect(report.layers.map((l) => [l.layer, l.denseOps, l.timeSteps])).toEqual([
        ["conv", 9 * 9 * 2 * 4, 3],
        ["mid", 9 * 9 * 4 * 3, 3],
        ["fc", 27 * 5, 3],
      ]);
      expect(conv).toMatchObject({
        macs: 3 * 648,
        acs: 0,
        firingRate: null,
        perStep: null,
        rule: "MAC: float in, every step",
        energy: 3 * 648 * 4.6,
        annEnergy: 648 * 4.6,
      });
      expect(mid.macs).toBe(0);
      expect(mid.energy).toBeCloseTo(0.9 * mid.acs, 9);
      expect(mid.acs).toBeGreaterThan(0);
      const { total } = report;
      for (const key of ["denseOps", "synOps", "macs", "acs", "energy", "annEnergy"] as const)
        expect(total[key]).toBeCloseTo(conv[key] + mid[key] + fc[key], 6);
      expect(total.ratio).toBeCloseTo(total.annEnergy / total.energy, 12);
      expect(total.parameters).toBe(net.parameterCount());
      expect(total.meanFiringRate).toBeCloseTo(((mid.firingRate as number) + (fc.firingRate as number)) / 2, 12);
      expect([report.timeSteps, report.samples, report.costs]).toEqual([3, 4, HOROWITZ_45NM]);
    }));

  it("is the mean over the batch", () =>
    scope(() => {
      const net = new Net().eval();
      const input = draw([4, 6, 6, 2], 3, 0, 4);
      const each = [0, 1, 2, 3].map((i) => energy(net, input.slice([i, i + 1])));
      const sum = each.reduce((n, r) => n + r.total.acs, 0);
      expect(energy(net, input).total.acs).toBeCloseTo(sum / 4, 9);
    }));

  it("counts the first layer of a still image once where asked, of event frames never", () =>
    scope(() => {
      const net = new Net();
      const still = draw([2, 6, 6, 2], 3, 0, 4);
      const first = (input: Tensor, options = {}) => energy(net, input, options).layers[0];
      expect(first(still, { firstLayer: "once" })).toMatchObject({ macs: 648, rule: "MAC: float in, once", energy: 648 * 4.6 });
      expect(first(still)).toMatchObject({ macs: 3 * 648 });
      const frames = draw([3, 2, 6, 6, 2], 3, 0, 4);
      expect(first(frames, { firstLayer: "once" })).toMatchObject({ macs: 3 * 648 });
      expect(first(frames, { firstLayer: "once", still: true })).toMatchObject({ macs: 648 });
      expect(energy(net, still, { firstLayer: "once" }).layers[1]?.acs).toBe(energy(net, still).layers[1]?.acs);
    }));

  it("takes costs of another technology", () =>
    scope(() => {
      const costs = { name: "mine", mac: 2, ac: 0.5 };
      const report = energy(new Net(), draw([2, 6, 6, 2], 3, 0, 4), { costs });
      expect(report.total.energy).toBeCloseTo(2 * report.total.macs + 0.5 * report.total.acs, 6);
      expect(report.costs.name).toBe("mine");
    }));

  it("of a network without time: steps are one", () =>
    scope(() => {
      const net = new nn.Sequential(new nn.Conv2d(1, 2, 3), new nn.ReLU(), new nn.Flatten(1), new nn.Linear(2 * 16, 3));
      const report = energy(net, draw([5, 6, 6, 1], 1));
      expect(report.layers.map((l) => [l.timeSteps, l.macs, l.acs, l.input])).toEqual([
        [1, 16 * 9 * 2, 0, [6, 6, 1]],
        [1, 96, 0, [32]],
      ]);
      expect(report.total.ratio).toBe(1);
      expect(report.total.meanFiringRate).toBeNaN();
    }));

  it("needs a weight layer", async () => {
    await expect(energyOf(new nn.ReLU(), tensor([1]))).rejects.toThrow("measure: the model ran no convolution or linear layer");
  });
});
