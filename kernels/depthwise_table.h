// Depth-wise convolution of packed spikes by tables of sums.
//
// Taps beside each other in a row of the window meet neighbouring bits, so the sum of their weights is looked up by those bits: a vector
// holds one channel of LANES output columns, and a row of up to 7 taps costs it two or three look-ups for as many additions. The bits of
// 32 channels are turned so that a word holds a row of one channel, and blocks of outputs are turned back.
#pragma once

// Ask early for memory? WebAssembly has no instruction for it.
#if defined(__wasm__)
#define DW_ASKS false
#else
#define DW_ASKS true
#endif

#define DWT_TAPS 7       // most taps of a row or a column
#define DWT_CHANNELS 16  // whose outputs are turned together
#define DWT_TALL 16      // output rows of a band
#define DWT_BANDS 8      // that share a channel's tables
#define DWT_ROWS 32      // room for a band's rows of bits
#define DWT_BLOCKS ((33 - DWT_TAPS) / LANES)  // vectors whose windows lie in one word
#define DWT_BAND_FLOATS (DWT_TALL * DWT_BLOCKS * DWT_CHANNELS * LANES)
static_assert(DWT_TALL + DWT_TAPS - 1 <= DWT_ROWS, "rows");

// Outputs [row, row + rows) x [left, left + across) of an image.
struct DwtBand {
  int64_t image, row, rows, left, across;
  int blocks() const { return (int)ceil_div(across, LANES); }
};

// Word r of channel k of 32, at bits[k * DWT_ROWS + r]: bit i is column left - pad + i of input row row - pad + r, 0 outside the image.
template <class A>
INLINE void dwt_bits(uint32_t* bits, const A& a, const DwtBand& band, int64_t word) {
  const int64_t h = a.h, w = a.w, words = ceil_div((int64_t)a.co, 32), top = band.row - (int64_t)a.ph, x0 = band.left - (int64_t)a.pw;
  const int64_t from = x0 < 0 ? -x0 : 0, to = least(band.across + (int64_t)a.kw - 1, w - x0);
  const uint32_t* x = (const uint32_t*)a.x + band.image * h * w * words + word;
  alignas(VEC_BYTES) uint32_t t[32 * LANES];  // a lane is a row
  for (int64_t first = 0; first < band.rows + (int64_t)a.kh - 1; first += LANES) {
    for (int i = 0; i < 32; i++) store((int32_t*)t + i * LANES, vi{});
    for (int64_t r = 0; r < LANES; r++) {
      const int64_t y = top + first + r;
      if (y < 0 || y >= h) continue;
      for (int64_t i = from; i < to; i++) t[i * LANES + r] = x[(y * w + x0 + i) * words];
    }
    // The transposition of 32 x 32 bits in every lane.
    uint32_t mask = 0x0000FFFF;
    for (int j = 16; j; j >>= 1, mask ^= mask << j)
      for (int k = 0; k < 32; k = (k + j + 1) & ~j) {
        int32_t *p = (int32_t*)t + k * LANES, *q = p + j * LANES;
        const vu u = (vu)load(p), v = (vu)load(q), swapped = ((u >> j) ^ v) & mask;
        store(q, (vi)(v ^ swapped));
        store(p, (vi)(u ^ (swapped << j)));
      }
    for (int i = 0; i < 32; i++) store((int32_t*)bits + i * DWT_ROWS + first, load((const int32_t*)t + i * LANES));
  }
}

