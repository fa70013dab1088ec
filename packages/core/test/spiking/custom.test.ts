// User-defined neurons and surrogates: expressions and their symbolic derivatives, programs, and neurons that the built-in ones or the
// oracle know too.
import { beforeAll, describe, expect, test } from "vitest";
import { VM } from "../../src/runtime/kernel-table.ts";
import { defineNeuron } from "../../src/spiking/custom.ts";
import { compile, constant, type Expr, expr, gradients, input, where } from "../../src/spiking/expression.ts";
import { LIF, type Neuron, PLIF } from "../../src/spiking/neurons.ts";
import { atan, defineSurrogate, piecewiseQuadratic, sigmoid } from "../../src/spiking/surrogate.ts";
import { add, mul } from "../../src/tensor/ops/elementwise.ts";
import { batchNorm } from "../../src/tensor/ops/norm.ts";
import { sum } from "../../src/tensor/ops/reduce.ts";
import { scope } from "../../src/tensor/scope.ts";
import { backward } from "../../src/tensor/tape.ts";
import type { Tensor } from "../../src/tensor/tensor.ts";
import { numbers } from "../gradcheck.ts";
import { close, leaf, on, sameEverywhere, values } from "../tensor/support.ts";
import { Dual, variable } from "./oracle.ts";

/** Value of an expression where `a` and `b` are given: the tree walked, with JavaScript's functions. */
function evaluate(e: Expr, at: ReadonlyMap<Expr, number>): number {
  const [x = NaN, y = NaN, z = NaN] = e.args.map((arg) => evaluate(arg, at));
  const operations: Record<string, () => number> = {
    constant: () => e.value,
    input: () => at.get(e) as number,
    neg: () => -x,
    abs: () => Math.abs(x),
    exp: () => Math.exp(x),
    log: () => Math.log(x),
    sqrt: () => Math.sqrt(x),
    tanh: () => Math.tanh(x),
    sigmoid: () => 1 / (1 + Math.exp(-x)),
    erf: () => {
      let total = 0; // midpoint rule
      for (let i = 0; i < 4000; i++) total += Math.exp(-(((i + 0.5) / 4000) ** 2) * x * x);
      return ((2 / Math.sqrt(Math.PI)) * x * total) / 4000;
    },
    sin: () => Math.sin(x),
    cos: () => Math.cos(x),
    floor: () => Math.floor(x),
    round: () => Math.round(x),
    add: () => x + y,
    sub: () => x - y,
    mul: () => x * y,
    div: () => x / y,
    max: () => Math.max(x, y),
    min: () => Math.min(x, y),
    gt: () => Number(x > y),
    ge: () => Number(x >= y),
    pow: () => x ** y,
    where: () => (x ? y : z),
    detach: () => x,
  };
  return (operations[e.op] as () => number)();
}

test("the derivative of every operation, against differences", () => {
  const [a, b] = [input("a"), input("b")];
  const slope = (): Expr => constant(0);
  const cases: Record<string, Expr> = {
    add: a.add(b).add(2),
    sub: a.sub(b).sub(a.mul(3)),
    mul: a.mul(b),
    div: a.div(b),
    pow: a.pow(b).add(a.pow(3)),
    max: a.max(b).add(b.max(a.mul(2))),
    min: a.min(b).add(b.min(a.mul(2))),
    comparisons: a.gt(b).mul(a).add(a.ge(b).mul(3)).add(a.lt(b).mul(b)).add(a.le(b).mul(a).mul(b)),
    where: where(a.gt(b), a.mul(b), a.sub(b)),
    neg: a.neg().mul(b),
    abs: a.sub(b).abs().add(b.sub(3).abs()),
    exp: a.exp().mul(b),
    log: a.mul(b).log(),
    sqrt: a.sqrt().mul(b),
    tanh: a.tanh().mul(b.tanh()),
    sigmoid: a.sigmoid().mul(b),
    erf: a.mul(b).erf(),
    sin: a.sin().mul(b),
    cos: a.cos().mul(b.square()),
    rounding: a.floor().mul(b).add(b.round().mul(a)),
    detach: a.detach().mul(b),
  };
  for (const [name, e] of Object.entries(cases)) {
    const found = gradients([{ value: e, seed: constant(1.5) }], [a, b], slope);
    for (const [x, y] of [
      [0.7, 1.3],
      [2.2, 0.4],
    ] as const) {
      const value = (p: number, q: number) =>
        1.5 *
        evaluate(
          e,
          new Map([
            [a, p],
            [b, q],
          ]),
        );
      const h = 1e-6;
      const numeric = [(value(x + h, y) - value(x - h, y)) / (2 * h), (value(x, y + h) - value(x, y - h)) / (2 * h)];
      if (name === "detach") numeric[0] = 0;
      close(
        found.map((g) =>
          evaluate(
            g,
            new Map([
              [a, x],
              [b, y],
            ]),
          ),
        ),
        numeric,
        1e-7,
        name,
      );
    }
  }
});

