// Products with spikes and operations on packed spikes: cost follows the set bits.
//
// Set bits are first decoded to lists of row offsets (without a branch per bit), then a list is walked once per block of
// columns with the sums in registers: s += row. Rows are packed to a block that stays in the first-level cache. Sums start
// at zero and take their rows in an order that depends on shapes and spikes alone.
#pragma once

// Columns in registers.
#if LANES == 4
#define SPIKE_VECS 8
#elif LANES == 8
#define SPIKE_VECS 8
#else
#define SPIKE_VECS 4
#endif
#define SPIKE_COLS (SPIKE_VECS * LANES)
// Scratch: the packed rows, the lists (one word of bits gives at most 32 entries; decoding may write 16 past the end), and tables.
#define SPIKE_ROW_BYTES (48 << 10)
#define SPIKE_LIST_WORDS CONV_LIMITS_WORDS
#define SPIKE_LIST_BYTES (SPIKE_LIST_WORDS * 128)
// Output pixels of a block.
#define SPIKE_PIXELS 1024
static_assert(SPIKE_ROW_BYTES + SPIKE_LIST_BYTES + 256 + (2 * SPIKE_LIST_WORDS + 16 + SPIKE_PIXELS) * 4 <= SCRATCH_BYTES, "scratch");

struct SpikeScratch {
  float* rows;
  uint32_t* list;
  uint32_t* start;  // where the list of a position begins
  int32_t* slot;    // of an output row: where the decoded rows of its image begin, less the first one's number
};
INLINE SpikeScratch spike_scratch(char* scratch) {
  SpikeScratch s;
  s.rows = (float*)scratch;
  s.list = (uint32_t*)(scratch + SPIKE_ROW_BYTES);
  s.start = (uint32_t*)(scratch + SPIKE_ROW_BYTES + SPIKE_LIST_BYTES + 256);
  s.slot = (int32_t*)(s.start + 2 * SPIKE_LIST_WORDS + 16);
  return s;
}

// Append first + step * i for every set bit i of a word, in order of i.
struct BitList {
#if defined(__AVX512F__)
  vi steps, half;
  explicit BitList(uint32_t step) : steps(vi{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} * (int32_t)step),
      half(splat((int32_t)(16 * step))) {}
  inline uint32_t* append(uint32_t* list, uint32_t bits, uint32_t first) const {
    const vi low = steps + (int32_t)first;
    store((int32_t*)list, (vi)__builtin_ia32_compresssi512_mask(low, vi{}, (uint16_t)bits));
    list += __builtin_popcount(bits & 0xFFFF);
    store((int32_t*)list, (vi)__builtin_ia32_compresssi512_mask(low + half, vi{}, (uint16_t)(bits >> 16)));
    return list + __builtin_popcount(bits >> 16);
  }
#else
  uint32_t step;
  explicit BitList(uint32_t bytes) : step(bytes) {}
  inline uint32_t* append(uint32_t* list, uint32_t bits, uint32_t first) const {
    for (; bits; bits &= bits - 1) *list++ = first + step * (uint32_t)__builtin_ctz(bits);
    return list;
  }
#endif
};

// s += row, for every row of the list; an entry is the row's offset in bytes from `rows`.
template <int V>
INLINE void add_rows(vf (&s)[V], const uint32_t* list, const uint32_t* end, uintptr_t rows) {
  for (; list < end; list++) {
    const float* row = (const float*)(rows + *list);
    for (int v = 0; v < V; v++) s[v] += load(row + v * LANES);
  }
}

// Copy `count` rows of `cols` floats, `stride` apart, to rows of `width` floats, times factor; columns past cols are zero.
INLINE void pack_scaled(float* dst, const float* src, int64_t stride, int64_t count, int64_t cols, int64_t width, float factor) {
  const vf f = splat(factor);
  for (int64_t i = 0; i < count; i++, dst += width, src += stride) {
    int64_t j = 0;
    for (; j + LANES <= cols; j += LANES) store(dst + j, load(src + j) * f);
    if (j < cols) store(dst + j, load_part(src + j, (int)(cols - j)) * f);
  }
}

// Largest vector count of the blocks of `cols` columns: the row length of the packed rows.
INLINE int64_t spike_vecs(int64_t cols) { return least(SPIKE_VECS, ceil_div(cols, LANES)); }

// to[i] = word number `offset` of the input position that output position at + i meets at a tap, 0 outside the image.
template <class A>
INLINE void gather_words(uint32_t* to, const A& a, int64_t at, int64_t count, int64_t tap, int64_t offset) {
  const int64_t step = ceil_div((int64_t)a.ci, 32) * (int64_t)a.planes, kw = a.kw, h = a.h, w = a.w, oh = a.oh, ow = a.ow, sw = a.sw;
  if ((int64_t)a.kh == 1 && kw == 1 && (int64_t)a.sh == 1 && sw == 1 && (int64_t)a.ph == 0 && (int64_t)a.pw == 0) {
    const uint32_t* from = (const uint32_t*)a.x + at * step + offset;
    for (int64_t i = 0; i < count; i++) to[i] = from[i * step];
    return;
  }
  const int64_t ky = tap / kw, kx = tap - ky * kw;
  int64_t line = at / ow, ox = at - line * ow;
  for (const uint32_t* end = to + count; to < end; line++, ox = 0) {
    const int64_t run = least(ow - ox, end - to), image = line / oh;
    const int64_t iy = (line - image * oh) * (int64_t)a.sh - (int64_t)a.ph + ky * (int64_t)a.dh;
    const uint32_t* row = (const uint32_t*)a.x + (image * h + iy) * w * step + offset;
    int64_t ix = ox * sw - (int64_t)a.pw + kx * (int64_t)a.dw;
    const uint32_t* stop = to + run;
    for (; to < stop && (ix < 0 || iy < 0 || iy >= h); ix += sw) *to++ = 0;
    for (; to < stop && ix < w; ix += sw) *to++ = row[ix * step];
    while (to < stop) *to++ = 0;
  }
}

