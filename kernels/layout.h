// Kernels that move elements: strided copies, indexed rows, gather and scatter.
#pragma once

// Element width of an ELEMENT code, in bytes.
INLINE int64_t element_bytes(int64_t type) { return type == ELEMENT_u8 ? 1 : 4; }

template <class T>
static void copy_rows(const copy_strided_args& a, const Tile& tile) {
  const T* x = a.x;
  T* y = a.y;
  x += (int64_t)a.offsetA;
  y += (int64_t)a.offsetB;
  const int64_t d[6] = SIX(a.d), stride[2][6] = {SIX(a.a), SIX(a.b)};
  int64_t sa = stride[0][5], sb = stride[1][5];
  each_row(tile, d, stride, [=](int64_t, const int64_t* offset, int64_t n) VEC_LAMBDA {
    const T* from = x + offset[0];
    T* to = y + offset[1];
    if (sb == 1 && sa == 1)
      for (int64_t i = 0; i < n; i++) to[i] = from[i];
    else if (sb == 1 && sa == 0)
      for (int64_t i = 0; i < n; i++) to[i] = *from;
    else
      for (int64_t i = 0; i < n; i++) to[i * sb] = from[i * sa];
  });
}

KERNEL(copy_strided) {
  if (element_bytes(a.type) == 1) copy_rows<uint8_t>(a, tile);
  else copy_rows<uint32_t>(a, tile);
}

KERNEL(accumulate_strided) {
  const float* x = a.x;
  float* y = a.y;
  x += (int64_t)a.offsetA;
  y += (int64_t)a.offsetB;
  const int64_t d[6] = SIX(a.d), stride[2][6] = {SIX(a.a), SIX(a.b)};
  int64_t sa = stride[0][5], sb = stride[1][5];
  each_row(tile, d, stride, [=](int64_t, const int64_t* offset, int64_t n) VEC_LAMBDA {
    const float* from = x + offset[0];
    float* to = y + offset[1];
    if (sa == 1 && sb == 1) map2(from, to, to, 0, n, [](vf u, vf v) VEC_LAMBDA { return u + v; });
    else
      for (int64_t i = 0; i < n; i++) to[i * sb] += from[i * sa];
  });
}

KERNEL(index_select) {
  const char* x = a.x;
  char* y = a.y;
  const int32_t* index = a.index;
  int64_t n = a.n, xn = a.xn, bytes = a.inner * element_bytes(a.type);
  for (int64_t u = tile.begin(a.outer * n), end = tile.end(a.outer * n); u < end; u++)
    memcpy(y + u * bytes, x + (u / n * xn + index[u % n]) * bytes, (size_t)bytes);
}

KERNEL(index_add) {
  const float* gy = a.gy;
  float* gx = a.gx;
  const int32_t* index = a.index;
  int64_t xn = a.xn, n = a.n, inner = a.inner;
  for (int64_t u = tile.begin(a.outer * xn), end = tile.end(a.outer * xn); u < end;) {
    // This tile's destination rows [row, stop) of one outer index, filled in a single scan of the index.
    int64_t o = u / xn, row = u % xn, stop = row + (end - u) < xn ? row + (end - u) : xn;
    for (int64_t i = row * inner; i < stop * inner; i++) gx[o * xn * inner + i] = 0.0f;
    for (int64_t j = 0; j < n; j++) {
      if (index[j] < row || index[j] >= stop) continue;
      const float* from = gy + (o * n + j) * inner;
      float* to = gx + (o * xn + index[j]) * inner;
      map2(from, to, to, 0, inner, [](vf v, vf sum) VEC_LAMBDA { return sum + v; });
    }
    u += stop - row;
  }
}

KERNEL(gather) {
  const float* x = a.x;
  float* y = a.y;
  const int32_t* index = a.index;
  int64_t xn = a.xn, n = a.n, inner = a.inner;
  for (int64_t o = tile.begin(a.outer), end = tile.end(a.outer); o < end; o++)
    for (int64_t j = 0; j < n; j++)
      for (int64_t i = 0; i < inner; i++) {
        int64_t at = (o * n + j) * inner + i;
        y[at] = x[(o * xn + index[at]) * inner + i];
      }
}

KERNEL(scatter_add) {
  const float* gy = a.gy;
  float* gx = a.gx;
  const int32_t* index = a.index;
  int64_t xn = a.xn, n = a.n, inner = a.inner;
  for (int64_t o = tile.begin(a.outer), end = tile.end(a.outer); o < end; o++)
    for (int64_t j = 0; j < n; j++)
      for (int64_t i = 0; i < inner; i++) {
        int64_t at = (o * n + j) * inner + i;
        gx[(o * xn + index[at]) * inner + i] += gy[at];
      }
}
