// Every energy convention against its own formula over plain loops; its rule says T and D; wrong names are told.
import { beforeAll, describe, expect, it } from "vitest";
import { breakEvenRate, energy, type Operations, operations, presets, priceOperations, survey } from "../../src/measure/index.ts";
import { createModel, resolveModel } from "../../src/models/index.ts";
import * as nn from "../../src/nn/index.ts";
import { init } from "../../src/runtime/engine.ts";
import * as snn from "../../src/spiking/index.ts";
import { mean } from "../../src/tensor/ops/reduce.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { draw } from "../gradcheck.ts";
import "../../src/tensor/methods.ts";

const T = 3;
class Net extends nn.Module {
  conv = new nn.Conv2d(2, 4, 3, { padding: 1, stride: 2 });
  quant = new snn.ILIF({ levels: 4 });
  mid = new nn.Conv2d(4, 6, 3, { padding: 1, groups: 2 });
  real = new nn.Conv2d(6, 3, 1);
  lif = new snn.LIF({ vThreshold: 0.1 });
  fc = new nn.Linear(27, 5);
  forward(x: Tensor): Tensor {
    const s = this.quant.forward(this.conv.forward(snn.repeat(x, T)));
    return mean(this.fc.forward(nn.flatten(this.lif.forward(this.real.forward(this.mid.forward(s))), 2)), 0);
  }
}

/** Dense operations of one step: conv, mid, real, fc. */
const [CONV, MID, REAL, FC] = [9 * 9 * 8, (9 * 9 * 24) / 2, 9 * 18, 27 * 5];
/** Inside the borders: a 6 x 6 image at stride 2 and padding 1; a 3 x 3 image at stride 1. */
const [CONV_IN, MID_IN] = [8 * 8 * 8, (7 * 7 * 24) / 2];
const [MAC, AC] = [4.6, 0.9];

let net: Net;
let ops: Operations;
let mid: Operations["layers"][number];
let fc: Operations["layers"][number];

beforeAll(async () => {
  await init({ device: "wasm", threads: 1, seed: 1 });
  net = new Net();
  ops = await operations(net, draw([4, 6, 6, 2], 3, 0, 9));
  [mid, fc] = [ops.layers[1], ops.layers[3]] as [typeof mid, typeof fc];
  expect(ops.layers.map((l) => [l.denseOps, l.spikes, l.levels])).toEqual([
    [CONV, false, 1],
    [MID, true, 4],
    [REAL, false, 1],
    [FC, true, 1],
  ]);
  expect(mid.value).toBeGreaterThan(mid.nonZero);
});

const total = (preset: string, options = {}) => priceOperations(ops, { preset, ...options }).total.energy;

