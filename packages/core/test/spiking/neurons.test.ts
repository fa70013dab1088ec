// Neurons: SpikingJelly's and SDT-V3's own numbers (fixtures), every switch against an oracle by forward-mode differentiation,
// the same on every device, batch norm taken on the fly, and state that is carried.
import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { Module } from "../../src/nn/module.ts";
import { device } from "../../src/runtime/engine.ts";
import { IF, ILIF, LIF, type Neuron, PLIF, Quant, reset } from "../../src/spiking/neurons.ts";
import { atan, openWindow, piecewiseQuadratic, sigmoid, snntorch, window } from "../../src/spiking/surrogate.ts";
import { add, mul } from "../../src/tensor/ops/elementwise.ts";
import { narrow } from "../../src/tensor/ops/layout.ts";
import { batchNorm } from "../../src/tensor/ops/norm.ts";
import { sum } from "../../src/tensor/ops/reduce.ts";
import { scope } from "../../src/tensor/scope.ts";
import { backward } from "../../src/tensor/tape.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { numbers } from "../gradcheck.ts";
import { close, compiled, leaf, on, sameEverywhere, values } from "../tensor/support.ts";
import { type Rule, simulate, variable } from "./oracle.ts";

interface Array_ {
  shape: number[];
  values?: number[];
  bits?: string;
}

function fixture(path: string) {
  return JSON.parse(readFileSync(new URL(`../../../../test/fixtures/parity/${path}`, import.meta.url), "utf8"));
}

/** The filled input of a fixture: FNV-1a of its name, murmur3 finaliser of the index (the fixtures' rule). */
function filled({ name, shape, lo, hi }: { name: string; shape: number[]; lo: number; hi: number }): Float64Array {
  let seed = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) seed = Math.imul(seed ^ byte, 0x01000193) >>> 0;
  return Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => {
    let h = (seed + Math.imul(i, 0x9e3779b9)) >>> 0;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    h = (h ^ (h >>> 16)) >>> 0;
    return Math.fround(lo + ((hi - lo) * (h >>> 8)) / 2 ** 24);
  });
}

const bits = (a: Array_): number[] => [...(a.bits as string)].map(Number);

interface Params {
  tau?: number;
  init_tau?: number;
  v_threshold?: number;
  v_reset?: number | null;
  decay_input?: boolean;
  detach_reset: boolean;
}

const official = ({ v_threshold = 1, v_reset = 0, decay_input = true, detach_reset }: Params) => ({
  vThreshold: v_threshold,
  vReset: v_reset,
  decayInput: decay_input,
  detachReset: detach_reset,
  surrogate: sigmoid({ alpha: 4 }),
});

/** Spikes, last state and the gradient of sum(spikes g) for x and the neuron's parameters. */
function outcome(
  neuron: Neuron,
  x: Float64Array,
  shape: number[],
  g: Float64Array,
): { spikes: number[]; state: number[]; gx: number[]; grads: number[][] } {
  return scope(() => {
    const input = leaf(tensor(x, shape));
    const { spikes, state } = neuron.run(input);
    backward(sum(mul(spikes, tensor(g, shape))));
    const grads = neuron.parameters().map((p) => [...(p.grad as Tensor).dataSync()]);
    return { spikes: [...spikes.dataSync()], state: [...state.dataSync()], gx: [...(input.grad as Tensor).dataSync()], grads };
  });
}

