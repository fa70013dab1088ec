// Pooling over windows of [n, h, w, c]: maximum, average, adaptive average, and the maximum of binary spikes.
//
// Every kernel is a loop over output positions with channels as vectors. Gradients gather (an input pixel collects from the
// windows that cover it) or scatter within one image, so that no two tiles write the same place.
#pragma once

INLINE int64_t clamp_to(int64_t v, int64_t lo, int64_t hi) { return v < lo ? lo : v > hi ? hi : v; }

// One spatial axis of a window: size, output size, kernel, stride, padding, dilation.
struct Axis {
  int64_t size, out, kernel, stride, pad, dilation;
  // Input coordinate of kernel position k of output o.
  int64_t at(int64_t o, int64_t k) const { return o * stride - pad + k * dilation; }
  // Kernel positions [first, last) of output o that lie inside the input.
  void inside(int64_t o, int64_t& first, int64_t& last) const {
    int64_t start = at(o, 0);
    first = start < 0 ? (-start + dilation - 1) / dilation : 0;
    last = start >= size ? 0 : (size - 1 - start) / dilation + 1;
    if (last > kernel) last = kernel;
    if (first > last) first = last;
  }
  int64_t count(int64_t o) const {
    int64_t first, last;
    inside(o, first, last);
    return last - first;
  }
  // Outputs [first, last) whose span reaches input coordinate i; not all of them touch it when dilated.
  void covering(int64_t i, int64_t& first, int64_t& last) const {
    int64_t reach = i + pad - (kernel - 1) * dilation;
    first = reach <= 0 ? 0 : (reach + stride - 1) / stride;
    last = clamp_to((i + pad) / stride + 1, 0, out);
  }
  bool touches(int64_t o, int64_t i) const { return dilation == 1 || (i - at(o, 0)) % dilation == 0; }
};
template <class Args>
INLINE Axis rows_of(const Args& a) {
  return Axis{a.h, a.oh, a.kh, a.sh, a.ph, a.dh};
}
template <class Args>
INLINE Axis columns_of(const Args& a) {
  return Axis{a.w, a.ow, a.kw, a.sw, a.pw, a.dw};
}

// out += scale * g, over channels.
INLINE void add_scaled(float* out, const float* g, float scale, int64_t c) {
  map2(g, out, out, 0, c, [=](vf v, vf sum) VEC_LAMBDA { return sum + v * scale; });
}

// f(oy, ox) for every window that contains the pixel (iy, ix), in row-major order.
template <class F>
INLINE void each_window(const Axis& ys, const Axis& xs, int64_t iy, int64_t ix, F f) {
  int64_t y0, y1, x0, x1;
  ys.covering(iy, y0, y1);
  xs.covering(ix, x0, x1);
  for (int64_t oy = y0; oy < y1; oy++) {
    if (!ys.touches(oy, iy)) continue;
    for (int64_t ox = x0; ox < x1; ox++)
      if (xs.touches(ox, ix)) f(oy, ox);
  }
}

// A NaN wins, the last one of a window if there are several (as in PyTorch).
KERNEL(maxpool2d) {
  const float* x = a.x;
  float* y = a.y;
  int32_t* index = a.index;
  const Axis ys = rows_of(a), xs = columns_of(a);
  const int64_t c = a.ci;
  for (int64_t u = tile.begin(a.n * ys.out), end = tile.end(a.n * ys.out); u < end; u++) {
    int64_t image = u / ys.out, oy = u % ys.out, y0, y1, x0, x1;
    const float* in = x + image * ys.size * xs.size * c;
    ys.inside(oy, y0, y1);
    for (int64_t ox = 0; ox < xs.out; ox++) {
      int64_t to = (u * xs.out + ox) * c;
      xs.inside(ox, x0, x1);
      int32_t start = y0 < y1 && x0 < x1 ? (int32_t)(ys.at(oy, y0) * xs.size + xs.at(ox, x0)) : -1;
      for (int64_t i = 0; i < c; i += LANES) {
        const int lanes = c - i < LANES ? (int)(c - i) : LANES;
        vf best = splat(-INF);
        vi where_best = splat(start);
        for (int64_t ky = y0; ky < y1; ky++)
          for (int64_t kx = x0; kx < x1; kx++) {
            int64_t position = ys.at(oy, ky) * xs.size + xs.at(ox, kx);
            vf v = load_lanes(in + position * c + i, lanes);
            vi better = (v > best) | (v != v);
            best = select(better, v, best);
            where_best = better ? splat((int32_t)position) : where_best;
          }
        store_lanes(y + to + i, best, lanes);
        if (index) store_lanes((float*)index + to + i, (vf)where_best, lanes);
      }
    }
  }
}