describe("conventions", () => {
  it("plain: exact spikes, dense MACs", () => {
    expect(total("plain")).toBeCloseTo(MAC * T * (CONV + REAL) + AC * (mid.synOps + fc.synOps), 6);
    expect(total("plain", { firstLayer: "once" })).toBeCloseTo(MAC * (CONV + T * REAL) + AC * (mid.synOps + fc.synOps), 6);
  });

  it("sdt: the first layer MAC, all others AC by the fraction that is not zero; the classifier left out", () => {
    const real = ops.layers[2] as typeof mid;
    const acs = T * (mid.nonZero * MID + real.nonZero * REAL);
    expect(total("sdt")).toBeCloseTo(MAC * T * CONV + AC * acs, 6);
    expect(total("sdt", { firstLayer: "once" })).toBeCloseTo(MAC * CONV + AC * acs, 6);
    expect(priceOperations(ops, { preset: "sdt" }).layers.map((l) => l.layer)).toEqual(["conv", "mid", "real"]);
  });

  it("ems-yolo: T (fr AC + MAC), strictly or the first layer alone, a rate a layer or one for all", () => {
    const acs = T * (mid.value * MID + fc.value * FC);
    expect(total("ems-yolo")).toBeCloseTo(MAC * T * (CONV + REAL) + AC * acs, 6);
    expect(total("ems-yolo", { settings: { macs: "first" } })).toBeCloseTo(MAC * CONV + AC * acs, 6);
    const fr = (mid.value * 36 + fc.value * 27) / 63;
    expect(total("ems-yolo", { settings: { rate: "network" } })).toBeCloseTo(MAC * T * (CONV + REAL) + AC * T * fr * (MID + FC), 6);
  });

  it("spike-yolo: the mean integer holds D, T is written out; the sheet's stem at 4.14 pJ", () => {
    const acs = T * (mid.value * MID + fc.value * FC);
    expect(total("spike-yolo")).toBeCloseTo(MAC * T * (CONV + REAL) + AC * acs, 6);
    expect(total("spike-yolo", { settings: { stem: "sheet" } })).toBeCloseTo(4.14 * T * (CONV + REAL) + AC * acs, 6);
    expect(priceOperations(ops, { preset: "spike-yolo" }).layers[1]?.rule).toContain("(D = 4) x T (3)");
  });

  it("e-3dsnn: pairs inside the borders; its script counts FLOPs without any rate", () => {
    expect(total("e-3dsnn")).toBeCloseTo(MAC * T * (CONV_IN + REAL) + AC * (mid.synOps + fc.synOps), 6);
    const flops = 2 * (CONV_IN + MID_IN + REAL + FC) - (36 + 54 + 27 + 5);
    expect(total("e-3dsnn-script")).toBeCloseTo(MAC * flops, 6);
  });

  it("memory: what is moved and computed, against an ANN of log2(T D + 1) bits", () => {
    const report = priceOperations(ops, { preset: "memory" });
    const byte = 2.5;
    const row = report.layers[1];
    const bits = 3; // of an integer up to 4
    const moved = mid.synOps + T * (36 * (bits / 8) + 54 * (8 + bits / 8));
    expect(row?.energy).toBeCloseTo(0.1 * mid.synOps + byte * moved, 6);
    const b = 4; // 3 steps of up to 4: 0 to 12
    expect(row?.annEnergy).toBeCloseTo(MID * ((0.2 * b) / 8 + 0.1 + (1 + b / 8) * byte) + 54 * (b / 8) * byte, 6);
    const first = report.layers[0];
    expect(first?.energy).toBeCloseTo(T * (CONV * (0.3 + 2 * byte) + 36 * (8 + 1 / 8) * byte), 6);
    expect(report.notes[0]).toMatch(/break-even/);
  });

  it("memory: at the break-even rate both need the same", () => {
    // Long rows of synapses, so that the membranes are not everything.
    const layer = { ...mid, inputs: 100, outputs: 10, boundedOps: 1e5, denseOps: 1e5, levels: 1, timeSteps: 2, still: false, first: false };
    const at = (rate: number): Operations => ({ ...ops, timeSteps: 2, layers: [{ ...layer, synOps: rate * 2 * 1e5 }] });
    const { rate, breakEven } = breakEvenRate(at(0.1));
    expect(rate).toBeCloseTo(0.1, 12);
    expect(breakEven).toBeGreaterThan(0);
    const { energy: here, annEnergy } = priceOperations(at(breakEven), { preset: "memory" }).total;
    expect(here).toBeCloseTo(annEnergy, 4);
    expect(priceOperations(at(breakEven * 0.9), { preset: "memory" }).total.energy).toBeLessThan(annEnergy);
  });

  it("every rule writes out T and D and says that it is an estimate; every layer says how it was counted", () => {
    for (const { name } of presets) {
      const { rule, layers, source, title } = priceOperations(ops, { preset: name });
      expect(rule, name).toContain("T = 3, D = 1 or 4");
      expect(rule, name).toMatch(/an estimate$/);
      expect(source && title, name).toBeTruthy();
      expect(layers.every((l) => l.rule.length > 2)).toBe(true);
    }
  });

  it("takes other costs, and says which", () => {
    const report = priceOperations(ops, { preset: "ems-yolo", costs: { name: "mine", mac: 2, ac: 0.5 } });
    expect(report.total.energy).toBeCloseTo(2 * report.total.macs + 0.5 * report.total.acs, 6);
    expect(report.rule).toContain("fr x 0.5 pJ");
  });

  it("tells wrong names and values, before the model runs", async () => {
    const x = draw([1, 6, 6, 2], 3);
    await expect(energy(net, x, { preset: "ems-yol" })).rejects.toThrow('unknown energy preset "ems-yol", did you mean "ems-yolo"?');
    await expect(energy(net, x, { preset: "sdt", settings: { qkvrate: "paper" } })).rejects.toThrow(
      'energy preset sdt: unknown setting "qkvrate", did you mean "qkvRate"? (one of qkvRate, spsRate, kvRate)',
    );
    await expect(energy(net, x, { preset: "plain", settings: { a: "b" } })).rejects.toThrow('unknown setting "a" (it has none)');
    await expect(energy(net, x, { preset: "ems-yolo", settings: { macs: "all" } })).rejects.toThrow(
      'energy preset ems-yolo: macs must be one of strict, first, found "all"',
    );
    await expect(energy(net, x, { firstLayer: "never" as "T" })).rejects.toThrow('firstLayer must be "T" or "once", found "never"');
  });
});

