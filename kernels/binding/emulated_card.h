// What stable_cuda.cpp needs of a device, for kernels that cuda/emulator.h runs on the host.
#pragma once
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

// torch first: the emulator defines the words of CUDA as macros.
#include "operators.h"

#include "../cuda/api.h"

namespace mmvim::binding {

constexpr bool kHostMemory = true;

inline cuda::Device device_of(int) { return {emulate::multiprocessors(), emulate::shared_limit()}; }

struct Current {
  explicit Current(int) {}
  cudaStream_t stream = {};
};

inline Tensor allocate(const Tensor& like, const Sizes& sizes, ScalarType type, const char*) {
  return torch::stable::new_empty(like, sizes, type);
}

inline void fill_with_nan(void* data, size_t bytes, cudaStream_t) { std::memset(data, 0xff, bytes); }

// Exactly the bytes asked for, so that the address sanitizer sees a step outside.
class Workspace {
 public:
  Workspace(const Tensor&, size_t bytes, const char*) {
    if (bytes && posix_memalign(&memory_, 256, bytes)) throw std::bad_alloc();
  }
  Workspace(const Workspace&) = delete;
  ~Workspace() { std::free(memory_); }
  void* data() const { return memory_; }

 private:
  void* memory_ = nullptr;
};

inline void check(cudaError_t error, const char* operation, int) {
  if (error != cudaSuccess)
    throw std::runtime_error("mmvim: " + std::string(operation) + " failed in the emulator: " +
                             cudaGetErrorString(error));
}

}  // namespace mmvim::binding