/** Run a program as the kernels do, with JavaScript's arithmetic. */
function execute(program: ReturnType<typeof compile>, before: readonly number[], after: readonly number[]): number[] {
  const registers = [...before, ...program.constants, ...after];
  for (let i = 0; i < program.code.length; i += 5) {
    const [op, d, ...operands] = program.code.subarray(i, i + 5) as unknown as [number, number, number, number, number];
    const [p, q, r] = operands.map((k) => registers[k] as number) as [number, number, number];
    registers[d] = { copy: p, add: p + q, sub: p - q, mul: p * q, mulAdd: p * q + r, subMul: r - p * q }[VM[op] as "copy"];
  }
  return registers;
}

test("programs: states that change places, one value in several places, temporaries used again", () => {
  const [x, u, v] = [input("x"), input("u"), input("v")];
  const layout = { before: [x, u, v], after: [null, null] };
  const swap = compile("swap", layout, [
    { value: v, to: { before: 1 } },
    { value: u, to: { before: 2 } },
    { value: u.add(v), to: { after: 0 } },
    { value: u.add(v), to: { after: 1 } },
  ]);
  expect(execute(swap, [1, 2, 3], [0, 0])).toEqual(expect.arrayContaining([1, 3, 2, 5, 5]));
  expect(execute(swap, [1, 2, 3], [0, 0]).slice(0, 5)).toEqual([1, 3, 2, 5, 5]);
  // u is read after v's register could have been written, and the other way round.
  const both = compile("both", layout, [
    { value: u.add(v), to: { before: 1 } },
    { value: u.sub(v).mul(x), to: { before: 2 } },
    { value: constant(7), to: { after: 0 } },
    { value: x, to: { after: 1 } },
  ]);
  expect(execute(both, [2, 5, 3], [0, 0]).slice(0, 3)).toEqual([2, 8, 4]);
  expect(execute(both, [2, 5, 3], [0, 0]).slice(3 + both.constants.length, 5 + both.constants.length)).toEqual([7, 2]);
  let chain: Expr = x;
  for (let i = 0; i < 50; i++) chain = chain.mul(u).add(v);
  const long = compile("long", layout, [
    { value: chain, to: { after: 0 } },
    { value: chain, to: { after: 1 } },
  ]);
  expect(long.registers).toBeLessThan(8);
  expect(execute(long, [1, 0.5, 1], [0, 0])[3]).toBeCloseTo(2, 10);
  expect(() => compile("ghost", layout, [{ value: input("w").add(x), to: { after: 0 } }])).toThrow(/ghost: w is not available/);
  const many = Array.from({ length: 120 }, (_, i) => x.mul(i + 0.5)).reduce((p, q) => p.add(q), expr(0));
  expect(() => compile("many", layout, [{ value: many, to: { after: 0 } }])).toThrow(/many: .*registers/);
});

const leaky = defineNeuron({
  name: "leaky",
  state: { v: 0 },
  params: { tau: 2, threshold: 1 },
  charge: ({ v, x, tau }) => ({ v: v.add(x.sub(v).div(tau)) }),
  fire: ({ v, threshold }) => v.sub(threshold),
  reset: ({ v, s }) => ({ v: where(s, 0, v) }),
});

/** The same, its reset written as a product, which has a gradient for s. */
const leakyProduct = defineNeuron({
  name: "leakyProduct",
  state: { v: 0 },
  charge: ({ v, x }) => ({ v: v.add(x.sub(v).div(2)) }),
  fire: ({ v }) => v.sub(1),
  reset: ({ v, s }) => ({ v: v.mul(s.neg().add(1)) }),
});

