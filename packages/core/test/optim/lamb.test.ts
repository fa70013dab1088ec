// LAMB against its rule in float64 numbers: several parameters, gradients clipped by their common norm, groups without trust ratio.
import { beforeEach, describe, expect, it } from "vitest";
import { type Parameter, parameterFrom } from "../../src/nn/module.ts";
import { LAMB, type LAMBSettings } from "../../src/optim/index.ts";
import type { DeviceName } from "../../src/runtime/device.ts";
import { memoryInfo } from "../../src/runtime/engine.ts";
import { keep } from "../../src/tensor/scope.ts";
import { tensor } from "../../src/tensor/tensor.ts";
import { compiledDevices, numbers, start } from "../gradcheck.ts";
import { close } from "../tensor/support.ts";

const DEVICES: [DeviceName, number][] = [["reference", 1e-12], ...compiledDevices().map((name): [DeviceName, number] => [name, 2e-6])];
// 20011 elements are several tiles and no multiple of a vector.
const SIZES = [20011, 7, 3];
const norm = (values: readonly number[]) => Math.sqrt(values.reduce((n, v) => n + v * v, 0));

function make(size: number, seed: number): Parameter {
  return parameterFrom(Float64Array.from(numbers(size, seed, -1, 1)), [size], null);
}

function setGradient(p: Parameter, values: readonly number[] | null): void {
  p.grad?.dispose();
  p.grad = values && keep(tensor(Float64Array.from(values), p.shape, "f32"));
}

/** The published rule for one parameter; k counts its own updates. */
function rule(
  values: number[],
  gradient: number[],
  state: { m: number[]; v: number[]; k: number },
  decay: number,
  s: LAMBSettings,
  lr: number,
) {
  const [b1, b2] = s.betas;
  state.k++;
  const u = values.map((p, i) => {
    const g = gradient[i] as number;
    state.m[i] = b1 * (state.m[i] ?? 0) + (1 - b1) * g;
    state.v[i] = b2 * (state.v[i] ?? 0) + (1 - b2) * g * g;
    return (
      (state.m[i] as number) / (1 - b1 ** state.k) / (Math.sqrt(state.v[i] as number) / Math.sqrt(1 - b2 ** state.k) + s.eps) + decay * p
    );
  });
  let trust = decay !== 0 || s.alwaysAdapt ? norm(values) / norm(u) : 1;
  if (!(norm(values) > 0 && norm(u) > 0)) trust = 1;
  if (s.trustClip) trust = Math.min(trust, 1);
  return values.map((p, i) => p - lr * trust * (u[i] as number));
}

describe.each(DEVICES)("LAMB on %s", (device, tolerance) => {
  beforeEach(() => start(device));

  it.each<Partial<LAMBSettings>>([
    {},
    { trustClip: true, weightDecay: 0.3 },
    { alwaysAdapt: true, betas: [0.8, 0.95], eps: 1e-3 },
    { maxGradNorm: 0, weightDecay: 0 },
    { maxGradNorm: 1e6 },
  ])("follows its rule with %o", (given) => {
    const parameters = SIZES.map((size, i) => make(size, i + 1));
    const [a, b, c] = parameters as [Parameter, Parameter, Parameter];
    const optimizer = new LAMB([{ parameters: [a, c] }, { parameters: [b], weightDecay: 0 }], given);
    const s = optimizer.settings;
    const decays = [s.weightDecay, 0, s.weightDecay];
    const values = parameters.map((p) => [...p.dataSync()]);
    const states = SIZES.map(() => ({ m: [], v: [], k: 0 }));
    for (let step = 0; step < 5; step++) {
      // The third is frozen at first: it starts with a bias correction of its own.
      const gradients = SIZES.map((size, i) => (i === 2 && step < 2 ? null : numbers(size, 100 + 10 * step + i, -2, 2)));
      parameters.forEach((p, i) => setGradient(p, gradients[i] ?? null));
      const scale = 0.5;
      optimizer.gradScale = scale;
      optimizer.lr = 0.1 / (step + 1);
      optimizer.step();
      expect(optimizer.gradScale).toBe(1);
      const total = scale * norm(gradients.flatMap((g) => g ?? []));
      const clip = s.maxGradNorm ? Math.max(1, total / s.maxGradNorm) : 1;
      parameters.forEach((p, i) => {
        const g = gradients[i]?.map((v) => (v * scale) / clip);
        if (g) values[i] = rule(values[i] as number[], g, states[i] as (typeof states)[0], decays[i] as number, s, 0.1 / (step + 1));
        close(p.dataSync(), values[i] as number[], tolerance, `parameter ${i} after step ${step + 1}`);
      });
    }
  });
});

describe("LAMB", () => {
  beforeEach(() => start("wasm"));

  it("moves a parameter of zeros, and stays where the gradient is zero", () => {
    const zero = parameterFrom(new Float32Array(3), [3], null);
    const still = make(3, 1);
    const before = still.dataSync();
    const optimizer = new LAMB([zero], { lr: 0.1 });
    const other = new LAMB([{ parameters: [still], weightDecay: 0 }], { lr: 0.1, alwaysAdapt: true });
    setGradient(zero, [0.1, -0.1, 0.1]);
    setGradient(still, [0, 0, 0]);
    optimizer.step();
    other.step();
    close(zero.dataSync(), [-0.1, 0.1, -0.1], 1e-5);
    expect(still.dataSync()).toEqual(before);
  });

  it("refuses a gradient that is not finite before anything is changed", () => {
    const p = make(3, 1);
    const before = p.dataSync();
    const optimizer = new LAMB([p]);
    setGradient(p, [1, Number.NaN, 1]);
    expect(() => optimizer.step()).toThrow("LAMB: the norm of the gradients is NaN");
    expect([p.dataSync(), optimizer.steps, optimizer.stateTensors().size]).toEqual([before, 0, 0]);
  });

  it("goes on bit for bit, a parameter that was frozen at first too, in flat memory", () => {
    const build = (): [Parameter[], LAMB] => {
      const parameters = [make(500, 1), make(20, 2)];
      return [parameters, new LAMB(parameters, { lr: 0.05 })];
    };
    const run = ([[a, b], optimizer]: [Parameter[], LAMB], from: number, to: number) => {
      for (let step = from; step <= to; step++) {
        setGradient(a as Parameter, numbers(500, step));
        setGradient(b as Parameter, step < 3 ? null : numbers(20, 50 + step));
        optimizer.step();
      }
    };
    const whole = build();
    run(whole, 1, 4);
    const settled = memoryInfo().used;
    run(whole, 5, 9);
    expect(memoryInfo().used).toBe(settled);
    const [first, second] = [build(), build()];
    run(first, 1, 4);
    first[0].forEach((p, i) => second[0][i]?.set(p.dataSync()));
    second[1].loadState(first[1].stateTensors(), first[1].steps);
    run(second, 5, 9);
    expect(second[0].map((p) => p.dataSync())).toEqual(whole[0].map((p) => p.dataSync()));
    expect(second[1].stateTensors()).toEqual(whole[1].stateTensors());
  });
});
