// Runs kernels on the host, for tests of their logic where there is no GPU: no speed, no memory model, no real rounding.
//
// The threads of a block are fibers of one host thread; blocks follow one another. A fiber runs until it meets a barrier
// or a shuffle. MMVIM_EMULATE_ORDER = forward | reverse | shuffle is the order in which fibers and blocks get their
// turn: a result that depends on it has a race. Shared memory is a heap block of exactly the size asked for, full of
// NaN; a barrier or shuffle that is not reached by all who must, ends the process with a message. Compile with
// `-x c++ -std=c++17` or later, and -Wno-unknown-pragmas for `#pragma unroll`.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <mutex>
#include <utility>
#include <vector>

#if !(defined(__x86_64__) && defined(__GNUC__))
#include <ucontext.h>
#define MMVIM_UCONTEXT
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

// ---- what cuda_runtime.h, cuda_bf16.h and cuda_fp16.h would declare ---------------------------------------------------

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

struct uint3 {
  unsigned x, y, z;
};
struct dim3 : uint3 {
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : uint3{x, y, z} {}
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
using cudaStream_t = struct CUstream_st*;

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : error == cudaErrorInvalidValue ? "invalid argument" : "invalid configuration argument";
}
inline cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t) {
  memset(data, value, bytes);
  return cudaSuccess;
}

struct __half {
  uint16_t bits;
};
struct __nv_bfloat16 {
  uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

namespace mmvim::emulate {
template <class To, class From>
inline To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  memcpy(&result, &value, sizeof(To));
  return result;
}
}  // namespace mmvim::emulate

inline float __bfloat162float(__nv_bfloat16 x) { return mmvim::emulate::bits_as<float>(uint32_t{x.bits} << 16); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  const uint32_t bits = mmvim::emulate::bits_as<uint32_t>(x);
  if (x != x) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}
inline float __half2float(__half x) {
  const uint32_t sign = (x.bits & 0x8000u) << 16, exponent = (x.bits >> 10) & 31u, fraction = x.bits & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t rebased = exponent == 31 ? 255u : exponent + 112u;
  return mmvim::emulate::bits_as<float>(sign | rebased << 23 | fraction << 13);
}
inline __half __float2half_rn(float x) {
  const uint32_t bits = mmvim::emulate::bits_as<uint32_t>(x), magnitude = bits & 0x7fffffffu;
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const auto with_sign = [&](uint32_t half) { return __half{static_cast<uint16_t>(sign | half)}; };
  if (magnitude > 0x7f800000u) return {0x7fff};
  if (magnitude >= 0x477ff000u) return with_sign(0x7c00u);
  if (magnitude >= 0x38800000u) return with_sign((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13);
  // Subnormal: adding 1/2 leaves the value in units of 2^-24 in the low bits, rounded to even.
  return with_sign(mmvim::emulate::bits_as<uint32_t>(mmvim::emulate::bits_as<float>(magnitude) + 0.5f) - 0x3f000000u);
}
inline float2 __half22float2(__half2 v) { return {__half2float(v.x), __half2float(v.y)}; }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {__bfloat162float(v.x), __bfloat162float(v.y)}; }
inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)}; }

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

// ---- fibers -----------------------------------------------------------------------------------------------------------

