// Spiking neurons, all steps in one pass over memory: pre-activations in, bits out; and the gradient, which recomputes the
// membranes from the pre-activations block by block. kernel-table.ts has the equations.
//
// Switches are data rather than code: the charge is H = V + (z a - (V - rest)) r + z b, whose coefficients make each of the
// four forms exactly (a multiplication by 0 or 1 rounds nothing); only the order of a step, the rounding neurons and those with
// a synaptic current get loops of their own.
#pragma once
#include "vm.h"

struct Rule {
  float a, b, rest;      // charge
  float fireAt;          // the smallest float that fires
  float levels;          // of a rounding neuron
  float resetTo, sub;    // hard reset value; what a soft reset subtracts a spike
  int32_t hard, carry;   // lane masks: the reset is hard; a membrane is carried on
  int32_t even;          // lane mask: round ties to even
  int32_t decayed, late; // lane masks: the current's input decays too; the membrane takes the current of the step before
  bool first;            // emit the old voltage's spike
};

static float next_above(float x) {
  int32_t bits = bits_as<int32_t>(x);
  return x == 0.0f ? bits_as<float>(1) : bits_as<float>(bits + (x > 0.0f ? 1 : -1));
}

template <class Args>
static Rule rule_of(const Args& a) {
  const int64_t charge = a.charge;
  Rule k;
  k.a = charge == CHARGE_leakInput || charge == CHARGE_stateless;
  k.b = charge == CHARGE_leak || charge == CHARGE_integrate;
  k.rest = charge == CHARGE_stateless ? 0.0f : (float)a.vRest;
  k.fireAt = a.fire == FIRE_gt ? next_above(a.vThreshold) : (float)a.vThreshold;
  k.levels = (float)(int64_t)a.levels;
  k.resetTo = a.vReset;
  k.sub = a.reset == RESET_soft ? (float)a.vThreshold : 0.0f;
  k.hard = a.reset == RESET_hard ? -1 : 0;
  k.carry = charge == CHARGE_stateless ? 0 : -1;
  k.even = a.fire == FIRE_roundEven ? -1 : 0;
  k.decayed = a.current == CURRENT_decayed ? -1 : 0;
  k.late = a.current == CURRENT_late ? -1 : 0;
  k.first = a.order == ORDER_fireFirst;
  return k;
}

// r of a block's elements: the learnt ones, or the constant that makes the charge what it is called.
template <class Args>
static void spread_r(const Args& a, float* out, int64_t c0, int64_t width, int64_t height, int64_t limit) {
  const int64_t charge = a.charge;
  const bool leaks = charge == CHARGE_leakInput || charge == CHARGE_leak;
  const float constant = leaks ? (float)a.r : charge == CHARGE_stateless ? 1.0f : 0.0f;
  spread(out, leaks ? (const float*)a.rtau : nullptr, constant, c0, width, height, limit);
}

struct Spike {
  vi fired;
  vf amount;
};

template <bool ROUNDS>
INLINE Spike fire(const Rule& k, vf h) {
  if (ROUNDS) {
    const vf u = vmin(vmax(h, splat(0.0f)), splat(k.levels));  // this order makes 0 of NaN
    const vf amount = select(splat(k.even), vround(u), vfloor(u + 0.5f));
    return {amount > 0.0f, amount};
  }
  const vi fired = h >= k.fireAt;
  return {fired, (vf)(fired & (vi)splat(1.0f))};
}

INLINE vf charge(const Rule& k, vf v, vf z, vf r) { return v + (z * k.a - (v - k.rest)) * r + z * k.b; }

// One step: v becomes the state after it, h the membrane before the reset; returns what the step emits.
template <bool ROUNDS, bool DELAYED>
INLINE Spike step(const Rule& k, vf z, vf r, vf& v, vf& h) {
  if (DELAYED) {
    const Spike old = fire<ROUNDS>(k, v);
    h = charge(k, select(old.fired & k.hard, splat(k.resetTo), v), z, r) - old.amount * k.sub;
    v = h;
    return k.first ? old : fire<ROUNDS>(k, h);
  }
  h = charge(k, v, z, r);
  const Spike s = fire<ROUNDS>(k, h);
  v = (vf)((vi)select(s.fired & k.hard, splat(k.resetTo), h - s.amount * k.sub) & k.carry);
  return s;
}

