// Encoders: bits of the right shape on every device, the same ones where that is promised; what is decoded again is what went in; Poisson
// draws by their statistics and by the stream they come from; the libraries' numbers by hand.
import { describe, expect, test } from "vitest";
import { init, randomness } from "../../src/runtime/engine.ts";
import { delta, type LatencyOptions, latency, phase, poisson } from "../../src/spiking/encoders.ts";
import { repeat } from "../../src/tensor/ops/layout.ts";
import { rand } from "../../src/tensor/ops/random.ts";
import { mean } from "../../src/tensor/ops/reduce.ts";
import { spikeStats } from "../../src/tensor/ops/spikes.ts";
import { scope } from "../../src/tensor/scope.ts";
import { type Tensor, tensor } from "../../src/tensor/tensor.ts";
import { ADDON, numbers } from "../gradcheck.ts";
import { compiled, leaf, on, sameEverywhere, spikes } from "../tensor/support.ts";

const list = (t: Tensor): number[] => [...t.dataSync()];

/** The step of each element's only spike, -1 where it has none. */
function times(y: Tensor): number[] {
  const [steps, n] = [y.shape[0] as number, y.size / (y.shape[0] as number)];
  const values = y.dataSync();
  return Array.from({ length: n }, (_, i) => {
    const fired = Array.from({ length: steps }, (_, t) => t).filter((t) => values[t * n + i] === 1);
    expect(fired.length, `spikes of element ${i}`).toBeLessThan(2);
    return fired[0] ?? -1;
  });
}

describe("poisson", () => {
  test("is a spike where the stream's uniform draw is below the value, the same on every device and thread count", async () => {
    const x = numbers(3 * 45, 1, -0.1, 1.1);
    const found = new Set<string>();
    for (const device of ["reference", ...compiled] as const)
      for (const threads of [1, 2, 3]) {
        await init({ device, threads, seed: 5, native: ADDON });
        scope(() => {
          const y = poisson(tensor(Float64Array.from(x), [3, 45]), 40);
          expect([y.dtype, y.shape]).toEqual(["spikes", [40, 3, 45]]);
          const again = poisson(tensor(Float64Array.from(x), [3, 45]), 2);
          found.add(list(y).join("") + list(again).join(""));
        });
      }
    expect(found.size).toBe(1);
    await init({ device: "wasm", seed: 5 });
    scope(() => {
      const draws = rand([40, 3, 45], { stream: "encode" }).dataSync();
      randomness().stream("encode").restore({ block: 0, word: 0 });
      expect(list(poisson(tensor(Float64Array.from(x), [3, 45]), 40))).toEqual(
        [...draws].map((u, i) => (u < (x[i % 135] as number) ? 1 : 0)),
      );
      expect(list(poisson(tensor([0.5, 0.5]), 64))).not.toEqual(list(poisson(tensor([0.5, 0.5]), 64, { stream: "other" })));
    });
  });

  test("fires at the rate of the value; never at 0, always at 1, and steps are independent", async () => {
    await on("wasm");
    scope(() => {
      const steps = 400;
      const n = 64;
      for (const p of [0.1, 0.5, 0.9]) {
        const y = poisson(tensor(new Float64Array(n).fill(p), [n]), steps);
        const draws = steps * n;
        // Five standard deviations of a binomial.
        expect(Math.abs(spikeStats(y).sum - p * draws)).toBeLessThan(5 * Math.sqrt(draws * p * (1 - p)));
        const v = y.dataSync();
        let both = 0;
        for (let i = 0; i + n < v.length; i++) both += (v[i] as number) * (v[i + n] as number);
        const q = p * p;
        expect(Math.abs(both - q * (draws - n))).toBeLessThan(5 * Math.sqrt(draws * (q * (1 - q) + 2 * q * p * (1 - p))));
      }
      const rates = mean(poisson(tensor([0, -1, 1, 2, Number.NaN]), 100), 0);
      expect(list(rates)).toEqual([0, 0, 1, 1, 0]);
    });
  });
});

