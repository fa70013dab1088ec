/** Reference kernels: batch and layer normalisation, softmax. */
import { exp, log } from "../math.ts";
import type { ReferenceArgs } from "./args.ts";
import { chunkStart } from "./reduce.ts";

export const norm = {
  channel_stats({ x, partial, rows, c, chunks }: ReferenceArgs<"channel_stats">): void {
    for (let q = 0; q < chunks; q++) {
      const from = chunkStart(rows, q, chunks);
      const to = chunkStart(rows, q + 1, chunks);
      for (let i = 0; i < c; i++) {
        let sum = 0;
        for (let r = from; r < to; r++) sum += x[r * c + i]!;
        const mean = to > from ? sum / (to - from) : 0;
        let deviation = 0;
        for (let r = from; r < to; r++) deviation += (x[r * c + i]! - mean) * (x[r * c + i]! - mean);
        partial[2 * q * c + i] = mean;
        partial[(2 * q + 1) * c + i] = deviation;
      }
    }
  },

  bn_coefficients(args: ReferenceArgs<"bn_coefficients">): void {
    const { partial, chunks, c, rows, copies, gamma, beta, eps, momentum, runningMean, runningVar, mean, rstd, scale, shift } = args;
    for (let i = 0; i < c; i++) {
      // Chan, Golub and LeVeque 1979: statistics of a union from those of its parts.
      let count = 0;
      let average = 0;
      let deviation = 0;
      for (let q = 0; q < chunks; q++) {
        const size = chunkStart(rows, q + 1, chunks) - chunkStart(rows, q, chunks);
        if (size === 0) continue;
        const difference = partial[2 * q * c + i]! - average;
        average += (difference * size) / (count + size);
        deviation += partial[(2 * q + 1) * c + i]! + (difference * difference * count * size) / (count + size);
        count += size;
      }
      const variance = deviation / rows;
      mean[i] = average;
      rstd[i] = 1 / Math.sqrt(variance + eps);
      scale[i] = (gamma ? gamma[i]! : 1) * rstd[i]!;
      shift[i] = (beta ? beta[i]! : 0) - average * scale[i]!;
      if (runningMean) runningMean[i]! += momentum * (average - runningMean[i]!);
      if (runningVar) runningVar[i]! += momentum * ((deviation * copies) / (rows * copies - 1) - runningVar[i]!);
    }
  },

  bn_grad_sums({ x, gy, mean, rstd, partial, rows, c, chunks }: ReferenceArgs<"bn_grad_sums">): void {
    for (let q = 0; q < chunks; q++)
      for (let i = 0; i < c; i++) {
        let sum = 0;
        let product = 0;
        for (let r = chunkStart(rows, q, chunks); r < chunkStart(rows, q + 1, chunks); r++) {
          sum += gy[r * c + i]!;
          product += gy[r * c + i]! * (x[r * c + i]! - mean[i]!) * rstd[i]!;
        }
        partial[2 * q * c + i] = sum;
        partial[(2 * q + 1) * c + i] = product;
      }
  },

  bn_grad_coefficients(args: ReferenceArgs<"bn_grad_coefficients">): void {
    const { partial, chunks, c, rows, gamma, mean, rstd, training, ggamma, gbeta, a, b, d } = args;
    for (let i = 0; i < c; i++) {
      let sum = 0;
      let product = 0;
      for (let q = 0; q < chunks; q++) {
        sum += partial[2 * q * c + i]!;
        product += partial[(2 * q + 1) * c + i]!;
      }
      if (ggamma) ggamma[i] = product;
      if (gbeta) gbeta[i] = sum;
      const s = (gamma ? gamma[i]! : 1) * rstd[i]!;
      a[i] = s;
      b[i] = training ? (-s * rstd[i]! * product) / rows : 0;
      d[i] = training ? (-s * sum) / rows - b[i]! * mean[i]! : 0;
    }
  },

  layernorm({ x, gamma, beta, y, mean, rstd, rows, c, eps, centre }: ReferenceArgs<"layernorm">): void {
    for (let r = 0; r < rows; r++) {
      let sum = 0;
      for (let i = 0; i < c; i++) sum += x[r * c + i]!;
      const average = centre ? sum / c : 0;
      let deviation = 0;
      for (let i = 0; i < c; i++) deviation += (x[r * c + i]! - average) * (x[r * c + i]! - average);
      mean[r] = average;
      rstd[r] = 1 / Math.sqrt(deviation / c + eps);
      for (let i = 0; i < c; i++) y[r * c + i] = (x[r * c + i]! - average) * rstd[r]! * (gamma ? gamma[i]! : 1) + (beta ? beta[i]! : 0);
    }
  },

  layernorm_grad({ x, gamma, gy, mean, rstd, gx, partial, rows, c, chunks, centre }: ReferenceArgs<"layernorm_grad">): void {
    const xhat = (r: number, i: number): number => (x[r * c + i]! - mean[r]!) * rstd[r]!;
    const gxhat = (r: number, i: number): number => gy[r * c + i]! * (gamma ? gamma[i]! : 1);
    // Ba et al. 2016: the gradient loses its mean (where a mean was taken away) and its part along xhat.
    for (let r = 0; r < rows; r++) {
      let sum = 0;
      let product = 0;
      for (let i = 0; i < c; i++) {
        sum += gxhat(r, i);
        product += gxhat(r, i) * xhat(r, i);
      }
      for (let i = 0; i < c; i++) gx[r * c + i] = rstd[r]! * (gxhat(r, i) - (centre ? sum / c : 0) - (xhat(r, i) * product) / c);
    }
    if (!partial) return;
    for (let q = 0; q < chunks; q++)
      for (let i = 0; i < c; i++) {
        let ggamma = 0;
        let gbeta = 0;
        for (let r = chunkStart(rows, q, chunks); r < chunkStart(rows, q + 1, chunks); r++) {
          ggamma += gy[r * c + i]! * xhat(r, i);
          gbeta += gy[r * c + i]!;
        }
        partial[2 * q * c + i] = ggamma;
        partial[(2 * q + 1) * c + i] = gbeta;
      }
  },

  groupnorm({ x, gamma, beta, y, mean, rstd, coefficients, outer, n, c, groups, eps }: ReferenceArgs<"groupnorm">): void {
    const size = c / groups;
    for (let o = 0; o < outer; o++)
      for (let g = 0; g < groups; g++) {
        const at = (j: number, i: number): number => (o * n + j) * c + g * size + i;
        let sum = 0;
        for (let j = 0; j < n; j++) for (let i = 0; i < size; i++) sum += x[at(j, i)]!;
        const average = sum / (n * size);
        let deviation = 0;
        for (let j = 0; j < n; j++) for (let i = 0; i < size; i++) deviation += (x[at(j, i)]! - average) ** 2;
        mean[o * groups + g] = average;
        rstd[o * groups + g] = 1 / Math.sqrt(deviation / (n * size) + eps);
        for (let i = 0; i < size; i++) {
          const channel = g * size + i;
          const scale = rstd[o * groups + g]! * (gamma ? gamma[channel]! : 1);
          const shift = (beta ? beta[channel]! : 0) - average * scale;
          coefficients[2 * o * c + channel] = scale;
          coefficients[(2 * o + 1) * c + channel] = shift;
          for (let j = 0; j < n; j++) y[at(j, i)] = x[at(j, i)]! * scale + shift;
        }
      }
  },

  groupnorm_grad({ x, gamma, gy, mean, rstd, gx, partial, outer, n, c, groups }: ReferenceArgs<"groupnorm_grad">): void {
    const size = c / groups;
    for (let o = 0; o < outer; o++)
      for (let g = 0; g < groups; g++) {
        const at = (j: number, i: number): number => (o * n + j) * c + g * size + i;
        const [average, r] = [mean[o * groups + g]!, rstd[o * groups + g]!];
        const weight = (i: number): number => (gamma ? gamma[g * size + i]! : 1);
        let [sum, product] = [0, 0]; // of the gradient for xhat, and of that times xhat
        for (let i = 0; i < size; i++) {
          let [ggamma, gbeta] = [0, 0];
          for (let j = 0; j < n; j++) {
            ggamma += gy[at(j, i)]! * (x[at(j, i)]! - average) * r;
            gbeta += gy[at(j, i)]!;
          }
          partial[2 * o * c + g * size + i] = ggamma;
          partial[(2 * o + 1) * c + g * size + i] = gbeta;
          sum += weight(i) * gbeta;
          product += weight(i) * ggamma;
        }
        for (let j = 0; j < n; j++)
          for (let i = 0; i < size; i++) {
            const xhat = (x[at(j, i)]! - average) * r;
            gx[at(j, i)] = r * (gy[at(j, i)]! * weight(i) - (sum + xhat * product) / (n * size));
          }
      }
  },

  softmax({ x, y, rows, c, log: logarithm }: ReferenceArgs<"softmax">): void {
    for (let r = 0; r < rows; r++) {
      let largest = -Infinity;
      for (let i = 0; i < c; i++) largest = Math.max(largest, x[r * c + i]!);
      let sum = 0;
      for (let i = 0; i < c; i++) sum += exp(x[r * c + i]! - largest);
      for (let i = 0; i < c; i++) {
        const shifted = x[r * c + i]! - largest;
        y[r * c + i] = logarithm ? shifted - log(sum) : exp(shifted) / sum;
      }
    }
  },

  softmax_grad({ y, gy, gx, rows, c, log: logarithm }: ReferenceArgs<"softmax_grad">): void {
    for (let r = 0; r < rows; r++) {
      let sum = 0;
      for (let i = 0; i < c; i++) sum += gy[r * c + i]! * (logarithm ? 1 : y[r * c + i]!);
      for (let i = 0; i < c; i++) {
        const at = r * c + i;
        gx[at] = logarithm ? gy[at]! - exp(y[at]!) * sum : y[at]! * (gy[at]! - sum);
      }
    }
  },
};