for (const name of ["reference", ...compiled] as const)
  describe(name, () => {
    beforeAll(() => on(name));

    const lif = fixture("sdt-v1/unit_lif.json");
    test.each(Object.keys(lif.cases))("SpikingJelly LIF: %s", (key) => {
      const c = lif.cases[key] as { params: Params; spikes: Array_; v_after_reset: Array_; grad_x: Array_ };
      const neuron = new LIF({ tau: c.params.tau, ...official(c.params) });
      const got = outcome(neuron, filled(lif.inputs.x), [6, 12], filled(lif.inputs.g));
      expect(got.spikes).toEqual(bits(c.spikes));
      close(got.state, (c.v_after_reset.values as number[]).slice(-12), 1e-6);
      close(got.gx, c.grad_x.values as number[], 1e-6);
    });

    test("SpikingJelly LIF: a membrane exactly at its threshold fires; state goes on where it is asked for", () => {
      const neuron = new LIF(official(lif.cases.sdt_default.params));
      const tie = outcome(neuron, Float64Array.from(lif.tie_case.x.values), [2, 5], new Float64Array(10));
      expect(tie.spikes).toEqual(bits(lif.tie_case.spikes));
      close(tie.state, lif.tie_case.v_after_reset.values.slice(-5), 0);
      scope(() => {
        const x = tensor(filled(lif.inputs.x), [6, 12]);
        const [first, second] = [narrow(x, 0, 0, 3), narrow(x, 0, 3, 3)];
        const whole = bits(lif.cases.sdt_default.spikes);
        const one = neuron.run(first);
        expect([...one.spikes.dataSync(), ...neuron.run(second, one.state).spikes.dataSync()]).toEqual(whole);
        expect([...neuron.forward(second).dataSync()]).toEqual(bits(lif.carry_case.spikes_after_reset));
        const carrying = new LIF({ ...official(lif.cases.sdt_default.params), carry: "detached" });
        expect([...carrying.forward(first).dataSync(), ...carrying.forward(second).dataSync()]).toEqual(whole);
        reset(carrying);
        expect([...carrying.forward(second).dataSync()]).toEqual(bits(lif.carry_case.spikes_after_reset));
        carrying.dispose();
      });
    });

    const plif = fixture("sdt-v1/unit_plif.json");
    test.each(Object.keys(plif.cases))("SpikingJelly PLIF: %s", (key) => {
      const c = plif.cases[key] as { params: Params; spikes: Array_; v_after_reset: Array_; grad_x: Array_; w: number; grad_w: number };
      const neuron = new PLIF({ initTau: c.params.init_tau, ...official(c.params) });
      neuron.w.set([c.w]);
      const got = outcome(neuron, filled(plif.inputs.x), [5, 10], filled(plif.inputs.g));
      expect(got.spikes).toEqual(bits(c.spikes));
      close(got.state, (c.v_after_reset.values as number[]).slice(-10), 1e-6);
      close(got.gx, c.grad_x.values as number[], 1e-6);
      close(got.grads[0] as number[], [c.grad_w], 1e-6);
    });

    test("SpikingJelly PLIF: w from init_tau, 0-d", () => {
      for (const [tau, w] of Object.entries(plif.init_w)) {
        const neuron = new PLIF({ initTau: Number(tau) });
        close(neuron.w.dataSync(), [w as number], 1e-7);
        expect([...neuron.stateShapes()]).toEqual([["w", []]]);
      }
    });

    const quant = fixture("sdt-v3/unit-neuron.json");
    const x3 = Float64Array.from(quant.inputs.x.values as number[]);
    const g3 = Float64Array.from(quant.inputs.upstream_gradient.values as number[]);
    test.each([
      ["base_D4", 4, 4, "even"],
      ["base_D4_norm1", 4, 1, "even"],
      ["base_D8", 8, 8, "even"],
      ["base_D2", 2, 2, "even"],
      ["base_D1", 1, 1, "even"],
      ["large_D4", 4, 4, "up"],
      ["large_D4_norm1", 4, 1, "up"],
      ["large_D8_as_intended", 8, 8, "up"],
    ] as const)("SDT-V3 quantiser: %s", (key, levels, norm, rounding) => {
      scope(() => {
        const x = leaf(tensor(x3, [4, 16]));
        const y = new Quant({ levels, norm, rounding }).forward(x);
        backward(y, { gradient: tensor(g3, [4, 16]) });
        const expected = (name === "reference" && quant.outputs_f64[key]?.y) || quant.outputs[key].y;
        expect([...y.dataSync()]).toEqual(expected);
        close((x.grad as Tensor).dataSync(), quant.outputs[key].grad, 1e-7);
      });
    });

    test("SDT-V3 DVS quantiser: the membrane goes on only when it is carried", () => {
      // The whole tensor is one step of an integrating neuron with soft reset.
      const neuron = new ILIF({ levels: 4, beta: 1, detachReset: false });
      scope(() => {
        const x = leaf(tensor(x3, [1, 4, 16]));
        const one = neuron.run(x);
        backward(one.spikes, { gradient: tensor(g3, [1, 4, 16]), retainGraph: true });
        const first = quant.outputs.dvs_Q_IFNode_first_call;
        expect([...one.spikes.dataSync()]).toEqual(first.y);
        close((x.grad as Tensor).dataSync(), first.grad, 1e-7);
        close(one.state.dataSync(), first.v_left, 1e-6);
        const two = neuron.run(
          tensor(filled({ name: "neuron_x2", lo: -2, hi: 4, shape: [4, 16], ...quant.inputs.x2 }), [1, 4, 16]),
          one.state,
        );
        const second = quant.outputs.dvs_Q_IFNode_second_call_without_reset;
        expect([...two.spikes.dataSync()]).toEqual(second.y);
        close(two.state.dataSync(), second.v_left, 1e-6);
      });
    });
  });

