/** What belongs to whom on the tape: inputs handed on, gradients that were there before, memory changed through another handle. */
import { beforeAll, describe, expect, it } from "vitest";
import {
  backward,
  checkpoint,
  defineOp,
  full,
  grad,
  init,
  nn,
  optim,
  SpikeloomError,
  scope,
  snn,
  type Tensor,
  tensor,
} from "../../src/index.ts";

const parameter = (values: number[], shape = [values.length]) => new nn.Parameter(tensor(Float32Array.from(values), shape));

beforeAll(async () => {
  await init({ device: "reference" });
});

describe("user operations", () => {
  it("may return their input: a parameter stays a leaf, step after step", () => {
    const reverse = defineOp({ name: "reverse", forward: (_ctx, [x]) => x as Tensor, backward: (_ctx, [g]) => [(g as Tensor).neg()] });
    const w = parameter([2, 3]);
    for (let step = 0; step < 3; step++) scope(() => reverse([w], undefined).sum().backward());
    expect([...(w.grad as Tensor).dataSync()]).toEqual([-3, -3]);
  });

  it("may return what was there before as a gradient: it is neither kept nor freed nor added into", () => {
    const constant = full([2], 5);
    const give = defineOp({
      name: "give",
      forward: (_ctx, [x]) => (x as Tensor).mul(1),
      backward: () => [constant],
    });
    const square = defineOp({
      name: "half square",
      forward(ctx, [x]) {
        ctx.save(x as Tensor);
        return (x as Tensor).square().mul(0.5);
      },
      backward: (ctx) => [ctx.saved[0] as Tensor],
    });
    const w = parameter([1, 2]);
    scope(() =>
      give([w], undefined)
        .sum()
        .add(square([w], undefined).sum())
        .backward(),
    );
    scope(() => give([w], undefined).sum().backward());
    expect([...(w.grad as Tensor).dataSync()]).toEqual([11, 12]);
    expect([...constant.dataSync()]).toEqual([5, 5]);
  });

  it("must give f32 gradients, and so must the caller of backward", () => {
    const wrong = defineOp({ name: "wrong", forward: (_ctx, [x]) => (x as Tensor).mul(1), backward: () => [tensor(Uint8Array.of(1, 1))] });
    const w = parameter([1, 2]);
    expect(() => scope(() => wrong([w], undefined).sum().backward())).toThrow(/wrong: backward gave a gradient of dtype u8/);
    expect(() => scope(() => backward(w.mul(2), { gradient: tensor(Uint8Array.of(1, 1)) }))).toThrow(/gradient must be of dtype f32/);
  });
});

describe("memory changed in place between forward and backward", () => {
  it("is refused through every handle on it", () => {
    const w = parameter([1, 2]);
    const x = full([2], 1);
    x.requiresGrad = true;
    const y = x.mul(w.reshape([2])).sum();
    w.set([9, 9]);
    expect(() => y.backward()).toThrow(/changed in place/);
  });

  it("is refused for class numbers too, which the kernels trust", () => {
    const logits = parameter([0, 1, 2, 3], [2, 2]);
    const targets = tensor(Int32Array.of(0, 1));
    const loss = nn.crossEntropy(logits, targets);
    targets.set([1 << 28, 1 << 28]);
    expect(() => loss.backward()).toThrow(/changed in place/);
  });
});

describe("gradients of functions and parts", () => {
  it("grad(fn) leaves the parameters used inside alone", () => {
    const w = parameter([3]);
    const [g] = grad((x) => x.mul(w).sum())(full([1], 2));
    expect(g?.itemSync()).toBe(3);
    expect(w.grad).toBeNull();
  });

  it("a carried state inside checkpoint() is an error, since it cannot be repeated", () => {
    const neuron = new snn.LIF({ carry: "detached" });
    const x = full([2, 1, 3], 1);
    x.requiresGrad = true;
    expect(() => checkpoint((h) => neuron.forward(h), x)).toThrow(/inside checkpoint/);
  });

  it("a wrong surrogate is told, not trained with", () => {
    for (const surrogate of ["atan", snn.surrogate.atan, {}])
      expect(() => new snn.LIF({ surrogate: surrogate as never })).toThrow(/snn\.surrogate\.atan\(\)/);
  });
});

describe("optimisers", () => {
  it("AdamW counts the updates of each parameter", () => {
    const run = (late: boolean) => {
      const [a, b] = [parameter([1]), parameter([1])];
      const opt = new optim.AdamW([a, b], { lr: 0.1, weightDecay: 0 });
      for (let step = 0; step < 5; step++) {
        opt.zeroGrad();
        a.grad = full([1], 1);
        if (!late || step === 4) b.grad = full([1], 1);
        opt.step();
      }
      return 1 - b.itemSync();
    };
    // A first update moves by the learning rate, whenever it comes.
    expect(run(true)).toBeCloseTo(0.1, 6);
    expect(run(false)).toBeCloseTo(0.5, 6);
  });

  it("a group's own rate follows the schedule in proportion", () => {
    const [a, b] = [parameter([0]), parameter([0])];
    const opt = new optim.SGD([{ parameters: [a] }, { parameters: [b], lr: 0.01 }], { lr: 0.1 });
    opt.lr = 0.05;
    a.grad = full([1], 1);
    b.grad = full([1], 1);
    opt.step();
    expect(a.itemSync()).toBeCloseTo(-0.05, 9);
    expect(b.itemSync()).toBeCloseTo(-0.005, 9);
  });

  it("refuse a gradient of another shape", () => {
    const w = parameter([1, 2]);
    const opt = new optim.SGD([w], { lr: 0.1 });
    w.grad = full([1], 1);
    expect(() => opt.step()).toThrow(SpikeloomError);
  });
});

describe("shapes", () => {
  it("that are none are refused before any memory is taken", () => {
    for (const shape of [[-1, -2], [1.5], [Number.NaN], [2 ** 40, 2 ** 40]]) expect(() => full(shape, 0)).toThrow(SpikeloomError);
  });
});
