// Blocks of neurons, surrogate derivatives evaluated on them, and the interpreter of user-defined expressions.
//
// Everything here works on blocks that stay in the first-level cache: one loop per function, so that the variants of a
// neuron add up (charge, reset, surrogate, ...) instead of multiplying into one loop for every combination.
#pragma once

// Loads and stores at the end of an array: `left` floats remain there.
INLINE vf get(const float* p, int64_t left) { return left >= LANES ? load(p) : load_part(p, (int)left); }
INLINE void put(float* p, vf v, int64_t left) {
  if (left >= LANES)
    store(p, v);
  else
    store_part(p, v, (int)left);
}

// A thread's scratch memory, handed out piece by piece in multiples of 64 bytes.
struct Scratch {
  char* next;
  float* floats(int64_t n) {
    float* p = reinterpret_cast<float*>(next);
    next += (n * 4 + 63) / 64 * 64;
    return p;
  }
};

// Cuts rows [first, last) of c channels into blocks of at most `limit` floats (a multiple of 32): several whole rows where
// they fit, else `limit` channels of one row. Blocks of the same channels come one after another, between
// enter(c0, width, height) and leave(c0, width, height); block(row, rows, c0, width) is one of them.
template <class Enter, class Block, class Leave>
INLINE void walk(int64_t first, int64_t last, int64_t c, int64_t limit, Enter enter, Block block, Leave leave) {
  if (c == 0) return;
  const int64_t most = c < limit ? c : limit, height = limit / most;
  for (int64_t c0 = 0; c0 < c; c0 += most) {
    const int64_t width = c - c0 < most ? c - c0 : most;
    enter(c0, width, height);
    for (int64_t row = first; row < last; row += height) block(row, last - row < height ? last - row : height, c0, width);
    leave(c0, width, height);
  }
}

// A per-channel array as the elements of a block see it: repeated for every row, `otherwise` where there is none.
static void spread(float* out, const float* channels, float otherwise, int64_t c0, int64_t width, int64_t height, int64_t limit) {
  int64_t i = 0;
  for (int64_t row = 0; channels && row < height; row++)
    for (int64_t j = 0; j < width; j++) out[i++] = channels[c0 + j];
  while (i < limit) out[i++] = otherwise;
}

static void zero_block(float* p, int64_t n) { memset(p, 0, (size_t)n * 4); }

// Sums of a block's rows by channel, in row order.
static void fold(float* out, const float* block, int64_t width, int64_t height) {
  for (int64_t j = 0; j < width; j++) {
    float sum = 0;
    for (int64_t i = 0; i < height; i++) sum += block[i * width + j];
    out[j] = sum;
  }
}

// Bits of a block's flat elements -> the padded words of its rows: width bits a row, from bit i * width on.
static void scatter_bits(uint32_t* out, int64_t rowWords, const uint32_t* flat, int64_t rows, int64_t width) {
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < width; j += 32) {
      const int64_t bit = i * width + j, left = width - j;
      const uint64_t two = flat[bit >> 5] | (uint64_t)flat[(bit >> 5) + 1] << 32;
      const uint32_t word = (uint32_t)(two >> (bit & 31));
      out[i * rowWords + (j >> 5)] = left < 32 ? word & ((1u << left) - 1) : word;
    }
}

struct Program {
  const int32_t* code;
  int64_t length;
};

struct Surrogate {
  int64_t kind;
  float p0, p1;
  Program custom;
  float* registers;  // of the custom program, `stride` floats each
  int64_t stride;
};

static void run_program(const Program& program, float* registers, int64_t stride, int64_t count, const Surrogate& surrogate);

