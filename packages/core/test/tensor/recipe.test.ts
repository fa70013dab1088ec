// Values that are made again instead of saved, and gradients written over what they are made from: less memory, the same bits.
import { beforeEach, describe, expect, it } from "vitest";
import { inTurn, Module } from "../../src/nn/index.ts";
import { device } from "../../src/runtime/engine.ts";
import { LIF } from "../../src/spiking/index.ts";
import { add, clone } from "../../src/tensor/ops/elementwise.ts";
import { reshape } from "../../src/tensor/ops/layout.ts";
import { matmul } from "../../src/tensor/ops/matmul.ts";
import { batchNorm } from "../../src/tensor/ops/norm.ts";
import { keep, scope } from "../../src/tensor/scope.ts";
import { backward, checkpoint, noGrad } from "../../src/tensor/tape.ts";
import { full, type Tensor } from "../../src/tensor/tensor.ts";
import { compiledDevices, draw, leakless, start } from "../gradcheck.ts";

const C = 40;
const SHAPE = [2, 64, C];
const BYTES = 4 * 2 * 64 * C;

function parameter(t: Tensor): Tensor {
  t.requiresGrad = true;
  return keep(t);
}

interface Block {
  weight: Tensor;
  gamma: Tensor;
  beta: Tensor;
}

const blocks = (count: number): Block[] =>
  Array.from({ length: count }, (_, i) => ({
    weight: parameter(draw([C, C], 3 * i + 1, -0.5, 0.5)),
    gamma: parameter(full([C], 1)),
    beta: parameter(full([C], 0.5)),
  }));

const neuron = () => new LIF({ tau: 2 });
const norm = (x: Tensor, { gamma, beta }: Block) => batchNorm(x, gamma, beta, null, null, { training: true });

/** Membranes plus a branch of neuron, product and norm; `through` is applied to every sum. */
const residual = (h: Tensor, block: Block, through: (t: Tensor) => Tensor): Tensor =>
  through(add(h, norm(matmul(neuron().forward(h), block.weight), block)));

describe.each(compiledDevices())("on %s", (name) => {
  beforeEach(() => start(name));

  /** Gradients of a chain of residual blocks behind a norm whose output goes two ways, and the bytes that wait for backward. */
  function train(count: number, through: (t: Tensor) => Tensor, run = (fn: (h: Tensor) => Tensor, h: Tensor) => fn(h)) {
    return leakless(() => {
      const x = parameter(draw(SHAPE, 100));
      const [first, ...rest] = blocks(count + 1) as [Block, ...Block[]];
      const before = device().memory().used;
      const y = scope(() => {
        let h = through(norm(x, first));
        for (const block of rest) h = run((t) => residual(t, block, through), h);
        return neuron().forward(h);
      });
      const waiting = device().memory().used - before;
      backward(y, { gradient: draw(SHAPE, 101) });
      const leaves = [x, ...[first, ...rest].flatMap(({ weight, gamma, beta }) => (weight.grad ? [weight, gamma, beta] : [gamma, beta]))];
      const gradients = leaves.map((t) => [...(t.grad as Tensor).dataSync()]);
      for (const t of [x, ...[first, ...rest].flatMap(Object.values)] as Tensor[]) t.dispose();
      return { waiting, gradients };
    });
  }

  it("neither a normalised value nor a sum is saved, and gradients are those of saved ones to the last bit", () => {
    for (const count of [1, 3, 6]) {
      const plain = train(count, clone);
      const again = train(count, (t) => t);
      expect(again.gradients).toEqual(plain.gradients);
      // What copies take beside: the sums, of which the fifth in a row is saved here too, and the first norm's value.
      const saved = Math.floor(count / 5);
      expect(Math.round((plain.waiting - again.waiting) / BYTES)).toBe(count + 1 - saved);
    }
  });

  it("a checkpoint takes and gives such values, with the same bits", () => {
    const plain = train(3, (t) => t);
    const again = train(3, (t) => t, checkpoint);
    expect(again.gradients).toEqual(plain.gradients);
  });

  it("a gradient is written over only where nobody else holds what is overwritten", () =>
    leakless(() => {
      const x = parameter(draw(SHAPE, 1));
      const [block] = blocks(1) as [Block];
      const gradient = draw(SHAPE, 2);
      const given = gradient.dataSync();
      const branch = norm(x.tanh(), block);
      // The same gradient goes to the sum's three terms; the activation before the norm is still looked at afterwards.
      const held = x.exp();
      const y = neuron()
        .forward(add(add(branch, held), held.sigmoid()))
        .mul(held);
      const values = held.dataSync();
      const leaves = [x, block.gamma, block.beta];
      const gradients = () => leaves.map((t) => [...(t.grad as Tensor).dataSync()]);
      backward(y, { gradient, retainGraph: true });
      const once = gradients();
      for (const t of leaves) {
        t.grad?.dispose();
        t.grad = null;
      }
      backward(y, { gradient });
      expect(gradients()).toEqual(once);
      expect(gradient.dataSync()).toEqual(given);
      expect(held.dataSync()).toEqual(values);
      for (const t of [...leaves, block.weight]) t.dispose();
    }));

  it("without a backward to come, nothing is remembered", () =>
    leakless(() => {
      const [x, other] = [draw(SHAPE, 1), draw(SHAPE, 2)];
      const [block] = blocks(1) as [Block];
      const sum = noGrad(() => add(norm(x, block), other));
      expect(sum.recipe).toBeNull();
      const made = noGrad(() => norm(x, block).add(0).add(other));
      expect(sum.dataSync()).toEqual(made.dataSync());
      for (const t of Object.values(block)) t.dispose();
    }));
});

