// Current-based LIF: numbers by hand in snnTorch's, sinabs' and Norse's order, every switch against the oracle by forward-mode
// differentiation with alpha and beta among the variables, the same on every device, and state that goes in and out.
import { beforeAll, describe, expect, test } from "vitest";
import type { Parameter } from "../../src/nn/module.ts";
import { device } from "../../src/runtime/engine.ts";
import { NEURON_LIMITS } from "../../src/runtime/kernel-table.ts";
import { reset } from "../../src/spiking/neurons.ts";
import { piecewiseQuadratic } from "../../src/spiking/surrogate.ts";
import { Synaptic, type SynapticOptions } from "../../src/spiking/synaptic.ts";
import { add, mul } from "../../src/tensor/ops/elementwise.ts";
import { concat, narrow } from "../../src/tensor/ops/layout.ts";
import { batchNorm } from "../../src/tensor/ops/norm.ts";
import { sum } from "../../src/tensor/ops/reduce.ts";
import { scope } from "../../src/tensor/scope.ts";
import { backward } from "../../src/tensor/tape.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { numbers } from "../gradcheck.ts";
import { close, compiled, leaf, on, sameEverywhere, values } from "../tensor/support.ts";
import { type Dual, type Rule, simulate, variable } from "./oracle.ts";

const T = 5;
const C = 35; // one word and three bits
const ALPHA = 0.7;
const BETA = 0.6;
const x = numbers(T * C, 3, -1.5, 2);
const start = numbers(2 * C, 4, -1, 1);
const [gs, gv] = [numbers(T * C, 5, -1, 1), numbers(2 * C, 6, -1, 1)];
const surrogate = piecewiseQuadratic({ alpha: 0.8 });
const slope = (u: number): number => Math.max(0, 0.8 - 0.64 * Math.abs(u));

/** What the membrane gets at each step, and the last current. */
function currents(kind: string, inputs: readonly Dual[], alpha: Dual, first: Dual): { taken: Dual[]; last: Dual } {
  let i = first;
  const taken = inputs.map((z) => {
    const before = i;
    i = kind === "decayed" ? i.add(z).mul(alpha) : i.mul(alpha).add(z);
    return kind === "late" ? before : i;
  });
  return { taken, last: i };
}

/** Spikes, state, and the gradients for x, the first state, alpha and beta. */
function expected(rule: Rule, kind: string): number[][] {
  const [s, state, gx, g0]: number[][] = [[], [], [], []] as number[][];
  let [galpha, gbeta] = [0, 0];
  for (let c = 0; c < C; c++) {
    const inputs = Array.from({ length: T }, (_, t) => variable(x[t * C + c] as number, t));
    const { taken, last } = currents(kind, inputs, variable(ALPHA, T + 2), variable(start[C + c] as number, T + 1));
    const rate = variable(BETA, T + 3)
      .mul(-1)
      .add(1);
    const run = simulate(rule, taken, rate, variable(start[c] as number, T));
    let loss = run.state.mul(gv[c] as number).add(last.mul(gv[C + c] as number));
    run.emitted.forEach((e, t) => {
      loss = loss.add(e.mul(gs[t * C + c] as number));
      (s as number[])[t * C + c] = e.v;
    });
    [(state as number[])[c], (state as number[])[C + c]] = [run.state.v, last.v];
    for (let t = 0; t < T; t++) (gx as number[])[t * C + c] = loss.d[t] ?? 0;
    [(g0 as number[])[c], (g0 as number[])[C + c]] = [loss.d[T] ?? 0, loss.d[T + 1] ?? 0];
    galpha += loss.d[T + 2] ?? 0;
    gbeta += loss.d[T + 3] ?? 0;
  }
  return [s as number[], state as number[], gx as number[], g0 as number[], [galpha], [gbeta]];
}

function found(options: Partial<SynapticOptions>): number[][] {
  const neuron = new Synaptic({ alpha: ALPHA, beta: BETA, learnAlpha: true, learnBeta: true, surrogate, ...options });
  const result = scope(() => {
    const [input, before] = [leaf(tensor(x, [T, C])), leaf(tensor(start, [2, C]))];
    const { spikes, state } = neuron.run(input, before);
    backward(add(sum(mul(spikes, tensor(gs, [T, C]))), sum(mul(state, tensor(gv, [2, C])))));
    const grads = [input, before, neuron.alpha, neuron.beta].map((t) => t?.grad as Tensor);
    return [spikes, state, ...grads].map((t) => [...t.dataSync()]);
  });
  neuron.dispose();
  return result;
}

