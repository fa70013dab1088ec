/** Containers: modules in a row, with PyTorch's keys "0", "1", ... */
import { kindOf } from "../runtime/check.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { expectList, wrong } from "../tensor/shape.ts";
import { Tensor } from "../tensor/tensor.ts";
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

/** Does a module, or one below, hold t in a field, or in a list or record in a field? */
function holds(module: Module, t: Tensor): boolean {
  // By hand, not by `namedModules`: this runs between any two modules, and the walk is most of a small network's own time.
  const below = (value: unknown) => value === t || (value instanceof Module && holds(value, t));
  for (const key in module) {
    const value: unknown = module[key as keyof Module];
    if (typeof value !== "object" || value === null) continue;
    if (below(value)) return true;
    if (value instanceof Tensor || value instanceof Module) continue;
    if (Array.isArray(value)) {
      if (value.some(below)) return true;
    } else if (value instanceof Map) {
      if ([...value.values()].includes(t)) return true;
    } else if (value instanceof Set) {
      if (value.has(t)) return true;
    } else if (Object.getPrototypeOf(value) === Object.prototype && Object.values(value).includes(t)) return true;
  }
  return false;
}

/**
 * Run modules one after the other, each on the result of the one before, and free each result as soon as the next has run, not only
 * when the caller's forward returns. A result that a module holds (a field, or a list or record in a field: a skip connection that
 * another module reads) stays until then; one that is held where it cannot be seen (a `#private` field, a closure) needs `keep`.
 */
export function inTurn(modules: readonly Module[], x: Tensor): Tensor {
  expectList("inTurn", "the modules", modules);
  let h = x;
  // The modules that have seen h.
  let seen: Module[] = [];
  for (const [i, m] of modules.entries()) {
    if (!(m instanceof Module)) wrong("inTurn", `module ${i}`, "a Module, such as new nn.ReLU()", kindOf(m));
    const before = h;
    h = m.forward(before) as Tensor;
    seen.push(m);
    if (h === before) continue;
    if (before !== x && before instanceof Tensor && !before.kept && !seen.some((by) => holds(by, before))) before.dispose();
    seen = [m];
  }
  return h;
}

/**
 * Modules that run one after the other, each on the result of the one before, which is freed once the next has run (see `inTurn`): keep()
 * what is to be used after forward returns.
 */
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
