// What this machine can do at most, by loops that do nothing else: multiply-adds in registers, additions with one operand from the
// first-level cache, reading and writing memory. Compiled as a program for each native instruction set (threads as its argument) and as a
// WebAssembly module, from one source on the kernels' own vectors.
#include <stdint.h>

#include "vec.h"

#ifdef __wasm__
#define PROBE extern "C" __attribute__((visibility("default")))
#else
#define PROBE static __attribute__((noinline))
#endif

// Enough independent sums to hide an addition's latency, few enough for 16 registers.
#define SUMS 12

PROBE float probe_fma(int n) {
  vf sum[SUMS];
  for (int i = 0; i < SUMS; i++) sum[i] = splat((float)i);
  vf a = splat(0.5f), b = splat((float)n);
  for (int k = 0; k < n; k++)
#pragma GCC unroll 16
    for (int i = 0; i < SUMS; i++) sum[i] = sum[i] * a + b;
  float total = 0;
  for (int i = 0; i < SUMS; i++) total += hsum(sum[i]);
  return total;
}

// What engines make of 12 sums and their loads in WebAssembly is slower than with 6: the limit is the faster one.
#ifdef __wasm__
#define ROW_VECTORS 6
#else
#define ROW_VECTORS 12
#endif
static const int ROWS = 16;
alignas(64) static float rows[ROWS * ROW_VECTORS * LANES];

// n times ROWS weight rows of ROW_VECTORS vectors.
PROBE float probe_add(int n) {
  // Memory that was never written is one page of zeros many times over, which no cache likes.
  for (float& w : rows) w = (float)n;
  vf sum[ROW_VECTORS];
  for (int i = 0; i < ROW_VECTORS; i++) sum[i] = vf{};
  for (int k = 0; k < n; k++) {
    const float* row = rows;
    asm volatile("" : "+r"(row));  // so that the loads stay where they are
    for (int r = 0; r < ROWS; r++, row += ROW_VECTORS * LANES)
#pragma GCC unroll 16
      for (int i = 0; i < ROW_VECTORS; i++) sum[i] += load(row + i * LANES);
  }
  float total = 0;
  for (int i = 0; i < ROW_VECTORS; i++) total += hsum(sum[i]);
  return total;
}

// n floats, a multiple of 8 vectors.
PROBE float probe_read(const float* x, int n) {
  vf sum[8];
  for (int i = 0; i < 8; i++) sum[i] = vf{};
  for (int k = 0; k < n; k += 8 * LANES)
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) sum[i] += load(x + k + i * LANES);
  float total = 0;
  for (int i = 0; i < 8; i++) total += hsum(sum[i]);
  return total;
}
PROBE void probe_write(float* x, int n, float value) {
  vf v = splat(value);
  for (int k = 0; k < n; k += 8 * LANES)
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) store(x + k + i * LANES, v);
}

#ifndef __wasm__
#include <stdio.h>
#include <stdlib.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

static double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
static volatile float sink;

// Seconds of one run on all threads at once, the best of some; run(thread).
template <class F>
static double best(int threads, F run) {
  double least = 1e30;
  for (int k = 0; k < 7; k++) {
    std::atomic<int> waiting{threads};
    std::vector<double> begin(threads), end(threads);
    std::vector<std::thread> team;
    for (int t = 0; t < threads; t++)
      team.emplace_back([&, t] {
        waiting--;
        while (waiting) {
        }
        begin[t] = now();
        run(t);
        end[t] = now();
      });
    for (auto& t : team) t.join();
    double first = begin[0], last = end[0];
    for (int t = 1; t < threads; t++) {
      if (begin[t] < first) first = begin[t];
      if (end[t] > last) last = end[t];
    }
    if (last - first < least) least = last - first;
  }
  return least;
}

int main(int argc, char** argv) {
  int threads = argc > 1 ? atoi(argv[1]) : 1;
  const int n = 1 << 20;
  double flops = 2.0 * n * SUMS * LANES * threads, adds = (double)n * ROW_VECTORS * LANES * threads;
  printf("{\"flops\": %g, ", flops / best(threads, [&](int) { sink = probe_fma(n); }) / 1e9);
  printf("\"adds\": %g, \"bandwidth\": [", adds / best(threads, [&](int) { sink = probe_add(n / ROWS); }) / 1e9);
  const int sizes[] = {1, 4, 16, 32, 64, 256};
  float* memory = (float*)malloc((size_t)256 << 20);
  for (int mib : sizes) {
    // A run lasts at least some 64 MiB, so that small amounts are timed from the cache that holds them.
    int part = ((mib << 18) / threads) & ~127, times = mib < 64 ? 64 / mib : 1;
    auto share = [&](int t) { return memory + (size_t)t * part; };
    double bytes = 4.0 * part * threads * times;
    double write = best(threads, [&](int t) {
      for (int i = 0; i < times; i++) probe_write(share(t), part, (float)i);
    });
    double read = best(threads, [&](int t) {
      for (int i = 0; i < times; i++) sink = probe_read(share(t), part);
    });
    printf("%s{\"mib\": %d, \"read\": %g, \"write\": %g}", mib > 1 ? ", " : "", mib, bytes / read / 1e9, bytes / write / 1e9);
  }
  printf("]}\n");
}
#endif
