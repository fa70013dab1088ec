// What `check` says of networks whose multiplications are known: what remains, what folds and where to, and that nothing is computed.
import { beforeEach, describe, expect, it } from "vitest";
import { check } from "../../src/measure/index.ts";
import { createModel } from "../../src/models/registry.ts";
import * as nn from "../../src/nn/index.ts";
import { device, init } from "../../src/runtime/engine.ts";
import * as snn from "../../src/spiking/index.ts";
import { defineOp } from "../../src/tensor/tape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { ones } from "../../src/tensor/tensor.ts";
import "../../src/tensor/methods.ts";

beforeEach(() => init({ device: "wasm", threads: 1 }));

/** A module of named parts and a function. */
class Net<P extends Record<string, nn.Module>> extends nn.Module {
  readonly run: (x: Tensor) => Tensor;
  constructor(parts: P, run: (parts: P, x: Tensor) => Tensor) {
    super();
    Object.assign(this, parts);
    this.run = (x) => run(parts, x);
  }
  forward(x: Tensor): Tensor {
    return this.run(x);
  }
}

const brief = ({ remaining, folded }: ReturnType<typeof check>) => ({
  remaining: remaining.map((r) => `${r.layer}: ${r.kind} (${r.op}), ${r.multiplications}`),
  folded: folded.map((f) => `${f.layer}: ${f.what} into ${f.into}`),
});

const image = [1, 6, 6, 3];
const conv = (cin: number, cout: number, padding = 1) => new nn.Conv2d(cin, cout, 1 + 2 * padding, { padding });

