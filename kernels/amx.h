// Products on tiles (Intel AMX, bf16): float32 results from bf16 matrix units.
//
// A spike (an integer below 2^8) is exact in bf16, and a float32 is the exact sum of three bf16 numbers: hi, mid and lo, by
// rounding, subtracting and rounding again. So spikes times float32 is three tile products of exact terms, all summed in
// float32. `terms` says how many terms of a float32 take part: 3 (exact), 2 (about 2^-17 off) or 1 (bf16). Of two float32
// operands the products of term i and term j with i + j < terms are summed: 6, 3 or 1 of them; what 6 leave out is below 2^-25.
//
// Blocking. A tile register is 16 rows of 64 bytes: 16 x 32 bf16 of A (row-major), 32 x 16 of B (two rows of depth interleaved,
// as tdpbf16ps wants them) or 16 x 16 floats of C. All eight are used: 2 x 2 of C, two of A, two of B, so that each loaded tile
// is used twice and 3 terms are 12 products for 8 loads. Around that, for a panel of columns and as many rows as have room:
//   for every TILE_DEPTH of depth: B's terms are packed once (96 KiB for 64 columns), then for every 32 rows A is packed
//   and multiplied with all pairs of column tiles; C lives in scratch as whole tiles and is finished at the end.
// Rows and columns past the edge hold whatever was there before; they only reach parts of C that nobody reads. Depth past the
// edge is zero in A and in B. The order of additions to an element depends on the depth alone.
//
// Six functions touch the tiles. With EMULATED_TILES they follow the instructions' documentation in plain code, so that all
// the rest is tested where there is no AMX.
#pragma once
#if defined(TILES)

static_assert(LANES == 16, "tiles are 64 bytes wide");

struct alignas(64) TileConfig {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static const TileConfig TILE_CONFIG = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
static_assert(sizeof(TileConfig) == 64, "the layout of ldtilecfg");
#define TILE_BYTES 1024

#if defined(EMULATED_TILES)

static thread_local struct {
  TileConfig config;
  alignas(64) uint32_t data[8][16][16];
} tile_state;

INLINE void tile_config(const TileConfig& config) {
  tile_state.config = config;
  memset(tile_state.data, 0, sizeof tile_state.data);
}
INLINE void tile_release() { memset(&tile_state, 0, sizeof tile_state); }
template <int T>
INLINE void tile_zero() {
  memset(tile_state.data[T], 0, TILE_BYTES);
}
template <int T>
INLINE void tile_load(const void* from, int64_t stride) {
  tile_zero<T>();
  for (int r = 0; r < tile_state.config.rows[T]; r++)
    memcpy(tile_state.data[T][r], (const char*)from + r * stride, tile_state.config.row_bytes[T]);
}
template <int T>
INLINE void tile_store(void* to, int64_t stride) {
  for (int r = 0; r < tile_state.config.rows[T]; r++) memcpy((char*)to + r * stride, tile_state.data[T][r], tile_state.config.row_bytes[T]);
}
INLINE vf flush_denormals(vf v) { return select(((vi)v & 0x7F800000) == 0, (vf)((vi)v & INT32_MIN), v); }
// The even and the odd elements of the depth are summed apart, by fused multiply-adds, then both are added to C.
template <int C, int A, int B>
static __attribute__((noinline)) void tile_dp() {
  const TileConfig& config = tile_state.config;
  for (int m = 0; m < config.rows[C]; m++) {
    vf even{}, odd{};
    for (int k = 0; k < config.row_bytes[A] / 4; k++) {
      const uint32_t pair = tile_state.data[A][m][k];
      const vi row = load((const int32_t*)tile_state.data[B][k]);
      const vf low = flush_denormals((vf)(row << 16)), high = flush_denormals((vf)(row & (int32_t)0xFFFF0000));
      even = flush_denormals((vf)_mm512_fmadd_ps((__m512)flush_denormals((vf)splat((int32_t)(pair << 16))), (__m512)low, (__m512)even));
      odd = flush_denormals((vf)_mm512_fmadd_ps((__m512)flush_denormals((vf)splat((int32_t)(pair & 0xFFFF0000))), (__m512)high, (__m512)odd));
    }
    float* c = (float*)tile_state.data[C][m];
    const vf sum = flush_denormals(flush_denormals(load(c)) + flush_denormals(even + odd));
    for (int n = 0; n < config.row_bytes[C] / 4; n++) c[n] = sum[n];
  }
}

#else

INLINE void tile_config(const TileConfig& config) { asm volatile("ldtilecfg %0" ::"m"(config)); }
INLINE void tile_release() { asm volatile("tilerelease"); }
template <int T>
INLINE void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(T));
}
template <int T>
INLINE void tile_load(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(T) : "memory");
}
template <int T>
INLINE void tile_store(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(T) : "memory");
}
template <int C, int A, int B>
INLINE void tile_dp() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
}