const adaptive = defineNeuron({
  name: "ALIF",
  state: { v: 0, a: 0.25 },
  params: { beta: 0.875, rho: 0.75, jump: 0.5 },
  charge: ({ v, x, beta }) => ({ v: v.mul(beta).add(x) }),
  fire: ({ v, a }) => v.sub(1).sub(a),
  reset: ({ v, a, s, rho, jump }) => ({ v: v.sub(s), a: a.mul(rho).add(s.mul(jump)) }),
});

function outcome(neuron: Neuron, x: Tensor): number[][] {
  const input = leaf(x);
  const { spikes, state } = neuron.run(input);
  backward(add(sum(mul(spikes, values(spikes.shape, 5))), sum(mul(state, values(state.shape, 6)))));
  const results = [spikes, state, input.grad as Tensor, ...neuron.parameters().map((p) => p.grad as Tensor)].map((t) => [...t.dataSync()]);
  neuron.zeroGrad();
  return results;
}

const drive = (shape: number[]): Tensor => mul(values(shape, 3), 3);

describe("user-defined neurons", () => {
  test.each([1, 33, 64, 200])("a LIF written as expressions is the built-in one (%i channels)", async (c) => {
    await sameEverywhere(() => {
      for (const detachReset of [true, false]) {
        const surrogate = atan({ alpha: 1.5 });
        const built = outcome(new LIF({ surrogate, detachReset }), drive([5, 3, c]));
        const custom = outcome(leakyProduct({ surrogate, detachReset }), drive([5, 3, c]));
        custom.forEach((list, i) => {
          close(list, built[i] as number[], 1e-5);
        });
        if (detachReset)
          outcome(leaky({ surrogate }), drive([5, 3, c])).forEach((list, i) => {
            close(list, built[i] as number[], 1e-5);
          });
      }
      return outcome(leakyProduct({ surrogate: sigmoid() }), drive([5, 3, c]));
    });
  });

  test("a user-defined surrogate in built-in and user-defined neurons", async () => {
    const own = defineSurrogate({
      name: "own",
      parameters: { alpha: 1 },
      derivative: (u, { alpha }) =>
        u
          .abs()
          .mul(-(alpha ** 2))
          .add(alpha)
          .max(0),
    });
    await sameEverywhere(() => {
      const expected = outcome(new LIF({ surrogate: piecewiseQuadratic({ alpha: 0.75 }) }), drive([4, 2, 40]));
      for (const neuron of [new LIF({ surrogate: own({ alpha: 0.75 }) }), leakyProduct({ surrogate: own({ alpha: 0.75 }) })])
        outcome(neuron, drive([4, 2, 40])).forEach((list, i) => {
          close(list, expected[i] as number[], 1e-5);
        });
      return expected;
    });
  });

  test("a learnt parameter: PLIF's w; one for each channel", async () => {
    const parametric = defineNeuron({
      name: "parametric",
      state: { v: 0 },
      params: { w: 0 },
      charge: ({ v, x, w }) => ({ v: v.add(x.sub(v).mul(w.sigmoid())) }),
      fire: ({ v }) => v.sub(1),
      reset: ({ v, s }) => ({ v: v.mul(s.neg().add(1)) }),
    });
    await sameEverywhere(() => {
      const plif = new PLIF({ initTau: 3 });
      const w = plif.w.dataSync()[0] as number;
      const expected = outcome(plif, drive([4, 3, 40]));
      const custom = parametric({ learn: ["w"], params: { w } });
      expect([...custom.stateShapes()]).toEqual([["w", []]]);
      const found = outcome(custom, drive([4, 3, 40]));
      const perChannel = parametric({ learn: ["w"], params: { w: new Array(40).fill(w) } });
      const channels = outcome(perChannel, drive([4, 3, 40]));
      expect(channels[3]?.length).toBe(40);
      channels[3] = [(channels[3] as number[]).reduce((a, b) => a + b)];
      for (const list of [found, channels])
        list.forEach((values, i) => {
          close(values, expected[i] as number[], 1e-4);
        });
      for (const m of [plif, custom, perChannel]) m.dispose();
      return found;
    }, 1e-4);
  });

  test("two states (an adaptive threshold) against the oracle, and on every device", async () => {
    const [T, C] = [6, 37];
    const x = numbers(T * C, 3, -1, 2);
    const [gs, gv] = [numbers(T * C, 4, -1, 1), numbers(2 * C, 5, -1, 1)];
    const slope = (u: number) => (1 / (1 + Math.exp(-4 * u)) / (1 + Math.exp(4 * u))) * 4;
    const want: [number[], number[], number[]] = [[], [], [0, 0]];
    for (let c = 0; c < C; c++) {
      let [v, a, loss] = [new Dual(0), new Dual(0.25), new Dual(0)];
      const [beta, rho] = [variable(0.875, T), variable(0.75, T + 1)];
      for (let t = 0; t < T; t++) {
        v = v.mul(beta).add(variable(x[t * C + c] as number, t));
        const u = v.sub(1).sub(a);
        const s = u.map(u.v >= 0 ? 1 : 0, slope(u.v));
        want[0][t * C + c] = s.v;
        loss = loss.add(s.mul(gs[t * C + c] as number));
        v = v.sub(s);
        a = a.mul(rho).add(s.mul(0.5));
      }
      loss = loss.add(v.mul(gv[c] as number)).add(a.mul(gv[C + c] as number));
      for (let t = 0; t < T; t++) want[1][t * C + c] = loss.d[t] ?? 0;
      want[2][0] = (want[2][0] as number) + (loss.d[T] ?? 0);
      want[2][1] = (want[2][1] as number) + (loss.d[T + 1] ?? 0);
    }
    const run = (): number[][] => {
      const neuron = adaptive({ learn: ["beta", "rho"] });
      const input = leaf(drive([T, C]));
      input.set(x);
      const { spikes, state } = neuron.run(input);
      const weights = [drive([T, C]), drive([2, C])] as [Tensor, Tensor];
      weights[0].set(gs);
      weights[1].set(gv);
      backward(add(sum(mul(spikes, weights[0])), sum(mul(state, weights[1]))));
      const grads = neuron.parameters().map((p) => (p.grad as Tensor).dataSync()[0] as number);
      const result = [[...spikes.dataSync()], [...(input.grad as Tensor).dataSync()], grads];
      neuron.dispose();
      return result;
    };
    await on("reference");
    scope(run).forEach((list, i) => {
      close(list, want[i] as number[], 1e-9);
    });
    await sameEverywhere(run, 1e-4);
  });

  test("a batch norm before it is taken on the fly; state goes on", async () => {
    await sameEverywhere(() => {
      const [x, gamma] = [leaf(drive([4, 30, 24])), leaf(values([24], 2))];
      const beta = leaf(values([24], 4));
      const neuron = adaptive({ surrogate: atan() });
      const z = batchNorm(x, gamma, beta, null, null, { training: true });
      const y = neuron.forward(z);
      expect(z.made).toBe(false);
      backward(sum(mul(y, values(y.shape, 7))));
      const first = neuron.run(drive([2, 3, 24]));
      const second = neuron.run(drive([3, 3, 24]), first.state);
      expect(first.state.shape).toEqual([2, 3, 24]);
      return [y, x.grad, gamma.grad, beta.grad, first.spikes, second.spikes, second.state].map((t) => [...(t as Tensor).dataSync()]);
    }, 1e-4);
  });

  describe("wrong definitions", () => {
    beforeAll(() => on("reference"));
    test("name the neuron and what is wrong", () => {
      const wrongState = defineNeuron({
        name: "broken",
        state: { v: 0 },
        charge: ({ x }) => ({ u: x }) as object,
        fire: ({ v }) => v,
        reset: () => ({}),
      });
      expect(() => wrongState()).toThrow(/broken: charge must be of the states v, found u/);
      expect(() => adaptive({ params: { gamma: 1 } as object })).toThrow(/ALIF: parameters must be among beta, rho, jump, found gamma/);
      expect(() => adaptive({ params: { beta: [0.5, 0.25] } })).toThrow(/ALIF: beta must be a number/);
      const taken = defineNeuron({
        name: "taken",
        state: { v: 0 },
        params: { training: 1 },
        charge: ({ x, training }) => ({ v: x.mul(training) }),
        fire: ({ v }) => v,
        reset: () => ({}),
      });
      expect(() => taken({ learn: ["training"] })).toThrow(/taken: .*"training"/);
      expect(() => adaptive().forward(values([2500, 1, 1], 1))).toThrow(
        /ALIF: x must be of at most 2048 time steps for 2 states, found 2500/,
      );
    });
  });
});
