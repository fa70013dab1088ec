/** Reference kernels: spiking neurons element by element, their gradients by the chain rule written out, and the expression interpreter. */
import { CHARGE, CURRENT, FIRE, ORDER, RESET, SURROGATE, VM } from "../kernel-table.ts";
import { cos, erf, exp, log, pow, roundHalfEven, sin, tanh } from "../math.ts";
import type { ReferenceArgs } from "./args.ts";
import { chunkStart } from "./reduce.ts";
import { setSpike, words } from "./spikes.ts";

type Forward = ReferenceArgs<"neuron_forward">;
type Backward = ReferenceArgs<"neuron_backward">;
type Switches = Pick<Forward, "charge" | "order" | "reset" | "fire" | "levels" | "r" | "vThreshold" | "vReset" | "vRest">;

const sigmoid = (x: number): number => 1 / (1 + exp(-x));
const sigmoidSlope = (alpha: number, u: number): number => alpha * sigmoid(alpha * u) * (1 - sigmoid(alpha * u));

/** Surrogate derivatives at u: see SURROGATE in the kernel table. */
const slopes: Record<Exclude<(typeof SURROGATE)[number], "custom">, (u: number, p0: number, p1: number) => number> = {
  piecewiseQuadratic: (u, p0) => (Math.abs(u) <= 1 / p0 ? p0 - p0 * p0 * Math.abs(u) : 0),
  piecewiseExp: (u, p0) => (p0 / 2) * exp(-p0 * Math.abs(u)),
  sigmoid: (u, p0) => sigmoidSlope(p0, u),
  softSign: (u, p0) => p0 / 2 / (1 + p0 * Math.abs(u)) ** 2,
  superSpike: (u, p0) => p0 / (1 + Math.abs(u)) ** 2,
  atan: (u, p0) => p0 / 2 / (1 + ((Math.PI / 2) * p0 * u) ** 2),
  nonzeroSignLogAbs: (u, p0) => p0 / (1 + p0 * Math.abs(u)),
  erf: (u, p0) => (p0 / Math.sqrt(Math.PI)) * exp(-((p0 * u) ** 2)),
  piecewiseLeakyRelu: (u, p0, p1) => (Math.abs(u) < p0 ? 1 / (2 * p0) : p1),
  squarewaveFourier: (u, p0, p1) => {
    let sum = 0;
    for (let i = 1; i < p0; i++) sum += cos(((2 * i - 1) * 2 * Math.PI * u) / p1);
    return (4 / p1) * sum;
  },
  s2nn: (u, p0, p1) => (u < 0 ? sigmoidSlope(p0, u) : p1 / (u + 1)),
  qPseudoSpike: (u, p0) => pow(1 + (2 / (p0 - 1)) * Math.abs(u), -p0),
  leakyKRelu: (u, p0, p1) => (u >= 0 ? p1 : p0),
  fakeNumericalGradient: (u, p0) => Math.min(p0, 1 / Math.abs(u)),
  logTailedRelu: (u, p0) => (u <= 0 ? p0 : u <= 1 ? 1 : 1 / u),
  pass: () => 1,
  rect: (u, p0) => (Math.abs(u) < 1 / (2 * p0) ? p0 : 0),
  fastSigmoid: (u, p0) => 1 / (1 + p0 * Math.abs(u)) ** 2,
  step: (u, p0, p1) => (u > 0 ? p1 : p0),
  triangular: (u, p0) => (u < 0 ? p0 : -p0),
  spikeRateEscape: (u, p0, p1) => p1 * exp(-p0 * Math.abs(u - 1)),
  sparseFastSigmoid: (u, p0, p1) => (u > p1 ? 1 / (1 + p0 * Math.abs(u)) ** 2 : 0),
  window: (u, p0, p1) => (p0 <= u && u <= p1 ? 1 : 0),
  openWindow: (u, p0, p1) => (p0 < u && u < p1 ? 1 : 0),
};

/** The derivative of what a neuron emits, at the surrogate's argument u. */
export function surrogateSlope(op: number, u: number, p0: number, p1: number): number {
  return slopes[SURROGATE[op] as keyof typeof slopes](u, p0, p1);
}

/** H: the membrane v after input z. */
function charged(k: Switches, v: number, z: number, r: number): number {
  switch (CHARGE[k.charge]) {
    case "integrate":
      return v + z;
    case "leakInput":
      return v + (z - (v - k.vRest)) * r;
    case "leak":
      return v - (v - k.vRest) * r + z;
    default:
      return z;
  }
}

