/** Containers: modules in a row, with PyTorch's keys "0", "1", ... */
import { kindOf } from "../runtime/check.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { expectList, wrong } from "../tensor/shape.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { Module } from "./module.ts";

abstract class List extends Module {
  readonly modules: readonly Module[];

  constructor(modules: readonly Module[]) {
    super();
    expectList(new.target.name, "its modules", modules);
    for (const [i, m] of modules.entries())
      if (!(m instanceof Module)) wrong(new.target.name, `module ${i}`, "a Module, such as new nn.ReLU()", kindOf(m));
    this.modules = modules;
  }

  override *children(): Generator<[string, Module]> {
    for (const [i, m] of this.modules.entries()) yield [String(i), m];
  }

  get length(): number {
    return this.modules.length;
  }

  [Symbol.iterator](): Iterator<Module> {
    return this.modules[Symbol.iterator]();
  }
}

/**
 * Run modules one after the other, each on the result of the one before, and free each result that nothing needs any more at once, not only
 * when the caller's forward returns.
 */
export function inTurn(modules: readonly Module[], x: Tensor): Tensor {
  expectList("inTurn", "the modules", modules);
  let h = x;
  for (const [i, m] of modules.entries()) {
    if (!(m instanceof Module)) wrong("inTurn", `module ${i}`, "a Module, such as new nn.ReLU()", kindOf(m));
    const next = m.forward(h) as Tensor;
    if (h !== x && h !== next && !h.kept) h.dispose();
    h = next;
  }
  return h;
}

/** Modules that run one after the other, each on the result of the one before. */
export class Sequential extends List {
  constructor(...modules: Module[]) {
    super(modules);
  }

  forward(x: Tensor): Tensor {
    return inTurn(this.modules, x);
  }
}

/** A list of modules that its owner runs. */
export class ModuleList<M extends Module = Module> extends List {
  declare readonly modules: readonly M[];

  constructor(modules: readonly M[]) {
    super(modules);
  }

  /** Module number i, counted from the end when negative. @throws SpikeloomError out of range */
  at(i: number): M {
    const m = this.modules.at(i);
    if (!m) throw new SpikeloomError(`ModuleList: index must be in [${-this.length}, ${this.length}), found ${i}`);
    return m;
  }

  override [Symbol.iterator](): Iterator<M> {
    return this.modules[Symbol.iterator]();
  }

  forward(): never {
    throw new SpikeloomError("ModuleList: has no forward of its own: run its modules, or use Sequential");
  }
}