#if defined(TILES)  // amx.h
static void tile_spike_conv_rows(const spike_conv2d_args& a, char* memory, int64_t begin, int64_t end, int64_t c0, int64_t c1);
static void tile_spike_grad_weight(const spike_conv2d_grad_weight_args& a, const Tile& tile);
#endif

// ---------------------------------------------------------------- forward

// One pass over a block of output pixels: for every pixel add the rows of taps [kx, kx + taps) of one window row.
struct SpikePass {
  SpikeScratch scratch;
  const float* weights;  // of tap kx, first channel of the group
  float* y;  // first output pixel of the block's first row, first column of the block of columns
  int64_t rows, pixels, row_step, co, cols;
  int64_t oy, oh, h, sh, iy;  // output row of the first row; input row of output row 0
  int64_t columns, ix, sw, dw, taps;  // decoded input columns; decoded column of the first pixel's first tap
  int64_t tap_bytes;
  bool first, last;
  float scale;
  const float* bias;
};

template <int V>
static __attribute__((noinline)) void spike_pass(const SpikePass& p) {
  const SpikeScratch& s = p.scratch;
  const int part = (int)(p.cols - (V - 1) * LANES);
  const vf scale = splat(p.scale);
  vf bias[V];
  for (int v = 0; v < V; v++) {
    bias[v] = vf{};
    if (p.bias) bias[v] = v < V - 1 || part == LANES ? load(p.bias + v * LANES) : load_part(p.bias + v * LANES, part);
  }
  int64_t oy = p.oy;
  for (int64_t r = 0; r < p.rows; r++) {
    const int64_t iy = oy * p.sh + p.iy;
    if (++oy == p.oh) oy = 0;
    const bool inside = iy >= 0 && iy < p.h;
    if (!inside && !p.first && !p.last) continue;
    const uint32_t* start = s.start + (inside ? (s.slot[r] + iy) * (p.columns + 1) : 0);
    float* y = p.y + r * p.row_step;
    int64_t ix = p.ix;
    for (int64_t i = 0; i < p.pixels; i++, y += p.co, ix += p.sw) {
      vf sum[V];
      if (p.first) {
        for (int v = 0; v < V; v++) sum[v] = vf{};
      } else {
        for (int v = 0; v < V - 1; v++) sum[v] = load(y + v * LANES);
        sum[V - 1] = part == LANES ? load(y + (V - 1) * LANES) : load_part(y + (V - 1) * LANES, part);
      }
      if (inside) {
        if (p.dw == 1) {
          const int64_t lo = ix < 0 ? 0 : ix, hi = least(ix + p.taps, p.columns);
          if (lo < hi) add_rows<V>(sum, s.list + start[lo], s.list + start[hi], (uintptr_t)p.weights - (uintptr_t)(ix * p.tap_bytes));
        } else {
          for (int64_t t = 0; t < p.taps; t++) {
            const int64_t at = ix + t * p.dw;
            if (at >= 0 && at < p.columns)
              add_rows<V>(sum, s.list + start[at], s.list + start[at + 1], (uintptr_t)p.weights + (uintptr_t)((t - at) * p.tap_bytes));
          }
        }
      }
      if (p.last)
        for (int v = 0; v < V; v++) sum[v] = sum[v] * scale + bias[v];
      for (int v = 0; v < V - 1; v++) store(y + v * LANES, sum[v]);
      if (part == LANES)
        store(y + (V - 1) * LANES, sum[V - 1]);
      else
        store_part(y + (V - 1) * LANES, sum[V - 1], part);
    }
  }
}

template <int V>
INLINE void spike_pass_of(const SpikePass& p, int64_t vecs) {
  if constexpr (V > 0) {
    if (vecs == V) return spike_pass<V>(p);
    spike_pass_of<V - 1>(p, vecs);
  }
}

