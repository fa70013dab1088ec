/**
 * Recurrent spiking layers: what a neuron takes at step t is its input and a function of the layer's spikes at step t - 1. A loop over T of
 * the neuron's own operation, one tape, so that backward goes through time and through the recurrent weights.
 */
import { Linear } from "../nn/linear.ts";
import { Module, Parameter } from "../nn/module.ts";
import { checkOptions } from "../runtime/check.ts";
import { add, mul, pack, toDense } from "../tensor/ops/elementwise.ts";
import { concat, narrow, reshape, unsqueeze } from "../tensor/ops/layout.ts";
import { scope } from "../tensor/scope.ts";
import { type Shape, sameShape, show, wrong } from "../tensor/shape.ts";
import { ones, type Tensor, zeros } from "../tensor/tensor.ts";
import { checkState, LIF, type LIFOptions, NEURON_OPTIONS, Neuron, type NeuronOutput, type StateOptions, stepsOf } from "./neurons.ts";

/**
 * A neuron with feedback. Before the first step the layer has not fired: its spikes are 0.
 *
 * `run` takes and gives the state [1 + K, ..., C]: the K states of the neuron (1, or more where its own state is [K, ..., C]), then
 * the last step's spikes as numbers.
 */
abstract class Recurrent extends Neuron {
  /** The neuron that fires. */
  protected abstract readonly spiking: Neuron;

  /** Number of channels. */
  protected abstract readonly features: number;

  /** What the neuron takes: from a step's input and the spikes of the step before, both [1, ..., C]. */
  protected abstract drive(x: Tensor, spikes: Tensor): Tensor;

  override stateShape(x: Shape): Shape {
    const own = this.spiking.stateShape(x);
    return [own.length === x.length ? 1 + (own[0] as number) : 2, ...x.slice(1)];
  }

  private steps(x: Tensor, state: Tensor | null): { emitted: Tensor[]; inner: Tensor } {
    const { steps, c } = stepsOf(this.label, x);
    if (c !== this.features) wrong(this.label, "x", `of shape [T, ..., ${this.features}]`, show(x.shape));
    const shape = this.stateShape(x.shape);
    if (state) checkState(this.label, state, shape);
    const step = [1, ...x.shape.slice(1)];
    const own = this.spiking.stateShape(x.shape);
    const last = (shape[0] as number) - 1;
    let inner = state && reshape(narrow(state, 0, 0, last), own);
    let spikes = state ? narrow(state, 0, last, 1) : pack(zeros(step), { planes: 1, scale: 1 });
    const emitted: Tensor[] = [];
    for (let t = 0; t < steps; t++) {
      const out = this.spiking.run(this.drive(narrow(x, 0, t, 1), spikes), inner);
      ({ spikes, state: inner } = out);
      emitted.push(spikes);
    }
    return { emitted, inner: inner as Tensor };
  }

  run(x: Tensor, state: Tensor | null = null): NeuronOutput {
    return scope(() => {
      const { emitted, inner } = this.steps(x, state);
      const own = sameShape(inner.shape, x.shape.slice(1)) ? unsqueeze(inner, 0) : inner;
      return { spikes: concat(emitted), state: concat([own, toDense(emitted[emitted.length - 1] as Tensor)]) };
    });
  }

  protected fire(x: Tensor): Tensor {
    return scope(() => concat(this.steps(x, null).emitted));
  }
}

/** One weight for each channel, of its own spikes alone: x V. */
export class OneToOne extends Module {
  /** [C], PyTorch's key `V` (snnTorch's RecurrentOneToOne). */
  readonly V: Parameter;

  constructor(features: number) {
    super();
    this.V = new Parameter(ones([features]));
  }

  forward(x: Tensor): Tensor {
    return mul(x, this.V);
  }
}

export interface RLIFOptions extends LIFOptions {
  /** C. */
  features: number;
  /** Every neuron hears every other through `nn.Linear` (default), or each itself alone through one weight. */
  allToAll?: boolean | undefined;
  /** Does the Linear have a bias? Default true. */
  bias?: boolean | undefined;
}

/**
 * Recurrent LIF: a LIF neuron whose input at step t is X[t] + W S[t - 1] + b (snnTorch's RLeaky), with the options and defaults of
 * `LIF`. As snnTorch has it: `new RLIF({ features, beta, order: "delayedReset", comparison: ">", reset: "soft", detachReset: true })`.
 * Parameters: `recurrent.weight`, `recurrent.bias`, or `recurrent.V` (starting at 1).
 */
export class RLIF extends Recurrent {
  readonly recurrent: Linear | OneToOne;
  protected readonly features: number;
  protected readonly spiking: LIF;

  constructor(given: RLIFOptions) {
    checkOptions("RLIF", given, [...NEURON_OPTIONS, "tau", "beta", "decayInput", "vRest", "features", "allToAll", "bias"]);
    const { features, allToAll = true, bias = true, carry, name, ...options } = given;
    super("RLIF", { carry, name });
    if (!Number.isInteger(features) || features < 1) wrong(this.label, "features", "an integer >= 1", String(features));
    this.features = features;
    this.recurrent = allToAll ? new Linear(features, features, { bias }) : new OneToOne(features);
    this.spiking = new LIF({ ...options, name });
  }

  protected drive(x: Tensor, spikes: Tensor): Tensor {
    return add(x, this.recurrent.forward(spikes));
  }
}

/**
 * Any neuron behind a linear layer that sees the input and the layer's last spikes side by side: i[t] = [x[t], s[t - 1]] W + b
 * (SpikingJelly's LinearRecurrentContainer around a neuron). Parameters: `rc.weight` [C, 2 C] in files, `rc.bias`, and the neuron's
 * as `sub_module`.
 */
export class LinearRecurrent extends Recurrent {
  readonly rc: Linear;
  readonly sub_module: Neuron;

  constructor(neuron: Neuron, features: number, { bias = true, ...options }: StateOptions & { bias?: boolean | undefined } = {}) {
    super("LinearRecurrent", options);
    this.sub_module = neuron;
    this.rc = new Linear(2 * features, features, { bias });
  }

  protected get spiking(): Neuron {
    return this.sub_module;
  }

  protected get features(): number {
    return this.rc.outFeatures;
  }

  protected drive(x: Tensor, spikes: Tensor): Tensor {
    return this.rc.forward(concat([x, spikes], -1));
  }
}