// The factor of the input of a synaptic current.
INLINE vf current_gain(const Rule& k, vf alpha) { return select(splat(k.decayed), alpha, splat(1.0f)); }

// A synaptic current takes input z; returns what the membrane gets.
INLINE vf take(const Rule& k, vf alpha, vf z, vf& current) {
  const vf before = current;
  current = before * alpha + z * current_gain(k, alpha);
  return select(splat(k.late), before, current);
}

// ---------------------------------------------------------------------------------------------------- forward

// All steps of 32 elements (`left` of them real), the membranes in registers.
struct Group {
  const float *x, *scale, *shift, *r, *alpha, *v0;
  float *v, *h;
  uint32_t* bits;  // [steps][planes] words, at these distances
  int64_t stepWords, planeWords, planes, steps, n, xStep;
  float vInit;
};

template <bool ROUNDS, bool DELAYED, bool SYNAPTIC, bool WHOLE>
static void forward_group(const Rule& k, const Group& g, int64_t left) {
  const int COUNT = 32 / LANES;
  vf v[COUNT], current[SYNAPTIC ? COUNT : 1];
  for (int i = 0; i < COUNT; i++) {
    const int64_t rest = WHOLE ? LANES : left - i * LANES;
    v[i] = !g.v0 ? splat(g.vInit) : rest > 0 ? get(g.v0 + i * LANES, rest) : splat(0.0f);
    if (SYNAPTIC) current[i] = g.v0 && rest > 0 ? get(g.v0 + g.n + i * LANES, rest) : splat(0.0f);
  }
  for (int64_t t = 0; t < g.steps; t++) {
    vi emitted[COUNT];
    for (int i = 0; i < COUNT; i++) {
      const int64_t rest = WHOLE ? LANES : left - i * LANES;
      const vf x = rest > 0 ? get(g.x + t * g.xStep + i * LANES, rest) : splat(0.0f);
      vf h, z = x * load(g.scale + i * LANES) + load(g.shift + i * LANES);
      if (SYNAPTIC) z = take(k, load(g.alpha + i * LANES), z, current[i]);
      const Spike s = step<ROUNDS, DELAYED>(k, z, load(g.r + i * LANES), v[i], h);
      emitted[i] = ROUNDS ? __builtin_convertvector(s.amount, vi) : s.fired;
      if (g.h && rest > 0) put(g.h + t * g.n + i * LANES, h, rest);
    }
    uint32_t* out = g.bits + t * g.stepWords;
    for (int64_t p = 0; p < (ROUNDS ? g.planes : 1); p++) {
      uint32_t word = 0;
      for (int i = 0; i < COUNT; i++) word |= mask_to_bits(ROUNDS ? emitted[i] << (int)(31 - p) : emitted[i]) << (i * LANES % 32);
      out[p * g.planeWords] = word;
    }
  }
  if (g.v)
    for (int i = 0; i < COUNT; i++) {
      const int64_t rest = WHOLE ? LANES : left - i * LANES;
      if (rest > 0) put(g.v + i * LANES, v[i], rest);
      if (SYNAPTIC && rest > 0) put(g.v + g.n + i * LANES, current[i], rest);
    }
}

