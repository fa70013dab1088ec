// Dense products. One register-blocked inner kernel, `product`, serves gemm, dense convolution (conv.h packs patches instead
// of matrix rows) and the dense weight gradients.
//
// C rows x columns of one block stay in registers (MR rows x NV vectors) while the depth is walked; A and B are first copied
// to scratch so that the walk is contiguous. A keeps its row order: a block of A is stored with a compile-time stride, so
// that a transposed A needs no shuffling either, and the inner loop has one address register for all its rows.
// The order of additions per element depends on the depth alone, never on blocking over rows, columns or tiles.
#pragma once

#if LANES == 16
#define MR 12
#elif LANES == 8
#define MR 6
#elif defined(__aarch64__)
#define MR 12
#else
#define MR 4
#endif
#define NV 2
#define NR (NV * LANES)
// Largest block of rows, depth and columns in scratch. ROW_STRIDE is not a power of two, against cache set conflicts.
#define BLOCK_ROWS 96
#define BLOCK_DEPTH 256
#define BLOCK_COLS 256
#define ROW_STRIDE (BLOCK_DEPTH + 16)

// Scratch of one product: 104 KiB of A, 256 KiB of B, row pointers of C; the rest of the megabyte is the caller's.
struct ProductScratch {
  float* a;
  float* b;
  float** c;
  char* free;
};
INLINE ProductScratch product_scratch(char* scratch) {
  ProductScratch s;
  s.a = (float*)scratch;
  s.b = s.a + BLOCK_ROWS * ROW_STRIDE;
  s.c = (float**)(s.b + BLOCK_COLS * BLOCK_DEPTH);
  s.free = (char*)(s.c + BLOCK_ROWS);
  return s;
}

// What happens to a finished sum: c = alpha * sum (+ c if accumulate) (+ bias if given).
struct Finish {
  float alpha;
  bool accumulate;
  const float* bias;
};

// R x V vectors of C. A element (row i, depth k) is a[i * RS + k * KS].
template <int R, int V, int RS, int KS>
static __attribute__((noinline)) void micro(const float* a, const float* b, int64_t ldb, int64_t depth, float* const* c, int64_t col,
                                            int cols, const Finish& finish) {
  // The sums' place in memory, asked for now, is there when they are made.
  for (int i = 0; i < R; i++)
    for (int v = 0; v < V; v++) __builtin_prefetch(c[i] + col + v * LANES, 1);
  vf sum[R][V];
  for (int i = 0; i < R; i++)
    for (int v = 0; v < V; v++) sum[i][v] = vf{};
  for (int64_t k = 0; k < depth; k++) {
    vf right[V];
    for (int v = 0; v < V; v++) right[v] = load(b + v * LANES);
#pragma GCC unroll 16
    for (int i = 0; i < R; i++) {
      vf left = splat(a[i * RS]);
      for (int v = 0; v < V; v++) sum[i][v] += left * right[v];
    }
    a += KS;
    b += ldb;
  }
  vf alpha = splat(finish.alpha);
  for (int v = 0; v < V; v++) {
    int part = cols - v * LANES;
    vf bias{};
    if (finish.bias) bias = part >= LANES ? load(finish.bias + col + v * LANES) : load_part(finish.bias + col + v * LANES, part);
    for (int i = 0; i < R; i++) {
      float* at = c[i] + col + v * LANES;
      vf value = sum[i][v] * alpha + bias;
      if (part >= LANES) {
        store(at, finish.accumulate ? value + load(at) : value);
      } else {
        store_part(at, finish.accumulate ? value + load_part(at, part) : value, part);
      }
    }
  }
}

typedef void (*MicroFn)(const float*, const float*, int64_t, int64_t, float* const*, int64_t, int, const Finish&);
template <int R, int RS, int KS>
struct MicroTable {
  static MicroFn pick(int rows, bool wide) {
    if (rows == R) return wide ? micro<R, NV, RS, KS> : micro<R, 1, RS, KS>;
    return MicroTable<R - 1, RS, KS>::pick(rows, wide);
  }
};
template <int RS, int KS>
struct MicroTable<0, RS, KS> {
  static MicroFn pick(int, bool) { return nullptr; }
};

INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Depth of one step: the fewest steps of at most BLOCK_DEPTH, of about equal size.
INLINE int64_t depth_step(int64_t depth) { return ceil_div(depth, ceil_div(depth, BLOCK_DEPTH)); }

// Ask for n floats that are read later.
INLINE void prefetch_floats(const float* at, int64_t n) {
  for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(at + i, 0, 2);
}

