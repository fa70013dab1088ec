/**
 * Optimisers: parameters change in place through one fused kernel a tensor. Update rules as PyTorch states them.
 *
 * Parameters come as a list or as groups with settings of their own; `weightDecayGroups` makes timm's usual two (no decay for
 * biases and 1-d tensors). A parameter without a gradient is skipped, as in PyTorch.
 */

import type { Module, Parameter } from "../nn/module.ts";
import { tilesFor } from "../runtime/device.ts";
import { device } from "../runtime/engine.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { detachedScope, keep } from "../tensor/scope.ts";
import { sameShape, show } from "../tensor/shape.ts";
import { type Tensor, zeros } from "../tensor/tensor.ts";

export interface ParameterGroup {
  parameters: readonly Parameter[];
  /** Overrides of this group. Its own rate follows the schedule in proportion to the optimiser's. */
  lr?: number;
  weightDecay?: number;
}

export type Parameters = readonly Parameter[] | readonly ParameterGroup[];

/** timm's two groups: decay for matrices and kernels, none for biases and tensors of one dimension or less. */
export function weightDecayGroups(model: Module, weightDecay: number): ParameterGroup[] {
  const decay: Parameter[] = [];
  const none: Parameter[] = [];
  for (const [name, p] of model.namedParameters())
    ((p.layout?.shape ?? p.shape).length <= 1 || name.endsWith(".bias") ? none : decay).push(p);
  return [
    { parameters: none, weightDecay: 0 },
    { parameters: decay, weightDecay },
  ];
}

export abstract class Optimizer<S extends { lr: number; weightDecay: number }> {
  /** As messages and checkpoints call it. */
  abstract readonly name: string;
  /** Names of the state tensors that a parameter may have. */
  protected abstract readonly slots: readonly string[];
  readonly settings: S;
  readonly groups: readonly ParameterGroup[];
  /** Updates made so far. */
  steps = 0;
  /** The gradient is multiplied by this before use (clipping, accumulation). */
  gradScale = 1;
  private readonly state = new Map<Parameter, Map<string, Tensor>>();
  /** Updates of each parameter: one that was frozen at first has fewer than the others. */
  protected readonly updates = new Map<Parameter, number>();
  private readonly firstLr: number;

  constructor(parameters: Parameters, settings: S) {
    this.settings = settings;
    this.firstLr = settings.lr || 1;
    this.groups = isGroups(parameters) ? parameters : [{ parameters: parameters as readonly Parameter[] }];
    for (const [name, value] of Object.entries(settings))
      if (typeof value === "number" && (!Number.isFinite(value) || value < 0))
        throw new SpikeloomError(`${this.constructor.name}: ${name} must be a number >= 0, found ${value}`);
    const all = this.parameters();
    if (!all.length) throw new SpikeloomError(`${this.constructor.name}: no parameters were given`);
    if (new Set(all).size !== all.length) throw new SpikeloomError(`${this.constructor.name}: a parameter is listed twice`);
  }

  parameters(): Parameter[] {
    return this.groups.flatMap((g) => [...g.parameters]);
  }

  get lr(): number {
    return this.settings.lr;
  }

  set lr(value: number) {
    this.settings.lr = value;
  }

  zeroGrad(): void {
    for (const p of this.parameters()) {
      p.grad?.dispose();
      p.grad = null;
    }
  }

  /** Update every parameter that has a gradient. */
  step(): void {
    this.steps++;
    for (const group of this.groups)
      for (const p of group.parameters) {
        if (!p.grad) continue;
        if (p.grad.dtype !== "f32" || !sameShape(p.grad.shape, p.shape))
          throw new SpikeloomError(
            `${this.constructor.name}: the gradient of a parameter of shape ${show(p.shape)} must be f32 of that shape, found ${p.grad.dtype} ${show(p.grad.shape)}`,
          );
        this.updates.set(p, (this.updates.get(p) ?? 0) + 1);
        this.update(p, p.grad, {
          ...this.settings,
          lr: group.lr === undefined ? this.settings.lr : group.lr * (this.settings.lr / this.firstLr),
          weightDecay: group.weightDecay ?? this.settings.weightDecay,
        });
        p.version++;
      }
    this.gradScale = 1;
  }

  protected abstract update(p: Parameter, gradient: Tensor, settings: S): void;

  /** A state tensor of a parameter (zeros at first); `fresh` says whether it was made just now. */
  protected slot(p: Parameter, name: string): { tensor: Tensor; fresh: boolean } {
    const slots = this.state.get(p) ?? new Map<string, Tensor>();
    this.state.set(p, slots);
    let tensor = slots.get(name);
    const fresh = !tensor;
    if (!tensor) {
      tensor = detachedScope(() => keep(zeros(p.shape)));
      slots.set(name, tensor);
    }
    return { tensor, fresh };
  }

  /** Everything a resumed run needs, by parameter number in `parameters()` order (memory layout). */
  stateTensors(): Map<string, { shape: readonly number[]; data: Float32Array | Float64Array }> {
    const out = new Map<string, { shape: readonly number[]; data: Float32Array | Float64Array }>();
    this.parameters().forEach((p, i) => {
      for (const [name, t] of this.state.get(p) ?? []) out.set(`${i}.${name}`, { shape: t.shape, data: t.dataSync() as Float32Array });
      const updates = this.updates.get(p);
      if (updates !== undefined) out.set(`${i}.step`, { shape: [], data: Float64Array.of(updates) });
    });
    return out;
  }