template <bool ROUNDS, bool DELAYED, bool SYNAPTIC>
static void forward_rows(const neuron_forward_args& a, const Tile& tile) {
  const Rule k = rule_of(a);
  const int64_t steps = a.steps, rows = a.rows, c = a.c, planes = a.planes, words = (c + 31) / 32;
  const bool direct = planes == 1 && c % 32 == 0;  // flat bits are the rows' words already
  int64_t limit = 512;
  while (limit > 32 && limit * steps * planes > 8 * NEURON_LIMITS_HISTORY * 32) limit /= 2;
  Scratch scratch{tile.scratch};
  float *scale = scratch.floats(limit), *shift = scratch.floats(limit), *r = scratch.floats(limit), *alpha = scratch.floats(limit);
  const int64_t flatWords = limit / 32 + 1;
  uint32_t* flat = reinterpret_cast<uint32_t*>(scratch.floats(direct ? 0 : steps * planes * flatWords));
  uint32_t* spikes = a.spikes;
  const float *x = a.x, *v0 = a.v0;
  float *v = a.v, *h = a.h;

  Group g;
  g.planes = planes;
  g.steps = steps;
  g.n = rows * c;
  g.xStep = a.xStep;
  g.vInit = a.vInit;
  g.stepWords = direct ? rows * words : planes * flatWords;
  g.planeWords = flatWords;
  walk(
      tile.begin(rows), tile.end(rows), c, limit,
      [&](int64_t c0, int64_t width, int64_t height) {
        spread(scale, a.scale, 1.0f, c0, width, height, limit);
        spread(shift, a.shift, 0.0f, c0, width, height, limit);
        spread_r(a, r, c0, width, height, limit);
        if (SYNAPTIC) spread(alpha, a.alpha, 0.0f, c0, width, height, limit);
      },
      [&](int64_t row, int64_t count, int64_t c0, int64_t width) {
        const int64_t at = row * c + c0, size = count * width;
        for (int64_t i = 0; i < size; i += 32) {
          g.x = x + at + i;
          g.v0 = v0 ? v0 + at + i : nullptr;
          g.v = v ? v + at + i : nullptr;
          g.h = h ? h + at + i : nullptr;
          g.scale = scale + i;
          g.shift = shift + i;
          g.r = r + i;
          g.alpha = alpha + i;
          g.bits = direct ? spikes + (at + i) / 32 : flat + i / 32;
          if (size - i >= 32)
            forward_group<ROUNDS, DELAYED, SYNAPTIC, true>(k, g, 32);
          else
            forward_group<ROUNDS, DELAYED, SYNAPTIC, false>(k, g, size - i);
        }
        if (direct) return;
        for (int64_t t = 0; t < steps; t++)
          for (int64_t p = 0; p < planes; p++)
            scatter_bits(spikes + ((t * rows + row) * planes + p) * words + c0 / 32, planes * words,
                         flat + (t * planes + p) * flatWords, count, width);
      },
      [](int64_t, int64_t, int64_t) {});
}

KERNEL(neuron_forward) {
  const bool rounds = a.fire == FIRE_roundEven || a.fire == FIRE_roundUp, delayed = a.order != ORDER_fireThenReset;
  if (a.alpha)
    delayed ? forward_rows<false, true, true>(a, tile) : forward_rows<false, false, true>(a, tile);
  else if (rounds)
    delayed ? forward_rows<true, true, false>(a, tile) : forward_rows<true, false, false>(a, tile);
  else
    delayed ? forward_rows<false, true, false>(a, tile) : forward_rows<false, false, false>(a, tile);
}

// ---------------------------------------------------------------------------------------------------- backward

// How many elements go through all steps together, so that their history stays in the first-level cache.
static int64_t history_block(int64_t steps) {
  const int64_t most = 4096 / steps / 32 * 32;
  return most < 32 ? 32 : most > 512 ? 512 : most;
}

// Sums by channel of the gradient for z, and of its product with the normalised x: what a batch norm's gradient needs.
struct Stats {
  float *mean, *rstd, *sum, *product;
  void add(const float* gz, const float* x, int64_t size) {
    for (int64_t i = 0; i < size; i += LANES) {
      const vf g = load(gz + i), xhat = (get(x + i, size - i) - load(mean + i)) * load(rstd + i);
      store(sum + i, load(sum + i) + g);
      store(product + i, load(product + i) + g * xhat);
    }
  }
};

// What the usual neuron (fires, then resets; no current; no learnt rate; one of the usual surrogates) is called with for a block.
struct Usual {
  const Rule& k;
  const float *scale, *shift, *r;
  float* history;  // H of every step of a vector
  const float *x, *gy, *v0, *gv;
  float *gz, *gv0;
  Stats* stats;
  int64_t steps, n;
  float vInit, gain, attached, centre, p0, p1;
};

