// Everything that is compiled once per instruction set. A wrapper sets the target and MMVIM_ISA, MMVIM_VECTOR_BYTES.
// All of it lives in a namespace of its own, so that no function of one set can stand in for another's at link time.
#include "../core/math.h"
#include "../core/walk.h"
#include "api.h"

#include "vec.inl"

#include "tile.inl"

#include "steps.inl"

#include "scan_forward.inl"

#ifndef MMVIM_FORWARD_ONLY  // what runs exported models: half as large, in half the time of compiling
#include "scan_backward.inl"
#endif

#include "walk_conv.inl"

namespace mmvim::MMVIM_ISA {

#define MMVIM_NAME(isa) MMVIM_QUOTE(isa)
#define MMVIM_QUOTE(isa) #isa

static void scan(const ScanForward& p, const Pool& pool) {
  p.io == DType::kFloat64 ? scan_forward<double>(p, pool) : scan_forward<float>(p, pool);
}

static void walk_conv(const ConvForward& p, const Pool& pool) {
  p.io == DType::kFloat64 ? conv_forward<double>(p, pool) : conv_forward<float>(p, pool);
}

extern const Kernels table;

#ifdef MMVIM_FORWARD_ONLY
const Kernels table = {MMVIM_NAME(MMVIM_ISA), scan, nullptr, walk_conv, nullptr};
#else
static void scan_backward(const ScanBackward& p, const Pool& pool) {
  p.io == DType::kFloat64 ? scan_gradients<double>(p, pool) : scan_gradients<float>(p, pool);
}

static void walk_conv_backward(const ConvBackward& p, const Pool& pool) {
  p.io == DType::kFloat64 ? conv_gradients<double>(p, pool) : conv_gradients<float>(p, pool);
}

const Kernels table = {MMVIM_NAME(MMVIM_ISA), scan, scan_backward, walk_conv, walk_conv_backward};
#endif

}  // namespace mmvim::MMVIM_ISA