describe("a model's own table", () => {
  it("takes its rates from the network: by the settings of q and k, of the pool, of the first layer", async () => {
    const small = { embedDims: 16, depths: 1, numHeads: 2, inChannels: 1, imageSize: [8, 8], pooling: "0101" };
    const model = createModel("sdt-v1/cifar10-2-256", small);
    const { system, config } = resolveModel("sdt-v1/cifar10-2-256", small);
    // As it begins, hardly a neuron fires.
    for (const [name, p] of model.namedParameters()) if (/conv\d?\.weight$/.test(name)) p.set(p.dataSync().map((w) => 20 * w));
    const found = await survey(model, draw([3, 8, 8, 1], 3, 0, 4));
    const table = (settings: Readonly<Record<string, string>>) =>
      system.energyTable?.(config, { timeSteps: 4, height: 8, width: 8 }, settings) ?? { rule: "", timeSteps: 0, rows: [] };
    const rate = (name: string) => found.taps.find((r) => r.layer === name)?.rate as number;
    const part = (name: string, settings = {}, firstLayer: "T" | "once" = "T") =>
      found.energy({ preset: "sdt", settings, firstLayer }, table).layers.find((l) => l.layer === name);
    const N = 4;
    const D = 16;
    // 8 x 8, pooled after the second and the fourth convolution.
    expect(part("sps.conv2")).toMatchObject({ denseOps: 9 * 16 * 4 * 8, acs: expect.closeTo(4 * rate("MS_SPS_lif1") * 9 * 16 * 4 * 8, 6) });
    const pooled = found.operations.layers.find((l) => l.layer === "patch_embed.proj_conv2")?.nonZero as number;
    expect(pooled).toBeGreaterThan(rate("MS_SPS_lif1"));
    expect(part("sps.conv2", { spsRate: "actual" })?.firingRate).toBeCloseTo(pooled, 12);
    const [q, k, v, first] = ["q", "k", "v", "first"].map((n) => rate(`MS_SSA_Conv0_${n}_lif`)) as [number, number, number, number];
    expect(part("block0.qkv")?.energy).toBeCloseTo(((AC * 4 * (q + k + v)) / 3) * 3 * N * D * D, 6);
    expect(part("block0.qkv", { qkvRate: "input" })?.firingRate).toBeCloseTo(first, 12);
    expect(part("block0.sdsa")?.acs).toBeCloseTo(4 * (q + k) * N * D, 9);
    expect(part("block0.sdsa", { kvRate: "k+v" })?.acs).toBeCloseTo(4 * (k + v) * N * D, 9);
    expect(part("block0.sdsa")?.annEnergy).toBeCloseTo(MAC * 2 * N * N * D, 9);
    expect(part("block0.mlp2")?.acs).toBeCloseTo(4 * rate("MS_MLP_Conv0_fc2_lif") * 4 * N * D * D, 6);
    expect([part("sps.conv0")?.macs, part("sps.conv0", {}, "once")?.macs]).toEqual([4 * 9 * 64 * 2, 9 * 64 * 2]);
    expect(found.energy({ preset: "sdt" }, table).rule).toMatch(/T = 4, D = 1; an estimate$/);
    // Without the table the generic form of the convention is used: the head is left out there too.
    expect(found.energy({ preset: "sdt" }).layers.map((l) => l.layer)).not.toContain("head");
    model.dispose();
  });
});
