// The average of weights against its rule in plain numbers; swapping it in and out; its state; its memory.
import { beforeEach, describe, expect, it } from "vitest";
import * as nn from "../../src/nn/index.ts";
import { EMA } from "../../src/optim/index.ts";
import type { DeviceName } from "../../src/runtime/device.ts";
import { memoryInfo } from "../../src/runtime/engine.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { compiledDevices, draw, numbers, start } from "../gradcheck.ts";
import { close } from "../tensor/support.ts";

class Net extends nn.Module {
  conv = new nn.Conv2d(2, 3, 3);
  bn = new nn.BatchNorm2d(3);
  tied = this.conv.weight;
  forward(x: Tensor): Tensor {
    return this.bn.forward(this.conv.forward(x));
  }
}

/** Other weights, and other statistics by a forward in training. */
function move(net: Net, step: number): void {
  net.parameters().forEach((p, i) => p.set(numbers(p.size, 10 * step + i)));
  net.train();
  net.forward(draw([2, 5, 5, 2], step)).dispose();
}

const floats = (state: Map<string, nn.StateEntry>) => new Map([...state].filter(([, v]) => v.dtype !== "i64"));
const plain = (state: Map<string, nn.StateEntry>) => new Map([...state].map(([key, { data }]) => [key, [...(data as Float32Array)]]));

const DEVICES: [DeviceName, number][] = [["reference", 1e-14], ...compiledDevices().map((name): [DeviceName, number] => [name, 1e-6])];

describe.each(DEVICES)("EMA on %s", (device, tolerance) => {
  beforeEach(() => start(device));

  it.each([false, true])("averages weights and statistics, with warm-up: %s", (warmup) => {
    const net = new Net();
    const ema = new EMA(net, { decay: 0.7, warmup });
    const expected = plain(floats(net.stateDict()));
    for (let n = 1; n <= 6; n++) {
      move(net, n);
      ema.update();
      const decay = warmup ? Math.min(0.7, (1 + n) / (10 + n)) : 0.7;
      for (const [key, { data }] of floats(net.stateDict()))
        expected.set(key, expected.get(key)?.map((v, i) => decay * v + (1 - decay) * (data[i] as number)) as number[]);
      const found = ema.stateDict();
      expect([...found.keys()]).toEqual([...net.stateDict().keys()]);
      for (const [key, values] of expected) close(found.get(key)?.data as Float32Array, values, tolerance, `${key} after ${n}`);
      expect(found.get("bn.num_batches_tracked")?.data).toEqual(BigInt64Array.of(BigInt(n)));
    }
    expect(ema.updates).toBe(6);
  });
});

describe("EMA", () => {
  beforeEach(() => start("wasm"));

  function trained(): { net: Net; ema: EMA } {
    const net = new Net();
    const ema = new EMA(net, { decay: 0.5 });
    move(net, 1);
    ema.update();
    return { net, ema };
  }

  it("lends its weights to the model, and gives the model's own back bit for bit", async () => {
    const { net, ema } = trained();
    const [own, average] = [net.stateDict(), ema.stateDict()];
    expect(own).not.toEqual(average);
    const look = () => [net.stateDict(), ema.stateDict()];
    expect(ema.swapped(look)).toEqual([average, average]);
    expect(look()).toEqual([own, average]);
    const later = ema.swapped(async () => {
      await Promise.resolve();
      return look();
    });
    expect(net.stateDict()).toEqual(average);
    expect(await later).toEqual([average, average]);
    expect(look()).toEqual([own, average]);
    const fail = () => {
      throw new Error("no");
    };
    expect(() => ema.swapped(fail)).toThrow("no");
    await expect(ema.swapped(async () => fail())).rejects.toThrow("no");
    expect(look()).toEqual([own, average]);
  });

  it("goes on bit for bit from its state", () => {
    const { net, ema } = trained();
    const other = new EMA(net, { decay: 0.5 });
    const own = net.stateDict();
    other.loadStateDict(ema.stateDict(), ema.updates);
    expect(net.stateDict()).toEqual(own);
    expect([other.updates, other.stateDict()]).toEqual([1, ema.stateDict()]);
    move(net, 2);
    ema.update();
    other.update();
    expect(other.stateDict()).toEqual(ema.stateDict());
  });

  it("refuses a state of another model, and nothing changes", () => {
    const { net, ema } = trained();
    const before = [net.stateDict(), ema.stateDict()];
    const state = ema.stateDict();
    state.delete("conv.weight");
    expect(() => ema.loadStateDict(state, 9)).toThrow('1 missing key ("conv.weight")');
    expect([net.stateDict(), ema.stateDict()]).toEqual(before);
    expect(ema.updates).toBe(1);
  });

  it("says what is called in the wrong order, or set wrong", () => {
    const { net, ema } = trained();
    expect(() => ema.restore()).toThrow("EMA: restore() while the model has its own weights: call apply() first");
    ema.apply();
    for (const call of ["apply", "update"] as const)
      expect(() => ema[call]()).toThrow(`EMA: ${call}() while the model has the averaged weights: call restore() first`);
    expect(ema.applied).toBe(true);
    ema.restore();
    expect(ema.applied).toBe(false);
    expect(() => new EMA(net, { decay: 1 })).toThrow("EMA: decay must be in [0, 1), found 1");
    expect(() => new EMA(net, { dekay: 0.9 } as never)).toThrow('EMA: unknown setting "dekay", did you mean "decay"?');
  });

  it("keeps flat memory, and gives it back", () => {
    const net = new Net();
    const used = memoryInfo().used;
    const ema = new EMA(net);
    const held = memoryInfo().used;
    expect(held).toBeGreaterThan(used);
    for (let n = 0; n < 3; n++) {
      ema.update();
      ema.swapped(() => undefined);
      ema.stateDict();
    }
    expect(memoryInfo().used).toBe(held);
    const own = net.stateDict();
    ema.apply();
    ema.dispose();
    expect(memoryInfo().used).toBe(used);
    expect(net.stateDict()).toEqual(own);
  });
});
