/**
 * Expressions of user-defined neurons and surrogates: built from a few operations, differentiated symbolically when a neuron is
 * defined, and compiled to the small register programs that the interpreter kernels run block by block (VM in the kernel table).
 */
import { SpikeloomError } from "../runtime/error.ts";
import { NEURON_LIMITS, VM } from "../runtime/kernel-table.ts";

type Operation = (typeof VM)[number] | "input" | "constant" | "spike" | "detach";

/** A number or an expression. */
export type Value = Expr | number;

/** A value that depends on a neuron's input, state and parameters. Immutable. Comparisons are 1 where true and 0 elsewhere. */
export class Expr {
  /** @internal */
  readonly op: Operation;
  readonly args: readonly Expr[];
  /** Of a constant. */
  readonly value: number;
  /** Of an input; for messages. */
  readonly label: string;

  /** Programs make expressions by calling methods on those they are given. @internal */
  constructor(op: Operation, args: readonly Expr[] = [], value = 0, label = "") {
    this.op = op;
    this.args = args;
    this.value = value;
    this.label = label;
  }

  add(b: Value): Expr {
    const y = expr(b);
    if (isConstant(this, 0)) return y;
    if (isConstant(y, 0)) return this;
    if (this.op === "neg") return y.sub(this.args[0] as Expr);
    if (y.op === "neg") return this.sub(y.args[0] as Expr);
    return binary("add", this, y, (p, q) => p + q);
  }
  sub(b: Value): Expr {
    const y = expr(b);
    if (isConstant(y, 0)) return this;
    if (isConstant(this, 0)) return y.neg();
    if (y.op === "neg") return this.add(y.args[0] as Expr);
    return binary("sub", this, y, (p, q) => p - q);
  }
  mul(b: Value): Expr {
    const y = expr(b);
    if (isConstant(this, 0) || isConstant(y, 0)) return constant(0);
    if (isConstant(this, 1)) return y;
    if (isConstant(y, 1)) return this;
    if (this.op === "neg") return (this.args[0] as Expr).mul(y).neg();
    if (y.op === "neg") return this.mul(y.args[0] as Expr).neg();
    return binary("mul", this, y, (p, q) => p * q);
  }
  div(b: Value): Expr {
    const y = expr(b);
    return isConstant(y, 1) ? this : binary("div", this, y, (p, q) => p / q);
  }
  /** this ^ b; the base must be positive where b is no whole number. */
  pow(b: Value): Expr {
    return new Expr("pow", [this, expr(b)]);
  }
  max(b: Value): Expr {
    return binary("max", this, expr(b), Math.max);
  }
  min(b: Value): Expr {
    return binary("min", this, expr(b), Math.min);
  }
  gt(b: Value): Expr {
    return binary("gt", this, expr(b), (p, q) => (p > q ? 1 : 0));
  }
  ge(b: Value): Expr {
    return binary("ge", this, expr(b), (p, q) => (p >= q ? 1 : 0));
  }
  lt(b: Value): Expr {
    return expr(b).gt(this);
  }
  le(b: Value): Expr {
    return expr(b).ge(this);
  }
  neg(): Expr {
    if (this.op === "constant") return constant(-this.value);
    return this.op === "neg" ? (this.args[0] as Expr) : new Expr("neg", [this]);
  }
  abs(): Expr {
    return new Expr("abs", [this]);
  }
  exp(): Expr {
    return new Expr("exp", [this]);
  }
  log(): Expr {
    return new Expr("log", [this]);
  }
  sqrt(): Expr {
    return new Expr("sqrt", [this]);
  }
  tanh(): Expr {
    return new Expr("tanh", [this]);
  }
  sigmoid(): Expr {
    return new Expr("sigmoid", [this]);
  }
  erf(): Expr {
    return new Expr("erf", [this]);
  }
  sin(): Expr {
    return new Expr("sin", [this]);
  }
  cos(): Expr {
    return new Expr("cos", [this]);
  }
  floor(): Expr {
    return new Expr("floor", [this]);
  }
  /** To the nearest whole number, ties to even. */
  round(): Expr {
    return new Expr("round", [this]);
  }
  square(): Expr {
    return this.mul(this);
  }
  /** The same value, through which no gradient flows. */
  detach(): Expr {
    return this.op === "constant" || this.op === "detach" ? this : new Expr("detach", [this]);
  }
}