// All steps of W vectors, forward and back, in registers: the same equations as the general loops below, which pass over memory for each
// step. A vector alone would wait for its own results.
template <bool ROUNDS, int W, bool WHOLE, class Slope>
INLINE void backward_vectors(const Usual& given, int64_t i, int64_t left, const Slope& slope) {
  const Usual u = given;  // what is stored cannot change a copy
  const Rule k = u.k;
  const int steps = (int)u.steps;
  const int64_t n = u.n;
  const auto read = [left](const float* p) VEC_LAMBDA { return WHOLE ? load(p) : load_part(p, (int)left); };
  const auto write = [left](float* p, vf value) VEC_LAMBDA { WHOLE ? store(p, value) : store_part(p, value, (int)left); };
  const float *x = u.x + i, *gy = u.gy + i, *scale = u.scale + i, *shift = u.shift + i, *r = u.r + i;
  float *history = u.history, *gz = u.gz + i;
  vf v[W];
  for (int w = 0; w < W; w++) v[w] = u.v0 ? read(u.v0 + i + w * LANES) : splat(u.vInit);
  for (int t = 0; t < steps; t++, x += n, history += W * LANES)
    for (int w = 0; w < W; w++) {
      const int at = w * LANES;
      vf h;
      step<ROUNDS, false>(k, read(x + at) * load(scale + at) + load(shift + at), load(r + at), v[w], h);
      store(history + at, h);
    }
  gy += n * steps;
  gz += n * steps;
  vf carried[W];
  for (int w = 0; w < W; w++) carried[w] = u.gv ? (vf)((vi)read(u.gv + i + w * LANES) & k.carry) : splat(0.0f);
  for (int t = steps; t > 0; t--) {
    x -= n, gy -= n, gz -= n, history -= W * LANES;
    for (int w = 0; w < W; w++) {
      const int at = w * LANES;
      const vf h = load(history + at), rate = load(r + at), sigma = slope(u, h - u.centre);
      const vi hard = fire<ROUNDS>(k, h).fired & k.hard;
      vf factor = select(hard, splat(0.0f), splat(1.0f));
      if (u.attached != 0.0f) factor += sigma * select(splat(k.hard), k.resetTo - h, splat(-k.sub));
      const vf whole = read(gy + at) * u.gain * sigma + carried[w] * factor, out = whole * (k.a * rate + k.b);
      write(gz + at, out);
      carried[w] = whole * (1.0f - rate);
      if (u.stats) {
        const Stats& stats = *u.stats;
        const vf xhat = (read(x + at) - load(stats.mean + i + at)) * load(stats.rstd + i + at);
        store(stats.sum + i + at, load(stats.sum + i + at) + out);
        store(stats.product + i + at, load(stats.product + i + at) + out * xhat);
      }
    }
  }
  if (u.gv0)
    for (int w = 0; w < W; w++) write(u.gv0 + i + w * LANES, carried[w]);
}
template <bool ROUNDS, class Slope>
static __attribute__((noinline)) void backward_fused(const Usual& u, int64_t size, const Slope& slope) {
  const int W = LANES == 16 ? 2 : 4;
  int64_t i = 0;
  for (; i + W * LANES <= size; i += W * LANES) backward_vectors<ROUNDS, W, true>(u, i, LANES, slope);
  for (; i + LANES <= size; i += LANES) backward_vectors<ROUNDS, 1, true>(u, i, LANES, slope);
  if (i < size) backward_vectors<ROUNDS, 1, false>(u, i, size - i, slope);
}

