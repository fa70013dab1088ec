// The little that kernels need from outside: integer types, and memset / memcpy / memmove, which the freestanding
// WebAssembly build defines itself (platform_wasm.cpp).
#pragma once
#include <stddef.h>
#include <stdint.h>

extern "C" {
void* memset(void* dst, int value, size_t bytes);
void* memcpy(void* __restrict dst, const void* __restrict src, size_t bytes);
void* memmove(void* dst, const void* src, size_t bytes);
}

// Same as KernelFn of abi.h, outside any instruction set's namespace.
typedef void (*KernelFnAbi)(const double* args, int32_t tile, int32_t tiles, char* scratch);
