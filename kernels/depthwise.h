// Depth-wise convolution of floats and of packed spikes, and its gradients.
//
// The input that a band of output rows meets is first staged in scratch memory as [vector of channels][row][column], zeros beside the
// image, spikes as their values. A vector's window then lies in the first-level cache whatever the image's strides are (with a power of
// two of channels its rows would fall into few cache sets), and one inner loop serves floats, spikes and the input gradient.
#pragma once

// Channels, positions and taps in scratch at a time.
#define DW_CHANNELS 64
#define DW_VECS (DW_CHANNELS / LANES)
#define DW_POSITIONS 1536
#define DW_WIDE 1024   // most columns of a staged row
#define DW_REACH 512   // most columns that one pass's taps span
#define DW_TAPS 512

// Where a staged window finds a tap, and its weights: floats from the window's first position, from the first weight.
struct DwTap {
  int32_t x, w;
};
static_assert(DW_CHANNELS * (DW_POSITIONS + DW_TAPS) * sizeof(float) + DW_TAPS * sizeof(DwTap) <= SCRATCH_BYTES, "scratch");
static_assert(2 * DW_CHANNELS * DW_POSITIONS * sizeof(float) <= SCRATCH_BYTES, "scratch");

// Rows (or columns): output first + i * every meets, for each k < taps, source position i * step + offset + k * slope with the weight's
// row (or column) tap + k * tap_step.
struct DwAxis {
  int64_t source, outputs, first, every, step, offset, slope, taps, tap, tap_step;
  int64_t count() const { return outputs > first ? ceil_div(outputs - first, every) : 0; }
  int64_t at(int64_t k) const { return offset + k * slope; }
  // First of the source positions of taps [k, k + n) relative to the output's; how many positions they span.
  int64_t low(int64_t k, int64_t n) const { return slope > 0 ? at(k) : at(k + n - 1); }
  int64_t span(int64_t n) const { return (n - 1) * (slope > 0 ? slope : -slope) + 1; }
  // How many taps span at most `room` positions (one at least).
  int64_t fit(int64_t room) const { return least(taps, (room - 1) / (slope > 0 ? slope : -slope) + 1); }
};
INLINE DwAxis dw_forward(int64_t source, int64_t outputs, int64_t taps, int64_t stride, int64_t pad, int64_t dilation) {
  return DwAxis{source, outputs, 0, 1, stride, -pad, dilation, taps, 0, 1};
}
// The input gradient: its outputs are the positions of the convolution's input. With a stride, those of one phase (every stride-th)
// meet the same taps.
INLINE DwAxis dw_backward(int64_t source, int64_t outputs, int64_t taps, int64_t stride, int64_t pad, int64_t dilation, int64_t phase) {
  int64_t tap = 0, common = stride;
  while (tap < least(taps, stride) && (phase + pad - tap * dilation) % stride != 0) tap++;
  for (int64_t rest = dilation; rest;) {  // Euclid's greatest common divisor
    const int64_t next = common % rest;
    common = rest, rest = next;
  }
  const int64_t step = stride / common;
  const int64_t count = tap < least(taps, stride) ? ceil_div(taps - tap, step) : 0;
  return DwAxis{source, outputs, phase, stride, 1, (phase + pad - tap * dilation) / stride, -(step * dilation / stride), count, tap, step};
}

