/** Fixtures of single neurons: LIF and PLIF with every reset and decay, and the integer-valued quantisers of SDT-V3. */
import { snn, type Tensor, tensor } from "spikeloom";
import { type Check, check, holds, relative } from "../compare.ts";
import { type Fixture, type InputSpec, inputArray, inputArrays, type NdArray, type Stored, storedValues } from "../fixture.ts";

const VALUES = 1e-6;

interface Params {
  tau?: number;
  init_tau?: number;
  v_threshold?: number;
  v_reset?: number | null;
  decay_input?: boolean;
  detach_reset?: boolean;
}

/** SpikingJelly's defaults under what a case names. */
function options(p: Params) {
  return {
    vThreshold: p.v_threshold ?? 1,
    vReset: p.v_reset === undefined ? 0 : p.v_reset,
    decayInput: p.decay_input ?? true,
    detachReset: p.detach_reset ?? false,
    surrogate: snn.surrogate.sigmoid({ alpha: 4 }),
  };
}

const asTensor = (array: NdArray) => tensor(Float32Array.from(array.data as Float32Array), array.shape);

const flips = (found: ArrayLike<number>, stored: Stored) => {
  const expected = storedValues(stored) as Float64Array;
  return Array.from(expected).reduce((n, v, i) => n + (v === found[i] ? 0 : 1), 0);
};

/** One step at a time from an explicit state: v after each reset. */
function membranes(neuron: snn.Neuron, x: Tensor): number[] {
  const steps = x.shape[0] as number;
  const out: number[] = [];
  let state: Tensor | null = null;
  for (let t = 0; t < steps; t++) {
    state = neuron.run(x.slice([t, t + 1]), state).state;
    out.push(...state.dataSync());
  }
  return out;
}

/** H of every step: what a neuron that cannot fire has left after one step from the true v. */
function charges(neuron: snn.Neuron, silent: snn.Neuron, x: Tensor): number[] {
  const steps = x.shape[0] as number;
  const out: number[] = [];
  let state: Tensor | null = null;
  for (let t = 0; t < steps; t++) {
    const step = x.slice([t, t + 1]);
    out.push(...silent.run(step, state).state.dataSync());
    state = neuron.run(step, state).state;
  }
  return out;
}

function neuronCase(
  name: string,
  stored: Record<string, Stored | number | Params>,
  neuron: snn.Neuron,
  silent: snn.Neuron,
  x: Tensor,
  g: Tensor,
): Check[] {
  const input = x.clone();
  input.requiresGrad = true;
  const spikes = neuron.forward(input);
  spikes.backward({ gradient: g });
  const values = (field: string) => (stored[field] as Stored).values as number[];
  return [
    check(`${name} spikes`, 0, 0, flips(spikes.dataSync(), stored.spikes as Stored)),
    check(`${name} H`, relative(charges(neuron, silent, x), values("H")), VALUES),
    check(`${name} v`, relative(membranes(neuron, x), values("v_after_reset")), VALUES),
    check(`${name} grad x`, relative((input.grad as Tensor).dataSync(), values("grad_x")), VALUES),
  ];
}

export function lifChecks(fixture: Fixture): Check[] {
  const inputs = inputArrays(fixture);
  const [x, g] = [asTensor(inputs.get("x") as NdArray), asTensor(inputs.get("g") as NdArray)];
  const cases = fixture.cases as Record<string, Record<string, Stored> & { params: Params }>;
  const make = (p: Params, extra = {}) => new snn.LIF({ tau: p.tau ?? 2, ...options(p), ...extra });
  const checks = Object.entries(cases).flatMap(([name, c]) =>
    neuronCase(name, c, make(c.params), make(c.params, { vThreshold: 1e30 }), x, g),
  );

  const tie = fixture.tie_case as Record<string, Stored>;
  const tied = tensor(Float32Array.from(tie.x?.values as number[]), tie.x?.shape);
  checks.push(check("tie spikes", 0, 0, flips(make({}).forward(tied).dataSync(), tie.spikes as Stored)));
  checks.push(check("tie v", relative(membranes(make({}), tied), tie.v_after_reset?.values as number[]), 0));

  const carry = fixture.carry_case as { spikes_after_reset: Stored };
  const neuron = make({ detach_reset: true }, { carry: "detached" });
  const half = (x.shape[0] as number) / 2;
  const first = neuron.forward(x.slice([0, half])).dataSync();
  const second = neuron.forward(x.slice([half])).dataSync();
  const whole = make({ detach_reset: true }).forward(x).dataSync();
  checks.push(check("carried state", relative([...first, ...second], whole), 0));
  snn.reset(neuron);
  checks.push(check("after reset", 0, 0, flips(neuron.forward(x.slice([half])).dataSync(), carry.spikes_after_reset)));

  // The surrogate's curve is the gradient of a single step with tau 1: H = x.
  const curve = fixture.surrogate_sigmoid_alpha4 as Record<string, Stored>;
  const z = tensor(
    Float32Array.from(curve.x?.values as number[], (v) => v + 1),
    [1, 33],
  );
  z.requiresGrad = true;
  const s = new snn.LIF({ tau: 1, ...options({}) }).forward(z);
  s.sum().backward();
  checks.push(check("surrogate forward", 0, 0, flips(s.dataSync(), curve.forward as Stored)));
  checks.push(check("surrogate backward", relative((z.grad as Tensor).dataSync(), curve.backward?.values as number[]), VALUES));
  return checks;
}

