// Reductions over the middle axis of [outer, n, inner], running sums, sums of squares, and sorting rows.
#pragma once

// What a reduction starts from, and how it combines vectors or numbers. A NaN stays.
struct Sum {
  static float identity() { return 0.0f; }
  template <class T>
  static T combine(T a, T b) { return a + b; }
};
struct Max {
  static float identity() { return -INF; }
  template <class T>
  static T combine(T a, T b) { return ((a > b) | (a != a)) ? a : b; }
};
struct Min {
  static float identity() { return INF; }
  template <class T>
  static T combine(T a, T b) { return ((a < b) | (a != a)) ? a : b; }
};
struct Prod {
  static float identity() { return 1.0f; }
  template <class T>
  static T combine(T a, T b) { return a * b; }
};

// An accumulator in three levels: 64 terms go to the first, 64 of those to the second, the rest to the third. Rounding errors
// then grow with about 128 + terms / 4096 instead of with the number of terms.
template <class Op>
struct Cascade {
  vf level[3];
  INLINE_METHOD Cascade() { level[0] = level[1] = level[2] = splat(Op::identity()); }
  INLINE_METHOD void add(vf x) { level[0] = Op::combine(level[0], x); }
  // After the term with this index (from 0).
  INLINE_METHOD void carry(int64_t term) {
    if ((term & 63) != 63) return;
    level[1] = Op::combine(level[1], level[0]);
    level[0] = splat(Op::identity());
    if ((term & 4095) != 4095) return;
    level[2] = Op::combine(level[2], level[1]);
    level[1] = splat(Op::identity());
  }
  INLINE_METHOD vf total() const { return Op::combine(level[2], Op::combine(level[1], level[0])); }
};

// x[0..n) to one number.
template <class Op>
INLINE float reduce_line(const float* x, int64_t n) {
  Cascade<Op> sum[4];
  int64_t i = 0, term = 0;
  for (; i + 4 * LANES <= n; i += 4 * LANES, term++)
    for (int k = 0; k < 4; k++) {
      sum[k].add(load(x + i + k * LANES));
      sum[k].carry(term);
    }
  vf total = Op::combine(Op::combine(sum[0].total(), sum[1].total()), Op::combine(sum[2].total(), sum[3].total()));
  for (; i + LANES <= n; i += LANES) total = Op::combine(total, load(x + i));
  float y = fold(total, [](auto a, auto b) VEC_LAMBDA { return Op::combine(a, b); });
  for (; i < n; i++) y = Op::combine(y, x[i]);
  return y;
}

// Columns of WIDTH vectors starting at x, over n rows `stride` apart; written to y times scale. `lanes` < LANES for a partial vector.
template <class Op, int WIDTH>
INLINE void reduce_columns(const float* x, int64_t n, int64_t stride, float* y, float scale, int lanes = LANES) {
  Cascade<Op> sum[WIDTH];
  for (int64_t j = 0; j < n; j++)
    for (int k = 0; k < WIDTH; k++) {
      const float* p = x + j * stride + k * LANES;
      sum[k].add(load_lanes(p, lanes));
      sum[k].carry(j);
    }
  for (int k = 0; k < WIDTH; k++) store_lanes(y + k * LANES, scale * sum[k].total(), lanes);
}

template <class Op>
static void reduce_as(const reduce_args& a, const Tile& tile) {
  const float* x = a.x;
  float *y = a.y, scale = a.scale;
  int64_t n = a.n, inner = a.inner, chunks = a.chunks;
  for (int64_t u = tile.begin(a.outer * chunks), end = tile.end(a.outer * chunks); u < end; u++) {
    int64_t o = u / chunks, q = u % chunks, first = n * q / chunks, count = n * (q + 1) / chunks - first;
    const float* from = x + (o * n + first) * inner;
    float* to = y + u * inner;
    if (inner == 1) {
      *to = scale * reduce_line<Op>(from, count);
      continue;
    }
    int64_t i = 0;
    for (; i + 4 * LANES <= inner; i += 4 * LANES) reduce_columns<Op, 4>(from + i, count, inner, to + i, scale);
    for (; i + LANES <= inner; i += LANES) reduce_columns<Op, 1>(from + i, count, inner, to + i, scale);
    if (i < inner) reduce_columns<Op, 1>(from + i, count, inner, to + i, scale, (int)(inner - i));
  }
}

KERNEL(reduce) {
  switch (a.op) {
    case REDUCE_sum: return reduce_as<Sum>(a, tile);
    case REDUCE_max: return reduce_as<Max>(a, tile);
    case REDUCE_min: return reduce_as<Min>(a, tile);
    case REDUCE_prod: return reduce_as<Prod>(a, tile);
  }
}

