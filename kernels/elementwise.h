// Element-wise kernels: functions of one array, broadcasting functions of two or three, casts, and per-channel affine maps.
#pragma once

// Lambdas on vectors must be inlined into their loops, twice (whole vectors, then the rest).
#define VEC_LAMBDA __attribute__((always_inline))

// y[i] = f(a[i]) and f(a[i], b[i]) for begin <= i < end. y may be one of the inputs.
template <class F>
INLINE void map1(const float* a, float* y, int64_t begin, int64_t end, F f) {
  int64_t i = begin;
  for (; i + LANES <= end; i += LANES) store(y + i, f(load(a + i)));
  if (int rest = (int)(end - i)) store_part(y + i, f(load_part(a + i, rest)), rest);
}
template <class F>
INLINE void map2(const float* a, const float* b, float* y, int64_t begin, int64_t end, F f) {
  int64_t i = begin;
  for (; i + LANES <= end; i += LANES) store(y + i, f(load(a + i), load(b + i)));
  if (int rest = (int)(end - i)) store_part(y + i, f(load_part(a + i, rest), load_part(b + i, rest)), rest);
}

KERNEL(fill) {
  float* y = a.y;
  float value = a.value;
  for (int64_t i = tile.begin(a.n), end = tile.end(a.n); i < end; i++) y[i] = value;
}

KERNEL(unary) {
  const float* x = a.x;
  float* y = a.y;
  float p0 = a.p0, p1 = a.p1;
  int64_t begin = tile.begin(a.n), end = tile.end(a.n);
#define CASE(op, ...) \
  case UNARY_##op: return map1(x, y, begin, end, [=](vf v) VEC_LAMBDA { return __VA_ARGS__; })
  switch (a.op) {
    CASE(copy, v);
    CASE(neg, -v);
    CASE(abs, vabs(v));
    CASE(sign, select(v > 0.0f, splat(1.0f), select(v < 0.0f, splat(-1.0f), v)));  // a zero or NaN stays
    CASE(square, v* v);
    CASE(sqrt, vsqrt(v));
    CASE(rsqrt, 1.0f / vsqrt(v));
    CASE(reciprocal, 1.0f / v);
    CASE(exp, vexp(v));
    CASE(log, vlog(v));
    CASE(tanh, vtanh(v));
    CASE(sigmoid, vsigmoid(v));
    CASE(relu, vmax(splat(0.0f), v));
    CASE(leakyRelu, select(v >= 0.0f, v, p0* v));
    CASE(gelu, 0.5f * v * (1.0f + verf(v * 0.707106781f)));
    CASE(silu, v* vsigmoid(v));
    CASE(softplus, vsoftplus(v));
    CASE(erf, verf(v));
    CASE(sin, vsin(v));
    CASE(cos, vcos(v));
    CASE(floor, vfloor(v));
    CASE(ceil, vceil(v));
    CASE(round, vround(v));
    CASE(clamp, vmin(splat(p1), vmax(splat(p0), v)));  // this order keeps NaN
    CASE(affine, p0* v + p1);
    CASE(powScalar, vpow(v, splat(p0)));
  }
#undef CASE
}

// The derivative in terms of the input x or of the result y, whichever is cheaper.
KERNEL(unary_grad) {
  const float *x = a.x, *y = a.y, *gy = a.gy;
  float* gx = a.gx;
  float p0 = a.p0, p1 = a.p1;
  int64_t begin = tile.begin(a.n), end = tile.end(a.n);
#define FROM(source, op, ...) \
  case UNARY_##op: return map2(source, gy, gx, begin, end, [=](vf v, vf g) VEC_LAMBDA { return __VA_ARGS__; })
  switch (a.op) {
    FROM(gy, copy, v);
    FROM(gy, neg, -v);
    FROM(x, abs, select(v > 0.0f, g, select(v < 0.0f, -g, splat(0.0f))));
    FROM(x, square, 2.0f * v * g);
    FROM(y, sqrt, g * 0.5f / v);
    FROM(y, rsqrt, g * -0.5f * (v * v * v));
    FROM(y, reciprocal, -g * (v * v));
    FROM(y, exp, g* v);
    FROM(x, log, g / v);
    FROM(y, tanh, g*(1.0f - v * v));
    FROM(y, sigmoid, g*(v * (1.0f - v)));
    FROM(x, relu, select(v > 0.0f, g, splat(0.0f)));
    FROM(x, leakyRelu, select(v >= 0.0f, g, p0* g));
    FROM(x, gelu, g*(0.5f + 0.5f * verf(v * 0.707106781f) + v * (0.398942280f * vexp(v * v * -0.5f))));
    FROM(x, softplus, g* vsigmoid(v));
    FROM(x, erf, g*(1.12837917f * vexp(-(v * v))));
    FROM(x, sin, g* vcos(v));
    FROM(x, cos, -g * vsin(v));
    FROM(x, clamp, select((v >= p0) & (v <= p1), g, splat(0.0f)));
    FROM(gy, affine, p0* v);
    case UNARY_silu:
      return map2(x, gy, gx, begin, end, [](vf v, vf g) VEC_LAMBDA {
        vf s = vsigmoid(v);
        return g * (s + v * (s * (1.0f - s)));
      });
    case UNARY_powScalar:
      if (p0 != 0.0f)
        return map2(x, gy, gx, begin, end, [=](vf v, vf g) VEC_LAMBDA { return g * (p0 * vpow(v, splat(p0 - 1.0f))); });
  }
#undef FROM
  // sign, floor, ceil, round, x^0: flat wherever they are differentiable.
  for (int64_t i = begin; i < end; i++) gx[i] = 0.0f;
}