#if LANES == 16
// Tables of 16 sums, by taps 0 to 3 and by taps 4 to 7 of a row, looked up in registers.
#define DWT_PARTS 2
#define DWT_ENTRIES 1
#if defined(__clang__)
INLINE vf dwt_permute(vf table, vi index) { return (vf)__builtin_ia32_permvarsf512(table, index); }
#else
INLINE vf dwt_permute(vf table, vi index) { return __builtin_shuffle(table, index); }
#endif
#define DWT_LANE_NUMBERS (vi{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
INLINE void dwt_tables(float* table, const float* w, int kh, int kw, int64_t tap, float) {
  for (int ky = 0; ky < kh; ky++)
    for (int part = 0; part < DWT_PARTS; part++, table += LANES) {
      vf sum{};
      for (int t = 0; t < 4 && part * 4 + t < kw; t++)
        sum += select((DWT_LANE_NUMBERS & (1 << t)) != 0, splat(w[(ky * kw + part * 4 + t) * tap]), vf{});
      store(table, sum);
    }
}
#else
// A table gives the vector of what five bits of the columns that LANES outputs meet add to them: [part][bits][row of the window].
#define DWT_PARTS (LANES == 4 ? 2 : 3)
#define DWT_ENTRIES 32
static_assert(LANES - 1 + DWT_TAPS <= 5 * DWT_PARTS, "bits");
INLINE void dwt_tables(float* table, const float* w, int kh, int kw, int64_t tap, float scale) {
  for (int ky = 0; ky < kh; ky++) {
    // Lane o of bit p meets tap p - o: the turned row among zeros.
    float turned[5 * DWT_PARTS + LANES] = {};
    for (int kx = 0; kx < kw; kx++) turned[5 * DWT_PARTS - 1 - kx] = w[(ky * kw + kx) * tap] * scale;
    for (int part = 0; part < DWT_PARTS; part++) {
      float* at = table + (part * DWT_ENTRIES * kh + ky) * LANES;
      const float* bit = turned + 5 * DWT_PARTS - 1 - part * 5;
      const vf b0 = load(bit), b1 = load(bit - 1), b2 = load(bit - 2), b3 = load(bit - 3), b4 = load(bit - 4), b01 = b0 + b1;
      const vf low[8] = {vf{}, b0, b1, b01, b2, b0 + b2, b1 + b2, b01 + b2}, high[4] = {vf{}, b3, b4, b3 + b4};
      for (int i = 0; i < 32; i++) store(at + i * kh * LANES, low[i & 7] + high[i >> 3]);
    }
  }
}
#endif
#define DWT_TABLE_FLOATS (DWT_PARTS * DWT_ENTRIES * DWT_TAPS * LANES)
static_assert((DWT_BANDS * (32 * DWT_ROWS + DWT_BAND_FLOATS) + DWT_TABLE_FLOATS) * sizeof(float) <= SCRATCH_BYTES, "scratch");

// One channel's vectors of LANES columns from bit `shift` on, `step` floats apart: `start` plus the sums of KH rows of the window, of
// input rows [from, to) alone. The sums of KH output rows are under way at a time.
template <int KH>
static __attribute__((noinline)) void dwt_column(const float* table, const uint32_t* bits, int shift, int64_t rows, int64_t from, int64_t to,
                                                 float start, float scale, float* y, int64_t step) {
  vf s[KH];
  for (int k = 0; k < KH; k++) s[k] = splat(start);
#if LANES == 16
  const vf factor = splat(scale);  // here, not in the tables: a product and sum goes to units of its own beside look-ups and sums
  vf tables[KH][DWT_PARTS];
  for (int k = 0; k < KH; k++)
    for (int part = 0; part < DWT_PARTS; part++) tables[k][part] = load(table + (k * DWT_PARTS + part) * LANES);
#endif
  for (int64_t r = 0; r < rows + KH - 1; r++) {
    if (r >= from && r < to) {
#if LANES == 16
      const vi word = splat((int32_t)(bits[r] >> shift)), low = (vi)((vu)word >> (vu)DWT_LANE_NUMBERS),
               high = (vi)((vu)word >> (vu)(DWT_LANE_NUMBERS + 4));
      for (int k = 0; k < KH; k++) s[KH - 1 - k] += (dwt_permute(tables[k][0], low) + dwt_permute(tables[k][1], high)) * factor;
#else
      const uint32_t word = bits[r] >> shift;
      const float* at[DWT_PARTS];
      for (int part = 0; part < DWT_PARTS; part++) at[part] = table + (part * DWT_ENTRIES + ((word >> (5 * part)) & 31)) * KH * LANES;
      for (int k = 0; k < KH; k++) {
        vf sum = load(at[0] + k * LANES) + load(at[1] + k * LANES);
        for (int part = 2; part < DWT_PARTS; part++) sum += load(at[part] + k * LANES);
        s[KH - 1 - k] += sum;
      }
#endif
    }
    if (r >= KH - 1) store(y + (r - KH + 1) * step, s[0]);
    for (int k = 0; k + 1 < KH; k++) s[k] = s[k + 1];
    s[KH - 1] = splat(start);
  }
}
typedef void (*DwtColumn)(const float*, const uint32_t*, int, int64_t, int64_t, int64_t, float, float, float*, int64_t);
template <int KH>
INLINE DwtColumn dwt_column_of(int64_t kh) {
  if constexpr (KH > 5) {
    if (kh != KH) return dwt_column_of<KH - 1>(kh);
  }
  return dwt_column<KH>;
}