// The first NaN wins over every number, as in the maximum itself.
KERNEL(argreduce) {
  const float* x = a.x;
  int32_t* y = a.y;
  int64_t n = a.n, inner = a.inner;
  const float sign = a.op == REDUCE_max ? 1.0f : -1.0f;
  for (int64_t o = tile.begin(a.outer), end = tile.end(a.outer); o < end; o++)
    for (int64_t i = 0; i < inner; i += LANES) {
      int lanes = inner - i < LANES ? (int)(inner - i) : LANES;
      const float* column = x + o * n * inner + i;
      vf best = sign * load_lanes(column, lanes);
      vi index{};
      for (int64_t j = 1; j < n; j++) {
        const float* p = column + j * inner;
        vf v = sign * load_lanes(p, lanes);
        vi better = ((v > best) | (v != v)) & (best == best);
        best = select(better, v, best);
        index = better ? splat((int32_t)j) : index;
      }
      for (int l = 0; l < lanes; l++) y[o * inner + i + l] = index[l];
    }
}

// Running sums in double, in strips of columns that fit the scratch memory.
KERNEL(cumsum) {
  const float* x = a.x;
  float* y = a.y;
  double* sum = reinterpret_cast<double*>(tile.scratch);
  const int64_t n = a.n, inner = a.inner, strip = 1024;
  const bool reverse = a.reverse;
  for (int64_t o = tile.begin(a.outer), end = tile.end(a.outer); o < end; o++)
    for (int64_t first = 0; first < inner; first += strip) {
      int64_t width = inner - first < strip ? inner - first : strip;
      for (int64_t i = 0; i < width; i++) sum[i] = 0;
      for (int64_t j = 0; j < n; j++) {
        int64_t row = (o * n + (reverse ? n - 1 - j : j)) * inner + first;
        for (int64_t i = 0; i < width; i++) y[row + i] = (float)(sum[i] += x[row + i]);
      }
    }
}

KERNEL(sum_squares) {
  const float* x = a.x;
  float* partial = a.partial;
  int64_t n = a.n, chunks = a.chunks;
  typedef double vd __attribute__((vector_size(2 * VEC_BYTES)));
  for (int64_t q = tile.begin(chunks), end = tile.end(chunks); q < end; q++) {
    int64_t i = n * q / chunks, stop = n * (q + 1) / chunks;
    vd even{}, odd{};
    for (; i + 2 * LANES <= stop; i += 2 * LANES) {
      vd u = __builtin_convertvector(load(x + i), vd), v = __builtin_convertvector(load(x + i + LANES), vd);
      even += u * u;
      odd += v * v;
    }
    double sum = 0;
    for (int l = 0; l < LANES; l++) sum += even[l] + odd[l];
    for (; i < stop; i++) sum += (double)x[i] * x[i];
    partial[q] = (float)sum;
  }
}

// A float's place in rising order: -0 as 0, NaN above all.
static uint32_t rank_of(uint32_t bits) {
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0xFFFFFFFFu;
  if (bits == 0x80000000u) bits = 0;
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// A heap of the k first entries, the last of them at its root, held in the outputs themselves. Entries are ordered by value, then by
// position, so that no two are equal and the order is stable.
KERNEL(sort) {
  const int64_t n = a.n, k = a.k;
  const uint32_t flip = a.descending ? 0xFFFFFFFFu : 0;
  for (int64_t r = tile.begin(a.rows), end = tile.end(a.rows); r < end; r++) {
    const uint32_t* x = (const uint32_t*)a.x + r * n;
    uint32_t *y = (uint32_t*)a.y + r * k, *index = (uint32_t*)a.index + r * k;
    auto entry = [=](int64_t i) { return (uint64_t)(rank_of(x[i]) ^ flip) << 32 | (uint64_t)i; };
    auto held = [=](int64_t i) { return (uint64_t)y[i] << 32 | index[i]; };
    auto hold = [=](int64_t i, uint64_t e) {
      y[i] = (uint32_t)(e >> 32);
      index[i] = (uint32_t)e;
    };
    // Put e where the root was, in a heap of `size`.
    auto sink = [=](int64_t at, int64_t size, uint64_t e) {
      for (int64_t child = 2 * at + 1; child < size; child = 2 * at + 1) {
        if (child + 1 < size && held(child + 1) > held(child)) child++;
        if (held(child) <= e) break;
        hold(at, held(child));
        at = child;
      }
      hold(at, e);
    };
    for (int64_t i = 0; i < k; i++) hold(i, entry(i));
    for (int64_t i = k / 2 - 1; i >= 0; i--) sink(i, k, held(i));
    for (int64_t i = k; i < n; i++)
      if (entry(i) < held(0)) sink(0, k, entry(i));
    for (int64_t size = k - 1; size > 0; size--) {
      const uint64_t last = held(size);
      hold(size, held(0));
      sink(0, size, last);
    }
    for (int64_t i = 0; i < k; i++) y[i] = x[index[i]];
  }
}