describe("every switch against the oracle", () => {
  const what = ["spikes", "state", "gradient of x", "gradient of the state", "gradient of alpha", "gradient of beta"];
  for (const current of ["jump", "decayed", "late"] as const)
    for (const order of ["fireThenReset", "delayedReset", "fireFirst"] as const)
      for (const resets of ["hard", "soft"] as const)
        test(`${current}, ${order}, ${resets} reset`, async () => {
          for (const [decayInput, detachReset] of [
            [true, false],
            [false, true],
          ] as const) {
            const vReset = resets === "hard" ? -0.25 : 0;
            const rule: Rule = {
              charge: decayInput ? "leakInput" : "leak",
              order,
              reset: resets,
              fire: (h) => (h > 0.75 ? 1 : 0),
              slope: (h) => slope(h - 0.75),
              vThreshold: 0.75,
              vReset,
              vRest: 0.125,
              detach: detachReset,
            };
            const options = { current, order, reset: resets, vReset, detachReset, decayInput, vRest: 0.125, vThreshold: 0.75 };
            await on("reference");
            const want = expected(rule, current);
            expect(want[0]?.some((v) => v === 1) && want[0].some((v) => v === 0)).toBe(true);
            found(options).forEach((list, i) => {
              close(list, want[i] as number[], 1e-9, what[i]);
            });
            await sameEverywhere(() => found(options), 5e-5);
          }
        });
});

for (const name of ["reference", ...compiled] as const)
  describe(name, () => {
    beforeAll(() => on(name));

    test("steps by hand, as the three libraries take them", () => {
      scope(() => {
        const input = tensor([[1], [0.25], [0], [0]]);
        const run = (options: Partial<SynapticOptions>) => {
          const { spikes, state } = new Synaptic({ alpha: 0.5, beta: 0.5, ...options }).run(input);
          return [[...spikes.dataSync()], [...state.dataSync()]];
        };
        // I 1, 0.75, 0.375, 0.1875. U 1 (not above 1), 1.25 fires, 0.625 + 0.375 - 1 = 0, 0.1875.
        expect(run({})).toEqual([
          [0, 1, 0, 0],
          [0.1875, 0.1875],
        ]);
        // sinabs: I 0.5, 0.375, 0.1875, 0.09375. V 0.5, 0.625, 0.5, 0.34375.
        expect(run({ current: "decayed", order: "fireThenReset", comparison: ">=" })).toEqual([
          [0, 0, 0, 0],
          [0.34375, 0.09375],
        ]);
        // Norse, halved membrane: V 0, 0.5, 0.625, 0.5; I 1, 0.75, 0.375, 0.1875.
        expect(run({ current: "late", order: "fireThenReset", reset: "hard", decayInput: true })).toEqual([
          [0, 0, 0, 0],
          [0.5, 0.1875],
        ]);
        // The same with a threshold of 0.5: 0.625 fires and is reset to 0, then 0.375 / 2.
        expect(run({ current: "late", order: "fireThenReset", reset: "hard", decayInput: true, vThreshold: 0.5 })).toEqual([
          [0, 0, 1, 0],
          [0.1875, 0.1875],
        ]);
      });
    });

    test("state goes out and in, and is carried", () => {
      scope(() => {
        const input = tensor(x, [T, C]);
        const neuron = new Synaptic({ alpha: 0.9, beta: 0.8 });
        const whole = neuron.run(input);
        const one = neuron.run(narrow(input, 0, 0, 2));
        const two = neuron.run(narrow(input, 0, 2, 3), one.state);
        expect([...concat([one.spikes, two.spikes]).dataSync()]).toEqual([...whole.spikes.dataSync()]);
        expect([...two.state.dataSync()]).toEqual([...whole.state.dataSync()]);
        expect([...neuron.forward(input).dataSync()]).toEqual([...whole.spikes.dataSync()]);
        const carrying = new Synaptic({ alpha: 0.9, beta: 0.8, carry: "detached" });
        carrying.forward(narrow(input, 0, 0, 2));
        expect([...carrying.forward(narrow(input, 0, 2, 3)).dataSync()]).toEqual([...two.spikes.dataSync()]);
        reset(carrying);
        expect([...carrying.forward(narrow(input, 0, 0, 2)).dataSync()]).toEqual([...one.spikes.dataSync()]);
        carrying.dispose();
      });
    });
  });