// Decode the input rows that output rows [row, row + rows) meet at window rows [iy, iy + tall) relative to row 0's position:
// `columns` positions of each, `n` words of a position. Fills list, start and slot.
static void spike_decode_rows(const SpikeScratch& s, const uint32_t* x, int64_t n, int64_t pixel, int64_t w, int64_t h, int64_t columns,
                              const BitList& bits, int64_t row, int64_t rows, int64_t oh, int64_t sh, int64_t iy, int64_t tall,
                              int64_t position_bytes, int64_t row_bytes) {
  uint32_t *list = s.list, *start = s.start;
  int64_t slots = 0;
  for (int64_t r = 0; r < rows;) {
    const int64_t image = (row + r) / oh, oy = row + r - image * oh, take = least(oh - oy, rows - r);
    const int64_t top = oy * sh + iy, lo = top < 0 ? 0 : top, hi = least(h, top + (take - 1) * sh + tall);
    for (int64_t i = 0; i < take; i++) s.slot[r++] = (int32_t)(slots - lo);
    for (int64_t y = lo; y < hi; y++, slots++) {
      const uint32_t* in = x + (image * h + y) * w * pixel;
      for (int64_t c = 0; c < columns; c++, in += pixel) {
        *start++ = (uint32_t)(list - s.list);
        for (int64_t j = 0; j < n; j++) list = bits.append(list, in[j], (uint32_t)(c * position_bytes + j * 32 * row_bytes));
      }
      *start++ = (uint32_t)(list - s.list);
    }
  }
}

// Units: groups of output rows of about 256 pixels, within blocks of output channels (rows innermost): a unit is enough work to
// pay for packing its weights. `spikeUnits` of kernel-table.ts counts the same way.
INLINE int64_t spike_unit_rows(int64_t ow) { return ow >= 256 ? 1 : ceil_div(256, ow); }
INLINE int64_t spike_unit_cols(int64_t taps) { return taps > 1 ? 64 : 256; }

// Output rows [begin, end), columns [c0, c1).
static void spike_conv_rows(const spike_conv2d_args& a, char* memory, int64_t begin, int64_t end, int64_t c0, int64_t c1) {
  int64_t h = a.h, w = a.w, oh = a.oh, ow = a.ow;
  const int64_t ci = a.ci, co = a.co, kh = a.kh, kw = a.kw, sh = a.sh, sw = a.sw, ph = a.ph, pw = a.pw, dh = a.dh, dw = a.dw,
        planes = a.planes;
  const int64_t words = ceil_div(ci, 32), pixel = words * planes;
  const uint32_t* x = a.x;
  const float* wt = a.wt;
  float* y = a.y;
  if (kh == 1 && kw == 1 && sh == 1 && sw == 1 && ph == 0 && pw == 0 && h == oh && w == ow) {
    // A matrix product: these pixels are one row.
    x += begin * ow * pixel, y += begin * ow * co;
    w = ow = (end - begin) * ow, h = oh = 1, begin = 0, end = 1;
  }
  SpikePass p;
  p.scratch = spike_scratch(memory);
  p.h = h, p.oh = oh, p.sh = sh, p.sw = sw, p.dw = dw, p.co = co, p.row_step = ow * co, p.scale = a.scale;
  const int64_t vecs = spike_vecs(c1 - c0), room_rows = SPIKE_ROW_BYTES / (vecs * LANES * 4 * 32);
  // A pass covers `taps_most` taps of a window row and `group` words of channels, so that their packed rows fit; window rows
  // share decoded lists (`share` of them: all, if the lists of one output row's window fit).
  const int64_t taps_most = least(kw, room_rows), groups = ceil_div(words, room_rows / taps_most), group = ceil_div(words, groups);
  const int64_t room = SPIKE_LIST_WORDS / group, reach = (kw - 1) * dw + 1;
  const int64_t share = ((kh - 1) * dh + 1) * least(w, reach) <= room ? kh : 1, tall = (share - 1) * dh + 1;
  // Columns of a strip of output, and of the input that it meets.
  const int64_t most = room / tall;
  const int64_t strip = least(SPIKE_PIXELS, w <= most ? ow : most > reach ? (most - reach) / sw + 1 : 1);
  for (int64_t left = 0; left < ow; left += strip) {
    const int64_t wide = least(strip, ow - left), x0 = left * sw - pw;
    const int64_t from = x0 < 0 ? 0 : x0, to = least(w, x0 + (wide - 1) * sw + reach), columns = to > from ? to - from : 0;
    for (int64_t row = begin, rows; row < end; row += rows) {
      // Output rows of this block: as many as have room for the input rows that they meet, image by image.
      const int64_t fit = room / (columns > 0 ? columns : 1), rows_most = least(end - row, SPIKE_PIXELS / wide);
      rows = 0;
      for (int64_t used = 0; rows < rows_most;) {
        int64_t take = least(oh - (row + rows) % oh, rows_most - rows);
        if (fit - used < h && (take - 1) * sh + tall > fit - used) take = fit - used >= tall ? (fit - used - tall) / sh + 1 : 0;
        if (take == 0) break;
        used += least(h, (take - 1) * sh + tall);
        rows += take;
      }
      // A window row beyond CONV_LIMITS breaks the contract; stop rather than stand still.
      if (rows == 0) __builtin_trap();
      // A few pixels touch so few rows of the weights that copying all of them would cost more; the sums are the same.
      const bool direct = rows * wide <= 16 && planes == 1 && co % LANES == 0 && columns * ci * co < (1 << 29);
      const int64_t row_bytes = direct ? co * 4 : vecs * LANES * 4;
      const BitList bits((uint32_t)row_bytes);
      p.rows = rows, p.pixels = wide, p.columns = columns, p.oy = row % oh;
      for (int64_t plane = 0; plane < planes; plane++)
        for (int64_t g = 0; g < words; g += group)
          for (int64_t ky = 0; ky < kh; ky += share) {
            const int64_t n = least(group, words - g), channels = least(n * 32, ci - g * 32);
            p.tap_bytes = direct ? ci * row_bytes : n * 32 * row_bytes;
            spike_decode_rows(p.scratch, x + from * pixel + plane * words + g, n, pixel, w, h, columns, bits, row, rows, oh, sh,
                ky * dh - ph, tall, p.tap_bytes, row_bytes);
            for (int64_t col = c0; col < c1; col += SPIKE_COLS) {
              p.cols = least(SPIKE_COLS, c1 - col);
              p.y = y + (row * ow + left) * co + col;
              p.bias = (const float*)a.bias ? (const float*)a.bias + col : nullptr;
              for (int64_t s = ky; s < ky + share; s++)
                for (int64_t kx = 0; kx < kw; kx += taps_most) {
                  p.taps = least(taps_most, kw - kx);
                  const float* weights = wt + ((s * kw + kx) * ci + g * 32) * co + col;
                  p.weights = direct ? weights : p.scratch.rows;
                  for (int64_t t = 0; t < p.taps && !direct; t++)
                    pack_scaled(p.scratch.rows + t * n * 32 * vecs * LANES, weights + t * ci * co, co, channels, p.cols, vecs * LANES,
                        (float)(1u << plane));
                  p.iy = s * dh - ph, p.ix = x0 - from + kx * dw;
                  p.first = plane == 0 && g == 0 && s == 0 && kx == 0;
                  p.last = plane == planes - 1 && g + group >= words && s == kh - 1 && kx + taps_most >= kw;
                  spike_pass_of<SPIKE_VECS>(p, ceil_div(p.cols, LANES));
                }
            }
          }
    }
  }
}

