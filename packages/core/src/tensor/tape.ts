/**
 * The autograd tape: reverse mode, built as ops run.
 *
 * An op is one record with `forward` and `backward` side by side (`defineOp`). What backward needs is saved explicitly with
 * `ctx.save`; spikes are saved as bits. A graph node lives as long as a tensor or a later node refers to it (counted), so
 * memory returns without the garbage collector; `backward` frees what each node saved as soon as it has run.
 */
import { checkFunction, checkOptions, kindOf } from "../runtime/check.ts";
import { tilesFor } from "../runtime/device.ts";
import { device } from "../runtime/engine.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { expectFresh, type Lazy, Repeated } from "./lazy.ts";
import { adopt, detachedScope, keep, scope } from "./scope.ts";
import { expectList, type Shape, sameShape, show, wrong } from "./shape.ts";
import { empty, expectTensor, full, Tensor, youngest } from "./tensor.ts";

/** What forward hands to backward. */
export class Context {
  private readonly kept: (Tensor | Lazy)[] = [];
  private readonly versions: number[] = [];
  /** Which inputs want a gradient (all false when nothing is recorded). */
  readonly needs: readonly boolean[];
  /** Plain values for backward. */
  readonly values: Record<string, unknown> = {};
  private final = false;

  constructor(needs: readonly boolean[]) {
    this.needs = needs;
  }

  /** Is a backward pass to come? If not, nothing need be saved. */
  get recording(): boolean {
    return this.needs.some(Boolean);
  }

  /** Keep tensors for backward: their memory is shared, not copied, or they are made again where that is cheap (see Lazy). */
  save(...tensors: Tensor[]): void {
    if (!this.recording) return;
    for (const t of tensors) {
      const kept = t.affine?.saved() ?? t.repeated?.again() ?? t.product?.retain() ?? keep(t.alias());
      this.kept.push(kept);
      this.versions.push(kept instanceof Tensor ? kept.version : 0);
    }
  }

  /** What was saved, in order. */
  get saved(): Tensor[] {
    return this.kept.map((_, i) => this.load(i));
  }

  /** Number i of what was saved. */
  load(i: number): Tensor {
    const t = this.kept[i] as Tensor | Lazy;
    if (!(t instanceof Tensor)) {
      expectFresh(t, true);
      return new Tensor(t.shape, "f32", null, null, t instanceof Repeated ? t.again() : t.retain());
    }
    if (t.version !== this.versions[i])
      throw new SpikeloomError(
        `backward: a tensor of shape ${show(t.shape)} was changed in place after forward used it: step the optimiser after backward`,
      );
    return t;
  }

  /**
   * Memory in backward for an f32 result of this shape: that of the first of these tensors which nobody will read again, so that a gradient is
   * written over what it is made from; else new. An element may be written only after its last reading.
   * @param candidates gradients that were given, or saved tensors
   */
  over(shape: Shape, ...candidates: (Tensor | null | undefined)[]): Tensor {
    for (const t of candidates)
      if (t && t.storage.refs === 1 && (this.final || !this.kept.includes(t)) && t.dtype === "f32" && sameShape(t.shape, shape))
        return t.alias();
    return empty(shape);
  }

  /** What was saved will not be asked for again. @internal */
  finish(): void {
    this.final = true;
  }

  free(): void {
    for (const t of this.kept) {
      if (t instanceof Tensor) t.dispose();
      else t.release();
    }
    this.kept.length = 0;
    this.versions.length = 0;
  }
}

/** One operation. `A` are its settings (shapes, strides, ...): plain data. */
export interface OpDefinition<A> {
  readonly name: string;
  /** Compute the output(s). Everything made here and not returned or saved is freed. Nothing inside is recorded. */
  forward(ctx: Context, inputs: readonly Tensor[], settings: A): Tensor | Tensor[];
  /**
   * Gradients of the inputs (null where none flows or `ctx.needs[i]` is false), f32, of the inputs' shapes.
   * `grads[i]` is null where output i has no gradient.
   */
  backward(ctx: Context, grads: readonly (Tensor | null)[], settings: A): (Tensor | null)[];
}

interface Edge {
  node: Node | null;
  output: number;
  leaf: Tensor | null;
  shape: readonly number[];
}

