/**
 * Exponential moving average of a model's weights (Polyak averaging): a second set that trails the first and often tests better.
 * Norm statistics are averaged too, counters are copied (timm's ModelEmaV2, but for the counters).
 */

import { type Module, Parameter, StateBuffer, type StateEntry, toFile } from "../nn/module.ts";
import { tilesFor } from "../runtime/device.ts";
import { device } from "../runtime/engine.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { detachedScope } from "../tensor/scope.ts";
import type { Shape } from "../tensor/shape.ts";
import { tensor } from "../tensor/tensor.ts";
import { type Given, withDefaults } from "./settings.ts";

export interface EMASettings {
  /** Share of the average that each update keeps, in [0, 1); default 0.9998. */
  decay: number;
  /** Keep at most (1 + n) / (10 + n) in the n-th update, so that the first weights are soon forgotten; default false. */
  warmup: boolean;
}

type State = Parameter | StateBuffer;

/**
 * Make it when the model has the weights to start from, call `update` after every step of the optimiser, and test inside `swapped`.
 *
 * ```ts
 * const ema = new optim.EMA(net, { decay: 0.999 });
 * optimizer.step();
 * ema.update();
 * const result = await ema.swapped(() => train.evaluate(net, loader));
 * ```
 */
export class EMA {
  readonly model: Module;
  readonly decay: number;
  readonly warmup: boolean;
  /** Updates made so far. */
  updates = 0;
  private readonly averages = new Map<State, State>();
  private lent = false;

  /** @throws SpikeloomError for an unknown setting or a decay outside [0, 1) */
  constructor(model: Module, settings: Given<EMASettings> = {}) {
    const { decay, warmup } = withDefaults<EMASettings>("EMA", { decay: 0.9998, warmup: false }, settings);
    if (decay >= 1) throw new SpikeloomError(`EMA: decay must be in [0, 1), found ${decay}`);
    this.model = model;
    this.decay = decay;
    this.warmup = warmup;
    for (const _ of this.pairs());
  }

  /** Does the model have the averaged weights now? Its own must not be read or trained then. */
  get applied(): boolean {
    return this.lent;
  }

  /** average = decay average + (1 - decay) weights, for every parameter and buffer that is saved. */
  update(): void {
    this.expectApplied(false, "update");
    const n = ++this.updates;
    const decay = this.warmup ? Math.min(this.decay, (1 + n) / (10 + n)) : this.decay;
    const done = new Set<State>();
    for (const [, live, average] of this.pairs()) {
      if (done.has(live)) continue;
      done.add(live);
      if (live.dtype !== "f32") average.set(live.dataSync());
      else {
        // A step of gradient descent on |average - weights|^2 / 2, of rate 1 - decay.
        const rule = { lr: 1 - decay, momentum: 0, dampening: 0, weightDecay: 1, nesterov: 0, first: 0, gradScale: -1 };
        device().run("sgd", { p: average.storage, g: live.storage, buf: null, n: live.size, ...rule }, tilesFor(live.size, 2));
        average.version++;
      }
    }
  }

  /** Give the model the averaged weights, until `restore`. */
  apply(): void {
    this.expectApplied(false, "apply");
    this.exchange();
    this.lent = true;
  }

  /** Give the model its own weights back, bit for bit. */
  restore(): void {
    this.expectApplied(true, "restore");
    this.exchange();
    this.lent = false;
  }

  /** Run `fn` with the averaged weights in the model; afterwards (of a promise: when it is settled) the model has its own again. */
  swapped<R>(fn: () => R): R {
    this.apply();
    let result: R;
    try {
      result = fn();
    } catch (error) {
      this.restore();
      throw error;
    }
    if (result instanceof Promise) return result.finally(() => this.restore()) as R;
    this.restore();
    return result;
  }

  /** The averages under the model's state-dict keys, in PyTorch's axis order: weights like any other, and what a resumed run needs. */
  stateDict(): Map<string, StateEntry> {
    return new Map([...this.pairs()].map(([key, live, average]) => [key, toFile(this.applied ? live : average)]));
  }

  /**
   * Go on from a `stateDict` after so many updates.
   * @throws SpikeloomError as `Module.loadStateDict`; nothing is changed then
   */
  loadStateDict(state: ReadonlyMap<string, { shape: Shape; data: ArrayLike<number> | ArrayLike<bigint> }>, updates: number): void {
    this.swapped(() => this.model.loadStateDict(state));
    this.updates = updates;
  }

  dispose(): void {
    if (this.applied) this.restore();
    for (const average of this.averages.values()) average.dispose();
    this.averages.clear();
  }

  /** What is saved of the model, each with its average: a copy when it is seen for the first time. */
  private *pairs(): Generator<[string, State, State]> {
    for (const [key, live] of this.model.namedState()) {
      if (live instanceof StateBuffer && !live.persistent) continue;
      let average = this.averages.get(live);
      if (!average) {
        const copy = () => tensor(live.dataSync(), live.shape, live.dtype as "f32" | "i32");
        average = detachedScope(() => (live instanceof Parameter ? new Parameter(copy(), live.layout) : new StateBuffer(copy())));
        this.averages.set(live, average);
      }
      yield [key, live, average];
    }
  }

  private exchange(): void {
    for (const [live, average] of this.averages) {
      const values = live.dataSync();
      live.set(average.dataSync());
      average.set(values);
    }
  }

  private expectApplied(expected: boolean, what: string): void {
    if (this.applied !== expected)
      throw new SpikeloomError(
        `EMA: ${what}() while the model has ${this.applied ? "the averaged weights: call restore() first" : "its own weights: call apply() first"}`,
      );
  }
}
