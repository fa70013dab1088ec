// Counter-based random numbers: Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, 2011). A number depends on the key and on its own
// index only, hence never on tiles, threads or instruction sets.
#pragma once

typedef uint64_t vl __attribute__((vector_size(VEC_BYTES)));

// Products of the even lanes of a and b, in full.
INLINE vl multiply_even(vu a, vu b) {
#if defined(__AVX512F__) && !defined(__clang__)
  return (vl)__builtin_ia32_pmuludq512_mask((vi)a, (vi)b, (__attribute__((vector_size(64))) long long){}, -1);
#elif defined(__AVX2__) && !defined(__clang__)
  return (vl)__builtin_ia32_pmuludq256((vi)a, (vi)b);
#elif defined(__SSE2__) && !defined(__clang__)
  return (vl)__builtin_ia32_pmuludq128((vi)a, (vi)b);
#else
  return ((vl)a & 0xFFFFFFFFull) * ((vl)b & 0xFFFFFFFFull);
#endif
}

// High and low halves of the products a * m.
INLINE void multiply(vu a, uint32_t m, vu& high, vu& low) {
  const vu factor = vu{} + m;
  vl even = multiply_even(a, factor), odd = multiply_even((vu)((vl)a >> 32), factor);
  high = (vu)((even >> 32) | (odd & 0xFFFFFFFF00000000ull));
  low = (vu)((even & 0xFFFFFFFFull) | (odd << 32));
}

// words[4 * b + j] = word j of block `first + b`, for LANES blocks.
static void philox(uint64_t first, uint32_t key0, uint32_t key1, uint32_t* words) {
  vu c[4] = {};
  for (int b = 0; b < LANES; b++) {
    c[0][b] = (uint32_t)(first + b);
    c[1][b] = (uint32_t)((first + b) >> 32);
  }
  for (int round = 0; round < 10; round++) {
    vu high0, low0, high1, low1;
    multiply(c[0], 0xD2511F53u, high0, low0);
    multiply(c[2], 0xCD9E8D57u, high1, low1);
    c[0] = high1 ^ c[1] ^ key0;
    c[1] = low1;
    c[2] = high0 ^ c[3] ^ key1;
    c[3] = low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  for (int b = 0; b < LANES; b++)
    for (int j = 0; j < 4; j++) words[4 * b + j] = c[j][b];
}

// f(i, words, count) for runs of this tile's elements [i, i + count), with their random words. Units: blocks of four.
template <class F>
INLINE void each_random(const Tile& tile, int64_t n, int64_t offset, uint32_t key0, uint32_t key1, F f) {
  uint32_t words[4 * LANES];
  int64_t blocks = (n + 3) / 4, end = tile.end(blocks);
  for (int64_t b = tile.begin(blocks); b < end; b += LANES) {
    philox((uint64_t)(offset + b), key0, key1, words);
    int64_t stop = 4 * (end - b < LANES ? end : b + LANES);
    f(4 * b, words, (stop < n ? stop : n) - 4 * b);
  }
}

KERNEL(random_uniform) {
  float *y = a.y, lo = a.lo, span = (float)(a.hi.wide() - a.lo.wide());
  each_random(tile, a.n, a.offset, (uint32_t)(int64_t)a.key0, (uint32_t)(int64_t)a.key1, [=](int64_t i, const uint32_t* words, int64_t n) {
    for (int64_t k = 0; k < n; k++) y[i + k] = lo + span * ((float)(int32_t)(words[k] >> 8) * 0x1p-24f);
  });
}

// Value j (0 .. 3) of a block by Box and Muller (1958). The angle is reduced exactly, in integers.
static float normal_of(const uint32_t* block, int64_t j) {
  uint32_t w0 = block[j & 2], w1 = block[(j & 2) + 1];
  double r = sqrt_double(-1.3862943611198906 * log2_double(((double)w0 + 0.5) * 0x1p-32));  // -2 ln u = -2 ln 2 log2 u
  uint32_t quadrant = (w1 + 0x20000000u) >> 30;
  float angle = (float)(int32_t)(w1 - (quadrant << 30)) * 1.46291808e-9f;  // 2 pi / 2^32
  return (float)r * sin_in_quadrant(splat(angle), splat((int32_t)quadrant + (j & 1 ? 0 : 1)))[0];
}

KERNEL(random_normal) {
  float *y = a.y, mean = a.mean, std = a.std, lo = a.lo, hi = a.hi;
  int64_t offset = a.offset;
  uint32_t key0 = (uint32_t)(int64_t)a.key0, key1 = (uint32_t)(int64_t)a.key1;
  each_random(tile, a.n, offset, key0, key1, [=](int64_t i, const uint32_t* words, int64_t n) {
    for (int64_t k = 0; k < n; k++) {
      float v = mean + std * normal_of(words + (k & ~3), k & 3);
      uint32_t again[4 * LANES];
      for (uint64_t attempt = 1; v < lo || v > hi; attempt++) {
        philox((uint64_t)(offset + (i + k) / 4) + (attempt << 40), key0, key1, again);
        v = mean + std * normal_of(again, k & 3);
      }
      y[i + k] = v;
    }
  });
}

KERNEL(dropout) {
  const float* x = a.x;
  float *y = a.y, scale = (float)(1.0 / (1.0 - a.p.wide()));
  // u >= p in integers: u = word / 2^24, and p 2^24 is exact in double.
  double p = a.p.wide() * 0x1p24;
  int32_t least = (int32_t)p;
  least += (double)least < p;
  each_random(tile, a.n, a.offset, (uint32_t)(int64_t)a.key0, (uint32_t)(int64_t)a.key1, [=](int64_t i, const uint32_t* words, int64_t n) {
    for (int64_t k = 0; k < n; k++) y[i + k] = (int32_t)(words[k] >> 8) >= least ? x[i + k] * scale : 0.0f;
  });
}

KERNEL(spike_bernoulli) {
  const int64_t rows = a.rows, c = a.c, words = ceil_div(c, 32), offset = a.offset;
  const uint32_t key0 = (uint32_t)(int64_t)a.key0, key1 = (uint32_t)(int64_t)a.key1;
  uint32_t drawn[4 * LANES];
  int64_t first = -4 * LANES;  // the element of drawn[0]: a block's first
  for (int64_t row = tile.begin(a.steps * rows), end = tile.end(a.steps * rows); row < end; row++) {
    const float* x = (const float*)a.x + row % rows * c;
    uint32_t* y = (uint32_t*)a.y + row * words;
    for (int64_t word = 0; word < words; word++) {
      uint32_t bits = 0;
      for (int64_t j = word * 32; j < least(c, word * 32 + 32); j++) {
        const int64_t i = row * c + j;
        if (i < first || i >= first + 4 * LANES) {
          first = i & ~(int64_t)3;
          philox((uint64_t)(offset + first / 4), key0, key1, drawn);
        }
        bits |= (uint32_t)((float)(int32_t)(drawn[i - first] >> 8) * 0x1p-24f < x[j]) << (j & 31);
      }
      y[word] = bits;
    }
  }
}
