/** Firing rates at every position of an image: what attention maps show. */
import type { Tensor } from "../tensor/tensor.ts";

/** [T, B, positions..., D] -> for each of B the mean over T and D at every position. */
export function positionRates(value: Tensor): Float64Array[] {
  const [t, b] = value.shape as [number, number];
  const d = value.shape[value.rank - 1] as number;
  const n = value.size / (t * b * d);
  const values = value.dataSync();
  return Array.from({ length: b }, (_, sample) => {
    const rates = new Float64Array(n);
    for (let step = 0; step < t; step++)
      for (let p = 0; p < n; p++) {
        const at = ((step * b + sample) * n + p) * d;
        for (let c = 0; c < d; c++) rates[p] = (rates[p] as number) + (values[at + c] as number);
      }
    return rates.map((r) => r / (t * d));
  });
}