#endif

// ---------------------------------------------------------------- float32 to bf16 terms

// The next term of each x, in the upper half of its word: x rounded to bf16, ties to even (a NaN stays one); x keeps the rest.
INLINE vi next_term(vf& x) {
  const vi bits = (vi)x, rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & (int32_t)0xFFFF0000;
  const vi term = (vi)select(x != x, (vf)splat(0x7FC00000), (vf)rounded);
  x -= (vf)term;
  return term;
}
typedef uint16_t half_words __attribute__((vector_size(32)));
// The upper halves of 16 words.
INLINE void store_halves(char* to, vi words) { *(half_words*)to = __builtin_convertvector((vu)words >> 16, half_words); }

#define TILE_DEPTH 256
#define TILE_STEPS (TILE_DEPTH / 32)
static_assert(TILE_DEPTH == BLOCK_DEPTH && NR == 32, "tiles are packed from the blocks of gemm.h");

// Pairs of tiles in memory: of A [term][step] (32 rows), of B [pair of column tiles][step][term].
#define PAIR_BYTES (2 * TILE_BYTES)

struct TileScratch {
  float *left, *right;  // blocks of floats, before they are split into terms
  char *a, *b;
  float* c;
  int64_t panel, c_pairs;  // column pairs of a panel; room in c, in 32 x 32 blocks
};
INLINE TileScratch tile_scratch(char* scratch, int64_t bytes, int64_t terms) {
  TileScratch s;
  s.panel = bytes > (512 << 10) ? 4 : 2;
  s.left = (float*)scratch;
  s.right = s.left + 32 * ROW_STRIDE;
  s.a = (char*)(s.right + TILE_DEPTH * 32);
  s.b = s.a + terms * TILE_STEPS * PAIR_BYTES;
  char* c = s.b + s.panel * terms * TILE_STEPS * PAIR_BYTES;
  s.c = (float*)c;
  s.c_pairs = (scratch + bytes - c) / (2 * PAIR_BYTES);
  return s;
}

// Terms of depth x cols floats (cols <= 32, rows `stride` apart) to one pair of column tiles at every step.
template <int TERMS>
static void pack_right_terms(char* dst, const float* src, int64_t stride, int64_t depth, int64_t cols) {
  for (int64_t k = 0; k < ceil_div(depth, 32) * 32; k += 2) {
    char* to = dst + (k / 32) * TERMS * PAIR_BYTES + (k % 32) / 2 * 64;
    for (int64_t j = 0; j < cols; j += 16) {
      const int part = (int)least(16, cols - j);
      vf even{}, odd{};
      if (k < depth) even = load_lanes(src + k * stride + j, part);
      if (k + 1 < depth) odd = load_lanes(src + (k + 1) * stride + j, part);
      for (int t = 0; t < TERMS; t++) {
        const vi low = next_term(even), high = next_term(odd);
        store((int32_t*)(to + t * PAIR_BYTES + j / 16 * TILE_BYTES), (vi)((vu)low >> 16) | high);
      }
    }
  }
}

// A float32 left operand: `left` packs rows of floats as for `product`, which are then split.
template <class Left>
struct FloatTiles {
  const Left& left;
  float* block;
  int64_t terms;
  int64_t count() const { return terms; }
  void pack(char* dst, int64_t row, int64_t rows, int64_t k, int64_t depth) const {
    const int64_t padded = ceil_div(depth, 32) * 32;
    left.pack(block, row, rows, k, depth);
    for (int64_t i = 0; i < rows; i++) zero_floats(block + i * ROW_STRIDE + depth, padded - depth);
    terms == 3 ? split<3>(dst, rows, padded) : terms == 2 ? split<2>(dst, rows, padded) : split<1>(dst, rows, padded);
  }
  template <int TERMS>
  void split(char* dst, int64_t rows, int64_t depth) const {
    for (int64_t i = 0; i < rows; i++)  // rows 16 to 31 are the second tile, which follows the first
      for (int64_t j = 0; j < depth; j += 16) {
        vf x = load(block + i * ROW_STRIDE + j);
        for (int t = 0; t < TERMS; t++)
          store_halves(dst + i * 64 + (t * TILE_STEPS + j / 32) * PAIR_BYTES + (j & 16) * 2, next_term(x));
      }
  }
};