describe("a recipe", () => {
  beforeEach(() => start("reference"));

  it("goes through a reshape that keeps the channels", () =>
    leakless(() => {
      const x = parameter(draw([4, 6, 3], 1));
      const sum = add(batchNorm(x, null, null, null, null, { training: true }), draw([4, 6, 3], 2));
      const flat = reshape(sum, [24, 3]);
      expect(flat.recipe?.parts.x.shape).toEqual([24, 3]);
      expect(flat.storage).toBe(sum.storage);
      x.dispose();
    }));

  it("is refused once a part of it was changed in place, and forgotten with a value that was", () =>
    leakless(() => {
      const x = parameter(draw([4, 3], 1));
      const values = x.mul(1);
      const z = batchNorm(values, null, null, null, null, { training: true });
      values.set(new Array(12).fill(0));
      expect(() => z.dataSync()).toThrow(/changed in place/);
      const sum = add(batchNorm(x.mul(1), null, null, null, null, { training: true }), full([4, 3], 1));
      expect(sum.recipe).not.toBeNull();
      sum.set(new Array(12).fill(0));
      expect(sum.recipe).toBeNull();
      x.dispose();
    }));
});

describe("inTurn", () => {
  beforeEach(() => start("reference"));

  class Grow extends Module {
    readonly seen: Tensor[] = [];
    forward(x: Tensor): Tensor {
      this.seen.push(x);
      return x.add(1);
    }
  }
  class Pass extends Module {
    forward(x: Tensor): Tensor {
      return x;
    }
  }

  it("frees what lies between at once, but neither the input, nor what was handed on, nor what is kept", () =>
    leakless(() => {
      const [a, b, c] = [new Grow(), new Grow(), new Grow()];
      const x = full([2], 0);
      const y = inTurn([new Pass(), a, new Pass(), b, c], x);
      expect([...y.dataSync()]).toEqual([3, 3]);
      expect(a.seen[0]).toBe(x);
      expect([a, b, c].map((m) => m.seen[0]?.disposed)).toEqual([false, true, true]);
      expect(inTurn([], x)).toBe(x);
    }));
});