export function plifChecks(fixture: Fixture): Check[] {
  const inputs = inputArrays(fixture);
  const [x, g] = [asTensor(inputs.get("x") as NdArray), asTensor(inputs.get("g") as NdArray)];
  const cases = fixture.cases as Record<string, Record<string, Stored> & { params: Params; w: number; grad_w: number; tau: number }>;
  const checks = Object.entries(cases).flatMap(([name, c]) => {
    const make = (extra = {}) => {
      const neuron = new snn.PLIF({ initTau: c.params.init_tau ?? 2, ...options(c.params), ...extra });
      neuron.w.set([c.w]);
      return neuron;
    };
    const neuron = make();
    const rows = neuronCase(name, c as Record<string, Stored>, neuron, make({ vThreshold: 1e30 }), x, g);
    const found = neuron.w.grad?.itemSync() ?? Number.NaN;
    return [...rows, check(`${name} grad w`, Math.abs(found - c.grad_w), 1e-6 + 1e-5 * Math.abs(c.grad_w))];
  });
  for (const [tau, w] of Object.entries(fixture.init_w as Record<string, number>)) {
    const neuron = new snn.PLIF({ initTau: Number(tau) });
    checks.push(check(`w of tau ${tau}`, Math.abs(neuron.w.itemSync() - w), 1e-6));
  }
  return checks;
}

/** Names such as base_D4_norm1, large_D8_as_intended: rounding, levels and divisor of a stateless quantiser. */
function quantiser(name: string): snn.Quant | undefined {
  const match = /^(base|large)_D(\d+)(?:_norm(\d+))?(?:_as_intended)?$/.exec(name);
  if (!match) return undefined;
  const levels = Number(match[2]);
  return new snn.Quant({
    levels,
    norm: match[3] === undefined ? levels : Number(match[3]),
    rounding: match[1] === "large" ? "up" : "even",
  });
}

export function quantiserChecks(fixture: Fixture, double: boolean): Check[] {
  const inputs = inputArrays(fixture);
  const flat = inputs.get("x") as NdArray;
  const upstream = Float32Array.from((inputs.get("upstream_gradient") as NdArray).data as Float32Array);
  // The fixture's notes name the fill "neuron_" + key.
  const second = inputArray("neuron_x2", fixture.inputs.x2 as InputSpec);
  type Case = { y: number[]; grad?: number[]; v_left?: number[] };
  const cases = Object.entries(fixture.outputs as unknown as Record<string, Case>);
  const exact = (fixture.outputs_f64 ?? {}) as unknown as Record<string, Case>;
  const stateful = new snn.ILIF({ beta: 1, levels: 4, norm: 1, vReset: null, detachReset: false });
  let state: Tensor | null = null;
  return cases.flatMap(([name, stored]) => {
    const c = double ? (exact[name] ?? stored) : stored;
    const checks: Check[] = [];
    const close = (what: string, found: ArrayLike<number>, expected: ArrayLike<number> | undefined, tolerance: number) => {
      if (expected) checks.push(check(`${name} ${what}`, relative(found, expected, 1), tolerance));
    };
    const quant = quantiser(name);
    if (quant) {
      const x = tensor(Float32Array.from(flat.data as Float32Array));
      x.requiresGrad = true;
      const y = quant.forward(x);
      y.backward({ gradient: tensor(upstream) });
      close("y", y.dataSync(), c.y, 1e-7);
      close("grad", (x.grad as Tensor).dataSync(), c.grad, VALUES);
    } else if (name === "dvs_Q_IFNode_first_call") {
      const x = tensor(Float32Array.from(flat.data as Float32Array), [1, 4, 16]);
      x.requiresGrad = true;
      const out = stateful.run(x);
      out.spikes.backward({ gradient: tensor(upstream, [1, 4, 16]), retainGraph: true });
      close("y", out.spikes.dataSync(), c.y, 0);
      close("grad", (x.grad as Tensor).dataSync(), c.grad, VALUES);
      close("v", out.state.dataSync(), c.v_left, VALUES);
      state = out.state.detach();
    } else if (name === "dvs_Q_IFNode_second_call_without_reset" && state) {
      const x2 = tensor(Float32Array.from(second.data as Float32Array), [1, 4, 16]);
      const out = stateful.run(x2, state);
      close("y", out.spikes.dataSync(), c.y, 0);
      close("v", out.state.dataSync(), c.v_left, VALUES);
    } else checks.push(holds(name, false, "this case is not known"));
    return checks;
  });
}
