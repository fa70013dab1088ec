// Scopes: what is freed and what lives on; tensors used after their end; memory that stays flat over many steps.
import { beforeAll, describe, expect, it } from "vitest";
import { device } from "../../src/runtime/engine.ts";
import { linear } from "../../src/tensor/ops/matmul.ts";
import { keep, scope } from "../../src/tensor/scope.ts";
import { full, ones, type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { compiledDevices, draw, drawSpikes, leakless, start } from "../gradcheck.ts";

beforeAll(() => start("reference"));

const used = () => device().memory().used;

describe("scope", () => {
  it("frees what is not returned, from arrays, objects and maps too", () => {
    const before = used();
    const made: Tensor[] = [];
    const note = (t: Tensor) => {
      made.push(t);
      return t;
    };
    const result = scope(() => {
      note(full([8], 1));
      return { list: [note(full([8], 2)), 3], map: new Map([["a", note(full([8], 4))]]) };
    });
    expect(made.map((t) => t.disposed)).toEqual([true, false, false]);
    (result.list[0] as Tensor).dispose();
    result.map.get("a")?.dispose();
    expect(used()).toBe(before);
  });

  it("hands what it returns to the scope around it", () =>
    leakless(() => {
      const inner = scope(() => scope(() => ones([3])));
      expect([...inner.dataSync()]).toEqual([1, 1, 1]);
    }));

  it("never frees what is kept", () => {
    const before = used();
    const t = scope(() => {
      const kept = keep(ones([2]));
      return () => kept;
    })();
    expect([...t.dataSync()]).toEqual([1, 1]);
    t.dispose();
    expect(used()).toBe(before);
  });

  it("frees everything when its function throws, and works on", () =>
    leakless(() => {
      expect(() =>
        scope(() => {
          ones([4]).mul(2);
          throw new Error("stop");
        }),
      ).toThrow("stop");
      expect(scope(() => ones([1])).itemSync()).toBe(1);
    }));

  it("takes no function that returns a promise", () =>
    leakless(() => {
      expect(() => scope(async () => ones([4]))).toThrow(
        "scope: the function must be synchronous, found one that returns a promise. Read values after the scope",
      );
    }));

  it("keeps alive what a graph saved, until the graph is used or gone", () =>
    leakless(() => {
      const x = draw([4], 1);
      x.requiresGrad = true;
      const loss = scope(() => x.exp().square().sum());
      loss.backward();
      expect(x.grad).not.toBeNull();
      scope(() => x.exp().square().sum());
    }));
});

describe("a tensor that is gone", () => {
  it("cannot be used", () => {
    const t = ones([2, 3]);
    t.dispose();
    t.dispose();
    expect(() => t.add(1)).toThrow("a tensor of shape [2, 3] is used after it was freed: return it from scope(), or keep() it");
    let out: Tensor | undefined;
    scope(() => {
      out = ones([2]);
    });
    expect(() => out?.dataSync()).toThrow(/used after it was freed/);
  });

  it("leaves memory that another handle shares", () => {
    const before = used();
    const t = tensor([1, 2]);
    const other = t.reshape([2, 1]);
    t.dispose();
    expect([...other.dataSync()]).toEqual([1, 2]);
    other.dispose();
    expect(used()).toBe(before);
  });

  it("of an earlier init cannot be used either, and its end is no harm", async () => {
    const t = ones([2]);
    await start("reference");
    expect(() => t.add(1)).toThrow(/a tensor of an earlier init\(\) is used: its device is gone/);
    const before = used();
    t.dispose();
    expect(used()).toBe(before);
  });
});

describe("memory", () => {
  it.each(["reference", ...compiledDevices()] as const)("stays flat over 300 training steps (%s)", async (name) => {
    await start(name);
    const w = keep(draw([40, 6], 1));
    const b = keep(full([6], 0));
    w.requiresGrad = b.requiresGrad = true;
    const x = keep(drawSpikes([5, 40], 2));
    const step = () =>
      scope(() => {
        for (const p of [w, b]) {
          p.grad?.dispose();
          p.grad = null;
        }
        const loss = linear(x, w, b).sigmoid().permute([1, 0]).slice([0, 3]).sum(1).square().mean();
        loss.backward();
        for (const p of [w, b]) p.set(p.sub((p.grad as Tensor).mul(0.01)).dataSync());
      });
    step();
    const { used: first, reserved } = device().memory();
    for (let i = 0; i < 300; i++) step();
    expect(device().memory().used).toBe(first);
    expect(device().memory().reserved).toBe(name === "reference" ? first : reserved);
    for (const t of [w, b, x]) t.dispose();
  });
});
