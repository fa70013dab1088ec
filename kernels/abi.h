// The border between TypeScript and C++: how a kernel receives its arguments and its share of the work.
//
// An argument block is an array of doubles in the heap, one per argument, in the order of
// packages/core/src/runtime/kernel-table.ts. Addresses are stored as doubles too (exact below 2^53; writing a double from
// JavaScript is much cheaper than writing a BigInt). The build generates generated/kernel_table.h: for every kernel a struct
// `<name>_args` whose fields are the types below, and the enums of op codes.
//
// Every kernel is `KERNEL(name) { ... }` with `a` (its arguments) and `tile` in scope. This header is included once per
// instruction set inside its own namespace (see kernels.cpp), so nothing here may have external linkage.
#pragma once

struct Ptr {
  double v;
  template <class T> operator T*() const { return reinterpret_cast<T*>(static_cast<uintptr_t>(v)); }
  explicit operator bool() const { return v != 0; }
};
struct Int {
  double v;
  operator int64_t() const { return static_cast<int64_t>(v); }
};
struct Real {
  double v;
  operator float() const { return static_cast<float>(v); }
  double wide() const { return v; }
};

// A tile's share of the work, and scratch memory of its thread (SCRATCH_BYTES, 64-byte aligned).
struct Tile {
  int64_t index, count;
  char* scratch;
  int64_t begin(int64_t units) const { return units * index / count; }
  int64_t end(int64_t units) const { return units * (index + 1) / count; }
};

typedef void (*KernelFn)(const double* args, int32_t tile, int32_t tiles, char* scratch);

#define KERNEL(name)                                                                          \
  static void name##_impl(const name##_args& a, const Tile& tile);                            \
  static void name(const double* args, int32_t index, int32_t count, char* scratch) {         \
    name##_impl(*reinterpret_cast<const name##_args*>(args), Tile{index, count, scratch});    \
  }                                                                                           \
  static void name##_impl(const name##_args& a, const Tile& tile)