// out = derivative at h - shift. Whole vectors: reads and writes up to LANES - 1 floats past count.
static void surrogate_block(const Surrogate& s, const float* h, float shift, float* out, int64_t count) {
  const float p0 = s.p0, p1 = s.p1;
  const vf zero = splat(0.0f), one = splat(1.0f);
#define EACH(expression)                            \
  for (int64_t i = 0; i < count; i += LANES) {      \
    const vf u = load(h + i) - shift, m = vabs(u);  \
    (void)m;                                        \
    store(out + i, expression);                     \
  }                                                 \
  break
  switch (s.kind) {
    case SURROGATE_piecewiseQuadratic: EACH(select(m <= 1.0f / p0, p0 - p0 * p0 * m, zero));
    case SURROGATE_piecewiseExp: EACH(p0 * 0.5f * vexp(-p0 * m));
    // exp of a negative number cannot overflow, and the function is even.
    case SURROGATE_sigmoid:
      for (int64_t i = 0; i < count; i += LANES) {
        const vf e = vexp(-__builtin_fabsf(p0) * vabs(load(h + i) - shift)), d = one + e;
        store(out + i, p0 * e / (d * d));
      }
      break;
    case SURROGATE_softSign:
      for (int64_t i = 0; i < count; i += LANES) {
        const vf d = 1.0f + p0 * vabs(load(h + i) - shift);
        store(out + i, p0 * 0.5f / (d * d));
      }
      break;
    case SURROGATE_superSpike: EACH(p0 / ((1.0f + m) * (1.0f + m)));
    case SURROGATE_atan: {
      const float k = 1.57079632679f * p0;
      EACH(p0 * 0.5f / (1.0f + k * k * (u * u)));
    }
    case SURROGATE_nonzeroSignLogAbs: EACH(p0 / (1.0f + p0 * m));
    case SURROGATE_erf: EACH(p0 * 0.564189583548f * vexp(-(p0 * u) * (p0 * u)));
    case SURROGATE_piecewiseLeakyRelu: EACH(select(m < p0, splat(0.5f / p0), splat(p1)));
    case SURROGATE_squarewaveFourier:
      for (int64_t i = 0; i < count; i += LANES) {
        const vf w = (load(h + i) - shift) * (6.28318530718f / p1);
        vf sum = zero;
        for (int j = 1; j < (int)p0; j++) sum += vcos((float)(2 * j - 1) * w);
        store(out + i, sum * (4.0f / p1));
      }
      break;
    case SURROGATE_s2nn:
      for (int64_t i = 0; i < count; i += LANES) {
        const vf u = load(h + i) - shift, e = vexp(-p0 * vabs(u)), d = one + e;
        store(out + i, select(u < 0.0f, p0 * e / (d * d), p1 / (u + 1.0f)));
      }
      break;
    case SURROGATE_qPseudoSpike: EACH(vexp(-p0 * vlog(1.0f + 2.0f / (p0 - 1.0f) * m)));
    case SURROGATE_leakyKRelu: EACH(select(u >= 0.0f, splat(p1), splat(p0)));
    case SURROGATE_fakeNumericalGradient: EACH(vmin(1.0f / m, splat(p0)));
    case SURROGATE_logTailedRelu: EACH(select(u <= 0.0f, splat(p0), select(u <= 1.0f, one, 1.0f / u)));
    case SURROGATE_pass: EACH(one);
    case SURROGATE_rect: EACH(select(m < 0.5f / p0, splat(p0), zero));
    case SURROGATE_fastSigmoid: EACH(one / ((1.0f + p0 * m) * (1.0f + p0 * m)));
    case SURROGATE_step: EACH(select(u > 0.0f, splat(p1), splat(p0)));
    case SURROGATE_triangular: EACH(select(u < 0.0f, splat(p0), splat(-p0)));
    case SURROGATE_spikeRateEscape: EACH(p1 * vexp(-p0 * vabs(u - 1.0f)));
    case SURROGATE_sparseFastSigmoid: EACH(select(u > p1, one / ((1.0f + p0 * m) * (1.0f + p0 * m)), zero));
    case SURROGATE_window: EACH(select((u >= p0) & (u <= p1), one, zero));
    case SURROGATE_openWindow: EACH(select((u > p0) & (u < p1), one, zero));
    default: {  // custom
      for (int64_t i = 0; i < count; i += LANES) store(s.registers + i, load(h + i) - shift);
      run_program(s.custom, s.registers, s.stride, count, s);
      const float* result = s.registers + s.stride * s.custom.code[(s.custom.length - 1) * 5 + 1];
      for (int64_t i = 0; i < count; i += LANES) store(out + i, load(result + i));
    }
  }
#undef EACH
}

// One instruction after another, each over the whole block. Whole vectors, as above.
static void run_program(const Program& program, float* registers, int64_t stride, int64_t count, const Surrogate& surrogate) {
  for (const int32_t *in = program.code, *end = in + program.length * 5; in != end; in += 5) {
    float* d = registers + stride * in[1];
    const float* a = registers + stride * in[2];
    const float* b = registers + stride * in[3];
    const float* c = registers + stride * in[4];
    const vf one = splat(1.0f), zero = splat(0.0f);
#define UNARY_CASE(name, expression)                \
  case VM_##name:                                   \
    for (int64_t i = 0; i < count; i += LANES) {    \
      const vf x = load(a + i);                     \
      store(d + i, expression);                     \
    }                                               \
    break;
#define BINARY_CASE(name, expression)                       \
  case VM_##name:                                           \
    for (int64_t i = 0; i < count; i += LANES) {            \
      const vf x = load(a + i), y = load(b + i);            \
      store(d + i, expression);                             \
    }                                                       \
    break;
    switch (in[0]) {
      UNARY_CASE(copy, x)
      UNARY_CASE(neg, -x)
      UNARY_CASE(abs, vabs(x))
      UNARY_CASE(exp, vexp(x))
      UNARY_CASE(log, vlog(x))
      UNARY_CASE(sqrt, vsqrt(x))
      UNARY_CASE(tanh, vtanh(x))
      UNARY_CASE(sigmoid, vsigmoid(x))
      UNARY_CASE(erf, verf(x))
      UNARY_CASE(sin, vsin(x))
      UNARY_CASE(cos, vcos(x))
      UNARY_CASE(floor, vfloor(x))
      UNARY_CASE(round, vround(x))
      BINARY_CASE(add, x + y)
      BINARY_CASE(sub, x - y)
      BINARY_CASE(mul, x * y)
      BINARY_CASE(div, x / y)
      BINARY_CASE(max, vmax(x, y))
      BINARY_CASE(min, vmin(x, y))
      BINARY_CASE(gt, select(x > y, one, zero))
      BINARY_CASE(ge, select(x >= y, one, zero))
      BINARY_CASE(pow, vpow(x, y))
      case VM_where:
        for (int64_t i = 0; i < count; i += LANES) store(d + i, select(load(a + i) != 0.0f, load(b + i), load(c + i)));
        break;
      case VM_mulAdd:
        for (int64_t i = 0; i < count; i += LANES) store(d + i, load(a + i) * load(b + i) + load(c + i));
        break;
      case VM_subMul:
        for (int64_t i = 0; i < count; i += LANES) store(d + i, load(c + i) - load(a + i) * load(b + i));
        break;
      case VM_surrogate:
        surrogate_block(surrogate, a, 0.0f, d, count);
        break;
    }
#undef UNARY_CASE
#undef BINARY_CASE
  }
}

// Registers 1, 2, ... of constants, filled once for all blocks.
static void fill_constants(float* registers, int64_t stride, const float* constants, int64_t count) {
  for (int64_t j = 0; j < count; j++)
    for (int64_t i = 0; i < stride; i++) registers[j * stride + i] = constants[j];
}
