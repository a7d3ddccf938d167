// The one header that knows whether CUDA is there: nvcc's runtime, or under a plain C++ compiler the emulator of it.
#pragma once
#include <stdint.h>

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#else
#include "emulator.h"
#endif

#define MMVIM_DEVICE __device__ __forceinline__

// `type* name`: the block's dynamic shared memory, aligned to 16 bytes. The only kind of shared memory there is here.
#if defined(__CUDACC__)
#define MMVIM_SHARED(type, name)                                     \
  extern __shared__ __align__(16) unsigned char mmvim_shared_bytes[]; \
  type* const name = reinterpret_cast<type*>(mmvim_shared_bytes)
#else
#define MMVIM_SHARED(type, name) type* const name = static_cast<type*>(mmvim::emulate::shared_memory())
#endif

namespace mmvim::cuda {

#if defined(__CUDACC__)
// Starts `kernel` with `shared` bytes of dynamic shared memory and says whether it could be started.
template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                   const Arguments&... arguments) {
  constexpr size_t kWithoutAsking = 48 * 1024;
  if (shared > kWithoutAsking) {
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (error != cudaSuccess) return error;
  }
  kernel<<<grid, block, shared, stream>>>(arguments...);
  return cudaGetLastError();
}
#else
using emulate::launch;
#endif

// A kernel whose blocks are counted in one dimension, the only one that is large; what is too many is an error, and not
// the rest of a division by 2^32.
template <class... Parameters, class... Arguments>
cudaError_t launch_blocks(void (*kernel)(Parameters...), int64_t blocks, dim3 block, size_t shared, cudaStream_t stream,
                          const Arguments&... arguments) {
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  return launch(kernel, dim3(static_cast<unsigned>(blocks)), block, shared, stream, arguments...);
}

}  // namespace mmvim::cuda