describe("every switch against the oracle", () => {
  const T = 5;
  const C = 35; // one word and three bits
  const x = numbers(T * C, 3, -1.75, 3);
  const v0 = numbers(C, 4, -1, 1);
  const [gs, gv] = [numbers(T * C, 5, -1, 1), numbers(C, 6, -1, 1)];
  const slope = (h: number): number => Math.max(0, 0.8 - 0.64 * Math.abs(h));
  const surrogate = piecewiseQuadratic({ alpha: 0.8 });

  /** Emitted values, state, gradients for x, the first state and the rate of channel 0's neuron and all others. */
  function expected(rule: Rule, rate: number, scale: number): number[][] {
    const [s, state, gx, g0]: number[][] = [[], [], [], []];
    let gr = 0;
    for (let c = 0; c < C; c++) {
      const inputs = Array.from({ length: T }, (_, t) => variable(x[t * C + c] as number, t));
      const run = simulate(rule, inputs, variable(rate, T + 1), variable(v0[c] as number, T));
      let loss = run.state.mul(gv[c] as number);
      run.emitted.forEach((e, t) => {
        loss = loss.add(e.mul(scale * (gs[t * C + c] as number)));
        (s as number[])[t * C + c] = scale * e.v;
      });
      (state as number[])[c] = run.state.v;
      for (let t = 0; t < T; t++) (gx as number[])[t * C + c] = loss.d[t] ?? 0;
      (g0 as number[])[c] = loss.d[T] ?? 0;
      gr += loss.d[T + 1] ?? 0;
    }
    return [s as number[], state as number[], gx as number[], g0 as number[], [gr]];
  }

  function found(neuron: Neuron): number[][] {
    return scope(() => {
      const [input, start] = [leaf(tensor(x, [T, C])), leaf(tensor(v0, [C]))];
      const { spikes, state } = neuron.run(input, start);
      backward(add(sum(mul(spikes, tensor(gs, [T, C]))), sum(mul(state, tensor(gv, [C])))));
      return [spikes, state, input.grad as Tensor, start.grad as Tensor].map((t) => [...t.dataSync()]);
    });
  }

  const charges = { integrate: {}, leakInput: { tau: 2.5 }, leak: { tau: 2.5, decayInput: false } };
  for (const order of ["fireThenReset", "delayedReset", "fireFirst"] as const)
    for (const [charge, options] of Object.entries(charges))
      for (const resets of ["hard", "soft", "none"] as const)
        for (const detach of [true, false])
          test(`${order}, ${charge}, ${resets} reset${detach ? ", detached" : ""}`, async () => {
            const vRest = charge === "integrate" ? 0 : 0.125;
            const common = { order, reset: resets, detachReset: detach, vThreshold: 0.75, vReset: -0.25, surrogate };
            const vReset = resets === "hard" ? -0.25 : 0;
            const rule: Rule = {
              charge: charge as Rule["charge"],
              order,
              reset: resets,
              fire: (h) => (h >= 0.75 ? 1 : 0),
              slope: (h) => slope(h - 0.75),
              vThreshold: 0.75,
              vReset,
              vRest,
              detach,
            };
            await on("reference");
            const neuron = charge === "integrate" ? new IF(common) : new LIF({ ...common, ...options, vRest });
            const [s, state, gx, g0] = expected(rule, 0.4, 1);
            expect(s?.some((v) => v === 1) && s.some((v) => v === 0)).toBe(true);
            found(neuron).forEach((list, i) => {
              close(list, [s, state, gx, g0][i] as number[], 1e-9, ["spikes", "state", "gradient of x", "gradient of the state"][i]);
            });
            await sameEverywhere(() => found(neuron));
          });

  test("PLIF: the gradient for w, with and without decay of the input", async () => {
    for (const decayInput of [true, false]) {
      const rule: Rule = {
        charge: decayInput ? "leakInput" : "leak",
        order: "fireThenReset",
        reset: "soft",
        fire: (h) => (h >= 1 ? 1 : 0),
        slope: (h) => slope(h - 1),
        vThreshold: 1,
        vReset: 0,
        vRest: 0,
        detach: false,
      };
      const r = 1 / 2.5;
      const gr = (expected(rule, r, 1)[4] as number[])[0] as number;
      await on("reference");
      const run = () => {
        const neuron = new PLIF({ initTau: 2.5, decayInput, reset: "soft", surrogate });
        found(neuron);
        const grad = [...(neuron.w.grad as Tensor).dataSync()];
        neuron.dispose();
        return [grad];
      };
      close(run()[0] as number[], [gr * r * (1 - r)], 1e-9);
      await sameEverywhere(run);
    }
  });

  test("I-LIF: levels, norm, both roundings, soft and hard reset, and 8 levels", async () => {
    for (const rounding of ["even", "up"] as const)
      for (const [levels, norm] of [
        [4, 1],
        [8, 8],
        [1, 1],
        [3, 2],
      ] as const)
        for (const resets of ["soft", "hard"] as const)
          for (const detachReset of [true, false]) {
            const clip = (h: number) => Math.min(Math.max(h, 0), levels);
            const even = (h: number) => (Math.abs((h % 1) - 0.5) < 1e-12 ? 2 * Math.round(h / 2) : Math.round(h));
            const rule: Rule = {
              charge: "leak",
              order: "fireThenReset",
              reset: resets,
              fire: (h) => (rounding === "up" ? Math.floor(clip(h) + 0.5) : even(clip(h))),
              slope: (h) => (rounding === "up" ? (h > 0 && h < levels ? 1 : 0) : h >= 0 && h <= levels ? 1 : 0),
              vThreshold: 1,
              vReset: 0,
              vRest: 0,
              detach: detachReset,
            };
            await on("reference");
            const neuron = new ILIF({ levels, norm, rounding, reset: resets, detachReset });
            const want = expected(rule, 0.75, 1 / norm);
            found(neuron).forEach((list, i) => {
              close(list, want[i] as number[], 1e-9);
            });
            await sameEverywhere(() => found(neuron));
          }
  });

  test("> does not fire at the threshold, >= does; beta V + X", async () => {
    for (const device of ["reference", ...compiled] as const) {
      await on(device);
      for (const vThreshold of [1, 0, -0.5]) {
        const at = tensor([[vThreshold, vThreshold + 2 ** -20, vThreshold - 2 ** -20]]);
        expect([...new IF({ vThreshold, comparison: ">" }).forward(at).dataSync()]).toEqual([0, 1, 0]);
        expect([...new IF({ vThreshold }).forward(at).dataSync()]).toEqual([1, 1, 0]);
      }
      // snnTorch's Leaky by hand: 0.5, 1.25 fires, then 0.625 + 0.75 - 1 = 0.375.
      const leaky = new LIF({
        beta: 0.5,
        order: "delayedReset",
        comparison: ">",
        reset: "soft",
        detachReset: true,
        surrogate: snntorch.atan(),
      });
      const { spikes, state } = leaky.run(tensor([[0.5], [1], [0.75]]));
      expect([...spikes.dataSync()]).toEqual([0, 1, 0]);
      expect([...state.dataSync()]).toEqual([0.375]);
    }
  });
});

