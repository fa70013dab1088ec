/**
 * When products go to matrix units (Intel AMX, kernels/amx.h), and in how many bf16 terms of a float32. Rules and prices follow from
 * documented rates - a product of 16 x 32 x 16 in 16 cycles, that is 512 multiply-adds a cycle for one term, 171 for spikes in three
 * terms, 85 for six products of two float32, beside 32 of AVX-512 - and from the time of packing on a machine without AMX. They were
 * NOT MEASURED on hardware so far.
 */
import { implementation, implementationForced } from "./implementations.ts";
import { MATMUL_TERMS, matmulPrecision } from "./precision.ts";

/**
 * Tiles (in the sense of `tilesFor`) of a product of so many rows and columns on matrix units: each splits the weights that it meets anew,
 * which takes as long as some hundred rows.
 */
export const tilesOfTerms = (tiles: number, rows: number, terms: number): number =>
  terms ? Math.max(1, Math.min(tiles, Math.floor(rows / 512))) : tiles;

/** The second one is for tests: tiles in plain code. */
const hasTiles = (isa: string): boolean => isa === "amx" || isa === "amx_emulated";

/** Terms for a product with spikes that does not go event by event: 0 without matrix units. */
export function spikeTerms(isa: string): number {
  return hasTiles(isa) ? MATMUL_TERMS[matmulPrecision()] : 0;
}

/**
 * Terms for a product of two float32 operands, [m, k] x [k, n]: 0 (float32 as it is) without matrix units, where tiles would stay half
 * empty, and by default at the highest precision: splitting and packing both operands for six products leaves too little of the
 * gain to rely on unmeasured.
 */
export function denseTerms(isa: string, m: number, k: number, n: number): number {
  if (!hasTiles(isa) || Math.min(m, k, n) < 16) return 0;
  const terms = MATMUL_TERMS[matmulPrecision()];
  const name = implementationForced("denseProduct") || terms === 3 ? implementation("denseProduct") : "tiles";
  return name === "tiles" ? terms : 0;
}