// DWT_CHANNELS vectors of LANES columns, turned: `columns` of them, `cols` channels each.
INLINE void dwt_turn(const float* from, float* y, int64_t step, int columns, int cols) {
#if LANES == 16
#if defined(__clang__)
#define SHUFFLE16(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE16(a, b, ...) __builtin_shuffle(a, b, vi{__VA_ARGS__})
#endif
  vf a[16], b[16];
  for (int i = 0; i < 16; i++) a[i] = load(from + i * LANES);
  for (int i = 0; i < 16; i += 2) {
    b[i] = SHUFFLE16(a[i], a[i + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    b[i + 1] = SHUFFLE16(a[i], a[i + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; j++) {
      a[i + 2 * j] = SHUFFLE16(b[i + j], b[i + j + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
      a[i + 2 * j + 1] = SHUFFLE16(b[i + j], b[i + j + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
  // a[4 g + j]: column 4 q + j of channels 4 g to 4 g + 3 in quarter q.
  for (int j = 0; j < 4; j++) {
    const vf u = SHUFFLE16(a[j], a[j + 4], 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23),
             v = SHUFFLE16(a[j + 8], a[j + 12], 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23),
             r = SHUFFLE16(a[j], a[j + 4], 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31),
             s = SHUFFLE16(a[j + 8], a[j + 12], 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
    b[j] = SHUFFLE16(u, v, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    b[j + 4] = SHUFFLE16(u, v, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    b[j + 8] = SHUFFLE16(r, s, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
    b[j + 12] = SHUFFLE16(r, s, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
  }
  if (columns == LANES && cols == LANES)
    for (int i = 0; i < LANES; i++) store(y + i * step, b[i]);
  else
    for (int i = 0; i < columns; i++) store_lanes(y + i * step, b[i], cols);
#else
  alignas(16) float aside[LANES * DWT_CHANNELS];
  const bool whole = columns == LANES && cols == DWT_CHANNELS;
  float* to = whole ? y : aside;
  const int64_t apart = whole ? step : DWT_CHANNELS;
  for (int q = 0; q < LANES; q += 4)
    for (int g = 0; g < DWT_CHANNELS; g += 4) {
      f4 r[4];
      for (int j = 0; j < 4; j++) r[j] = *reinterpret_cast<const f4_loose*>(from + (g + j) * LANES + q);
      transpose4(r);
      for (int j = 0; j < 4; j++) *reinterpret_cast<f4_loose*>(to + (q + j) * apart + g) = r[j];
    }
  if (!whole)
    for (int i = 0; i < columns; i++) copy_floats(y + i * step, aside + i * DWT_CHANNELS, cols);
#endif
}

// Is it for this kernel, and worth its while: neither lanes nor turned channels much in vain?
template <class A>
INLINE bool dwt_serves(const A& a) {
  const int64_t kh = a.kh, kw = a.kw, ow = a.ow;
  return a.planes == 1 && kh >= 5 && kh <= DWT_TAPS && kw >= 5 && kw <= DWT_TAPS && (int64_t)a.sh == 1 && (int64_t)a.sw == 1 &&
      (int64_t)a.dh == 1 && (int64_t)a.dw == 1 && (int64_t)a.co >= DWT_CHANNELS && 3 * ow >= 2 * LANES * ceil_div(ow, LANES);
}

template <class A>
static void dwt_tile(const A& a, const Tile& tile) {
  const int64_t oh = a.oh, ow = a.ow, c = a.co, h = a.h, kh = a.kh, end = tile.end((int64_t)a.n * oh);
  uint32_t* bits = (uint32_t*)tile.scratch;
  float *sums = (float*)(bits + DWT_BANDS * 32 * DWT_ROWS), *table = sums + DWT_BANDS * DWT_BAND_FLOATS;
  const DwtColumn column = dwt_column_of<DWT_TAPS>(kh);
  const auto batch = [&](const DwtBand* bands, int64_t count) {
    for (int64_t c0 = 0; c0 < c; c0 += DWT_CHANNELS) {
      const int cols = (int)least(DWT_CHANNELS, c - c0);
      if (c0 % 32 == 0)
        for (int64_t i = 0; i < count; i++) dwt_bits(bits + i * 32 * DWT_ROWS, a, bands[i], c0 / 32);
      for (int k = 0; k < cols; k++) {
        dwt_tables(table, (const float*)a.wt + c0 + k, (int)kh, (int)(int64_t)a.kw, c, a.scale);
        for (int64_t i = 0; i < count; i++) {
          const DwtBand& band = bands[i];
          const int64_t top = band.row - (int64_t)a.ph, blocks = band.blocks();
          // Where the results of these channels will go is asked for meanwhile, a share with each channel.
          for (int64_t r = k; DW_ASKS && r < band.rows; r += cols)
            for (int64_t j = 0; j < band.across; j++)
              __builtin_prefetch((const float*)a.y + ((band.image * oh + band.row + r) * ow + band.left + j) * c + c0, 1);
          for (int64_t b = 0; b < blocks; b++)
            column(table, bits + (i * 32 + c0 % 32 + k) * DWT_ROWS, (int)(b * LANES), band.rows, -top, h - top,
                a.bias ? ((const float*)a.bias)[c0 + k] : 0.0f, (float)a.scale, sums + i * DWT_BAND_FLOATS + (b * DWT_CHANNELS + k) * LANES,
                blocks * DWT_CHANNELS * LANES);
        }
      }
      for (int64_t i = 0; i < count; i++) {
        const DwtBand& band = bands[i];
        const float* from = sums + i * DWT_BAND_FLOATS;
        for (int64_t r = 0; r < band.rows; r++)
          for (int64_t b = 0; b < band.blocks(); b++, from += DWT_CHANNELS * LANES)
            dwt_turn(from, (float*)a.y + ((band.image * oh + band.row + r) * ow + band.left + b * LANES) * c + c0, c,
                (int)least(LANES, band.across - b * LANES), cols);
      }
    }
  };
  DwtBand bands[DWT_BANDS];
  int64_t count = 0;
  for (int64_t at = tile.begin((int64_t)a.n * oh), rows; at < end; at += rows) {
    const int64_t image = at / oh, row = at - image * oh;
    rows = least(DWT_TALL, least(end - at, oh - row));
    for (int64_t left = 0; left < ow; left += DWT_BLOCKS * LANES) {
      bands[count++] = DwtBand{image, row, rows, left, least(DWT_BLOCKS * LANES, ow - left)};
      if (count == DWT_BANDS) batch(bands, count), count = 0;
    }
  }
  if (count) batch(bands, count);
}