/** Derivatives of `charged` for v, z and r. */
function chargeSlopes(k: Switches, v: number, z: number, r: number): { v: number; z: number; r: number } {
  switch (CHARGE[k.charge]) {
    case "integrate":
      return { v: 1, z: 1, r: 0 };
    case "leakInput":
      return { v: 1 - r, z: r, r: z - (v - k.vRest) };
    case "leak":
      return { v: 1 - r, z: 1, r: -(v - k.vRest) };
    default:
      return { v: 0, z: 1, r: 0 };
  }
}

/** What membrane h emits. */
function fired(k: Switches, h: number): number {
  const clipped = h > 0 ? Math.min(h, k.levels) : 0;
  switch (FIRE[k.fire]) {
    case "ge":
      return h >= k.vThreshold ? 1 : 0;
    case "gt":
      return h > k.vThreshold ? 1 : 0;
    case "roundEven":
      return roundHalfEven(clipped);
    default:
      return Math.floor(clipped + 0.5);
  }
}

/** The membrane after it emitted s, and its derivatives for h and s (only a soft reset's s varies with the number emitted). */
function resetBy(k: Switches, h: number, s: number): { v: number; h: number; s: number } {
  switch (RESET[k.reset]) {
    case "hard":
      return { v: s > 0 ? k.vReset : h, h: s > 0 ? 0 : 1, s: k.vReset - h };
    case "soft":
      return { v: h - s * k.vThreshold, h: 1, s: -k.vThreshold };
    default:
      return { v: h, h: 1, s: 0 };
  }
}

/** One step from state v: the membrane h, the next state, and what is emitted. */
function stepped(k: Switches, v: number, z: number, r: number): { h: number; v: number; s: number } {
  if (ORDER[k.order] === "fireThenReset") {
    const h = charged(k, v, z, r);
    const s = fired(k, h);
    return { h, v: CHARGE[k.charge] === "stateless" ? 0 : resetBy(k, h, s).v, s };
  }
  const old = fired(k, v);
  const h = RESET[k.reset] === "hard" ? charged(k, resetBy(k, v, old).v, z, r) : charged(k, v, z, r) + resetBy(k, v, old).v - v;
  return { h, v: h, s: ORDER[k.order] === "fireFirst" ? old : fired(k, h) };
}

/** What a synaptic current makes of an input: the current after it, and what the membrane gets. */
function taken(current: number, alpha: number, i: number, z: number): { i: number; u: number } {
  const after = CURRENT[current] === "decayed" ? alpha * (i + z) : alpha * i + z;
  return { i: after, u: CURRENT[current] === "late" ? i : after };
}

/** Elements of x after the affine. */
function inputs({
  x,
  scale,
  shift,
  c,
}: {
  x: Float64Array;
  scale: Float64Array | null;
  shift: Float64Array | null;
  c: number;
}): (i: number) => number {
  return (i) => (scale && shift ? x[i]! * scale[i % c]! + shift[i % c]! : x[i]!);
}

/** The batch norm's sums of one element: gz and gz times the normalised x. */
function addStats(a: Pick<Backward, "stats" | "mean" | "rstd" | "x" | "c">, chunk: number, i: number, gz: number): void {
  const { stats, mean, rstd, x, c } = a;
  if (!stats || !mean || !rstd) return;
  const j = i % c;
  stats[chunk * 2 * c + j]! += gz;
  stats[(chunk * 2 + 1) * c + j]! += gz * (x[i]! - mean[j]!) * rstd[j]!;
}

/** Run a program (see VM) on one element's registers. */
function runProgram(program: Int32Array, length: number, registers: Float64Array, slope: (u: number) => number): void {
  for (let at = 0; at < length * 5; at += 5) {
    const x = registers[program[at + 2]!]!;
    const y = registers[program[at + 3]!]!;
    const z = registers[program[at + 4]!]!;
    registers[program[at + 1]!] = instructions[VM[program[at]!]!](x, y, z, slope);
  }
}

const instructions: Record<(typeof VM)[number], (x: number, y: number, z: number, slope: (u: number) => number) => number> = {
  copy: (x) => x,
  neg: (x) => -x,
  abs: (x) => Math.abs(x),
  exp: (x) => exp(x),
  log: (x) => log(x),
  sqrt: (x) => Math.sqrt(x),
  tanh: (x) => tanh(x),
  sigmoid: (x) => sigmoid(x),
  erf: (x) => erf(x),
  sin: (x) => sin(x),
  cos: (x) => cos(x),
  floor: (x) => Math.floor(x),
  round: (x) => roundHalfEven(x),
  add: (x, y) => x + y,
  sub: (x, y) => x - y,
  mul: (x, y) => x * y,
  div: (x, y) => x / y,
  max: (x, y) => Math.max(x, y),
  min: (x, y) => Math.min(x, y),
  gt: (x, y) => (x > y ? 1 : 0),
  ge: (x, y) => (x >= y ? 1 : 0),
  pow: (x, y) => pow(x, y),
  where: (x, y, z) => (x !== 0 ? y : z),
  mulAdd: (x, y, z) => x * y + z,
  subMul: (x, y, z) => z - x * y,
  surrogate: (x, _y, _z, slope) => slope(x),
};

