// The Node addon: picks an instruction set by what the CPU reports, owns the native thread pool, and runs kernels.
//
// Memory stays JavaScript's: slabs are plain ArrayBuffers whose base address JavaScript asks for once (`address`).
// exports: tableHash() -> hash of the kernel table it was built from; isas() -> names this CPU reports, the default first; open(isa, threads, argsBuffer) -> handle; run(handle, kernel, tiles);
// address(ArrayBuffer) -> number; close(handle).
#include <node_api.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "generated/constants.h"
#include "pool.h"

// Far below the 20 bits that a claim has for tiles, so that late claims never carry into the next field.
static const uint32_t MAX_TILES = 1u << 16;

struct Sleep {
  std::mutex mutex;
  std::condition_variable changed;
};
static void sleep_until_changed(Pool& pool, uint32_t seen) {
  Sleep& s = *static_cast<Sleep*>(pool.platform);
  std::unique_lock<std::mutex> lock(s.mutex);
  s.changed.wait(lock, [&] { return __atomic_load_n(&pool.epoch, __ATOMIC_ACQUIRE) != seen; });
}
static void wake_all(Pool& pool) {
  Sleep& s = *static_cast<Sleep*>(pool.platform);
  { std::lock_guard<std::mutex> lock(s.mutex); }
  s.changed.notify_all();
}

// Large pages where the system has some: kernels walk through megabytes, and look up an address for each small page. Only whole large
// pages are asked for, so that nothing beside this memory changes; where the system refuses, small ones do.
static const uintptr_t LARGE_PAGE = 2 << 20;
static_assert(SCRATCH_BYTES <= LARGE_PAGE, "a thread's scratch memory is one large page");
static void want_large_pages(void* data, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const uintptr_t begin = ((uintptr_t)data + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE, end = ((uintptr_t)data + bytes) / LARGE_PAGE * LARGE_PAGE;
  if (begin < end) madvise((void*)begin, end - begin, MADV_HUGEPAGE);
#endif
}

static void give_way() { std::this_thread::yield(); }

// ISA_TABLES comes from the build: ISA_TABLE(name) for every instruction set it compiled, the default first.
#define ISA_TABLE(isa)                          \
  extern "C" const KernelFnAbi kernels_##isa[]; \
  extern "C" bool agrees_##isa(char* scratch);
ISA_TABLES
#undef ISA_TABLE

struct Isa {
  const char* name;
  const KernelFnAbi* kernels;
  bool (*agrees)(char* scratch);
};
static const Isa compiled[] = {
#define ISA_TABLE(isa) {#isa, kernels_##isa, agrees_##isa},
    ISA_TABLES
#undef ISA_TABLE
};

// AMX takes a processor that has it and a system that saves its registers (XCR0). That is what `isas` goes by: what follows changes
// the process, and waits until somebody asks for it. It is the system's leave, which holds for the threads that this process starts
// from then on, and a test: a virtual machine may report what it does not carry out.
#if defined(__x86_64__) && defined(__linux__)
static bool reports_tiles() {
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27)) return false;                                    // OSXSAVE
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d >> 22 & 1) == 0 || (d >> 24 & 1) == 0) return false;  // AMX-BF16, AMX-TILE
  asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  const uint32_t tiles = 3u << 17;  // XTILECFG, XTILEDATA
  return (a & tiles) == tiles;
}

static bool system_grants_tiles() {
  const long request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, request, tile_data) == 0;
}

static sigjmp_buf fault;
static bool agrees_without_fault(bool (*agrees)(char*)) {
  const int signals[] = {SIGILL, SIGSEGV, SIGBUS};
  struct sigaction before[3], handler = {};
  handler.sa_handler = [](int) { siglongjmp(fault, 1); };
  void* scratch = nullptr;
  if (posix_memalign(&scratch, 64, SCRATCH_BYTES) != 0) return false;
  for (int i = 0; i < 3; i++) sigaction(signals[i], &handler, &before[i]);
  const bool good = sigsetjmp(fault, 1) == 0 && agrees(static_cast<char*>(scratch));
  for (int i = 0; i < 3; i++) sigaction(signals[i], &before[i], nullptr);
  free(scratch);
  return good;
}
#else
static bool reports_tiles() { return false; }
static bool system_grants_tiles() { return false; }
static bool agrees_without_fault(bool (*)(char*)) { return true; }  // only emulated tiles come here
#endif

// Why matrix units that the processor reports cannot be used; null where they can. Asked once; emulated ones take the same test.
static const char* obstacle(const Isa& amx) {
  if (!strcmp(amx.name, "amx") && !system_grants_tiles()) return "the system does not let this process use AMX (arch_prctl); choose avx512";
  if (!agrees_without_fault(amx.agrees)) return "this processor reports AMX but faults or multiplies wrongly with it; choose avx512";
  return nullptr;
}

static bool cpu_runs(const Isa& isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!strcmp(isa.name, "amx") && !reports_tiles()) return false;
  if (!strcmp(isa.name, "amx") || !strcmp(isa.name, "amx_emulated") || !strcmp(isa.name, "avx512"))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2");
  if (!strcmp(isa.name, "avx2"))
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
#endif
  return true;
}

