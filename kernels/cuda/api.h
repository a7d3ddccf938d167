// The CUDA kernels as seen from outside: device pointers, a workspace and a stream. No torch.
//
// Inputs are float32, bfloat16 or float16 and the state is float32; `ScanInputs::walks.kinds` is in host memory,
// everything else that is pointed to in device memory. Gradients of u, delta, b, c, z and of the convolution's x have
// the type of these inputs; those of parameters are float32. All but du, ddelta and dx may
// be null. A function returns the error of the first launch that failed.
#pragma once
#include <stddef.h>

#include "../core/arguments.h"
#include "runtime.h"

namespace mmvim::cuda {

// What the cut of work into blocks may depend on, besides shapes: results are the same on every run on one card.
struct Device {
  int multiprocessors;
  int shared_memory_per_block;  // bytes, the most that a kernel may opt in to
};

// Bytes of scratch memory, aligned to 256, that the function of the same name needs; may be 0.
size_t scan_workspace(const ScanForward&, const Device&);
size_t scan_backward_workspace(const ScanBackward&, const Device&);
size_t walk_conv_backward_workspace(const ConvBackward&, const Device&);

cudaError_t scan(const ScanForward&, const Device&, void* workspace, cudaStream_t);
cudaError_t scan_backward(const ScanBackward&, const Device&, void* workspace, cudaStream_t);
cudaError_t walk_conv(const ConvForward&, const Device&, cudaStream_t);
cudaError_t walk_conv_backward(const ConvBackward&, const Device&, void* workspace, cudaStream_t);

}  // namespace mmvim::cuda