export function constant(value: number): Expr {
  return new Expr("constant", [], value);
}

/** A named input of a program. */
export function input(label: string): Expr {
  return new Expr("input", [], 0, label);
}

/** a where condition is not 0, else b. */
export function where(condition: Value, a: Value, b: Value): Expr {
  const c = expr(condition);
  if (c.op === "constant") return expr(c.value !== 0 ? a : b);
  return new Expr("where", [c, expr(a), expr(b)]);
}

/** 1 where u >= 0; its derivative is a surrogate's. */
export function spike(u: Expr): Expr {
  return new Expr("spike", [u]);
}

export function expr(value: Value): Expr {
  if (value instanceof Expr) return value;
  if (typeof value !== "number") throw new SpikeloomError(`expression: expected a number or an expression, found ${typeof value}`);
  return constant(value);
}

function isConstant(x: Expr, value: number): boolean {
  return x.op === "constant" && x.value === value;
}

function binary(op: Operation, a: Expr, b: Expr, fold: (p: number, q: number) => number): Expr {
  if (a.op === "constant" && b.op === "constant") return constant(fold(a.value, b.value));
  return new Expr(op, [a, b]);
}

/** Every node that the roots depend on, operands first. */
function sorted(roots: readonly Expr[]): Expr[] {
  const order: Expr[] = [];
  const seen = new Set<Expr>();
  const visit = (node: Expr): void => {
    if (seen.has(node)) return;
    seen.add(node);
    node.args.forEach(visit);
    order.push(node);
  };
  roots.forEach(visit);
  return order;
}

/**
 * Gradients of sum_i seed_i * output_i for `wrt`, by the chain rule from the outputs back.
 * @param slope derivative of a spike at its argument
 */
export function gradients(outputs: readonly { value: Expr; seed: Expr }[], wrt: readonly Expr[], slope: (u: Expr) => Expr): Expr[] {
  const total = new Map<Expr, Expr>();
  const give = (node: Expr, g: Expr): void => {
    total.set(node, total.get(node)?.add(g) ?? g);
  };
  for (const { value, seed } of outputs) give(value, seed);
  for (const node of sorted(outputs.map((o) => o.value)).reverse()) {
    const g = total.get(node);
    if (!g || isConstant(g, 0)) continue;
    operandGradients(node, g, slope).forEach((share, i) => {
      if (share) give(node.args[i] as Expr, share);
    });
  }
  return wrt.map((node) => total.get(node) ?? constant(0));
}

function operandGradients(node: Expr, g: Expr, slope: (u: Expr) => Expr): (Expr | null)[] {
  const [a, b] = node.args as [Expr, Expr];
  switch (node.op) {
    case "copy":
      return [g];
    case "neg":
      return [g.neg()];
    case "abs":
      return [g.mul(a.gt(0).sub(a.lt(0)))];
    case "exp":
      return [g.mul(node)];
    case "log":
      return [g.div(a)];
    case "sqrt":
      return [g.mul(0.5).div(node)];
    case "tanh":
      return [g.mul(constant(1).sub(node.square()))];
    case "sigmoid":
      return [g.mul(node.mul(constant(1).sub(node)))];
    case "erf":
      return [
        g.mul(
          a
            .square()
            .neg()
            .exp()
            .mul(2 / Math.sqrt(Math.PI)),
        ),
      ];
    case "sin":
      return [g.mul(a.cos())];
    case "cos":
      return [g.mul(a.sin()).neg()];
    case "add":
      return [g, g];
    case "sub":
      return [g, g.neg()];
    case "mul":
      return [g.mul(b), g.mul(a)];
    case "div":
      return [g.div(b), g.mul(node).div(b).neg()];
    case "max":
      return [where(a.ge(b), g, 0), where(a.ge(b), 0, g)];
    case "min":
      return [where(a.le(b), g, 0), where(a.le(b), 0, g)];
    case "pow":
      return [g.mul(b.mul(a.pow(b.sub(1)))), b.op === "constant" ? null : g.mul(node.mul(a.log()))];
    case "where":
      return [null, where(a, g, 0), where(a, 0, g)];
    case "spike":
      return [g.mul(slope(a))];
    default: // inputs, constants, comparisons, rounding, detached values
      return node.args.map(() => null);
  }
}

