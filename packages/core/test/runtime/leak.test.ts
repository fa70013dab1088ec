// Ten thousand small training steps in flat memory, natively and in WebAssembly: what a step makes, it gives back.
import { expect, it } from "vitest";
import * as nn from "../../src/nn/index.ts";
import { AdamW, clipGradNorm } from "../../src/optim/index.ts";
import { init, memoryInfo } from "../../src/runtime/engine.ts";
import * as snn from "../../src/spiking/index.ts";
import { crossEntropy } from "../../src/tensor/ops/loss.ts";
import { mean } from "../../src/tensor/ops/reduce.ts";
import { scope } from "../../src/tensor/scope.ts";
import { backward } from "../../src/tensor/tape.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { ADDON, compiledDevices, numbers } from "../gradcheck.ts";

class Net extends nn.Module {
  conv = new nn.Conv2d(1, 3, 3, { padding: 1, bias: false });
  bn = new nn.BatchNorm2d(3);
  lif = new snn.PLIF();
  pool = new nn.MaxPool2d(2);
  drop = new nn.Dropout(0.1);
  fc = new nn.Linear(3 * 2 * 2, 2);

  forward(x: Tensor): Tensor {
    const h = this.pool.forward(this.lif.forward(this.bn.forward(this.conv.forward(snn.repeat(x, 2)))));
    return mean(this.fc.forward(this.drop.forward(nn.flatten(h, 2))), 0);
  }
}

it.each(compiledDevices())(
  "10 000 steps on %s",
  async (device) => {
    await init({ device, threads: 1, seed: 1, native: ADDON });
    const net = new Net();
    const optimizer = new AdamW(net.parameters(), { lr: 1e-3 });
    const images = Float32Array.from(numbers(2 * 16, 3));
    const step = () =>
      scope(() => {
        optimizer.zeroGrad();
        const loss = crossEntropy(net.forward(tensor(images, [2, 4, 4, 1])), tensor(Int32Array.of(0, 1)));
        backward(loss);
        clipGradNorm(optimizer, 1);
        optimizer.step();
        return loss.itemSync();
      });
    for (let i = 0; i < 100; i++) step();
    const settled = memoryInfo();
    let loss = 0;
    for (let i = 100; i < 10_000; i++) {
      loss = step();
      if (i % 1000 !== 999) continue;
      const { used, peak, reserved } = memoryInfo();
      expect({ used, peak, reserved }, `after ${i + 1} steps`).toEqual(settled);
    }
    expect(loss).toBeLessThan(0.1);
    // What remains is the network's and the optimiser's.
    optimizer.zeroGrad();
    optimizer.dispose();
    net.dispose();
    expect(memoryInfo().used).toBe(0);
  },
  120_000,
);