template <bool ROUNDS, bool DELAYED, bool SYNAPTIC>
static void backward_rows(const neuron_backward_args& a, const Tile& tile) {
  const Rule k = rule_of(a);
  const int64_t steps = a.steps, rows = a.rows, c = a.c, chunks = a.chunks, n = rows * c;
  const int64_t limit = history_block(SYNAPTIC ? 2 * steps : steps), synaptic = SYNAPTIC ? limit : 0;
  Scratch scratch{tile.scratch};
  float* history = scratch.floats(steps * limit);  // H of every step
  float *scale = scratch.floats(limit), *shift = scratch.floats(limit), *r = scratch.floats(limit);
  float *start = scratch.floats(limit), *slope = scratch.floats(limit), *carried = scratch.floats(limit);
  float *total = scratch.floats(limit), *gz = scratch.floats(limit), *rsum = scratch.floats(limit);
  float* currents = scratch.floats((steps + 1) * synaptic);  // I before every step, and after the last
  float *alpha = scratch.floats(synaptic), *gcurrent = scratch.floats(synaptic), *alphaSum = scratch.floats(synaptic);
  Stats stats{scratch.floats(limit), scratch.floats(limit), scratch.floats(limit), scratch.floats(limit)};
  Surrogate surrogate{a.surrogate, a.p0, a.p1, {a.program, a.length}, nullptr, limit};
  if (surrogate.kind == SURROGATE_custom) {
    surrogate.registers = scratch.floats((int64_t)a.registers * limit);
    fill_constants(surrogate.registers + limit, limit, a.constants, a.constantCount);
  }
  const float *x = a.x, *gy = a.gy, *v0 = a.v0, *gv = a.gv;
  float *gzOut = a.gz, *gv0 = a.gv0, *gr = a.gr, *galpha = a.galpha, *statsOut = a.stats;
  const bool leaks = a.charge == CHARGE_leakInput || a.charge == CHARGE_leak;
  const float gain = a.gain, attached = a.detach ? 0.0f : 1.0f, vInit = a.vInit, centre = ROUNDS ? 0.0f : (float)a.vThreshold;

  const bool fused = !gr && (ROUNDS ? surrogate.kind == SURROGATE_window : surrogate.kind == SURROGATE_sigmoid || surrogate.kind == SURROGATE_atan);

  // The factor by which a step hands on the gradient of the state that its spike resets: dV/dH (fire, then reset), or dH[t+1]/dH[t].
  auto handed_on = [&](vf h, vf sigma, vf keep) -> vf {
    const Spike s = fire<ROUNDS>(k, h);
    const vf open = select(s.fired & k.hard, splat(0.0f), splat(1.0f));
    const vf jump = select(splat(k.hard), k.resetTo - h, splat(-k.sub));
    if (!DELAYED) return open + sigma * jump * attached;
    return open * keep + sigma * attached * select(splat(k.hard), jump * keep, jump);
  };
  // The state that step t's charge starts from, given the history before it.
  auto before = [&](vf h, bool initial) -> vf {
    if (initial && !DELAYED) return h;
    const Spike s = fire<ROUNDS>(k, h);
    return (vf)((vi)select(s.fired & k.hard, splat(k.resetTo), DELAYED ? h : h - s.amount * k.sub) & k.carry);
  };

  for (int64_t chunk = tile.begin(chunks); chunk < tile.end(chunks); chunk++) {
    walk(
        rows * chunk / chunks, rows * (chunk + 1) / chunks, c, limit,
        [&](int64_t c0, int64_t width, int64_t height) {
          spread(scale, a.scale, 1.0f, c0, width, height, limit);
          spread(shift, a.shift, 0.0f, c0, width, height, limit);
          spread_r(a, r, c0, width, height, limit);
          if (statsOut) {
            spread(stats.mean, a.mean, 0.0f, c0, width, height, limit);
            spread(stats.rstd, a.rstd, 0.0f, c0, width, height, limit);
            zero_block(stats.sum, limit);
            zero_block(stats.product, limit);
          }
          zero_block(rsum, limit);
          if (SYNAPTIC) {
            spread(alpha, a.alpha, 0.0f, c0, width, height, limit);
            zero_block(alphaSum, limit);
          }
        },
        [&](int64_t row, int64_t count, int64_t c0, int64_t width) {
          const int64_t at = row * c + c0, size = count * width;
          if constexpr (!DELAYED && !SYNAPTIC) {
            if (fused) {
              const Usual u{k, scale, shift, r, history, x + at, gy + at, v0 ? v0 + at : nullptr, gv ? gv + at : nullptr, gzOut + at,
                  gv0 ? gv0 + at : nullptr, statsOut ? &stats : nullptr, steps, n, vInit, gain, attached, centre, surrogate.p0, surrogate.p1};
              switch (surrogate.kind) {
                case SURROGATE_sigmoid: return backward_fused<ROUNDS>(u, size, [](const Usual& u, vf d) VEC_LAMBDA {
                  const vf e = vexp_below(-__builtin_fabsf(u.p0) * vabs(d)), q = 1.0f + e;
                  return u.p0 * e / (q * q);
                });
                case SURROGATE_atan: return backward_fused<ROUNDS>(u, size, [](const Usual& u, vf d) VEC_LAMBDA {
                  const float f = 1.57079632679f * u.p0;
                  return u.p0 * 0.5f / (1.0f + f * f * (d * d));
                });
                default: return backward_fused<ROUNDS>(u, size, [](const Usual& u, vf d) VEC_LAMBDA {
                  return select((d >= u.p0) & (d <= u.p1), splat(1.0f), splat(0.0f));
                });
              }
            }
          }
          for (int64_t i = 0; i < size; i += LANES) {
            vf v = v0 ? get(v0 + at + i, size - i) : splat(vInit), h;
            const vf s = load(scale + i), b = load(shift + i), rate = load(r + i);
            store(start + i, v);
            const vf g = gv ? get(gv + at + i, size - i) : splat(0.0f);
            store(carried + i, DELAYED ? g : (vf)((vi)g & k.carry));
            vf current = SYNAPTIC && v0 ? get(v0 + n + at + i, size - i) : splat(0.0f);
            if (SYNAPTIC) {
              store(currents + i, current);
              store(gcurrent + i, gv ? get(gv + n + at + i, size - i) : splat(0.0f));
            }
            for (int64_t t = 0; t < steps; t++) {
              vf z = get(x + t * n + at + i, size - i) * s + b;
              if (SYNAPTIC) {
                z = take(k, load(alpha + i), z, current);
                store(currents + (t + 1) * limit + i, current);
              }
              step<ROUNDS, DELAYED>(k, z, rate, v, h);
              store(history + t * limit + i, h);
            }
          }
          for (int64_t t = steps - 1; t >= 0; t--) {
            const float* h = history + t * limit;
            const float* g = !k.first ? gy + t * n + at : t + 1 < steps ? gy + (t + 1) * n + at : nullptr;
            const bool last = DELAYED && t == steps - 1;
            surrogate_block(surrogate, h, centre, slope, size);
            for (int64_t i = 0; i < size; i += LANES) {
              const vf sigma = load(slope + i), rate = load(r + i), keep = 1.0f - rate;
              const vf factor = last ? splat(1.0f) : handed_on(load(h + i), sigma, keep);
              const vf own = g ? get(g + i, size - i) * gain * sigma : splat(0.0f);
              const vf sum = own + load(carried + i) * factor;
              vf out = sum * (k.a * rate + k.b);
              if (SYNAPTIC) {
                // The gradient of I after this step is whole; what the charge took is I after it, or (late) before it.
                const vf decay = load(alpha + i), taken = out, gain = current_gain(k, decay);
                const vf whole = load(gcurrent + i) + select(splat(k.late), splat(0.0f), taken);
                vf grown = load(currents + t * limit + i);
                if (galpha && k.decayed) grown += get(x + t * n + at + i, size - i) * load(scale + i) + load(shift + i);
                store(alphaSum + i, load(alphaSum + i) + whole * grown);
                store(gcurrent + i, whole * decay + select(splat(k.late), taken, splat(0.0f)));
                out = whole * gain;
              }
              put(gzOut + t * n + at + i, out, size - i);
              store(carried + i, DELAYED ? sum : sum * keep);
              store(total + i, sum);
              store(gz + i, out);
            }
            if (gr && leaks)
              for (int64_t i = 0; i < size; i += LANES) {
                const vf v = before(load(t ? h - limit + i : start + i), t == 0);
                const vf z = SYNAPTIC ? load(currents + (k.late ? t : t + 1) * limit + i)
                                      : get(x + t * n + at + i, size - i) * load(scale + i) + load(shift + i);
                store(rsum + i, load(rsum + i) + load(total + i) * (z * k.a - (v - k.rest)));
              }
            if (statsOut) stats.add(gz, x + t * n + at, size);
          }
          if (gv0) {
            if (DELAYED) surrogate_block(surrogate, start, centre, slope, size);
            for (int64_t i = 0; i < size; i += LANES) {
              vf sum = load(carried + i);
              if (DELAYED) {
                const vf sigma = load(slope + i);
                sum *= handed_on(load(start + i), sigma, 1.0f - load(r + i));
                if (k.first) sum += get(gy + at + i, size - i) * gain * sigma;
              }
              put(gv0 + at + i, sum, size - i);
              if (SYNAPTIC) put(gv0 + n + at + i, load(gcurrent + i), size - i);
            }
          }
        },
        [&](int64_t c0, int64_t width, int64_t height) {
          if (gr) fold(gr + chunk * c + c0, rsum, width, height);
          if (SYNAPTIC && galpha) fold(galpha + chunk * c + c0, alphaSum, width, height);
          if (statsOut) {
            fold(statsOut + chunk * 2 * c + c0, stats.sum, width, height);
            fold(statsOut + (chunk * 2 + 1) * c + c0, stats.product, width, height);
          }
        });
  }
}

