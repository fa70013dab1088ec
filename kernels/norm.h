// Batch normalisation statistics and coefficients, group, layer and RMS normalisation, softmax.
//
// Batch normalisation is done in two steps that parallelise without atomics: per-chunk partial results of every channel, then
// one merge. The affine map itself is the `affine` kernel, its gradient `affine2`.
#pragma once

// Mean and sum of squared deviations of WIDTH vectors of columns: two passes over blocks of rows that stay in cache, merged by
// the update of Chan, Golub and LeVeque (1983).
template <int WIDTH>
INLINE void column_stats(const float* x, int64_t rows, int64_t c, float* mean_out, float* squares_out, int lanes = LANES) {
  const int64_t block = 64;
  vf mean[WIDTH] = {}, squares[WIDTH] = {};
  for (int64_t first = 0; first < rows; first += block) {
    int64_t count = rows - first < block ? rows - first : block;
    const float* p = x + first * c;
    vf sum[WIDTH] = {}, deviations[WIDTH] = {};
    for (int64_t r = 0; r < count; r++)
      for (int k = 0; k < WIDTH; k++) sum[k] += load_lanes(p + r * c + k * LANES, lanes);
    for (int k = 0; k < WIDTH; k++) sum[k] *= 1.0f / (float)count;
    for (int64_t r = 0; r < count; r++)
      for (int k = 0; k < WIDTH; k++) {
        vf d = load_lanes(p + r * c + k * LANES, lanes) - sum[k];
        deviations[k] += d * d;
      }
    float share = (float)count / (float)(first + count);
    for (int k = 0; k < WIDTH; k++) {
      vf delta = sum[k] - mean[k];
      mean[k] += delta * share;
      squares[k] += deviations[k] + delta * delta * ((float)first * share);
    }
  }
  for (int k = 0; k < WIDTH; k++) {
    store_lanes(mean_out + k * LANES, mean[k], lanes);
    store_lanes(squares_out + k * LANES, squares[k], lanes);
  }
}

// The same of all c columns of x [rows, c].
static void channel_moments(const float* x, int64_t rows, int64_t c, float* mean, float* squares) {
  int64_t i = 0;
  for (; i + 4 * LANES <= c; i += 4 * LANES) column_stats<4>(x + i, rows, c, mean + i, squares + i);
  for (; i + LANES <= c; i += LANES) column_stats<1>(x + i, rows, c, mean + i, squares + i);
  if (i < c) column_stats<1>(x + i, rows, c, mean + i, squares + i, (int)(c - i));
}

KERNEL(channel_stats) {
  const float* x = a.x;
  float* partial = a.partial;
  int64_t rows = a.rows, c = a.c, chunks = a.chunks;
  for (int64_t q = tile.begin(chunks), end = tile.end(chunks); q < end; q++) {
    int64_t first = rows * q / chunks, count = rows * (q + 1) / chunks - first;
    channel_moments(x + first * c, count, c, partial + q * 2 * c, partial + (q * 2 + 1) * c);
  }
}

// Channels whose running results in double fit the scratch memory, and stay in cache.
static const int64_t MERGE_STRIP = 512;