describe("shapes and layout", () => {
  test("the same for any channel count, on every device; bits past the last channel are zero", async () => {
    for (const c of [1, 3, 31, 32, 33, 45, 64, 100, 513, 700])
      await sameEverywhere(() => {
        const x = leaf(mul(values([4, 2, 3, c], c), 3));
        const neuron = new ILIF({ levels: 5, surrogate: window({ lo: 0, hi: 5 }) });
        const y = neuron.forward(x);
        const words = device().view(y.storage);
        if (c % 32)
          for (let i = Math.floor(c / 32); i < words.length; i += Math.ceil(c / 32)) expect((words[i] as number) >>> (c % 32)).toBe(0);
        const z = new LIF({ surrogate: atan() }).forward(x);
        backward(add(sum(mul(y, values(y.shape, 8))), sum(mul(z, values(y.shape, 9)))));
        return [y, z, x.grad as Tensor].map((t) => [...t.dataSync()]);
      }, 1e-4);
  });

  test("long sequences", async () => {
    for (const steps of [130, 700])
      await sameEverywhere(() => {
        const x = leaf(mul(values([steps, 2, 40], 5), 2));
        const y = new LIF({ tau: 4, vThreshold: 0.5, detachReset: true }).forward(x);
        backward(sum(mul(y, values(y.shape, 8))));
        return [[...(x.grad as Tensor).dataSync()]];
      }, 1e-3);
  });

  test("a batch norm before it is taken on the fly, and its gradients are those of the product", async () => {
    await sameEverywhere(() => {
      const neuron = new PLIF({ detachReset: true });
      const result = [true, false].map((fused) => {
        neuron.zeroGrad();
        const [x, gamma, beta] = [leaf(values([3, 40, 20], 1)), leaf(values([20], 2)), leaf(values([20], 3))];
        const z = batchNorm(x, gamma, beta, null, null, { training: true });
        if (!fused) z.storage;
        expect(z.made).toBe(!fused);
        const y = neuron.forward(z);
        expect(z.made).toBe(!fused);
        backward(sum(mul(y, values(y.shape, 8))));
        return [y, x.grad, gamma.grad, beta.grad, neuron.w.grad].map((t) => [...(t as Tensor).dataSync()]);
      }) as [number[][], number[][]];
      result[0].forEach((list, i) => {
        close(list, result[1][i] as number[], 1e-4);
      });
      neuron.dispose();
      return result[0];
    }, 1e-4);
  });

  test("backward is linear in T", async () => {
    await on("wasm");
    const time = (steps: number): number =>
      scope(() => {
        const x = leaf(values([steps, 16, 64], 1));
        const start = performance.now();
        backward(sum(new LIF({ detachReset: true }).forward(x)));
        return performance.now() - start;
      });
    time(64);
    // In turns, and the least of each, so that other work on the machine meets both alike. Quadratic work would take 64 times as long.
    const pairs = Array.from({ length: 8 }, () => [time(128), time(1024)] as const);
    expect(Math.min(...pairs.map(([, long]) => long)) / Math.min(...pairs.map(([short]) => short))).toBeLessThan(24);
  });

  test("a step's memory does not grow", async () => {
    await on("wasm");
    const neuron = new PLIF({ detachReset: true });
    const step = () =>
      scope(() => {
        const z = batchNorm(leaf(values([4, 8, 40], 1)), null, null, null, null, { training: true });
        backward(sum(neuron.forward(z)));
        neuron.zeroGrad();
      });
    step();
    const { used } = device().memory();
    for (let i = 0; i < 20; i++) step();
    expect(device().memory().used).toBe(used);
    neuron.dispose();
  });
});