namespace mmvim::emulate {

#if !defined(MMVIM_UCONTEXT)
using Context = void*;  // the stack pointer; what a function call must preserve lies on the stack
__attribute__((naked, noinline, no_sanitize("address", "undefined"))) inline void switch_stack(
    [[maybe_unused]] Context* from, [[maybe_unused]] Context to) {
  asm("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}
inline Context fresh_context(char* stack, size_t bytes, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + bytes);
  top[-1] = nullptr;  // where a return address would be; keeps the alignment that a called function expects
  top[-2] = reinterpret_cast<void*>(entry);
  for (int i = 3; i <= 8; ++i) top[-i] = nullptr;
  return top - 8;
}
#else
using Context = ucontext_t;
inline void switch_stack(Context* from, Context& to) { swapcontext(from, &to); }
inline Context fresh_context(char* stack, size_t bytes, void (*entry)()) {
  Context context;
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = bytes;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
  return context;
}
#endif

constexpr int kWarpSize = 32, kMaxThreads = 1024;
constexpr size_t kStackBytes = size_t{256} << 10, kPageBytes = 4096;

enum class Wait : uint8_t { kNothing, kBlock, kWarp, kDone };

struct Fiber {
  Context context;
  char* stack;
  void* fake_stack = nullptr;  // of the address sanitizer
  uint3 index;
  Wait wait;
  int line;        // of the barrier or shuffle it waits at
  const char* file;
  uint32_t mask;   // of the lanes that a shuffle names
  uint64_t value;  // what it gives to the shuffle, and then what it gets
  int source;      // the lane it takes from
};

[[noreturn]] inline void fail(const char* what) {
  fprintf(stderr, "emulated kernel: %s\n", what);
  abort();
}

inline int environment(const char* name, int otherwise) {
  const char* text = getenv(name);
  return text && *text ? atoi(text) : otherwise;
}

// One block at a time, for the whole process.
class Machine {
 public:
  static Machine& get() {
    static Machine machine;
    return machine;
  }

  template <class Body>
  void run(dim3 grid, dim3 block, size_t shared, const Body& body) {
    const std::lock_guard<std::mutex> lock(mutex_);
    read_order();
    count_ = static_cast<int>(block.x * block.y * block.z);
    while (static_cast<int>(fibers_.size()) < count_) add_fiber();
    call_ = [](const void* b) { (*static_cast<const Body*>(b))(); };
    body_ = &body;
    gridDim = grid, blockDim = block;
    const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
    for (uint64_t i = 0; i < blocks; ++i) {
      const uint64_t at = block_order(i, blocks);
      blockIdx = {static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                  static_cast<unsigned>(at / grid.x / grid.y)};
      if (posix_memalign(&shared_, 128, shared ? shared : 1)) fail("out of memory");
      memset(shared_, 0xff, shared);
      run_block();
      free(shared_);
    }
  }

  void* shared() const { return shared_; }

  void barrier(const char* file, int line) { pause(Wait::kBlock, file, line); }

  // Exchanges values between the lanes of `mask`: each gives `value` and gets what lane `source` gave.
  uint64_t shuffle(uint32_t mask, uint64_t value, int source, const char* file, int line) {
    const int lane = current_ % kWarpSize, first = current_ - lane;
    Fiber& self = fibers_[current_];
    if (!(mask >> lane & 1)) fail_at("a lane that is not in the mask of its own shuffle", file, line);
    if (!(mask >> source & 1)) fail_at("a shuffle takes from a lane that is not in its mask", file, line);
    self.mask = mask, self.value = value, self.source = source, self.file = file, self.line = line;
    self.wait = Wait::kWarp;
    for (int i = 0; i < kWarpSize; ++i)
      if ((mask >> i & 1) && (first + i >= count_ || fibers_[first + i].wait != Wait::kWarp)) {
        yield();
        return fibers_[current_].value;
      }
    exchange(first, mask, file, line);
    return self.value;
  }

 private:
  enum class Order { kForward, kReverse, kShuffle };

  void read_order() {
    const char* name = getenv("MMVIM_EMULATE_ORDER");
    order_ = !name || !*name || !strcmp(name, "forward") ? Order::kForward
             : !strcmp(name, "reverse")                  ? Order::kReverse
                                                         : Order::kShuffle;
    if (order_ == Order::kShuffle && strcmp(name, "shuffle")) fail("MMVIM_EMULATE_ORDER must be forward, reverse or shuffle");
  }

  uint64_t random() {  // xorshift: the same sequence in every process
    seed_ ^= seed_ << 13, seed_ ^= seed_ >> 7, seed_ ^= seed_ << 17;
    return seed_;
  }

  uint64_t block_order(uint64_t i, uint64_t blocks) {
    if (order_ == Order::kForward) return i;
    if (order_ == Order::kReverse) return blocks - 1 - i;
    // A step that has no factor in common with the number of blocks visits each of them once.
    uint64_t step = blocks / 2 + 1;
    const auto common = [](uint64_t a, uint64_t b) {
      while (b) a %= b, std::swap(a, b);
      return a;
    };
    while (common(step, blocks) != 1) ++step;
    return (i * step + blocks / 3) % blocks;
  }

  void add_fiber() {
    void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) fail("out of memory for stacks");
    mprotect(stack, kPageBytes, PROT_NONE);  // an overflow ends here
    fibers_.emplace_back();
    fibers_.back().stack = static_cast<char*>(stack);
  }

  void run_block() {
    turns_.resize(count_);
    for (int i = 0; i < count_; ++i) {
      Fiber& f = fibers_[i];
      const unsigned n = static_cast<unsigned>(i);
      f.index = {n % blockDim.x, n / blockDim.x % blockDim.y, n / blockDim.x / blockDim.y};
      f.wait = Wait::kNothing;
      f.context = fresh_context(f.stack, kStackBytes, &Machine::enter);
      turns_[i] = order_ == Order::kReverse ? count_ - 1 - i : i;
    }
    int done = 0;
    while (done < count_) {
      if (order_ == Order::kShuffle)
        for (int i = count_ - 1; i > 0; --i) std::swap(turns_[i], turns_[random() % (i + 1)]);
      bool moved = false;
      int waiting = 0;
      done = 0;
      for (const int i : turns_) {
        if (fibers_[i].wait == Wait::kNothing) resume(i), moved = true;
        done += fibers_[i].wait == Wait::kDone;
        waiting += fibers_[i].wait == Wait::kBlock;
      }
      if (moved || done == count_) continue;
      if (done + waiting < count_) stuck();
      release();
    }
  }

  // All that have not ended wait at a barrier: it must be the same one.
  void release() {
    const Fiber* first = nullptr;
    for (int i = 0; i < count_; ++i) {
      Fiber& f = fibers_[i];
      if (f.wait != Wait::kBlock) continue;
      if (!first) first = &f;
      if (f.line != first->line || strcmp(f.file, first->file)) stuck();
      f.wait = Wait::kNothing;
    }
  }

  [[noreturn]] void stuck() {
    fprintf(stderr, "emulated kernel: threads of block (%u, %u, %u) wait for each other\n", blockIdx.x, blockIdx.y, blockIdx.z);
    for (int i = 0, shown = 0; i < count_ && shown < 40; ++i) {
      const Fiber& f = fibers_[i];
      const auto same = [&](const Fiber& g) { return g.wait == f.wait && g.line == f.line && g.file == f.file; };
      if (i && same(fibers_[i - 1])) continue;
      ++shown;
      if (f.wait == Wait::kDone)
        fprintf(stderr, "  from thread %d: ended\n", i);
      else
        fprintf(stderr, "  from thread %d: at a %s, %s:%d\n", i, f.wait == Wait::kBlock ? "barrier" : "shuffle", f.file, f.line);
    }
    abort();
  }

  [[noreturn]] void fail_at(const char* what, const char* file, int line) {
    fprintf(stderr, "emulated kernel: %s, thread %d, %s:%d\n", what, current_, file, line);
    abort();
  }

  void exchange(int first, uint32_t mask, const char* file, int line) {
    uint64_t given[kWarpSize];
    for (int i = 0; i < kWarpSize; ++i)
      if (mask >> i & 1) {
        const Fiber& f = fibers_[first + i];
        if (f.mask != mask || f.line != line || strcmp(f.file, file)) fail_at("lanes of one shuffle disagree about it", file, line);
        given[i] = f.value;
      }
    for (int i = 0; i < kWarpSize; ++i)
      if (mask >> i & 1) fibers_[first + i].value = given[fibers_[first + i].source], fibers_[first + i].wait = Wait::kNothing;
  }

  void pause(Wait wait, const char* file, int line) {
    Fiber& f = fibers_[current_];
    f.wait = wait, f.file = file, f.line = line;
    yield();
  }

  void resume(int i) {
    current_ = i;
    Fiber& f = fibers_[i];
    threadIdx = f.index;
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, f.stack, kStackBytes);
#endif
    switch_stack(&main_, f.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  }

  void yield() {
    Fiber& f = fibers_[current_];
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(f.wait == Wait::kDone ? nullptr : &f.fake_stack, main_stack_, main_stack_bytes_);
#endif
    switch_stack(&f.context, main_);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(f.fake_stack, &main_stack_, &main_stack_bytes_);
#endif
  }

  static void enter() {
    Machine& m = get();
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &m.main_stack_, &m.main_stack_bytes_);
#endif
    m.call_(m.body_);
    m.fibers_[m.current_].wait = Wait::kDone;
    m.yield();
    fail("a thread that has ended was resumed");
  }