let sequence = 0;
let recording = true;

export class Node {
  readonly id = sequence++;
  readonly name: string;
  readonly edges: readonly Edge[];
  readonly outputs: readonly (readonly number[])[];
  private refs = 0;
  private context: Context | null;
  private readonly run: (grads: readonly (Tensor | null)[]) => (Tensor | null)[];

  constructor(
    name: string,
    edges: readonly Edge[],
    outputs: readonly (readonly number[])[],
    context: Context,
    run: (ctx: Context, grads: readonly (Tensor | null)[]) => (Tensor | null)[],
  ) {
    this.name = name;
    this.edges = edges;
    this.outputs = outputs;
    this.context = context;
    this.run = (grads) => {
      if (!this.context)
        throw new SpikeloomError(`backward: the graph through ${name} was already used; pass { retainGraph: true } to the first backward`);
      return run(this.context, grads);
    };
    for (const edge of edges) edge.node?.take();
  }

  take(): void {
    this.refs++;
  }

  /** Has a backward freed what this node saved? */
  get spent(): boolean {
    return this.context === null;
  }

  /** One owner less; without owners the node frees what it saved and lets go of its inputs. */
  drop(): void {
    const stack: Node[] = [this];
    for (let node = stack.pop(); node; node = stack.pop()) {
      if (--node.refs > 0) continue;
      node.free();
      for (const edge of node.edges) if (edge.node) stack.push(edge.node);
    }
  }

  /** `last`: what the node saved is freed afterwards. */
  gradients(grads: readonly (Tensor | null)[], last: boolean): (Tensor | null)[] {
    if (last) this.context?.finish();
    return this.run(grads);
  }

  free(): void {
    this.context?.free();
    this.context = null;
  }
}

/** Are ops recorded now? */
export function isRecording(): boolean {
  return recording;
}

/** Run `fn` without recording: no graph, no saved tensors. */
export function noGrad<R>(fn: () => R): R {
  checkFunction("noGrad", "its argument", fn);
  return withRecording(false, fn);
}

/** @internal */
export function withRecording<R>(on: boolean, fn: () => R): R {
  const before = recording;
  recording = on;
  try {
    return fn();
  } finally {
    recording = before;
  }
}

/** Told of an operation that ran: not of those that it is made of, nor of those of a backward pass. */
export type OpHook = (op: string, inputs: readonly Tensor[], outputs: readonly Tensor[], settings: unknown) => void;

let opHook: OpHook | null = null;

/** Run `fn` with a hook on every operation. @internal */
export function withOpHook<R>(hook: OpHook | null, fn: () => R): R {
  const before = opHook;
  opHook = hook;
  try {
    return fn();
  } finally {
    opHook = before;
  }
}

/** Run an op on inputs: the one door through which every operation, built in or user-defined, goes. */
export function apply<A>(op: OpDefinition<A>, inputs: readonly Tensor[], settings: A): Tensor {
  return applyMany(op, inputs, settings)[0] as Tensor;
}

/** As `apply` for an op of several outputs. */
export function applyMany<A>(op: OpDefinition<A>, inputs: readonly Tensor[], settings: A): Tensor[] {
  if (typeof op?.forward !== "function") wrong("apply", "the operation", "a record { name, forward, backward }", kindOf(op));
  expectList(op.name, "inputs", inputs);
  for (const [i, t] of inputs.entries()) expectTensor(op.name, `input ${i}`, t);
  const needs = inputs.map((t) => recording && (t.requiresGrad || t.node !== null));
  const context = new Context(needs);
  let outputs: Tensor[];
  try {
    // An op may hand on an input as it came: it then gets a handle of its own, since the node hangs on the output. And no layer may
    // go past this op to what its output repeats.
    const forward = () => {
      const made = op.forward(context, inputs, settings);
      return (Array.isArray(made) ? made : [made]).map((t) => {
        expectTensor(op.name, "what forward returns", t);
        const output = inputs.includes(t) || t.kept ? t.handle() : t;
        if (output.repeated) output.repeated.direct = false;
        return output;
      });
    };
    outputs = withRecording(false, () => scope(() => (opHook ? withOpHook(null, forward) : forward())));
  } catch (error) {
    context.free();
    throw error;
  }
  opHook?.(op.name, inputs, outputs, settings);
  if (context.recording) {
    const edges = inputs.map((t, i): Edge => {
      const used = needs[i] as boolean;
      return { node: used ? t.node : null, output: t.output, leaf: used && !t.node ? t : null, shape: t.shape };
    });
    const node = new Node(
      op.name,
      edges,
      outputs.map((t) => t.shape),
      context,
      (ctx, grads) => op.backward(ctx, grads, settings),
    );
    outputs.forEach((t, i) => {
      t.node = node;
      t.output = i;
      node.take();
    });
  }
  return outputs;
}