const noSlope = (): number => 0;

export const neuron = {
  neuron_forward(a: Forward): void {
    const { steps, rows, c, planes, rtau, alpha, v0, v, h, spikes } = a;
    const n = rows * c;
    const input = inputs(a);
    spikes.fill(0, 0, steps * rows * planes * words(c));
    for (let i = 0; i < n; i++) {
      let state = v0 ? v0[i]! : a.vInit;
      let current = alpha && v0 ? v0[n + i]! : 0;
      for (let t = 0; t < steps; t++) {
        let z = input(t * a.xStep + i);
        if (alpha) ({ i: current, u: z } = taken(a.current, alpha[i % c]!, current, z));
        const next = stepped(a, state, z, rtau ? rtau[i % c]! : a.r);
        state = next.v;
        if (h) h[t * n + i] = next.h;
        setSpike(spikes, t * rows + Math.floor(i / c), planes, c, i % c, next.s);
      }
      if (v) v[i] = state;
      if (v && alpha) v[n + i] = current;
    }
  },

  neuron_backward(a: Backward): void {
    const { steps, rows, c, chunks, rtau, alpha, v0, gy, gv, gz, gv0, gr, galpha, stats } = a;
    const n = rows * c;
    const input = inputs(a);
    const binary = FIRE[a.fire] === "ge" || FIRE[a.fire] === "gt";
    const delayed = ORDER[a.order] !== "fireThenReset";
    const slope = (h: number): number => {
      const u = binary ? h - a.vThreshold : h;
      if (SURROGATE[a.surrogate] !== "custom") return surrogateSlope(a.surrogate, u, a.p0, a.p1);
      const registers = new Float64Array(a.registers);
      registers[0] = u;
      if (a.constants) registers.set(a.constants.subarray(0, a.constantCount), 1);
      runProgram(a.program!, a.length, registers, noSlope);
      return registers[a.program![(a.length - 1) * 5 + 1]!]!;
    };
    gr?.fill(0, 0, chunks * c);
    galpha?.fill(0, 0, chunks * c);
    stats?.fill(0, 0, chunks * 2 * c);
    for (let chunk = 0; chunk < chunks; chunk++)
      for (let i = chunkStart(rows, chunk, chunks) * c; i < chunkStart(rows, chunk + 1, chunks) * c; i++) {
        const r = rtau ? rtau[i % c]! : a.r;
        const states = [v0 ? v0[i]! : a.vInit]; // before each step
        const membranes: number[] = []; // H of each step
        const currents = [alpha && v0 ? v0[n + i]! : 0]; // before each step
        const charges: number[] = []; // what the charge of each step takes
        for (let t = 0; t < steps; t++) {
          let z = input(t * n + i);
          if (alpha) {
            const next = taken(a.current, alpha[i % c]!, currents[t]!, z);
            currents.push(next.i);
            z = next.u;
          }
          const next = stepped(a, states[t]!, z, r);
          charges.push(z);
          membranes.push(next.h);
          states.push(next.v);
        }
        let gI = alpha && gv ? gv[n + i]! : 0; // gradient of the current after step t
        // From the gradient of what step t's charge takes to the one of its input.
        const throughCurrent = (t: number, gu: number): number => {
          if (!alpha) return gu;
          const late = CURRENT[a.current] === "late";
          const decayed = CURRENT[a.current] === "decayed";
          const decay = alpha[i % c]!;
          const g = late ? gI : gI + gu;
          if (galpha) galpha[chunk * c + (i % c)]! += g * (currents[t]! + (decayed ? input(t * n + i) : 0));
          gI = g * decay + (late ? gu : 0);
          return decayed ? g * decay : g;
        };
        const finish = (t: number, gH: number, v: number): number => {
          const d = chargeSlopes(a, v, charges[t]!, r);
          const g = throughCurrent(t, gH * d.z);
          gz[t * n + i] = g;
          if (gr) gr[chunk * c + (i % c)]! += gH * d.r;
          addStats(a, chunk, t * n + i, g);
          return gH * d.v;
        };
        let g = gv ? gv[i]! : 0; // gradient of the state after step t
        for (let t = steps - 1; t >= 0; t--) {
          if (!delayed) {
            const h = membranes[t]!;
            const after = resetBy(a, h, fired(a, h));
            const carried = CHARGE[a.charge] === "stateless" ? 0 : g;
            const gS = gy[t * n + i]! * a.gain + (a.detach ? 0 : carried * after.s);
            g = finish(t, gS * slope(h) + carried * after.h, states[t]!);
            continue;
          }
          // The state is the membrane itself: what its own spike emits comes first, then the charge it goes into.
          const h = membranes[t]!;
          const gH = g + (ORDER[a.order] === "delayedReset" ? gy[t * n + i]! * a.gain * slope(h) : 0);
          const old = states[t]!;
          const after = resetBy(a, old, fired(a, old));
          const hard = RESET[a.reset] === "hard";
          const gV = finish(t, gH, hard ? after.v : old);
          const gS = (ORDER[a.order] === "fireFirst" ? gy[t * n + i]! * a.gain : 0) + (a.detach ? 0 : (hard ? gV : gH) * after.s);
          g = gS * slope(old) + gV * after.h;
        }
        if (gv0) gv0[i] = g;
        if (gv0 && alpha) gv0[n + i] = gI;
      }
  },

  neuron_vm_forward(a: ReferenceArgs<"neuron_vm_forward">): void {
    const { steps, rows, c, states, paramCount, constantCount, params, s0, s1, init, spikes } = a;
    const n = rows * c;
    const input = inputs(a);
    spikes.fill(0, 0, steps * rows * words(c));
    const registers = new Float64Array(a.registers);
    if (a.constants) registers.set(a.constants.subarray(0, constantCount), 1 + states + paramCount);
    for (let i = 0; i < n; i++) {
      for (let s = 0; s < states; s++) registers[1 + s] = s0 ? s0[s * n + i]! : init[s]!;
      for (let p = 0; p < paramCount; p++) registers[1 + states + p] = params![p * c + (i % c)]!;
      for (let t = 0; t < steps; t++) {
        registers[0] = input(t * n + i);
        runProgram(a.program, a.length, registers, noSlope);
        setSpike(spikes, t * rows + Math.floor(i / c), 1, c, i % c, registers[1 + states + paramCount + constantCount]!);
      }
      for (let s = 0; s1 && s < states; s++) s1[s * n + i] = registers[1 + s]!;
    }
  },

  neuron_vm_backward(a: ReferenceArgs<"neuron_vm_backward">): void {
    const { steps, rows, c, chunks, states, paramCount, params, s0, gs1, gs0, init, gy, gz, gparams, stats } = a;
    const n = rows * c;
    const input = inputs(a);
    const slope = (u: number): number => surrogateSlope(a.surrogate, u, a.p0, a.p1);
    gparams?.fill(0, 0, chunks * paramCount * c);
    stats?.fill(0, 0, chunks * 2 * c);
    const forward = new Float64Array(a.registers);
    const backward = new Float64Array(a.gradRegisters);
    const constantAt = 1 + states + paramCount;
    const gradAt = constantAt + a.gradConstantCount;
    if (a.constants) forward.set(a.constants.subarray(0, a.constantCount), constantAt);
    if (a.gradConstants) backward.set(a.gradConstants.subarray(0, a.gradConstantCount), constantAt);
    for (let chunk = 0; chunk < chunks; chunk++)
      for (let i = chunkStart(rows, chunk, chunks) * c; i < chunkStart(rows, chunk + 1, chunks) * c; i++) {
        for (let s = 0; s < states; s++) forward[1 + s] = s0 ? s0[s * n + i]! : init[s]!;
        for (let p = 0; p < paramCount; p++) forward[1 + states + p] = backward[1 + states + p] = params![p * c + (i % c)]!;
        const history: Float64Array[] = []; // the states before each step
        for (let t = 0; t < steps; t++) {
          history.push(forward.slice(1, 1 + states));
          forward[0] = input(t * n + i);
          runProgram(a.program, a.length, forward, slope);
        }
        for (let s = 0; s < states; s++) backward[gradAt + 1 + s] = gs1 ? gs1[s * n + i]! : 0;
        for (let t = steps - 1; t >= 0; t--) {
          backward[0] = input(t * n + i);
          backward.set(history[t]!, 1);
          backward[gradAt] = gy[t * n + i]!;
          runProgram(a.gradProgram, a.gradLength, backward, slope);
          const gzt = backward[gradAt + 1 + states]!;
          gz[t * n + i] = gzt;
          for (let p = 0; gparams && p < paramCount; p++)
            gparams[(chunk * paramCount + p) * c + (i % c)]! += backward[gradAt + 2 + states + p]!;
          addStats(a, chunk, t * n + i, gzt);
        }
        for (let s = 0; gs0 && s < states; s++) gs0[s * n + i] = backward[gradAt + 1 + s]!;
      }
  },
};
