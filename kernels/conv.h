// Dense convolution and its weight gradient as products of packed patches (see gemm.h).
#pragma once

// One run of weights that meets one contiguous run of the input: a tap, or a whole window row where taps are neighbours.
struct Segment {
  int32_t ky, kx;
};
// What a product leaves of the scratch memory holds the segments of the largest window.
static_assert((BLOCK_ROWS * ROW_STRIDE + BLOCK_COLS * BLOCK_DEPTH) * sizeof(float) + BLOCK_ROWS * sizeof(float*) +
                  CONV_LIMITS_TAPS * sizeof(Segment) <= SCRATCH_BYTES, "scratch");

// Patches of a convolution's input: row = output pixel, column = (segment, offset in it).
//
// With input dilation ih, iw only every ih-th row, iw-th column of the dilated input exists. Output pixels are therefore
// treated in ih * iw phases: within phase (py, px) - rows py, py + ih, ... and columns px, px + iw, ... of the output - every
// pixel meets the same taps, and only these enter the product.
struct Patches {
  const float* x;
  int64_t h, w, xs, sh, sw;
  int64_t down, across;  // output rows and columns of this phase, in one image
  int64_t span;          // floats per segment
  int64_t top, left;     // input row and column of the phase's first pixel at tap (0, 0), times ih, iw
  int64_t dh, dw, ih, iw;
  const Segment* segments;

  // Ask for the columns [col, col + cols) of patch `row`; of those that lie in several segments, for some.
  void ask(int64_t row, int64_t col, int64_t cols) const {
    const int64_t segment = col / span, from = col - segment * span, line = row / across, image = line / down;
    const int64_t iy = (top + segments[segment].ky * dh) / ih + (line - image * down) * sh;
    const int64_t ix = (left + segments[segment].kx * dw) / iw + (row - line * across) * sw;
    if (iy >= 0 && iy < h) prefetch_floats(x + ((image * h + iy) * w + ix) * xs + from, least(cols, span - from));
  }

  // Columns [col, col + cols) of `rows` patches from pixel `row` on, each to a row of dst.
  void pack(float* dst, int64_t stride, int64_t row, int64_t rows, int64_t col, int64_t cols) const {
    int64_t segment = col / span, from = col - segment * span;
    for (int64_t done = 0; done < cols; segment++, from = 0) {
      const int64_t n = least(span - from, cols - done);
      const int64_t iy0 = (top + segments[segment].ky * dh) / ih, ix0 = (left + segments[segment].kx * dw) / iw;
      int64_t line = row / across, ox = row - line * across;
      for (int64_t i = 0; i < rows; line++, ox = 0) {
        const int64_t run = least(across - ox, rows - i), image = line / down, iy = iy0 + (line - image * down) * sh;
        float* to = dst + i * stride + done;
        i += run;
        if (iy < 0 || iy >= h) {
          for (int64_t j = 0; j < run; j++) zero_floats(to + j * stride, n);
          continue;
        }
        const float* from_row = x + (image * h + iy) * w * xs;
        for (int64_t j = 0; j < run; j++, to += stride) {
          // The part [lo, hi) of the segment that lies inside the image.
          const int64_t ix = ix0 + (ox + j) * sw, at = ix * xs + from;
          if (at >= 0 && at + n <= w * xs) {
            copy_floats(to, from_row + at, n);
          } else {
            const int64_t lo = at < 0 ? least(-at, n) : 0, hi = at + n > w * xs ? (w * xs > at ? w * xs - at : 0) : n;
            if (lo >= hi) {
              zero_floats(to, n);
            } else {
              zero_floats(to, lo);
              copy_floats(to + lo, from_row + at + lo, hi - lo);
              zero_floats(to + hi, n - hi);
            }
          }
        }
      }
      done += n;
    }
  }
};

// Patches as the left factor of a product: rows are pixels (T false), or columns of patches (T true: patch^T).
template <bool T>
struct PatchLeft {
  static const bool TRANSPOSED = T;
  const Patches& patches;
  int64_t first;
  void ask(int64_t row, int64_t k, int64_t depth) const {
    if (!T) patches.ask(first + row, k, depth);
  }
  void pack(float* dst, int64_t row, int64_t rows, int64_t k, int64_t depth) const {
    if (T)
      patches.pack(dst, BLOCK_ROWS, k, depth, first + row, rows);
    else
      patches.pack(dst, ROW_STRIDE, first + row, rows, k, depth);
  }
};