// ---------------------------------------------------------------- product

// One 32 x 32 block of C (R x N tiles) over `steps` steps of depth; A has `left_terms`, B `terms`.
template <int R, int N>
static __attribute__((noinline)) void tile_block(const char* a, const char* b, float* c, bool first, int64_t steps, int64_t left_terms,
                                                 int64_t terms) {
  char* at = (char*)c;
  if (first) {
    tile_zero<0>();
    if (N > 1) tile_zero<1>();
    if (R > 1) tile_zero<2>();
    if (R > 1 && N > 1) tile_zero<3>();
  } else {
    tile_load<0>(at, 64);
    if (N > 1) tile_load<1>(at + TILE_BYTES, 64);
    if (R > 1) tile_load<2>(at + 2 * TILE_BYTES, 64);
    if (R > 1 && N > 1) tile_load<3>(at + 3 * TILE_BYTES, 64);
  }
  for (int64_t step = 0; step < steps; step++)
    for (int64_t i = 0; i < left_terms; i++) {
      const char* left = a + (i * TILE_STEPS + step) * PAIR_BYTES;
      tile_load<4>(left, 64);
      if (R > 1) tile_load<5>(left + TILE_BYTES, 64);
      for (int64_t j = 0; i + j < terms; j++) {
        const char* right = b + (step * terms + j) * PAIR_BYTES;
        tile_load<6>(right, 64);
        tile_dp<0, 4, 6>();
        if (R > 1) tile_dp<2, 5, 6>();
        if (N > 1) {
          tile_load<7>(right + TILE_BYTES, 64);
          tile_dp<1, 4, 7>();
          if (R > 1) tile_dp<3, 5, 7>();
        }
      }
    }
  tile_store<0>(at, 64);
  if (N > 1) tile_store<1>(at + TILE_BYTES, 64);
  if (R > 1) tile_store<2>(at + 2 * TILE_BYTES, 64);
  if (R > 1 && N > 1) tile_store<3>(at + 3 * TILE_BYTES, 64);
}

// C[rows x cols] from A[rows x depth] and B[depth x cols]; Right, row and finish as for `product`, but row(i) may be null (a
// row that nobody wants). left.pack(dst, row, rows, k, depth) writes left.count() terms of at most 32 rows as pairs of tiles.
template <class Left, class Right, class Row>
static void tile_product(const TileScratch& scratch, int64_t terms, int64_t rows, int64_t cols, int64_t depth, const Left& left,
                         const Right& right, const Row& row, const Finish& finish) {
  const auto pack = terms == 3 ? pack_right_terms<3> : terms == 2 ? pack_right_terms<2> : pack_right_terms<1>;
  tile_config(TILE_CONFIG);
  for (int64_t col = 0; col < cols; col += scratch.panel * 32) {
    const int64_t wide = least(cols - col, scratch.panel * 32), pairs = ceil_div(wide, 32);
    const int64_t rows_most = scratch.c_pairs / pairs * 32;
    for (int64_t r = 0; r < rows; r += rows_most) {
      const int64_t high = least(rows - r, rows_most);
      for (int64_t k = 0; k < depth; k += TILE_DEPTH) {
        const int64_t deep = least(depth - k, TILE_DEPTH), steps = ceil_div(deep, 32);
        for (int64_t p = 0; p < pairs; p++) {
          const int64_t j = col + p * 32, n = least(cols - j, 32);
          const float* from = right.direct(k);
          if (from)
            from += j;
          else
            right.pack(scratch.right, k, deep, j, n, 32), from = scratch.right;
          pack(scratch.b + p * terms * TILE_STEPS * PAIR_BYTES, from, from == scratch.right ? 32 : right.stride, deep, n);
        }
        for (int64_t i = 0; i < high; i += 32) {
          const int64_t n = least(high - i, 32);
          left.pack(scratch.a, r + i, n, k, deep);
          for (int64_t p = 0; p < pairs; p++) {
            const bool tall = n > 16, broad = wide - p * 32 > 16;
            const auto block = tall ? (broad ? tile_block<2, 2> : tile_block<2, 1>) : broad ? tile_block<1, 2> : tile_block<1, 1>;
            block(scratch.a, scratch.b + p * terms * TILE_STEPS * PAIR_BYTES, scratch.c + (i / 32 * pairs + p) * 1024, k == 0, steps,
                  left.count(), terms);
          }
        }
      }
      for (int64_t i = 0; i < high; i++) {
        float* to = row(r + i);
        if (!to) continue;
        for (int64_t j = 0; j < wide; j += 16) {
          const int part = (int)least(16, wide - j);
          const float* sum = scratch.c + (i / 32 * pairs + j / 32) * 1024 + (i % 32 / 16 * 2 + j % 32 / 16) * 256 + i % 16 * 16;
          vf value = load(sum) * splat(finish.alpha);
          if (finish.bias) value += load_lanes(finish.bias + col + j, part);
          if (finish.accumulate) value += load_lanes(to + col + j, part);
          store_lanes(to + col + j, value, part);
        }
      }
    }
  }
  tile_release();
}