KERNEL(maxpool2d_grad) {
  const float* gy = a.gy;
  const float* index = a.index;  // moved as bits
  float* gx = a.gx;
  const Axis ys = rows_of(a), xs = columns_of(a);
  const int64_t c = a.ci;
  for (int64_t u = tile.begin(a.n * ys.size), end = tile.end(a.n * ys.size); u < end; u++) {
    int64_t image = u / ys.size, iy = u % ys.size;
    for (int64_t ix = 0; ix < xs.size; ix++) {
      const vi here = splat((int32_t)(iy * xs.size + ix));
      float* out = gx + (u * xs.size + ix) * c;
      zero_floats(out, c);
      each_window(ys, xs, iy, ix, [&](int64_t oy, int64_t ox) VEC_LAMBDA {
        const int64_t from = ((image * ys.out + oy) * xs.out + ox) * c;
        for (int64_t i = 0; i < c; i += LANES) {
          const int lanes = c - i < LANES ? (int)(c - i) : LANES;
          vi chosen = (vi)load_lanes(index + from + i, lanes) == here;
          store_lanes(out + i, load_lanes(out + i, lanes) + select(chosen, load_lanes(gy + from + i, lanes), vf{}), lanes);
        }
      });
    }
  }
}

KERNEL(spike_maxpool2d) {
  const uint32_t* x = a.x;
  uint32_t* y = a.y;
  const Axis ys = rows_of(a), xs = columns_of(a);
  const int64_t words = (a.ci + 31) / 32;
  for (int64_t u = tile.begin(a.n * ys.out), end = tile.end(a.n * ys.out); u < end; u++) {
    int64_t image = u / ys.out, oy = u % ys.out, y0, y1, x0, x1;
    ys.inside(oy, y0, y1);
    for (int64_t ox = 0; ox < xs.out; ox++) {
      xs.inside(ox, x0, x1);
      uint32_t* out = y + (u * xs.out + ox) * words;
      for (int64_t i = 0; i < words; i++) out[i] = 0;
      for (int64_t ky = y0; ky < y1; ky++)
        for (int64_t kx = x0; kx < x1; kx++) {
          const uint32_t* in = x + ((image * ys.size + ys.at(oy, ky)) * xs.size + xs.at(ox, kx)) * words;
          for (int64_t i = 0; i < words; i++) out[i] |= in[i];
        }
    }
  }
}

// Windows scatter here, one image a unit: a window looks at each of its pixels once and stops when every channel has found its
// first spike, which costs far less than every pixel asking each of its windows.
KERNEL(spike_maxpool2d_grad) {
  const uint32_t* x = a.x;
  const float* gy = a.gy;
  float* gx = a.gx;
  const Axis ys = rows_of(a), xs = columns_of(a);
  const int64_t c = a.ci, words = (c + 31) / 32, pixels = ys.size * xs.size;
  for (int64_t image = tile.begin(a.n), last = tile.end(a.n); image < last; image++) {
    const uint32_t* in = x + image * pixels * words;
    float* out = gx + image * pixels * c;
    zero_floats(out, pixels * c);
    const float* g = gy + image * ys.out * xs.out * c;
    for (int64_t oy = 0; oy < ys.out; oy++) {
      int64_t y0, y1, x0, x1;
      ys.inside(oy, y0, y1);
      for (int64_t ox = 0; ox < xs.out; ox++, g += c) {
        xs.inside(ox, x0, x1);
        if (y0 == y1 || x0 == x1) continue;
        for (int64_t word = 0; word < words; word++) {
          const int64_t from = word * 32, count = c - from < 32 ? c - from : 32;
          const auto give = [&](int64_t position, uint32_t take) {
            for (int64_t i = 0; i < count; i += LANES) {
              if (!(take >> i)) break;
              const int lanes = count - i < LANES ? (int)(count - i) : LANES;
              float* to = out + position * c + from + i;
              vf taken = select(bits_to_mask(take >> i), load_lanes(g + from + i, lanes), vf{});
              store_lanes(to, load_lanes(to, lanes) + taken, lanes);
            }
          };
          uint32_t left = count == 32 ? ~0u : (1u << count) - 1;
          for (int64_t ky = y0; ky < y1 && left; ky++)
            for (int64_t kx = x0; kx < x1 && left; kx++) {
              const int64_t position = ys.at(oy, ky) * xs.size + xs.at(ox, kx);
              const uint32_t take = in[position * words + word] & left;
              if (!take) continue;
              left &= ~take;
              give(position, take);
            }
          // Channels without a spike: a tie of zeros, whose first is the first position inside.
          if (left) give(ys.at(oy, y0) * xs.size + xs.at(ox, x0), left);
        }
      }
    }
  }
}

// y[o] = mean of the pixels [y0, y1) x [x0, x1) (steps dy, dx) of one image, divided by `divisor`.
INLINE void average(const float* in, int64_t width, int64_t y0, int64_t y1, int64_t dy, int64_t x0, int64_t x1, int64_t dx, int64_t c,
                    float divisor, float* out) {
  const float scale = 1.0f / divisor;
  for (int64_t i = 0; i < c; i += LANES) {
    const int lanes = c - i < LANES ? (int)(c - i) : LANES;
    vf sum{};
    for (int64_t py = y0; py < y1; py += dy)
      for (int64_t px = x0; px < x1; px += dx) sum += load_lanes(in + (py * width + px) * c + i, lanes);
    store_lanes(out + i, sum * scale, lanes);
  }
}