// Rows of the weights [kh, kw, ci, co] that belong to a phase's segments.
struct SegmentRight {
  const float* wt;
  int64_t stride, span, ci, kw;
  const Segment* segments;
  bool all;  // every tap takes part, so that rows are contiguous
  const float* direct(int64_t k) const { return all ? wt + k * stride : nullptr; }
  void pack(float* dst, int64_t k, int64_t depth, int64_t col, int64_t cols, int64_t width) const {
    int64_t segment = k / span, from = k - segment * span;
    for (int64_t done = 0; done < depth; segment++, from = 0) {
      const int64_t n = least(span - from, depth - done);
      const int64_t row = (segments[segment].ky * kw + segments[segment].kx) * ci + from;
      pack_rows(dst + done * width, wt + row * stride + col, stride, n, cols, width);
      done += n;
    }
  }
};

// Neighbouring taps form one segment where the input is contiguous across them.
template <class A>
INLINE bool taps_join(const A& a) {
  return (int64_t)a.dw == 1 && (int64_t)a.xs == (int64_t)a.ci;
}

template <class A>
INLINE Patches patches_of(const A& a, int64_t ih, int64_t iw, int64_t py, int64_t px, Segment* segments, int64_t* count) {
  const bool join = iw == 1 && taps_join(a);
  const int64_t kh = a.kh, kw = join ? 1 : (int64_t)a.kw;
  Patches p;
  p.x = (const float*)a.x + (int64_t)a.xo;
  p.h = a.h, p.w = a.w, p.xs = a.xs, p.sh = a.sh, p.sw = a.sw, p.dh = a.dh, p.dw = a.dw, p.ih = ih, p.iw = iw;
  p.down = ceil_div((int64_t)a.oh - py, ih), p.across = ceil_div((int64_t)a.ow - px, iw);
  p.span = join ? (int64_t)a.kw * (int64_t)a.ci : (int64_t)a.ci;
  p.top = py * p.sh - (int64_t)a.ph, p.left = px * p.sw - (int64_t)a.pw;
  p.segments = segments;
  *count = 0;
  for (int64_t ky = 0; ky < kh; ky++)
    for (int64_t kx = 0; kx < kw; kx++)
      if ((p.top + ky * p.dh) % ih == 0 && (p.left + kx * p.dw) % iw == 0) segments[(*count)++] = Segment{(int32_t)ky, (int32_t)kx};
  return p;
}

KERNEL(conv2d) {
  const int64_t oh = a.oh, ow = a.ow, co = a.co, ih = a.ih, iw = a.iw, ys = a.ys;
  const int64_t begin = tile.begin((int64_t)a.n * oh), end = tile.end((int64_t)a.n * oh);
  Segment* segments = (Segment*)product_scratch(tile.scratch).free;
  float* y = (float*)a.y + (int64_t)a.yo;
  const float* bias = a.bias;
  for (int64_t py = 0; py < ih && py < oh; py++)
    for (int64_t px = 0; px < iw && px < ow; px++) {
      int64_t count;
      const Patches p = patches_of(a, ih, iw, py, px, segments, &count);
      const SegmentRight all{a.wt, co, p.span, a.ci, a.kw, segments, count * p.span == (int64_t)a.kh * (int64_t)a.kw * (int64_t)a.ci};
      // This tile's rows of the phase: rows py, py + ih, ... below row r, in all images before it.
      const auto below = [&](int64_t r) { return r / oh * p.down + (r % oh > py ? ceil_div(r % oh - py, ih) : 0); };
      const int64_t first = below(begin) * p.across, last = below(end) * p.across;
      for (int64_t c = 0; c < co && first < last; c += BLOCK_COLS) {
        SegmentRight right = all;
        right.wt += c;
        const auto row = [&](int64_t i) {
          const int64_t line = (first + i) / p.across, image = line / p.down;
          const int64_t oy = py + (line - image * p.down) * ih, ox = px + (first + i - line * p.across) * iw;
          return y + ((image * oh + oy) * ow + ox) * ys + c;
        };
        product_in_terms(a.terms, tile.scratch, (char*)segments - tile.scratch, last - first, least(BLOCK_COLS, co - c), count * p.span,
                         PatchLeft<false>{p, first}, right, row, Finish{1, false, bias ? bias + c : nullptr});
      }
    }
}

KERNEL(conv2d_grad_weight) {
  const int64_t co = a.co, ys = a.ys, rows = (int64_t)a.kh * (int64_t)a.kw * (int64_t)a.ci;
  const ProductScratch scratch = product_scratch(tile.scratch);
  int64_t count;
  const Patches p = patches_of(a, 1, 1, 0, 0, (Segment*)scratch.free, &count);
  product_runs(tile, 1, rows, co, [&](int64_t, int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
    const MatrixRight<false> right{(const float*)a.gy + (int64_t)a.yo + c0, ys};
    float* out = (float*)a.gw + c0;
    product(scratch, r1 - r0, c1 - c0, (int64_t)a.n * (int64_t)a.oh * (int64_t)a.ow, PatchLeft<true>{p, r0}, right,
            [&](int64_t i) { return out + (r0 + i) * co; }, Finish{1, false, nullptr});
  });
}
