// Convolution of dense spikes by tables: for a few input channels every sum of their weight rows is made beforehand, and the
// channels' bits are the index. Cost does not depend on the bits: per word of 32 channels seven additions, where the event-driven
// kernel needs as many as there are spikes, and no branch that a spike decides. (The method of four Russians, Arlazarov et al. 1970.)
//
// The tables of two words for TABLE_COLS columns take 22 KiB and stay in the first-level cache while all pixels of a block pass by.
#pragma once

#define TABLE_COLS 16
#define TABLE_VECS (TABLE_COLS / LANES)
// Columns of a unit: their bits are gathered once, and they are written to memory together.
#define TABLE_UNIT_COLS TABLE_LIMITS_COLUMNS
// Scratch: tables, sums of a block's pixels, gathered words.
#define TABLE_ROWS 176
#define TABLE_FLOATS (TABLE_ROWS * TABLE_COLS)
#define TABLE_SUMS (TABLE_LIMITS_PIXELS * TABLE_COLS)
static_assert((2 * TABLE_FLOATS + TABLE_SUMS * (TABLE_UNIT_COLS / TABLE_COLS) + TABLE_LIMITS_WORDS) * 4 <= SCRATCH_BYTES, "scratch");

// A word is cut into four indices of 5 bits and three of 4: first bit, width, and the table's first row.
template <int G>
struct TablePart {
  static const int WIDTH = G < 4 ? 5 : 4, FIRST = G < 4 ? 5 * G : 20 + 4 * (G - 4), ROW = G < 4 ? 32 * G : 128 + 16 * (G - 4);
};

// All sums of `rows` (at most WIDTH) weight rows of `cols` columns, times factor; missing rows and columns are zero.
template <int WIDTH>
INLINE void table_fill(float* table, const float* weights, int64_t stride, int64_t rows, int64_t cols, float factor) {
  const vf f = splat(factor);
  for (int v = 0; v < TABLE_VECS; v++) store(table + v * LANES, vf{});
  for (int64_t k = 0; k < WIDTH; k++) {
    const int64_t half = (int64_t)1 << k;
    float* to = table + half * TABLE_COLS;
    for (int v = 0; v < TABLE_VECS; v++) {
      const int64_t left = k < rows ? cols - v * LANES : 0;
      vf row{};
      if (left >= LANES)
        row = load(weights + k * stride + v * LANES);
      else if (left > 0)
        row = load_part(weights + k * stride + v * LANES, (int)left);
      row = row * f;
      for (int64_t m = 0; m < half; m++) store(to + m * TABLE_COLS + v * LANES, load(table + m * TABLE_COLS + v * LANES) + row);
    }
  }
}

template <int G, int PARTS>
INLINE void table_build(float* tables, const float* weights, int64_t stride, int64_t rows, int64_t cols, float factor) {
  if constexpr (G < PARTS) {
    using Part = TablePart<G>;
    table_fill<Part::WIDTH>(tables + Part::ROW * TABLE_COLS, weights + Part::FIRST * stride, stride, rows - Part::FIRST, cols, factor);
    table_build<G + 1, PARTS>(tables, weights, stride, rows, cols, factor);
  }
}

// s = or += the row that a word picks from its table G. Table by table, not vector by vector: one place in memory is then alive at a
// time, where WebAssembly has few registers for more.
template <int G, bool ADD>
INLINE void table_row(vf (&s)[TABLE_VECS], const float* tables, uint32_t word) {
  using Part = TablePart<G>;
  const int shift = 6;
  static_assert(TABLE_COLS * 4 == 1 << shift, "bytes of a row");
  const uint32_t mask = ((1u << Part::WIDTH) - 1) << shift;
  const uint32_t at = (Part::FIRST >= shift ? word >> ((Part::FIRST - shift) & 31) : word << ((shift - Part::FIRST) & 31)) & mask;
  const float* row = (const float*)((const char*)(tables + Part::ROW * TABLE_COLS) + at);
  for (int v = 0; v < TABLE_VECS; v++) s[v] = ADD ? s[v] + load(row + v * LANES) : load(row + v * LANES);
}

