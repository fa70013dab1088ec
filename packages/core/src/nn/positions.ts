/** Fixed encodings of positions. */
import { kindOf } from "../runtime/check.ts";
import { cos, pow, sin } from "../runtime/math.ts";
import { wrong } from "../tensor/shape.ts";
import { empty, type Tensor } from "../tensor/tensor.ts";

/**
 * Sine and cosine positions of a grid, as masked auto-encoders use them (He et al. 2022, "Masked autoencoders are scalable vision
 * learners", repository facebookresearch/mae): the first half of the channels tells the column, the second the row, each half as
 * [sin(p w_j), cos(p w_j)] with w_j = 10000^(-j / (dim / 4)).
 * @param dim a multiple of 4
 * @returns f32 [height * width, dim], positions row by row
 */
export function sinCosPositions(dim: number, height: number, width = height): Tensor {
  const op = "sinCosPositions";
  if (!Number.isInteger(dim) || dim < 4 || dim % 4) wrong(op, "dim", "a positive multiple of 4", kindOf(dim));
  for (const [name, value] of Object.entries({ height, width }))
    if (!Number.isInteger(value) || value < 1) wrong(op, name, "an integer of at least 1", kindOf(value));
  const quarter = dim / 4;
  // First, since it says what is too large.
  const y = empty([height * width, dim]);
  const table = new Float64Array(y.size);
  for (let j = 0; j < quarter; j++) {
    const omega = 1 / pow(10000, j / quarter);
    for (let place = 0; place < height * width; place++) {
      const at = place * dim + j;
      const [row, column] = [Math.floor(place / width), place % width];
      table[at] = sin(column * omega);
      table[at + quarter] = cos(column * omega);
      table[at + 2 * quarter] = sin(row * omega);
      table[at + 3 * quarter] = cos(row * omega);
    }
  }
  y.set(table);
  return y;
}
