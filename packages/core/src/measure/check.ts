/**
 * What a network multiplies: every product by something that is no spike, by the layer's name, and what of it a chip need not do. A
 * spike-driven network adds weights where spikes come in; what else it multiplies by either folds into weights or thresholds before it
 * runs, or remains.
 */
import type { Module } from "../nn/module.ts";
import { checkOptions, kindOf } from "../runtime/check.ts";
import { SpikeloomError } from "../runtime/error.ts";
import { BINARY, CHARGE, COMPARE, LOGICAL, UNARY } from "../runtime/kernel-table.ts";
import { type SpikeMode, setMode } from "../spiking/neurons.ts";
import { expectList, type Shape, show, sizeOf } from "../tensor/shape.ts";
import { MOVES, type Step, SUMS, trace, type Value, withoutMemory } from "./trace.ts";

/** Multiplications of one operation that stay. */
export interface Remaining {
  /** Path of the layer that runs the operation, and the operation. */
  layer: string;
  op: string;
  /**
   * `dense input`: weights times numbers that are no spikes; `integers`: weights or values times integers above 1, of which "spikes" mode
   * leaves none; `product`: of two values, neither of them spikes; `scale` and `norm`: by constants that fold nowhere; `function`: one that
   * is not piecewise linear, or a division; `unknown`: an operation that is not known here, such as one of `defineOp`.
   */
  kind: "dense input" | "integers" | "product" | "scale" | "norm" | "function" | "unknown";
  inputs: Shape[];
  output: Shape;
  /** Multiplications (evaluations of a function) for one sample over all its steps. */
  multiplications: number;
}

/** Multiplications by constants that are gone once these are multiplied into other constants. */
export interface Folded {
  layer: string;
  /** `linear chain`: two layers of weights with nothing but constants between them are one. */
  what: "norm" | "scale" | "mean" | "spike's worth" | "linear chain";
  /** Where to: weights or thresholds of which layers. */
  into: string;
  multiplications: number;
}

/** What a chip does besides adding weights. */
export interface Remark {
  layer: string;
  what: "max pool" | "leak" | "neuron";
  /** How often for one sample. */
  count: number;
  note: string;
}

export interface SpikeCheck {
  mode: SpikeMode;
  input: Shape;
  /** Products that only add: how many there are, and their additions if every spike came. */
  adding: { products: number; additions: number };
  remaining: Remaining[];
  folded: Folded[];
  remarks: Remark[];
  /** Sum of what remains. */
  multiplications: number;
}

export interface CheckOptions {
  /** How integer-valued neurons emit. Default "spikes". */
  mode?: SpikeMode | undefined;
}

const words = (text: string): string[] => text.split(" ");
/** Operations that add, compare or choose; and those of which each element takes more than that. */
const PLAIN: ReadonlySet<string> = new Set([
  ...words("add sub neg abs sign relu floor ceil round clamp maximum minimum"),
  ...words("sum max min argmax argmin cumsum where cast and andRows"),
  ...[...COMPARE, ...LOGICAL],
]);
const FUNCTIONS: ReadonlySet<string> = new Set([
  ...[...UNARY, ...BINARY],
  ...words("softmax layerNorm rmsNorm groupNorm variance norm prod"),
]);
/** Operations behind which a constant factor is still the same. */
const PASSES: ReadonlySet<string> = new Set(words("reshape permute flatten flip slice expand repeat copy clone toDense toSteps"));
const isMean = (op: string) => SUMS.has(op) && op !== "sum";

/** The two factors of a product, and how many multiplications a dense one makes. */
function productOf({ op, inputs, outputs, settings }: Step): { factors: [Value, Value]; dense: number } | null {
  const factors = inputs.slice(0, 2) as [Value, Value];
  const size = sizeOf((outputs[0] as Value).shape);
  if (op === "conv2d") {
    const { window: g, groups } = settings;
    return { factors, dense: (size * g.kh * g.kw * g.ci) / groups };
  }
  if (op === "linear") return { factors, dense: size * (factors[0].shape.at(-1) as number) };
  if (op === "matmul") return { factors, dense: size * settings.k };
  return op === "mul" ? { factors, dense: size } : null;
}

const isConstant = ({ kind }: Value) => kind === "constant";

