// Random programs whose values are made late (batch norms, repeated steps), with and without parts that run again in backward: values and
// gradients are those of the same program that makes every value at once.
import * as fc from "fast-check";
import { beforeAll, expect, it } from "vitest";
import { defineOp, noGrad, scope, snn, type Tensor, tensor } from "../../src/index.ts";
import { device } from "../../src/runtime/engine.ts";
import { checkpoint } from "../../src/tensor/checkpoint.ts";
import { conv1d } from "../../src/tensor/ops/conv.ts";
import { expand } from "../../src/tensor/ops/layout.ts";
import { linear } from "../../src/tensor/ops/matmul.ts";
import { batchNorm } from "../../src/tensor/ops/norm.ts";
import { start } from "../gradcheck.ts";

const [T, B, C] = [3, 4, 5];
const STILL = [B, C];
const STEPS = [T, B, C];
const OPS = ["norm", "norm", "add", "linear", "conv", "time", "time", "reshape", "tanh", "normAdd", "own", "cut", "leaf"] as const;

/** One operation of a program, on two earlier results. */
interface Line {
  op: (typeof OPS)[number];
  from: number;
  other: number;
  /** Has it weights, or a bias? */
  weights: boolean;
  again: boolean;
  /** Is the result read, so that it is in memory? */
  read: boolean;
}
interface Program {
  lines: Line[];
  /** Of the data. */
  seed: number;
  /** A second backward. */
  twice: boolean;
}
type Way = "eager" | "lazy" | "checkpointed";

const programs: fc.Arbitrary<Program> = fc.record({
  lines: fc.array(
    fc.record({
      op: fc.constantFrom(...OPS),
      from: fc.nat(100),
      other: fc.nat(100),
      weights: fc.boolean(),
      again: fc.boolean(),
      read: fc.integer({ min: 0, max: 6 }).map((n) => n === 0),
    }),
    { minLength: 2, maxLength: 12 },
  ),
  seed: fc.nat(1000),
  twice: fc.boolean(),
});

/** The loss and the gradients of all leaves. */
function run({ lines, seed, twice }: Program, way: Way): (number[] | null)[] {
  const before = device().memory().used;
  const found = scope(() => {
    let drawn = seed;
    const data = (shape: readonly number[]): Tensor => {
      const start = ++drawn;
      const size = shape.reduce((a, b) => a * b, 1);
      return tensor(
        Float32Array.from({ length: size }, (_, i) => Math.sin(start * 78.233 + i * 12.9898) * 1.5),
        shape,
      );
    };
    const leaves: Tensor[] = [];
    const asLeaf = (t: Tensor): Tensor => {
      t.requiresGrad = true;
      leaves.push(t);
      return t;
    };
    const leaf = (...shape: number[]) => asLeaf(data(shape));
    const now = (t: Tensor): Tensor => (way === "eager" ? t.mul(1) : t);
    const repeat = (x: Tensor): Tensor => (way === "eager" ? expand(x.reshape([1, ...x.shape]), STEPS) : snn.repeat(x, T));
    const norm = (x: Tensor, gamma: Tensor | null = null, beta: Tensor | null = null): Tensor =>
      now(batchNorm(x, gamma, beta, null, null, { training: true }));
    const half = defineOp({
      name: "half",
      forward: (_ctx, [x]) => repeat(x as Tensor),
      backward: (_ctx, [g]) => [(g as Tensor).sum(0).mul(0.5)],
    });
    const neuron = new snn.LIF({ vThreshold: 0.3 });

    const results: Tensor[] = [leaf(...STILL)];
    results.push((results[0] as Tensor).mul(0.5), data(STILL));
    for (const { op, from, other, weights, again, read } of lines) {
      const x = results[from % results.length] as Tensor;
      const still = x.rank === 2;
      const same = results.filter((t) => t.rank === x.rank);
      const y = same[other % same.length] as Tensor;
      const part = (fn: (...inputs: Tensor[]) => Tensor, ...inputs: Tensor[]): Tensor =>
        again && way === "checkpointed" ? checkpoint(fn, ...inputs) : fn(...inputs);
      const made = (): Tensor => {
        if (op === "add") return part((a, b) => a.add(b), x, y);
        if (op === "reshape") return part((a) => a.reshape([-1, C]).reshape(a.shape), x);
        if (op === "tanh") return part((a) => a.tanh(), x);
        if (op === "normAdd") return part((a) => norm(a).add(a), x);
        if (op === "norm") {
          const [gamma, beta] = weights ? [leaf(C), leaf(C)] : [null, null];
          return part((a) => norm(a, gamma, beta), x);
        }
        if (op === "linear" || op === "conv") {
          const [weight, bias] = [op === "conv" ? leaf(1, C, C) : leaf(C, C), weights ? leaf(C) : null];
          return part((a) => (op === "conv" ? conv1d(a, weight, bias) : linear(a, weight, bias)), x);
        }
        if (!still) return part((a) => neuron.forward(a), x);
        if (op === "own") return part((a) => half([a], undefined), x);
        if (op === "cut") return noGrad(() => repeat(x));
        if (op === "leaf") return asLeaf(repeat(data(STILL)));
        return part(repeat, x);
      };
      const result = made();
      if (read && way !== "eager") result.dataSync();
      results.push(result);
    }
    // The first too, so that there is a gradient in any case.
    let loss = (results[0] as Tensor).mul(data(STILL)).sum();
    for (const t of results.slice(-3)) loss = loss.add(t.mul(data(t.shape)).sum());
    if (twice) loss.backward({ retainGraph: true });
    loss.backward();
    return [[loss.itemSync()], ...leaves.map((t) => t.grad && [...t.grad.dataSync()])];
  });
  expect(device().memory().used).toBe(before);
  return found;
}

beforeAll(() => start("reference"));

it("a program gives the same whether its values are made at once or late, in one run or again", () => {
  fc.assert(
    fc.property(programs, (program) => {
      const expected = run(program, "eager");
      for (const way of ["lazy", "checkpointed"] as const)
        for (const [i, found] of run(program, way).entries()) {
          const wanted = expected[i] as number[] | null;
          expect(found === null, `${way}: is there no gradient of leaf ${i - 1}?`).toBe(wanted === null);
          for (const [j, v] of (found ?? []).entries()) {
            const e = (wanted as number[])[j] as number;
            expect(Math.abs(v - e), `${way}: leaf ${i - 1}`).toBeLessThanOrEqual(1e-6 * (1 + Math.abs(e)));
          }
        }
    }),
    { seed: 1, numRuns: 400 },
  );
}, 30_000);