// ------------------------------------------------------------------------------------------------ broadcasting

// The six fields `d0` .. `d5` of an argument block as an array.
#define SIX(prefix) {prefix##0, prefix##1, prefix##2, prefix##3, prefix##4, prefix##5}

// Calls row(first, offsets, n) for this tile's share of a six-dimensional index space: `n` neighbours along the last dimension
// that start at flat index `first`, where operand k stands at element offsets[k]. Units: rows; if there is one, elements of it.
template <int N, class Row>
INLINE void each_row(const Tile& tile, const int64_t (&d)[6], const int64_t (&stride)[N][6], Row row) {
  int64_t rows = d[0] * d[1] * d[2] * d[3] * d[4], begin = 0, end = 1, column = 0, n = d[5], at[5], offset[N];
  if (rows == 1) {
    column = tile.begin(d[5]);
    n = tile.end(d[5]) - column;
  } else {
    begin = tile.begin(rows);
    end = tile.end(rows);
  }
  if (begin == end) return;
  for (int k = 0; k < N; k++) offset[k] = column * stride[k][5];
  for (int64_t i = 4, rest = begin; i >= 0; rest /= d[i], i--) {
    at[i] = rest % d[i];
    for (int k = 0; k < N; k++) offset[k] += at[i] * stride[k][i];
  }
  for (int64_t r = begin; r < end; r++) {
    row(r * d[5] + column, offset, n);
    for (int i = 4; i >= 0; i--) {
      bool carry = ++at[i] == d[i];
      for (int k = 0; k < N; k++) offset[k] += carry ? stride[k][i] * (1 - d[i]) : stride[k][i];
      if (!carry) break;
      at[i] = 0;
    }
  }
}

// One operand of a row: contiguous, one value, or strided.
struct Contiguous {
  const float* p;
  vf at(int64_t i) const { return load(p + i); }
  vf part(int64_t i, int n) const { return load_part(p + i, n); }
};
struct Same {
  vf value;
  vf at(int64_t) const { return value; }
  vf part(int64_t, int) const { return value; }
};
struct Strided {
  const float* p;
  int64_t stride;
  vf part(int64_t i, int n) const {
    float t[LANES] = {0};
    for (int l = 0; l < n; l++) t[l] = p[(i + l) * stride];
    return load(t);
  }
  vf at(int64_t i) const { return part(i, LANES); }
};

template <class A, class B, class F>
INLINE void zip(A a, B b, float* y, int64_t n, F f) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) store(y + i, f(a.at(i), b.at(i)));
  if (int rest = (int)(n - i)) store_part(y + i, f(a.part(i, rest), b.part(i, rest)), rest);
}

template <class F>
INLINE void zip_row(const float* a, int64_t sa, const float* b, int64_t sb, float* y, int64_t n, F f) {
  if (sa == 1 && sb == 1) zip(Contiguous{a}, Contiguous{b}, y, n, f);
  else if (sa == 1 && sb == 0) zip(Contiguous{a}, Same{splat(*b)}, y, n, f);
  else if (sa == 0 && sb == 1) zip(Same{splat(*a)}, Contiguous{b}, y, n, f);
  else zip(Strided{a, sa}, Strided{b, sb}, y, n, f);
}

KERNEL(binary) {
  const float *pa = a.a, *pb = a.b;
  float* y = a.y;
  const int64_t op = a.op, d[6] = SIX(a.d), stride[2][6] = {SIX(a.a), SIX(a.b)};
  int64_t sa = stride[0][5], sb = stride[1][5];
  each_row(tile, d, stride, [=](int64_t first, const int64_t* offset, int64_t n) VEC_LAMBDA {
#define CASE(op, ...)                                                                                                         \
  case BINARY_##op:                                                                                                           \
    return zip_row(pa + offset[0], sa, pb + offset[1], sb, y + first, n, [](vf u, vf v) VEC_LAMBDA { return __VA_ARGS__; })
    switch (op) {
      CASE(add, u + v);
      CASE(sub, u - v);
      CASE(mul, u* v);
      CASE(div, u / v);
      CASE(maximum, nan_max(u, v));
      CASE(minimum, nan_min(u, v));
      CASE(pow, vpow(u, v));
    }
#undef CASE
  });
}

