// Elementary functions on vectors of floats: what libm would give, without libm (the WebAssembly build has none).
//
// Every function is branch-free over its lanes, accurate to a few units in the last place, and lets NaN through. The
// polynomials are minimax fits (Remez) of the reduced functions with coefficients rounded to float32 one by one. Scalar
// versions are lane 0 of the vector ones, so that a value never depends on where in an array it stands.
#pragma once

static const float INF = __builtin_inff();

template <class To, class From>
INLINE To bits_as(From v) {
  static_assert(sizeof(To) == sizeof(From), "bits_as keeps the size");
  To t;
  __builtin_memcpy(&t, &v, sizeof t);
  return t;
}

INLINE vf vabs(vf x) { return (vf)((vi)x & 0x7FFFFFFF); }
// |x| with the sign of s.
INLINE vf with_sign(vf x, vf s) { return (vf)(((vi)x & 0x7FFFFFFF) | ((vi)s & (int32_t)0x80000000)); }

// Square root and rounding are single instructions everywhere; only their names differ.
#if defined(__clang__)
INLINE vf vsqrt(vf x) { return __builtin_elementwise_sqrt(x); }
INLINE vf vfloor(vf x) { return __builtin_elementwise_floor(x); }
INLINE vf vceil(vf x) { return __builtin_elementwise_ceil(x); }
INLINE vf vround(vf x) { return __builtin_elementwise_roundeven(x); }
#elif defined(__AVX512F__)
INLINE vf vsqrt(vf x) { return (vf)__builtin_ia32_sqrtps512_mask(x, x, -1, 4); }
INLINE vf vfloor(vf x) { return (vf)__builtin_ia32_rndscaleps_mask(x, 9, x, -1, 4); }
INLINE vf vceil(vf x) { return (vf)__builtin_ia32_rndscaleps_mask(x, 10, x, -1, 4); }
INLINE vf vround(vf x) { return (vf)__builtin_ia32_rndscaleps_mask(x, 8, x, -1, 4); }
#elif defined(__AVX__)
INLINE vf vsqrt(vf x) { return __builtin_ia32_sqrtps256(x); }
INLINE vf vfloor(vf x) { return __builtin_ia32_roundps256(x, 9); }
INLINE vf vceil(vf x) { return __builtin_ia32_roundps256(x, 10); }
INLINE vf vround(vf x) { return __builtin_ia32_roundps256(x, 8); }
#elif defined(__SSE4_1__)
INLINE vf vsqrt(vf x) { return __builtin_ia32_sqrtps(x); }
INLINE vf vfloor(vf x) { return __builtin_ia32_roundps(x, 9); }
INLINE vf vceil(vf x) { return __builtin_ia32_roundps(x, 10); }
INLINE vf vround(vf x) { return __builtin_ia32_roundps(x, 8); }
#else  // GCC on a processor whose builtins round lane by lane in one instruction (AArch64)
#define LANEWISE(name, builtin)                              \
  INLINE vf name(vf x) {                                     \
    for (int i = 0; i < LANES; i++) x[i] = builtin(x[i]);    \
    return x;                                                \
  }
LANEWISE(vsqrt, __builtin_sqrtf)
LANEWISE(vfloor, __builtin_floorf)
LANEWISE(vceil, __builtin_ceilf)
LANEWISE(vround, __builtin_rintf)
#undef LANEWISE
#endif

// ln 2 in two parts; the first has 16 bits, so that products with an exponent are exact.
static const float LN2_HIGH = 0.693145752f, LN2_LOW = 1.42860682e-6f;

// e^x = 2^k e^r with |r| <= ln 2 / 2. 2^k is applied in two halves, which reaches into the subnormal numbers and to infinity.
INLINE vf vexp(vf x) {
  x = vmax(splat(-104.0f), vmin(splat(89.0f), x));  // this order keeps NaN
  const vf magic = splat(12582912.0f);              // 1.5 * 2^23: adding it rounds to an integer
  vf t = x * 1.44269504f + magic;
  vi n = (vi)t - (vi)magic;
  vf k = t - magic;
  vf r = (x - k * LN2_HIGH) - k * LN2_LOW;
  vf p = r * 0.00138418365f + 0.0083693685f;
  p = p * r + 0.0416680798f;
  p = p * r + 0.166665152f;
  p = p * r + 0.49999994f;
  p = (p * r) * r + r + 1.0f;
  vi half = n >> 1;
  return p * (vf)((half + 127) << 23) * (vf)((n - half + 127) << 23);
}

// e^x of x <= 0, which is never subnormal: e^-87 at least.
INLINE vf vexp_below(vf x) {
  x = vmax(splat(-87.0f), x);  // this order keeps NaN
  const vf magic = splat(12582912.0f), t = x * 1.44269504f + magic, k = t - magic;
  const vf r = (x - k * LN2_HIGH) - k * LN2_LOW;
  vf p = r * 0.00138418365f + 0.0083693685f;
  p = p * r + 0.0416680798f;
  p = p * r + 0.166665152f;
  p = p * r + 0.49999994f;
  p = (p * r) * r + r + 1.0f;
  return p * (vf)(((vi)t - (vi)magic + 127) << 23);
}

