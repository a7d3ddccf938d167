// What stable_cuda.cpp needs of a device, for kernels that cuda/emulator.h runs on the host.
#pragma once
#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>
#include <string>

#include "../cuda/api.h"
#include "operators.h"

namespace mmvim::binding {

inline int setting(const char* name, int otherwise) {
  const char* value = std::getenv(name);
  return value ? std::atoi(value) : otherwise;
}

// By default few multiprocessors, so that small tests see long segments too, and the least shared memory of all cards.
inline cuda::Device device_of(int) {
  return {setting("MMVIM_EMULATE_MULTIPROCESSORS", 4), setting("MMVIM_EMULATE_SHARED_MEMORY", 64 << 10)};
}

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
    throw std::runtime_error("mmvim: " + std::string(operation) + " failed in the emulator with error " +
                             std::to_string(static_cast<int>(error)));
}

}  // namespace mmvim::binding
