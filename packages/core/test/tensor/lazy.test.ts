// Values that are made again instead of saved, and gradients written over what they are made from: less memory, the same bits.
import { beforeEach, describe, expect, it } from "vitest";
import { inTurn, Module, Sequential } from "../../src/nn/index.ts";
import { device } from "../../src/runtime/engine.ts";
import { LIF } from "../../src/spiking/index.ts";
import { checkpoint } from "../../src/tensor/checkpoint.ts";
import { conv2d } from "../../src/tensor/ops/conv.ts";
import { add, clone } from "../../src/tensor/ops/elementwise.ts";
import { reshape } from "../../src/tensor/ops/layout.ts";
import { matmul } from "../../src/tensor/ops/matmul.ts";
import { batchNorm } from "../../src/tensor/ops/norm.ts";
import { keep, scope } from "../../src/tensor/scope.ts";
import { backward, noGrad } from "../../src/tensor/tape.ts";
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

  /** Three residual blocks of neuron, convolution and norm, twice each; gradients, bytes that wait for backward, and convolutions run. */
  function convolutions(keepOutput: boolean, changed?: (weight: Tensor) => void) {
    const shape = [2, 2, 6, 5, 8];
    const weights = [0, 1, 2, 3, 4, 5].map((i) => parameter(draw([3, 3, 8, 8], i + 1, -0.5, 0.5)));
    const x = parameter(draw(shape, 100, -1, 2));
    const branch = (h: Tensor, weight: Tensor) =>
      batchNorm(conv2d(neuron().forward(h), weight, null, { padding: 1, keepOutput }), null, null, null, null, { training: true });
    const before = device().memory().used;
    const y = scope(() => {
      let h = x;
      for (const i of [0, 2, 4]) h = add(branch(branch(h, weights[i] as Tensor), weights[i + 1] as Tensor), h);
      return neuron().forward(h);
    });
    const waiting = device().memory().used - before;
    const leaves = [x, ...weights];
    try {
      changed?.(weights[0] as Tensor);
      // Twice: what was made for the first backward serves the second.
      backward(y, { gradient: draw(shape, 101), retainGraph: true });
      backward(y, { gradient: draw(shape, 101) });
      return { waiting, bytes: x.size * 4, gradients: leaves.map((t) => [...(t.grad as Tensor).dataSync()]) };
    } finally {
      for (const t of [y, ...leaves]) t.dispose();
    }
  }

  it("a convolution's output that is not kept is made again from its spikes, with the same bits, and freed", () => {
    const { used } = device().memory();
    const [kept, again] = scope(() => [convolutions(true), convolutions(false)]);
    expect(again.gradients).toEqual(kept.gradients);
    // All six, but the third sum in a row then waits itself.
    expect(kept.waiting - again.waiting).toBe(5 * kept.bytes);
    expect(device().memory().used).toBe(used);
  });

  it("... and refused once the weight is another", () => {
    const { used } = device().memory();
    const run = () => scope(() => convolutions(false, (weight) => weight.set(weight.dataSync())));
    expect(run).toThrow("changed in place: step the optimiser after backward");
    expect(device().memory().used).toBe(used);
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
      expect(sum.affine).toBeNull();
      const made = noGrad(() => norm(x, block).add(0).add(other));
      expect(sum.dataSync()).toEqual(made.dataSync());
      for (const t of Object.values(block)) t.dispose();
    }));
});