KERNEL(spike_conv2d) {
  const int64_t rows = (int64_t)a.n * (int64_t)a.oh, co = a.co, high = spike_unit_rows(a.ow),
        wide = spike_unit_cols((int64_t)a.kh * (int64_t)a.kw);
  const int64_t down = ceil_div(rows, high), units = down * ceil_div(co, wide), end = tile.end(units);
  for (int64_t u = tile.begin(units); u < end;) {
    const int64_t block = u / down, last = least(end, (block + 1) * down);
    auto rows_of = spike_conv_rows;
#if defined(TILES)
    if (a.terms) rows_of = tile_spike_conv_rows;
#endif
    rows_of(a, tile.scratch, (u - block * down) * high, least(rows, (last - block * down) * high), block * wide,
            least(co, (block + 1) * wide));
    u = last;
  }
}

// ---------------------------------------------------------------- weight gradient

// Transpose 32 words of 32 bits: bit c of word r becomes bit r of word c.
template <int J>
INLINE void transpose_step(u4* a, uint32_t low) {  // J * 4 words apart
  for (int k = 0; k < 8; k++) {
    if (k & J) continue;
    const u4 t = ((a[k] >> (4 * J)) ^ a[k + J]) & low;
    a[k + J] ^= t;
    a[k] ^= t << (4 * J);
  }
}
INLINE void transpose32(u4* a) {
  transpose_step<4>(a, 0x0000FFFF);
  transpose_step<2>(a, 0x00FF00FF);
  transpose_step<1>(a, 0x0F0F0F0F);
  for (int k = 0; k < 8; k++) {
    u4 v = a[k], other = SHUFFLE4(v, v, 2, 3, 0, 1);
    u4 upper = (v & 0x33333333) | ((other & 0x33333333) << 2), lower = (v & 0xCCCCCCCC) | ((other >> 2) & 0x33333333);
    v = SHUFFLE4(upper, lower, 0, 1, 6, 7);
    other = SHUFFLE4(v, v, 1, 0, 3, 2);
    upper = (v & 0x55555555) | ((other & 0x55555555) << 1), lower = (v & 0xAAAAAAAA) | ((other >> 1) & 0x55555555);
    a[k] = SHUFFLE4(upper, lower, 0, 5, 2, 7);
  }
}

// to[t][c][0..cols) += factor * sum of the rows in list c, each t rows up, for T neighbouring taps and `channels` lists. One walk of a
// list serves all taps.
template <int V, int T>
static __attribute__((noinline)) void add_lists(float* to, int64_t stride, int64_t tap_stride, const uint32_t* list, const uint32_t* start,
                                                int64_t channels, uintptr_t rows, int64_t cols, float factor) {
  const vf f = splat(factor);
  const int part = (int)(cols - (V - 1) * LANES);
  for (int64_t c = 0; c < channels; c++, to += stride) {
    vf s[T][V];
    for (int t = 0; t < T; t++)
      for (int v = 0; v < V; v++) s[t][v] = vf{};
    for (const uint32_t *at = list + start[c], *end = list + start[c + 1]; at < end; at++) {
      const float* row = (const float*)(rows + *at);
      for (int t = 0; t < T; t++)
        for (int v = 0; v < V; v++) s[t][v] += load(row + (v - t * V) * LANES);
    }
    for (int t = 0; t < T; t++) {
      float* out = to + t * tap_stride;
      for (int v = 0; v < V - 1; v++) store(out + v * LANES, load(out + v * LANES) + s[t][v] * f);
      out += (V - 1) * LANES;
      store_lanes(out, load_lanes(out, part) + s[t][V - 1] * f, part);
    }
  }
}
typedef void (*AddLists)(float*, int64_t, int64_t, const uint32_t*, const uint32_t*, int64_t, uintptr_t, int64_t, float);
template <int V>
INLINE AddLists add_lists_of(int64_t vecs, int64_t taps) {
  if constexpr (V > 1) {
    if (vecs != V) return add_lists_of<V - 1>(vecs, taps);
  }
  return taps == 1 ? add_lists<V, 1> : taps == 2 ? add_lists<V, 2> : add_lists<V, 3>;
}

