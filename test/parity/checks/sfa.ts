/**
 * Spike firing approximation: the same neuron, convolution, attention and whole network with integers and with binary virtual steps, held
 * against the stored outputs, against each other, and step by step against the stored spikes.
 */
import { measure, models, nn, noGrad, snn, type Tensor, tensor } from "spikeloom";
import { type Check, check, compare, holds, relative } from "../compare.ts";
import { type Fixture, filledState, type InputSpec, inputArray, type NdArray, type Stored } from "../fixture.ts";

type State = Parameters<nn.Module["loadStateDict"]>[0];
type Parts = Record<string, Record<string, unknown>>;

/** Absolute: of float32 sums in another order, and of the stored float64 logits. */
const REORDERED = 1e-5;
const DOUBLE = 1e-9;
const imageAxes = { ours: [0, 2, 3, 1], official: [0, 3, 1, 2] };
const values = (stored: unknown) => (stored as Stored).values as number[];
const differ = (found: ArrayLike<number>, expected: ArrayLike<number>) =>
  Array.from(expected).reduce((n, v, i) => n + (v === found[i] ? 0 : 1), 0);

/** Spikes of each virtual step of what enters a layer. */
const spikesOf = (x: Tensor) => {
  const steps = snn.virtualSteps(x);
  return Array.from({ length: steps.shape[0] as number }, (_, d) => snn.spikeStats(steps.slice([d, d + 1])).sum);
};

/** Outputs of `run` with integers and with spikes. */
function modes(net: nn.Module, run: () => Tensor): { integer: Tensor; spikes: Tensor } {
  net.eval();
  const integer = run();
  const restore = snn.setMode(net, "spikes");
  const spikes = run();
  restore();
  return { integer, spikes };
}

function neuronChecks(stored: Record<string, unknown>, levels: number): Check[] {
  const x = tensor(Float64Array.from(stored.x as number[]), [(stored.x as number[]).length], "f32");
  return (
    [
      ["up", "integer_half_up", "binary_steps_from_soft_reset_if"],
      ["even", "integer_half_even", "binary_steps_thermometer_of_half_even"],
    ] as const
  ).flatMap(([rounding, integers, steps]) => {
    const neuron = new snn.Quant({ levels, norm: 1, rounding });
    const { integer, spikes } = modes(neuron, () => neuron.forward(x));
    return [
      check(integers, 0, 0, differ(integer.dataSync(), stored[integers] as number[])),
      check(`${integers} in steps`, 0, 0, differ(spikes.dataSync(), stored[integers] as number[])),
      check(steps, 0, 0, differ(snn.virtualSteps(spikes).dataSync(), (stored[steps] as number[][]).flat())),
    ];
  });
}

function convolutionChecks(stored: Record<string, unknown>, levels: number, double: boolean): Check[] {
  const spec = stored.input as InputSpec;
  const [, cin = 0] = spec.shape as number[];
  const cout = (stored.integer_forward as Stored).shape[1] as number;
  const net = new nn.Sequential(new nn.Conv2d(cin, cout, 3, { padding: 1 }), new nn.BatchNorm2d(cout));
  net.loadStateDict(filledState({ fill: { gain: 2 }, state_shapes: Object.fromEntries(net.stateShapes()) } as unknown as Fixture) as State);
  const neuron = new snn.Quant({ levels });
  const whole = new nn.Sequential(neuron, net);
  const x = models.fromOfficial(inputArray(stored.input_name as string, spec), imageAxes.ours);
  const { integer, spikes } = modes(whole, () => whole.forward(x));
  const entering = modes(neuron, () => neuron.forward(x)).spikes;
  // Of every step by itself: no bias, not divided.
  const [[, first]] = [...net.children()] as [[string, nn.Conv2d]];
  const steps = nn.conv2d(snn.virtualSteps(entering), first.weight, null, { padding: 1 }).mul(levels);
  const perStep = (stored.per_step_accumulation as Stored[]).map((expected, d) =>
    compare(`convolution of step ${d}`, models.toOfficial(steps.slice([d, d + 1]).squeeze(0), imageAxes.official), expected, 1e-6),
  );
  const official = (t: Tensor) => models.toOfficial(t, imageAxes.official);
  return [
    compare("integers", official(entering.mul(levels)), stored.integer as Stored, 0),
    compare("convolution of integers", official(integer), stored.integer_forward as Stored, 1e-6),
    compare("convolution of spikes", official(spikes), stored.spike_driven_forward as Stored, 1e-6),
    check("integers and spikes", relative(spikes.dataSync(), integer.dataSync(), 1), double ? 0 : REORDERED),
    ...perStep,
    check("spikes of each step", 0, 0, differ(spikesOf(entering), stored.spikes_per_step as number[])),
  ];
}