describe("latency", () => {
  const formulas: Record<string, (x: number, steps: number) => number> = {
    linear: (x, steps) => (steps - 1) * (1 - x),
    log: (x, steps) => steps - 1 - Math.log((Math.exp(steps - 1) - 1) * x + 1),
    rc: (x, steps) => (x > 0.01 ? 2 * Math.log(x / (x - 0.01)) : steps),
  };
  const even = (v: number) => (Math.abs((v % 1) - 0.5) < 1e-12 ? 2 * Math.round(v / 2) : Math.round(v));
  const values = [...numbers(200, 3, 0, 1), 0, 1, 0.5, 0.25, 0.75, 0.125, 0.0101, 0.012, 0.02, 0.03];

  for (const [code, time] of Object.entries(formulas))
    test(`${code}: one spike at the formula's step, the same on every device`, async () => {
      const options: LatencyOptions = { code: code as "linear", tau: 2 };
      for (const steps of [1, 2, 5, 9, 33]) {
        await on("reference");
        scope(() => {
          const got = times(latency(tensor(Float64Array.from(values), [values.length]), steps, options));
          values.forEach((x, i) => {
            const t = time(x, steps);
            if (Math.abs(Math.abs(t % 1) - 0.5) < 1e-6 && code !== "linear") return; // the formula itself is not exact there
            const step = even(t);
            expect(got[i], `x = ${x}, T = ${steps}`).toBe(code === "rc" && step >= steps ? -1 : step);
          });
        });
        await sameEverywhere(() => [list(latency(tensor(Float64Array.from(values), [5, 42]), steps, options))], 0);
      }
    });

  test("the larger the value, the earlier the spike; back from its step a value is off by half a step at most", async () => {
    await on("wasm");
    const steps = 16;
    const rising = Array.from({ length: 101 }, (_, i) => Math.fround(i / 100));
    scope(() => {
      for (const code of ["linear", "log", "rc"] as const) {
        const t = times(latency(tensor(rising), steps, { code, tau: 6 })).map((v) => (v < 0 ? steps : v));
        for (let i = 1; i < t.length; i++) expect(t[i]).toBeLessThanOrEqual(t[i - 1] as number);
        expect(new Set(t).size).toBeGreaterThan(code === "linear" ? 15 : 3);
      }
      times(latency(tensor(rising), steps)).forEach((t, i) => {
        expect(Math.abs(1 - t / 15 - (rising[i] as number))).toBeLessThan(0.5 / 15 + 1e-6);
      });
    });
  });

  test("ties go to the even step; below the threshold nothing fires; outside 0 to 1 and NaN", async () => {
    for (const name of ["reference", ...compiled] as const) {
      await on(name);
      scope(() => {
        // T = 5: x = 0.875, 0.625, 0.375, 0.125 lie half way.
        expect(times(latency(tensor([0.875, 0.625, 0.375, 0.125]), 5))).toEqual([0, 2, 2, 4]);
        expect(times(latency(tensor([0.1, 0.2, 0.3, 1]), 5, { threshold: 0.2 }))).toEqual([-1, 3, 3, 0]);
        expect(times(latency(tensor([1.5, -1, Number.NaN]), 5))).toEqual([0, 4, -1]);
      });
    }
  });
});

describe("phase", () => {
  test("the weighted spikes sum to the value cut off to K binary digits, on every device", async () => {
    for (const K of [1, 4, 8, 13])
      await sameEverywhere(() => {
        const x = [...numbers(90, K, 0, 1), 0, 1, 2, -1, 1 - 2 ** -K, 0.5];
        const y = phase(tensor(Float64Array.from(x), [2, 48]), K);
        expect([y.dtype, y.shape]).toEqual(["spikes", [K, 2, 48]]);
        const bits = list(y);
        const decoded = x.map((_, i) =>
          Array.from({ length: K }, (_, k) => (bits[k * 96 + i] as number) * 2 ** -(1 + k)).reduce((a, b) => a + b),
        );
        x.forEach((v, i) => {
          expect(decoded[i]).toBe(Math.min(Math.max(Math.floor(v * 2 ** K), 0), 2 ** K - 1) / 2 ** K);
        });
        return [bits];
      }, 0);
  });

  test("repeats its period over more steps", async () => {
    await on("reference");
    scope(() => {
      // 0.6875 = 1011 in binary.
      expect(list(phase(tensor([0.6875]), 4, { steps: 10 }))).toEqual([1, 0, 1, 1, 1, 0, 1, 1, 1, 0]);
    });
  });
});