INLINE float average_divisor(const Axis& ys, const Axis& xs, int64_t oy, int64_t ox, bool count_pad) {
  int64_t n = count_pad ? ys.kernel * xs.kernel : ys.count(oy) * xs.count(ox);
  return (float)(n > 0 ? n : 1);
}

KERNEL(avgpool2d) {
  const float* x = a.x;
  float* y = a.y;
  const Axis ys = rows_of(a), xs = columns_of(a);
  const int64_t c = a.ci;
  const bool count_pad = a.countPad;
  for (int64_t u = tile.begin(a.n * ys.out), end = tile.end(a.n * ys.out); u < end; u++) {
    int64_t image = u / ys.out, oy = u % ys.out, y0, y1, x0, x1;
    ys.inside(oy, y0, y1);
    for (int64_t ox = 0; ox < xs.out; ox++) {
      xs.inside(ox, x0, x1);
      average(x + image * ys.size * xs.size * c, xs.size, ys.at(oy, y0), ys.at(oy, y1), ys.dilation, xs.at(ox, x0), xs.at(ox, x1),
              xs.dilation, c, average_divisor(ys, xs, oy, ox, count_pad), y + (u * xs.out + ox) * c);
    }
  }
}

KERNEL(avgpool2d_grad) {
  const float* gy = a.gy;
  float* gx = a.gx;
  const Axis ys = rows_of(a), xs = columns_of(a);
  const int64_t c = a.ci;
  const bool count_pad = a.countPad;
  for (int64_t u = tile.begin(a.n * ys.size), end = tile.end(a.n * ys.size); u < end; u++) {
    int64_t image = u / ys.size, iy = u % ys.size;
    for (int64_t ix = 0; ix < xs.size; ix++) {
      float* out = gx + (u * xs.size + ix) * c;
      zero_floats(out, c);
      each_window(ys, xs, iy, ix, [&](int64_t oy, int64_t ox) VEC_LAMBDA {
        add_scaled(out, gy + ((image * ys.out + oy) * xs.out + ox) * c, 1.0f / average_divisor(ys, xs, oy, ox, count_pad), c);
      });
    }
  }
}

// Adaptive windows: output o covers [floor(o size / out), ceil((o + 1) size / out)).
INLINE int64_t adaptive_first(int64_t o, int64_t size, int64_t out) { return o * size / out; }
INLINE int64_t adaptive_last(int64_t o, int64_t size, int64_t out) { return ((o + 1) * size + out - 1) / out; }

KERNEL(adaptive_avgpool2d) {
  const float* x = a.x;
  float* y = a.y;
  const int64_t h = a.h, w = a.w, c = a.c, oh = a.oh, ow = a.ow;
  for (int64_t u = tile.begin(a.n * oh), end = tile.end(a.n * oh); u < end; u++) {
    int64_t y0 = adaptive_first(u % oh, h, oh), y1 = adaptive_last(u % oh, h, oh);
    for (int64_t ox = 0; ox < ow; ox++) {
      int64_t x0 = adaptive_first(ox, w, ow), x1 = adaptive_last(ox, w, ow);
      average(x + u / oh * h * w * c, w, y0, y1, 1, x0, x1, 1, c, (float)((y1 - y0) * (x1 - x0)), y + (u * ow + ox) * c);
    }
  }
}

KERNEL(adaptive_avgpool2d_grad) {
  const float* gy = a.gy;
  float* gx = a.gx;
  const int64_t h = a.h, w = a.w, c = a.c, oh = a.oh, ow = a.ow;
  for (int64_t u = tile.begin(a.n * h), end = tile.end(a.n * h); u < end; u++) {
    int64_t iy = u % h;
    // The windows that contain a pixel are those whose proportional position meets it.
    int64_t y0 = iy * oh / h, y1 = adaptive_last(iy, oh, h);
    for (int64_t ix = 0; ix < w; ix++) {
      int64_t x0 = ix * ow / w, x1 = adaptive_last(ix, ow, w);
      float* out = gx + (u * w + ix) * c;
      zero_floats(out, c);
      for (int64_t oy = y0; oy < y1; oy++)
        for (int64_t ox = x0; ox < x1; ox++) {
          int64_t rows = adaptive_last(oy, h, oh) - adaptive_first(oy, h, oh);
          int64_t columns = adaptive_last(ox, w, ow) - adaptive_first(ox, w, ow);
          add_scaled(out, gy + ((u / h * oh + oy) * ow + ox) * c, 1.0f / (float)(rows * columns), c);
        }
    }
  }
}