// Units: input channels (64 or more) within blocks of output channels, all taps of them, within chunks of images. Each reads all of
// its gy, so that few channels in a unit would read it many times. `spikeGradBlocks` of kernel-table.ts counts the same way.
#define SPIKE_UNIT_COLS 256  // at most: wide units decode spikes once for more columns
INLINE int64_t spike_unit_grad_cols(int64_t taps) { return taps > 1 ? 64 : SPIKE_UNIT_COLS; }
INLINE int64_t spike_unit_channels(int64_t ci, int64_t across) {
  const int64_t share = ceil_div(ceil_div(ci * across, 8), 8) * 8;
  return share > 64 ? share : 64;
}

// Positions of a block: rows of gy in scratch, and the words that meet them.
#define SPIKE_GRAD_VECS 4
#define SPIKE_GRAD_COLS (SPIKE_GRAD_VECS * LANES)
#define SPIKE_GRAD_TAPS 3
#define SPIKE_POSITIONS 320         // room in scratch
#define SPIKE_POSITIONS_USUAL 192   // where each tap gathers its own words
#define SPIKE_POSITIONS_SHARED 320  // where taps share lists, borders included
// Sums are kept in scratch while they fit: rows of the weights lie a power of two apart more often than not.
#define SPIKE_GRAD_OFFSET (SCRATCH_BYTES / 2)
static_assert((SPIKE_POSITIONS * (SPIKE_UNIT_COLS + 32 + 1) + 256) * 4 <= SPIKE_GRAD_OFFSET, "scratch");

struct SpikeGrad {
  const spike_conv2d_grad_weight_args& a;
  const uint32_t* x;
  float *to, *gy;  // sums of tap 0, channel a0, column c0
  int64_t stride, tap_stride;  // of the sums: from channel to channel, from tap to tap
  uint32_t *words_at, *list, *start;
  int64_t n0, n1, a0, a1, c0, c1, vecs;
  BitList bits;

  // Lists of `channels` channels of a word from its values at `count` positions (a multiple of 32).
  void decode(int64_t count, int64_t first, int64_t channels) const {
    for (int64_t b = 0; b < count; b += 32) transpose32((u4*)(words_at + b));
    uint32_t* to = list;
    for (int64_t c = 0; c < channels; c++) {
      start[c] = (uint32_t)(to - list);
      for (int64_t b = 0; b < count; b += 32) to = bits.append(to, words_at[b + first + c], (uint32_t)(b * vecs * LANES * 4));
    }
    start[channels] = (uint32_t)(to - list);
  }
  // Add the lists' rows of gy, `shift` positions on and one less for each further tap, to the weights of `taps` taps.
  void add(int64_t tap, int64_t taps, int64_t channel, int64_t channels, int64_t shift, int64_t plane) const {
    const float factor = (float)a.scale * (float)(1u << plane);
    for (int64_t col = c0; col < c1; col += SPIKE_GRAD_COLS) {
      const int64_t cols = least(SPIKE_GRAD_COLS, c1 - col), across = ceil_div(cols, LANES);
      // Several taps in one walk need rows as long as the sums.
      const int64_t together = across == vecs ? taps : 1;
      for (int64_t t = 0; t < taps; t += together) {
        const float* rows = gy + (col - c0) * SPIKE_POSITIONS + (shift - t) * vecs * LANES;
        add_lists_of<SPIKE_GRAD_VECS>(across, together)(to + (tap + t) * tap_stride + (channel - a0) * stride + col - c0, stride,
            tap_stride, list, start, channels, (uintptr_t)rows, cols, factor);
      }
    }
  }
  // Copy `count` positions of gy to position `at`.
  void pack(int64_t at, const float* from, int64_t count) const {
    for (int64_t col = c0; col < c1; col += SPIKE_GRAD_COLS)
      pack_scaled(gy + (col - c0) * SPIKE_POSITIONS + at * vecs * LANES, from + col, a.co, count, least(SPIKE_GRAD_COLS, c1 - col),
          vecs * LANES, 1);
  }
  void clear(int64_t at, int64_t count) const {
    for (int64_t col = c0; col < c1; col += SPIKE_GRAD_COLS)
      zero_floats(gy + (col - c0) * SPIKE_POSITIONS + at * vecs * LANES, count * vecs * LANES);
  }
  // f(word, first channel, channels, plane) for the unit's channels, word by word.
  template <class F>
  void each_word(const F& f) const {
    for (int64_t c = a0; c < a1;) {
      const int64_t next = least(a1, (c / 32 + 1) * 32);
      for (int64_t plane = 0; plane < (int64_t)a.planes; plane++) f(c / 32, c, next - c, plane);
      c = next;
    }
  }

