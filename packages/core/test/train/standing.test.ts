/** What a failed step or a measurement must leave as it was: running statistics, random streams, the flags of frozen layers. */
import { beforeAll, describe, expect, it } from "vitest";
import { data, init, measure, nn, optim, random, snn, type Tensor, tensor, train } from "../../src/index.ts";

class Net extends nn.Module {
  conv = new nn.Conv2d(1, 4, 3, { padding: 1 });
  bn = new nn.BatchNorm2d(4);
  lif = new snn.LIF();
  drop = new nn.Dropout(0.2);
  fc = new nn.Linear(4 * 16, 2);
  forward(x: Tensor): Tensor {
    const s = this.lif.forward(this.bn.forward(this.conv.forward(snn.repeat(x, 2))));
    return this.fc.forward(this.drop.forward(nn.flatten(s, 2))).mean(0);
  }
}

const images = Float32Array.from({ length: 8 * 16 }, (_, i) => Math.sin(i));
const dataset = (pixels: Float32Array) =>
  new data.ArrayDataset({ images: pixels, shape: [8, 4, 4, 1], labels: Int32Array.from({ length: 8 }, (_, i) => i % 2) });

beforeAll(async () => {
  await init({ device: "wasm", threads: 1, seed: 3 });
});

describe("a step whose loss is not finite", () => {
  it("leaves the whole state dict and every random stream as they were, and names the input", async () => {
    const net = new Net();
    const poisoned = images.slice();
    poisoned[5] = Number.NaN;
    const loader = new data.Loader(dataset(poisoned), { batchSize: 8 });
    const trainer = new train.Trainer({
      model: net,
      loader,
      optimizer: new optim.AdamW(net.parameters()),
      schedule: { name: "constant", lr: 1e-3, epochs: 1 },
      epochs: 1,
    });
    const state = () => JSON.stringify([...net.stateDict()].map(([key, { data: values }]) => [key, [...values].map(String)]));
    random().stream("dropout");
    const before = { state: state(), streams: JSON.stringify(random().state()) };
    await expect(trainer.run().next()).rejects.toThrow(/the input itself is not finite/);
    expect(state()).toBe(before.state);
    expect(JSON.stringify(random().state())).toBe(before.streams);
  });
});

describe("measuring and evaluating", () => {
  it("put back the flag of each layer, frozen ones too", async () => {
    const net = new Net();
    net.bn.eval();
    const flags = () => [...net.namedModules()].map(([name, m]) => `${name}:${m.training}`).join();
    const before = flags();
    expect(before).toContain("bn:false");
    const x = tensor(images, [8, 4, 4, 1]);
    await measure.energy(net, x);
    await measure.firingRates(net, x);
    await train.evaluate(net, new data.Loader(dataset(images), { batchSize: 4 }));
    expect(flags()).toBe(before);
  });

  it("take T from the neuron, or from the option, where a layer's input hides it", async () => {
    class Flat extends nn.Module {
      fc = new nn.Linear(6, 3);
      lif = new snn.LIF();
      forward(x: Tensor): Tensor {
        return this.fc.forward(this.lif.forward(x).reshape([-1, 6]));
      }
    }
    const net = new Flat();
    const x = tensor(
      Float32Array.from({ length: 4 * 5 * 6 }, (_, i) => (i % 3) * 1.5),
      [4, 5, 6],
    );
    const { layers } = await measure.energy(net, x, { timeSteps: 4 });
    expect((await measure.energy(net, x)).layers).toEqual(layers);
    const spikes = net.lif.forward(x).sum().itemSync();
    expect(layers[0]).toMatchObject({ timeSteps: 4, denseOps: 18 });
    expect(layers[0]?.synOps).toBeCloseTo((spikes * 3) / 5, 9);
    expect(layers[0]?.perStep).toHaveLength(4);
  });
});