KERNEL(bn_coefficients) {
  if (tile.index > 0) return;
  const float *partial = a.partial, *gamma = a.gamma, *beta = a.beta;
  float *running_mean = a.runningMean, *running_var = a.runningVar;
  float *mean_out = a.mean, *rstd_out = a.rstd, *scale = a.scale, *shift = a.shift;
  const int64_t chunks = a.chunks, c = a.c, rows = a.rows, copies = a.copies;
  const double eps = a.eps.wide(), momentum = a.momentum.wide();
  double *mean = reinterpret_cast<double*>(tile.scratch), *squares = mean + MERGE_STRIP;
  for (int64_t first = 0; first < c; first += MERGE_STRIP) {
    const int64_t width = c - first < MERGE_STRIP ? c - first : MERGE_STRIP;
    for (int64_t i = 0; i < width; i++) mean[i] = squares[i] = 0;
    for (int64_t q = 0; q < chunks; q++) {
      const int64_t before = rows * q / chunks, after = rows * (q + 1) / chunks;
      if (after == before) continue;
      const double share = (double)(after - before) / (double)after, cross = (double)before * share;
      const float *chunk_mean = partial + q * 2 * c + first, *chunk_squares = chunk_mean + c;
      for (int64_t i = 0; i < width; i++) {
        double delta = chunk_mean[i] - mean[i];
        mean[i] += delta * share;
        squares[i] += chunk_squares[i] + delta * delta * cross;
      }
    }
    for (int64_t i = 0; i < width; i++) {
      const int64_t k = first + i;
      double rstd = 1.0 / sqrt_double(squares[i] / (double)rows + eps), g = (gamma ? gamma[k] : 1.0) * rstd;
      mean_out[k] = (float)mean[i];
      rstd_out[k] = (float)rstd;
      scale[k] = (float)g;
      shift[k] = (float)((beta ? beta[k] : 0.0) - mean[i] * g);
      if (running_mean) running_mean[k] = (float)(running_mean[k] + momentum * (mean[i] - running_mean[k]));
      if (running_var) {
        double unbiased = squares[i] * (double)copies / (double)(rows * copies > 1 ? rows * copies - 1 : 1);
        running_var[k] = (float)(running_var[k] + momentum * (unbiased - running_var[k]));
      }
    }
  }
}

template <int WIDTH>
INLINE void column_grad_sums(const float* x, const float* gy, int64_t rows, int64_t c, const float* mean, const float* rstd,
                             float* sum_out, float* dot_out, int lanes = LANES) {
  Cascade<Sum> sum[WIDTH], dot[WIDTH];
  for (int64_t r = 0; r < rows; r++)
    for (int k = 0; k < WIDTH; k++) {
      vf g = load_lanes(gy + r * c + k * LANES, lanes);
      sum[k].add(g);
      sum[k].carry(r);
      dot[k].add(g * (load_lanes(x + r * c + k * LANES, lanes) - load_lanes(mean + k * LANES, lanes)));
      dot[k].carry(r);
    }
  for (int k = 0; k < WIDTH; k++) {
    store_lanes(sum_out + k * LANES, sum[k].total(), lanes);
    store_lanes(dot_out + k * LANES, dot[k].total() * load_lanes(rstd + k * LANES, lanes), lanes);
  }
}

// The same of `width` columns of x and gy [rows, c].
static void channel_grad_sums(const float* x, const float* gy, int64_t rows, int64_t c, int64_t width, const float* mean, const float* rstd,
                              float* sum, float* dot) {
  int64_t i = 0;
  for (; i + 2 * LANES <= width; i += 2 * LANES) column_grad_sums<2>(x + i, gy + i, rows, c, mean + i, rstd + i, sum + i, dot + i);
  for (; i < width; i += LANES)
    column_grad_sums<1>(x + i, gy + i, rows, c, mean + i, rstd + i, sum + i, dot + i, width - i < LANES ? (int)(width - i) : LANES);
}

KERNEL(bn_grad_sums) {
  const float *x = a.x, *gy = a.gy, *mean = a.mean, *rstd = a.rstd;
  float* partial = a.partial;
  int64_t rows = a.rows, c = a.c, chunks = a.chunks;
  for (int64_t q = tile.begin(chunks), end = tile.end(chunks); q < end; q++) {
    int64_t first = rows * q / chunks, n = rows * (q + 1) / chunks - first;
    float *sum = partial + q * 2 * c, *dot = sum + c;
    channel_grad_sums(x + first * c, gy + first * c, n, c, c, mean, rstd, sum, dot);
  }
}

