// How deep the parameters of networks lie: rates that decay from the head down go by it.
import { expect, it } from "vitest";
import { blockLayers } from "../../src/models/layers.ts";
import { findSystem, resolveModel } from "../../src/models/registry.ts";
import { withoutDraws } from "../../src/nn/init.ts";
import { init } from "../../src/runtime/engine.ts";

it("counts the blocks of all stages, in order", () => {
  const { count, of } = blockLayers(
    [
      ["block3", 6],
      ["block4", 2],
    ],
    { downsample4: "block4" },
  );
  expect(count).toBe(9);
  expect(
    [
      "downsample1_1.encode_conv.weight",
      "downsample3.encode_bn.bias",
      "block3.0.attn.q",
      "block3.5.x",
      "downsample4.x",
      "block4.0.x",
      "block4.1.x",
      "head.weight",
      "head_kd.bias",
    ].map(of),
  ).toEqual([0, 0, 1, 6, 7, 7, 8, 9, 9]);
});

it.each(["sdt-v1/imagenet-8-384", "sdt-v2/15M", "sdt-v3/5m", "sdt-v3/large-tiny"])(
  "of %s: no layer is empty, and no key has none",
  async (name) => {
    await init({ device: "wasm" });
    const { system, config } = resolveModel(name);
    const layers = system.layers?.(config);
    const model = withoutDraws(() => findSystem(system.name).build(config));
    const found = new Set([...model.namedParameters()].map(([key]) => layers?.of(key)));
    expect([...found].sort((a, b) => (a as number) - (b as number))).toEqual(Array.from({ length: (layers?.count ?? 0) + 1 }, (_, i) => i));
    model.dispose();
  },
);
