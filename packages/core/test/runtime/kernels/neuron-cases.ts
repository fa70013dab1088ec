// Random arguments for the neuron kernels. Inputs, rates and thresholds are multiples of small powers of two, so that every
// membrane is exact in float32 and no device may fire where another does not, not even when a membrane meets its threshold.
import { CHARGE, CURRENT, FIRE, type KernelName, ORDER, RESET, SURROGATE, VM } from "../../../src/runtime/kernel-table.ts";
import { words } from "../../../src/runtime/reference/spikes.ts";
import type { Cases } from "./cases.ts";
import { type Draw, unwritten } from "./draw.ts";

/** n multiples of 1/16 in [lo, hi]. */
const sixteenths = (d: Draw, n: number, lo: number, hi: number) => d.whole(n, lo * 16, hi * 16).map((x) => x / 16);
const maybe = <T>(d: Draw, make: () => T): T | null => (d.bool() ? make() : null);

function shape(d: Draw) {
  const [steps, rows, c] = [d.pick(1, 2, 4, 5), d.wide ? d.int(1, 2) : d.pick(1, 2, 5, 9), d.channels()];
  return { steps, rows, c, n: rows * c };
}

function affine(d: Draw, c: number) {
  const given = d.bool();
  return {
    scale: given ? d.whole(c, -2, 4).map((x) => x / 2) : null,
    shift: given ? sixteenths(d, c, -1, 1) : null,
  };
}

/** Switches of a neuron; with a current the decays have fewer digits, so that five steps of both stay exact. */
function neuron(d: Draw, c: number) {
  const synaptic = d.bool();
  const fire = d.int(0, synaptic ? FIRE.indexOf("gt") : FIRE.length - 1);
  const rounding = FIRE[fire] === "roundEven" || FIRE[fire] === "roundUp";
  const levels = rounding ? d.pick(1, 2, 4, 7, 8) : 1;
  return {
    charge: d.int(0, CHARGE.length - 1),
    order: d.int(0, ORDER.length - 1),
    reset: d.int(0, RESET.length - 1),
    current: d.int(0, CURRENT.length - 1),
    alpha: synaptic ? d.whole(c, 0, 2).map((x) => x / 2) : null,
    fire,
    levels,
    planes: Math.ceil(Math.log2(levels + 1)),
    r: d.pick(1, 0.5, synaptic ? 0.5 : 0.25),
    rtau: maybe(d, () => d.whole(c, 1, synaptic ? 2 : 4).map((x) => x / (synaptic ? 2 : 4))),
    vThreshold: d.pick(1, 0.5),
    vReset: d.pick(0, -0.25),
    vRest: d.pick(0, 0.125),
    vInit: d.pick(0, 0.5),
  };
}

/** Parameters at which every surrogate is finite and its corners are exact in float32. */
function surrogate(d: Draw) {
  const surrogate = d.int(0, SURROGATE.length - 1);
  const name = SURROGATE[surrogate]!;
  if (name === "qPseudoSpike") return { surrogate, p0: d.pick(1.5, 2), p1: 0 };
  if (name === "squarewaveFourier") return { surrogate, p0: 3, p1: 8 };
  if (name === "window" || name === "openWindow") return { surrogate, p0: -0.5, p1: 0.75 };
  return { surrogate, p0: d.pick(0.5, 2, 4), p1: d.pick(0.25, 1) };
}

const op = (name: (typeof VM)[number]) => VM.indexOf(name);

/** A custom surrogate: exp(-(k u)^2) k, with u in register 0 and k in 1. */
const bump = Int32Array.from([
  op("mul"),
  2,
  0,
  1,
  0,
  op("mul"),
  2,
  2,
  2,
  0,
  op("neg"),
  2,
  2,
  0,
  0,
  op("exp"),
  2,
  2,
  0,
  0,
  op("mul"),
  3,
  2,
  1,
  0,
]);

/** A leaky neuron with soft reset as a program: z 0, v 1, rate 2, threshold 3, spike 4, temporaries 5. */
const leaky = Int32Array.from([
  ...[op("sub"), 5, 0, 1, 0], // z - v
  ...[op("mul"), 5, 5, 2, 0],
  ...[op("add"), 5, 1, 5, 0], // H
  ...[op("ge"), 4, 5, 3, 0],
  ...[op("mul"), 6, 4, 3, 0],
  ...[op("sub"), 1, 5, 6, 0],
]);
/** Its gradient, reset detached: spike gradient 4, state gradient 5, then gz 6 and the rate's 7, temporaries 8. */
const leakyGrad = Int32Array.from([
  ...[op("sub"), 8, 0, 1, 0], // z - v
  ...[op("mul"), 9, 8, 2, 0],
  ...[op("add"), 9, 9, 1, 0],
  ...[op("sub"), 9, 9, 3, 0], // H - threshold
  ...[op("surrogate"), 9, 9, 0, 0],
  ...[op("mul"), 9, 9, 4, 0],
  ...[op("add"), 9, 9, 5, 0], // gradient of H
  ...[op("mul"), 6, 9, 2, 0],
  ...[op("mul"), 7, 9, 8, 0],
  ...[op("sub"), 5, 9, 6, 0], // times 1 - rate
]);

