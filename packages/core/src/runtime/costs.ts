/**
 * What a product with spikes costs by each of its implementations: a linear model of a few pieces of work, whose prices are constants
 * of the instruction set. `npm run bench -- --fit` measures them. Only ratios matter; the unit is a nanosecond of the machine
 * that they were measured on.
 */

/** Shape of a product: a convolution, or a matrix product as one of `n` images of one pixel. */
export interface ProductShape {
  n: number;
  h: number;
  w: number;
  ci: number;
  oh: number;
  ow: number;
  co: number;
  kh: number;
  kw: number;
}

/** Prices of pieces of work. */
export interface Prices {
  /** Event: add one vector of a weight (or gradient) row for one spike. */
  add: number;
  /** Event: read and write one vector of sums, whether there are spikes or not. */
  visit: number;
  /** Dense: multiply and add one vector. */
  multiply: number;
  /** Dense: unpack and copy one vector of spikes. */
  copy: number;
}

type Products = "spikeProduct" | "spikeProductGradWeight";

/** Floats in a vector. */
export const LANES: Readonly<Record<string, number>> = {
  amx: 16,
  avx512: 16,
  avx2: 8,
  baseline: 4,
  neon: 4,
  simd128: 4,
  "relaxed-simd": 4,
};

const SIMD128 = {
  spikeProduct: { add: 0.232, visit: 2.18, multiply: 0.263, copy: 0.751 },
  spikeProductGradWeight: { add: 0.288, visit: 0.598, multiply: 0.251, copy: 1.54 },
};

/** Instruction set -> prices. One that is not here always adds rows. Measured on Zen 4, 2026-11. */
export const PRICES: Readonly<Record<string, Readonly<Record<Products, Prices>>>> = {
  avx512: {
    spikeProduct: { add: 0.412, visit: 2.63, multiply: 0.311, copy: 3.15 },
    spikeProductGradWeight: { add: 0.459, visit: 1.04, multiply: 0.325, copy: 1.75 },
  },
  // Not measured on a machine with AMX: rows are added as on avx512; tiles multiply in three terms at half their documented rate, and
  // packing takes what it takes on Zen 4 with the tile instructions left out.
  amx: {
    spikeProduct: { add: 0.396, visit: 2.8, multiply: 0.12, copy: 1 },
    spikeProductGradWeight: { add: 0.443, visit: 0.969, multiply: 0.15, copy: 3 },
  },
  avx2: {
    spikeProduct: { add: 0.242, visit: 2.03, multiply: 0.204, copy: 0.302 },
    spikeProductGradWeight: { add: 0.271, visit: 0.547, multiply: 0.17, copy: 0.97 },
  },
  baseline: {
    spikeProduct: { add: 0.181, visit: 1.81, multiply: 0.255, copy: 0.931 },
    spikeProductGradWeight: { add: 0.181, visit: 0.572, multiply: 0.275, copy: 1.23 },
  },
  simd128: SIMD128,
  // Dense products are faster there; the difference was not measured.
  "relaxed-simd": SIMD128,
};

/** Pieces of work of a product, those of `event` for one set bit. */
export interface Work {
  add: number;
  visit: number;
  multiply: number;
  copy: number;
}

/** How much of each piece a product is. */
export function workOf(operation: Products, { n, h, w, ci, oh, ow, co, kh, kw }: ProductShape, planes: number, lanes: number): Work {
  const vectors = Math.ceil(co / lanes);
  const positions = n * oh * ow;
  const taps = kh * kw;
  return {
    add: ((oh * ow * taps) / (h * w)) * vectors,
    // Forward sums are written once for each row of the window; those of the weights for each block of 32 or more positions.
    visit: (operation === "spikeProduct" ? positions * kh : (positions * taps * ci) / 32) * vectors * planes,
    multiply: positions * taps * ci * vectors,
    copy: (positions * taps * ci) / lanes,
  };
}

/** Nanoseconds that counting takes: a call of a kernel, and for each word of 32 bits. */
const COUNT_CALL = 3000;
const COUNT_WORD = 0.8;
/** Most that counting may take of what a product of few spikes takes, and how many are few. */
const COUNT_PART = 0.03;
const FEW = 0.1;
/** Part of the elements up to which rows are added whatever the prices say: unpacking takes memory, 32 times that of the bits. */
const SPARSE = 0.25;

/** Up to how many set bits adding rows is the cheaper: Infinity where it always is. */
export function mostEventBits(prices: Prices, operation: Products, shape: ProductShape, planes: number, lanes: number): number {
  const work = workOf(operation, shape, planes, lanes);
  const dense = work.multiply * prices.multiply + work.copy * prices.copy;
  const elements = shape.n * shape.h * shape.w * shape.ci;
  const most = (dense - work.visit * prices.visit) / (work.add * prices.add);
  const counting = COUNT_CALL + (elements * planes * COUNT_WORD) / 32;
  const few = work.visit * prices.visit + FEW * elements * work.add * prices.add;
  // Not `>=`: an empty product has no answer.
  return most < elements * planes && counting < COUNT_PART * few ? Math.floor(Math.max(most, SPARSE * elements)) : Number.POSITIVE_INFINITY;
}