KERNEL(bn_grad_coefficients) {
  if (tile.index > 0) return;
  const float *partial = a.partial, *gamma = a.gamma, *mean = a.mean, *rstd = a.rstd;
  float *ggamma = a.ggamma, *gbeta = a.gbeta, *ca = a.a, *cb = a.b, *cd = a.d;
  const int64_t chunks = a.chunks, c = a.c;
  const double rows = a.rows.v;
  const bool training = a.training;
  double *sum = reinterpret_cast<double*>(tile.scratch), *dot = sum + MERGE_STRIP;
  for (int64_t first = 0; first < c; first += MERGE_STRIP) {
    const int64_t width = c - first < MERGE_STRIP ? c - first : MERGE_STRIP;
    for (int64_t i = 0; i < width; i++) sum[i] = dot[i] = 0;
    for (int64_t q = 0; q < chunks; q++) {
      const float *chunk_sum = partial + q * 2 * c + first, *chunk_dot = chunk_sum + c;
      for (int64_t i = 0; i < width; i++) {
        sum[i] += chunk_sum[i];
        dot[i] += chunk_dot[i];
      }
    }
    for (int64_t i = 0; i < width; i++) {
      const int64_t k = first + i;
      double s = (gamma ? gamma[k] : 1.0) * rstd[k], b = training ? -s * rstd[k] * dot[i] / rows : 0.0;
      if (ggamma) ggamma[k] = (float)dot[i];
      if (gbeta) gbeta[k] = (float)sum[i];
      ca[k] = (float)s;
      cb[k] = (float)b;
      cd[k] = training ? (float)(-s * sum[i] / rows - b * mean[k]) : 0.0f;
    }
  }
}

// ------------------------------------------------------------------------------------------------ rows

// Sum over i of f(i, lanes), a vector of which `lanes` count, for one row of c numbers. Four accumulators.
template <class F>
INLINE float row_sum(int64_t c, F f) {
  vf sum[4] = {};
  int64_t i = 0;
  for (; i + 4 * LANES <= c; i += 4 * LANES)
    for (int k = 0; k < 4; k++) sum[k] += f(i + k * LANES, LANES);
  for (; i + LANES <= c; i += LANES) sum[0] += f(i, LANES);
  if (int n = (int)(c - i)) {
    vf last = f(i, n);
    for (int l = 0; l < LANES; l++) last[l] = l < n ? last[l] : 0.0f;
    sum[1] += last;
  }
  return hsum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}
// f(i, lanes) for every vector of a row.
template <class F>
INLINE void row_each(int64_t c, F f) {
  int64_t i = 0;
  for (; i + LANES <= c; i += LANES) f(i, LANES);
  if (i < c) f(i, (int)(c - i));
}

KERNEL(layernorm) {
  const float *x = a.x, *gamma = a.gamma, *beta = a.beta;
  float *y = a.y, *mean_out = a.mean, *rstd_out = a.rstd, eps = a.eps;
  int64_t c = a.c;
  const bool centre = a.centre;
  for (int64_t r = tile.begin(a.rows), end = tile.end(a.rows); r < end; r++) {
    const float* in = x + r * c;
    float* out = y + r * c;
    float mean = !centre ? 0.0f : row_sum(c, [=](int64_t i, int n) VEC_LAMBDA { return load_lanes(in + i, n); }) / (float)c;
    float squares = row_sum(c, [=](int64_t i, int n) VEC_LAMBDA {
      vf d = load_lanes(in + i, n) - mean;
      return d * d;
    });
    float rstd = 1.0f / sqrt1(squares / (float)c + eps);
    row_each(c, [=](int64_t i, int n) VEC_LAMBDA {
      vf v = (load_lanes(in + i, n) - mean) * rstd;
      if (gamma) v = v * load_lanes(gamma + i, n);
      if (beta) v = v + load_lanes(beta + i, n);
      store_lanes(out + i, v, n);
    });
    mean_out[r] = mean;
    rstd_out[r] = rstd;
  }
}

