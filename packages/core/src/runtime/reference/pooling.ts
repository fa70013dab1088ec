/** Reference kernels: maximum and average pooling. */
import type { ReferenceArgs } from "./args.ts";
import { words } from "./spikes.ts";
import { allTaps, windowTaps } from "./window.ts";

/** Pixels of the adaptive window of output row (or column) o of `outputs` over `inputs`. */
function adaptiveWindow(o: number, outputs: number, inputs: number): { from: number; to: number } {
  return { from: Math.floor((o * inputs) / outputs), to: Math.ceil(((o + 1) * inputs) / outputs) };
}

export const pooling = {
  maxpool2d(g: ReferenceArgs<"maxpool2d">): void {
    const { x, y, index, n, h, w, oh, ow, co: c } = g;
    for (let image = 0; image < n; image++)
      for (let oy = 0; oy < oh; oy++)
        for (let ox = 0; ox < ow; ox++)
          for (let i = 0; i < c; i++) {
            let best = -Infinity;
            let where = -1;
            for (const { pixel } of windowTaps(g, oy, ox)) {
              const value = x[(image * h * w + pixel) * c + i]!;
              // A NaN is the greatest of all: it must not vanish here.
              if (where < 0 || value > best || Number.isNaN(value)) {
                best = value;
                where = pixel;
              }
            }
            const at = ((image * oh + oy) * ow + ox) * c + i;
            y[at] = best;
            if (index) index[at] = where;
          }
  },

  maxpool2d_grad({ gy, index, gx, n, h, w, oh, ow, co: c }: ReferenceArgs<"maxpool2d_grad">): void {
    gx.fill(0, 0, n * h * w * c);
    for (let image = 0; image < n; image++)
      for (let out = 0; out < oh * ow; out++)
        for (let i = 0; i < c; i++) {
          const at = (image * oh * ow + out) * c + i;
          gx[(image * h * w + index[at]!) * c + i]! += gy[at]!;
        }
  },

  spike_maxpool2d(g: ReferenceArgs<"spike_maxpool2d">): void {
    const { x, y, n, h, w, oh, ow, co } = g;
    const row = words(co);
    for (let image = 0; image < n; image++)
      for (let oy = 0; oy < oh; oy++)
        for (let ox = 0; ox < ow; ox++)
          for (let word = 0; word < row; word++) {
            let any = 0;
            for (const { pixel } of windowTaps(g, oy, ox)) any |= x[(image * h * w + pixel) * row + word]!;
            y[((image * oh + oy) * ow + ox) * row + word] = any;
          }
  },

  spike_maxpool2d_grad(g: ReferenceArgs<"spike_maxpool2d_grad">): void {
    const { x, gy, gx, n, h, w, oh, ow, co: c } = g;
    gx.fill(0, 0, n * h * w * c);
    for (let image = 0; image < n; image++)
      for (let oy = 0; oy < oh; oy++)
        for (let ox = 0; ox < ow; ox++) {
          const taps = windowTaps(g, oy, ox);
          for (let i = 0; i < c; i++) {
            const fired = taps.find(({ pixel }) => (x[(image * h * w + pixel) * words(c) + (i >>> 5)]! >>> (i & 31)) & 1);
            const chosen = fired ?? taps[0];
            if (chosen) gx[(image * h * w + chosen.pixel) * c + i]! += gy[((image * oh + oy) * ow + ox) * c + i]!;
          }
        }
  },

  avgpool2d(g: ReferenceArgs<"avgpool2d">): void {
    const { x, y, n, h, w, oh, ow, kh, kw, co: c, countPad } = g;
    for (let image = 0; image < n; image++)
      for (let oy = 0; oy < oh; oy++)
        for (let ox = 0; ox < ow; ox++) {
          const taps = windowTaps(g, oy, ox);
          for (let i = 0; i < c; i++) {
            let sum = 0;
            for (const { pixel } of taps) sum += x[(image * h * w + pixel) * c + i]!;
            y[((image * oh + oy) * ow + ox) * c + i] = sum / (countPad ? kh * kw : taps.length);
          }
        }
  },

  avgpool2d_grad(g: ReferenceArgs<"avgpool2d_grad">): void {
    const { gy, gx, n, h, w, oh, ow, kh, kw, co: c, countPad } = g;
    gx.fill(0, 0, n * h * w * c);
    for (let image = 0; image < n; image++)
      for (const { pixel, out } of allTaps(g)) {
        const divisor = countPad ? kh * kw : windowTaps(g, Math.floor(out / ow), out % ow).length;
        for (let i = 0; i < c; i++) gx[(image * h * w + pixel) * c + i]! += gy[(image * oh * ow + out) * c + i]! / divisor;
      }
  },

  adaptive_avgpool2d({ x, y, n, h, w, c, oh, ow }: ReferenceArgs<"adaptive_avgpool2d">): void {
    for (let image = 0; image < n; image++)
      for (let oy = 0; oy < oh; oy++)
        for (let ox = 0; ox < ow; ox++)
          for (let i = 0; i < c; i++) {
            const rows = adaptiveWindow(oy, oh, h);
            const columns = adaptiveWindow(ox, ow, w);
            let sum = 0;
            for (let iy = rows.from; iy < rows.to; iy++)
              for (let ix = columns.from; ix < columns.to; ix++) sum += x[((image * h + iy) * w + ix) * c + i]!;
            y[((image * oh + oy) * ow + ox) * c + i] = sum / ((rows.to - rows.from) * (columns.to - columns.from));
          }
  },

  adaptive_avgpool2d_grad({ gy, gx, n, h, w, c, oh, ow }: ReferenceArgs<"adaptive_avgpool2d_grad">): void {
    gx.fill(0, 0, n * h * w * c);
    for (let image = 0; image < n; image++)
      for (let oy = 0; oy < oh; oy++)
        for (let ox = 0; ox < ow; ox++)
          for (let i = 0; i < c; i++) {
            const rows = adaptiveWindow(oy, oh, h);
            const columns = adaptiveWindow(ox, ow, w);
            const share = gy[((image * oh + oy) * ow + ox) * c + i]! / ((rows.to - rows.from) * (columns.to - columns.from));
            for (let iy = rows.from; iy < rows.to; iy++)
              for (let ix = columns.from; ix < columns.to; ix++) gx[((image * h + iy) * w + ix) * c + i]! += share;
          }
  },
};