describe("layers", () => {
  test("a batch norm before it is taken on the fly, on every device, at any channel count", async () => {
    for (const c of [20, 64, 333])
      await sameEverywhere(() => {
        const neuron = new Synaptic({ alpha: 0.75, beta: 0.5, learnAlpha: true });
        const result = [true, false].map((fused) => {
          neuron.zeroGrad();
          const [input, gamma, beta] = [leaf(values([3, 12, c], 1)), leaf(values([c], 2)), leaf(values([c], 3))];
          const z = batchNorm(input, gamma, beta, null, null, { training: true });
          if (!fused) z.storage;
          const y = neuron.forward(z);
          expect(z.made).toBe(!fused);
          backward(sum(mul(y, values(y.shape, 8))));
          return [y, input.grad, gamma.grad, beta.grad, neuron.alpha?.grad].map((t) => [...(t as Tensor).dataSync()]);
        }) as [number[][], number[][]];
        result[0].forEach((list, i) => {
          close(list, result[1][i] as number[], 1e-4);
        });
        neuron.dispose();
        return result[0];
      }, 1e-3);
  });

  test("long sequences up to the limit, and beyond it an error", async () => {
    await sameEverywhere(() => {
      const input = leaf(values([700, 2, 40], 5));
      const y = new Synaptic({ alpha: 0.5, beta: 0.5, vThreshold: 0.75 }).forward(input);
      backward(sum(mul(y, values(y.shape, 8))));
      return [[...(input.grad as Tensor).dataSync()]];
    }, 1e-3);
    await on("wasm");
    scope(() => {
      const most = NEURON_LIMITS.history / 2;
      const neuron = new Synaptic({ alpha: 0.5, beta: 0.5 });
      const input = leaf(values([most, 1, 33], 5));
      backward(sum(neuron.forward(input)));
      expect([...(input.grad as Tensor).dataSync()].every(Number.isFinite)).toBe(true);
      expect(() => neuron.forward(values([most + 1, 1, 33], 5))).toThrow(/Synaptic: x must be of 1 to 2048 time steps/);
    });
    expect(device().memory().used).toBe(0);
  });

  test("names its parameters as snnTorch does, and refuses decays outside 0 to 1", async () => {
    await on("reference");
    scope(() => {
      const learnt = new Synaptic({ alpha: 0.9, beta: 0.8, learnAlpha: true, learnBeta: true });
      expect([...learnt.stateShapes()]).toEqual([
        ["alpha", []],
        ["beta", []],
      ]);
      expect(new Synaptic({ alpha: 0.9, beta: 0.8 }).parameters()).toEqual([]);
      // Beyond 1 a learnt decay counts as 1, and no gradient pulls it further.
      learnt.alpha?.set([1.5]);
      const { state } = learnt.run(tensor([[0.25], [0]]));
      close(state.dataSync(), [0.25 * 0.8 + 0.25, 0.25], 1e-12);
      backward(sum(state));
      expect([...((learnt.alpha as Parameter).grad as Tensor).dataSync()]).toEqual([0]);
      learnt.dispose();
    });
    expect(() => new Synaptic({ alpha: 1.1, beta: 0.5 })).toThrow(/Synaptic: alpha must be from 0 to 1, found 1.1/);
    expect(() => new Synaptic({ alpha: 0.5, beta: Number.NaN })).toThrow(/beta must be from 0 to 1/);
    expect(() => new Synaptic({ alpha: 0.5, beta: 0.5, current: "early" as "late" })).toThrow(
      /current must be one of "jump", "decayed", "late"/,
    );
    expect(() => scope(() => new Synaptic({ alpha: 0.5, beta: 0.5 }).run(values([3, 4], 1), values([4], 1)))).toThrow(
      /state must be of shape \[2, 4\], found \[4\]/,
    );
  });
});
