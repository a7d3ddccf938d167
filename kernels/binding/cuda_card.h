// What stable_cuda.cpp needs of a device: its size, the current stream, memory, and errors in words.
#pragma once
#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>

#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "../cuda/api.h"
#include "operators.h"

#ifndef MMVIM_CUDA_ARCHITECTURES
#error "MMVIM_CUDA_ARCHITECTURES must name what the kernels are compiled for (kernels/build.py)"
#endif

namespace mmvim::binding {

constexpr bool kHostMemory = false;

// For messages: what cannot be found out is left out.
struct Card {
  explicit Card(int index) : name("CUDA device " + std::to_string(index)) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, index) != cudaSuccess) return;
    name = properties.name;
    capability = std::to_string(properties.major) + '.' + std::to_string(properties.minor);
  }
  std::string name, capability;
};

inline void check(cudaError_t error, const char* operation, int index) {
  if (error == cudaSuccess) return;
  const Card card(index);
  std::ostringstream text;
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorUnsupportedPtxVersion)
    text << "mmvim has no CUDA kernels for " << card.name << " (compute capability " << card.capability
         << "): they were built for " << MMVIM_CUDA_ARCHITECTURES
         << "; rebuild them in mmvim's folder by TORCH_CUDA_ARCH_LIST=" << card.capability
         << " MMVIM_BUILD=cuda pip install --no-deps --force-reinstall . or set MMVIM_BACKEND=torch for the slower path";
  else
    text << "mmvim's " << operation << " failed on " << card.name << ": " << cudaGetErrorString(error) << " ("
         << cudaGetErrorName(error) << ')';
  throw std::runtime_error(text.str());
}

inline cuda::Device device_of(int index) {
  static const std::vector<cuda::Device> devices = [] {
    int count = 0;
    check(cudaGetDeviceCount(&count), "question for the devices", 0);
    std::vector<cuda::Device> all(count);
    for (int i = 0; i < count; ++i) {
      const auto ask = [&](int& answer, cudaDeviceAttr attribute) {
        check(cudaDeviceGetAttribute(&answer, attribute, i), "question for a device's size", i);
      };
      ask(all[i].multiprocessors, cudaDevAttrMultiProcessorCount);
      ask(all[i].shared_memory_per_block, cudaDevAttrMaxSharedMemoryPerBlockOptin);
    }
    return all;
  }();
  return devices.at(index);
}

// The tensors' device, current for as long as this lives, and the stream that torch computes on there.
struct Current {
  explicit Current(int index) : guard(index) {
    // This library has a runtime of its own (-cudart static), which is told as well and need not find out from torch's.
    check(cudaSetDevice(index), "choice of a device", index);
    void* current = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(index, &current));
    stream = static_cast<cudaStream_t>(current);
  }
  torch::stable::accelerator::DeviceGuard guard;
  cudaStream_t stream;
};

inline Tensor allocate(const Tensor& like, const Sizes& sizes, ScalarType type, const char* operation) {
  try {
    return torch::stable::new_empty(like, sizes, type);
  } catch (const std::exception&) {
    // The stable interface says that it failed, not why. After an error of an earlier kernel every call fails.
    size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), operation, like.get_device_index());
    double bytes = static_cast<double>(bytes_of(type));
    for (int64_t size : sizes) bytes *= static_cast<double>(size);
    const auto mib = [](double value) { return static_cast<int64_t>(value / (1 << 20)) + 1; };
    std::ostringstream text;
    text << "CUDA out of memory: mmvim's " << operation << " could not get " << mib(bytes) << " MiB on "
         << Card(like.get_device_index()).name << ", where " << mib(static_cast<double>(free)) << " of "
         << mib(static_cast<double>(total)) << " MiB are free; use a smaller batch or smaller images";
    throw std::runtime_error(text.str());
  }
}

inline void fill_with_nan(void* data, size_t bytes, cudaStream_t stream) {
  static_cast<void>(cudaMemsetAsync(data, 0xff, bytes, stream));  // a failure shows at the launch that follows
}

// torch gives the memory to nobody else before the work on this stream is done.
class Workspace {
 public:
  Workspace(const Tensor& like, size_t bytes, const char* operation) {
    if (bytes) memory_ = allocate(like, {static_cast<int64_t>(bytes)}, ScalarType::Byte, operation);
  }
  void* data() const { return memory_ ? memory_->mutable_data_ptr() : nullptr; }

 private:
  Optional memory_;
};

}  // namespace mmvim::binding
