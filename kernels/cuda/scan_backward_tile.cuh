// What a block of the backward pass has in shared memory: where it stands, and the inputs of a tile, in walking order;
// and what a thread has in registers of a channel's states.
#pragma once
#include "scan_backward_work.cuh"

namespace mmvim::cuda {

// Steps of which a thread holds decays and states in registers.
constexpr int kMicro = 8;
constexpr int kMicros = kTile / kMicro;

// Which part of the work a block does.
struct Site {
  Path path;
  int group, segment, begin, end;  // begin, end: of the segment's tiles
  int64_t batch, slice, channel;   // slice: of all (batch, walk); channel: the group's first
};

MMVIM_HD Site find_site(const BackwardWork& w, unsigned block, int first_segment) {
  Site at;
  at.group = static_cast<int>(block % w.groups), block /= w.groups;
  const int k = static_cast<int>(block % w.walks);
  block /= w.walks;
  const int kind = w.p.walks.table ? 0 : static_cast<int>(w.kinds >> (2 * k) & 3);
  at.path = {w.first_walk + k, (kind & 1) != 0, (kind & 2) != 0};
  const unsigned batch = static_cast<unsigned>(w.p.batch);
  at.batch = block % batch, at.segment = first_segment + static_cast<int>(block / batch);
  at.begin = at.segment * static_cast<int>(w.cut.length);
  at.end = static_cast<int>(smaller(at.begin + w.cut.length, w.cut.tiles));
  at.slice = at.batch * w.p.walks.count + at.path.walk;
  at.channel = int64_t{at.group} * kGroup;
  return at;
}

// Rows of a tile: of u, of delta, B and C, and the token; negative where there is none. Where the walk has fewer steps
// the padding comes first: a state or a carry passes through it unchanged.
struct Steps {
  __align__(16) int u[kTile], param[kTile], token[kTile];
};

// Those of a micro tile, read at once.
struct __align__(16) MicroRows {
  int at[kMicro];
};
__device__ __forceinline__ MicroRows read_rows(const int* rows) { return *reinterpret_cast<const MicroRows*>(rows); }

// Row `row` of memory whose first row is at `base`: one multiply-add.
template <class T>
__device__ __forceinline__ T* at_row(T* base, int row, uint32_t bytes) {
  using Bytes = std::conditional_t<std::is_const_v<T>, const char, char>;
  return reinterpret_cast<T*>(reinterpret_cast<Bytes*>(base) + uint64_t{static_cast<uint32_t>(row)} * bytes);
}

// Rows of the tile that are padding; `turn` counts the tiles in walking order.
MMVIM_HD int padding(const BackwardWork& w, const Path& path, int turn) {
  const bool partial = turn == (path.descending ? 0 : static_cast<int>(w.cut.tiles) - 1);
  return partial ? static_cast<int>(w.cut.tiles * kTile - w.p.walks.steps) : 0;
}

__device__ __forceinline__ void find_step(const BackwardWork& w, const Site& at, int turn, int i, Steps& rows) {
  const ScanBackward& p = w.p;
  const int front = padding(w, at.path, turn);
  int step = kPadding, token = kPadding;
  if (i >= front) {
    const int steps = static_cast<int>(p.walks.steps);
    const int before = at.path.descending ? static_cast<int>(w.cut.tiles) * kTile - steps : front;
    step = turn * kTile + i - before;
    token = token_at(p.walks, at.path, at.path.descending ? steps - 1 - step : step);
  }
  rows.u[i] = p.u_step ? step : token;
  rows.param[i] = p.param_step ? step : token;
  rows.token[i] = token;
}

// ---- a tile in shared memory ----------------------------------------------------------------------------------------

// Ranks of a low-rank delta that are gone through at once, and the room that takes.
constexpr int kRanks = 16, kRowOfRanks = kTile + 4;
constexpr int kProjection = kRanks * (kGroup + 1) + kRanks * kRowOfRanks;

template <int N>
struct Staged {
  float4 step[kTile][kGroup];  // delta log2 e, delta u, dy, u
  __align__(16) float bc[kTile][2 * Layout<N>::chunk];
  Steps rows;
  Site at;  // here and not in registers, which the recurrence needs all of
};

template <int N>
struct AggregateTile : Staged<N> {
  __align__(16) float projection[kProjection];
};

template <int N>
struct AdjointTile : Staged<N> {
  using L = Layout<N>;
  static constexpr int plane = kTile * kGroup + 8;  // the lanes that write all planes at once hit different banks
  __align__(16) float before[kMicros - 1][L::warps * kWarp][L::per_lane];  // states before all but the last micro tile
  __align__(16) float part[2][L::warps][kMicro][2 * L::chunk];             // dB, dC of a micro tile, a warp's channels
  // Over states: s1, s2, y. Not where one thread has them all; before they are there, what projects delta.
  __align__(16) float sums[L::lanes == 1 ? kProjection : 3 * plane - 8];
  float dskip[L::warps * kWarp], dbias[L::warps * kWarp];  // what a thread adds up for the channel whose rows it writes
};
static_assert(sizeof(AdjointTile<16>) <= 48 * 1024);  // what a kernel gets without asking
static_assert(kProjection <= sizeof(AdjointTile<16>::sums) / sizeof(float));

// The states of a channel that a thread holds, read and written at once.
template <int N>
struct __align__(sizeof(float) * Layout<N>::per_lane) Own {
  float v[Layout<N>::per_lane];
};
template <int N>
MMVIM_HD Own<N> read(const float* from) {
  return *reinterpret_cast<const Own<N>*>(from);
}

// step[row][channel].x = (dt_weight @ delta) of the tile. Any rank fits: a few are staged at a time.
template <class IO, int Warps>
__device__ __forceinline__ void project_delta(const BackwardWork& w, const Site& at, const Steps& rows, float* scratch,
                                              float4 (*step)[kGroup]) {
  const ScanBackward& p = w.p;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const float* weight = static_cast<const float*>(p.dt_weight.data) + at.path.walk * p.dt_weight.walk;
  const IO* delta = slice<IO>(p.delta, at.batch, at.path.walk);
  float *weights = scratch, *low = scratch + kRanks * (kGroup + 1);  // [rank][channel], [rank][row]
  for (int64_t first = 0; first < p.rank; first += kRanks) {
    const int count = static_cast<int>(smaller(kRanks, p.rank - first));
    if (first) __syncthreads();
    const int r = lane % kRanks;
    if (r < count)
      for (int i = warp * 2 + lane / kRanks; i < kTile; i += Warps * 2) {
        const int64_t channel = smaller(at.channel + i, p.channels - 1);
        const int row = rows.param[i];
        weights[r * (kGroup + 1) + i] = weight[channel * p.rank + first + r];
        low[r * kRowOfRanks + i] = row >= 0 ? to_float(at_row(delta, row, w.delta_row)[first + r]) : 0.0f;
      }
    __syncthreads();
    for (int i = warp * kMicro; i < kTile; i += Warps * kMicro) {
      float sum[kMicro];
#pragma unroll
      for (int j = 0; j < kMicro; ++j) sum[j] = first ? step[i + j][lane].x : 0.0f;
      for (int r = 0; r < count; ++r) {
        const float w = weights[r * (kGroup + 1) + lane];
        const float4* x = reinterpret_cast<const float4*>(low + r * kRowOfRanks + i);
        const float4 x0 = x[0], x1 = x[1];
        sum[0] += w * x0.x, sum[1] += w * x0.y, sum[2] += w * x0.z, sum[3] += w * x0.w;
        sum[4] += w * x1.x, sum[5] += w * x1.y, sum[6] += w * x1.z, sum[7] += w * x1.w;
      }
#pragma unroll
      for (int j = 0; j < kMicro; ++j) step[i + j][lane].x = sum[j];
    }
  }
}

// x[j] = the value at `base` in row at[j], 0 where that is negative. All loads are under way before one is waited for.
template <class T>
__device__ __forceinline__ void load_rows(const T* base, const MicroRows& rows, uint32_t bytes, float (&x)[kMicro]) {
#pragma unroll
  for (int j = 0; j < kMicro; ++j) x[j] = rows.at[j] >= 0 ? to_float(*at_row(base, rows.at[j], bytes)) : 0.0f;
}
__device__ __forceinline__ void load_gradient(const BackwardWork& w, const Site& at, int64_t channel,
                                              const MicroRows& token, float (&x)[kMicro]) {
  const Rows& grad = w.p.grad;
  if (w.p.grad_type == DType::kFloat32)
    load_rows(slice<float>(grad, at.batch, at.path.walk) + channel, token, w.grad_row, x);
  else if (w.p.grad_type == DType::kBFloat16)
    load_rows(slice<__nv_bfloat16>(grad, at.batch, at.path.walk) + channel, token, w.grad_row, x);
  else
    load_rows(slice<__half>(grad, at.batch, at.path.walk) + channel, token, w.grad_row, x);
}

// Fills in step[][], micro tiles by warps and channels by lanes. The states need u, their adjoint does not.
template <class IO, int Warps, bool WithU>
__device__ __forceinline__ void stage_steps(const BackwardWork& w, const Site& at, const Steps& rows, float* scratch,
                                            float4 (*step)[kGroup]) {
  const ScanBackward& p = w.p;
  if (p.rank) project_delta<IO, Warps>(w, at, rows, scratch, step);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t channel = at.channel + lane;
  if (channel >= p.channels) {
    for (int i = warp; i < kTile; i += Warps) step[i][lane] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    return;
  }
  const float* bias = static_cast<const float*>(p.bias.data);
  const float bias2 = bias ? bias[at.path.walk * p.bias.walk + channel] * kLog2e : 0.0f;
  const float scale = static_cast<float>(p.scale);
#pragma unroll 1
  for (int i = warp * kMicro; i < kTile; i += Warps * kMicro) {
    const MicroRows param = read_rows(rows.param + i), token = read_rows(rows.token + i);
    float raw[kMicro], u[kMicro] = {}, dy[kMicro], z[kMicro];
    if constexpr (WithU)
      load_rows(slice<IO>(p.u, at.batch, at.path.walk) + channel, read_rows(rows.u + i), w.u_row, u);
    load_gradient(w, at, channel, token, dy);
    if (p.rank) {
#pragma unroll
      for (int j = 0; j < kMicro; ++j) raw[j] = step[i + j][lane].x;
    } else {
      load_rows(slice<IO>(p.delta, at.batch, at.path.walk) + channel, param, w.delta_row, raw);
    }
    if (p.z.data) {
      load_rows(slice<IO>(p.z, at.batch, 0) + channel, token, w.z_row, z);
#pragma unroll
      for (int j = 0; j < kMicro; ++j) dy[j] *= token.at[j] >= 0 ? silu(z[j]) : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kMicro; ++j) {
      const float v2 = raw[j] * kLog2e + bias2, dt2 = p.delta_softplus ? softplus2(v2) : v2;
      const float delta = param.at[j] == kPadding ? 0.0f : dt2;
      step[i + j][lane] = make_float4(delta, delta * (kLn2f * u[j]), dy[j] * scale, u[j]);
    }
  }
}

// Puts B and C of states [first, first + chunk) into shared memory. A thread stays in its column.
template <class IO, int N>
__device__ __forceinline__ void stage_b_c(const BackwardWork& w, int first, Staged<N>& tile) {
  const ScanBackward& p = w.p;
  constexpr int chunk = Layout<N>::chunk, at_once = Layout<N>::warps * kWarp / (2 * chunk);
  const int column = threadIdx.x % (2 * chunk), n = first + column % chunk;
  const IO* from = slice<IO>(column < chunk ? p.b : p.c, tile.at.batch, tile.at.path.walk) + n;
  const uint32_t bytes = column < chunk ? w.b_row : w.c_row;
#pragma unroll 4
  for (int i = threadIdx.x / (2 * chunk); i < kTile; i += at_once) {
    const int row = tile.rows.param[i];
    tile.bc[i][column] = row >= 0 && n < p.states ? to_float(*at_row(from, row, bytes)) : 0.0f;
  }
}

// ---- the part of a thread -------------------------------------------------------------------------------------------

// While states are gone through, a thread has `per_lane` of them of one channel, from piece * per_lane on.
template <int N>
struct Part {
  using L = Layout<N>;
  int slot, piece;  // slot: the channel

