/** A file's keys against a model's: what is the same, renamed, missing, left over, of another shape; and what is harmless. */
import { describe, expect, test } from "vitest";
import { ndArray } from "../../src/formats/array.ts";
import type { StoredTensor } from "../../src/formats/stored.ts";
import { describeMatch, isWhole, loadWeights, matchState, type StateRules } from "../../src/models/state.ts";
import * as nn from "../../src/nn/index.ts";
import { init } from "../../src/runtime/engine.ts";
import { SpikeloomError } from "../../src/runtime/error.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";

class Net extends nn.Module {
  conv = new nn.Conv2d(1, 2, 3);
  bn = new nn.BatchNorm2d(2);
  head = new nn.Linear(2, 3);
  forward(x: Tensor): Tensor {
    return x;
  }
}

const rules: StateRules = {
  renames: [{ from: /^stem\.(\w+)$/, to: "conv.$1", why: "the first release's name" }],
  harmless: [{ keys: /^head_kd\./, why: "the distillation head" }],
};

/** A file of values that are their own places, and a count of the tensors that were read. */
function stored(shapes: Record<string, number[]>) {
  let reads = 0;
  const tensors = new Map<string, StoredTensor>();
  for (const [key, shape] of Object.entries(shapes)) {
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i);
    tensors.set(key, {
      dtype: "f32",
      shape,
      read: async () => {
        reads++;
        return ndArray("f32", shape, values);
      },
    });
  }
  return { tensors, reads: () => reads };
}

const own = {
  "conv.weight": [2, 1, 3, 3],
  "conv.bias": [2],
  "bn.weight": [2],
  "bn.bias": [2],
  "bn.running_mean": [2],
  "bn.running_var": [2],
  "bn.num_batches_tracked": [],
  "head.weight": [3, 2],
  "head.bias": [3],
};
const without = (...keys: string[]) =>
  Object.fromEntries(Object.entries(own).filter(([k]) => !keys.includes(k))) as Record<string, number[]>;
const shapes = new Map(Object.entries(own));
const match = (file: Record<string, number[]>, by: StateRules = rules) => matchState(shapes, stored(file).tensors, by);

describe("keys", () => {
  test("the model's own, in any order", () => {
    const found = match(Object.fromEntries(Object.entries(own).reverse()));
    expect([...found.pairs]).toEqual(Object.keys(own).map((k) => [k, k]));
    expect([isWhole(found), describeMatch(found)]).toEqual([true, []]);
  });

  test("renamed by the system, by everybody, and under a prefix of all", () => {
    const found = match({
      ...without("conv.weight", "bn.weight", "bn.bias"),
      "stem.weight": [2, 1, 3, 3],
      "bn.gamma": [2],
      "bn.beta": [2],
    });
    expect(found.pairs.get("conv.weight")).toBe("stem.weight");
    expect([found.pairs.get("bn.weight"), found.pairs.get("bn.bias")]).toEqual(["bn.gamma", "bn.beta"]);
    expect(describeMatch(found)[0]).toBe("1 renamed (the first release's name): stem.weight -> conv.weight");
    const prefixed = match(Object.fromEntries(Object.entries(own).map(([k, v]) => [`backbone.${k}`, v])));
    expect([prefixed.pairs.size, isWhole(prefixed)]).toEqual([9, true]);
    expect(prefixed.renamed[0]).toEqual({
      from: "backbone.conv.weight",
      to: "conv.weight",
      why: 'the prefix "backbone." before every key',
    });
  });

  test("a rename never takes the place of the key itself", () => {
    const found = match({ ...own, "stem.weight": [2, 1, 3, 3] });
    expect(found.pairs.get("conv.weight")).toBe("conv.weight");
    expect(found.extra).toEqual(["stem.weight"]);
  });

  test("missing, left over, and of another shape are told apart from what is harmless", () => {
    const found = match({
      ...without("head.bias", "bn.num_batches_tracked"),
      "head.weight": [10, 2],
      "head_kd.weight": [3, 2],
      "extra.weight": [1],
    });
    expect(found).toMatchObject({
      missing: ["head.bias"],
      extra: ["extra.weight"],
      misshaped: [{ key: "head.weight", expected: [3, 2], found: [10, 2] }],
    });
    expect(found.harmless.map((h) => h.key)).toEqual(["head_kd.weight", "bn.num_batches_tracked"]);
    expect(isWhole(found)).toBe(false);
    expect(match(without("bn.num_batches_tracked"))).toMatchObject({ missing: [] });
    expect(isWhole(match({ ...own, "head_kd.weight": [3, 2] }))).toBe(true);
    expect(isWhole(match({ ...own, "head_kd.weight": [3, 2] }, {}))).toBe(false);
  });

  test("axes of one may differ", () => {
    const found = match({ ...own, "head.weight": [3, 2, 1, 1] });
    expect(found.reshaped).toEqual([{ key: "head.weight", from: [3, 2, 1, 1], to: [3, 2] }]);
    expect(isWhole(found)).toBe(true);
    expect(match({ ...own, "head.weight": [2, 3] }).misshaped).toHaveLength(1);
  });
});

describe("loadWeights", () => {
  test("sets what fits, in PyTorch's axis order, each tensor read once", async () => {
    await init({ device: "reference", threads: 1 });
    const net = new Net();
    const file = stored({ ...without("conv.weight"), "stem.weight": [2, 1, 3, 3], "head.weight": [3, 2, 1] });
    const found = await loadWeights(net, file.tensors, rules);
    expect([found.renamed.length, file.reads()]).toEqual([1, 9]);
    const state = net.stateDict();
    expect(Array.from(state.get("conv.weight")!.data as Float64Array)).toEqual(Array.from({ length: 18 }, (_, i) => i));
    expect(Array.from(state.get("head.weight")!.data as Float64Array)).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test("refuses before anything is read, and loads what it can where that is asked for", async () => {
    await init({ device: "reference", threads: 1 });
    const net = new Net();
    const before = net.stateDict();
    const file = stored({ ...own, "head.weight": [10, 2], "head.bias": [10] });
    const refused = loadWeights(net, file.tensors, rules, { name: "a.pth" });
    await expect(refused).rejects.toThrow(SpikeloomError);
    await expect(refused).rejects.toThrow(
      "a.pth does not fit the model: 2 of another shape: head.weight (the model's [3, 2], the file's [10, 2]), head.bias (the model's [3], the file's [10])",
    );
    expect(file.reads()).toBe(0);
    expect(net.stateDict()).toEqual(before);
    const { misshaped } = await loadWeights(net, file.tensors, rules, { partial: true });
    expect(misshaped).toHaveLength(2);
    expect(net.stateDict().get("head.weight")).toEqual(before.get("head.weight"));
    expect(Array.from(net.stateDict().get("conv.bias")!.data as Float64Array)).toEqual([0, 1]);
    await expect(loadWeights(net, stored({ other: [1] }).tensors, rules, { partial: true })).rejects.toThrow("does not fit the model");
  });
});