template <class Left, class Right, class Row>
static void tile_product_of_floats(char* memory, int64_t bytes, int64_t terms, int64_t rows, int64_t cols, int64_t depth, const Left& left,
                                   const Right& right, const Row& row, const Finish& finish) {
  const TileScratch scratch = tile_scratch(memory, bytes, terms);
  tile_product(scratch, terms, rows, cols, depth, FloatTiles<Left>{left, scratch.left, terms}, right, row, finish);
}

// ---------------------------------------------------------------- spikes

// 32 spikes as bf16: bit c of each plane to element c.
INLINE void spread_spikes(char* to, const uint32_t* plane, int64_t planes, int64_t step) {
  if (planes == 1) return _mm512_store_si512(to, _mm512_maskz_set1_epi16(*plane, 0x3F80));
  for (int half = 0; half < 2; half++) {
    vi value{};
    for (int64_t p = 0; p < planes; p++) value |= bits_to_mask(plane[p * step] >> (16 * half) & 0xFFFF) & (1 << p);
    store_halves(to + 32 * half, (vi)__builtin_convertvector(value, vf));
  }
}

#define TILE_PLANES 8

// A convolution's spikes as the left operand: rows are output pixels, a step of depth is one word of one tap.
struct SpikeTiles {
  const spike_conv2d_args& a;
  int64_t first, words;
  int64_t count() const { return 1; }
  void pack(char* dst, int64_t row, int64_t rows, int64_t k, int64_t depth) const {
    const int64_t planes = a.planes;
    uint32_t bits[TILE_PLANES * 32];
    for (int64_t q = k / 32; q < (k + depth) / 32; q++, dst += PAIR_BYTES) {
      for (int64_t p = 0; p < planes; p++) gather_words(bits + p * 32, a, first + row, rows, q / words, p * words + q % words);
      for (int64_t i = 0; i < rows; i++) spread_spikes(dst + i * 64, bits + i, planes, 32);
    }
  }
};
// Its weights [taps, ci, co]: each tap's channels are padded to whole words.
struct SpikeTapRight {
  const float* wt;
  int64_t stride, ci, words;
  const float* direct(int64_t k) const { return ci % 32 == 0 ? wt + k * stride : nullptr; }
  void pack(float* dst, int64_t k, int64_t depth, int64_t col, int64_t cols, int64_t) const {
    for (int64_t i = 0; i < depth; i++, dst += 32) {
      const int64_t q = (k + i) / 32, tap = q / words, c = q % words * 32 + i % 32;
      if (c < ci)
        copy_floats(dst, wt + (tap * ci + c) * stride + col, cols);
      else
        zero_floats(dst, 32);
    }
  }
};

static void tile_spike_conv_rows(const spike_conv2d_args& a, char* memory, int64_t begin, int64_t end, int64_t c0, int64_t c1) {
  const int64_t terms = a.terms, ci = a.ci, co = a.co, ow = a.ow, words = ceil_div(ci, 32), first = begin * ow;
  float* y = (float*)a.y + first * co + c0;
  const float* bias = a.bias;
  tile_product(tile_scratch(memory, SCRATCH_BYTES, terms), terms, (end - begin) * ow, c1 - c0, (int64_t)a.kh * (int64_t)a.kw * words * 32,
               SpikeTiles{a, first, words}, SpikeTapRight{(const float*)a.wt + c0, co, ci, words}, [&](int64_t i) { return y + i * co; },
               Finish{a.scale, false, bias ? bias + c0 : nullptr});
}