// Staging of columns [from, to) of a source row: vector v of the `cols` channels from c0 on goes to `out + v * stride`.
struct DwFloats {
  const float* x;
  int64_t w, c;
  void stage(float* out, int64_t stride, int64_t row, int64_t from, int64_t to, int64_t c0, int64_t cols) const {
    const float* in = x + (row * w + from) * c + c0;
    for (int64_t i = from; i < to; i++, in += c, out += LANES)
      for (int64_t j = 0, v = 0; j < cols; j += LANES, v++) store(out + v * stride, load_lanes(in + j, (int)least(LANES, cols - j)));
  }
  // Ask for a line of columns [from, to) early: the next channels lie in as many cache lines again.
  void ask(int64_t row, int64_t from, int64_t to, int64_t channel) const {
    for (int64_t i = from; i < to; i++) __builtin_prefetch(x + (row * w + i) * c + channel, 0, 2);
  }
};
struct DwSpikes {
  const uint32_t* x;
  int64_t w, c, planes;
  float scale;
  void stage(float* out, int64_t stride, int64_t row, int64_t from, int64_t to, int64_t c0, int64_t cols) const {
    const int64_t words = ceil_div(c, 32);
    const uint32_t* in = x + (row * w + from) * planes * words;
    for (int64_t i = from; i < to; i++, in += planes * words, out += LANES)
      for (int64_t j = 0, v = 0; j < cols; j += LANES, v++) {
        vf value = select(bits_to_mask(row_bits(in, c0 + j)), splat(scale), vf{});
        for (int64_t p = 1; p < planes; p++)
          value += select(bits_to_mask(row_bits(in + p * words, c0 + j)), splat(scale * (float)(1u << p)), vf{});
        store(out + v * stride, value);
      }
  }
  void ask(int64_t, int64_t, int64_t, int64_t) const {}
};

// Stage source rows [row, row + rows), those inside the image, from column `column` on, `wide` columns each.
template <class Source>
INLINE void dw_stage(const Source& source, float* out, int64_t stride, const DwAxis& ay, const DwAxis& ax, int64_t row, int64_t rows,
                     int64_t column, int64_t wide, int64_t c0, int64_t cols) {
  const int64_t from = column < 0 ? least(-column, wide) : 0, end = ax.source - column < wide ? ax.source - column : wide,
                to = end > from ? end : from;
  for (int64_t r = 0; r < rows; r++) {
    if (row + r < 0 || row + r >= ay.source) continue;
    float* line = out + r * wide * LANES;
    for (int64_t v = 0; v * LANES < cols; v++) {
      zero_floats(line + v * stride, from * LANES);
      zero_floats(line + v * stride + to * LANES, (wide - to) * LANES);
    }
    source.stage(line + from * LANES, stride, row + r, column + from, column + to, c0, cols);
  }
}

// How the work on an image is cut: strips of output columns, bands of output rows, passes over taps. Shapes alone decide.
struct DwCut {
  int64_t kx, ky, strip, wide, rows;
  DwCut(const DwAxis& ay, const DwAxis& ax) {
    kx = least(DW_TAPS, ax.fit(DW_REACH));
    strip = least(ax.count(), (DW_WIDE - ax.span(kx)) / ax.step + 1);
    wide = (strip - 1) * ax.step + ax.span(kx);
    const int64_t tall = DW_POSITIONS / wide;
    ky = least(DW_TAPS / kx, ay.fit(tall));
    rows = (tall - ay.span(ky)) / ay.step + 1;
  }
};

// P neighbouring outputs of one vector: y = start + sum over taps of x * w; a weight is loaded once for all.
template <int P, bool UNIT>
static __attribute__((noinline)) void dw_outputs(const DwTap* taps, int64_t count, const float* x, int64_t xstep, const float* weights,
                                                 const float* start, int64_t start_step, float* y, int64_t ystep, int lanes) {
  const int64_t step = UNIT ? LANES : xstep;
  vf s[P];
  for (int p = 0; p < P; p++) s[p] = start ? load_lanes(start + p * start_step, lanes) : vf{};
  for (int64_t t = 0; t < count; t++) {
    const vf w = load(weights + taps[t].w);
    const float* from = x + taps[t].x;
    for (int p = 0; p < P; p++) s[p] += load(from + p * step) * w;
  }
  for (int p = 0; p < P; p++) store_lanes(y + p * ystep, s[p], lanes);
}
typedef void (*DwOutputs)(const DwTap*, int64_t, const float*, int64_t, const float*, const float*, int64_t, float*, int64_t, int);
#define DW_OUTPUTS 8
template <int P>
INLINE DwOutputs dw_outputs_of(int64_t outputs, bool unit) {
  if constexpr (P > 1) {
    if (outputs != P) return dw_outputs_of<P - 1>(outputs, unit);
  }
  return unit ? dw_outputs<P, true> : dw_outputs<P, false>;
}