KERNEL(layernorm_grad) {
  const float *x = a.x, *gamma = a.gamma, *gy = a.gy, *means = a.mean, *rstds = a.rstd;
  float *gx = a.gx, *partial = a.partial;
  int64_t rows = a.rows, c = a.c, chunks = a.chunks;
  const bool centre = a.centre;
  for (int64_t q = tile.begin(chunks), end = tile.end(chunks); q < end; q++) {
    float *ggamma = partial ? partial + q * 2 * c : nullptr, *gbeta = ggamma + c;
    if (partial)
      for (int64_t i = 0; i < 2 * c; i++) ggamma[i] = 0.0f;
    for (int64_t r = rows * q / chunks; r < rows * (q + 1) / chunks; r++) {
      const float *rx = x + r * c, *rg = gy + r * c;
      float *out = gx + r * c, mean = means[r], rstd = rstds[r];
      auto xhat = [=](int64_t i, int n) VEC_LAMBDA { return (load_lanes(rx + i, n) - mean) * rstd; };
      auto scaled = [=](int64_t i, int n) VEC_LAMBDA {
        vf g = load_lanes(rg + i, n);
        return gamma ? g * load_lanes(gamma + i, n) : g;
      };
      float sum = centre ? row_sum(c, scaled) / (float)c : 0.0f;
      float dot = row_sum(c, [=](int64_t i, int n) VEC_LAMBDA { return scaled(i, n) * xhat(i, n); }) / (float)c;
      row_each(c, [=](int64_t i, int n) VEC_LAMBDA {
        vf h = xhat(i, n);
        store_lanes(out + i, rstd * (scaled(i, n) - (sum + h * dot)), n);
        if (!partial) return;
        vf g = load_lanes(rg + i, n);
        store_lanes(ggamma + i, load_lanes(ggamma + i, n) + g * h, n);
        store_lanes(gbeta + i, load_lanes(gbeta + i, n) + g, n);
      });
    }
  }
}

KERNEL(groupnorm) {
  const float *gamma = a.gamma, *beta = a.beta;
  float *mean_out = a.mean, *rstd_out = a.rstd;
  const int64_t n = a.n, c = a.c, groups = a.groups, size = c / groups;
  const double eps = a.eps.wide();
  for (int64_t o = tile.begin(a.outer), end = tile.end(a.outer); o < end; o++) {
    const float* x = (const float*)a.x + o * n * c;
    float *y = (float*)a.y + o * n * c, *scale = (float*)a.coefficients + o * 2 * c, *shift = scale + c;
    channel_moments(x, n, c, scale, shift);  // a channel's mean and squares, until its coefficients replace them
    for (int64_t g = 0; g < groups; g++) {
      double mean = 0, squares = 0;
      for (int64_t i = g * size; i < (g + 1) * size; i++) mean += scale[i];
      mean /= (double)size;
      for (int64_t i = g * size; i < (g + 1) * size; i++) squares += shift[i] + (double)n * (scale[i] - mean) * (scale[i] - mean);
      const double rstd = 1.0 / sqrt_double(squares / (double)(n * size) + eps);
      mean_out[o * groups + g] = (float)mean;
      rstd_out[o * groups + g] = (float)rstd;
      for (int64_t i = g * size; i < (g + 1) * size; i++) {
        const double s = (gamma ? gamma[i] : 1.0) * rstd;
        scale[i] = (float)s;
        shift[i] = (float)((beta ? beta[i] : 0.0) - mean * s);
      }
    }
    for (int64_t j = 0; j < n; j++)
      row_each(c, [=](int64_t i, int lanes) VEC_LAMBDA {
        store_lanes(y + j * c + i, load_lanes(x + j * c + i, lanes) * load_lanes(scale + i, lanes) + load_lanes(shift + i, lanes), lanes);
      });
  }
}

// Channels whose coefficients are in scratch memory at a time.
static const int64_t GROUP_STRIP = 4096;