describe("carried state and wrong use", () => {
  beforeAll(() => on("reference"));

  test("a batch of another size, and a graph that is used up, name the layer and the mend", () => {
    scope(() => {
      const lif = new LIF({ carry: true, name: "block1.lif" });
      backward(sum(lif.forward(leaf(values([2, 4, 8], 1)))));
      expect(() => lif.forward(values([2, 3, 8], 1))).toThrow(/LIF "block1\.lif".*\[4, 8\].*\[3, 8\].*snn\.reset\(net\)/);
      expect(() => lif.forward(values([2, 4, 8], 1))).toThrow(/LIF "block1\.lif".*backward has run.*snn\.reset\(net\)/);
      reset(lif);
      lif.forward(values([2, 3, 8], 1));
      lif.dispose();
    });
  });

  test("reset tells a layer its place in the network", () => {
    class Net extends Module {
      hidden = new Hidden();
      forward(x: Tensor): Tensor {
        return this.hidden.forward(x);
      }
    }
    class Hidden extends Module {
      lif = new LIF({ carry: "detached" });
      forward(x: Tensor): Tensor {
        return this.lif.forward(x);
      }
    }
    scope(() => {
      const net = new Net();
      reset(net);
      net.forward(values([2, 4, 8], 1));
      expect(() => net.forward(values([2, 3, 8], 1))).toThrow(/LIF "hidden\.lif": the state carried/);
      net.hidden.lif.dispose();
    });
  });

  test("carried with its graph, a gradient flows through several forwards", () => {
    const [x, g] = [numbers(4 * 6, 1, -3, 3), numbers(4 * 6, 2)];
    const gradient = (parts: number): number[] =>
      scope(() => {
        const lif = new LIF({ carry: parts > 1 });
        const input = leaf(tensor(x, [4, 6]));
        let loss: Tensor | null = null;
        for (let i = 0; i < parts; i++) {
          const steps = 4 / parts;
          const y = sum(mul(lif.forward(narrow(input, 0, i * steps, steps)), narrow(tensor(g, [4, 6]), 0, i * steps, steps)));
          loss = loss ? add(loss, y) : y;
        }
        backward(loss as Tensor);
        lif.dispose();
        return [...(input.grad as Tensor).dataSync()];
      });
    close(gradient(4), gradient(1), 1e-12);
    close(gradient(2), gradient(1), 1e-12);
  });

  test("wrong options and inputs", () => {
    expect(() => new LIF({ tau: 0.5 })).toThrow(/LIF: tau must be .* found 0\.5/);
    expect(() => new LIF({ tau: 2, beta: 0.5 })).toThrow(/tau and beta/);
    expect(() => new PLIF({ initTau: 1 })).toThrow(/PLIF: initTau .* found 1/);
    expect(() => new ILIF({ levels: 0 })).toThrow(/ILIF: levels/);
    expect(() => new LIF({ order: "backwards" as "fireFirst" })).toThrow(/order must be one of "fireThenReset"/);
    expect(() => new LIF({ name: "a.b" }).forward(tensor([1, 2]))).toThrow(/LIF "a\.b": x must be of shape \[T, \.\.\., C\], found \[2\]/);
    expect(() => new LIF().run(values([2, 3], 1), values([4], 1))).toThrow(/state must be of shape \[3\], found \[4\]/);
    expect(() => new Quant({ norm: 0 })).toThrow(/Quant: norm/);
    expect(new Quant({ rounding: "up" }).settings.surrogate.name).toBe(openWindow.record.name);
  });
});