  // Any stride: blocks of output positions; each tap gathers the words that it meets.
  void by_tap() const {
    const int64_t words = ceil_div((int64_t)a.ci, 32), taps = (int64_t)a.kh * (int64_t)a.kw;
    const int64_t image = (int64_t)a.oh * (int64_t)a.ow, positions = n1 * image;
    for (int64_t at = n0 * image; at < positions; at += SPIKE_POSITIONS_USUAL) {
      const int64_t count = least(SPIKE_POSITIONS_USUAL, positions - at), padded = ceil_div(count, 32) * 32;
      pack(0, (const float*)a.gy + at * (int64_t)a.co, count);
      each_word([&](int64_t word, int64_t channel, int64_t channels, int64_t plane) {
        for (int64_t tap = 0; tap < taps; tap++) {
          gather_words(words_at, a, at, count, tap, plane * words + word);
          for (int64_t i = count; i < padded; i++) words_at[i] = 0;
          decode(padded, channel & 31, channels);
          add(tap, 1, channel, channels, 0, plane);
        }
      });
    }
  }

  // Stride 1: blocks of input positions with the output around them (zeros outside); a tap only shifts where gy is read, so that
  // all taps share one set of lists. A block is a few rows of an image, or a few whole images; in both gy and words each row
  // has `across` positions, each image part `rows` + margin rows.
  void by_input() const {
    const int64_t words = ceil_div((int64_t)a.ci, 32), step = words * (int64_t)a.planes, kh = a.kh, kw = a.kw, h = a.h, w = a.w,
          oh = a.oh, ow = a.ow;
    const int64_t margin_y = (kh - 1) * (int64_t)a.dh, margin_x = (kw - 1) * (int64_t)a.dw;
    // So wide that at least one row has room with its margin.
    const int64_t most = least(64, SPIKE_POSITIONS_SHARED / (margin_y + 1) - margin_x), wide = ceil_div(w, ceil_div(w, most));
    const int64_t across = wide + margin_x, lines = SPIKE_POSITIONS_SHARED / across - margin_y;
    const int64_t high = least(h, lines > 1 ? lines : 1), parts_in_image = ceil_div(h, high), part = (high + margin_y) * across;
    if (part > SPIKE_POSITIONS) __builtin_trap();
    const int64_t together = SPIKE_POSITIONS_SHARED / part, parts = n1 * parts_in_image;
    for (int64_t left = 0; left < w; left += wide)
      for (int64_t first = n0 * parts_in_image; first < parts; first += together) {
        const int64_t count = least(together, parts - first), padded = ceil_div(count * part, 32) * 32;
        for (int64_t q = 0; q < count; q++) {
          const int64_t image = (first + q) / parts_in_image, oy0 = (first + q) % parts_in_image * high + (int64_t)a.ph - margin_y;
          const int64_t ox0 = left + (int64_t)a.pw - margin_x, lo = ox0 < 0 ? least(-ox0, across) : 0,
                inside = ow - ox0 < across ? ow - ox0 : across;
          const int64_t hi = inside > lo ? inside : lo;
          for (int64_t r = 0; r < high + margin_y; r++) {
            const int64_t oy = oy0 + r, at = q * part + r * across;
            if (oy < 0 || oy >= oh) {
              clear(at, across);
              continue;
            }
            clear(at, lo);
            pack(at + lo, (const float*)a.gy + ((image * oh + oy) * ow + ox0 + lo) * (int64_t)a.co, hi - lo);
            clear(at + hi, across - hi);
          }
        }
        each_word([&](int64_t word, int64_t channel, int64_t channels, int64_t plane) {
          for (int64_t i = 0; i < padded; i++) words_at[i] = 0;
          for (int64_t q = 0; q < count; q++) {
            const int64_t image = (first + q) / parts_in_image, iy = (first + q) % parts_in_image * high;
            for (int64_t r = 0; r < least(high, h - iy); r++) {
              const uint32_t* row = x + ((image * h + iy + r) * w + left) * step + plane * words + word;
              for (int64_t i = 0; i < least(wide, w - left); i++) words_at[q * part + r * across + i] = row[i * step];
            }
          }
          decode(padded, channel & 31, channels);
          for (int64_t ky = 0; ky < kh; ky++)
            for (int64_t kx = 0, taps; kx < kw; kx += taps) {
              taps = (int64_t)a.dw == 1 ? least(SPIKE_GRAD_TAPS, kw - kx) : 1;
              add(ky * kw + kx, taps, channel, channels, (margin_y - ky * (int64_t)a.dh) * across + margin_x - kx * (int64_t)a.dw, plane);
            }
        });
      }
  }
};

