// The CPU kernels as seen from outside. Gradients are in the state type, and any may be null. No torch.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "../core/arguments.h"

namespace mmvim {

// Runs `body(context)` on up to `workers` threads at once and returns when all are done. Kernels hand out their units
// of work by an atomic counter, so it is no matter how many of the workers really run.
struct Pool {
  int64_t threads = 1;
  void (*run)(int64_t workers, void (*body)(void*), void* context) = nullptr;
};

struct Kernels {
  const char* name;
  void (*scan)(const ScanForward&, const Pool&);
  void (*scan_backward)(const ScanBackward&, const Pool&);
  void (*walk_conv)(const ConvForward&, const Pool&);
  void (*walk_conv_backward)(const ConvBackward&, const Pool&);
};

// The best set this processor runs; MMVIM_CPU_ISA = base | avx2 | avx512 | avx512_bf16 asks for a lower one.
const Kernels& kernels();

// 64-byte aligned memory. With MMVIM_POISON=1 it is filled with NaN, so that a read of what nobody wrote shows.
void* allocate(size_t bytes);
void release(void* memory);

}  // namespace mmvim
