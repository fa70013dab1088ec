// Firing rates against a count of spikes: one batch, several, the official script's figure, T in a flattened axis.
import { beforeAll, describe, expect, it } from "vitest";
import { FiringMeter, firingOf, firingRates } from "../../src/measure/index.ts";
import * as nn from "../../src/nn/index.ts";
import { init } from "../../src/runtime/engine.ts";
import * as snn from "../../src/spiking/index.ts";
import { scope } from "../../src/tensor/scope.ts";
import { type Tensor, tensor, zeros } from "../../src/tensor/tensor.ts";
import { draw, drawSpikes } from "../gradcheck.ts";
import "../../src/tensor/methods.ts";

beforeAll(() => init({ device: "wasm", threads: 1, seed: 1 }));

class Net extends nn.Module {
  conv = new nn.Conv2d(2, 4, 3, { padding: 1, stride: 2 });
  lif = new snn.LIF();
  mid = new nn.Conv2d(4, 3, 3, { padding: 1 });
  lif2 = new snn.LIF();
  forward(x: Tensor): Tensor {
    return this.lif2.forward(this.mid.forward(this.lif.forward(this.conv.forward(snn.repeat(x, 3)))));
  }
}

const share = (values: ArrayLike<number>) => Array.from(values).filter((v) => v !== 0).length / values.length;

it("every neuron layer, in all and per step, equals a count of its spikes", async () => {
  const net = new Net();
  const input = draw([4, 6, 6, 2], 3, 0, 4);
  const spikes = new Map<string, number[]>();
  scope(() => {
    net.eval();
    nn.withForwardHook(
      (m, _, out) => {
        if (m === net.lif) spikes.set("lif", [...(out as Tensor).dataSync()]);
        if (m === net.lif2) spikes.set("lif2", [...(out as Tensor).dataSync()]);
      },
      () => net.forward(input),
    );
  });
  net.train();
  const rates = await firingRates(net, input);
  expect(net.training).toBe(true);
  expect(rates.map((r) => [r.layer, r.shape, r.samples, r.neurons, r.bits])).toEqual([
    ["lif", [3, 4, 3, 3, 4], 4, 36, 1],
    ["lif2", [3, 4, 3, 3, 3], 4, 27, 1],
  ]);
  for (const { layer, rate, value, perStep, valuePerStep } of rates) {
    const all = spikes.get(layer) as number[];
    expect(rate).toBeCloseTo(share(all), 12);
    expect(value).toBeCloseTo(rate, 12);
    expect(perStep.length).toBe(3);
    perStep.forEach((r, t) => expect(r).toBeCloseTo(share(all.slice((t * all.length) / 3, ((t + 1) * all.length) / 3)), 12));
    expect(valuePerStep).toEqual(perStep);
  }
  expect(rates[0]?.rate).toBeGreaterThan(0);
});

it("batches of different sizes weigh each sample the same; async sources too", async () => {
  const net = new Net();
  const input = draw([5, 6, 6, 2], 3, 0, 4);
  async function* batches() {
    yield input.slice([0, 3]);
    yield input.slice([3, 5]);
  }
  const whole = await firingRates(net, input);
  const parts = await firingRates(net, batches());
  expect(parts.map((r) => r.samples)).toEqual([5, 5]);
  whole.forEach((r, i) => {
    expect(parts[i]?.rate).toBeCloseTo(r.rate, 12);
    parts[i]?.perStep.forEach((p, t) => expect(p).toBeCloseTo(r.perStep[t] as number, 12));
  });
});

it("takes what a loader hands out, and says when there is nothing", async () => {
  const net = new Net();
  const x = draw([2, 6, 6, 2], 3, 0, 4);
  expect(await firingRates(net, [{ x }])).toEqual(await firingRates(net, x));
  await expect(firingRates(net, [])).rejects.toThrow("measure: expected a batch or more to run the model on, found none");
});

it("a tensor may be freed right after the call", async () => {
  const net = new Net();
  const promise = scope(() => ({ rates: firingRates(net, draw([2, 6, 6, 2], 3, 0, 4)) })).rates;
  expect((await promise).length).toBe(2);
});

describe("the meter", () => {
  it("compat: the sum of the batches' means over n - 1, first four steps", () => {
    const meter = new FiringMeter();
    const batches = [1, 2, 3].map((seed) => drawSpikes([6, 2, 5], seed));
    for (const batch of batches) meter.add("s", batch);
    const [official] = meter.rates({ compat: "sdt-v1" });
    const expected = [0, 1, 2, 3].map((t) => batches.reduce((n, b) => n + share(b.dataSync().subarray(t * 10, (t + 1) * 10)), 0) / 2);
    expect(official?.perStep.length).toBe(4);
    official?.perStep.forEach((r, t) => expect(r).toBeCloseTo(expected[t] as number, 12));
    expect(official?.rate).toBeCloseTo(expected.reduce((a, b) => a + b) / 4, 12);
    expect(meter.rates()[0]?.perStep.length).toBe(6);
  });

  it("compat needs two batches, and one T", () => {
    const meter = new FiringMeter();
    meter.add("s", drawSpikes([3, 2, 5], 1));
    expect(() => meter.rates({ compat: "sdt-v1" })).toThrow(/needs two or more/);
    expect(() => meter.add("s", drawSpikes([4, 2, 5], 1))).toThrow(/"s" had 3 time steps, and has 4 in a further batch/);
  });

  it("finds T in an axis of T * B where it is told", () => {
    const spikes = drawSpikes([6, 2, 5], 1);
    const [flat, plain] = [new FiringMeter({ timeSteps: 3 }), new FiringMeter({ timeSteps: 3 })];
    plain.add("s", spikes.reshape([3, 2, 2, 5]));
    flat.add("s", spikes);
    expect(flat.rates()[0]?.perStep).toEqual(plain.rates()[0]?.perStep);
    expect(flat.rates()[0]).toMatchObject({ samples: 2, neurons: 10 });
  });

  it("a layer without neurons does not fire", () => {
    expect(firingOf(zeros([2, 0, 3]))).toEqual({ rate: 0, value: 0, perStep: [0, 0] });
  });
});

it("integer spikes count once as a rate, and by their worth as a value", async () => {
  const net = new nn.Sequential(new snn.Quant({ levels: 4, norm: 1 }));
  const x = tensor([
    [0, 0, 1, 3],
    [4, 9, 0, 2],
  ]);
  const [rate] = await firingRates(net, x);
  expect(rate).toMatchObject({ rate: 5 / 8, value: 14 / 8, perStep: [0.5, 0.75], valuePerStep: [1, 2.5], bits: 3, neurons: 4 });
});

it("stateless neurons behind a convolution of [B, H, W, C] have no time steps; behind [T, B, H, W, C] they have", async () => {
  const net = new nn.Sequential(new nn.Conv2d(2, 3, 1), new snn.Quant({ levels: 4 }));
  const still = await firingRates(net, [draw([3, 4, 4, 2], 1), draw([1, 4, 4, 2], 2)]);
  expect(still[0]).toMatchObject({ samples: 4, neurons: 48, unit: 0.25 });
  expect(still[0]?.perStep).toHaveLength(1);
  const moving = await firingRates(net, draw([5, 2, 4, 4, 2], 3));
  expect(moving[0]).toMatchObject({ samples: 2, neurons: 48 });
  expect(moving[0]?.perStep).toHaveLength(5);
  const told = await firingRates(net, draw([6, 4, 4, 2], 4), { timeSteps: 3 });
  expect(told[0]).toMatchObject({ samples: 2, neurons: 48 });
  expect(told[0]?.perStep).toHaveLength(3);
});