function attentionChecks(stored: Record<string, unknown>, levels: number): Check[] {
  const neuron = new snn.Quant({ levels });
  const [q, k, v] = Object.entries(stored.inputs as Record<string, InputSpec>).map(([name, spec]) => {
    const { shape, data } = inputArray(name, spec);
    return tensor(data as Float32Array, shape);
  }) as [Tensor, Tensor, Tensor];
  const scale = 2 / Math.sqrt(q.shape[3] as number);
  const fired = (x: Tensor) => neuron.forward(x);
  const attend = () => fired(q).matmul(fired(k), { transposeB: true }).matmul(fired(v)).mul(scale);
  const { integer, spikes } = modes(neuron, attend);
  const exact = ([name, x]: readonly [string, Tensor]) => check(name, 0, 0, differ(fired(x).mul(levels).dataSync(), values(stored[name])));
  return [
    ...[["q_int", q] as const, ["k_int", k] as const, ["v_int", v] as const].map(exact),
    check("attention of integers", relative(integer.dataSync(), values(stored.integer_forward)), 1e-6),
    check("attention of spikes", relative(spikes.dataSync(), values(stored.spike_driven_forward)), 1e-6),
    check("attention, integers and spikes", relative(spikes.dataSync(), integer.dataSync(), 1), 0),
  ];
}

const isWeighted = (m: nn.Module) => m instanceof nn.Conv2d || m instanceof nn.Conv1d || m instanceof nn.Linear;

function networkChecks(fixture: Fixture, stored: Record<string, unknown>, double: boolean): Check[] {
  const kind = models.findSystem(fixture.system).official.model as models.OfficialKind;
  const module = kind.build(stored.config as models.OfficialConfig);
  const shapes = Object.fromEntries(module.stateShapes());
  const fill = stored.fill as Fixture["fill"];
  module.loadStateDict(filledState({ ...fixture, fill, state_shapes: shapes as Record<string, number[]> }) as State);
  const name = stored.input_name as string;
  const input = new Map([["x", inputArray(name, (stored.inputs as Record<string, InputSpec>)[name] as InputSpec)]]);
  const paths = new Map([...module.namedModules()].map(([path, m]) => [m, path]));
  const spikes = new Map<string, number[]>();
  const real: string[] = [];
  const hear = (m: nn.Module, [x]: readonly unknown[]) => {
    if (!isWeighted(m)) return;
    const path = paths.get(m) as string;
    if ((x as Tensor).spikes) spikes.set(path, spikesOf(x as Tensor));
    else real.push(path);
  };
  module.eval();
  const logits = () => noGrad(() => kind.run(module, input).outputs.get("logits") as NdArray);
  const integer = logits();
  snn.setMode(module, "spikes");
  const driven = nn.withForwardHook(hear, logits);
  const image = (input.get("x") as NdArray).shape as [number, number, number, number];
  const remaining = measure.check(module, [1, image[2], image[3], image[1]]).remaining.map((r) => r.layer);
  module.dispose();
  const expected = stored.spikes_per_virtual_step as Record<string, number[]>;
  const from = (side: string) => stored[`logits_${side}_${double ? "f64" : "f32"}`] ?? stored[`logits_${side}_f32`];
  const near = (what: string, found: NdArray, to: unknown) =>
    check(what, relative(found.data as Float64Array, values(to), 1), stored.logits_integer_f64 && double ? DOUBLE : REORDERED);
  return [
    near("logits of integers", integer, from("integer")),
    near("logits of spikes", driven, from("spike_driven")),
    check("logits, integers and spikes", relative(driven.data as Float64Array, integer.data as Float64Array, 1), double ? 0 : REORDERED),
    ...Object.entries(expected).map(([path, steps]) =>
      holds(`spikes of each step into ${path}`, `${spikes.get(path)}` === `${steps}`, `${spikes.get(path)}`),
    ),
    holds("no other layer is given spikes", spikes.size === Object.keys(expected).length),
    holds("layers of real numbers", `${real}` === `${stored.real_valued_layers}`, `${real}`),
    holds("what remains of multiplications", `${remaining}` === `${stored.real_valued_layers}`, `${remaining}`),
  ];
}

/** The parts that are present. */
export function sfaChecks(fixture: Fixture, double: boolean): Check[] {
  const { neuron, conv_bn: convolution, attention, whole_model: network } = fixture.outputs as unknown as Parts;
  const levels = fixture.config.D as number;
  return [
    ...(neuron ? neuronChecks(neuron, levels) : []),
    ...(convolution ? convolutionChecks(convolution, levels, double) : []),
    ...(attention ? attentionChecks(attention, levels) : []),
    ...(network ? networkChecks(fixture, network, double) : []),
  ];
}