describe("an affine value", () => {
  beforeEach(() => start("reference"));

  it("goes through a reshape that keeps the channels", () =>
    leakless(() => {
      const x = parameter(draw([4, 6, 3], 1));
      const sum = add(batchNorm(x, null, null, null, null, { training: true }), draw([4, 6, 3], 2));
      const flat = reshape(sum, [24, 3]);
      expect(flat.affine?.parts.x.shape).toEqual([24, 3]);
      expect(flat.storage).toBe(sum.storage);
      x.dispose();
    }));

  it("is refused once a part of it was changed in place, and forgotten with a value that was", () =>
    leakless(() => {
      const x = parameter(draw([4, 3], 1));
      const values = x.mul(1);
      const z = batchNorm(values, null, null, null, null, { training: true });
      values.set(new Array(12).fill(0));
      const mend = /was changed in place: step the optimiser after backward/;
      expect(() => z.dataSync()).toThrow(mend);
      // Nor does another op take it unmade.
      expect(() => z.add(full([4, 3], 1))).toThrow(mend);
      expect(() => full([4, 3], 1).add(z)).toThrow(mend);
      expect(() => z.reshape([2, 2, 3])).toThrow(mend);
      expect(() => neuron().forward(z.reshape([4, 1, 3]))).toThrow(mend);
      const still = draw([4, 2, 3], 2);
      const alone = batchNorm(still, null, null, null, null, { training: true });
      still.set(new Array(24).fill(0));
      expect(() => neuron().forward(alone)).toThrow(/use the value \(or clone that tensor\) before it is set/);
      // One that is in memory has its value; only how it was made is forgotten.
      const source = x.mul(1);
      const made = batchNorm(source, null, null, null, null, { training: true });
      const before = made.dataSync();
      source.set(new Array(12).fill(0));
      expect(made.affine).toBeNull();
      expect(made.add(0).dataSync()).toEqual(before);
      const sum = add(batchNorm(x.mul(1), null, null, null, null, { training: true }), full([4, 3], 1));
      expect(sum.affine).not.toBeNull();
      sum.set(new Array(12).fill(0));
      expect(sum.affine).toBeNull();
      x.dispose();
    }));
});

describe("inTurn", () => {
  beforeEach(() => start("reference"));

  const seen = new Map<Module, Tensor>();
  class Grow extends Module {
    forward(x: Tensor): Tensor {
      seen.set(this, x);
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
      expect(seen.get(a)).toBe(x);
      expect([a, b, c].map((m) => seen.get(m)?.disposed)).toEqual([false, true, true]);
      expect(inTurn([], x)).toBe(x);
    }));

  it("leaves what a module holds for another one", () => {
    type Held = { tensor?: Tensor; list: Tensor[]; map: Map<string, Tensor>; set: Set<Tensor>; record: { x?: Tensor } };
    const ways: Record<string, [(by: Held, x: Tensor) => void, (by: Held) => Tensor | undefined]> = {
      field: [
        (by, x) => {
          by.tensor = x;
        },
        (by) => by.tensor,
      ],
      list: [(by, x) => by.list.push(x), (by) => by.list[0]],
      map: [(by, x) => by.map.set("x", x), (by) => by.map.get("x")],
      set: [(by, x) => by.set.add(x), (by) => [...by.set][0]],
      record: [
        (by, x) => {
          by.record.x = x;
        },
        (by) => by.record.x,
      ],
    };
    for (const [hold, read] of Object.values(ways))
      leakless(() => {
        class Save extends Module implements Held {
          tensor?: Tensor;
          list: Tensor[] = [];
          map = new Map<string, Tensor>();
          set = new Set<Tensor>();
          record: { x?: Tensor } = {};
          forward(x: Tensor): Tensor {
            hold(this, x);
            return x.mul(2);
          }
        }
        const inner = new Save();
        const use = new (class extends Module {
          forward(x: Tensor): Tensor {
            return x.add(read(inner) as Tensor);
          }
        })();
        // Held by a part of a part, after it was handed on.
        const net = new Sequential(new Grow(), new Pass(), new Sequential(inner), new Grow(), use);
        expect([...net.forward(full([2], 1)).dataSync()]).toEqual([7, 7]);
      });
  });

  it("tells what to do about a result that was freed", () => {
    let hidden: Tensor | undefined;
    const save = new (class extends Module {
      forward(x: Tensor): Tensor {
        hidden = x;
        return x.mul(2);
      }
    })();
    const use = new (class extends Module {
      forward(x: Tensor): Tensor {
        return x.add(hidden as Tensor);
      }
    })();
    expect(() => scope(() => inTurn([new Grow(), save, use], full([2], 0)))).toThrow(
      /after it was freed: .*keep\(\) it where it is stored/,
    );
  });
});