describe("check", () => {
  it("of a spike-driven network leaves the first layer, and folds norms and what a spike is worth into weights", () => {
    const net = new Net(
      {
        conv: conv(3, 8),
        bn: new nn.BatchNorm2d(8),
        s: new snn.Quant(),
        conv2: conv(8, 4),
        bn2: new nn.BatchNorm2d(4),
        head: new nn.Linear(4, 2),
      },
      (n, x) => n.head.forward(n.s.forward(n.bn2.forward(n.conv2.forward(n.s.forward(n.bn.forward(n.conv.forward(x))))).mean([1, 2]))),
    );
    const found = check(net, image);
    expect(brief(found)).toEqual({
      remaining: [`conv: dense input (conv2d), ${36 * 8 * 27}`],
      folded: [
        "bn: norm into weights of conv",
        "s: spike's worth into weights of conv2",
        "bn2: norm into weights of conv2",
        ": mean into weights of conv2",
        "s: spike's worth into weights of head",
      ],
    });
    expect(found.adding).toEqual({ products: 2, additions: 36 * 4 * 72 + 8 });
    expect(found.multiplications).toBe(36 * 8 * 27);
    expect(found.remaining[0]).toMatchObject({ inputs: [image, [3, 3, 3, 8], [8]], output: [1, 6, 6, 8] });
    // Integers are no spikes.
    expect(brief(check(net, image, { mode: "integer" })).remaining).toEqual([
      "conv: dense input (conv2d), 7776",
      "conv2: integers (conv2d), 10368",
      "head: integers (linear), 8",
    ]);
    expect(net.training).toBe(true);
  });

  it("puts a factor into thresholds where no weights stand before it, and says when it fits nowhere", () => {
    const parts = { conv: conv(3, 8), s: new snn.Quant({ norm: 1 }), out: new snn.Quant({ norm: 1 }), head: new nn.Linear(8, 2) };
    const attention = (scale: (o: Tensor) => Tensor) =>
      new Net({ ...parts, bn: new nn.BatchNorm2d(8) }, (n, x) => {
        const s = (n.s.forward(n.conv.forward(x)) as Tensor).reshape([1, 36, 8]);
        return n.head.forward(n.out.forward(scale(s.matmul(s, { transposeB: true }).matmul(s))));
      });
    expect(
      brief(
        check(
          attention((o) => o.mul(0.3)),
          image,
        ),
      ),
    ).toEqual({
      remaining: ["conv: dense input (conv2d), 7776"],
      folded: [": scale into thresholds of out"],
    });
    expect(
      brief(
        check(
          attention((o) => o),
          image,
        ),
      ).folded,
    ).toEqual([]);
    // Added to something else before the neuron: no threshold can take it.
    expect(
      brief(
        check(
          attention((o) => o.mul(0.3).add(o)),
          image,
        ),
      ).remaining[1],
    ).toBe(": scale (affine), 288");
    // One for each channel.
    expect(
      brief(
        check(
          attention((o) => o.mul(ones([8]).mul(0.5))),
          image,
        ),
      ).folded,
    ).toEqual([": scale into thresholds of out"]);
  });

  it("folds a batch norm into the next weights only where its shift meets no border", () => {
    const net = (padding: number) =>
      new Net({ bn: new nn.BatchNorm2d(3), conv: conv(3, 4, padding) }, (n, x) => n.conv.forward(n.bn.forward(x)));
    expect(brief(check(net(0), image))).toEqual({
      remaining: ["conv: dense input (conv2d), 432"],
      folded: ["bn: norm into weights of conv"],
    });
    expect(brief(check(net(1), image)).remaining).toEqual(["bn: norm (batchNorm), 108", "conv: dense input (conv2d), 3888"]);
  });

  it("knows that weights behind a mean of spikes are added for each of them", () => {
    const net = new Net({ s: new snn.LIF(), head: new nn.Linear(3, 2) }, (n, x) => n.head.forward(n.s.forward(x).mean([-3, -2])));
    expect(brief(check(net, [2, ...image]))).toEqual({ remaining: [], folded: [": mean into weights of head"] });
  });

  it("takes two layers of weights without a neuron between for one", () => {
    const net = new Net({ s: new snn.LIF(), a: conv(3, 8, 0), bn: new nn.BatchNorm2d(8), b: conv(8, 4), c: conv(4, 4) }, (n, x) =>
      n.c.forward((n.b.forward(n.bn.forward(n.a.forward(n.s.forward(x)))) as Tensor).relu()),
    );
    const found = check(net, [2, ...image]);
    expect(brief(found)).toEqual({
      remaining: [`c: dense input (conv2d), ${2 * 36 * 4 * 36}`],
      folded: ["bn: norm into weights of a", "b: linear chain into weights of a"],
    });
    expect(found.remarks).toEqual([{ layer: "s", what: "leak", count: 216, note: "by 0.5: a shift of bits" }]);
  });

  it("takes what does not follow from the input for weights, and a sum with it for a bias", () => {
    const border = () => ones([6, 6, 8]).mul(3);
    const net = new Net({ s: new snn.LIF(), a: conv(3, 8, 0), b: conv(8, 4) }, (n, x) =>
      n.b.forward(n.a.forward(n.s.forward(x)).add(border())),
    );
    expect(brief(check(net, [2, ...image]))).toEqual({ remaining: [], folded: ["b: linear chain into weights of a"] });
    expect(() => check(new Net({}, () => ones([3]).mul(2)), image)).toThrow("does not follow from its input");
  });

  it("tells products of values, functions, and operations that it does not know", () => {
    const own = defineOp({ name: "mine", forward: (_ctx, [x]) => x as Tensor, backward: () => [] });
    const net = new Net({ fc: new nn.Linear(3, 3) }, (n, x) => {
      const y = n.fc.forward(x) as Tensor;
      return own([nn.softmax(y.mul(y)).matmul(y, { transposeA: true }).div(y.sum())], undefined);
    });
    expect(brief(check(net, [1, 5, 3])).remaining).toEqual([
      "fc: dense input (linear), 45",
      ": product (mul), 15",
      ": function (softmax), 15",
      ": product (matmul), 45",
      ": function (div), 9",
      ": unknown (mine), 9",
    ]);
  });

  it("finds one multiplying layer in SDT-V1, whose pools are ORs and whose leaks are shifts", () => {
    const before = device().memory().used;
    const found = check(() => createModel("sdt-v1/cifar10-2-256"), [1, 32, 32, 3]);
    expect(device().memory().used).toBe(before);
    expect(brief(found).remaining).toEqual([`patch_embed.proj_conv: dense input (conv2d), ${32 * 32 * 32 * 27}`]);
    expect(new Set(found.folded.map(({ what }) => what))).toEqual(new Set(["norm", "mean"]));
    expect(found.folded.every(({ into }) => /^(weights|thresholds) of /.test(into))).toBe(true);
    expect(found.remarks.filter(({ what }) => what === "max pool").every(({ note }) => note === "OR of spikes")).toBe(false);
    expect(found.remarks.filter(({ what }) => what === "leak").every(({ note }) => note === "by 0.5: a shift of bits")).toBe(true);
    expect(found.adding.products).toBe(4 + 2 * 6 + 1);
  });

  it("takes the choice of seen rows in masked pre-training for no multiplication", () => {
    const found = check(() => createModel("sdt-v3/mae-tiny"), [1, 28, 28, 1]);
    expect(found.remaining.filter(({ kind }) => kind === "unknown" || kind === "norm")).toEqual([]);
    expect(found.folded).toContainEqual(
      expect.objectContaining({ layer: "downsample1_1.encode_bn", into: "weights of downsample1_1.encode_conv" }),
    );
  });

  it("names wrong arguments", () => {
    const net = new nn.Linear(3, 3);
    expect(() => check(net, [0, 3])).toThrow("measure.check: the input's shape must be a list of integers >= 1, found [0, 3]");
    expect(() => check({} as nn.Module, [1, 3])).toThrow("measure.check: expected a module or a function that makes one");
    expect(() => check(net, [1, 3], { mode: "spike" as "spikes" })).toThrow('one of "integer", "spikes"');
  });
});
