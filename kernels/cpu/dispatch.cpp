// Chooses the instruction set at run time. The only file under cpu/ that is compiled once.
#include <cstdlib>
#include <cstring>
#include <new>

#include "../core/poison.h"
#include "api.h"

namespace mmvim {

namespace base {
extern const Kernels table;
}
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define MMVIM_MULTI_ISA
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
#if __GNUC__ >= 12
namespace avx512_bf16 {
extern const Kernels table;
}
#endif
#endif

// Asked anew at every call, which costs nothing next to a scan and lets one process try all of them.
const Kernels& kernels() {
#ifdef MMVIM_MULTI_ISA
  const char* asked = std::getenv("MMVIM_CPU_ISA");
  const bool base_only = asked && !std::strcmp(asked, "base");
  const bool at_most_avx2 = asked && !std::strcmp(asked, "avx2");
  if (!base_only && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    if (!at_most_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
#if __GNUC__ >= 12
      if (!(asked && !std::strcmp(asked, "avx512")) && __builtin_cpu_supports("avx512bf16")) return avx512_bf16::table;
#endif
      return avx512::table;
    }
    return avx2::table;
  }
#endif
  return base::table;
}

void* allocate(size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 64, bytes + !bytes)) throw std::bad_alloc();
  if (poison()) std::memset(memory, 0xff, bytes);  // all bits set is a NaN in every type used here
  return memory;
}

void release(void* memory) { std::free(memory); }

}  // namespace mmvim
