/**
 * The operations as methods: `x.add(y).sum(0)`. Each is the function of the same name in ops/, with the tensor first.
 * Importing this file attaches them; the package's entry does.
 */
import * as e from "./ops/elementwise.ts";
import * as l from "./ops/layout.ts";
import { type MatmulOptions, matmul } from "./ops/matmul.ts";
import * as r from "./ops/reduce.ts";
import { argsort, type Sorted, sort, topk } from "./ops/sort.ts";
import type { Shape } from "./shape.ts";
import { type BackwardOptions, backward } from "./tape.ts";
import { type DType, type SpikeFormat, Tensor } from "./tensor.ts";

/** What methods.ts adds to every tensor. */
export interface TensorMethods {
  add(other: e.Operand): Tensor;
  sub(other: e.Operand): Tensor;
  mul(other: e.Operand): Tensor;
  div(other: e.Operand): Tensor;
  pow(exponent: e.Operand): Tensor;
  maximum(other: e.Operand): Tensor;
  minimum(other: e.Operand): Tensor;
  neg(): Tensor;
  abs(): Tensor;
  square(): Tensor;
  sqrt(): Tensor;
  exp(): Tensor;
  log(): Tensor;
  tanh(): Tensor;
  sigmoid(): Tensor;
  relu(): Tensor;
  clamp(low?: number, high?: number): Tensor;
  eq(other: e.Operand): Tensor;
  ne(other: e.Operand): Tensor;
  lt(other: e.Operand): Tensor;
  le(other: e.Operand): Tensor;
  gt(other: e.Operand): Tensor;
  ge(other: e.Operand): Tensor;
  sum(axis?: r.Axes, keepDims?: boolean): Tensor;
  mean(axis?: r.Axes, keepDims?: boolean): Tensor;
  max(axis?: r.Axes, keepDims?: boolean): Tensor;
  min(axis?: r.Axes, keepDims?: boolean): Tensor;
  argmax(axis?: number, keepDims?: boolean): Tensor;
  argmin(axis?: number, keepDims?: boolean): Tensor;
  sort(options?: Parameters<typeof sort>[1]): Sorted;
  argsort(options?: Parameters<typeof argsort>[1]): Tensor;
  topk(k: number, options?: Parameters<typeof topk>[2]): Sorted;
  norm(axis?: r.Axes, keepDims?: boolean): Tensor;
  reshape(shape: Shape): Tensor;
  permute(axes: readonly number[]): Tensor;
  transpose(first?: number, second?: number): Tensor;
  slice(...ranges: l.Range[]): Tensor;
  squeeze(axis?: number): Tensor;
  unsqueeze(axis: number): Tensor;
  expand(shape: Shape): Tensor;
  split(size: number | readonly number[], axis?: number): Tensor[];
  matmul(other: Tensor, options?: MatmulOptions): Tensor;
  /** The values in another dtype: `cast`. */
  to(dtype: DType): Tensor;
  toSpikes(format?: Partial<SpikeFormat>): Tensor;
  toDense(): Tensor;
  /** A copy of the values; the gradient passes. */
  clone(): Tensor;
  /** The same memory outside the graph. */
  detach(): Tensor;
  /** Add this tensor's gradient to `grad` of every leaf it depends on. */
  backward(options?: BackwardOptions): void;
}

/** The function as a method: the tensor it is called on becomes the first argument. */
function method<A extends unknown[], R>(f: (x: Tensor, ...rest: A) => R): (this: Tensor, ...rest: A) => R {
  return function (...rest) {
    return f(this, ...rest);
  };
}

const { add, sub, mul, div, pow, maximum, minimum, neg, abs, square, sqrt, exp, log, tanh, sigmoid, relu, clamp } = e;
const { eq, ne, lt, le, gt, ge, toSpikes, toDense, clone, cast } = e;
const { sum, mean, max, min, argmax, argmin, norm } = r;
const { reshape, permute, transpose, slice, squeeze, unsqueeze, expand, split } = l;

const methods: { [K in keyof TensorMethods]: (this: Tensor, ...args: Parameters<TensorMethods[K]>) => ReturnType<TensorMethods[K]> } = {
  add: method(add),
  sub: method(sub),
  mul: method(mul),
  div: method(div),
  pow: method(pow),
  maximum: method(maximum),
  minimum: method(minimum),
  neg: method(neg),
  abs: method(abs),
  square: method(square),
  sqrt: method(sqrt),
  exp: method(exp),
  log: method(log),
  tanh: method(tanh),
  sigmoid: method(sigmoid),
  relu: method(relu),
  clamp: method(clamp),
  eq: method(eq),
  ne: method(ne),
  lt: method(lt),
  le: method(le),
  gt: method(gt),
  ge: method(ge),
  sum: method(sum),
  mean: method(mean),
  max: method(max),
  min: method(min),
  argmax: method(argmax),
  argmin: method(argmin),
  norm: method(norm),
  reshape: method(reshape),
  permute: method(permute),
  transpose: method(transpose),
  slice: method(slice),
  squeeze: method(squeeze),
  unsqueeze: method(unsqueeze),
  expand: method(expand),
  split: method(split),
  sort: method(sort),
  argsort: method(argsort),
  topk: method(topk),
  matmul: method(matmul),
  to: method(cast),
  toSpikes: method(toSpikes),
  toDense: method(toDense),
  clone: method(clone),
  detach: method((x) => x.alias()),
  backward: method(backward),
};

for (const [name, value] of Object.entries(methods))
  Object.defineProperty(Tensor.prototype, name, { value, writable: true, configurable: true });
