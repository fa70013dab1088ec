/**
 * How much work a workload cannot do without, and how long a machine of given limits needs for it: the distance to the limit.
 *
 * A product with spikes needs one addition for each spike, window position and output channel; a dense product a multiplication and an
 * addition; and every operand that is not in registers must be moved once. Only that is counted: what an implementation does besides (packing,
 * index lists, zero padding, residual additions, pooling) is its distance to the limit.
 */

/** One pass over data. */
export interface Work {
  /** Float additions of weight rows, or masked additions, that spikes ask for. */
  adds: number;
  /** Floating-point operations of dense products, two for a multiply-add. */
  flops: number;
  /** Bytes. */
  read: number;
  write: number;
}

/** Bandwidth at one amount of data, GB/s. */
export interface Bandwidth {
  mib: number;
  read: number;
  write: number;
}

/** What a machine can do with an instruction set and a number of threads. */
export interface Limits {
  isa: string;
  threads: number;
  /** Gflop/s of multiply-adds in registers. */
  flops: number;
  /** 1e9 float additions/s, one operand from the first-level cache. */
  adds: number;
  /** By rising amount of data. */
  bandwidth: Bandwidth[];
}

export type Binding = "additions" | "multiply-adds" | "memory";

/** Bytes of n floats, and of n spikes as bits. */
export const floats = (n: number): number => 4 * n;
export const bits = (n: number): number => n / 8;

/** Share of the k x k window positions that lie inside a size x size image, for a padding that keeps the size. */
export function inside(size: number, kernel: number): number {
  const half = kernel >> 1;
  let positions = 0;
  for (let x = 0; x < size; x++) positions += Math.min(size - 1, x + half) - Math.max(0, x - half) + 1;
  return (positions / (size * kernel)) ** 2;
}

/** A product of `inputs` values with `weights` weights: `outputs` values. `pairs` = pairs of input and output value that meet. */
export interface Product {
  inputs: number;
  outputs: number;
  weights: number;
  pairs: number;
  /** Share of ones in a spike input; null for floats. */
  density: number | null;
}

const operand = ({ inputs, density }: Product): number => (density === null ? floats(inputs) : bits(inputs));
const arithmetic = ({ pairs, density }: Product) =>
  density === null ? { adds: 0, flops: 2 * pairs } : { adds: density * pairs, flops: 0 };

export function productForward(p: Product): Work {
  return { ...arithmetic(p), read: operand(p) + floats(p.weights), write: floats(p.outputs) };
}

export function productGradWeight(p: Product): Work {
  return { ...arithmetic(p), read: operand(p) + floats(p.outputs), write: floats(p.weights) };
}

/** No spikes take part. */
export function productGradInput(p: Product): Work {
  return { adds: 0, flops: 2 * p.pairs, read: floats(p.outputs) + floats(p.weights), write: floats(p.inputs) };
}

/** n neuron-steps: pre-activations in, bits out. */
export function neuronForward(n: number): Work {
  return { adds: 0, flops: 0, read: floats(n), write: bits(n) };
}

/** Pre-activations and gradient in, gradient out. */
export function neuronBackward(n: number): Work {
  return { adds: 0, flops: 0, read: floats(2 * n), write: floats(n) };
}

/** Batch norm's gradient once its sums are known. */
export function normBackward(n: number): Work {
  return { adds: 0, flops: 0, read: floats(2 * n), write: floats(n) };
}

/** The bandwidth at the least measured amount of data that is not below `bytes`. */
function bandwidthAt({ bandwidth }: Limits, bytes: number): Bandwidth {
  return bandwidth.find(({ mib }) => mib * 2 ** 20 >= bytes) ?? (bandwidth.at(-1) as Bandwidth);
}

/**
 * Least time of the passes one after the other, and what binds most of it. Inside a pass moving and computing overlap, so that the longer
 * of the two counts.
 */
export function limit(passes: readonly Work[], limits: Limits): { ms: number; binding: Binding } {
  const by: Record<Binding, number> = { additions: 0, "multiply-adds": 0, memory: 0 };
  for (const { adds, flops, read, write } of passes) {
    const { read: reading, write: writing } = bandwidthAt(limits, read + write);
    const times: [Binding, number][] = [
      ["additions", adds / limits.adds / 1e6],
      ["multiply-adds", flops / limits.flops / 1e6],
      ["memory", (read / reading + write / writing) / 1e6],
    ];
    // A pass may hold both kinds of arithmetic; they share the same units.
    const compute = (times[0] as [Binding, number])[1] + (times[1] as [Binding, number])[1];
    const memory = (times[2] as [Binding, number])[1];
    if (memory >= compute) by.memory += memory;
    else for (const [binding, ms] of times.slice(0, 2)) by[binding] += ms;
  }
  const ranked = (Object.entries(by) as [Binding, number][]).sort((a, b) => b[1] - a[1]);
  return { ms: ranked.reduce((sum, [, ms]) => sum + ms, 0), binding: (ranked[0] as [Binding, number])[0] };
}