KERNEL(spike_conv2d_grad_weight) {
#if defined(TILES)
  if (a.terms) return tile_spike_grad_weight(a, tile);
#endif
  const int64_t n = a.n, ci = a.ci, co = a.co, taps = (int64_t)a.kh * (int64_t)a.kw, chunks = a.chunks, wide = spike_unit_grad_cols(taps),
                across = ceil_div(co, wide), channels = spike_unit_channels(ci, across), down = ceil_div(ci, channels);
  const int64_t units = chunks * across * down, end = tile.end(units), room = (SCRATCH_BYTES - SPIKE_GRAD_OFFSET) / (wide * 4);
  const bool shared = taps > 1 && (int64_t)a.sh == 1 && (int64_t)a.sw == 1 && ((int64_t)a.kh - 1) * (int64_t)a.dh <= 4 &&
      ((int64_t)a.kw - 1) * (int64_t)a.dw <= 8;
  for (int64_t u = tile.begin(units); u < end;) {
    // The units of one block of columns are neighbours: take them together, so that gy is packed once, while the sums have room.
    const int64_t column = u / down, fit = room / (taps * channels), most = least(end, (column + 1) * down);
    const int64_t last = least(most, u + (fit > 1 ? fit : 1)), chunk = column / across, block = column - chunk * across;
    const int64_t a0 = (u - column * down) * channels, a1 = least(ci, (last - column * down) * channels);
    const int64_t c0 = block * wide, c1 = least(co, c0 + wide), vecs = least(SPIKE_GRAD_VECS, ceil_div(c1 - c0, LANES));
    u = last;
    float* gy = (float*)tile.scratch;
    uint32_t* words_at = (uint32_t*)(gy + SPIKE_POSITIONS * SPIKE_UNIT_COLS);
    uint32_t* start = words_at + SPIKE_POSITIONS;
    const bool local = taps * (a1 - a0) <= room;
    float *sums = (float*)(tile.scratch + SPIKE_GRAD_OFFSET), *gw = (float*)a.gw + (chunk * taps * ci + a0) * co + c0;
    const int64_t stride = local ? wide : co, tap_stride = (local ? a1 - a0 : ci) * stride;
    float* to = local ? sums : gw;
    for (int64_t t = 0; t < taps; t++)
      for (int64_t c = 0; c < a1 - a0; c++) zero_floats(to + t * tap_stride + c * stride, c1 - c0);
    const SpikeGrad grad{a, a.x, to, gy, stride, tap_stride, words_at, start + 64, start, n * chunk / chunks, n * (chunk + 1) / chunks, a0, a1, c0, c1, vecs,
        BitList((uint32_t)(vecs * LANES * 4))};
    shared ? grad.by_input() : grad.by_tap();
    for (int64_t t = 0; t < taps && local; t++)
      for (int64_t c = 0; c < a1 - a0; c++) copy_floats(gw + (t * ci + c) * co, sums + t * tap_stride + c * stride, c1 - c0);
  }
}

// ---------------------------------------------------------------- operations on packed spikes

// The bits of LANES channels from channel c (a multiple of LANES) on.
INLINE uint32_t row_bits(const uint32_t* row, int64_t c) { return (row[c >> 5] >> (c & 31)) & (uint32_t)((1ull << LANES) - 1); }

KERNEL(spike_pack) {
  const int64_t c = a.c, planes = a.planes, words = ceil_div(c, 32), end = tile.end(a.rows);
  const vf inverse = splat(1.0f / (float)a.scale);
  for (int64_t r = tile.begin(a.rows); r < end; r++) {
    const float* x = (const float*)a.x + r * c;
    uint32_t* y = (uint32_t*)a.y + r * planes * words;
    for (int64_t word = 0; word < words; word++) {
      uint32_t bits[32] = {};
      for (int64_t j = word * 32; j < least(c, word * 32 + 32); j += LANES) {
        const vf v = c - j >= LANES ? load(x + j) : load_part(x + j, (int)(c - j));
        // Scaled values are integers up to rounding: half up finds them.
        const vi value = __builtin_convertvector(v * inverse + 0.5f, vi);
        for (int64_t p = 0; p < planes; p++) bits[p] |= mask_to_bits((value & (1 << p)) != 0) << (j & 31);
      }
      for (int64_t p = 0; p < planes; p++) y[p * words + word] = bits[p];
    }
  }
}

KERNEL(spike_unpack) {
  const int64_t c = a.c, planes = a.planes, words = ceil_div(c, 32), end = tile.end(a.rows);
  for (int64_t r = tile.begin(a.rows); r < end; r++) {
    const uint32_t* x = (const uint32_t*)a.x + r * planes * words;
    float* y = (float*)a.y + r * c;
    for (int64_t j = 0; j < c; j += LANES) {
      vf v{};
      for (int64_t p = 0; p < planes; p++)
        v += select(bits_to_mask(row_bits(x + p * words, j)), splat((float)a.scale * (float)(1u << p)), vf{});
      if (c - j >= LANES)
        store(y + j, v);
      else
        store_part(y + j, v, (int)(c - j));
    }
  }
}

KERNEL(spike_and) {
  const uint32_t *l = a.a, *r = a.b;
  uint32_t* y = a.y;
  const int64_t end = tile.end(a.n);
  for (int64_t i = tile.begin(a.n); i < end; i++) y[i] = l[i] & r[i];
}