// The same for K neighbouring taps in a row, stride 1, `rows` rows: an input vector is loaded once for all taps that meet it. The taps' weights lie `wstep` floats apart (less than 0 where the window is turned), rows of them `wrow`.
template <int P, int K>
static __attribute__((noinline)) void dw_slide(const float* x, int64_t xrow, const float* weights, int64_t wstep, int64_t wrow,
                                               int64_t rows, const float* start, int64_t start_step, float* y, int64_t ystep, int lanes) {
  vf s[P];
  for (int p = 0; p < P; p++) s[p] = start ? load_lanes(start + p * start_step, lanes) : vf{};
  for (int64_t r = 0; r < rows; r++, x += xrow, weights += wrow) {
    vf w[K];
    for (int k = 0; k < K; k++) w[k] = load(weights + k * wstep);
#pragma GCC unroll 16
    for (int i = 0; i < P + K - 1; i++) {
      const vf v = load(x + i * LANES);
#pragma GCC unroll 8
      for (int k = 0; k < K; k++)
        if (i - k >= 0 && i - k < P) s[i - k] += v * w[k];
    }
  }
  for (int p = 0; p < P; p++) store_lanes(y + p * ystep, s[p], lanes);
}
typedef void (*DwSlide)(const float*, int64_t, const float*, int64_t, int64_t, int64_t, const float*, int64_t, float*, int64_t, int);
// Outputs, 7 weights, an input and a product in registers: of 32 with AVX-512, of 16.
#define DW_SLIDE (LANES == 16 ? 8 : 6)
// For 4 outputs or more and 3, 5 or 7 taps; else null, as with 4 lanes, where it was measured to be slower.
template <int P>
INLINE DwSlide dw_slide_of(int64_t outputs, int64_t taps) {
  if constexpr (LANES == 4 || P < 4)
    return nullptr;
  else
    return outputs != P ? dw_slide_of<P - 1>(outputs, taps)
                        : taps == 3 ? dw_slide<P, 3> : taps == 5 ? dw_slide<P, 5> : taps == 7 ? dw_slide<P, 7> : nullptr;
}