// C[rows x cols] from A[rows x depth] and B[depth x cols], cols <= BLOCK_COLS.
// Left::pack(dst, row, rows, k, depth) writes a block of A: row-major with stride ROW_STRIDE, or, when Left::TRANSPOSED,
// depth-major with stride BLOCK_ROWS. Right::pack(dst, k, depth, col, cols, width) writes depth x width floats of B, columns past
// cols zero; Right::direct(k) is the row k of B in memory if rows of B lie right.stride floats apart, else null.
// row(i) is the address of C's row i.
template <class Left, class Right, class Row>
static void product(const ProductScratch& scratch, int64_t rows, int64_t cols, int64_t depth, const Left& left, const Right& right,
                    const Row& row, const Finish& finish) {
  constexpr int RS = Left::TRANSPOSED ? 1 : ROW_STRIDE, KS = Left::TRANSPOSED ? BLOCK_ROWS : 1;
  if (depth == 0) {
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < cols; j++) row(i)[j] = (finish.bias ? finish.bias[j] : 0) + (finish.accumulate ? row(i)[j] : 0);
    return;
  }
  // Few rows do not pay for a copy of B.
  const bool copy = rows > 2 * MR || !right.direct(0);
  const int64_t step = depth_step(depth);
  for (int64_t k = 0; k < depth; k += step) {
    const int64_t deep = least(step, depth - k);
    const Finish now = k == 0 ? finish : Finish{finish.alpha, true, nullptr};
    // Panels of NR columns; a narrow last one is LANES wide if that is enough.
    for (int64_t j = 0; j < cols; j += NR) {
      const int64_t n = least(NR, cols - j);
      if (copy || n < NR) right.pack(scratch.b + j * BLOCK_DEPTH, k, deep, j, n, n > LANES ? NR : LANES);
    }
    for (int64_t r = 0; r < rows; r += BLOCK_ROWS) {
      const int64_t high = least(BLOCK_ROWS, rows - r);
      left.pack(scratch.a, r, high, k, deep);
      for (int64_t i = 0; i < high; i++) scratch.c[i] = row(r + i);
      // While this block is multiplied its successor comes from memory, a few rows at a time.
      const bool onward = r + BLOCK_ROWS < rows;
      const int64_t next_row = onward ? r + BLOCK_ROWS : 0, next_k = onward ? k : k + step;
      const int64_t next_rows = next_k < depth ? least(BLOCK_ROWS, rows - next_row) : 0, ahead = ceil_div(next_rows * NR, cols);
      int64_t asked = 0;
      for (int64_t j = 0; j < cols; j += NR) {
        const int64_t n = least(NR, cols - j);
        const bool wide = n > LANES, packed = copy || n < NR;
        const float* b = packed ? scratch.b + j * BLOCK_DEPTH : right.direct(k) + j;
        const int64_t ldb = packed ? (wide ? NR : LANES) : right.stride;
        const int64_t until = least(next_rows, asked + ahead);
        for (; asked < until; asked++) left.ask(next_row + asked, next_k, least(step, depth - next_k));
        MicroFn full = MicroTable<MR, RS, KS>::pick(MR, wide);
        int64_t i = 0;
        for (; i + MR <= high; i += MR) full(scratch.a + i * RS, b, ldb, deep, scratch.c + i, j, (int)n, now);
        if (i < high) MicroTable<MR, RS, KS>::pick((int)(high - i), wide)(scratch.a + i * RS, b, ldb, deep, scratch.c + i, j, (int)n, now);
      }
    }
  }
}

// `product` with terms 0; with more of them on tiles (amx.h), where there are some and A is not transposed. `bytes` of scratch.
#if defined(TILES)
template <class Left, class Right, class Row>
static void tile_product_of_floats(char* scratch, int64_t bytes, int64_t terms, int64_t rows, int64_t cols, int64_t depth,
                                   const Left& left, const Right& right, const Row& row, const Finish& finish);
#endif
template <class Left, class Right, class Row>
static void product_in_terms(int64_t terms, char* scratch, int64_t bytes, int64_t rows, int64_t cols, int64_t depth, const Left& left,
                             const Right& right, const Row& row, const Finish& finish) {
#if defined(TILES)
  if constexpr (!Left::TRANSPOSED)
    if (terms && depth) return tile_product_of_floats(scratch, bytes, terms, rows, cols, depth, left, right, row, finish);
#endif
  product(product_scratch(scratch), rows, cols, depth, left, right, row, finish);
}

// Rows of a matrix in memory: [rows, depth], or [depth, rows] when T.
template <bool T>
struct MatrixLeft {
  static const bool TRANSPOSED = T;
  const float* a;
  int64_t stride;
  void ask(int64_t row, int64_t k, int64_t depth) const {
    if (!T) prefetch_floats(a + row * stride + k, depth);
  }
  void pack(float* dst, int64_t row, int64_t rows, int64_t k, int64_t depth) const {
    if (T) {
      for (int64_t i = 0; i < depth; i++) copy_floats(dst + i * BLOCK_ROWS, a + (k + i) * stride + row, rows);
    } else {
      for (int64_t i = 0; i < rows; i++) copy_floats(dst + i * ROW_STRIDE, a + (row + i) * stride + k, depth);
    }
  }
};