// out[i] = f(u[i * su], v[i * sv]) for bytes out; the loops with constant strides vectorise.
template <class T, class F>
INLINE void byte_row(const T* u, int64_t su, const T* v, int64_t sv, uint8_t* out, int64_t n, F f) {
  if (su == 1 && sv == 1)
    for (int64_t i = 0; i < n; i++) out[i] = (uint8_t)f(u[i], v[i]);
  else if (su == 1 && sv == 0)
    for (int64_t i = 0; i < n; i++) out[i] = (uint8_t)f(u[i], *v);
  else
    for (int64_t i = 0; i < n; i++) out[i] = (uint8_t)f(u[i * su], v[i * sv]);
}

// Every comparison is a choice among less, equal and greater, possibly negated: one loop serves all (NaN is none of the three,
// hence `ne` is the negation of `eq`).
template <class T>
static void compare_as(const compare_args& a, const Tile& tile) {
  const T *pa = a.a, *pb = a.b;
  uint8_t* y = a.y;
  const int64_t op = a.op, d[6] = SIX(a.d), stride[2][6] = {SIX(a.a), SIX(a.b)};
  int64_t sa = stride[0][5], sb = stride[1][5];
  const bool less = op == COMPARE_lt || op == COMPARE_le, greater = op == COMPARE_gt || op == COMPARE_ge;
  const bool equal = op != COMPARE_lt && op != COMPARE_gt, negate = op == COMPARE_ne;
  each_row(tile, d, stride, [=](int64_t first, const int64_t* offset, int64_t n) VEC_LAMBDA {
    byte_row(pa + offset[0], sa, pb + offset[1], sb, y + first, n,
             [=](T u, T v) VEC_LAMBDA { return (((u < v) & less) | ((u == v) & equal) | ((u > v) & greater)) ^ negate; });
  });
}

KERNEL(compare) {
  switch (a.type) {
    case ELEMENT_f32: return compare_as<float>(a, tile);
    case ELEMENT_i32: return compare_as<int32_t>(a, tile);
    case ELEMENT_u8: return compare_as<uint8_t>(a, tile);
    case ELEMENT_u32: return compare_as<uint32_t>(a, tile);
  }
}

KERNEL(logical) {
  const int64_t op = a.op, d[6] = SIX(a.d);
  const bool negate = op == LOGICAL_not, both = op != LOGICAL_xor, either = op == LOGICAL_or || op == LOGICAL_xor;
  const uint8_t *pa = a.a, *pb = negate ? a.a : a.b;  // `not` has no b: not u = not (u and u)
  uint8_t* y = a.y;
  int64_t stride[2][6] = {SIX(a.a), SIX(a.b)};
  if (negate)
    for (int i = 0; i < 6; i++) stride[1][i] = stride[0][i];
  int64_t sa = stride[0][5], sb = stride[1][5];
  each_row(tile, d, stride, [=](int64_t first, const int64_t* offset, int64_t n) VEC_LAMBDA {
    byte_row(pa + offset[0], sa, pb + offset[1], sb, y + first, n, [=](uint8_t l, uint8_t r) VEC_LAMBDA {
      bool u = l != 0, v = r != 0;
      return ((u & v & both) | ((u ^ v) & either)) ^ negate;
    });
  });
}

KERNEL(where) {
  const uint8_t* pc = a.cond;
  const float *pa = a.a, *pb = a.b;
  float* y = a.y;
  const int64_t d[6] = SIX(a.d), stride[3][6] = {SIX(a.a), SIX(a.b), SIX(a.c)};
  int64_t sa = stride[0][5], sb = stride[1][5], sc = stride[2][5];
  each_row(tile, d, stride, [=](int64_t first, const int64_t* offset, int64_t n) VEC_LAMBDA {
    const float *ra = pa + offset[0], *rb = pb + offset[1];
    const uint8_t* rc = pc + offset[2];
    float* out = y + first;
    // Constant strides for the usual cases, so that the loops vectorise.
#define ROW(SA, SB, SC) \
  for (int64_t i = 0; i < n; i++) out[i] = rc[i * (SC)] ? ra[i * (SA)] : rb[i * (SB)]
    if (sa == 1 && sb == 1 && sc == 1) ROW(1, 1, 1);
    else if (sa == 1 && sb == 0 && sc == 1) ROW(1, 0, 1);
    else if (sa == 0 && sb == 1 && sc == 1) ROW(0, 1, 1);
    else ROW(sa, sb, sc);
#undef ROW
  });
}