// Output rows i in [begin, end) of one image (y, `width` columns): start or zero, plus the taps' sums.
template <class Source>
static void dw_rows(char* scratch, const DwAxis& ay, const DwAxis& ax, const Source& source, int64_t begin, int64_t end, int64_t c,
                    const float* wt, int64_t kw, const float* bias, float* y, int64_t width) {
  if (begin >= end || ax.count() == 0) return;
  if (ay.taps == 0 || ax.taps == 0) {
    for (int64_t i = begin; i < end; i++)
      for (int64_t j = 0; j < ax.count(); j++) zero_floats(y + ((ay.first + i * ay.every) * width + ax.first + j * ax.every) * c, c);
    return;
  }
  const DwCut cut(ay, ax);
  float* staged = (float*)scratch;
  float* weights = staged + DW_CHANNELS * DW_POSITIONS;
  DwTap* taps = (DwTap*)(weights + DW_CHANNELS * DW_TAPS);
  const int64_t stride = DW_POSITIONS * LANES, ystep = ax.every * c;
  for (int64_t c0 = 0; c0 < c; c0 += DW_CHANNELS) {
    const int64_t cols = least(DW_CHANNELS, c - c0);
    for (int64_t left = 0; left < ax.count(); left += cut.strip) {
      const int64_t across = least(cut.strip, ax.count() - left);
      for (int64_t i = begin; i < end; i += cut.rows) {
        const int64_t rows = least(cut.rows, end - i);
        for (int64_t ky = 0; ky < ay.taps; ky += cut.ky)
          for (int64_t kx = 0; kx < ax.taps; kx += cut.kx) {
            const int64_t down = least(cut.ky, ay.taps - ky), along = least(cut.kx, ax.taps - kx);
            const int64_t low_y = ay.low(ky, down), low_x = ax.low(kx, along), wide = (across - 1) * ax.step + ax.span(along);
            dw_stage(source, staged, stride, ay, ax, i * ay.step + low_y, (rows - 1) * ay.step + ay.span(down), left * ax.step + low_x,
                wide, c0, cols);
            for (int64_t k = 0, t = 0; k < down; k++)
              for (int64_t l = 0; l < along; l++, t++) {
                taps[t] = DwTap{(int32_t)(((ay.at(ky + k) - low_y) * wide + ax.at(kx + l) - low_x) * LANES), (int32_t)(t * LANES)};
                const float* w = wt + ((ay.tap + (ky + k) * ay.tap_step) * kw + ax.tap + (kx + l) * ax.tap_step) * c + c0;
                for (int64_t j = 0, v = 0; j < cols; j += LANES, v++)
                  store(weights + (v * DW_TAPS + t) * LANES, load_lanes(w + j, (int)least(LANES, cols - j)));
              }
            const bool first = ky == 0 && kx == 0, neighbours = ax.step == 1 && (ax.slope == 1 || ax.slope == -1),
                       slides = LANES > 4 && neighbours && (along == 3 || along == 5 || along == 7);
            for (int64_t j = 0, v = 0; j < cols; j += LANES, v++)
              for (int64_t r = 0; r < rows; r++) {
                int64_t k0 = 0, k1 = down;  // the window's rows inside the image
                const auto inside = [&](int64_t k) {
                  const int64_t row = (i + r) * ay.step + ay.at(ky + k);
                  return row >= 0 && row < ay.source;
                };
                while (k0 < k1 && !inside(k0)) k0++;
                while (k1 > k0 && !inside(k1 - 1)) k1--;
                const float* x = staged + v * stride + r * ay.step * wide * LANES;
                if (DW_ASKS && first && j % 16 == 0) {
                  const int64_t row = (i + r) * ay.step, column = left * ax.step;
                  if (c0 + DW_CHANNELS + j < c && row < ay.source)
                    source.ask(row, column, least(ax.source, column + (across - 1) * ax.step + 1), c0 + DW_CHANNELS + j);
                  if (r + 1 < rows)
                    for (int64_t q = 0; q < across; q++)
                      __builtin_prefetch(y + ((ay.first + (i + r + 1) * ay.every) * width + ax.first + (left + q) * ax.every) * c + c0 + j, 1);
                }
                float* to = y + ((ay.first + (i + r) * ay.every) * width + ax.first + left * ax.every) * c + c0 + j;
                for (int64_t q = 0, n; q < across; q += n) {
                  const int64_t blocks = ceil_div(across - q, slides ? DW_SLIDE : DW_OUTPUTS);
                  n = ceil_div(across - q, blocks);
                  const float* start = !first ? to + q * ystep : bias ? bias + c0 + j : nullptr;
                  if (const DwSlide slide = slides ? dw_slide_of<DW_SLIDE>(n, along) : nullptr) {
                    const bool turned = ax.slope < 0;
                    slide(x + q * LANES + taps[k0 * along + (turned ? along - 1 : 0)].x, ay.slope * wide * LANES,
                        weights + (v * DW_TAPS + k0 * along + (turned ? along - 1 : 0)) * LANES, turned ? -LANES : LANES, along * LANES,
                        k1 - k0, start, first ? 0 : ystep, to + q * ystep, ystep, (int)least(LANES, cols - j));
                    continue;
                  }
                  dw_outputs_of<DW_OUTPUTS>(n, ax.step == 1)(taps + k0 * along, (k1 - k0) * along, x + q * ax.step * LANES,
                      ax.step * LANES, weights + v * DW_TAPS * LANES, start, first ? 0 : ystep, to + q * ystep, ystep,
                      (int)least(LANES, cols - j));
                }
              }
          }
      }
    }
  }
}

template <class Args, class SourceOf>
INLINE void dw_forward_tile(const Args& a, const Tile& tile, const SourceOf& source_of) {
  const int64_t oh = a.oh, ow = a.ow, c = a.co, end = tile.end((int64_t)a.n * oh);
  const DwAxis ay = dw_forward(a.h, oh, a.kh, a.sh, a.ph, a.dh), ax = dw_forward(a.w, ow, a.kw, a.sw, a.pw, a.dw);
  for (int64_t row = tile.begin((int64_t)a.n * oh), next; row < end; row = next) {
    const int64_t image = row / oh;
    next = least(end, (image + 1) * oh);
    dw_rows(tile.scratch, ay, ax, source_of(image), row - image * oh, next - image * oh, c, a.wt, a.kw, a.bias,
        (float*)a.y + image * oh * ow * c, ow);
  }
}

