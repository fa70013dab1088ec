// Recurrent layers against an explicit recurrence on dual numbers, in float64, with the weights among the variables; the same on every
// device; state in and out; and the parameters' names.
import { beforeAll, describe, expect, test } from "vitest";
import { ILIF, LIF, type Neuron, PLIF } from "../../src/spiking/neurons.ts";
import { LinearRecurrent, RLIF } from "../../src/spiking/recurrent.ts";
import { piecewiseQuadratic } from "../../src/spiking/surrogate.ts";
import { Synaptic } from "../../src/spiking/synaptic.ts";
import { add, mul } from "../../src/tensor/ops/elementwise.ts";
import { concat, narrow } from "../../src/tensor/ops/layout.ts";
import { sum } from "../../src/tensor/ops/reduce.ts";
import { scope } from "../../src/tensor/scope.ts";
import { backward } from "../../src/tensor/tape.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { numbers } from "../gradcheck.ts";
import { close, leaf, on, sameEverywhere, values } from "../tensor/support.ts";
import { Dual, variable } from "./oracle.ts";

const T = 4;
const B = 2;
const C = 3;
const x = numbers(T * B * C, 3, -1, 2);
const gs = numbers(T * B * C, 5, -1, 1);
const gv = numbers(2 * B * C, 6, -1, 1);
const start = [...numbers(B * C, 8, -1, 1), ...numbers(B * C, 9, 0, 1)]; // membranes, then last spikes
const surrogate = piecewiseQuadratic({ alpha: 0.8 });
const options = { tau: 2, vThreshold: 0.6, surrogate, detachReset: false } as const;

const at = (list: readonly number[], i: number, from: number) => variable(list[i] as number, from + i);
const emit = (h: Dual): Dual => h.map(h.v >= 0.6 ? 1 : 0, Math.max(0, 0.8 - 0.64 * Math.abs(h.v - 0.6)));
const total = (terms: readonly Dual[]): Dual => terms.reduce((a, b) => a.add(b), new Dual(0));

/** LIF (tau 2, hard reset to 0) on `drive(b, t, c, last spikes)`: spikes, last state, and the loss's gradient for every variable. */
function recurrence(drive: (b: number, t: number, c: number, last: readonly Dual[]) => Dual) {
  const spikes: number[] = [];
  const state: number[] = [];
  let loss = new Dual(0);
  for (let b = 0; b < B; b++) {
    const membrane = Array.from({ length: C }, (_, c) => at(start, b * C + c, T * B * C));
    let last = Array.from({ length: C }, (_, c) => at(start, (B + b) * C + c, T * B * C));
    for (let t = 0; t < T; t++) {
      const now = last;
      last = membrane.map((v, c) => {
        const h = v.add(drive(b, t, c, now).sub(v).mul(0.5));
        const s = emit(h);
        membrane[c] = h.mul(s.mul(-1).add(1));
        const i = (t * B + b) * C + c;
        spikes[i] = s.v;
        loss = loss.add(s.mul(gs[i] as number));
        return s;
      });
    }
    membrane.forEach((v, c) => {
      const s = last[c] as Dual;
      state[b * C + c] = v.v;
      state[(B + b) * C + c] = s.v;
      loss = loss.add(v.mul(gv[b * C + c] as number)).add(s.mul(gv[(B + b) * C + c] as number));
    });
  }
  return { spikes, state, gradient: loss.d };
}

const FIRST_WEIGHT = T * B * C + 2 * B * C;

/** Spikes, state and gradients of a layer with its parameters set in turn to `weights` (in memory order). */
function found(layer: Neuron, weights: readonly number[]): number[][] {
  let used = 0;
  for (const p of layer.parameters()) {
    p.set(weights.slice(used, used + p.size));
    used += p.size;
  }
  const result = scope(() => {
    const [input, before] = [leaf(tensor(x, [T, B, C])), leaf(tensor(start, [2, B, C]))];
    const { spikes, state } = layer.run(input, before);
    backward(add(sum(mul(spikes, tensor(gs, [T, B, C]))), sum(mul(state, tensor(gv, [2, B, C])))));
    return [spikes, state, input.grad, before.grad, ...layer.parameters().map((p) => p.grad)].map((t) => [...(t as Tensor).dataSync()]);
  });
  layer.dispose();
  return result;
}

async function compare(make: () => Neuron, weights: readonly number[], want: ReturnType<typeof recurrence>): Promise<void> {
  await on("reference");
  const [spikes, state, gx, g0, ...gw] = found(make(), weights) as [number[], number[], number[], number[], ...number[][]];
  expect(want.spikes.includes(1) && want.spikes.includes(0)).toBe(true);
  expect(spikes).toEqual(want.spikes);
  close(state, want.state, 1e-12, "state");
  close([...gx, ...g0, ...gw.flat()], want.gradient, 1e-9, "gradients");
  await sameEverywhere(() => found(make(), weights));
}

