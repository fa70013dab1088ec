// The thread pool: workers take tiles of the current job from one 64-bit atomic word {epoch, tiles, next}.
//
// A claim is one fetch_add; it says which job it belongs to and whether the tile exists, so a late worker can never touch a
// job that has ended. Idle workers spin briefly, then sleep. The submitting thread works too and spins for the last tile
// (a page's main thread may not sleep). The same code runs natively and in WebAssembly; sleeping and waking are given by
// `sleep_until_changed` and `wake_all`.
#pragma once
#include "platform.h"

struct Pool;
static void sleep_until_changed(Pool& pool, uint32_t seen);
static void wake_all(Pool& pool);
// Let another thread have this processor: one that holds the last tile may be waiting for it.
static void give_way();

static inline void cpu_relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

struct Job {
  KernelFnAbi fn;
  const double* args;
};

struct Pool {
  // 24 bits epoch | 20 bits tiles | 20 bits next tile.
  alignas(64) uint64_t word;
  alignas(64) uint32_t done;
  alignas(64) uint32_t epoch;  // what sleepers watch
  uint32_t sleepers;
  uint32_t stop;
  Job job;
  void* platform;  // the native build keeps its mutex here
};

static const int SPIN_ROUNDS = 4096;

// Take tiles until the current job has none left.
static inline void take_tiles(Pool& pool, char* scratch) {
  while (true) {
    uint64_t seen = __atomic_load_n(&pool.word, __ATOMIC_ACQUIRE);
    if ((seen & 0xFFFFF) >= ((seen >> 20) & 0xFFFFF)) return;
    uint64_t claim = __atomic_fetch_add(&pool.word, 1, __ATOMIC_ACQ_REL);
    uint32_t tile = (uint32_t)(claim & 0xFFFFF), tiles = (uint32_t)((claim >> 20) & 0xFFFFF);
    if (tile >= tiles) return;
    pool.job.fn(pool.job.args, (int32_t)tile, (int32_t)tiles, scratch);
    __atomic_fetch_add(&pool.done, 1, __ATOMIC_ACQ_REL);
  }
}

// Run a job to its end. Called by one thread only, the owner of the pool.
static inline void run_job(Pool& pool, KernelFnAbi fn, const double* args, uint32_t tiles, uint32_t threads, char* scratch) {
  if (tiles <= 1 || threads <= 1) {
    for (uint32_t tile = 0; tile < tiles; tile++) fn(args, (int32_t)tile, (int32_t)tiles, scratch);
    return;
  }
  pool.job = Job{fn, args};
  __atomic_store_n(&pool.done, 0, __ATOMIC_RELAXED);
  uint32_t epoch = pool.epoch + 1;
  __atomic_store_n(&pool.word, ((uint64_t)(epoch & 0xFFFFFF) << 40) | ((uint64_t)tiles << 20), __ATOMIC_SEQ_CST);
  __atomic_store_n(&pool.epoch, epoch, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&pool.sleepers, __ATOMIC_SEQ_CST) > 0) wake_all(pool);
  take_tiles(pool, scratch);
  for (int i = 0; __atomic_load_n(&pool.done, __ATOMIC_ACQUIRE) < tiles; i++)
    if (i < SPIN_ROUNDS)
      cpu_relax();
    else
      give_way();
}

// A worker's life. Returns when the pool stops.
static inline void work(Pool& pool, char* scratch) {
  uint32_t seen = 0;
  while (!__atomic_load_n(&pool.stop, __ATOMIC_ACQUIRE)) {
    uint32_t epoch = __atomic_load_n(&pool.epoch, __ATOMIC_ACQUIRE);
    if (epoch != seen) {
      seen = epoch;
      take_tiles(pool, scratch);
      continue;
    }
    bool woke = false;
    for (int i = 0; i < SPIN_ROUNDS && !woke; i++) {
      cpu_relax();
      woke = __atomic_load_n(&pool.epoch, __ATOMIC_ACQUIRE) != seen || __atomic_load_n(&pool.stop, __ATOMIC_ACQUIRE);
    }
    if (!woke) {
      __atomic_fetch_add(&pool.sleepers, 1, __ATOMIC_SEQ_CST);
      sleep_until_changed(pool, seen);
      __atomic_fetch_sub(&pool.sleepers, 1, __ATOMIC_SEQ_CST);
    }
  }
}

static inline void stop_pool(Pool& pool) {
  __atomic_store_n(&pool.stop, 1, __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&pool.epoch, 1, __ATOMIC_SEQ_CST);
  wake_all(pool);
}