// The sum of the rows that a word picks from its tables, by pairs: less rounding, and less waiting, than one after the other.
template <int PARTS>
INLINE void table_sum(vf (&s)[TABLE_VECS], const float* tables, uint32_t word) {
  vf t[TABLE_VECS];
  table_row<0, false>(s, tables, word);
  table_row<1, true>(s, tables, word);
  table_row<2, false>(t, tables, word);
  table_row<3, true>(t, tables, word);
  for (int v = 0; v < TABLE_VECS; v++) s[v] += t[v];
  if constexpr (PARTS == 7) {
    table_row<4, false>(t, tables, word);
    table_row<5, true>(t, tables, word);
    table_row<6, true>(t, tables, word);
    for (int v = 0; v < TABLE_VECS; v++) s[v] += t[v];
  }
}

// sums[i] (+)= the rows of the tables for the words at[w][i * step], for `count` pixels.
template <bool FIRST, int WORDS, int PARTS>
INLINE void table_pass(float* sums, const uint32_t* const* at, int64_t step, int64_t count, const float* tables) {
  const uint32_t *bits = at[0], *other = at[WORDS - 1];
  for (int64_t i = 0; i < count; i++, sums += TABLE_COLS, bits += step, other += step) {
    vf s[TABLE_VECS], t[TABLE_VECS];
    table_sum<PARTS>(s, tables, *bits);
    if (WORDS == 2) {
      table_sum<PARTS>(t, tables + TABLE_FLOATS, *other);
      for (int v = 0; v < TABLE_VECS; v++) s[v] += t[v];
    }
    for (int v = 0; v < TABLE_VECS; v++) store(sums + v * LANES, FIRST ? s[v] : load(sums + v * LANES) + s[v]);
  }
}

// A block of output pixels: rows [row, row + rows) of all images' output rows, columns [left, left + wide).
struct TableBlock {
  const spike_conv2d_table_args& a;
  float *tables, *sums;
  uint32_t* gathered;  // [planes * words][kh][rows][columns]
  int64_t row, rows, left, wide, columns;

  void gather() const {
    const int64_t words = ceil_div((int64_t)a.ci, 32) * (int64_t)a.planes, kh = a.kh, h = a.h, w = a.w, oh = a.oh;
    const int64_t x0 = left * (int64_t)a.sw - (int64_t)a.pw, from = clamp_to(-x0, 0, columns), to = clamp_to(w - x0, from, columns);
    for (int64_t ky = 0; ky < kh; ky++)
      for (int64_t r = 0; r < rows; r++) {
        const int64_t image = (row + r) / oh, iy = (row + r - image * oh) * (int64_t)a.sh - (int64_t)a.ph + ky * (int64_t)a.dh;
        const bool inside = iy >= 0 && iy < h;
        const uint32_t* in = (const uint32_t*)a.x + (inside ? ((image * h + iy) * w + x0) * words : 0);
        for (int64_t j = 0; j < words; j++) {
          uint32_t* out = gathered + ((j * kh + ky) * rows + r) * columns;
          int64_t i = 0;
          if (inside) {
            for (; i < from; i++) out[i] = 0;
            for (; i < to; i++) out[i] = in[i * words + j];
          }
          for (; i < columns; i++) out[i] = 0;
        }
      }
  }

  // One word of spikes at one tap: its weights, and where its bits are. Steps run over taps, then words, then planes.
  struct Step {
    const float* weights;
    const uint32_t* bits;
    int64_t channels;
    float factor;
  };
  Step step(int64_t at, int64_t col) const {
    const int64_t ci = a.ci, kh = a.kh, kw = a.kw, words = ceil_div(ci, 32), taps = kh * kw;
    const int64_t tap = at % taps, ky = tap / kw, kx = tap - ky * kw, slice = at / taps, word = slice % words;
    return {(const float*)a.wt + (tap * ci + word * 32) * (int64_t)a.co + col,
            gathered + (slice * kh + ky) * rows * columns + kx * (int64_t)a.dw, least(32, ci - word * 32), (float)(1u << slice / words)};
  }