KERNEL(dwconv2d) {
  dw_forward_tile(a, tile, [&](int64_t image) {
    return DwFloats{(const float*)a.x + image * (int64_t)a.h * (int64_t)a.w * (int64_t)a.co, a.w, a.co};
  });
}

KERNEL(spike_dwconv2d) {
  if (dwt_serves(a)) return dwt_tile(a, tile);
  dw_forward_tile(a, tile, [&](int64_t image) {
    const int64_t row = (int64_t)a.planes * ceil_div((int64_t)a.co, 32);
    return DwSpikes{(const uint32_t*)a.x + image * (int64_t)a.h * (int64_t)a.w * row, a.w, a.co, a.planes, a.scale};
  });
}

KERNEL(dwconv2d_grad_input) {
  const int64_t h = a.h, w = a.w, c = a.co, oh = a.oh, ow = a.ow, sh = a.sh, sw = a.sw, end = tile.end((int64_t)a.n * h);
  for (int64_t row = tile.begin((int64_t)a.n * h), next; row < end; row = next) {
    const int64_t image = row / h;
    next = least(end, (image + 1) * h);
    const DwFloats source{(const float*)a.gy + image * oh * ow * c, ow, c};
    for (int64_t py = 0; py < least(sh, h); py++)
      for (int64_t px = 0; px < least(sw, w); px++) {
        const DwAxis ay = dw_backward(oh, h, a.kh, sh, a.ph, a.dh, py), ax = dw_backward(ow, w, a.kw, sw, a.pw, a.dw, px);
        const auto below = [&](int64_t r) { return r > py ? ceil_div(r - py, sh) : 0; };
        dw_rows(tile.scratch, ay, ax, source, below(row - image * h), below(next - image * h), c, a.wt, a.kw, nullptr,
            (float*)a.gx + image * h * w * c, w);
      }
  }
}

// ---------------------------------------------------------------- weight gradient

// to[k] += sum over rows and columns of gy * x, for K taps, `tap` floats apart, of one vector.
template <int K, bool UNIT>
static __attribute__((noinline)) void dw_taps(const float* x, int64_t xrow, int64_t xstep, int64_t tap, const float* gy, int64_t grow,
                                              int64_t rows, int64_t columns, float* to, int64_t to_step, int lanes) {
  constexpr int WAYS = K < 4 ? 2 : 1;  // sums that do not wait for each other
  const int64_t step = UNIT ? LANES : tap;
  vf s[WAYS][K];
  for (int u = 0; u < WAYS; u++)
    for (int k = 0; k < K; k++) s[u][k] = vf{};
  for (int64_t r = 0; r < rows; r++, x += xrow, gy += grow) {
    int64_t i = 0;
    for (; i + WAYS <= columns; i += WAYS)
      for (int u = 0; u < WAYS; u++) {
        const vf g = load(gy + (i + u) * LANES);
        for (int k = 0; k < K; k++) s[u][k] += g * load(x + (i + u) * xstep + k * step);
      }
    if (i < columns) {
      const vf g = load(gy + i * LANES);
      for (int k = 0; k < K; k++) s[0][k] += g * load(x + i * xstep + k * step);
    }
  }
  for (int k = 0; k < K; k++) {
    const vf sum = WAYS > 1 ? s[0][k] + s[WAYS - 1][k] : s[0][k];
    store_lanes(to + k * to_step, load_lanes(to + k * to_step, lanes) + sum, lanes);
  }
}
typedef void (*DwTaps)(const float*, int64_t, int64_t, int64_t, const float*, int64_t, int64_t, int64_t, float*, int64_t, int);
template <int K>
INLINE DwTaps dw_taps_of(int64_t taps, bool unit) {
  if constexpr (K > 1) {
    if (taps != K) return dw_taps_of<K - 1>(taps, unit);
  }
  return unit ? dw_taps<K, true> : dw_taps<K, false>;
}

