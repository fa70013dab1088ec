// All kernels for one instruction set, as one translation unit. The build compiles this file once per instruction set with
// its compiler flags and -DISA=<name>; each gets a namespace of its own and exports one table, `kernels_<name>`.
#include "generated/constants.h"
#include "platform.h"

// Products on tiles: on the matrix units, or emulated for tests.
#if defined(__AMX_BF16__) || defined(EMULATED_TILES)
#define TILES
#include <immintrin.h>
#endif

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

namespace JOIN(isa_, ISA) {
#include "abi.h"
#include "generated/kernel_table.h"
#include "vec.h"
#include "math.h"
#include "elementwise.h"
#include "layout.h"
#include "reduce.h"
#include "gemm.h"
#include "conv.h"
#include "winograd.h"
#include "spike.h"
#include "steps.h"
#include "amx.h"
#include "depthwise_table.h"
#include "depthwise.h"
#include "pooling.h"
#include "spike_table.h"
#include "norm.h"
#include "random.h"
#include "neuron.h"
#include "optim.h"
}  // namespace

extern "C" const KernelFnAbi JOIN(kernels_, ISA)[] = {
#define KERNEL_ENTRY(name) JOIN(isa_, ISA)::name,
#include "generated/kernel_list.h"
};

// Do this instruction set's riskier instructions work here? The addon asks before it runs it.
extern "C" bool JOIN(agrees_, ISA)(char* scratch) {
#if defined(TILES)
  return JOIN(isa_, ISA)::tiles_agree(scratch);
#else
  return true;
#endif
}
