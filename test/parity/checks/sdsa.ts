/** Fixtures of the attention operator by itself: both published forms, the dvs variant, and the "Erode" pool. */
import { models, nn, snn, type Tensor, tensor } from "spikeloom";
import { type Check, compare, holds } from "../compare.ts";
import { type Fixture, inputArrays, type NdArray, type Stored, storedValues } from "../fixture.ts";

/** (T, B, h, N, d) spikes -> our [T*B*h, N, d]. */
function bits(array: NdArray): Tensor {
  const [t, b, h, n, d] = array.shape as [number, number, number, number, number];
  return tensor(Float32Array.from(array.data as Float32Array), [t, b * h, n, d]).toSpikes();
}

/** SN(sum over tokens of a*b): the mask [T, B*h, d]. */
function mask(a: Tensor, b: Tensor, pool: boolean): { pooled: Tensor; sum: Tensor; mask: Tensor } {
  const product = snn.and(a, b);
  const pooled = pool ? dilatePlane(product) : product;
  const sum = snn.countRows(pooled);
  const neuron = new snn.LIF({ tau: 2, vThreshold: 0.5, vReset: 0, detachReset: true, surrogate: snn.surrogate.sigmoid({ alpha: 4 }) });
  return { pooled, sum, mask: neuron.forward(sum) };
}

function dilatePlane(x: Tensor): Tensor {
  const [t, bh, n, d] = x.shape as [number, number, number, number];
  return nn.maxPool2d(x.reshape([t * bh, n, d, 1]), 3, { stride: 1, padding: 1 }).reshape(x.shape);
}

const like = (value: Tensor, stored: Stored): NdArray => ({ ...models.toOfficial(value), shape: stored.shape });

export function operatorChecks(fixture: Fixture): Check[] {
  const inputs = inputArrays(fixture);
  const given = fixture.inputs_bits as Record<string, Stored>;
  const checks = Object.entries(given).map(([name, stored]) => {
    const expected = storedValues(stored) as Float64Array;
    const data = inputs.get(name)?.data as Float32Array;
    return holds(
      `input ${name}`,
      data.every((v, i) => v === expected[i]),
    );
  });
  const [q, k, v] = ["q", "k", "v"].map((name) => bits(inputs.get(name) as NdArray)) as [Tensor, Tensor, Tensor];

  const two = fixture.version_2_code as Record<string, Stored>;
  const kv = mask(k, v, false);
  const pairs: [string, Tensor, Stored | undefined][] = [
    ["version 2 sum", kv.sum, two.kv_sum],
    ["version 2 mask", kv.mask, two.mask],
    ["version 2 out", snn.andRows(q, kv.mask), two.out],
  ];
  const one = fixture.version_1_paper as Record<string, Stored>;
  const qk = mask(q, k, false);
  pairs.push(["version 1 mask", qk.mask, one.mask], ["version 1 out", snn.andRows(v, qk.mask), one.out]);
  const dvs = fixture.dvs_variant as Record<string, Stored>;
  const wide = mask(k, v, true);
  pairs.push(
    ["dvs pooled", wide.pooled, dvs.kv_pooled],
    ["dvs mask", wide.mask, dvs.mask],
    ["dvs out", dilatePlane(snn.andRows(q, wide.mask)), dvs.out],
  );
  for (const [what, value, stored] of pairs)
    checks.push(stored ? compare(what, like(value, stored), stored, 0) : holds(what, false, "is not in the fixture"));
  return checks;
}

export function erodeChecks(fixture: Fixture): Check[] {
  const x = inputArrays(fixture).get("x") as NdArray;
  const [, , , h, w] = x.shape as [number, number, number, number, number];
  const pooled = nn.maxPool2d(tensor(Float32Array.from(x.data as Float32Array), [x.data.length / (h * w), h, w, 1]), 3, {
    stride: 1,
    padding: 1,
  });
  const stored = (fixture.outputs as Record<string, Stored>).y as Stored;
  // The stored values have nine digits of a float32: equal after rounding to float32.
  const rounded = { ...stored, values: (stored.values as number[]).map(Math.fround) };
  const found = like(pooled, stored);
  return [compare("y", { ...found, dtype: "f32", data: Float32Array.from(found.data as Float32Array) }, rounded, 0)];
}