/** A product of a value with weights. */
function isWeightProduct(step: Step): boolean {
  return step.op !== "mul" && productOf(step)?.factors.filter(isConstant).length === 1;
}

/** A value times constants, one for each channel or for all: that value, and whether something is added. */
function scaleOf({ op, inputs, settings }: Step): { x: Value; shift: boolean } | null {
  const [a, b] = inputs as [Value, Value];
  if (op === "batchNorm") return { x: a, shift: true };
  if (isMean(op)) return { x: a, shift: false };
  if (op === "affine") return { x: a, shift: settings.p1 !== 0 };
  if ((op === "mul" || op === "div") && isConstant(b) && !isConstant(a)) return { x: a, shift: false };
  return op === "mul" && isConstant(a) && !isConstant(b) ? { x: b, shift: false } : null;
}

/** The product with weights whose result, at most scaled, shifted and moved, a value is. */
function weightsBehind(value: Value): Step | null {
  const step = value.from;
  if (!step) return null;
  if (isWeightProduct(step)) return step;
  if (PASSES.has(step.op) || step.op === "pad" || step.op === "takeRows") return weightsBehind(step.inputs[0] as Value);
  // A further bias.
  if (step.op === "add" && step.inputs.some(isConstant)) return weightsBehind(step.inputs.find((v) => !isConstant(v)) as Value);
  const scale = scaleOf(step);
  return scale && weightsBehind(scale.x);
}

/** Where a constant factor of a value can go: what reads it, if that is all weights and neurons; null where something else reads it too. */
function destinations(value: Value, shift: boolean): string[] | null {
  if (!value.readers.length) return null;
  const found: string[] = [];
  for (const step of value.readers) {
    const product = productOf(step);
    let into: string[] | null = null;
    if (step.op === "neuron") into = [`thresholds of ${step.layer}`];
    else if (PASSES.has(step.op) || step.op === "maxPool2d" || step.op === "sum" || scaleOf(step))
      into = destinations(step.outputs[0] as Value, shift);
    // What is added must not meet zeros of a border, which stay zero.
    else if (isWeightProduct(step))
      into = shift && (step.settings?.window?.ph || step.settings?.window?.pw) ? null : [`weights of ${step.layer}`];
    else if (product && !shift) into = destinations(step.outputs[0] as Value, false);
    if (!into) return null;
    found.push(...into);
  }
  return found;
}

function listed(names: readonly string[]): string {
  const [first, ...others] = [...new Set(names)];
  return others.length ? `${first} and ${others.length} more` : (first as string);
}

class Report implements SpikeCheck {
  readonly mode: SpikeMode;
  readonly input: Shape;
  readonly adding = { products: 0, additions: 0 };
  readonly remaining: Remaining[] = [];
  readonly folded: Folded[] = [];
  readonly remarks: Remark[] = [];
  multiplications = 0;

  constructor(mode: SpikeMode, input: Shape, steps: readonly Step[]) {
    this.mode = mode;
    this.input = input;
    for (const step of steps) if (!step.outputs.every(isConstant)) this.look(step);
    if (steps.at(-1)?.outputs.every(isConstant))
      throw new SpikeloomError(
        "measure.check: the network's last operation does not follow from its input, so that nothing can be said of it",
      );
  }

  private look(step: Step): void {
    const { op, outputs } = step;
    const size = sizeOf((outputs[0] as Value).shape);
    if (op === "neuron") this.neuron(step, size);
    else if (op === "customNeuron") this.remark(step, "neuron", size, "user-defined: its arithmetic is its own");
    else if (op === "maxPool2d") {
      const { kh, kw } = step.settings.window;
      const spikes = step.inputs[0]?.kind === "spikes";
      this.remark(step, "max pool", size * (kh * kw - 1), spikes ? "OR of spikes" : "comparisons");
    } else if (op === "linearAttention") this.attention(step, size);
    else if (scaleOf(step)) this.scale(step, size);
    else if (productOf(step)) this.product(step);
    else if (!MOVES.has(op) && !PLAIN.has(op)) this.remain(step, FUNCTIONS.has(op) ? "function" : "unknown", size);
  }