  /** Go on from `stateTensors` after `steps` updates. @throws SpikeloomError when a tensor fits no parameter; nothing is changed then. */
  loadState(tensors: ReadonlyMap<string, { shape: readonly number[]; data: ArrayLike<number> }>, steps: number): void {
    const parameters = this.parameters();
    const found = [...tensors].map(([key, { data }]) => {
      const [index, slot] = key.split(".") as [string, string];
      const p = parameters[Number(index)];
      if (!p || !(slot === "step" ? data.length === 1 : this.slots.includes(slot) && data.length === p.size))
        throw new SpikeloomError(`${this.name}: state "${key}" of ${data.length} values fits no parameter of this model`);
      return { p, slot, data };
    });
    this.dispose();
    for (const { p, slot, data } of found) {
      if (slot === "step") this.updates.set(p, data[0] as number);
      else this.slot(p, slot).tensor.set(data);
    }
    this.steps = steps;
  }

  dispose(): void {
    for (const slots of this.state.values()) for (const t of slots.values()) t.dispose();
    this.state.clear();
    this.updates.clear();
  }
}

function isGroups(parameters: Parameters): parameters is readonly ParameterGroup[] {
  return parameters.length > 0 && "parameters" in (parameters[0] as object) && Array.isArray((parameters[0] as ParameterGroup).parameters);
}

/** L2 norm over the gradients of all parameters (those without one count as zero). */
export function gradNorm(parameters: readonly Parameter[]): number {
  let total = 0;
  for (const p of parameters) {
    if (!p.grad) continue;
    const n = p.size;
    const chunks = Math.max(1, Math.min(64, Math.ceil(n / 65536)));
    const partial = device().alloc("f32", chunks);
    device().run("sum_squares", { x: p.grad.storage, partial, n, chunks }, chunks);
    for (const v of device().view(partial)) total += v;
    device().free(partial);
  }
  return Math.sqrt(total);
}

/**
 * Clip by global norm as torch.nn.utils.clip_grad_norm_: gradients are scaled by min(1, max / (norm + 1e-6)) in the next
 * `step` of `optimizer`. @returns the norm before clipping.
 */
export function clipGradNorm(optimizer: Optimizer<{ lr: number; weightDecay: number }>, max: number): number {
  const norm = gradNorm(optimizer.parameters()) * optimizer.gradScale;
  if (norm > max) optimizer.gradScale *= max / (norm + 1e-6);
  return norm;
}

export interface AdamWSettings {
  /** Default 1e-3. */
  lr: number;
  /** Default [0.9, 0.999]. */
  betas: readonly [number, number];
  /** Default 1e-8. */
  eps: number;
  /** Decoupled; default 0.01. */
  weightDecay: number;
}

/** AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), as torch.optim.AdamW. */
export class AdamW extends Optimizer<AdamWSettings> {
  readonly name = "AdamW";
  protected readonly slots = ["exp_avg", "exp_avg_sq"];

  constructor(parameters: Parameters, settings: Partial<AdamWSettings> = {}) {
    super(parameters, { lr: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weightDecay: 0.01, ...settings });
    const [b1, b2] = this.settings.betas;
    if (!(b1 >= 0 && b1 < 1 && b2 >= 0 && b2 < 1)) throw new SpikeloomError(`AdamW: betas must be in [0, 1), found [${b1}, ${b2}]`);
  }

  protected update(p: Parameter, gradient: Tensor, { lr, betas: [beta1, beta2], eps, weightDecay }: AdamWSettings): void {
    const m = this.slot(p, "exp_avg").tensor;
    const v = this.slot(p, "exp_avg_sq").tensor;
    const updates = this.updates.get(p) as number;
    device().run(
      "adamw",
      {
        p: p.storage,
        g: gradient.storage,
        m: m.storage,
        v: v.storage,
        n: p.size,
        lr,
        beta1,
        beta2,
        eps,
        weightDecay,
        bias1: 1 - powInt(beta1, updates),
        bias2: 1 - powInt(beta2, updates),
        gradScale: this.gradScale,
      },
      tilesFor(p.size, 4),
    );
  }
}

export interface SGDSettings {
  /** Default 1e-3. */
  lr: number;
  /** Default 0. */
  momentum: number;
  /** Default 0. */
  dampening: number;
  /** Coupled (added to the gradient); default 0. */
  weightDecay: number;
  /** Default false. */
  nesterov: boolean;
}

/** Stochastic gradient descent with momentum, as torch.optim.SGD. */
export class SGD extends Optimizer<SGDSettings> {
  readonly name = "SGD";
  protected readonly slots = ["momentum_buffer"];

  constructor(parameters: Parameters, settings: Partial<SGDSettings> = {}) {
    super(parameters, { lr: 1e-3, momentum: 0, dampening: 0, weightDecay: 0, nesterov: false, ...settings });
    const { nesterov, momentum, dampening } = this.settings;
    if (nesterov && (momentum <= 0 || dampening !== 0)) throw new SpikeloomError("SGD: nesterov needs momentum > 0 and dampening 0");
  }

  protected update(p: Parameter, gradient: Tensor, { lr, momentum, dampening, weightDecay, nesterov }: SGDSettings): void {
    const buffer = momentum ? this.slot(p, "momentum_buffer") : null;
    device().run(
      "sgd",
      {
        p: p.storage,
        g: gradient.storage,
        buf: buffer?.tensor.storage ?? null,
        n: p.size,
        lr,
        momentum,
        dampening,
        weightDecay,
        nesterov: nesterov ? 1 : 0,
        first: buffer?.fresh ? 1 : 0,
        gradScale: this.gradScale,
      },
      tilesFor(p.size, 2),
    );
  }
}

/** base^n by squaring: the same bits on every host, unlike Math.pow. */
function powInt(base: number, n: number): number {
  let result = 1;
  for (let b = base, k = n; k > 0; k = Math.floor(k / 2), b *= b) if (k % 2) result *= b;
  return result;
}