KERNEL(groupnorm_grad) {
  const float* gamma = a.gamma;
  const int64_t n = a.n, c = a.c, groups = a.groups, size = c / groups;
  float *mean = reinterpret_cast<float*>(tile.scratch), *rstd = mean + GROUP_STRIP;
  float *scale = rstd + GROUP_STRIP, *slope = scale + GROUP_STRIP, *offset = slope + GROUP_STRIP;
  for (int64_t o = tile.begin(a.outer), end = tile.end(a.outer); o < end; o++) {
    const float *x = (const float*)a.x + o * n * c, *gy = (const float*)a.gy + o * n * c;
    const float *means = (const float*)a.mean + o * groups, *rstds = (const float*)a.rstd + o * groups;
    float *gx = (float*)a.gx + o * n * c, *ggamma = (float*)a.partial + o * 2 * c, *gbeta = ggamma + c;
    auto spread_statistics = [&](int64_t first, int64_t width) {
      for (int64_t i = 0; i < width; i++) {
        mean[i] = means[(first + i) / size];
        rstd[i] = rstds[(first + i) / size];
      }
    };
    for (int64_t first = 0; first < c; first += GROUP_STRIP) {
      const int64_t width = c - first < GROUP_STRIP ? c - first : GROUP_STRIP;
      spread_statistics(first, width);
      channel_grad_sums(x + first, gy + first, n, c, width, mean, rstd, gbeta + first, ggamma + first);
    }
    for (int64_t first = 0; first < c; first += GROUP_STRIP) {
      const int64_t width = c - first < GROUP_STRIP ? c - first : GROUP_STRIP;
      spread_statistics(first, width);
      // gx = rstd (gamma gy - (sum + xhat dot) / m), the sums of a group's m elements taken over its channels.
      double sum = 0, dot = 0;
      for (int64_t i = 0; i < width; i++) {
        if (i == 0 || (first + i) % size == 0) {
          const int64_t start = (first + i) / size * size;
          sum = dot = 0;
          for (int64_t k = start; k < start + size; k++) {
            sum += (gamma ? gamma[k] : 1.0) * gbeta[k];
            dot += (gamma ? gamma[k] : 1.0) * ggamma[k];
          }
        }
        const double r = rstd[i], share = r / (double)(n * size);
        scale[i] = (float)((gamma ? gamma[first + i] : 1.0) * r);
        slope[i] = (float)(-share * r * dot);
        offset[i] = (float)(-share * sum);
      }
      const float *from = x + first, *in = gy + first;
      float* out = gx + first;
      for (int64_t j = 0; j < n; j++)
        row_each(width, [=](int64_t i, int lanes) VEC_LAMBDA {
          const vf deviation = load_lanes(from + j * c + i, lanes) - load_lanes(mean + i, lanes);
          const vf v = load_lanes(in + j * c + i, lanes) * load_lanes(scale + i, lanes) + load_lanes(offset + i, lanes);
          store_lanes(out + j * c + i, v + deviation * load_lanes(slope + i, lanes), lanes);
        });
    }
  }
}

KERNEL(softmax) {
  const float* x = a.x;
  float* y = a.y;
  int64_t c = a.c;
  const bool log = a.log;
  for (int64_t r = tile.begin(a.rows), end = tile.end(a.rows); r < end; r++) {
    const float* in = x + r * c;
    float *out = y + r * c, most = reduce_line<Max>(in, c);
    if (log) {
      float sum = row_sum(c, [=](int64_t i, int n) VEC_LAMBDA { return vexp(load_lanes(in + i, n) - most); });
      float log_sum = log1(sum);
      row_each(c, [=](int64_t i, int n) VEC_LAMBDA { store_lanes(out + i, (load_lanes(in + i, n) - most) - log_sum, n); });
    } else {
      float sum = row_sum(c, [=](int64_t i, int n) VEC_LAMBDA {
        vf e = vexp(load_lanes(in + i, n) - most);
        store_lanes(out + i, e, n);
        return e;
      });
      float scale = 1.0f / sum;
      row_each(c, [=](int64_t i, int n) VEC_LAMBDA { store_lanes(out + i, load_lanes(out + i, n) * scale, n); });
    }
  }
}

KERNEL(softmax_grad) {
  const float *y = a.y, *gy = a.gy;
  float* gx = a.gx;
  int64_t c = a.c;
  const bool log = a.log;
  for (int64_t r = tile.begin(a.rows), end = tile.end(a.rows); r < end; r++) {
    const float *ry = y + r * c, *rg = gy + r * c;
    float* out = gx + r * c;
    if (log) {
      float sum = row_sum(c, [=](int64_t i, int n) VEC_LAMBDA { return load_lanes(rg + i, n); });
      row_each(c, [=](int64_t i, int n) VEC_LAMBDA {
        store_lanes(out + i, load_lanes(rg + i, n) - vexp(load_lanes(ry + i, n)) * sum, n);
      });
    } else {
      float dot = row_sum(c, [=](int64_t i, int n) VEC_LAMBDA { return load_lanes(rg + i, n) * load_lanes(ry + i, n); });
      row_each(c, [=](int64_t i, int n) VEC_LAMBDA { store_lanes(out + i, load_lanes(ry + i, n) * (load_lanes(rg + i, n) - dot), n); });
    }
  }
}