  private product(step: Step): void {
    const { factors, dense } = productOf(step) as { factors: [Value, Value]; dense: number };
    const kinds = factors.map(({ kind }) => kind);
    const before = kinds.includes("constant") ? weightsBehind(factors.find((v) => !isConstant(v)) as Value) : null;
    if (kinds.includes("spikes")) {
      this.adding.products++;
      this.adding.additions += dense;
    } else if (kinds.includes("integers")) this.remain(step, "integers", dense);
    else if (!kinds.includes("constant")) this.remain(step, "product", dense);
    else if (before) this.fold(step, "linear chain", `weights of ${before.layer}`, dense);
    else this.remain(step, "dense input", dense);
  }

  /** q (k' v) of each head, which are `settings`: two products. */
  private attention(step: Step, size: number): void {
    const { inputs, settings: heads } = step;
    const dense = (2 * size * ((inputs[0] as Value).shape.at(-1) as number)) / heads;
    const kinds = inputs.map(({ kind }) => kind);
    if (kinds[0] === "spikes" && kinds.slice(1).includes("spikes")) {
      this.adding.products += 2;
      this.adding.additions += dense;
    } else this.remain(step, kinds.includes("real") ? "product" : "integers", dense);
  }

  private scale(step: Step, size: number): void {
    const { op, settings, outputs } = step;
    const { x, shift } = scaleOf(step) as { x: Value; shift: boolean };
    if (op === "affine" && (settings.p0 === 0 || Math.abs(settings.p0) === 1)) return;
    const what = op === "batchNorm" ? "norm" : isMean(op) ? "mean" : "scale";
    const before = weightsBehind(x);
    const into = before ? [`weights of ${before.layer}`] : destinations(outputs[0] as Value, shift);
    if (into) this.fold(step, what, listed(into), size);
    else this.remain(step, what === "norm" ? "norm" : "scale", size);
  }

  private neuron(step: Step, size: number): void {
    const { rule, hasRate, hasAlpha } = step.settings;
    const charge = CHARGE[rule.charge];
    if (charge === "leak" || charge === "leakInput" || hasAlpha) {
      const power = !hasRate && !hasAlpha && [rule.r, 1 - rule.r].every((r: number) => r === 0 || Number.isInteger(Math.log2(r)));
      const how = hasRate ? "learnt, one factor a channel" : hasAlpha ? "of membrane and synaptic current" : `by ${1 - rule.r}`;
      this.remark(step, "leak", size, power ? `${how}: a shift of bits` : how);
    }
    if (rule.scale === 1) return;
    const spikes = step.outputs[0] as Value;
    const into = destinations(spikes, false);
    if (into) this.fold(step, "spike's worth", listed(into), size);
    else this.remain(step, "scale", size);
  }

  private remain(step: Step, kind: Remaining["kind"], multiplications: number): void {
    const { layer, op, inputs, outputs } = step;
    this.remaining.push({ layer, op, kind, inputs: inputs.map((v) => v.shape), output: (outputs[0] as Value).shape, multiplications });
    this.multiplications += multiplications;
  }

  private fold({ layer }: Step, what: Folded["what"], into: string, multiplications: number): void {
    this.folded.push({ layer, what, into, multiplications });
  }

  private remark({ layer }: Step, what: Remark["what"], count: number, note: string): void {
    this.remarks.push({ layer, what, count, note });
  }
}

/**
 * List every multiplication by a non-spike that one forward pass in eval mode makes. Nothing is computed: the pass runs on a device without
 * memory.
 * @param model the network, or a function that makes it, which then takes no memory either
 * @param input shape of its input, with one sample: [1, H, W, C], or [T, 1, H, W, C]
 */
export function check(model: Module | (() => Module), input: Shape, options: CheckOptions = {}): SpikeCheck {
  checkOptions("measure.check", options, ["mode"]);
  expectList("measure.check", "the input's shape", input);
  if (input.some((n) => !Number.isInteger(n) || n < 1))
    throw new SpikeloomError(`measure.check: the input's shape must be a list of integers >= 1, found ${show(input)}`);
  if (typeof model !== "function" && typeof model?.forward !== "function")
    throw new SpikeloomError(`measure.check: expected a module or a function that makes one, found ${kindOf(model)}`);
  const { mode = "spikes" } = options;
  return withoutMemory(() => {
    const net = typeof model === "function" ? model() : model;
    const restore = setMode(net, mode);
    try {
      return { ...new Report(mode, input, trace(net, input)) };
    } finally {
      restore();
      if (net !== model) net.dispose();
    }
  });
}
