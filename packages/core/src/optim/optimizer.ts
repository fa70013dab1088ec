/**
 * What every optimiser has: parameters and groups of them, settings, state that a resumed run goes on from. The rules are one file each.
 *
 * Parameters change in place. They come as a list or as groups with settings of their own; `weightDecayGroups` makes timm's usual two
 * (no decay for biases and 1-d tensors). A parameter without a gradient is skipped, as in PyTorch.
 */

import type { Module, Parameter } from "../nn/module.ts";
import { checkOptions } from "../runtime/check.ts";
import { device } from "../runtime/engine.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { detachedScope, keep } from "../tensor/scope.ts";
import { sameShape, show } from "../tensor/shape.ts";
import { Tensor, zeros } from "../tensor/tensor.ts";
import { type Given, knownNames, numberSetting, withDefaults } from "./settings.ts";

export interface ParameterGroup {
  parameters: readonly Parameter[];
  /** Overrides of this group. Its own rate follows the schedule in proportion to the optimiser's. */
  lr?: number;
  /** Its rate is multiplied by this. */
  lrScale?: number;
  weightDecay?: number;
}

export type Parameters = readonly Parameter[] | readonly ParameterGroup[];

/** How deep parameters lie: the layer of a state-dict key, from 0 to `count`. */
export interface Layers {
  count: number;
  of(key: string): number;
}

export interface GroupOptions {
  /** Rates fall from the head down: those of layer n are multiplied by layerDecay^(count - n). Default 1; another value needs `layers`. */
  layerDecay?: number | undefined;
  layers?: Layers | undefined;
  /** Decay biases and tensors of one dimension too. Default false. */
  decayAll?: boolean | undefined;
}

/**
 * timm's two groups: decay for matrices and kernels, none for biases and tensors of one dimension or less; with a layer decay, two for each
 * layer (as BEiT's fine-tuning, Bao et al. 2022, arXiv 2106.08254).
 * @throws SpikeloomError for a layer decay without layers, or outside (0, 1], and for a layer that is none of them
 */
export function weightDecayGroups(model: Module, weightDecay: number, options: GroupOptions = {}): ParameterGroup[] {
  checkOptions("weightDecayGroups", options, ["layerDecay", "layers", "decayAll"]);
  const { layerDecay = 1, layers, decayAll = false } = options;
  if (!(layerDecay > 0 && layerDecay <= 1))
    throw new SpikeloomError(`weightDecayGroups: layerDecay must be in (0, 1], found ${layerDecay}`);
  if (layerDecay !== 1 && !layers)
    throw new SpikeloomError("weightDecayGroups: layerDecay needs layers { count, of(key) }: how deep each parameter lies");
  const groups = new Map<number, ParameterGroup & { parameters: Parameter[] }>();
  for (const [name, p] of model.namedParameters()) {
    const decays = decayAll || !((p.layout?.shape ?? p.shape).length <= 1 || name.endsWith(".bias"));
    const count = layers?.count ?? 0;
    const layer = layerDecay === 1 || !layers ? count : layers.of(name);
    if (!(Number.isInteger(layer) && layer >= 0 && layer <= count))
      throw new SpikeloomError(`weightDecayGroups: the layer of "${name}" must be from 0 to ${count}, found ${layer}`);
    // By layer, within it those without decay first.
    const place = 2 * layer + (decays ? 1 : 0);
    let group = groups.get(place);
    if (!group) {
      // By repeated multiplication: the same bits on every host, unlike Math.pow.
      let lrScale = 1;
      for (let n = layer; n < count; n++) lrScale *= layerDecay;
      group = { parameters: [], weightDecay: decays ? weightDecay : 0, ...(layerDecay === 1 ? {} : { lrScale }) };
      groups.set(place, group);
    }
    group.parameters.push(p);
  }
  return [...groups].sort(([a], [b]) => a - b).map(([, group]) => group);
}

const GROUP = ["parameters", "lr", "lrScale", "weightDecay"];

export abstract class Optimizer<S extends { lr: number; weightDecay: number }> {
  /** As messages and checkpoints call it. */
  readonly name: string;
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

  /** @throws SpikeloomError for no parameter, one that is listed twice, an unknown setting, a value that cannot be */
  constructor(name: string, parameters: Parameters, defaults: S, settings: Given<S>) {
    this.name = name;
    this.settings = withDefaults(name, defaults, settings);
    this.firstLr = this.settings.lr || 1;
    this.groups = groupsOf(name, parameters);
    const all = this.parameters();
    if (!all.length) throw new SpikeloomError(`${name}: no parameters were given`);
    if (new Set(all).size !== all.length) throw new SpikeloomError(`${name}: a parameter is listed twice`);
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
            `${this.name}: the gradient of a parameter of shape ${show(p.shape)} must be f32 of that shape, found ${p.grad.dtype} ${show(p.grad.shape)}`,
          );
        this.updates.set(p, (this.updates.get(p) ?? 0) + 1);
        this.update(p, p.grad, {
          ...this.settings,
          lr: (group.lrScale ?? 1) * (group.lr === undefined ? this.settings.lr : group.lr * (this.settings.lr / this.firstLr)),
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

  /** How many numbers the state holds. */
  get stateSize(): number {
    let size = 0;
    for (const slots of this.state.values()) for (const t of slots.values()) size += t.size;
    return size;
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

function groupsOf(name: string, given: Parameters): readonly ParameterGroup[] {
  const grouped = given.length > 0 && !(given[0] instanceof Tensor);
  const groups = (grouped ? given : [{ parameters: given }]) as readonly ParameterGroup[];
  for (const group of groups) {
    knownNames(`${name}: a parameter group`, GROUP, group);
    for (const key of ["lr", "lrScale", "weightDecay"] as const)
      if (group[key] !== undefined) numberSetting(`${name}: a parameter group`, key, group[key]);
    if (!Array.isArray(group.parameters) || !group.parameters.every((p) => p instanceof Tensor))
      throw new SpikeloomError(
        `${name}: parameters must be a list of parameters, or of groups { parameters, lr, lrScale, weightDecay }; model.parameters() gives a list`,
      );
  }
  return groups;
}

/** L2 norm of the elements. */
export function normOf(t: Tensor): number {
  return Math.sqrt(squares(t));
}

/** Sum of squares, in chunks that follow from the size alone. */
function squares({ size: n, storage: x }: Tensor): number {
  const chunks = Math.max(1, Math.min(64, Math.ceil(n / 65536)));
  const partial = device().alloc("f32", chunks);
  device().run("sum_squares", { x, partial, n, chunks }, chunks);
  let total = 0;
  for (const v of device().view(partial)) total += v;
  device().free(partial);
  return total;
}

/** L2 norm over the gradients of all parameters (those without one count as zero). */
export function gradNorm(parameters: readonly Parameter[]): number {
  let total = 0;
  for (const { grad } of parameters) if (grad) total += squares(grad);
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