/**
 * A user's own operation, as a function of tensors and settings.
 * @throws SpikeloomError when name, forward or backward is missing; when called with something else than a list of tensors
 */
export function defineOp<A = void>(op: OpDefinition<A>): (inputs: readonly Tensor[], settings: A) => Tensor {
  checkOptions("defineOp", op, ["name", "forward", "backward"]);
  if (typeof op.name !== "string") wrong("defineOp", "name", "a string", kindOf(op.name));
  checkFunction("defineOp", "forward", op.forward);
  checkFunction("defineOp", "backward", op.backward);
  return (inputs, settings) => apply(op, inputs, settings);
}

export interface BackwardOptions {
  /** Gradient of the result, default 1 (then `root` must have one element). */
  gradient?: Tensor;
  /** Keep what the graph saved for a second backward. */
  retainGraph?: boolean;
}

/**
 * Add the gradient of `root` to `grad` of every leaf with `requiresGrad` that it depends on.
 * @throws SpikeloomError when root has no graph, or is no scalar and no gradient is given.
 */
export function backward(root: Tensor, options: BackwardOptions = {}): void {
  expectTensor("backward", "the tensor", root);
  checkOptions("backward", options, ["gradient", "retainGraph"]);
  if (options.gradient !== undefined) expectTensor("backward", "gradient", options.gradient);
  propagate(root, options, () => true);
}

/** `backward`, whose gradients go to the leaves that `wanted` accepts. */
function propagate(root: Tensor, { gradient, retainGraph = false }: BackwardOptions, wanted: (leaf: Tensor) => boolean): void {
  expectGradient(root, gradient);
  spread(
    root,
    detachedScope(() => (gradient ? gradient.alias() : full(root.shape, 1))),
    retainGraph,
    wanted,
  );
}

function expectGradient(root: Tensor, gradient: Tensor | undefined): void {
  if (!root.node) {
    if (!root.requiresGrad)
      throw new SpikeloomError("backward: the tensor depends on nothing that requires a gradient (was it made inside noGrad?)");
  }
  if (!gradient && root.size !== 1) wrong("backward", "the tensor", "of one element when no gradient is given", show(root.shape));
  if (gradient && !sameShape(gradient.shape, root.shape))
    wrong("backward", "gradient", `of shape ${show(root.shape)}`, show(gradient.shape));
  if (gradient && gradient.dtype !== "f32") wrong("backward", "gradient", "of dtype f32", gradient.dtype);
}

