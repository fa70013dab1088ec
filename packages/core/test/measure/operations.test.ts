// Bounded and effective counts against a walk over every synapse; which axes are time; several batches as one.
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { type Operations, operations, survey } from "../../src/measure/index.ts";
import { OperationCounter } from "../../src/measure/operations.ts";
import { walk } from "../../src/measure/walk.ts";
import * as nn from "../../src/nn/index.ts";
import { init } from "../../src/runtime/engine.ts";
import * as snn from "../../src/spiking/index.ts";
import { mean } from "../../src/tensor/ops/reduce.ts";
import { scope } from "../../src/tensor/scope.ts";
import { type Tensor, tensor, zeros } from "../../src/tensor/tensor.ts";
import { draw, drawSpikes, RUNS } from "../gradcheck.ts";
import "../../src/tensor/methods.ts";

beforeAll(() => init({ device: "wasm", threads: 1, seed: 1 }));

/** At once: a tensor is measured before the walk's promise is given. */
function count(model: nn.Module, ...inputs: Tensor[]): Operations {
  const counter = new OperationCounter();
  for (const input of inputs) void walk(model, input, counter);
  return counter.result(model);
}

const pair = (min: number, max: number) => fc.tuple(fc.integer({ min, max }), fc.integer({ min, max }));

describe("bounded and effective operations equal a walk over every synapse", () => {
  it("of convolutions with pruned weights, spikes and floats", () => {
    fc.assert(
      fc.property(
        fc.record({
          groups: fc.integer({ min: 1, max: 3 }),
          perGroup: pair(1, 3),
          kernel: pair(1, 3),
          stride: pair(1, 3),
          padding: pair(0, 2),
          dilation: pair(1, 2),
          image: pair(5, 6),
          pruned: fc.boolean(),
          spikes: fc.boolean(),
        }),
        ({ groups, perGroup: [cin, cout], kernel, stride, padding, dilation, image: [h, w], pruned, spikes }) =>
          scope(() => {
            const conv = new nn.Conv2d(groups * cin, groups * cout, kernel, { stride, padding, dilation, groups });
            const [kh, kw] = kernel;
            if (pruned) conv.weight.set(conv.weight.dataSync().map((v, i) => (i % 3 ? v : 0)));
            const shape = [2, 2, h, w, groups * cin];
            const x = spikes
              ? drawSpikes(shape, 7)
              : tensor(
                  draw(shape, 3, -1, 1)
                    .dataSync()
                    .map((v, i) => (i % 4 ? v : 0)),
                  shape,
                );
            const [row] = count(new nn.Sequential(conv), x).layers as [Operations["layers"][number]];
            const values = x.dataSync();
            const weights = conv.weight.dataSync();
            const [oh, ow] = row.output as [number, number];
            let bounded = 0;
            let effective = 0;
            for (let n = 0; n < 4; n++)
              for (let oy = 0; oy < oh; oy++)
                for (let ox = 0; ox < ow; ox++)
                  for (let oc = 0; oc < groups * cout; oc++)
                    for (let ky = 0; ky < kh; ky++)
                      for (let kx = 0; kx < kw; kx++)
                        for (let ic = 0; ic < cin; ic++) {
                          const y = oy * stride[0] - padding[0] + ky * dilation[0];
                          const xx = ox * stride[1] - padding[1] + kx * dilation[1];
                          if (y < 0 || y >= h || xx < 0 || xx >= w) continue;
                          bounded++;
                          const v = values[((n * h + y) * w + xx) * groups * cin + Math.floor(oc / cout) * cin + ic];
                          if (v !== 0 && weights[((ky * kw + kx) * cin + ic) * groups * cout + oc] !== 0) effective++;
                        }
            expect(row.boundedOps).toBe(bounded / 4);
            expect(row.effectiveOps).toBeCloseTo(effective / 2, 9);
            expect(row).toMatchObject({ spikes, ternary: spikes, weights: weights.length });
            expect(row.zeroWeights).toBe(weights.filter((v) => v === 0).length);
            conv.dispose();
          }),
      ),
      { ...RUNS, numRuns: 40 },
    );
  });

  it("of a linear layer over tokens, and of a 1-d convolution", () =>
    scope(() => {
      const linear = new nn.Linear(5, 7);
      linear.weight.set(linear.weight.dataSync().map((v, i) => (i % 2 ? v : 0)));
      const x = drawSpikes([3, 2, 4, 5], 4);
      const [row] = count(linear, x).layers;
      let effective = 0;
      x.dataSync().forEach((v, i) => {
        for (let o = 0; o < 7; o++) if (v && linear.weight.dataSync()[(i % 5) * 7 + o]) effective++;
      });
      expect(row).toMatchObject({ boundedOps: 4 * 35, timeSteps: 3, inputs: 20, outputs: 28, input: [4, 5], output: [4, 7] });
      expect(row?.effectiveOps).toBeCloseTo(effective / 2, 9);
      const conv = new nn.Conv1d(2, 3, 3, { padding: 1, stride: 2 });
      const spikes = drawSpikes([2, 3, 8, 2], 5);
      // 8 positions, stride 2, padding 1: every odd one is reached twice, the others once; the last one, being odd, too: but once.
      const reached = [1, 2, 1, 2, 1, 2, 1, 1];
      const sum = Array.from(spikes.dataSync()).reduce((n, v, i) => n + v * (reached[Math.floor(i / 2) % 8] as number), 0);
      expect(count(conv, spikes).layers[0]?.effectiveOps).toBeCloseTo((3 * sum) / 3, 9);
    }));
});