KERNEL(neuron_backward) {
  const bool rounds = a.fire == FIRE_roundEven || a.fire == FIRE_roundUp, delayed = a.order != ORDER_fireThenReset;
  if (a.alpha)
    delayed ? backward_rows<false, true, true>(a, tile) : backward_rows<false, false, true>(a, tile);
  else if (rounds)
    delayed ? backward_rows<true, true, false>(a, tile) : backward_rows<true, false, false>(a, tile);
  else
    delayed ? backward_rows<false, true, false>(a, tile) : backward_rows<false, false, false>(a, tile);
}

// ---------------------------------------------------------------------------------------------------- user-defined neurons

// Elements that a program runs on at once: enough to hide the dispatch of an instruction, few enough for its registers to stay near.
static const int64_t VM_BLOCK = 256;

KERNEL(neuron_vm_forward) {
  const int64_t steps = a.steps, rows = a.rows, c = a.c, states = a.states, paramCount = a.paramCount, n = rows * c;
  const int64_t words = (c + 31) / 32, limit = VM_BLOCK, constantAt = 1 + states + paramCount, spikeAt = constantAt + a.constantCount;
  const bool direct = c % 32 == 0;
  Scratch scratch{tile.scratch};
  float *scale = scratch.floats(limit), *shift = scratch.floats(limit), *registers = scratch.floats((int64_t)a.registers * limit);
  uint32_t flat[limit / 32 + 1] = {};
  const float *x = a.x, *s0 = a.s0, *init = a.init, *params = a.params;
  float* s1 = a.s1;
  uint32_t* spikes = a.spikes;
  const Program program{a.program, a.length};
  const Surrogate none{SURROGATE_pass, 0, 0, {nullptr, 0}, nullptr, 0};
  zero_block(registers, (int64_t)a.registers * limit);
  fill_constants(registers + constantAt * limit, limit, a.constants, a.constantCount);
  walk(
      tile.begin(rows), tile.end(rows), c, limit,
      [&](int64_t c0, int64_t width, int64_t height) {
        spread(scale, a.scale, 1.0f, c0, width, height, limit);
        spread(shift, a.shift, 0.0f, c0, width, height, limit);
        for (int64_t p = 0; p < paramCount; p++)
          spread(registers + (1 + states + p) * limit, params + p * c, 0.0f, c0, width, height, limit);
      },
      [&](int64_t row, int64_t count, int64_t c0, int64_t width) {
        const int64_t at = row * c + c0, size = count * width;
        for (int64_t s = 0; s < states; s++)
          for (int64_t i = 0; i < size; i += LANES)
            store(registers + (1 + s) * limit + i, s0 ? get(s0 + s * n + at + i, size - i) : splat(init[s]));
        for (int64_t t = 0; t < steps; t++) {
          for (int64_t i = 0; i < size; i += LANES)
            store(registers + i, get(x + t * n + at + i, size - i) * load(scale + i) + load(shift + i));
          run_program(program, registers, limit, size, none);
          const float* spike = registers + spikeAt * limit;
          uint32_t* bits = direct ? spikes + (t * n + at) / 32 : flat;
          for (int64_t i = 0; i < size; i += 32) {
            uint32_t word = 0;
            for (int64_t j = 0; j < 32; j += LANES) word |= mask_to_bits(load(spike + i + j) != 0.0f) << j;
            bits[i / 32] = word;
          }
          if (!direct) scatter_bits(spikes + (t * rows + row) * words + c0 / 32, words, flat, count, width);
        }
        if (s1)
          for (int64_t s = 0; s < states; s++)
            for (int64_t i = 0; i < size; i += LANES) put(s1 + s * n + at + i, load(registers + (1 + s) * limit + i), size - i);
      },
      [](int64_t, int64_t, int64_t) {});
}