/** A compiled program: see VM in the kernel table. */
export interface CompiledProgram {
  /** `[op, d, a, b, c]` for each instruction. */
  readonly code: Int32Array;
  readonly length: number;
  readonly constants: readonly number[];
  readonly registers: number;
}

/** Where a program's values live: registers 0, 1, ... are `before`, then the constants, then `after`, then temporaries. */
export interface Layout {
  readonly before: readonly Expr[];
  /** An input, or null for a register that is only written. */
  readonly after: readonly (Expr | null)[];
}

/** A value to leave in a register: `before: i` or `after: i` of the layout. */
export interface Output {
  readonly value: Expr;
  readonly to: { readonly before: number } | { readonly after: number };
}

interface Line {
  readonly op: number;
  readonly operands: readonly number[];
}

/** The roots with every product that is used once, in a sum or as what is subtracted, made one operation with it. */
function fused(roots: readonly Expr[]): Expr[] {
  const order = sorted(roots);
  const uses = new Map<Expr, number>();
  for (const node of [...order.flatMap((n) => n.args), ...roots]) uses.set(node, (uses.get(node) ?? 0) + 1);
  const made = new Map<Expr, Expr>();
  for (const node of order) {
    const args = node.args.map((arg) => made.get(arg) as Expr);
    const product = node.args.findLastIndex(
      (arg, i) => arg.op === "mul" && uses.get(arg) === 1 && (node.op === "add" || (node.op === "sub" && i === 1)),
    );
    if (product >= 0)
      made.set(node, new Expr(node.op === "add" ? "mulAdd" : "subMul", [...(args[product] as Expr).args, args[1 - product] as Expr]));
    else made.set(node, args.every((arg, i) => arg === node.args[i]) ? node : new Expr(node.op, args, node.value, node.label));
  }
  return roots.map((root) => made.get(root) as Expr);
}

/**
 * Compile expressions to a program. Equal subexpressions are computed once; temporaries are used again as soon as they are free.
 * @throws SpikeloomError when the expressions use an input that is not in the layout, or need too many registers
 */