// log x = k ln 2 + log(1 + f) with 1 + f in [sqrt(1/2), sqrt(2)).
INLINE vf vlog(vf x) {
  vi tiny = x < 1.17549435e-38f;  // subnormal: scale up by 2^23
  vi bits = (vi)select(tiny, x * 8388608.0f, x);
  vi e = (bits - 0x3F3504F3) >> 23;
  vf f = (vf)(bits - (vi)((vu)e << 23)) - 1.0f;
  vf k = __builtin_convertvector(e - (tiny & 23), vf);
  vf p = f * 0.0523737557f + -0.108534969f;
  p = p * f + 0.121293314f;
  p = p * f + -0.125642523f;
  p = p * f + 0.142085463f;
  p = p * f + -0.166584447f;
  p = p * f + 0.20002237f;
  p = p * f + -0.250001848f;
  p = p * f + 0.333333135f;
  vf ff = f * f;
  vf y = k * LN2_HIGH + (f + (ff * (f * p - 0.5f) + k * LN2_LOW));
  y = select(x > 0.0f, y, splat(__builtin_nanf("")));
  y = select(x == 0.0f, splat(-INF), y);
  return select(x == INF, x, y);
}

// log(1 + x) for x >= 0: what rounding 1 + x lost is put back to first order.
INLINE vf vlog1p(vf x) {
  vf w = 1.0f + x;
  return vlog(w) + (x - (w - 1.0f)) / w;
}

INLINE vf vsigmoid(vf x) { return 1.0f / (1.0f + vexp(-x)); }

INLINE vf vsoftplus(vf x) { return vmax(splat(0.0f), x) + vlog1p(vexp(-vabs(x))); }

// An odd polynomial near zero, where 1 - 2 / (e^2x + 1) would cancel.
INLINE vf vtanh(vf x) {
  vf a = vabs(x), z = x * x;
  vf p = z * -0.00571406353f + 0.0206480622f;
  p = p * z + -0.0537427738f;
  p = p * z + 0.133314833f;
  p = p * z + -0.333332837f;
  vf near = x + x * (z * p);
  vf far = with_sign(1.0f - 2.0f / (vexp(a + a) + 1.0f), x);
  return select(a < 0.625f, near, far);
}

// Near zero an odd polynomial; beyond, 1 - exp(-q) with a polynomial q that approximates -log(1 - erf).
INLINE vf verf(vf x) {
  vf a = vmin(splat(4.0f), vabs(x)), z = a * a;  // erf(4) is 1 in float32; this order keeps NaN
  vf p = z * -0.000598021375f + 0.00499176187f;
  p = p * z + -0.0267662313f;
  p = p * z + 0.112818271f;
  p = p * z + -0.376124978f;
  p = p * z + 0.128379151f;
  vf near = x + x * p;
  vf q = a * 2.11029492e-05f + -0.000434515183f;
  q = q * a + 0.00417120336f;
  q = q * a + -0.0251196213f;
  q = q * a + 0.108280234f;
  q = q * a + 0.633346856f;
  q = q * a + 1.12951493f;
  q = q * a + -0.000174682136f;
  vf far = with_sign(1.0f - vexp(-q), x);
  return select(a < 0.925f, near, far);
}

// sin (r + quadrant * pi / 2) for |r| <= pi / 4.
INLINE vf sin_in_quadrant(vf r, vi quadrant) {
  vf z = r * r;
  vf s = z * -0.000195186047f + 0.00833219104f;
  s = s * z + -0.166666552f;
  s = r + r * (z * s);
  vf c = z * 2.44306702e-05f + -0.00138873013f;
  c = c * z + 0.0416666456f;
  c = (c * z - 0.5f) * z + 1.0f;
  vf y = select((quadrant & 1) != 0, c, s);
  return (vf)((vi)y ^ ((quadrant & 2) << 30));
}

// x = r + quadrant * pi / 2 for one float of any size: 96 bits of 2 / pi from where they begin to matter
// (Payne and Hanek, 1983). Infinity and NaN give NaN.
static float reduce_angle(float x, int32_t& quadrant) {
  static const uint32_t two_over_pi[] = {0,          0xA2F9836E, 0x4E441529, 0xFC2757D1,
                                         0xF534DDC0, 0xDB629599, 0x3C439041, 0xFE5163AB};
  uint32_t bits = bits_as<uint32_t>(x), exponent = (bits >> 23) & 255;
  quadrant = 0;
  if (exponent == 255) return x - x;
  if (exponent < 132) return x;  // not used for angles this small
  uint64_t m = (bits & 0x7FFFFF) | 0x800000;
  uint32_t position = exponent - 150 - 2 + 32, word = position / 32, shift = position % 32;
  uint64_t w[3];
  for (uint32_t i = 0; i < 3; i++) {
    uint64_t pair = (uint64_t)two_over_pi[word + i] << 32 | (word + i + 1 < 8 ? two_over_pi[word + i + 1] : 0);
    w[i] = (uint32_t)(pair >> (32 - shift));
  }
  uint64_t turn = m * (w[0] << 32 | w[1]) + (m * w[2] >> 32);  // fraction of a full turn, times 2^64
  uint64_t q = (turn + (1ull << 61)) >> 62;
  double r = (double)(int64_t)(turn - (q << 62)) * 3.4061215800865546e-19;  // 2 pi / 2^64
  bool negative = bits >> 31;
  quadrant = negative ? (int32_t)-q : (int32_t)q;
  return (float)(negative ? -r : r);
}