  template <bool FIRST, int WORDS, int PARTS>
  void pass(int64_t at, int64_t col, int64_t cols, float* sums) const {
    const uint32_t* bits[WORDS];
    for (int w = 0; w < WORDS; w++) {
      const Step s = step(at + w, col);
      table_build<0, PARTS>(tables + w * TABLE_FLOATS, s.weights, a.co, s.channels, cols, s.factor);
      bits[w] = s.bits;
    }
    if (columns == wide) return table_pass<FIRST, WORDS, PARTS>(sums, bits, 1, rows * wide, tables);
    for (int64_t r = 0; r < rows; r++) {
      table_pass<FIRST, WORDS, PARTS>(sums + r * wide * TABLE_COLS, bits, a.sw, wide, tables);
      for (int w = 0; w < WORDS; w++) bits[w] += columns;
    }
  }

  // Columns [col, col + cols), at most TABLE_UNIT_COLS.
  template <int PARTS>
  void product(int64_t col, int64_t cols) const {
    const int64_t co = a.co, steps = (int64_t)a.planes * ceil_div((int64_t)a.ci, 32) * (int64_t)a.kh * (int64_t)a.kw;
    for (int64_t at = 0; at < steps; at += 2) {
      // The next rows lie far apart, where no hardware expects them: ask for them while this step's pixels pass.
      for (int64_t w = at + 2; w < least(steps, at + 4); w++) {
        const Step next = step(w, col);
        for (int64_t i = 0; i < next.channels; i++)
          for (int64_t j = 0; j < cols; j += 16) __builtin_prefetch(next.weights + i * co + j);
      }
      for (int64_t j = 0; j < cols; j += TABLE_COLS) {
        float* to = sums + j * TABLE_LIMITS_PIXELS;
        const int64_t width = least(TABLE_COLS, cols - j);
        if (at + 1 < steps)
          at == 0 ? pass<true, 2, PARTS>(at, col + j, width, to) : pass<false, 2, PARTS>(at, col + j, width, to);
        else
          at == 0 ? pass<true, 1, PARTS>(at, col + j, width, to) : pass<false, 1, PARTS>(at, col + j, width, to);
      }
    }
    const float *bias = a.bias, *from = sums;
    const vf scale = splat((float)a.scale);
    for (int64_t r = 0; r < rows; r++) {
      float* y = (float*)a.y + ((row + r) * (int64_t)a.ow + left) * co + col;
      for (int64_t i = 0; i < wide; i++, y += co, from += TABLE_COLS)
        for (int64_t v = 0; v < cols; v += LANES) {
          const int lanes = (int)least(LANES, cols - v);
          const vf sum = load(from + v / TABLE_COLS * TABLE_SUMS + v % TABLE_COLS);
          store_lanes(y + v, sum * scale + (bias ? load_lanes(bias + col + v, lanes) : vf{}), lanes);
        }
    }
  }
};

KERNEL(spike_conv2d_table) {
  const int64_t lines = (int64_t)a.n * (int64_t)a.oh, high = a.high, wide = a.wide, ow = a.ow, co = a.co;
  const int64_t down = ceil_div(lines, high), strips = ceil_div(ow, wide), across = ceil_div(co, TABLE_UNIT_COLS);
  float* tables = (float*)tile.scratch;
  float* sums = tables + 2 * TABLE_FLOATS;
  uint32_t* gathered = (uint32_t*)(sums + TABLE_SUMS * (TABLE_UNIT_COLS / TABLE_COLS));
  const int64_t end = tile.end(down * strips * across);
  for (int64_t u = tile.begin(down * strips * across); u < end;) {
    const int64_t block = u / across, last = least(end, (block + 1) * across), row = block / strips * high, left = block % strips * wide;
    const int64_t width = least(wide, ow - left);
    const TableBlock b{a, tables, sums, gathered, row, least(high, lines - row), left, width,
                       (width - 1) * (int64_t)a.sw + ((int64_t)a.kw - 1) * (int64_t)a.dw + 1};
    b.gather();
    for (; u < last; u++) {
      const int64_t col = (u - block * across) * TABLE_UNIT_COLS, cols = least(TABLE_UNIT_COLS, co - col);
      a.ci <= 20 ? b.product<4>(col, cols) : b.product<7>(col, cols);
    }
  }
}
