// What an operator is called with, as every device's kernels see it: plain structs of pointers, sizes and strides (in
// elements). No torch.
#pragma once
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
  void* saved;       // (batch, walks, ceil(steps / kTile) - 1, states, channels), kTile of walk.h, or null
  void* last_state;  // (batch, walks, channels, states)
};

// Each device's api.h says of what type gradients are, and which of them may be null: not wanted. Those summed over channels or batch are sums of
// partial results in a fixed order: the same bits each time.
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
  void *dx, *dweight, *dbias;  // as in ScanBackward
};

}  // namespace mmvim
