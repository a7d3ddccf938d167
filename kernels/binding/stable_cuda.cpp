// The operators on CUDA devices: torch's allocator, torch's current stream.
//
// With MMVIM_EMULATE the same operators are registered for CPU tensors, on kernels that cuda/emulator.h runs on the host:
// a library for tests, which needs neither CUDA nor a GPU.
#ifdef MMVIM_EMULATE
#include "emulated_card.h"
#else
#include "cuda_card.h"
#endif

namespace {

using namespace mmvim::binding;

class Cuda {
 public:
  explicit Cuda(const Tensor& like)
      : like_(like), index_(like.get_device_index()), current_(index_), device_(device_of(index_)) {}

  static void require(ScalarType io, ScalarType out) {
    if (io == ScalarType::Double || out == ScalarType::Double)
      throw std::runtime_error(
          "mmvim's CUDA kernels take float32, bfloat16 and float16 tensors, got float64; use backend='torch'");
  }

  static ScalarType gradient_type(ScalarType io) { return io; }
  static constexpr bool kHost = mmvim::binding::kHostMemory, kWritesRows = true;

  Tensor empty(const Sizes& sizes, ScalarType type) const {
    Tensor result = allocate(like_, sizes, type, "result");
    if (mmvim::poison())
      fill_with_nan(result.mutable_data_ptr(), static_cast<size_t>(result.numel()) * bytes_of(type), current_.stream);
    return result;
  }

  void run(const mmvim::ScanForward& p) const {
    launch("scan", mmvim::cuda::scan_workspace(p, device_),
           [&](void* workspace) { return mmvim::cuda::scan(p, device_, workspace, current_.stream); });
  }
  void run(const mmvim::ScanBackward& p) const {
    launch("scan_backward", mmvim::cuda::scan_backward_workspace(p, device_),
           [&](void* workspace) { return mmvim::cuda::scan_backward(p, device_, workspace, current_.stream); });
  }
  void run(const mmvim::ConvForward& p) const {
    launch("walk_conv", 0, [&](void*) { return mmvim::cuda::walk_conv(p, device_, current_.stream); });
  }
  void run(const mmvim::ConvBackward& p) const {
    launch("walk_conv_backward", mmvim::cuda::walk_conv_backward_workspace(p, device_),
           [&](void* workspace) { return mmvim::cuda::walk_conv_backward(p, device_, workspace, current_.stream); });
  }

 private:
  template <class Launch>
  void launch(const char* operation, size_t bytes, Launch kernels) const {
    const Workspace workspace(like_, bytes, operation);
    if (bytes && mmvim::poison()) fill_with_nan(workspace.data(), bytes, current_.stream);
    check(kernels(workspace.data()), operation, index_);
  }

  const Tensor like_;
  const int index_;
  const Current current_;
  const mmvim::cuda::Device device_;
};

}  // namespace

#ifdef MMVIM_EMULATE

std::string cpu_capability() { return "CUDA kernels, emulated"; }

STABLE_TORCH_LIBRARY_FRAGMENT(mmvim, m) { m.def("cpu_capability() -> str"); }

STABLE_TORCH_LIBRARY_IMPL(mmvim, CompositeExplicitAutograd, m) { m.impl("cpu_capability", TORCH_BOX(&cpu_capability)); }

STABLE_TORCH_LIBRARY_IMPL(mmvim, CPU, m) { add_operators<Cuda>(m); }

#else

std::string cuda_architectures() { return MMVIM_CUDA_ARCHITECTURES; }

STABLE_TORCH_LIBRARY_FRAGMENT(mmvim, m) { m.def("cuda_architectures() -> str"); }

STABLE_TORCH_LIBRARY_IMPL(mmvim, CompositeExplicitAutograd, m) {
  m.impl("cuda_architectures", TORCH_BOX(&cuda_architectures));
}

STABLE_TORCH_LIBRARY_IMPL(mmvim, CUDA, m) { add_operators<Cuda>(m); }

#endif
