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

/** Modules that run one after the other, each on the result of the one before. */
export class Sequential extends List {
  constructor(...modules: Module[]) {
    super(modules);
  }

  forward(x: Tensor): Tensor {
    let h = x;
    for (const m of this.modules) h = m.forward(h) as Tensor;
    return h;
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