KERNEL(neuron_vm_backward) {
  const int64_t steps = a.steps, rows = a.rows, c = a.c, states = a.states, paramCount = a.paramCount, chunks = a.chunks, n = rows * c;
  const int64_t limit = states * steps * VM_BLOCK > 32 * NEURON_LIMITS_HISTORY ? 32 : VM_BLOCK;
  const int64_t constantAt = 1 + states + paramCount, gradAt = constantAt + a.gradConstantCount;
  Scratch scratch{tile.scratch};
  float* history = scratch.floats(steps * states * limit);  // the states before every step
  float *scale = scratch.floats(limit), *shift = scratch.floats(limit);
  float *forward = scratch.floats((int64_t)a.registers * limit), *backward = scratch.floats((int64_t)a.gradRegisters * limit);
  float* sums = scratch.floats(paramCount * limit);
  Stats stats{scratch.floats(limit), scratch.floats(limit), scratch.floats(limit), scratch.floats(limit)};
  const float *x = a.x, *s0 = a.s0, *init = a.init, *params = a.params, *gy = a.gy, *gs1 = a.gs1;
  float *gz = a.gz, *gs0 = a.gs0, *gparams = a.gparams, *statsOut = a.stats;
  const Program program{a.program, a.length}, gradient{a.gradProgram, a.gradLength};
  const Surrogate surrogate{a.surrogate, a.p0, a.p1, {nullptr, 0}, nullptr, 0};
  zero_block(forward, (int64_t)a.registers * limit);
  zero_block(backward, (int64_t)a.gradRegisters * limit);
  fill_constants(forward + constantAt * limit, limit, a.constants, a.constantCount);
  fill_constants(backward + constantAt * limit, limit, a.gradConstants, a.gradConstantCount);
  float *gSpike = backward + gradAt * limit, *gStates = gSpike + limit, *gOut = gStates + states * limit, *gParam = gOut + limit;

  auto load_input = [&](float* to, int64_t t, int64_t at, int64_t size) {
    for (int64_t i = 0; i < size; i += LANES) store(to + i, get(x + t * n + at + i, size - i) * load(scale + i) + load(shift + i));
  };
  for (int64_t chunk = tile.begin(chunks); chunk < tile.end(chunks); chunk++) {
    walk(
        rows * chunk / chunks, rows * (chunk + 1) / chunks, c, limit,
        [&](int64_t c0, int64_t width, int64_t height) {
          spread(scale, a.scale, 1.0f, c0, width, height, limit);
          spread(shift, a.shift, 0.0f, c0, width, height, limit);
          for (int64_t p = 0; p < paramCount; p++) {
            spread(forward + (1 + states + p) * limit, params + p * c, 0.0f, c0, width, height, limit);
            spread(backward + (1 + states + p) * limit, params + p * c, 0.0f, c0, width, height, limit);
          }
          zero_block(sums, paramCount * limit);
          if (statsOut) {
            spread(stats.mean, a.mean, 0.0f, c0, width, height, limit);
            spread(stats.rstd, a.rstd, 0.0f, c0, width, height, limit);
            zero_block(stats.sum, limit);
            zero_block(stats.product, limit);
          }
        },
        [&](int64_t row, int64_t count, int64_t c0, int64_t width) {
          const int64_t at = row * c + c0, size = count * width;
          for (int64_t s = 0; s < states; s++)
            for (int64_t i = 0; i < size; i += LANES) {
              store(forward + (1 + s) * limit + i, s0 ? get(s0 + s * n + at + i, size - i) : splat(init[s]));
              store(gStates + s * limit + i, gs1 ? get(gs1 + s * n + at + i, size - i) : splat(0.0f));
            }
          for (int64_t t = 0; t < steps; t++) {
            memcpy(history + t * states * limit, forward + limit, (size_t)(states * limit) * 4);
            if (t == steps - 1) break;  // the last step's outcome is not needed
            load_input(forward, t, at, size);
            run_program(program, forward, limit, size, surrogate);
          }
          for (int64_t t = steps - 1; t >= 0; t--) {
            memcpy(backward + limit, history + t * states * limit, (size_t)(states * limit) * 4);
            load_input(backward, t, at, size);
            for (int64_t i = 0; i < size; i += LANES) store(gSpike + i, get(gy + t * n + at + i, size - i));
            run_program(gradient, backward, limit, size, surrogate);
            for (int64_t i = 0; i < size; i += LANES) put(gz + t * n + at + i, load(gOut + i), size - i);
            for (int64_t p = 0; gparams && p < paramCount; p++)
              for (int64_t i = p * limit; i < p * limit + size; i += LANES) store(sums + i, load(sums + i) + load(gParam + i));
            if (statsOut) stats.add(gOut, x + t * n + at, size);
          }
          for (int64_t s = 0; gs0 && s < states; s++)
            for (int64_t i = 0; i < size; i += LANES) put(gs0 + s * n + at + i, load(gStates + s * limit + i), size - i);
        },
        [&](int64_t c0, int64_t width, int64_t height) {
          for (int64_t p = 0; gparams && p < paramCount; p++) fold(gparams + (chunk * paramCount + p) * c + c0, sums + p * limit, width, height);
          if (statsOut) {
            fold(statsOut + chunk * 2 * c + c0, stats.sum, width, height);
            fold(statsOut + (chunk * 2 + 1) * c + c0, stats.product, width, height);
          }
        });
  }
}
