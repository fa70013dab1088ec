// The WebAssembly build's entry points. Freestanding: no libc, no allocator (TypeScript owns the heap), no start code.
#include "generated/constants.h"
#include "platform.h"
#include "pool.h"

extern "C" const KernelFnAbi kernels_simd128[];

// -mbulk-memory turns these builtins into memory.fill and memory.copy.
extern "C" void* memset(void* dst, int value, size_t bytes) { return __builtin_memset(dst, value, bytes); }
extern "C" void* memcpy(void* __restrict dst, const void* __restrict src, size_t bytes) { return __builtin_memcpy(dst, src, bytes); }
extern "C" void* memmove(void* dst, const void* src, size_t bytes) { return __builtin_memmove(dst, src, bytes); }

static Pool pool;

static void sleep_until_changed(Pool& p, uint32_t seen) {
  __builtin_wasm_memory_atomic_wait32((int*)&p.epoch, (int)seen, -1);
}
static void wake_all(Pool& p) { __builtin_wasm_memory_atomic_notify((int*)&p.epoch, 0x7FFFFFFF); }
// There is no such instruction, and a page's main thread may not wait.
static void give_way() {}

#define EXPORT(name) extern "C" __attribute__((export_name(#name)))

EXPORT(run) void run(uint32_t kernel, const double* args, uint32_t tiles, uint32_t threads, char* scratch) {
  run_job(pool, kernels_simd128[kernel], args, tiles, threads, scratch);
}
EXPORT(worker) void worker(char* scratch) { work(pool, scratch); }
EXPORT(stop) void stop() { stop_pool(pool); }
// What a binary given from outside must say of itself: the table it was built from, and whether it has relaxed instructions.
EXPORT(table_hash) uint32_t table_hash() { return KERNEL_TABLE_HASH; }
EXPORT(relaxed) uint32_t relaxed() {
#ifdef __wasm_relaxed_simd__
  return 1;
#else
  return 0;
#endif
}
