/**
 * Reference kernels: Winograd's minimal filtering F(4 x 4, 3 x 3), as matrices. A tile of outputs is Y = A^T [(G g G^T) * (B^T d B)] A
 * (Lavin and Gray 2016, equation 8). The matrices follow from the interpolation points 0, a, -a, b, -b and infinity by Lagrange's formula.
 */
import type { ReferenceArgs } from "./args.ts";

const [A, B] = [3 / 4, 3 / 2];
const POINTS = [0, A, -A, B, -B];

/** G [6, 3]: a window's values at the points, divided by prod (p - q). Infinity takes the leading coefficient. */
const G = [
  ...POINTS.map((p) => {
    const scale = POINTS.reduce((product, q) => (q === p ? product : product * (p - q)), 1);
    return [1 / scale, p / scale, (p * p) / scale];
  }),
  [0, 0, 1],
];
/** B^T [6, 6]: the coefficients of prod (x - q) over the other points, and over all of them for infinity. */
const BT = [...POINTS.map((p) => [...coefficients(POINTS.filter((q) => q !== p)), 0]), coefficients(POINTS)];
/** A^T [4, 6]: powers of the points. */
const AT = [0, 1, 2, 3].map((i) => [...POINTS.map((p) => p ** i), i === 3 ? 1 : 0]);

/** Coefficients of prod (x - root), the constant first. */
function coefficients(roots: readonly number[]): number[] {
  let poly = [1];
  for (const root of roots) poly = Array.from({ length: poly.length + 1 }, (_, i) => (poly[i - 1] ?? 0) - root * (poly[i] ?? 0));
  return poly;
}

/** M X M^T. */
function both(m: readonly number[][], x: readonly number[][]): number[][] {
  const times = (l: readonly number[][], at: (k: number, j: number) => number, columns: number) =>
    l.map((row) => Array.from({ length: columns }, (_, j) => row.reduce((sum, value, k) => sum + value * at(k, j), 0)));
  const left = times(m, (k, j) => x[k]![j]!, x[0]!.length);
  return times(left, (k, j) => m[j]![k]!, m.length);
}

const square = (n: number, at: (y: number, x: number) => number): number[][] =>
  Array.from({ length: n }, (_, y) => Array.from({ length: n }, (_, x) => at(y, x)));

/** Where point p, row k, column j of the transformed weights lies. */
const weightAt = (p: number, k: number, j: number, ci: number, co: number): number => {
  const panels = Math.ceil(co / 32);
  return ((p * panels + Math.floor(j / 32)) * ci + k) * 32 + (j % 32);
};

export const winograd = {
  winograd_weights({ wt, u, ci, co }: ReferenceArgs<"winograd_weights">): void {
    for (let k = 0; k < ci; k++)
      for (let j = 0; j < Math.ceil(co / 32) * 32; j++) {
        const g = both(
          G,
          square(3, (y, x) => (j < co ? wt[((y * 3 + x) * ci + k) * co + j]! : 0)),
        );
        for (let p = 0; p < 36; p++) u[weightAt(p, k, j, ci, co)] = g[Math.floor(p / 6)]![p % 6]!;
      }
  },

  winograd_conv2d({ x, u, y, n, h, w, ci, oh, ow, co, ph, pw, ys, yo }: ReferenceArgs<"winograd_conv2d">): void {
    for (let image = 0; image < n; image++)
      for (let top = 0; top < oh; top += 4)
        for (let left = 0; left < ow; left += 4) {
          const at = (iy: number, ix: number, k: number) =>
            iy < 0 || iy >= h || ix < 0 || ix >= w ? 0 : x[((image * h + iy) * w + ix) * ci + k]!;
          const v = Array.from({ length: ci }, (_, k) =>
            both(
              BT,
              square(6, (r, c) => at(top - ph + r, left - pw + c, k)),
            ),
          );
          for (let j = 0; j < co; j++) {
            const sums = square(6, (r, c) => v.reduce((sum, d, k) => sum + d[r]![c]! * u[weightAt(r * 6 + c, k, j, ci, co)]!, 0));
            const out = both(AT, sums);
            for (let r = 0; r < Math.min(4, oh - top); r++)
              for (let c = 0; c < Math.min(4, ow - left); c++) y[((image * oh + top + r) * ow + left + c) * ys + yo + j] = out[r]![c]!;
          }
        }
  },
};