describe("against the recurrence written out", () => {
  test("all to all", async () => {
    const weights = [...numbers(C * C, 11, -1, 1), ...numbers(C, 12, -0.5, 0.5)];
    const w = (i: number) => at(weights, i, FIRST_WEIGHT);
    const want = recurrence((b, t, c, last) =>
      at(x, (t * B + b) * C + c, 0)
        .add(total(last.map((s, k) => s.mul(w(k * C + c)))))
        .add(w(C * C + c)),
    );
    await compare(() => new RLIF({ ...options, features: C }), weights, want);
  });

  test("one to one", async () => {
    const weights = numbers(C, 13, -1, 1);
    const want = recurrence((b, t, c, last) => at(x, (t * B + b) * C + c, 0).add((last[c] as Dual).mul(at(weights, c, FIRST_WEIGHT))));
    await compare(() => new RLIF({ ...options, features: C, allToAll: false }), weights, want);
  });

  test("a linear layer on input and spikes side by side", async () => {
    const weights = [...numbers(2 * C * C, 14, -1, 1), ...numbers(C, 15, -0.5, 0.5)];
    const w = (i: number) => at(weights, i, FIRST_WEIGHT);
    const want = recurrence((b, t, c, last) =>
      total([
        ...Array.from({ length: C }, (_, k) => at(x, (t * B + b) * C + k, 0).mul(w(k * C + c))),
        ...last.map((s, k) => s.mul(w((C + k) * C + c))),
        w(2 * C * C + c),
      ]),
    );
    await compare(() => new LinearRecurrent(new LIF(options), C), weights, want);
  });
});

describe("state and names", () => {
  beforeAll(() => on("reference"));

  test("from rest the layer has not fired, and its state goes out and in, for neurons of one state or more", () => {
    scope(() => {
      const input = values([5, 2, 4], 1);
      const layers: Neuron[] = [
        new RLIF({ features: 4, vThreshold: 0.3 }),
        new LinearRecurrent(new PLIF({ vThreshold: 0.3 }), 4),
        new LinearRecurrent(new Synaptic({ alpha: 0.5, beta: 0.5, vThreshold: 0.3 }), 4),
        new LinearRecurrent(new ILIF({ levels: 4, beta: 0.5 }), 4),
      ];
      for (const layer of layers) {
        const whole = layer.run(input);
        expect(whole.spikes.dtype).toBe("spikes");
        const one = layer.run(narrow(input, 0, 0, 2));
        const two = layer.run(narrow(input, 0, 2, 3), one.state);
        const joined = [...concat([one.spikes, two.spikes]).dataSync()];
        expect(joined).toEqual([...whole.spikes.dataSync()]);
        expect([...two.state.dataSync()]).toEqual([...whole.state.dataSync()]);
        expect([...layer.forward(input).dataSync()]).toEqual(joined);
        expect(whole.state.shape).toEqual([layer instanceof LinearRecurrent && layer.sub_module instanceof Synaptic ? 3 : 2, 2, 4]);
        layer.dispose();
      }
    });
  });

  test("a spike is heard one step later", () => {
    scope(() => {
      const layer = new RLIF({ features: 2, tau: 1, bias: false });
      layer.parameters()[0]?.set([0, 2, 0, 0]); // the first neuron excites the second
      const y = layer.forward(
        tensor(
          [
            [1.5, 0],
            [0, 0],
            [0, 0],
          ],
          [3, 2],
        ),
      );
      expect([...y.dataSync()]).toEqual([1, 0, 0, 1, 0, 0]);
      layer.dispose();
    });
  });

  test("parameters are named as the libraries name them", () => {
    scope(() => {
      const shapes = (layer: Neuron) => [...layer.stateShapes()];
      expect(shapes(new RLIF({ features: 3 }))).toEqual([
        ["recurrent.weight", [3, 3]],
        ["recurrent.bias", [3]],
      ]);
      expect(shapes(new RLIF({ features: 3, allToAll: false }))).toEqual([["recurrent.V", [3]]]);
      expect(shapes(new LinearRecurrent(new PLIF(), 3))).toEqual([
        ["rc.weight", [3, 6]],
        ["rc.bias", [3]],
        ["sub_module.w", []],
      ]);
    });
  });

  test("wrong sizes name the layer", () => {
    expect(() => new RLIF({ features: 0 })).toThrow(/RLIF: features must be an integer >= 1, found 0/);
    scope(() => {
      const layer = new RLIF({ features: 3, name: "hidden" });
      expect(() => layer.forward(values([2, 4], 1))).toThrow(/RLIF "hidden": x must be of shape \[T, ..., 3\], found \[2, 4\]/);
      expect(() => layer.run(values([2, 5, 3], 1), values([5, 3], 1))).toThrow(/state must be of shape \[2, 5, 3\], found \[5, 3\]/);
    });
  });
});
