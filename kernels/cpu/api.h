// The CPU kernels as seen from outside: plain structs of pointers, sizes and strides (in elements). No torch.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace mmvim {

enum class DType : int { kFloat32, kFloat64, kBFloat16, kFloat16 };

// A tensor indexed (batch, walk, row, channel) whose channels lie next to each other; a walk stride of 0 shares one
// slice between all walks. `data` is null where an optional tensor is absent.
struct Rows {
  const void* data = nullptr;
  int64_t batch = 0, walk = 0, row = 0;
};

// A contiguous (walk, ...) parameter in the state type.
struct Parameter {
  const void* data = nullptr;
  int64_t walk = 0;
};

// Runs `body(context)` on up to `workers` threads at once and returns when all are done. Kernels hand out their units
// of work by an atomic counter, so it is no matter how many of the workers really run.
struct Pool {
  int64_t threads = 1;
  void (*run)(int64_t workers, void (*body)(void*), void* context) = nullptr;
};

struct Walks {
  int64_t count, steps, tokens, height, width;
  const int64_t* kinds;  // null when `table` is given
  const int32_t* table;  // (count, steps), -1 = no token
};

struct ScanInputs {
  Walks walks;
  int64_t batch, channels, states, rank;  // rank 0: delta holds one value per channel
  bool delta_softplus, u_step, param_step, merge;
  double scale;
  DType io;  // of u, delta, b, c, z. The state type is float64 for float64 and float32 for all others
  Rows u, delta, b, c, z;
  Parameter a, skip, bias, dt_weight;
};

struct ScanForward : ScanInputs {
  DType out;
  void* y;           // (batch, tokens, channels), or (batch, walks, tokens, channels) when not merged
  void* saved;       // (batch, walks, ceil(steps / kTile) - 1, states, channels), or null
  void* last_state;  // (batch, walks, channels, states)
};

// Gradients are in the state type. Null: not wanted. Those summed over channels or batch are sums of partial results in
// a fixed order, so nothing depends on the number of threads.
struct ScanBackward : ScanInputs {
  DType grad_type;
  Rows grad;
  const void* saved;  // `states` of the forward pass
  void *du, *ddelta, *da, *db, *dc, *dskip, *dz, *dbias, *ddt_weight;
  bool u_shared, delta_shared, b_shared, c_shared, a_shared, skip_shared, bias_shared, dt_weight_shared;
};

struct ConvInputs {
  Walks walks;
  int64_t batch, channels, taps;
  bool silu, step;
  DType io;  // of x and of the output
  Rows x;
  const void* weight;  // (walks, channels, taps), state type
  const void* bias;    // (walks, channels), state type, or null
};

struct ConvForward : ConvInputs {
  void* y;  // (batch, walks, tokens | steps, channels)
};

struct ConvBackward : ConvInputs {
  Rows grad;
  void *dx, *dweight, *dbias;  // state type; dbias may be null
};

struct Kernels {
  const char* name;
  void (*scan)(const ScanForward&, const Pool&);
  void (*scan_backward)(const ScanBackward&, const Pool&);
  void (*walk_conv)(const ConvForward&, const Pool&);
  void (*walk_conv_backward)(const ConvBackward&, const Pool&);
};

// The best set this processor runs; MMVIM_CPU_ISA = base | avx2 | avx512 asks for a lower one.
const Kernels& kernels();

// 64-byte aligned memory. With MMVIM_POISON=1 it is filled with NaN, so that a read of what nobody wrote shows.
void* allocate(size_t bytes);
void release(void* memory);
bool poison();

}  // namespace mmvim