KERNEL(spike_and_rows) {
  const int64_t n = a.n, words = a.words, end = tile.end(a.outer);
  for (int64_t o = tile.begin(a.outer); o < end; o++) {
    const uint32_t* mask = (const uint32_t*)a.mask + o * words;
    for (int64_t j = o * n; j < (o + 1) * n; j++)
      for (int64_t k = 0; k < words; k++) ((uint32_t*)a.y)[j * words + k] = ((const uint32_t*)a.a)[j * words + k] & mask[k];
  }
}

KERNEL(spike_count_rows) {
  const int64_t n = a.n, c = a.c, words = ceil_div(c, 32), end = tile.end(a.outer);
  for (int64_t o = tile.begin(a.outer); o < end; o++) {
    const uint32_t* x = (const uint32_t*)a.x + o * n * words;
    for (int64_t j = 0; j < c; j += LANES) {
      vi count{};  // a set lane is -1
      for (int64_t i = 0; i < n; i++) count -= bits_to_mask(row_bits(x + i * words, j));
      const vf v = __builtin_convertvector(count, vf) * splat(a.scale);
      if (c - j >= LANES)
        store((float*)a.y + o * c + j, v);
      else
        store_part((float*)a.y + o * c + j, v, (int)(c - j));
    }
  }
}

KERNEL(spike_mask) {
  const int64_t n = a.n, gn = a.gn, xn = a.xn, c = a.c, words = ceil_div(c, 32), end = tile.end(a.outer);
  const vf scale = splat(a.scale);
  for (int64_t o = tile.begin(a.outer); o < end; o++)
    for (int64_t i = 0; i < n; i++) {
      const float* g = (const float*)a.g + (o * gn + (gn == 1 ? 0 : i)) * c;
      const uint32_t* x = (const uint32_t*)a.x + (o * xn + (xn == 1 ? 0 : i)) * words;
      float* y = (float*)a.y + (o * n + i) * c;
      int64_t j = 0;
      for (; j + LANES <= c; j += LANES) store(y + j, select(bits_to_mask(row_bits(x, j)), load(g + j) * scale, vf{}));
      if (j < c) store_part(y + j, select(bits_to_mask(row_bits(x, j)), load_part(g + j, (int)(c - j)) * scale, vf{}), (int)(c - j));
    }
}

KERNEL(spike_mask_reduce) {
  const int64_t n = a.n, c = a.c, words = ceil_div(c, 32), end = tile.end(a.outer);
  for (int64_t o = tile.begin(a.outer); o < end; o++) {
    const float* g = (const float*)a.g + o * n * c;
    const uint32_t* x = (const uint32_t*)a.x + o * n * words;
    for (int64_t j = 0; j < c; j += LANES) {
      const int part = (int)least(LANES, c - j);
      vf s{};
      for (int64_t i = 0; i < n; i++) {
        const float* at = g + i * c + j;
        s += select(bits_to_mask(row_bits(x + i * words, j)), part == LANES ? load(at) : load_part(at, part), vf{});
      }
      if (part == LANES)
        store((float*)a.y + o * c + j, s);
      else
        store_part((float*)a.y + o * c + j, s, part);
    }
  }
}

// Set bits of n words, LANES words at a time: not every instruction set counts bits, and this costs a sixteenth of reading floats.
INLINE int64_t count_bits(const uint32_t* x, int64_t n) {
  int64_t total = 0, i = 0;
  while (i + LANES <= n) {
    vi bytes{};  // of each byte a count of at most 31 * 8
    for (const int64_t stop = least(n - LANES, i + 30 * LANES); i <= stop; i += LANES) {
      vi v = load((const int32_t*)x + i);
      v -= (v >> 1) & 0x55555555;
      v = (v & 0x33333333) + ((v >> 2) & 0x33333333);
      bytes += (v + (v >> 4)) & 0x0F0F0F0F;
    }
    const vi pairs = (bytes & 0x00FF00FF) + ((bytes >> 8) & 0x00FF00FF), sums = (pairs & 0xFFFF) + (pairs >> 16);
    for (int lane = 0; lane < LANES; lane++) total += sums[lane];
  }
  for (; i < n; i++) total += __builtin_popcount(x[i]);
  return total;
}

KERNEL(spike_stats) {
  const int64_t planes = a.planes, words = ceil_div((int64_t)a.c, 32), chunks = a.chunks, rows = a.rows, end = tile.end(chunks);
  for (int64_t q = tile.begin(chunks); q < end; q++) {
    int64_t sum = 0, active = 0;
    if (planes == 1) {
      const int64_t first = rows * q / chunks * words, last = rows * (q + 1) / chunks * words;
      sum = active = count_bits((const uint32_t*)a.x + first, last - first);
    }
    for (int64_t r = rows * q / chunks; planes > 1 && r < rows * (q + 1) / chunks; r++) {
      const uint32_t* x = (const uint32_t*)a.x + r * planes * words;
      for (int64_t k = 0; k < words; k++) {
        uint32_t any = 0;
        for (int64_t p = 0; p < planes; p++) {
          any |= x[p * words + k];
          sum += (int64_t)__builtin_popcount(x[p * words + k]) << p;
        }
        active += __builtin_popcount(any);
      }
    }
    ((float*)a.partial)[q * 2] = (float)sum;
    ((float*)a.partial)[q * 2 + 1] = (float)active;
  }
}
