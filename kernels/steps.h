// Integer spikes as binary virtual steps: the thermometer code and back, and products of matrices that differ from sample to sample.
#pragma once

// Step d of n is [n > d]: 32 channels are compared at once, bit plane by bit plane from the top.
KERNEL(spike_steps) {
  const int64_t words = a.words, planes = a.planes, steps = a.steps, end = tile.end(a.rows);
  for (int64_t r = tile.begin(a.rows); r < end; r++) {
    const uint32_t* x = (const uint32_t*)a.x + r * planes * words;
    uint32_t* y = (uint32_t*)a.y + r * steps * words;
    for (int64_t d = 0; d < steps; d++, y += words)
      for (int64_t k = 0; k < words; k++) {
        uint32_t above = 0, equal = ~0u;
        for (int64_t p = planes - 1; p >= 0; p--) {
          const uint32_t bits = x[p * words + k];
          if ((d >> p) & 1) {
            equal &= bits;
          } else {
            above |= equal & bits;
            equal &= ~bits;
          }
        }
        y[k] = above;
      }
  }
}

// Counts the steps of 32 channels at once: a ripple of carries through the bit planes.
KERNEL(spike_levels) {
  const int64_t words = a.words, planes = a.planes, steps = a.steps, end = tile.end(a.rows);
  for (int64_t r = tile.begin(a.rows); r < end; r++) {
    const uint32_t* x = (const uint32_t*)a.x + r * steps * words;
    uint32_t* y = (uint32_t*)a.y + r * planes * words;
    for (int64_t k = 0; k < planes * words; k++) y[k] = 0;
    for (int64_t d = 0; d < steps; d++, x += words)
      for (int64_t k = 0; k < words; k++) {
        uint32_t carry = x[k];
        for (int64_t p = 0; p < planes && carry; p++) {
          const uint32_t sum = y[p * words + k];
          y[p * words + k] = sum ^ carry;
          carry &= sum;
        }
      }
  }
}

// y[0..cols) = scale * sum of the listed rows of w; an entry is the row's offset in bytes.
template <int V>
static __attribute__((noinline)) void add_listed(float* y, const float* w, const uint32_t* list, const uint32_t* end, int64_t cols,
                                                 float scale) {
  const int part = (int)(cols - (V - 1) * LANES);
  vf s[V];
  for (int v = 0; v < V; v++) s[v] = vf{};
  for (; list < end; list++) {
    const float* row = (const float*)((uintptr_t)w + *list);
    for (int v = 0; v < V - 1; v++) s[v] += load(row + v * LANES);
    s[V - 1] += load_lanes(row + (V - 1) * LANES, part);
  }
  for (int v = 0; v < V - 1; v++) store(y + v * LANES, s[v] * splat(scale));
  store_lanes(y + (V - 1) * LANES, s[V - 1] * splat(scale), part);
}
template <int V>
INLINE void add_listed_of(int64_t vecs, float* y, const float* w, const uint32_t* list, const uint32_t* end, int64_t cols, float scale) {
  if constexpr (V > 0) {
    if (vecs == V) return add_listed<V>(y, w, list, end, cols, scale);
    add_listed_of<V - 1>(vecs, y, w, list, end, cols, scale);
  }
}

static_assert(STEPS_LIMITS_WORDS * 128 + 64 <= SCRATCH_BYTES, "scratch");

KERNEL(spike_matmul) {
  const int64_t m = a.m, k = a.k, n = a.n, words = ceil_div(k, 32), steps = a.steps, units = (int64_t)a.batch * m, end = tile.end(units);
  const BitList bits((uint32_t)(n * 4));
  uint32_t* const list = (uint32_t*)tile.scratch;
  for (int64_t u = tile.begin(units); u < end; u++) {
    const uint32_t* x = (const uint32_t*)a.x + u * steps * words;
    const float* w = (const float*)a.w + u / m * k * n;
    float* y = (float*)a.y + u * n;
    uint32_t* to = list;
    for (int64_t d = 0; d < steps; d++)
      for (int64_t j = 0; j < words; j++) to = bits.append(to, *x++, (uint32_t)(j * 32 * n * 4));
    for (int64_t col = 0; col < n; col += SPIKE_COLS) {
      const int64_t cols = least(SPIKE_COLS, n - col);
      add_listed_of<SPIKE_VECS>(ceil_div(cols, LANES), y + col, w + col, list, to, cols, a.scale);
    }
  }
}