// Common part of sine and cosine: subtracts the nearest multiple of pi / 2, in three parts whose products are exact.
INLINE vf sin_shifted(vf x, int32_t quarter_turns) {
  const vf magic = splat(12582912.0f);
  vf t = x * 0.636619772f + magic;
  vi n = (vi)t - (vi)magic;
  vf k = t - magic;
  vf r = ((x - k * 1.5703125f) - k * 4.83751297e-4f) - k * 7.54978995e-8f;
  if (mask_to_bits(~(vabs(x) <= 8192.0f)))
    for (int i = 0; i < LANES; i++)
      if (!(__builtin_fabsf(x[i]) <= 8192.0f)) {
        int32_t quadrant;
        r[i] = reduce_angle(x[i], quadrant);
        n[i] = quadrant;
      }
  return sin_in_quadrant(r, n + quarter_turns);
}
INLINE vf vsin(vf x) { return sin_shifted(x, 0); }
INLINE vf vcos(vf x) { return sin_shifted(x, 1); }

// log2 of a positive finite number whose double is normal: log2 m = 2 / ln 2 * artanh((m - 1) / (m + 1)). Error about 1e-13.
INLINE double log2_double(double x) {
  uint64_t bits = bits_as<uint64_t>(x);
  int64_t e = (int64_t)(bits - 0x3FE6A09E667F3BCDull) >> 52;
  double m = bits_as<double>(bits - ((uint64_t)e << 52));
  double s = (m - 1.0) / (m + 1.0), z = s * s;
  double p = 1.0 / 15;
  p = p * z + 1.0 / 13;
  p = p * z + 1.0 / 11;
  p = p * z + 1.0 / 9;
  p = p * z + 1.0 / 7;
  p = p * z + 1.0 / 5;
  p = p * z + 1.0 / 3;
  return (double)e + 2.8853900817779268 * (s + s * (z * p));
}

// 2^x for |x| <= 1000: the exponential series of the fraction times ln 2. Error about 1e-11.
INLINE double exp2_double(double x) {
  double t = x + 6755399441055744.0;  // 1.5 * 2^52
  int64_t n = (int64_t)(bits_as<uint64_t>(t) - bits_as<uint64_t>(6755399441055744.0));
  double r = (x - (t - 6755399441055744.0)) * 0.69314718055994531;
  double p = 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  return p * bits_as<double>((uint64_t)(n + 1023) << 52);
}

// x^y with the special cases of IEEE 754.
__attribute__((noinline)) static float power(float x, float y) {
  if (y == 0.0f || x == 1.0f) return 1.0f;
  if (x != x || y != y) return x + y;
  float ax = __builtin_fabsf(x), ay = __builtin_fabsf(y);
  bool whole = ay >= 8388608.0f || (float)(int32_t)y == y;
  bool odd = whole && ay < 16777216.0f && ((int32_t)y & 1);
  if (x < 0.0f && ax != INF && ay != INF && !whole) return __builtin_nanf("");
  float r;
  if (ax == 1.0f) {
    r = 1.0f;
  } else {
    double t = (double)y * (ax == 0.0f ? -(double)INF : ax == INF ? (double)INF : log2_double(ax));
    r = (float)exp2_double(t > 200.0 ? 200.0 : t < -200.0 ? -200.0 : t);
  }
  return odd && (bits_as<uint32_t>(x) >> 31) ? -r : r;
}
INLINE vf vpow(vf x, vf y) {
  vf r;
  for (int i = 0; i < LANES; i++) r[i] = power(x[i], y[i]);
  return r;
}

INLINE float sqrt1(float x) { return vsqrt(splat(x))[0]; }
INLINE float exp1(float x) { return vexp(splat(x))[0]; }
INLINE float log1(float x) { return vlog(splat(x))[0]; }
INLINE double sqrt_double(double x) {
  typedef double v2 __attribute__((vector_size(16)));
#if defined(__clang__)
  return __builtin_elementwise_sqrt(v2{x, x})[0];
#elif defined(__SSE2__)
  return __builtin_ia32_sqrtpd(v2{x, x})[0];
#else
  return __builtin_sqrt(x);
#endif
}