class Flattened extends nn.Module {
  conv = new nn.Conv2d(2, 3, 3, { padding: 1 });
  lif = new snn.LIF();
  mid = new nn.Conv2d(3, 3, 1);
  head = new nn.Linear(3, 5);
  forward(x: Tensor): Tensor {
    const [t, b, h, w] = x.shape as [number, number, number, number];
    const y = this.conv.forward(x.reshape([t * b, h, w, 2]));
    const s = this.lif.forward(y.reshape([t, b, h, w, 3]));
    const z = this.mid.forward(s.reshape([t * b, h, w, 3])).reshape([t, b, h * w, 3]);
    return this.head.forward(mean(z, [0, 2]));
  }
}

describe("which axes are time", () => {
  it("is told by the first neuron: [T * B, ...] and [B, ...] are recognised, also where B is a multiple of T", () =>
    scope(() => {
      const report = count(new Flattened(), draw([4, 8, 3, 3, 2], 3, 0, 2));
      expect([report.timeSteps, report.samples]).toEqual([4, 8]);
      expect(report.layers.map((l) => [l.layer, l.timeSteps, l.denseOps, l.still, l.perStep.length])).toEqual([
        ["conv", 4, 9 * 9 * 6, false, 4],
        ["mid", 4, 81, false, 4],
        ["head", 1, 15, false, 1],
      ]);
    }));

  it("of tokens without any neuron is no axis", () =>
    scope(() => {
      const [row] = count(new nn.Linear(4, 2), draw([6, 5, 4], 1)).layers;
      expect(row).toMatchObject({ timeSteps: 1, denseOps: 40, input: [5, 4] });
    }));

  it("an image that is repeated is still, frames are not, even where T and B are the image's size", () =>
    scope(() => {
      const net = new nn.Sequential(new nn.Conv2d(1, 2, 3, { padding: 1 }), new snn.LIF());
      class Repeat extends nn.Module {
        net = net;
        forward(x: Tensor) {
          return this.net.forward(snn.repeat(x, 4));
        }
      }
      expect(count(new Repeat(), draw([4, 4, 4, 1], 1)).layers[0]).toMatchObject({ still: true, timeSteps: 4 });
      expect(count(net, draw([4, 4, 4, 4, 1], 1)).layers[0]).toMatchObject({ still: false, timeSteps: 4 });
    }));

  it("of an empty batch and of no tokens: nothing is done, and nothing is no number", () =>
    scope(() => {
      for (const shape of [
        [3, 0, 4],
        [0, 4],
        [2, 0, 4],
      ])
        expect(count(new nn.Linear(4, 2), zeros(shape)).layers[0]).toMatchObject({
          nonZero: 0,
          value: 0,
          effectiveOps: 0,
          boundedOps: expect.any(Number),
        });
      expect(JSON.stringify(count(new nn.Linear(4, 2), zeros([2, 0, 4])))).not.toContain("null");
    }));

  it("D is what the neuron can emit, not what its bits could hold", () =>
    scope(() => {
      const net = new nn.Sequential(new snn.Quant({ levels: 4 }), new nn.Linear(3, 2), new snn.LIF(), new nn.Linear(2, 2));
      const { layers } = count(net, draw([2, 3, 3], 5, 0, 9));
      expect(layers.map((l) => [l.levels, l.spikes])).toEqual([
        [4, true],
        [1, true],
      ]);
      // Quarters are no spikes of 1 by themselves; in units of a spike they are counted.
      expect(layers[0]?.ternary).toBe(false);
    }));
});

describe("several batches", () => {
  it("weigh every sample the same, also in a smaller last batch", () =>
    scope(() => {
      const net = new Flattened();
      const x = draw([3, 5, 3, 3, 2], 3, 0, 2);
      const one = count(net, x);
      const parts = count(net, x.slice(null, [0, 3]), x.slice(null, [3, 5]));
      expect(parts.samples).toBe(5);
      one.layers.forEach((l, i) => {
        const part = parts.layers[i] as typeof l;
        for (const key of ["synOps", "effectiveOps", "nonZero", "value"] as const) expect(part[key]).toBeCloseTo(l[key], 9);
        part.perStep.forEach((r, t) => expect(r).toBeCloseTo(l.perStep[t] as number, 12));
      });
    }));

  it("must have one T", async () => {
    const net = new Flattened();
    await expect(operations(net, [draw([3, 2, 3, 3, 2], 3), draw([2, 2, 3, 3, 2], 3)])).rejects.toThrow(
      /"conv" is given \[3, 3, 2\] over 2 steps in a further batch, and was given \[3, 3, 2\] over 3 before/,
    );
  });
});

