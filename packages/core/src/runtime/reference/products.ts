/** Reference kernels: matrix products and convolutions, dense and with spikes. */
import type { ReferenceArgs } from "./args.ts";
import { spikeAt } from "./spikes.ts";
import { allTaps, windowTaps } from "./window.ts";

/** The values of spikes [n, h, w, planes, words(co)]. */
function values({ x, n, h, w, co, planes, scale }: ReferenceArgs<"spike_dwconv2d" | "spike_dwconv2d_grad_weight">): Float64Array {
  return Float64Array.from({ length: n * h * w * co }, (_, i) => scale * spikeAt(x, Math.floor(i / co), planes, co, i % co));
}

export const products = {
  gemm({ a, b, c, bias, batch, m, n, k, sa, sb, sc, ta, tb, alpha, accumulate }: ReferenceArgs<"gemm">): void {
    for (let q = 0; q < batch; q++)
      for (let i = 0; i < m; i++)
        for (let j = 0; j < n; j++) {
          let sum = 0;
          for (let l = 0; l < k; l++) sum += a[q * sa + (ta ? l * m + i : i * k + l)]! * b[q * sb + (tb ? j * k + l : l * n + j)]!;
          const at = q * sc + i * n + j;
          c[at] = alpha * sum + (accumulate ? c[at]! : 0) + (bias ? bias[j]! : 0);
        }
  },

  conv2d(g: ReferenceArgs<"conv2d">): void {
    const { x, wt, bias, y, n, h, w, ci, oh, ow, co, ih, iw, xs, xo, ys, yo } = g;
    // The image with its zero rows and columns put in; only pixels on the grid of ih, iw hold a value.
    const dilated = { ...g, h: (h - 1) * ih + 1, w: (w - 1) * iw + 1 };
    for (let image = 0; image < n; image++)
      for (let oy = 0; oy < oh; oy++)
        for (let ox = 0; ox < ow; ox++) {
          const sum = new Float64Array(co);
          for (const { pixel, tap } of windowTaps(dilated, oy, ox)) {
            const iy = Math.floor(pixel / dilated.w) / ih;
            const ix = (pixel % dilated.w) / iw;
            if (!Number.isInteger(iy) || !Number.isInteger(ix)) continue;
            for (let i = 0; i < ci; i++) {
              const value = x[((image * h + iy) * w + ix) * xs + xo + i]!;
              for (let o = 0; o < co; o++) sum[o]! += value * wt[(tap * ci + i) * co + o]!;
            }
          }
          for (let o = 0; o < co; o++) y[((image * oh + oy) * ow + ox) * ys + yo + o] = sum[o]! + (bias ? bias[o]! : 0);
        }
  },

  conv2d_grad_weight(g: ReferenceArgs<"conv2d_grad_weight">): void {
    const { x, gy, gw, n, h, w, ci, oh, ow, co, kh, kw, xs, xo, ys, yo } = g;
    gw.fill(0, 0, kh * kw * ci * co);
    for (let image = 0; image < n; image++)
      for (const { pixel, tap, out } of allTaps(g))
        for (let i = 0; i < ci; i++)
          for (let o = 0; o < co; o++)
            gw[(tap * ci + i) * co + o]! += x[(image * h * w + pixel) * xs + xo + i]! * gy[(image * oh * ow + out) * ys + yo + o]!;
  },

  dwconv2d(g: ReferenceArgs<"dwconv2d">): void {
    const { x, wt, bias, y, n, h, w, oh, ow, co: c } = g;
    for (let image = 0; image < n; image++)
      for (let oy = 0; oy < oh; oy++)
        for (let ox = 0; ox < ow; ox++)
          for (let i = 0; i < c; i++) {
            let sum = bias ? bias[i]! : 0;
            for (const { pixel, tap } of windowTaps(g, oy, ox)) sum += x[(image * h * w + pixel) * c + i]! * wt[tap * c + i]!;
            y[((image * oh + oy) * ow + ox) * c + i] = sum;
          }
  },

  dwconv2d_grad_input(g: ReferenceArgs<"dwconv2d_grad_input">): void {
    const { gy, wt, gx, n, h, w, oh, ow, co: c } = g;
    gx.fill(0, 0, n * h * w * c);
    for (let image = 0; image < n; image++)
      for (const { pixel, tap, out } of allTaps(g))
        for (let i = 0; i < c; i++) gx[(image * h * w + pixel) * c + i]! += gy[(image * oh * ow + out) * c + i]! * wt[tap * c + i]!;
  },

  dwconv2d_grad_weight(g: ReferenceArgs<"dwconv2d_grad_weight">): void {
    const { x, gy, gw, n, h, w, oh, ow, kh, kw, co: c } = g;
    gw.fill(0, 0, kh * kw * c);
    for (let image = 0; image < n; image++)
      for (const { pixel, tap, out } of allTaps(g))
        for (let i = 0; i < c; i++) gw[tap * c + i]! += x[(image * h * w + pixel) * c + i]! * gy[(image * oh * ow + out) * c + i]!;
  },

  spike_dwconv2d(g: ReferenceArgs<"spike_dwconv2d">): void {
    products.dwconv2d({ ...g, x: values(g) });
  },

  spike_dwconv2d_grad_weight(g: ReferenceArgs<"spike_dwconv2d_grad_weight">): void {
    products.dwconv2d_grad_weight({ ...g, x: values(g) });
  },

  spike_conv2d(g: ReferenceArgs<"spike_conv2d">): void {
    const { x, wt, bias, y, n, h, w, ci, oh, ow, co, planes, scale } = g;
    for (let image = 0; image < n; image++)
      for (let oy = 0; oy < oh; oy++)
        for (let ox = 0; ox < ow; ox++) {
          const sum = new Float64Array(co);
          for (const { pixel, tap } of windowTaps(g, oy, ox))
            for (let i = 0; i < ci; i++) {
              const spike = spikeAt(x, image * h * w + pixel, planes, ci, i);
              if (spike !== 0) for (let o = 0; o < co; o++) sum[o]! += spike * wt[(tap * ci + i) * co + o]!;
            }
          for (let o = 0; o < co; o++) y[((image * oh + oy) * ow + ox) * co + o] = scale * sum[o]! + (bias ? bias[o]! : 0);
        }
  },

  spike_conv2d_table(g: ReferenceArgs<"spike_conv2d_table">): void {
    products.spike_conv2d({ ...g, terms: 0 });
  },

  spike_conv2d_grad_weight(g: ReferenceArgs<"spike_conv2d_grad_weight">): void {
    const { x, gy, gw, n, h, w, ci, oh, ow, co, kh, kw, planes, scale, chunks } = g;
    const size = kh * kw * ci * co;
    gw.fill(0, 0, chunks * size);
    for (let image = 0; image < n; image++) {
      let chunk = 0;
      while (image >= Math.floor((n * (chunk + 1)) / chunks)) chunk++;
      for (const { pixel, tap, out } of allTaps(g))
        for (let i = 0; i < ci; i++) {
          const spike = scale * spikeAt(x, image * h * w + pixel, planes, ci, i);
          if (spike === 0) continue;
          for (let o = 0; o < co; o++) gw[chunk * size + (tap * ci + i) * co + o]! += spike * gy[(image * oh * ow + out) * co + o]!;
        }
    }
  },
};