// Spikes transposed, for the weight gradient: 32 rows are the channels of one word at one tap, the depth is the output positions.
struct SpikeGradTiles {
  const spike_conv2d_grad_weight_args& a;
  int64_t first, words, taps;  // first word
  int64_t count() const { return 1; }
  void pack(char* dst, int64_t row, int64_t, int64_t k, int64_t depth) const {
    const int64_t planes = a.planes, word = first + row / 32 / taps, tap = row / 32 % taps;
    alignas(16) uint32_t bits[TILE_PLANES * 32];
    for (int64_t at = k; at < k + depth; at += 32, dst += PAIR_BYTES) {
      const int64_t n = least(k + depth - at, 32);
      for (int64_t p = 0; p < planes; p++) {
        uint32_t* to = bits + p * 32;
        gather_words(to, a, at, n, tap, p * words + word);
        for (int64_t i = n; i < 32; i++) to[i] = 0;
        transpose32((u4*)to);
      }
      for (int64_t i = 0; i < 32; i++) spread_spikes(dst + i * 64, bits + i, planes, 32);
    }
  }
};

// Units: blocks of 64 or 128 output channels by words of input channels, as many of these as leave about eight units but no more rows
// than have room, since each unit packs gy anew. `spikeGradTiles` of kernel-table.ts counts the same way.
INLINE int64_t tile_unit_cols(int64_t co) { return co > 64 ? 128 : 64; }
INLINE int64_t tile_unit_words(int64_t words, int64_t across, int64_t taps) {
  const int64_t wanted = words * across / 8, most = 32 / taps;
  return least(wanted, most) > 1 ? least(wanted, most) : 1;
}

static void tile_spike_grad_weight(const spike_conv2d_grad_weight_args& a, const Tile& tile) {
  const int64_t terms = a.terms, ci = a.ci, co = a.co, words = ceil_div(ci, 32), taps = (int64_t)a.kh * (int64_t)a.kw;
  const int64_t wide = tile_unit_cols(co), across = ceil_div(co, wide), high = tile_unit_words(words, across, taps), down = ceil_div(words, high);
  for (int64_t u = tile.begin(across * down), end = tile.end(across * down); u < end; u++) {
    const int64_t c0 = u / down * wide, w0 = u % down * high, n = least(words - w0, high);
    float* gw = (float*)a.gw + c0;
    const auto row = [&](int64_t i) {
      const int64_t channel = (w0 + i / 32 / taps) * 32 + i % 32;
      return channel < ci ? gw + (i / 32 % taps * ci + channel) * co : nullptr;
    };
    tile_product(tile_scratch(tile.scratch, SCRATCH_BYTES, terms), terms, n * taps * 32, least(co - c0, wide),
                 (int64_t)a.n * (int64_t)a.oh * (int64_t)a.ow, SpikeGradTiles{a, w0, words, taps},
                 MatrixRight<false>{(const float*)a.gy + c0, co}, row, Finish{a.scale, false, nullptr});
  }
}

// ---------------------------------------------------------------- check

// Does a small product through the tiles agree with plain code? What the addon asks once, before it runs this instruction set.
static bool tiles_agree(char* scratch) {
  const int64_t rows = 45, cols = 37, depth = 300;
  static float a[rows * depth], b[depth * cols], c[rows * cols];
  uint32_t state = 1;
  const auto draw = [&](float* to, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] = (float)(int32_t)((state = state * 1664525u + 1013904223u) & 0x7FFFFF00) * 0x1p-30f - 1;
  };
  draw(a, rows * depth);
  draw(b, depth * cols);
  tile_product_of_floats(scratch, SCRATCH_BYTES, 3, rows, cols, depth, MatrixLeft<false>{a, depth}, MatrixRight<false>{b, cols},
                         [&](int64_t i) { return c + i * cols; }, Finish{1, false, nullptr});
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++) {
      double sum = 0, size = 0;
      for (int64_t k = 0; k < depth; k++) {
        const double product = (double)a[i * depth + k] * b[k * cols + j];
        sum += product, size += product < 0 ? -product : product;
      }
      const double off = c[i * cols + j] - sum;
      if (!((off < 0 ? -off : off) <= 2e-6 * size)) return false;
    }
  return true;
}

#endif
