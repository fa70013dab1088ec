/**
 * Convolution and norm of a partly seen image (Tian et al. 2023, "Designing BERT for convolutional networks: sparse and hierarchical masked
 * modeling", repository keyu-tian/SparK). Patches that are not seen are zero at every layer: a convolution is dense and then masked, and
 * a batch norm takes the statistics of seen positions only and writes zeros elsewhere. Hence a convolution whose norm follows needs
 * no mask of its own.
 */
import type { BatchNorm2d } from "../../nn/norm.ts";
import { where } from "../../tensor/ops/elementwise.ts";
import { indexSelect } from "../../tensor/ops/index.ts";
import { pad, reshape } from "../../tensor/ops/layout.ts";
import { type Shape, show, sizeOf, wrong } from "../../tensor/shape.ts";
import { defineOp } from "../../tensor/tape.ts";
import { type Tensor, tensor } from "../../tensor/tensor.ts";

/**
 * Where the seen positions of a feature map are, or nothing where all are: `seen`, i32 [n], their numbers; `places`, i32 of one entry for
 * every position, what number each has among the seen ones, n for the others.
 */
export type Places = [] | [seen: Tensor, places: Tensor];

/** Rows of x [R, C] by number; number R is a row of zeros. `back` undoes it: for every row of x which row of the result it is, or none. */
const takeRows = defineOp({
  name: "takeRows",
  forward(ctx, [x, index, back]) {
    ctx.save(back as Tensor);
    return rowsOf(x as Tensor, index as Tensor);
  },
  backward: (ctx, [g]) => [rowsOf(g as Tensor, ctx.saved[0] as Tensor), null, null],
});

function rowsOf(x: Tensor, index: Tensor): Tensor {
  const short = index.size > (x.shape[0] as number);
  const behind = [
    [0, short ? 1 : 0],
    [0, 0],
  ] as const;
  return indexSelect(short ? pad(x, behind) : x, 0, index);
}

/** Token i of each sample becomes the sample's token `order[i]`; `back` is the inverse. x [B, N, C]; i32 [B N], numbers of all tokens. */
export function reorderTokens(x: Tensor, order: Tensor, back: Tensor): Tensor {
  const c = x.shape[x.rank - 1] as number;
  return reshape(takeRows([reshape(x, [x.size / c, c]), order, back], undefined), x.shape);
}

/** Batch norm of the seen positions of x [..., H, W, C] by their own statistics; zeros elsewhere. Without places a plain batch norm. */
export function normSeen(norm: BatchNorm2d, x: Tensor, ...[seen, places]: Places): Tensor {
  if (!seen || !places) return norm.forward(x);
  const c = x.shape[x.rank - 1] as number;
  const rows = takeRows([reshape(x, [x.size / c, c]), seen, places], undefined);
  const y = norm.forward(reshape(rows, [1, 1, seen.size, c]));
  return reshape(takeRows([reshape(y, [seen.size, c]), places, seen], undefined), x.shape);
}

/** Which patches of each image are seen. */
export class SeenPatches {
  /** [B, rows of patches, patches in a row]. */
  readonly shape: readonly [number, number, number];
  private readonly values: Uint8Array;

  /** @param values 1 for a patch that is seen, else 0; image by image, row by row */
  constructor(values: Uint8Array, shape: readonly [number, number, number]) {
    if (values.length !== sizeOf(shape))
      wrong("SeenPatches", "values", `${sizeOf(shape)} of them for ${show(shape)}`, String(values.length));
    this.values = values;
    this.shape = shape;
  }

  /** For every position of maps of that size whether it is seen, by nearest repetition. */
  private at(height: number, width: number): Uint8Array {
    const [batch, rows, columns] = this.shape;
    const [tall, wide] = [height / rows, width / columns];
    if (!Number.isInteger(tall) || !Number.isInteger(wide))
      wrong("SeenPatches", "a feature map", `of a multiple of ${rows} x ${columns} positions`, `${height} x ${width}`);
    const out = new Uint8Array(batch * height * width);
    let i = 0;
    for (let b = 0; b < batch; b++)
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++)
          out[i++] = this.values[(b * rows + Math.floor(y / tall)) * columns + Math.floor(x / wide)] as number;
    return out;
  }

  /** Seen positions of maps [steps, B, height, width, C]. */
  places(steps: number, height: number, width: number): [seen: Tensor, places: Tensor] {
    const once = this.at(height, width);
    const seen: number[] = [];
    const numbers = new Int32Array(steps * once.length).fill(-1);
    for (let i = 0; i < numbers.length; i++)
      if (once[i % once.length]) {
        numbers[i] = seen.length;
        seen.push(i);
      }
    return [tensor(Int32Array.from(seen)), tensor(numbers.map((n) => (n < 0 ? seen.length : n)))];
  }

  /** x [B, H, W, C] with zeros where nothing is seen. */
  mask(x: Tensor): Tensor {
    const [batch, height, width] = x.shape as Shape as [number, number, number];
    if (x.rank !== 4 || batch !== this.shape[0]) wrong("SeenPatches", "x", `of shape [${this.shape[0]}, H, W, C]`, show(x.shape));
    return where(tensor(this.at(height, width), [batch, height, width, 1]), x, 0);
  }
}
