// The operators on the CPU: torch's threads, and memory in large pages.
#include <cstring>

#include "cpu/api.h"
#include "operators.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace {

using namespace mmvim::binding;

// torch's intra-op threads, as many as torch.get_num_threads() says.
mmvim::Pool pool() {
  mmvim::Pool result;
  result.threads = torch::stable::get_num_threads();
  result.run = [](int64_t workers, void (*body)(void*), void* context) {
    torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) body(context);
    });
  };
  return result;
}

// Large results come from the system as pages of 4 KiB that do not exist before they are written to, which takes longer
// than the writing. Asks for pages of 2 MiB instead; a refusal does not matter.
void prefer_large_pages([[maybe_unused]] void* data, [[maybe_unused]] size_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t kPage = uintptr_t{2} << 20;
  const uintptr_t address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = (address + kPage - 1) / kPage * kPage, end = (address + bytes) / kPage * kPage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

class Cpu {
 public:
  explicit Cpu(const Tensor& like) : like_(like) {}

  Tensor empty(const Sizes& sizes, ScalarType type) const {
    Tensor result = torch::stable::new_empty(like_, sizes, type);
    const size_t bytes = static_cast<size_t>(result.numel()) * bytes_of(type);
    prefer_large_pages(result.mutable_data_ptr(), bytes);
    if (mmvim::poison()) std::memset(result.mutable_data_ptr(), 0xff, bytes);
    return result;
  }

  static void require(ScalarType, ScalarType) {}
  static ScalarType gradient_type(ScalarType io) { return state_type(io); }
  static constexpr bool kHost = true, kWritesRows = false;

  void run(const mmvim::ScanForward& p) const { mmvim::kernels().scan(p, pool()); }
  void run(const mmvim::ScanBackward& p) const { mmvim::kernels().scan_backward(p, pool()); }
  void run(const mmvim::ConvForward& p) const { mmvim::kernels().walk_conv(p, pool()); }
  void run(const mmvim::ConvBackward& p) const { mmvim::kernels().walk_conv_backward(p, pool()); }

 private:
  const Tensor like_;
};

std::string cpu_capability() { return mmvim::kernels().name; }

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(mmvim, m) { m.def("cpu_capability() -> str"); }

STABLE_TORCH_LIBRARY_IMPL(mmvim, CompositeExplicitAutograd, m) { m.impl("cpu_capability", TORCH_BOX(&cpu_capability)); }

STABLE_TORCH_LIBRARY_IMPL(mmvim, CPU, m) { add_operators<Cpu>(m); }