describe("a survey", () => {
  it("gives footprint, sparsity and NeuroBench's counts, each by its rule", async () => {
    const linear = new nn.Linear(16, 3);
    const net = new nn.Sequential(new nn.Conv2d(2, 4, 3), new nn.BatchNorm2d(4), new snn.LIF(), new nn.Flatten(2), linear);
    linear.weight.set(linear.weight.dataSync().map((v, i) => (i < 24 ? 0 : v)));
    const found = await survey(net, [draw([3, 2, 4, 4, 2], 3, 0, 4), draw([3, 1, 4, 4, 2], 4, 0, 4)]);
    const weights = 4 * 2 * 9 + 48;
    const [lif] = found.rates;
    expect(found.footprint).toEqual({
      parameters: 4 * (weights + 4 + 8 + 3),
      buffers: 4 * 8 + 8,
      spikes: 3 * (16 / 8),
      spikesAsFloats: 3 * 16 * 4,
    });
    expect(found.sparsity.weights).toBeCloseTo(24 / weights, 12);
    expect(found.sparsity.activations).toBeCloseTo(1 - (lif?.rate as number), 12);
    const [conv, fc] = found.operations.layers as [Operations["layers"][number], Operations["layers"][number]];
    expect(found.neurobench).toMatchObject({
      footprint: found.footprint.parameters + found.footprint.buffers,
      connectionSparsity: found.sparsity.weights,
      synapticOperations: { effectiveMacs: conv.effectiveOps, effectiveAcs: fc.effectiveOps, dense: 3 * (4 * 4 * 18 + 48) },
    });
    expect(fc.effectiveOps).toBeLessThan(fc.synOps);
    expect(Object.values(found.neurobench.rules).every((rule) => rule.length > 10)).toBe(true);
    net.dispose();
  });
});

/** Two integer neurons of one format (three planes, scale 1), both at work before a layer is. */
class Branches extends nn.Module {
  five = new snn.ILIF({ levels: 5 });
  seven = new snn.ILIF({ levels: 7 });
  pool = new nn.MaxPool2d(2);
  a = new nn.Linear(8, 2);
  b = new nn.Linear(2, 2);
  forward(x: Tensor): Tensor {
    const [five, seven] = [this.five.forward(x), this.seven.forward(x)];
    const [t, b] = x.shape as [number, number];
    return this.a.forward(this.pool.forward(five).reshape([t, b, 8])).add(mean(this.b.forward(seven), [2, 3]));
  }
}

it("D is that of the neuron that fired, also where another one of the same format fired since", () =>
  scope(() => {
    const { layers } = count(new Branches(), draw([2, 3, 4, 4, 2], 5, 0, 9));
    expect(layers.map((l) => [l.layer, l.levels])).toEqual([
      ["a", 5],
      ["b", 7],
    ]);
  }));

describe("a layer that runs step by step", () => {
  const inner = (features: number) => new snn.RLIF({ features });
  it("is one row with T written out: the same work as in T rows", () =>
    scope(() => {
      const net = new nn.Sequential(new nn.Linear(3, 4), inner(4), new nn.Linear(4, 2));
      const x = draw([5, 3, 3], 5, 0, 4);
      const { layers, timeSteps, samples } = count(net, x, x);
      expect([timeSteps, samples]).toEqual([5, 6]);
      expect(layers.map((l) => [l.layer, l.timeSteps, l.spikes, l.denseOps, l.perStep.length])).toEqual([
        ["0", 5, false, 12, 5],
        ["1.recurrent", 5, true, 16, 5],
        ["2", 5, true, 8, 5],
      ]);
      // What the neuron fires at a step is what its own layer and the next hear: the one a step later, the other at once.
      const [, own, next] = layers as [unknown, Operations["layers"][number], Operations["layers"][number]];
      expect(own.perStep[0]).toBe(0);
      expect(own.perStep.slice(1)).toEqual(next.perStep.slice(0, -1));
      expect(next.perStep.some((rate) => rate > 0)).toBe(true);
      const heard = next.perStep.slice(0, -1).reduce((a, b) => a + b, 0) * 4;
      expect(own.synOps).toBeCloseTo(heard * 4, 9);
      expect(own.effectiveOps).toBeCloseTo(heard * 4, 9);
    }));

  it("that is only called several times keeps a row a call", () =>
    scope(() => {
      const shared = new nn.Linear(3, 3);
      const net = new nn.Sequential(shared, new snn.LIF(), shared);
      for (const b of [4, 2]) expect(count(net, draw([2, b, 3], 5, 0, 4)).layers.map((l) => l.timeSteps)).toEqual([2, 2]);
    }));
});