describe("delta", () => {
  test("snnTorch's examples, and off-spikes in channels of their own", async () => {
    for (const name of ["reference", ...compiled] as const) {
      await on(name);
      scope(() => {
        const a = tensor([[1], [2], [2.9], [3], [3.9]]);
        expect(list(delta(a, { threshold: 0.5 }))).toEqual([1, 1, 1, 0, 1]);
        expect(list(delta(a, { threshold: 0.5, padding: true }))).toEqual([0, 1, 1, 0, 1]);
        const b = tensor([[1], [2], [0], [2], [2.9]]);
        const y = delta(b, { threshold: 1, off: true });
        expect(y.shape).toEqual([5, 2]);
        expect(list(y)).toEqual([1, 0, 1, 0, 0, 1, 1, 0, 0, 0]);
        expect(list(delta(tensor([[0.5, -0.5]]), { off: true }))).toEqual([1, 0, 0, 1]);
      });
    }
  });

  test("the sum of the spikes follows a signal that moves by whole thresholds", async () => {
    await sameEverywhere(() => {
      const moves = numbers(60 * 40, 7, 0, 3).map((v) => Math.floor(v) - 1);
      const signal = new Float64Array(60 * 40);
      moves.forEach((m, i) => {
        signal[i] = (i < 40 ? 0 : (signal[i - 40] as number)) + m / 4;
      });
      const bits = list(delta(tensor(signal, [60, 40]), { threshold: 0.25, off: true }));
      for (let c = 0; c < 40; c++) {
        let level = 0;
        for (let t = 0; t < 60; t++) {
          level += (bits[t * 80 + c] as number) - (bits[t * 80 + 40 + c] as number);
          expect(level / 4).toBe(signal[t * 40 + c]);
        }
      }
      return [bits];
    }, 0);
  });
});

test("direct coding repeats the values; spikes can be encoded; nothing is recorded", async () => {
  await on("reference");
  scope(() => {
    expect(list(repeat(tensor([0.5, 2]), 2))).toEqual([0.5, 2, 0.5, 2]);
    const x = leaf(tensor([0.25, 0.5]));
    for (const y of [poisson(x, 2), latency(x, 2), phase(x, 2), delta(repeat(x, 2))]) expect([y.node, y.dtype]).toEqual([null, "spikes"]);
    const s = spikes([4, 8], 1);
    expect(list(poisson(s, 1))).toEqual(list(s));
  });
});

test("wrong arguments name the encoder and the argument", async () => {
  await on("reference");
  scope(() => {
    const x = tensor([0.5]);
    expect(() => poisson(x, 0)).toThrow(/poisson: steps must be an integer of at least 1, found 0/);
    expect(() => poisson(tensor(0.5), 1)).toThrow(/poisson: x must be of rank 1 or more/);
    expect(() => latency(x, 4, { code: "cubic" as "log" })).toThrow(/latency: code must be one of "linear", "log", "rc", found cubic/);
    expect(() => latency(x, 4, { code: "rc", threshold: 0 })).toThrow(/threshold must be above 0/);
    expect(() => phase(x, 17)).toThrow(/phase: phases must be at most 16, found 17/);
    expect(() => delta(x)).toThrow(/delta: x must be of shape \[T, ..., C\]/);
    expect(() => delta(tensor([[1]]), { threshold: 0 })).toThrow(/threshold must be above 0/);
  });
});
