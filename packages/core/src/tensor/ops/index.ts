/**
 * Indexing: picking and adding rows or single elements by integer positions. Positions are checked here, before a kernel runs.
 */

import { device } from "../../runtime/engine.ts";
import { ELEMENT } from "../../runtime/kernel-table.ts";
import { scope } from "../scope.ts";
import { aroundAxis, axisOf, type Shape, sameShape, show, wrong } from "../shape.ts";
import { apply, type OpDefinition } from "../tape.ts";
import { empty, emptySpikes, full, type SpikeFormat, type Tensor, tensor, wordsOf } from "../tensor.ts";
import { dense, expectDType, expectFloat, run, tilesFor } from "./common.ts";
import { cast, clone, eq, pack } from "./elementwise.ts";
import { reshape } from "./layout.ts";

/** Check that every position lies in [0, size). */
function expectIndex(op: string, index: Tensor, size: number): void {
  expectDType(op, "the index", index, "i32");
  for (const i of device().view(index.storage)) if (i < 0 || i >= size) wrong(op, "every index", `in [0, ${size})`, String(i));
}

interface SelectSettings {
  axis: number;
  from: Shape;
}

/** The entries `index` (flat) of an axis, in memory: the result's axis has as many entries. */
function select(op: string, x: Tensor, index: Tensor, axis: number): Tensor {
  const n = index.size;
  const shape = x.shape.with(axis, n);
  if (x.spikes && axis === x.rank - 1) return pack(select(op, dense(op, x), index, axis), x.spikes);
  const y = x.spikes ? emptySpikes(shape, x.spikes as SpikeFormat) : empty(shape, x.dtype as Exclude<Tensor["dtype"], "spikes">);
  const row = x.spikes ? x.spikes.planes * wordsOf(x.shape[x.rank - 1] as number) : null;
  const { outer, n: xn, inner } = aroundAxis(row === null ? x.shape : x.shape.with(-1, row), axis);
  const type = ELEMENT.indexOf(x.storage.type);
  if (y.size)
    run("index_select", { x: x.storage, index: index.storage, y: y.storage, type, outer, xn, n, inner }, tilesFor(outer * n, inner));
  return y;
}

function selectOp(name: string): OpDefinition<SelectSettings> {
  return {
    name,
    forward(ctx, [x, index], { axis }) {
      ctx.save(index as Tensor);
      return select(name, x as Tensor, index as Tensor, axis);
    },
    backward(ctx, [g], { axis, from }) {
      const [index] = ctx.saved as [Tensor];
      const { outer, n: xn, inner } = aroundAxis(from, axis);
      const gx = empty(from);
      const n = index.size;
      if (gx.size)
        run(
          "index_add",
          { gy: (g as Tensor).storage, index: index.storage, gx: gx.storage, outer, xn, n, inner },
          tilesFor(outer * xn, inner + n),
        );
      return [gx, null];
    },
  };
}

const SELECT = selectOp("indexSelect");
const EMBEDDING = selectOp("embedding");

/**
 * The entries `index` of an axis, in that order (any dtype).
 * @param index i32 [n], or plain integers, each in [0, size of the axis)
 */
export function indexSelect(x: Tensor, axis: number, index: Tensor | readonly number[]): Tensor {
  const a = axisOf("indexSelect", axis, x.rank);
  return scope(() => {
    const at = Array.isArray(index) ? tensor(index as readonly number[], [index.length], "i32") : (index as Tensor);
    if (at.rank !== 1) wrong("indexSelect", "the index", "of rank 1", show(at.shape));
    expectIndex("indexSelect", at, x.shape[a] as number);
    return apply(SELECT, [x, at], { axis: a, from: x.shape });
  });
}

/** Row `index` of a table: weight f32 [n, d], index i32 of any shape, result [...index.shape, d]. */
export function embedding(weight: Tensor, index: Tensor): Tensor {
  if (weight.rank !== 2) wrong("embedding", "the weight", "of shape [n, d]", show(weight.shape));
  expectDType("embedding", "the weight", weight, "f32");
  expectIndex("embedding", index, weight.shape[0] as number);
  return scope(() => {
    const flat = reshape(index, [index.size]);
    const rows = apply(EMBEDDING, [weight, flat], { axis: 0, from: weight.shape });
    return reshape(rows, [...index.shape, weight.shape[1] as number]);
  });
}