/** From the gradient of `root`, which is consumed, those of all that it depends on. @internal */
export function spread(root: Tensor, seed: Tensor, retainGraph = false, wanted: (leaf: Tensor) => boolean = () => true): void {
  withRecording(false, () => {
    if (!root.node) return accumulateLeaf(root, seed);
    const order = reachable(root.node);
    const pending = new Map<Node, (Tensor | null)[]>();
    pending.set(
      root.node,
      root.node.outputs.map((_, i) => (i === root.output ? seed : null)),
    );
    try {
      for (const node of order) {
        const grads = pending.get(node);
        if (!grads) continue;
        // What was not made in this backward (a gradient passed through, a saved tensor, a constant), or goes to two inputs, becomes
        // a handle of its own: what is accumulated into later is ours alone.
        const inputs = detachedScope(() => {
          const young = youngest();
          const seen = new Set<Tensor>();
          const found = node.gradients(grads, !retainGraph);
          if (!Array.isArray(found) || found.length < node.edges.length || found.slice(node.edges.length).some(Boolean))
            throw new SpikeloomError(
              `${node.name}: backward must give a list of ${node.edges.length} gradients, one an input (null where none flows), found ${kindOf(found)}`,
            );
          return found.slice(0, node.edges.length).map((g, i) => {
            if (!g) return null;
            expectTensor(node.name, `gradient ${i} of backward`, g);
            if (g.dtype !== "f32") throw new SpikeloomError(`${node.name}: backward gave a gradient of dtype ${g.dtype}, it must be f32`);
            if (g.id < young || g.kept || seen.has(g)) return g.alias();
            seen.add(g);
            return g;
          });
        });
        pending.delete(node);
        for (const g of grads) g?.dispose();
        if (!retainGraph) node.free();
        inputs.forEach((g, i) => {
          if (!g) return;
          const edge = node.edges[i] as Edge;
          if (!sameShape(g.shape, edge.shape))
            throw new SpikeloomError(
              `${node.name}: backward gave a gradient of shape ${show(g.shape)} for input ${i} of shape ${show(edge.shape)}`,
            );
          if (edge.leaf && wanted(edge.leaf)) accumulateLeaf(edge.leaf, g);
          else if (edge.node) {
            const slots = pending.get(edge.node) ?? edge.node.outputs.map(() => null);
            slots[edge.output] = sum(slots[edge.output] ?? null, g);
            pending.set(edge.node, slots);
          } else g.dispose();
        });
      }
    } finally {
      for (const grads of pending.values()) for (const g of grads) g?.dispose();
    }
  });
}

/** Nodes that `root` depends on, latest first. An op is always younger than its inputs. */
function reachable(root: Node): Node[] {
  const seen = new Set<Node>([root]);
  const stack = [root];
  for (let node = stack.pop(); node; node = stack.pop())
    for (const { node: next } of node.edges)
      if (next && !seen.has(next)) {
        seen.add(next);
        stack.push(next);
      }
  return [...seen].sort((a, b) => b.id - a.id);
}

/** a + b, consuming both. */
function sum(a: Tensor | null, b: Tensor): Tensor {
  if (!a) return b;
  const target = a.storage.refs === 1 ? a : b.storage.refs === 1 ? b : copyOf(a);
  const other = target === b ? a : b;
  device().run("accumulate", { x: other.storage, y: target.storage, n: b.size, alpha: 1 }, tilesFor(b.size, 1));
  for (const t of [a, b]) if (t !== target) t.dispose();
  target.normSums?.partial.dispose();
  target.normSums = null;
  return target;
}

function copyOf(a: Tensor): Tensor {
  return detachedScope(() => {
    const copy = empty(a.shape);
    device().run("unary", { x: a.storage, y: copy.storage, n: a.size, op: 0, p0: 0, p1: 0 }, tilesFor(a.size, 1));
    return copy;
  });
}

/** leaf.grad += g, consuming g. */
function accumulateLeaf(leaf: Tensor, g: Tensor): void {
  if (!leaf.requiresGrad || leaf.disposed) g.dispose();
  else if (leaf.grad) leaf.grad = keep(sum(leaf.grad, g));
  else if (g.storage.refs === 1) leaf.grad = keep(g);
  else {
    leaf.grad = keep(copyOf(g));
    g.dispose();
  }
}

/**
 * `grad(fn)` is a function that returns the gradients of the scalar `fn(...inputs)` with respect to its inputs; parameters used
 * inside keep the gradients they have (torch.autograd.grad).
 */
export function grad(fn: (...inputs: Tensor[]) => Tensor): (...inputs: Tensor[]) => Tensor[] {
  checkFunction("grad", "its argument", fn);
  return (...inputs) =>
    scope(() => {
      const leaves = inputs.map((t, i) => {
        expectTensor("grad", `input ${i}`, t);
        const leaf = t.alias();
        leaf.requiresGrad = true;
        return leaf;
      });
      const mine = new Set(leaves);
      const result = withRecording(true, () => fn(...leaves));
      expectTensor("grad", "what the function returns", result);
      propagate(result, {}, (leaf) => mine.has(leaf));
      return leaves.map((leaf) => {
        const g = leaf.grad ?? full(leaf.shape, 0);
        leaf.grad = null;
        if (!g.kept) return g;
        g.kept = false;
        return adopt(g);
      });
    });
}