  std::mutex mutex_;
  std::vector<Fiber> fibers_;
  std::vector<int> turns_;
  Context main_{};
#if defined(__SANITIZE_ADDRESS__)
  const void* main_stack_ = nullptr;
  size_t main_stack_bytes_ = 0;
#endif
  void (*call_)(const void*) = nullptr;
  const void* body_ = nullptr;
  void* shared_ = nullptr;
  int count_ = 0, current_ = 0;
  Order order_ = Order::kForward;
  uint64_t seed_ = 88172645463325252u;
};

inline void* shared_memory() { return Machine::get().shared(); }

// What the emulated card has; H200's unless the environment says otherwise.
inline int multiprocessors() { return environment("MMVIM_EMULATE_MULTIPROCESSORS", 132); }
inline int shared_limit() { return environment("MMVIM_EMULATE_SHARED_MEMORY", 227 * 1024); }

template <class... Parameters, class... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, cudaStream_t,
                   const Arguments&... arguments) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  const bool empty = !threads || !grid.x || !grid.y || !grid.z;
  if (empty || threads > kMaxThreads || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 ||
      shared > static_cast<size_t>(shared_limit()))
    return cudaErrorInvalidConfiguration;
  Machine::get().run(grid, block, shared, [&] { kernel(arguments...); });
  return cudaSuccess;
}

template <class T>
T shuffle(uint32_t mask, T value, int source, const char* file, int line) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  bits = Machine::get().shuffle(mask, bits, source, file, line);
  memcpy(&value, &bits, sizeof(T));
  return value;
}

inline int lane() {
  return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % kWarpSize);
}

}  // namespace mmvim::emulate

// Macros, so that a message can name the line.
#define __syncthreads() mmvim::emulate::Machine::get().barrier(__FILE__, __LINE__)
#define __shfl_xor_sync(mask, value, bits) \
  mmvim::emulate::shuffle(mask, value, mmvim::emulate::lane() ^ (bits), __FILE__, __LINE__)

inline cudaError_t cudaGetLastError() { return cudaSuccess; }
