// The tape: accumulation, reuse, retained and spent graphs, changed tensors, users' own ops, recomputation, and that no path through it leaks.
import { beforeAll, describe, expect, it } from "vitest";
import { device, randomness } from "../../src/runtime/engine.ts";
import type { Reservation } from "../../src/runtime/random.ts";
import { checkpoint, isRecomputing } from "../../src/tensor/checkpoint.ts";
import { run, tilesFor } from "../../src/tensor/ops/common.ts";
import { exp, mul } from "../../src/tensor/ops/elementwise.ts";
import { split } from "../../src/tensor/ops/layout.ts";
import { matmul } from "../../src/tensor/ops/matmul.ts";
import { keep, scope } from "../../src/tensor/scope.ts";
import { applyMany, backward, defineOp, grad, noGrad, type OpDefinition } from "../../src/tensor/tape.ts";
import { empty, type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { compiledDevices, draw, gradcheck, leakless, start } from "../gradcheck.ts";

beforeAll(() => start("reference"));

function leaf(values: number[] | number, shape?: number[]): Tensor {
  const t = tensor(values, shape);
  t.requiresGrad = true;
  return t;
}

const gradOf = (t: Tensor) => [...(t.grad as Tensor).dataSync()];

describe("backward", () => {
  it("adds up what reaches a tensor on several ways", () =>
    leakless(() => {
      const x = leaf([1, 2, 3]);
      const y = x.mul(x).add(x).add(x);
      y.sum().backward();
      expect(gradOf(x)).toEqual([4, 6, 8]);
      const z = exp(x);
      backward(z.mul(z).add(z).sum());
      expect(gradOf(x).map((v) => v.toFixed(9))).toEqual([1, 2, 3].map((v) => (2 * v + 2 + 2 * Math.exp(2 * v) + Math.exp(v)).toFixed(9)));
    }));

  it("a gradient that goes unchanged to two inputs is not shared between them", () =>
    leakless(() => {
      const [a, b] = [leaf([1, 2]), leaf([3, 4])];
      const g = tensor([10, 20]);
      backward(a.add(b), { gradient: g });
      expect((a.grad as Tensor).storage).not.toBe((b.grad as Tensor).storage);
      backward(a.add(1), { gradient: g });
      expect(gradOf(a)).toEqual([20, 40]);
      expect(gradOf(b)).toEqual([10, 20]);
      expect([...g.dataSync()]).toEqual([10, 20]);
    }));

  it("works on a leaf itself", () =>
    leakless(() => {
      const x = leaf(3);
      x.backward();
      x.backward();
      expect(gradOf(x)).toEqual([2]);
    }));

  it("leaves tensors alone that want no gradient", () =>
    leakless(() => {
      const [x, y] = [leaf([1, 2]), tensor([3, 4])];
      x.mul(y).sum().backward();
      expect(gradOf(x)).toEqual([3, 4]);
      expect(y.grad).toBeNull();
    }));

  it("outputs without a gradient count as zero", () =>
    leakless(() => {
      const x = leaf([1, 2, 3]);
      const parts = split(x, 1) as [Tensor, Tensor, Tensor];
      parts[1].mul(5).sum().backward();
      expect(gradOf(x)).toEqual([0, 5, 0]);
    }));

  it("runs a graph once, unless it is retained", () =>
    leakless(() => {
      const x = leaf([1, 2]);
      const y = x.mul(x).sum();
      y.backward({ retainGraph: true });
      y.backward();
      expect(gradOf(x)).toEqual([4, 8]);
      expect(() => y.backward()).toThrow(
        "backward: the graph through sum was already used; pass { retainGraph: true } to the first backward",
      );
      expect(gradOf(x)).toEqual([4, 8]);
    }));

  it("says what is wrong", () =>
    leakless(() => {
      const x = leaf([1, 2]);
      expect(() => x.mul(2).backward()).toThrow("backward: the tensor must be of one element when no gradient is given, found [2]");
      expect(() => x.mul(2).backward({ gradient: tensor([1]) })).toThrow("backward: gradient must be of shape [2], found [1]");
      expect(() => tensor(1).backward()).toThrow(/depends on nothing that requires a gradient/);
      expect(() => noGrad(() => x.sum()).backward()).toThrow(/was it made inside noGrad\?/);
      expect(() => x.detach().sum().backward()).toThrow(/depends on nothing/);
    }));

  it("refuses a saved parameter that was changed in place", () =>
    leakless(() => {
      const w = keep(leaf([1, 2]));
      const y = w.mul(w).sum();
      w.set([5, 6]);
      expect(() => y.backward()).toThrow(
        "backward: a tensor of shape [2] was changed in place after forward used it: step the optimiser after backward",
      );
      w.dispose();
    }));

  it("drops the gradient of a leaf that is gone", () =>
    leakless(() => {
      const w = leaf([2]);
      const y = scope(() => {
        const inner = leaf([3]);
        return inner.mul(w).sum();
      });
      y.backward();
      expect(gradOf(w)).toEqual([3]);
    }));

  it("walks a graph of 12 000 ops without recursion, and frees one that is never used", () => {
    leakless(() => {
      const x = leaf([1]);
      const y = scope(() => {
        let t = x;
        for (let i = 0; i < 12000; i++) t = t.add(0.5);
        return t;
      });
      y.sum().backward();
      expect(gradOf(x)).toEqual([1]);
    });
    leakless(() => {
      let t = leaf([1]);
      for (let i = 0; i < 12000; i++) t = t.mul(t);
    });
  });
});

describe("grad", () => {
  it("gives the gradients of a function, and zeros where there are none", () =>
    leakless(() => {
      const [x, y] = [tensor([1, 2]), tensor([3])];
      const [gx, gy] = grad((a) => a.square().sum())(x, y) as [Tensor, Tensor];
      expect([...gx.dataSync()]).toEqual([2, 4]);
      expect([...gy.dataSync()]).toEqual([0]);
      expect(x.grad).toBeNull();
      expect(x.requiresGrad).toBe(false);
    }));
});

/** x -> scale x^3, as a user would write it. */
const cube: OpDefinition<{ scale: number }> = {
  name: "cube",
  forward(ctx, [x], { scale }) {
    ctx.save(x as Tensor);
    return mul((x as Tensor).square(), x as Tensor).mul(scale);
  },
  backward(ctx, [g], { scale }) {
    const [x] = ctx.saved as [Tensor];
    return [
      x
        .square()
        .mul(3 * scale)
        .mul(g as Tensor),
    ];
  },
};

describe("a user's own op", () => {
  it("takes part in gradients like a built-in one", () => {
    const f = defineOp(cube);
    expect([...f([tensor([1, 2])], { scale: 2 }).dataSync()]).toEqual([2, 16]);
    gradcheck((x) => f([x.exp()], { scale: 0.5 }).mul(x), [draw([2, 3], 1)]);
  });

  it("with a wrong gradient does not pass the check", () => {
    const wrong = defineOp({
      ...cube,
      backward: (ctx, [g]) => [
        (ctx.saved[0] as Tensor)
          .square()
          .mul(3.001)
          .mul(g as Tensor),
      ],
    });
    expect(() => gradcheck((x) => wrong([x], { scale: 1 }), [draw([3], 1)])).toThrow(/gradient of input 0 \[3\], element 0/);
  });

  it("may have several outputs", () =>
    leakless(() => {
      const both: OpDefinition<void> = {
        name: "both",
        forward: (_ctx, [x]) => [(x as Tensor).mul(2), (x as Tensor).mul(3)],
        backward: (_ctx, [g, h]) => [g && h ? g.mul(2).add(h.mul(3)) : g ? g.mul(2) : (h as Tensor).mul(3)],
      };
      const x = leaf([1, 1]);
      const [a, b] = applyMany(both, [x], undefined) as [Tensor, Tensor];
      a.mul(b).sum().backward();
      expect(gradOf(x)).toEqual([12, 12]);
    }));

  it("is told when its gradient has a wrong shape", () => {
    const wrong = defineOp<void>({ name: "wrong", forward: (_ctx, [x]) => (x as Tensor).mul(1), backward: () => [tensor([1])] });
    expect(() =>
      wrong([leaf([1, 2])], undefined)
        .sum()
        .backward(),
    ).toThrow("wrong: backward gave a gradient of shape [1] for input 0 of shape [2]");
  });

  it("that throws leaves nothing behind", () =>
    leakless(() => {
      const fails = (where: "forward" | "backward") =>
        defineOp<void>({
          name: "fails",
          forward(ctx, [x]) {
            ctx.save((x as Tensor).mul(2));
            if (where === "forward") throw new Error("forward failed");
            return (x as Tensor).mul(1);
          },
          backward(_ctx, [g]) {
            (g as Tensor).mul(2);
            throw new Error("backward failed");
          },
        });
      const x = leaf([1, 2]);
      expect(() => fails("forward")([x.mul(2)], undefined)).toThrow("forward failed");
      expect(() =>
        fails("backward")([x.mul(2)], undefined)
          .mul(3)
          .sum()
          .backward(),
      ).toThrow("backward failed");
      // The tape works on afterwards, and records.
      x.square().sum().backward();
      expect(gradOf(x)).toEqual([2, 4]);
    }));
});

/** Zero half of the elements at random, from a named stream. */
const drop = defineOp<void>({
  name: "drop",
  forward(ctx, [x]) {
    const t = x as Tensor;
    const place = randomness()
      .stream("drop")
      .reserve(Math.ceil(t.size / 4));
    ctx.values.place = place;
    const y = empty(t.shape);
    run("dropout", { x: t.storage, y: y.storage, n: t.size, ...place, p: 0.5 }, tilesFor(t.size, 1));
    return y;
  },
  backward(ctx, [g]) {
    const gy = g as Tensor;
    const gx = empty(gy.shape);
    run("dropout", { x: gy.storage, y: gx.storage, n: gy.size, ...(ctx.values.place as Reservation), p: 0.5 }, tilesFor(gy.size, 1));
    return [gx];
  },
});

describe("checkpoint", () => {
  const block = (w: Tensor) => (h: Tensor) => drop([matmul(h, w).tanh()], undefined).add(h);

  /** Loss and gradients of three blocks, each wrapped. */
  function train(wrap: (fn: (h: Tensor) => Tensor, h: Tensor) => Tensor): number[][] {
    randomness().restore({ seed: 5, streams: {} });
    return scope(() => {
      const x = draw([16, 24], 1);
      const ws = [2, 3, 4].map((seed) => draw([24, 24], seed, -0.3, 0.3));
      for (const t of [x, ...ws]) t.requiresGrad = true;
      let h = x;
      for (const w of ws) h = wrap(block(w), h);
      const loss = h.square().mean();
      loss.backward();
      const after = randomness().stream("drop").next();
      return [[...loss.dataSync()], ...[x, ...ws].map(gradOf), [after]];
    });
  }

  it.each(["reference", ...compiledDevices()] as const)(
    "gives the same bits as no checkpoint, random draws included (%s)",
    async (name) => {
      await start(name);
      const plain = train((fn, h) => fn(h));
      expect(train((fn, h) => checkpoint(fn, h))).toEqual(plain);
      expect(train((fn, h) => checkpoint((a) => checkpoint(fn, a), h))).toEqual(plain);
      await start("reference");
    },
  );

  it("saves nothing inside, and says when it runs again", () =>
    leakless(() => {
      const x = leaf(Array.from({ length: 64 }, (_, i) => i / 64));
      const seen: boolean[] = [];
      const chain = (t: Tensor) => {
        seen.push(isRecomputing());
        return t.exp().tanh().exp().tanh();
      };
      const used = () => device().memory().used;
      const before = used();
      const plain = scope(() => chain(x).sum());
      const kept = used() - before;
      const saving = scope(() => checkpoint(chain, x).sum());
      expect(used() - before - kept).toBeLessThan(kept / 2);
      plain.backward();
      const expected = gradOf(x);
      x.grad?.dispose();
      x.grad = null;
      saving.backward();
      expect(gradOf(x)).toEqual(expected);
      expect(seen).toEqual([false, false, true]);
      expect(isRecomputing()).toBe(false);
    }));

  it("takes a function that hands its input on, and one without anything to train", () =>
    leakless(() => {
      const x = leaf([1, 2]);
      const y = checkpoint((t) => t, x);
      expect(y).not.toBe(x);
      y.mul(3).sum().backward();
      expect(gradOf(x)).toEqual([3, 3]);
      const constant = tensor([1, 2]);
      checkpoint((t) => t.mul(2), constant)
        .add(x)
        .sum()
        .backward();
      expect(gradOf(x)).toEqual([4, 4]);
      expect(constant.grad).toBeNull();
    }));

  it("outside the tape just runs the function", () =>
    leakless(() => {
      expect(noGrad(() => checkpoint((t) => t.mul(2), leaf([1]))).node).toBeNull();
    }));
});