// Units: blocks of 32 channels.
template <class Args, class SourceOf>
INLINE void dw_grad_weight_tile(const Args& a, const Tile& tile, const SourceOf& source_of) {
  const int64_t c = a.co, oh = a.oh, ow = a.ow, kw = a.kw, units = ceil_div(c, 32), last = least(c, tile.end(units) * 32);
  const DwAxis ay = dw_forward(a.h, oh, a.kh, a.sh, a.ph, a.dh), ax = dw_forward(a.w, ow, kw, a.sw, a.pw, a.dw);
  const DwCut cut(ay, ax);
  float* staged = (float*)tile.scratch;
  float* gradients = staged + DW_CHANNELS * DW_POSITIONS;
  const int64_t stride = DW_POSITIONS * LANES;
  for (int64_t c0 = tile.begin(units) * 32; c0 < last; c0 += DW_CHANNELS) {
    const int64_t cols = least(DW_CHANNELS, last - c0);
    float* gw = (float*)a.gw + c0;
    for (int64_t t = 0; t < (int64_t)a.kh * kw; t++) zero_floats(gw + t * c, cols);
    for (int64_t image = 0; image < (int64_t)a.n; image++) {
      const auto source = source_of(image);
      const DwFloats gy{(const float*)a.gy + image * oh * ow * c, ow, c};
      for (int64_t left = 0; left < ow; left += cut.strip)
        for (int64_t i = 0; i < oh; i += cut.rows) {
          const int64_t across = least(cut.strip, ow - left), rows = least(cut.rows, oh - i);
          for (int64_t r = 0; r < rows; r++) gy.stage(gradients + r * across * LANES, stride, i + r, left, left + across, c0, cols);
          for (int64_t ky = 0; ky < ay.taps; ky += cut.ky)
            for (int64_t kx = 0; kx < kw; kx += cut.kx) {
              const int64_t down = least(cut.ky, ay.taps - ky), along = least(cut.kx, kw - kx);
              const int64_t wide = (across - 1) * ax.step + ax.span(along), top = i * ay.step + ay.at(ky);
              dw_stage(source, staged, stride, ay, ax, top, (rows - 1) * ay.step + ay.span(down), left * ax.step + ax.at(kx), wide, c0,
                  cols);
              for (int64_t j = 0, v = 0; j < cols; j += LANES, v++)
                for (int64_t k = 0; k < down; k++) {
                  // Rows whose tap lies inside the image.
                  const int64_t row = top + k * ay.slope;
                  const int64_t r0 = row < 0 ? ceil_div(-row, ay.step) : 0;
                  const int64_t r1 = row < ay.source ? least(rows, ceil_div(ay.source - row, ay.step)) : 0;
                  if (r0 >= r1) continue;
                  for (int64_t l = 0, n; l < along; l += n) {
                    n = ceil_div(along - l, ceil_div(along - l, 8));
                    dw_taps_of<8>(n, ax.slope == 1)(staged + v * stride + ((r0 * ay.step + k * ay.slope) * wide + l * ax.slope) * LANES,
                        ay.step * wide * LANES, ax.step * LANES, ax.slope * LANES, gradients + v * stride + r0 * across * LANES,
                        across * LANES, r1 - r0, across, gw + ((ky + k) * kw + kx + l) * c + j, c, (int)least(LANES, cols - j));
                  }
                }
            }
        }
    }
  }
}

KERNEL(dwconv2d_grad_weight) {
  dw_grad_weight_tile(a, tile, [&](int64_t image) {
    return DwFloats{(const float*)a.x + image * (int64_t)a.h * (int64_t)a.w * (int64_t)a.co, a.w, a.co};
  });
}

KERNEL(spike_dwconv2d_grad_weight) {
  dw_grad_weight_tile(a, tile, [&](int64_t image) {
    const int64_t row = (int64_t)a.planes * ceil_div((int64_t)a.co, 32);
    return DwSpikes{(const uint32_t*)a.x + image * (int64_t)a.h * (int64_t)a.w * row, a.w, a.co, a.planes, a.scale};
  });
}