/** Check an index tensor that goes along with `like` in every axis but one. */
function expectAlong(op: string, index: Tensor, like: Shape, axis: number, size: number): void {
  if (index.rank !== like.length || !sameShape(index.shape.toSpliced(axis, 1), like.toSpliced(axis, 1)))
    wrong(op, "the index", `of shape ${show(like)} except for axis ${axis}`, show(index.shape));
  expectIndex(op, index, size);
}

function gatherInto(x: Tensor, index: Tensor, axis: number): Tensor {
  const { outer, n, inner } = aroundAxis(index.shape, axis);
  const y = empty(index.shape);
  const xn = x.shape[axis] as number;
  if (y.size) run("gather", { x: x.storage, index: index.storage, y: y.storage, outer, xn, n, inner }, tilesFor(outer, n * inner));
  return y;
}

function scatterOnto(target: Tensor, index: Tensor, values: Tensor, axis: number): void {
  const { outer, n, inner } = aroundAxis(index.shape, axis);
  const xn = target.shape[axis] as number;
  if (index.size)
    run("scatter_add", { gy: values.storage, index: index.storage, gx: target.storage, outer, xn, n, inner }, tilesFor(outer, n * inner));
}

const GATHER: OpDefinition<SelectSettings> = {
  name: "gather",
  forward(ctx, [x, index], { axis }) {
    ctx.save(index as Tensor);
    return gatherInto(dense("gather", x as Tensor), index as Tensor, axis);
  },
  backward(ctx, [g], { axis, from }) {
    const gx = full(from, 0);
    scatterOnto(gx, ctx.saved[0] as Tensor, g as Tensor, axis);
    return [gx, null];
  },
};

/**
 * y[.., j, ..] = x[.., index[.., j, ..], ..] along an axis (torch.gather), f32.
 * @param index i32, of x's shape except for that axis
 */
export function gather(x: Tensor, axis: number, index: Tensor): Tensor {
  expectFloat("gather", "the tensor", x);
  const a = axisOf("gather", axis, x.rank);
  expectAlong("gather", index, x.shape, a, x.shape[a] as number);
  return apply(GATHER, [x, index], { axis: a, from: x.shape });
}

const SCATTER_ADD: OpDefinition<{ axis: number }> = {
  name: "scatterAdd",
  forward(ctx, [x, index, values], { axis }) {
    const y = clone(dense("scatterAdd", x as Tensor));
    scatterOnto(y, index as Tensor, dense("scatterAdd", values as Tensor), axis);
    ctx.save(index as Tensor);
    return y;
  },
  backward: (ctx, [g], { axis }) => [g as Tensor, null, ctx.needs[2] ? gatherInto(g as Tensor, ctx.saved[0] as Tensor, axis) : null],
};

/**
 * A copy of x with `values` added at positions along an axis: y[.., index[.., j, ..], ..] += values[.., j, ..], f32, in the order
 * of j.
 * @param index i32, of x's shape except for that axis
 * @param values of the index's shape
 */
export function scatterAdd(x: Tensor, axis: number, index: Tensor, values: Tensor): Tensor {
  expectFloat("scatterAdd", "the tensor", x);
  expectFloat("scatterAdd", "values", values);
  const a = axisOf("scatterAdd", axis, x.rank);
  expectAlong("scatterAdd", index, x.shape, a, x.shape[a] as number);
  if (!sameShape(values.shape, index.shape)) wrong("scatterAdd", "values", `of the index's shape ${show(index.shape)}`, show(values.shape));
  return apply(SCATTER_ADD, [x, index, values], { axis: a });
}

/** f32 [...index.shape, classes]: 1 at each index, else 0. Index i32 in [0, classes). */
export function oneHot(index: Tensor, classes: number): Tensor {
  if (!Number.isInteger(classes) || classes < 1) wrong("oneHot", "classes", "an integer of at least 1", String(classes));
  expectIndex("oneHot", index, classes);
  return scope(() => {
    const all = tensor(Int32Array.from({ length: classes }, (_, i) => i));
    return cast(eq(reshape(index, [...index.shape, 1]), all), "f32");
  });
}