// Copy of depth rows, `stride` floats apart, to rows of `width` floats, zero past cols.
INLINE void pack_rows(float* dst, const float* src, int64_t stride, int64_t depth, int64_t cols, int64_t width) {
  if (cols == NR) {
    for (int64_t i = 0; i < depth; i++)
      for (int v = 0; v < NV; v++) store(dst + i * NR + v * LANES, load(src + i * stride + v * LANES));
    return;
  }
  for (int64_t i = 0; i < depth; i++) {
    int64_t j = 0;
    for (; j + LANES <= cols; j += LANES) store(dst + i * width + j, load(src + i * stride + j));
    if (j < cols) store(dst + i * width + j, load_part(src + i * stride + j, (int)(cols - j)));
  }
}

// A matrix in memory: [depth, cols], or [cols, depth] when T.
template <bool T>
struct MatrixRight {
  const float* b;
  int64_t stride;
  const float* direct(int64_t k) const { return T ? nullptr : b + k * stride; }
  void pack(float* dst, int64_t k, int64_t depth, int64_t col, int64_t cols, int64_t width) const {
    if (!T) return pack_rows(dst, b + k * stride + col, stride, depth, cols, width);
    int64_t j = 0;
    for (; j + 4 <= cols; j += 4) {
      const float* at = b + (col + j) * stride + k;
      int64_t i = 0;
      for (; i + 4 <= depth; i += 4) {
        f4 t[4];
        for (int q = 0; q < 4; q++) t[q] = *(const f4_loose*)(at + q * stride + i);
        transpose4(t);
        for (int q = 0; q < 4; q++) *(f4_loose*)(dst + (i + q) * width + j) = t[q];
      }
      for (; i < depth; i++)
        for (int q = 0; q < 4; q++) dst[i * width + j + q] = at[q * stride + i];
    }
    for (; j < cols; j++)
      for (int64_t i = 0; i < depth; i++) dst[i * width + j] = b[(col + j) * stride + k + i];
    for (; j < width; j++)
      for (int64_t i = 0; i < depth; i++) dst[i * width + j] = 0;
  }
};

// Rows of C in one unit: enough units for several threads where the matrix is small, large units where it is not.
// `productUnits` of kernel-table.ts counts the same way.
#define UNIT_COLS 128
INLINE int64_t unit_rows(int64_t batch, int64_t m, int64_t n) {
  int64_t rows = ceil_div(ceil_div(m * batch * ceil_div(n, UNIT_COLS), 8), 12) * 12;
  return rows < 12 ? 12 : least(rows, BLOCK_ROWS);
}

// Walk a tile's units (batch, block of columns, block of rows; rows innermost) as runs of rows that share their columns:
// f(batch, first row, past last row, first column, past last column).
template <class F>
INLINE void product_runs(const Tile& tile, int64_t batch, int64_t m, int64_t n, const F& f) {
  const int64_t high = unit_rows(batch, m, n), down = ceil_div(m, high), across = ceil_div(n, UNIT_COLS);
  const int64_t units = batch * down * across, end = tile.end(units);
  for (int64_t u = tile.begin(units); u < end;) {
    const int64_t column = u / down, last = least(end, (column + 1) * down);
    const int64_t col = column % across * UNIT_COLS;
    f(column / across, (u - column * down) * high, least(m, (last - column * down) * high), col, least(n, col + UNIT_COLS));
    u = last;
  }
}

template <bool TA, bool TB>
static void gemm_tile(const gemm_args& a, const Tile& tile) {
  const int64_t batch = a.batch, m = a.m, n = a.n, k = a.k, sa = a.sa, sb = a.sb, sc = a.sc;
  product_runs(tile, batch, m, n, [&](int64_t b, int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
    const float* left = (const float*)a.a + b * sa + (TA ? r0 : r0 * k);
    const float* right = (const float*)a.b + b * sb + (TB ? c0 * k : c0);
    float* out = (float*)a.c + b * sc + r0 * n + c0;
    const float* bias = a.bias;
    product_in_terms(a.terms, tile.scratch, SCRATCH_BYTES, r1 - r0, c1 - c0, k, MatrixLeft<TA>{left, TA ? m : k},
                     MatrixRight<TB>{right, TB ? k : n}, [&](int64_t i) { return out + i * n; },
                     Finish{a.alpha, a.accumulate != 0, bias ? bias + c0 : nullptr});
  });
}

KERNEL(gemm) {
  if (a.ta)
    a.tb ? gemm_tile<true, true>(a, tile) : gemm_tile<true, false>(a, tile);
  else
    a.tb ? gemm_tile<false, true>(a, tile) : gemm_tile<false, false>(a, tile);
}