// One opened device: its pool, its workers, their scratch, and the argument block shared with JavaScript.
struct Engine {
  Pool pool{};
  Sleep sleep;
  std::vector<std::thread> workers;
  std::vector<char*> scratch;
  const KernelFnAbi* kernels = nullptr;
  const double* args = nullptr;
  napi_ref argsRef = nullptr;
  uint32_t threads = 1;
  bool open = true;
  void shut() {
    if (!open) return;
    open = false;
    stop_pool(pool);
    for (auto& w : workers) w.join();
    for (char* s : scratch) free(s);
    scratch.clear();
  }
};

static napi_value fail(napi_env env, const char* message) {
  napi_throw_error(env, nullptr, message);
  return nullptr;
}
static Engine* engine_of(napi_env env, napi_value v) {
  void* p = nullptr;
  napi_get_value_external(env, v, &p);
  return static_cast<Engine*>(p);
}

static napi_value isas(napi_env env, napi_callback_info) {
  napi_value list, name;
  napi_create_array(env, &list);
  uint32_t n = 0;
  for (const Isa& isa : compiled)
    if (cpu_runs(isa)) {
      napi_create_string_utf8(env, isa.name, NAPI_AUTO_LENGTH, &name);
      napi_set_element(env, list, n++, name);
    }
  return list;
}

static napi_value table_hash(napi_env env, napi_callback_info) {
  napi_value result;
  napi_create_uint32(env, KERNEL_TABLE_HASH, &result);
  return result;
}

static napi_value address(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value arg, result;
  napi_get_cb_info(env, info, &argc, &arg, nullptr, nullptr);
  void* data = nullptr;
  size_t bytes = 0;
  if (napi_get_arraybuffer_info(env, arg, &data, &bytes) != napi_ok) return fail(env, "address: expected an ArrayBuffer");
  want_large_pages(data, bytes);
  napi_create_double(env, (double)(uintptr_t)data, &result);
  return result;
}

static napi_value open_engine(napi_env env, napi_callback_info info) {
  size_t argc = 3;
  napi_value argv[3], handle;
  napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr);
  char name[32] = {0};
  size_t length = 0;
  uint32_t threads = 1;
  void* data = nullptr;
  size_t bytes = 0;
  if (argc < 3 || napi_get_value_string_utf8(env, argv[0], name, sizeof name, &length) != napi_ok ||
      napi_get_value_uint32(env, argv[1], &threads) != napi_ok ||
      napi_get_arraybuffer_info(env, argv[2], &data, &bytes) != napi_ok || threads < 1 || threads > 1024)
    return fail(env, "open: expected (isa, threads, ArrayBuffer)");
  const Isa* chosen = nullptr;
  for (const Isa& isa : compiled)
    if (!strcmp(isa.name, name) && cpu_runs(isa)) chosen = &isa;
  if (!chosen) return fail(env, "open: this CPU or build has no such instruction set");
  if (!strncmp(name, "amx", 3)) {
    static const char* const against = obstacle(*chosen);
    if (against) return fail(env, against);
  }
  Engine* e = new Engine();
  e->kernels = chosen->kernels;
  e->args = static_cast<const double*>(data);
  e->threads = threads;
  e->pool.platform = &e->sleep;
  napi_create_reference(env, argv[2], 1, &e->argsRef);
  for (uint32_t i = 0; i < threads; i++) {
    void* p = nullptr;
    if (posix_memalign(&p, LARGE_PAGE, LARGE_PAGE) != 0) {
      e->shut();
      delete e;
      return fail(env, "open: out of memory");
    }
    want_large_pages(p, LARGE_PAGE);
    e->scratch.push_back(static_cast<char*>(p));
  }
  // The system may refuse a thread (a limit of processes): tiles then go to the workers that did start.
  try {
    for (uint32_t i = 1; i < threads; i++) {
      char* scratch = e->scratch[i];
      e->workers.emplace_back([e, scratch] { work(e->pool, scratch); });
    }
  } catch (...) {
    e->threads = 1 + (uint32_t)e->workers.size();
  }
  napi_add_env_cleanup_hook(env, [](void* p) { static_cast<Engine*>(p)->shut(); }, e);
  napi_create_external(env, e, nullptr, nullptr, &handle);
  return handle;
}

static napi_value run(napi_env env, napi_callback_info info) {
  size_t argc = 3;
  napi_value argv[3];
  napi_get_cb_info(env, info, &argc, argv, nullptr, nullptr);
  Engine* e = engine_of(env, argv[0]);
  uint32_t kernel = 0, tiles = 0;
  napi_get_value_uint32(env, argv[1], &kernel);
  napi_get_value_uint32(env, argv[2], &tiles);
  if (!e || !e->open || kernel >= KERNEL_COUNT || tiles > MAX_TILES) return fail(env, "run: closed device, unknown kernel or too many tiles");
  run_job(e->pool, e->kernels[kernel], e->args, tiles, e->threads, e->scratch[0]);
  return nullptr;
}

static napi_value close_engine(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value arg;
  napi_get_cb_info(env, info, &argc, &arg, nullptr, nullptr);
  if (Engine* e = engine_of(env, arg)) e->shut();
  return nullptr;
}

NAPI_MODULE_INIT() {
  const struct { const char* name; napi_callback fn; } functions[] = {
      {"tableHash", table_hash}, {"isas", isas}, {"address", address}, {"open", open_engine}, {"run", run}, {"close", close_engine}};
  for (auto& f : functions) {
    napi_value v;
    napi_create_function(env, f.name, NAPI_AUTO_LENGTH, f.fn, nullptr, &v);
    napi_set_named_property(env, exports, f.name, v);
  }
  return exports;
}