/** The gradient accumulates rounding over steps, rows of a chunk and the slope of the surrogate. */
const gradient = { rtol: 2e-5, atol: 2e-4 };

export const neuronCases: Cases<Extract<KernelName, `neuron_${string}`>> = {
  neuron_forward: (d) => {
    const { steps, rows, c, n } = shape(d);
    const k = neuron(d, c);
    const states = k.alpha ? 2 * n : n;
    const args = {
      x: sixteenths(d, steps * n, -2, 3),
      ...affine(d, c),
      v0: maybe(d, () => sixteenths(d, states, -1, 2)),
      spikes: new Uint32Array(steps * rows * k.planes * words(c)).fill(0xaaaaaaaa),
      v: maybe(d, () => unwritten(states)),
      h: maybe(d, () => unwritten(steps * n)),
      ...k,
    };
    return { args: { ...args, xStep: d.pick(n, n, 0), steps, rows, c }, rtol: 0, atol: 0 };
  },
  neuron_backward: (d) => {
    const { steps, rows, c, n } = shape(d);
    const k = neuron(d, c);
    const states = k.alpha ? 2 * n : n;
    const chunks = Math.min(rows, d.pick(1, 2, 3));
    const normalised = d.bool();
    const shaped = surrogate(d);
    const custom = SURROGATE[shaped.surrogate] === "custom";
    const args = {
      x: sixteenths(d, steps * n, -2, 3),
      ...affine(d, c),
      v0: maybe(d, () => sixteenths(d, states, -1, 2)),
      gy: d.floats(steps * n, -1, 1),
      gv: maybe(d, () => d.floats(states, -1, 1)),
      gz: unwritten(steps * n),
      gv0: maybe(d, () => unwritten(states)),
      gr: maybe(d, () => unwritten(chunks * c)),
      galpha: k.alpha && maybe(d, () => unwritten(chunks * c)),
      mean: normalised ? d.floats(c, -1, 1) : null,
      rstd: normalised ? d.floats(c, 0.5, 2) : null,
      stats: normalised ? unwritten(2 * chunks * c) : null,
      ...k,
      ...shaped,
      detach: d.flag(),
      gain: d.pick(1, 0.5),
      program: custom ? bump : null,
      constants: custom ? Float64Array.of(shaped.p0) : null,
      length: custom ? bump.length / 5 : 0,
      registers: custom ? 4 : 0,
      constantCount: custom ? 1 : 0,
    };
    return { args: { ...args, steps, rows, c, chunks }, ...gradient };
  },
  neuron_vm_forward: (d) => {
    const { steps, rows, c, n } = shape(d);
    const args = {
      x: sixteenths(d, steps * n, -2, 3),
      ...affine(d, c),
      params: d.whole(c, 1, 4).map((x) => x / 4),
      s0: maybe(d, () => sixteenths(d, n, -1, 2)),
      init: Float64Array.of(0.25),
      spikes: new Uint32Array(steps * rows * words(c)).fill(0xaaaaaaaa),
      s1: maybe(d, () => unwritten(n)),
      program: leaky,
      constants: Float64Array.of(0.5),
    };
    const counts = { states: 1, paramCount: 1, constantCount: 1, registers: 7, length: leaky.length / 5 };
    return { args: { ...args, ...counts, steps, rows, c }, rtol: 0, atol: 0 };
  },
  neuron_vm_backward: (d) => {
    const { steps, rows, c, n } = shape(d);
    const chunks = Math.min(rows, d.pick(1, 2, 3));
    const normalised = d.bool();
    const { surrogate: slope, p0, p1 } = surrogate(d);
    const args = {
      x: sixteenths(d, steps * n, -2, 3),
      ...affine(d, c),
      params: d.whole(c, 1, 4).map((x) => x / 4),
      s0: maybe(d, () => sixteenths(d, n, -1, 2)),
      init: Float64Array.of(0.25),
      gy: d.floats(steps * n, -1, 1),
      gs1: maybe(d, () => d.floats(n, -1, 1)),
      gz: unwritten(steps * n),
      gs0: maybe(d, () => unwritten(n)),
      gparams: maybe(d, () => unwritten(chunks * c)),
      mean: normalised ? d.floats(c, -1, 1) : null,
      rstd: normalised ? d.floats(c, 0.5, 2) : null,
      stats: normalised ? unwritten(2 * chunks * c) : null,
      program: leaky,
      constants: Float64Array.of(0.5),
      gradProgram: leakyGrad,
      gradConstants: Float64Array.of(0.5),
    };
    const counts = { states: 1, paramCount: 1, constantCount: 1, registers: 7, length: leaky.length / 5 };
    const gradCounts = { gradConstantCount: 1, gradRegisters: 10, gradLength: leakyGrad.length / 5 };
    const builtIn = SURROGATE[slope] === "custom" ? SURROGATE.indexOf("atan") : slope; // the interpreter has no program for it here
    return { args: { ...args, ...counts, ...gradCounts, steps, rows, c, chunks, surrogate: builtIn, p0, p1 }, ...gradient };
  },
};