export function compile(name: string, layout: Layout, results: readonly Output[]): CompiledProgram {
  const roots = fused(results.map((o) => o.value));
  const outputs = results.map(({ to }, i) => ({ value: roots[i] as Expr, to }));
  // Values are numbered: inputs and constants have registers from the start, the others are lines of the program.
  const constants: number[] = [];
  const inputs = new Map<Expr, number>();
  layout.before.forEach((e, i) => {
    inputs.set(e, i);
  });
  const lines: Line[] = [];
  const places: ({ before: number } | { after: number } | { constant: number } | { line: number })[] = [];
  const known = new Map<string, number>();
  const numbers = new Map<Expr, number>();
  const intern = (key: string, place: () => (typeof places)[number]): number => {
    let id = known.get(key);
    if (id === undefined) {
      id = places.length;
      known.set(key, id);
      places.push(place());
    }
    return id;
  };
  const constantId = (value: number): number =>
    intern(`constant ${Object.is(value, -0) ? "-0" : value}`, () => ({ constant: constants.push(value) - 1 }));
  const line = (op: (typeof VM)[number], operands: number[]): number =>
    intern(`${op} ${operands.join(" ")}`, () => ({ line: lines.push({ op: VM.indexOf(op), operands }) - 1 }));
  for (const node of sorted(outputs.map((o) => o.value))) {
    const operands = node.args.map((arg) => numbers.get(arg) as number);
    if (node.op === "input") {
      const before = inputs.get(node);
      const after = layout.after.indexOf(node);
      if (before === undefined && after < 0) throw new SpikeloomError(`${name}: ${node.label} is not available in this expression`);
      numbers.set(
        node,
        intern(before !== undefined ? `before ${before}` : `after ${after}`, () => (before !== undefined ? { before } : { after })),
      );
    } else if (node.op === "constant") numbers.set(node, constantId(node.value));
    else if (node.op === "detach") numbers.set(node, operands[0] as number);
    else if (node.op === "spike") numbers.set(node, line("ge", [operands[0] as number, constantId(0)]));
    else numbers.set(node, line(node.op, operands));
  }

  const afterAt = layout.before.length + constants.length;
  const firstFree = afterAt + layout.after.length;
  const target = (to: Output["to"]): number => ("before" in to ? to.before : afterAt + to.after);
  const register = new Map<number, number>();
  places.forEach((place, id) => {
    if ("before" in place) register.set(id, place.before);
    else if ("constant" in place) register.set(id, layout.before.length + place.constant);
    else if ("after" in place) register.set(id, afterAt + place.after);
  });

  // The line after which a value is not read again; outputs are read at the end.
  const end = lines.length;
  const lastUse = new Map<number, number>();
  lines.forEach(({ operands }, i) => {
    for (const id of operands) lastUse.set(id, i);
  });
  const wanted = outputs.map((o) => ({ id: numbers.get(o.value) as number, to: target(o.to) }));
  // A value may be computed in its output's register if what stands there is not read afterwards.
  const heldBy = new Map<number, number>([...register].map(([id, r]) => [r, id]));
  const direct = new Map<number, number>();
  for (const { id, to } of wanted) {
    const place = places[id] as (typeof places)[number];
    const held = heldBy.get(to);
    const needed = held === undefined ? -1 : wanted.some((w) => w.id === held) ? end : (lastUse.get(held) ?? -1);
    if ("line" in place && !direct.has(id) && needed <= place.line) direct.set(id, to);
  }
  for (const { id } of wanted) lastUse.set(id, end);

  const code: number[] = [];
  const free: number[] = [];
  let used = firstFree;
  const take = (): number => free.pop() ?? used++;
  const emit = (op: number, d: number, operands: readonly number[]): void => {
    code.push(op, d, operands[0] ?? 0, operands[1] ?? 0, operands[2] ?? 0);
  };
  const idOfLine = new Map<number, number>();
  places.forEach((place, id) => {
    if ("line" in place) idOfLine.set(place.line, id);
  });
  lines.forEach(({ op, operands }, i) => {
    const from = operands.map((id) => register.get(id) as number);
    for (const id of new Set(operands)) {
      const r = register.get(id) as number;
      if (lastUse.get(id) === i && r >= firstFree) free.push(r);
    }
    const id = idOfLine.get(i) as number;
    const d = direct.get(id) ?? take();
    register.set(id, d);
    emit(op, d, from);
  });
  // What is not in its place yet: first out of registers that are about to be overwritten, then into place.
  const moves = wanted.map(({ id, to }) => ({ from: register.get(id) as number, to })).filter(({ from, to }) => from !== to);
  for (const move of moves)
    if (moves.some((other) => other !== move && other.to === move.from)) {
      const temporary = take();
      emit(VM.indexOf("copy"), temporary, [move.from]);
      move.from = temporary;
    }
  for (const { from, to } of moves) emit(VM.indexOf("copy"), to, [from]);
  if (used > NEURON_LIMITS.registers)
    throw new SpikeloomError(
      `${name}: the expressions need ${used} registers, at most ${NEURON_LIMITS.registers} exist. Write them with fewer constants and intermediate values`,
    );
  return { code: Int32Array.from(code), length: code.length / 5, constants, registers: used };
}
