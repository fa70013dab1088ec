// CAFormer: what its sizes have, that it learns, that wrong settings are told. (The official code's values are parity fixtures.)
import { beforeAll, describe, expect, it } from "vitest";
import { randn, tensor } from "../../src/index.ts";
import { createModel, findSystem } from "../../src/models/registry.ts";
import { AdamW } from "../../src/optim/index.ts";
import { init } from "../../src/runtime/engine.ts";
import { SettingError } from "../../src/runtime/error.ts";
import { scope } from "../../src/tensor/scope.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { classificationLoss } from "../../src/train/losses.ts";
import { gradcheck, numbers } from "../gradcheck.ts";

const SMALL = { dims: [4, 6, 8, 8], depths: [1, 1, 1, 1], headDim: 4, imageSize: [8, 8], numClasses: 3 };

beforeAll(() => init({ device: "reference", seed: 4 }));

it("tiny has the parameters of its README", () => {
  const net = createModel("caformer/tiny");
  expect([net.parameterCount(), net.stateShapes().size]).toEqual([199_608, 72]);
  // The norms of the blocks have none.
  expect([...net.stateShapes().keys()].filter((k) => /norm\d?\.bias$/.test(k))).toEqual(["norm.bias", "head.norm.bias"]);
});

it("has the gradients of finite differences, of its input and of every weight", () => {
  const net = createModel("caformer/tiny", SMALL);
  const x = tensor(Float64Array.from(numbers(2 * 8 * 8, 5, -1, 1)), [2, 8, 8, 1], "f32");
  for (const p of net.parameters()) p.requiresGrad = false;
  gradcheck((input: Tensor) => net.forward(input) as Tensor, [x]);
  for (const p of net.parameters()) p.requiresGrad = true;
  const labels = tensor(Int32Array.of(0, 2));
  const loss = () => classificationLoss(net.forward(x) as Tensor, labels);
  scope(() => loss().backward());
  for (const [name, p] of net.namedParameters()) {
    const found = p.grad?.dataSync()[0] as number;
    const values = p.dataSync();
    const at = (v: number) => {
      const changed = values.slice();
      changed[0] = v;
      p.set(changed);
      const result = scope(() => loss().itemSync());
      p.set(values);
      return result;
    };
    const h = 1e-5;
    const expected = (at((values[0] as number) + h) - at((values[0] as number) - h)) / (2 * h);
    expect(Math.abs(found - expected), name).toBeLessThan(1e-6 + 1e-4 * Math.abs(expected));
  }
});

it("learns", () => {
  const net = createModel("caformer/tiny", SMALL);
  const x = randn([12, 8, 8, 1]);
  const y = tensor(Int32Array.from({ length: 12 }, (_, i) => i % 3));
  const optimizer = new AdamW(net.parameters(), { lr: 0.01 });
  const losses = Array.from({ length: 40 }, () =>
    scope(() => {
      optimizer.zeroGrad();
      const loss = classificationLoss(net.forward(x) as Tensor, y);
      loss.backward();
      optimizer.step();
      return loss.itemSync();
    }),
  );
  expect(losses.at(-1)).toBeLessThan(0.3 * (losses[0] as number));
});

describe("a wrong configuration", () => {
  it.each<[Record<string, unknown>, string]>([
    [{ dims: [4, 6, 8] }, "dims must be four positive integers, found [4,6,8]"],
    [{ headDim: 5 }, "headDim must be a divisor of the dims of stages 3 and 4 (8 and 8), found 5"],
    [{ mlpRatio: 0.3 }, "mlpRatio must be a number that makes every one of dims a positive integer, found 0.3"],
    [{ stemStride: 0 }, "stemStride must be a positive integer, found 0"],
    [{ imageSize: 8 }, "imageSize must be two positive integers [H, W], found 8"],
  ])("%j is told", (change, message) => {
    const make = () => createModel("caformer/tiny", { ...SMALL, ...change });
    expect(make).toThrow(SettingError);
    expect(make).toThrow(message);
  });

  it("of the official code likewise", () => {
    const kind = findSystem("caformer").official.model;
    expect(() => kind?.build({ dim: [1] })).toThrow('unknown key "dim", did you mean "dims"?');
    expect(() => kind?.build({ named: "convformer_s18" })).toThrow('"named" must be caformer_b36, found "convformer_s18"');
  });

  it("and an input of events is refused", () => {
    const net = createModel("caformer/tiny", SMALL);
    expect(() => net.forward(randn([2, 1, 8, 8, 1]))).toThrow("images [B, H, W, 1]");
  });
});
