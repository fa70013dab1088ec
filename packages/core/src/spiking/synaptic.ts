/**
 * Current-based leaky integrate and fire: an input charges a synaptic current, which decays on its own and drives the membrane. Libraries
 * differ in what meets what within a step; each difference is an option, and the defaults are snnTorch's.
 */
import { Parameter } from "../nn/module.ts";
import { checkOptions } from "../runtime/check.ts";
import type { CURRENT } from "../runtime/kernel-table.ts";
import { affine, clamp } from "../tensor/ops/elementwise.ts";
import { expand } from "../tensor/ops/layout.ts";
import { type Shape, wrong } from "../tensor/shape.ts";
import { full, type Tensor } from "../tensor/tensor.ts";
import { BuiltIn, checkFlags, NEURON_OPTIONS, type NeuronOptions } from "./neurons.ts";
import { snntorch } from "./surrogate.ts";

export interface SynapticOptions extends NeuronOptions {
  /** What is left of the synaptic current after a step, 0 to 1: exp(-dt / tau_syn). */
  alpha: number;
  /** What is left of the membrane after a step, 0 to 1: exp(-dt / tau_mem). */
  beta: number;
  /** Train alpha (one number for the layer, key `alpha`), which counts as if clipped to 0 .. 1. Default false. */
  learnAlpha?: boolean | undefined;
  /** As `learnAlpha`, for beta. */
  learnBeta?: boolean | undefined;
  /** How an input X enters the current, see the class. Default "jump" (snnTorch); sinabs "decayed", Norse "late". */
  current?: (typeof CURRENT)[number] | undefined;
  /** Does the membrane take the current times 1 - beta (Norse; sinabs with norm_input)? Default false. */
  decayInput?: boolean | undefined;
  /** What the membrane leaks to; default 0. */
  vRest?: number | undefined;
}

/**
 * Current-based LIF over X [T, ..., C]. Each step, with the current I and the membrane V both starting at rest:
 *
 *     "jump"     I = alpha I + X      U = I          (snnTorch Synaptic)
 *     "decayed"  I = alpha (I + X)    U = I          (sinabs, tau_syn)
 *     "late"     U = I                I = alpha I + X    (Norse)
 *     H = vRest + beta (V - vRest) + U       (U (1 - beta) with decayInput)
 *
 * Then spike and reset as in every neuron here, with snnTorch's defaults: S = H > vThreshold, and the next step's H is less by
 * vThreshold (order "delayedReset", reset "soft", detached, atan surrogate). sinabs: order "fireThenReset", comparison ">=". Norse: order
 * "fireThenReset", reset "hard", current "late", decayInput. The current is never reset. A hard delayed reset clears V before the charge;
 * snnTorch's reset_mechanism "zero" drops that step's current too.
 *
 * `run` takes and gives the state [2, ..., C]: V, then I.
 */
export class Synaptic extends BuiltIn {
  /** 0-d, where learnt. */
  readonly alpha: Parameter | null;
  readonly beta: Parameter | null;
  private readonly decay: number;

  constructor(options: SynapticOptions) {
    const own = ["alpha", "beta", "learnAlpha", "learnBeta", "current", "decayInput", "vRest"] as const;
    checkOptions("Synaptic", options, [...NEURON_OPTIONS, ...own]);
    checkFlags("Synaptic", { learnAlpha: options.learnAlpha, learnBeta: options.learnBeta, decayInput: options.decayInput });
    const { alpha, beta, learnAlpha = false, learnBeta = false, current = "jump", decayInput = false, vRest = 0 } = options;
    const given: NeuronOptions = {
      ...options,
      order: options.order ?? "delayedReset",
      comparison: options.comparison ?? ">",
      reset: options.reset ?? (typeof options.vReset === "number" ? "hard" : "soft"),
      detachReset: options.detachReset ?? true,
      surrogate: options.surrogate ?? snntorch.atan(),
    };
    super("Synaptic", given, { charge: decayInput ? "leakInput" : "leak", r: 1 - beta, vRest, current });
    for (const [argument, value] of Object.entries({ alpha, beta }))
      if (!(value >= 0 && value <= 1)) wrong(this.label, argument, "from 0 to 1", String(value));
    this.decay = alpha;
    this.alpha = learnAlpha ? new Parameter(full([], alpha)) : null;
    this.beta = learnBeta ? new Parameter(full([], beta)) : null;
  }

  protected override get states(): number {
    return 2;
  }

  override stateShape(x: Shape): Shape {
    return [2, ...x.slice(1)];
  }

  protected override rate(c: number): Tensor | null {
    return this.beta && expand(affine(clamp(this.beta, 0, 1), -1, 1), [c]);
  }

  protected override alphas(c: number): Tensor {
    return this.alpha ? expand(clamp(this.alpha, 0, 1), [c]) : full([c], this.decay);
  }
}