  __device__ __forceinline__ Part() {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    slot = warp * L::channels_per_warp + lane / L::lanes, piece = lane % L::lanes;
  }
};

// The first `count` of a thread's states from and to memory, the others are 0.
template <int N>
__device__ __forceinline__ void load_states(const float* from, int64_t stride, int count,
                                            float (&to)[Layout<N>::per_lane]) {
#pragma unroll
  for (int n = 0; n < Layout<N>::per_lane; ++n) to[n] = n < count ? from[n * stride] : 0.0f;
}
template <int N>
__device__ __forceinline__ void store_states(const float (&from)[Layout<N>::per_lane], int64_t stride, int count,
                                             float* to) {
#pragma unroll
  for (int n = 0; n < Layout<N>::per_lane; ++n)
    if (n < count) to[n * stride] = from[n];
}

// Where a thread's states of a chunk lie in memory.
template <int N>
struct Home {
  int count;  // of states that exist
  int64_t a, da, carry, saved, channel;

  __device__ __forceinline__ Home(const BackwardWork& w, const Site& at, const Part<N>& part, int chunk) {
    const ScanBackward& p = w.p;
    const int first = chunk + part.piece * Layout<N>::per_lane;
    channel = at.channel + part.slot;
    count = channel < p.channels ? static_cast<int>(p.states) - first : 0;
    a = at.path.walk * p.a.walk + channel * p.states + first;
    const int64_t slice = at.segment * p.batch * p.walks.count + at.slice;
    da = (slice * p.channels + channel) * p.states + first;
    carry = (slice * p.states + first) * p.channels + channel;
    saved = (at.slice * (w.cut.tiles - 1) * p.states + first) * p.channels + channel;
  }
};

template <int N>
__device__ __forceinline__ void load_a(const BackwardWork& w, const Home<N>& home, float (&a)[Layout<N>::per_lane]) {
  load_states<N>(static_cast<const float*>(w.p.a.data) + home.a, 1, home.count, a);
}

// The carry that enters a segment, or goes on with it where states come in chunks.
template <int N>
__device__ __forceinline__ void load_carry(const BackwardWork& w, const Home<N>& home, bool resumed,
                                           float (&carry)[Layout<N>::per_lane]) {
  if (!resumed && w.cut.count == 1)
    for (float& x : carry) x = 0.0f;
  else
    load_states<N>(w.carry + home.carry, w.p.channels, home.count, carry);
}

// The states that the forward pass left where a tile begins.
template <int N>
__device__ __forceinline__ void load_saved(const BackwardWork& w, const Site& at, const Home<N>& home, int turn,
                                           float (&h)[Layout<N>::per_lane]) {
  const ScanBackward& p = w.p;
  if (turn == 0) {
    for (float& x : h) x = 0.0f;
  } else {
    const int64_t boundary = at.path.descending ? w.cut.tiles - 1 - turn : turn - 1;
    const float* saved = static_cast<const float*>(p.saved) + boundary * p.states * p.channels;
    load_states<N>(saved + home.saved, p.channels, home.count, h);
  }
}

}  // namespace mmvim::cuda
