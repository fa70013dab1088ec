// Portable SIMD on the compiler's vector extension: one source for SIMD128 WebAssembly, SSE, AVX2, AVX-512 and NEON.
//
// `vf` holds LANES floats. Loads and stores are unaligned. Products and sums written `a * b + c` contract to FMA where the
// instruction set has it. Included once per instruction set, inside its namespace.
#pragma once

#if defined(__AVX512F__)
#define VEC_BYTES 64
#elif defined(__AVX__)
#define VEC_BYTES 32
#else
#define VEC_BYTES 16
#endif
#define LANES (VEC_BYTES / 4)
#define INLINE static inline __attribute__((always_inline))
#define INLINE_METHOD inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(VEC_BYTES)));
typedef int32_t vi __attribute__((vector_size(VEC_BYTES)));
typedef uint32_t vu __attribute__((vector_size(VEC_BYTES)));
typedef float vf_loose __attribute__((vector_size(VEC_BYTES), aligned(4), may_alias));
typedef int32_t vi_loose __attribute__((vector_size(VEC_BYTES), aligned(4), may_alias));

INLINE vf load(const float* p) { return *reinterpret_cast<const vf_loose*>(p); }
INLINE void store(float* p, vf v) { *reinterpret_cast<vf_loose*>(p) = v; }
INLINE vi load(const int32_t* p) { return *reinterpret_cast<const vi_loose*>(p); }
INLINE void store(int32_t* p, vi v) { *reinterpret_cast<vi_loose*>(p) = v; }
INLINE vf splat(float x) { return x - vf{}; }  // not a sum: -0 + 0 is 0, and compilers must honour that
INLINE vi splat(int32_t x) { return vi{} + x; }
// Lane-wise mask ? a : b, mask lanes all ones or all zeros.
INLINE vf select(vi mask, vf a, vf b) { return mask ? a : b; }
INLINE vf vmax(vf a, vf b) { return select(a > b, a, b); }
INLINE vf vmin(vf a, vf b) { return select(a < b, a, b); }
// Maximum and minimum that are NaN when either operand is.
INLINE vf nan_max(vf a, vf b) { return select((a > b) | (a != a), a, b); }
INLINE vf nan_min(vf a, vf b) { return select((a < b) | (a != a), a, b); }
// First n lanes (n < LANES) of memory, the rest zero; and back. Masked instructions where there are some.
#if defined(__AVX512F__)
INLINE vf load_part(const float* p, int n) { return (vf)__builtin_ia32_loadups512_mask(p, vf{}, (uint16_t)((1u << n) - 1)); }
INLINE void store_part(float* p, vf v, int n) { __builtin_ia32_storeups512_mask(p, v, (uint16_t)((1u << n) - 1)); }
#elif defined(__AVX2__)
INLINE vi first_lanes(int n) { return (vi{0, 1, 2, 3, 4, 5, 6, 7} < n); }
INLINE vf load_part(const float* p, int n) { return (vf)__builtin_ia32_maskloadps256((const vf*)p, first_lanes(n)); }
INLINE void store_part(float* p, vf v, int n) { __builtin_ia32_maskstoreps256((vf*)p, first_lanes(n), v); }
#else  // four lanes; a loop would become a call of memcpy
INLINE vf load_part(const float* p, int n) {
  vf v{};
  if (n > 0) v[0] = p[0];
  if (n > 1) v[1] = p[1];
  if (n > 2) v[2] = p[2];
  return v;
}
INLINE void store_part(float* p, vf v, int n) {
  if (n > 0) p[0] = v[0];
  if (n > 1) p[1] = v[1];
  if (n > 2) p[2] = v[2];
}
#endif
// Copy or zero n floats inline: for the short runs where a call would cost more than the work.
INLINE void copy_floats(float* dst, const float* src, int64_t n) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) store(dst + i, load(src + i));
  if (i < n) store_part(dst + i, load_part(src + i, (int)(n - i)), (int)(n - i));
}
INLINE void zero_floats(float* dst, int64_t n) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) store(dst + i, vf{});
  if (i < n) store_part(dst + i, vf{}, (int)(n - i));
}
// Four floats or words, whatever the instruction set; transposition of 4 x 4 floats.
typedef float f4 __attribute__((vector_size(16)));
typedef uint32_t u4 __attribute__((vector_size(16)));
typedef float f4_loose __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint32_t u4_loose __attribute__((vector_size(16), aligned(4), may_alias));
#if defined(__clang__)
#define SHUFFLE4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define SHUFFLE4(a, b, i, j, k, l) __builtin_shuffle(a, b, u4{i, j, k, l})
#endif
INLINE void transpose4(f4 r[4]) {
  f4 a = SHUFFLE4(r[0], r[1], 0, 4, 1, 5), b = SHUFFLE4(r[2], r[3], 0, 4, 1, 5);
  f4 c = SHUFFLE4(r[0], r[1], 2, 6, 3, 7), d = SHUFFLE4(r[2], r[3], 2, 6, 3, 7);
  r[0] = SHUFFLE4(a, b, 0, 1, 4, 5);
  r[1] = SHUFFLE4(a, b, 2, 3, 6, 7);
  r[2] = SHUFFLE4(c, d, 0, 1, 4, 5);
  r[3] = SHUFFLE4(c, d, 2, 3, 6, 7);
}
// A vector that may be whole (lanes = LANES) or partial.
INLINE vf load_lanes(const float* p, int lanes) { return lanes == LANES ? load(p) : load_part(p, lanes); }
INLINE void store_lanes(float* p, vf v, int lanes) {
  if (lanes == LANES) store(p, v);
  else store_part(p, v, lanes);
}
// Lanes folded to one with f, which works on f4 and on float: halves pairwise, a fixed order.
template <class F>
INLINE float fold(vf v, F f) {
  alignas(VEC_BYTES) float t[LANES];
  store(t, v);
  const f4_loose* q = reinterpret_cast<const f4_loose*>(t);
#if LANES == 16
  f4 q0 = q[0], q1 = q[1], q2 = q[2], q3 = q[3];
  f4 r = f(f(q0, q2), f(q1, q3));
#elif LANES == 8
  f4 q0 = q[0], q1 = q[1];
  f4 r = f(q0, q1);
#else
  f4 r = q[0];
#endif
  return f(f(float(r[0]), float(r[2])), f(float(r[1]), float(r[3])));
}
INLINE float hsum(vf v) {
  return fold(v, [](auto a, auto b) __attribute__((always_inline)) { return a + b; });
}
// LANES bits (low ones first) as a lane mask: all ones where the bit is set.
INLINE vi bits_to_mask(uint32_t bits) {
  vi lane;
  for (int i = 0; i < LANES; i++) lane[i] = 1 << i;
  return (splat((int32_t)bits) & lane) != 0;
}
// The sign bits of a lane mask, lane 0 in bit 0.
INLINE uint32_t mask_to_bits(vi mask) {
#if defined(__AVX512F__)
  return (uint32_t)__builtin_ia32_cvtd2mask512((__attribute__((vector_size(64))) int)mask);
#elif defined(__AVX__)
  return (uint32_t)__builtin_ia32_movmskps256((vf)mask);
#elif defined(__SSE__)
  return (uint32_t)__builtin_ia32_movmskps((vf)mask);
#elif defined(__wasm_simd128__)
  return (uint32_t)__builtin_wasm_bitmask_i32x4(mask);
#else
  uint32_t bits = 0;
  for (int i = 0; i < LANES; i++) bits |= (uint32_t)(mask[i] < 0) << i;
  return bits;
#endif
}