// ------------------------------------------------------------------------------------------------ conversions

template <class To, class From>
struct Convert {
  static To of(From v) { return (To)v; }
};
// Towards zero, saturating; NaN gives 0. The bounds are powers of two (or zero), hence exact in float32.
template <class To>
struct Convert<To, float> {
  static To of(float v) {
    const bool is_signed = (To)-1 < (To)0;
    const To most = (To)(is_signed ? 0x7FFFFFFF : ~0u), least = (To)(is_signed ? 0x80000000 : 0);
    const float above = is_signed ? 2147483648.0f : sizeof(To) == 1 ? 256.0f : 4294967296.0f;
    const float below = is_signed ? -2147483648.0f : 0.0f;
    return v >= above ? most : v <= below ? least : v == v ? (To)v : (To)0;
  }
};
template <>
struct Convert<float, float> {
  static float of(float v) { return v; }
};

template <class From, class To>
static void cast_loop(const From* x, To* y, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; i++) y[i] = Convert<To, From>::of(x[i]);
}
template <class From>
static void cast_from(const cast_args& a, int64_t begin, int64_t end) {
  const From* x = a.x;
  switch (a.to) {
    case ELEMENT_f32: return cast_loop<From, float>(x, a.y, begin, end);
    case ELEMENT_i32: return cast_loop<From, int32_t>(x, a.y, begin, end);
    case ELEMENT_u8: return cast_loop<From, uint8_t>(x, a.y, begin, end);
    case ELEMENT_u32: return cast_loop<From, uint32_t>(x, a.y, begin, end);
  }
}

KERNEL(cast) {
  int64_t begin = tile.begin(a.n), end = tile.end(a.n);
  switch (a.from) {
    case ELEMENT_f32: return cast_from<float>(a, begin, end);
    case ELEMENT_i32: return cast_from<int32_t>(a, begin, end);
    case ELEMENT_u8: return cast_from<uint8_t>(a, begin, end);
    case ELEMENT_u32: return cast_from<uint32_t>(a, begin, end);
  }
}

// ------------------------------------------------------------------------------------------------ sums and affine maps

KERNEL(accumulate) {
  const float* x = a.x;
  float *y = a.y, alpha = a.alpha;
  map2(x, y, y, tile.begin(a.n), tile.end(a.n), [=](vf u, vf v) VEC_LAMBDA { return u * alpha + v; });
}

KERNEL(affine) {
  const float *x = a.x, *scale = a.scale, *shift = a.shift;
  float* y = a.y;
  int64_t c = a.c;
  for (int64_t r = tile.begin(a.rows), end = tile.end(a.rows); r < end; r++) {
    const float* in = x + r * c;
    float* out = y + r * c;
    int64_t i = 0;
    for (; i + LANES <= c; i += LANES) store(out + i, load(in + i) * load(scale + i) + load(shift + i));
    if (int n = (int)(c - i)) store_part(out + i, load_part(in + i, n) * load_part(scale + i, n) + load_part(shift + i, n), n);
  }
}

KERNEL(affine_add) {
  const float *x = a.x, *scale = a.scale, *shift = a.shift, *u = a.u;
  float* y = a.y;
  int64_t c = a.c;
  for (int64_t r = tile.begin(a.rows), end = tile.end(a.rows); r < end; r++) {
    const float *in = x + r * c, *more = u + r * c;
    float* out = y + r * c;
    int64_t i = 0;
    for (; i + LANES <= c; i += LANES) store(out + i, load(in + i) * load(scale + i) + load(shift + i) + load(more + i));
    if (int n = (int)(c - i))
      store_part(out + i, load_part(in + i, n) * load_part(scale + i, n) + load_part(shift + i, n) + load_part(more + i, n), n);
  }
}

KERNEL(affine2) {
  const float *u = a.u, *x = a.x, *ca = a.a, *cb = a.b, *cd = a.d;
  float* y = a.y;
  int64_t c = a.c;
  for (int64_t r = tile.begin(a.rows), end = tile.end(a.rows); r < end; r++) {
    const float *ru = u + r * c, *rx = x + r * c;
    float* out = y + r * c;
    int64_t i = 0;
    for (; i + LANES <= c; i += LANES)
      store(out + i, load(ru + i) * load(ca + i) + (load(rx + i) * load(cb + i) + load(cd + i)));
    if (int n = (int)(c - i))
      store_part(out + i,
                 load_part(ru + i, n) * load_part(ca + i, n) + (load_part(rx + i, n) * load_part(cb + i, n) + load_part(cd + i, n)), n);
  }
}
