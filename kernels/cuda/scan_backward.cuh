// Gradients of the scan. A block takes kGroup channels of one batch element and walk through one segment, from its
// last tile to its first, and recomputes the states of a tile from those that the forward pass left where it begins.
//
// With g = dL/dh, a = exp(delta A) and h' the state before a step:
//   g_t = C_t dy_t + a_{t+1} g_{t+1}      dB_t = sum over channels of g delta u      dC_t = sum over channels of dy h
//   s1 = sum_n g B,  s2 = sum_n g a h' A:  du = delta s1 + D dy,  ddelta = u s1 + s2,  dA += g a h' delta
// What goes from step to step is the carry a g. a h' is formed as a product and not as h - delta u B, which cancels
// where a is small. "First" and "before" are meant in walking order, which is also the order of a tile's rows.
//
// With several segments, `aggregate_kernel` finds the carry that leaves each of them if none enters, and `carry_kernel`
// makes of these the ones that enter. Sums over channels, batch or walks are written as parts for reduce.cuh to add up.
#pragma once
#include "scan_backward_tile.cuh"

namespace mmvim::cuda {

// ---- carries from segment to segment --------------------------------------------------------------------------------

// Of all segments but the first: the carry that leaves it if none enters, and the sum of its deltas.
template <class IO, int N>
__global__ void __launch_bounds__(Layout<N>::warps* kWarp, 16 / Layout<N>::warps)
    aggregate_kernel(const BackwardWork w) {
  using L = Layout<N>;
  MMVIM_SHARED(AggregateTile<N>, tile);
  const ScanBackward& p = w.p;
  const Site& at = tile->at;
  if (threadIdx.x == 0) tile->at = find_site(w, blockIdx.x, 1);
  __syncthreads();
  const Part<N> part;
  float carry[L::per_lane], a[L::per_lane], total = 0.0f;
  for (int n = 0; n < L::per_lane; ++n) carry[n] = 0.0f;
  load_a(w, Home<N>(w, at, part, 0), a);
  for (int turn = at.end - 1; turn >= at.begin; --turn) {
    if (threadIdx.x < kTile) find_step(w, at, turn, threadIdx.x, tile->rows);
    __syncthreads();
    stage_steps<IO, L::warps, false>(w, at, tile->rows, tile->projection, tile->step);
    for (int chunk = 0; chunk < (N ? L::chunk : static_cast<int>(p.states)); chunk += L::chunk) {
      const Home<N> home(w, at, part, chunk);
      if constexpr (!N) {
        load_a(w, home, a);
        load_states<N>(w.carry + home.carry, p.channels, turn == at.end - 1 ? 0 : home.count, carry);
      }
      stage_b_c<IO>(w, chunk, *tile);
      __syncthreads();
      const auto pass = [&](int i) {
        const float4 step = tile->step[i][part.slot];
        const Own<N> c = read<N>(&tile->bc[i][L::chunk + part.piece * L::per_lane]);
#pragma unroll
        for (int n = 0; n < L::per_lane; ++n) carry[n] = exp2_approx(step.x * a[n]) * (c.v[n] * step.z + carry[n]);
        if (!chunk) total += step.x;
      };
      if (tile->rows.token[0] == kPadding) {
#pragma unroll 1
        for (int i = kTile - 1; tile->rows.token[i] != kPadding; --i) pass(i);
      } else {
#pragma unroll 4
        for (int i = kTile - 1; i >= 0; --i) pass(i);
      }
      if constexpr (!N) store_states<N>(carry, p.channels, home.count, w.carry + home.carry);
      __syncthreads();
    }
  }
  const Home<N> home(w, at, part, 0);
  if constexpr (N != 0) store_states<N>(carry, p.channels, home.count, w.carry + home.carry);
  if (home.channel < p.channels && part.piece == 0)
    w.total_delta[(at.segment * p.batch * p.walks.count + at.slice) * p.channels + home.channel] = total;
}

// Turns these into the carries that enter: one thread for each (batch, walk, state, channel), from the last segment on.
constexpr int kCarryThreads = 128;
template <class IO>
__global__ void __launch_bounds__(kCarryThreads) carry_kernel(const BackwardWork w) {
  const ScanBackward& p = w.p;
  const int64_t slices = p.batch * p.walks.count;
  const int64_t i = int64_t{blockIdx.x} * kCarryThreads + threadIdx.x;
  const int64_t channel = i % p.channels, n = i / p.channels % p.states, slice = i / p.channels / p.states;
  if (slice >= slices) return;
  const int64_t walk = slice % p.walks.count;
  const float a = static_cast<const float*>(p.a.data)[walk * p.a.walk + channel * p.states + n];
  float entering = 0.0f;
  for (int64_t segment = w.cut.count - 1; segment > 0; --segment) {
    const int64_t here = segment * slices + slice;
    float* carry = w.carry + (here * p.states + n) * p.channels + channel;
    // As in the forward pass: a sum of finite deltas is finite, and nothing stays nothing.
    const float decay = exp2_approx(finite(w.total_delta[here * p.channels + channel]) * a);
    const float leaving = *carry + (entering == 0.0f ? 0.0f : decay * entering);
    *carry = entering;
    entering = leaving;
  }
  w.carry[(slice * p.states + n) * p.channels + channel] = entering;
}

// ---- the adjoint ----------------------------------------------------------------------------------------------------

// Values of dB and dC that are added up over a warp's channels together: of one step or, where that fills the lanes
// better, of several.
template <int N>
struct Gather {
  static constexpr int per_step = 2 * Layout<N>::per_lane;
  static constexpr int count = Layout<N>::lanes == 4 ? 8 : 16;
  static constexpr int steps = count / per_step;
};

// Adds up each of `Count` values over the lanes that differ in `Bit` and all higher bits. A lane is left with one sum,
// number `owned_sum`; lanes that have the same one all hold it. Takes half the shuffles of one sum at a time or fewer.
template <int Count, int Bit>
__device__ __forceinline__ float sum_channels(const float (&v)[Count], int lane) {
  if constexpr (Bit == kWarp) {
    return v[0];
  } else if constexpr (Count == 1) {
    const float sum[1] = {v[0] + __shfl_xor_sync(kAllLanes, v[0], Bit)};
    return sum_channels<1, 2 * Bit>(sum, lane);
  } else {
    const bool upper = lane & Bit;
    float half[Count / 2];
#pragma unroll
    for (int i = 0; i < Count / 2; ++i) {
      const float keep = upper ? v[Count / 2 + i] : v[i], give = upper ? v[i] : v[Count / 2 + i];
      half[i] = keep + __shfl_xor_sync(kAllLanes, give, Bit);
    }
    return sum_channels<Count / 2, 2 * Bit>(half, lane);
  }
}
template <int Count, int Bit>
__device__ __forceinline__ int owned_sum(int lane) {
  if constexpr (Count == 1)
    return 0;
  else
    return (lane & Bit ? Count / 2 : 0) + owned_sum<Count / 2, 2 * Bit>(lane);
}

// Leaves the states before each micro tile but the last in shared memory, the one before the last in `h`. Rows before
// `from` are padding.
template <int N>
__device__ __forceinline__ void sweep(AdjointTile<N>& tile, const Part<N>& part, int from,
                                      const float (&a)[Layout<N>::per_lane], Own<N>& h) {
  using L = Layout<N>;
  const auto advance = [&](int i) {
    const float4& step = tile.step[i][part.slot];
    const Own<N> b = read<N>(&tile.bc[i][part.piece * L::per_lane]);
#pragma unroll
    for (int n = 0; n < L::per_lane; ++n) h.v[n] = exp2_approx(step.x * a[n]) * h.v[n] + step.y * b.v[n];
  };
  const auto keep = [&](int micro) { *reinterpret_cast<Own<N>*>(tile.before[micro][threadIdx.x]) = h; };
  int micro = from / kMicro;
  if (from % kMicro && micro < kMicros - 1) {
    keep(micro++);
#pragma unroll 1
    for (int i = from; i < micro * kMicro; ++i) advance(i);
  }
#pragma unroll 1
  for (; micro < kMicros - 1; ++micro) {
    keep(micro);
#pragma unroll
    for (int i = 0; i < kMicro; ++i) advance(micro * kMicro + i);
  }
}

// 1 - 2^-x, the derivative of softplus where softplus is x in base 2; by a series where the difference loses digits.
MMVIM_HD float softplus_slope(float x) {
  const float y = kLn2f * x;
  const float series = y * (1.0f + y * (-0.5f + y * (0.166666667f + y * -0.0416666667f)));
  return x < 0.0625f ? series : 1.0f - exp2_approx(-x);
}

__device__ __forceinline__ float load_skip(const ScanBackward& p, const Site& at, int64_t channel) {
  return p.skip.data ? static_cast<const float*>(p.skip.data)[at.path.walk * p.skip.walk + channel] : 0.0f;
}

// What comes of the sums of a step: du, ddelta, y and what it adds to dD.
__device__ __forceinline__ float4 finish_step(const ScanBackward& p, const float4& step, float skip, float s1, float s2,
                                              float y) {
  const float slope = p.delta_softplus ? softplus_slope(step.x) : 1.0f;
  float du = step.x * kLn2f * s1;
  if (p.skip.data) du += skip * step.z, y += skip * step.w;  // without D not even 0 times an infinite u
  return make_float4(du, (step.w * s1 + s2) * slope, y, step.z * step.w);
}

// Adds up s1, s2 and y over the lanes of a channel and writes them, or adds them to what other chunks have left.
template <int N>
__device__ __forceinline__ void deliver_sums(AdjointTile<N>& tile, const Part<N>& part, int i, bool add, float s1,
                                             float s2, float y) {
  constexpr int plane = AdjointTile<N>::plane;
  float* to = tile.sums + i * kGroup + part.slot;
  const auto put = [&](int which, float x) { to[which * plane] = add ? to[which * plane] + x : x; };
  if constexpr (Layout<N>::lanes == 2) {
    const float both[2] = {s1, s2}, last[2] = {y, 0.0f};
    put(part.piece, transpose_sum<2>(both, part.piece));
    const float sum = transpose_sum<2>(last, part.piece);
    if (!part.piece) put(2, sum);
  } else {
    const float all[4] = {s1, s2, y, 0.0f};
    const float sum = transpose_sum<4>(all, part.piece);
    if (part.piece < 3) put(part.piece, sum);
  }
}

// One micro tile: its decays and states forwards from `before`, then the carry backwards.
//
// `Whole`: all rows are steps, and all lanes have a channel. Otherwise states and carries pass by padding, which A = -inf
// would make NaN, and lanes without a channel stay out of sums over channels, as does a state beyond the last (`count` of
// a thread's exist) out of all sums: 0 times infinity is NaN. Decays are then found twice, for registers are short.
template <bool Whole, int N>
__device__ __forceinline__ void adjoint(const ScanBackward& p, AdjointTile<N>& tile, const Part<N>& part, int micro,
                                        int count, bool add, float skip, const float (&a)[Layout<N>::per_lane],
                                        const Own<N>& before, float (&carry)[Layout<N>::per_lane],
                                        float (&da)[Layout<N>::per_lane]) {
  using L = Layout<N>;
  using G = Gather<N>;
  constexpr int S = L::per_lane;
  const int lane = threadIdx.x % kWarp, first = micro * kMicro;
  const bool here = Whole || tile.at.channel + part.slot < p.channels;
  const auto is_step = [&](int i) { return Whole || tile.rows.token[first + i] != kPadding; };
  float decay[kMicro][S], h[kMicro][S];
#pragma unroll
  for (int i = 0; i < kMicro; ++i) {
    const float4& step = tile.step[first + i][part.slot];
    const Own<N> b = read<N>(&tile.bc[first + i][part.piece * S]);
#pragma unroll
    for (int n = 0; n < S; ++n) {
      decay[i][n] = is_step(i) ? exp2_approx(step.x * a[n]) : 1.0f;
      h[i][n] = decay[i][n] * (i ? h[i - 1][n] : before.v[n]) + step.y * b.v[n];
    }
  }
  const int owned = owned_sum<G::count, L::lanes>(lane);  // its step, then dB or dC, then its state
  const int column = owned % G::per_step / S * L::chunk + part.piece * S + owned % S;
  float* to = &tile.part[micro % 2][threadIdx.x / kWarp][owned / G::per_step][column];
  float values[G::count];
#pragma unroll
  for (int i = kMicro - 1; i >= 0; --i) {
    const float4 step = tile.step[first + i][part.slot];  // delta log2 e, delta u, dy, u
    const float* bc = &tile.bc[first + i][part.piece * S];
    const Own<N> b = read<N>(bc), c = read<N>(bc + L::chunk);
    float s1 = 0.0f, s2 = 0.0f, y = 0.0f;
    const int at = i % G::steps * G::per_step;
#pragma unroll
    for (int n = 0; n < G::per_step; ++n) values[at + n] = 0.0f;
    if (is_step(i)) {
#pragma unroll
      for (int n = 0; n < S; ++n) {
        if (!N && n >= count) continue;
        const float g = c.v[n] * step.z + carry[n];
        carry[n] = g * (Whole ? decay[i][n] : exp2_approx(step.x * a[n]));
        const float q = carry[n] * (i ? h[i - 1][n] : before.v[n]);
        s1 += g * b.v[n];
        s2 += q * a[n];
        y += h[i][n] * c.v[n];
        da[n] += q * step.x;
        values[at + n] = here ? g * step.y : 0.0f;
        values[at + S + n] = here ? step.z * h[i][n] : 0.0f;
      }
      if constexpr (L::lanes == 1)
        tile.step[first + i][part.slot] = finish_step(p, step, skip, s1, s2, y);
      else
        deliver_sums(tile, part, first + i, add, s1, s2, y);
    }
    if (i % G::steps == 0) {
      const float sum = sum_channels<G::count, L::lanes>(values, lane);
      if (lane < G::count * L::lanes) to[i * 2 * L::chunk] = sum;
    }
  }
}

// dB and dC of a micro tile: the sums over warps.
template <int N>
__device__ __forceinline__ void deliver_b_c(const BackwardWork& w, const Site& at, const AdjointTile<N>& tile,
                                            int micro, int chunk) {
  using L = Layout<N>;
  const ScanBackward& p = w.p;
  const int64_t first_row = (at.group * p.batch * p.walks.count + at.slice) * param_rows(p);
  for (int e = threadIdx.x; e < kMicro * 2 * L::chunk; e += L::warps * kWarp) {
    const int i = e / (2 * L::chunk), column = e % (2 * L::chunk), n = chunk + column % L::chunk;
    const int row = tile.rows.param[micro * kMicro + i];
    if (row < 0 || n >= p.states) continue;
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < L::warps; ++j) sum += tile.part[micro % 2][j][i][column];
    (column < L::chunk ? w.db : w.dc)[(first_row + row) * p.states + n] = sum;
  }
}

// The value at `base` in row at[j], where that is not negative, becomes x[j].
template <class T>
__device__ __forceinline__ void store_rows(T* base, const int* at, int64_t channels, const float (&x)[kMicro]) {
  const MicroRows rows = read_rows(at);
  const uint32_t bytes = static_cast<uint32_t>(channels) * sizeof(T);
#pragma unroll
  for (int j = 0; j < kMicro; ++j)
    if (rows.at[j] >= 0) store(at_row(base, rows.at[j], bytes), x[j]);
}

// Writes the rows of du, ddelta and y of a tile, micro tiles by warps and channels by lanes.
template <class IO, int N>
__device__ __forceinline__ void deliver_rows(const BackwardWork& w, const Site& at, AdjointTile<N>& tile, int from) {
  using L = Layout<N>;
  const ScanBackward& p = w.p;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t channel = at.channel + lane;
  if (channel >= p.channels) return;
  const float skip = load_skip(p, at, channel);
  float dskip = tile.dskip[threadIdx.x], dbias = tile.dbias[threadIdx.x];
  const int64_t u_at = at.slice * u_rows(p) * p.channels + channel;
  const int64_t param_at = at.slice * param_rows(p) * p.channels + channel;
#pragma unroll 1
  for (int i = warp * kMicro; i < kTile; i += L::warps * kMicro) {
    if (i + kMicro <= from) continue;
    float du[kMicro], ddelta[kMicro], y[kMicro];
#pragma unroll
    for (int j = 0; j < kMicro; ++j) {
      float4 step = tile.step[i + j][lane];
      if constexpr (L::lanes > 1) {
        const float* sum = tile.sums + (i + j) * kGroup + lane;
        step = finish_step(p, step, skip, sum[0], sum[tile.plane], sum[2 * tile.plane]);
      }
      du[j] = step.x, ddelta[j] = step.y, y[j] = step.z;
      if (i + j >= from) dbias += step.y, dskip += step.w;  // else it is padding
    }
    if (w.du)
      store_rows(w.du + u_at, tile.rows.u + i, p.channels, du);
    else
      store_rows(static_cast<IO*>(p.du) + u_at, tile.rows.u + i, p.channels, du);
    if (w.ddelta)
      store_rows(w.ddelta + param_at, tile.rows.param + i, p.channels, ddelta);
    else
      store_rows(static_cast<IO*>(p.ddelta) + param_at, tile.rows.param + i, p.channels, ddelta);
    if (w.y) store_rows(w.y + at.slice * p.walks.tokens * p.channels + channel, tile.rows.token + i, p.channels, y);
  }
  tile.dskip[threadIdx.x] = dskip, tile.dbias[threadIdx.x] = dbias;
}

// dD and dbias of this segment's steps: the sums over warps.
template <int N>
__device__ __forceinline__ void deliver_channels(const BackwardWork& w, const Site& at, const AdjointTile<N>& tile) {
  const ScanBackward& p = w.p;
  const int64_t channel = at.channel + threadIdx.x;
  if (threadIdx.x >= kGroup || channel >= p.channels) return;
  float dskip = 0.0f, dbias = 0.0f;
  for (int i = threadIdx.x; i < Layout<N>::warps * kWarp; i += kWarp) dskip += tile.dskip[i], dbias += tile.dbias[i];
  const int64_t to = (at.segment * p.batch * p.walks.count + at.slice) * p.channels + channel;
  if (w.dskip) w.dskip[to] = dskip;
  if (w.dbias) w.dbias[to] = dbias;
}

// What was added up has delta in base 2, the complete sum is to have it in base e.
template <int N>
__device__ __forceinline__ void store_da(const BackwardWork& w, const Home<N>& home, float (&da)[Layout<N>::per_lane],
                                         bool complete) {
  if (complete)
    for (float& x : da) x *= kLn2f;
  store_states<N>(da, 1, home.count, w.da + home.da);
}

// KiB of shared memory of a multiprocessor, of which each block also takes one for the system.
#if !defined(__CUDA_ARCH__) || (__CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1200)
constexpr int kSharedKiB = 228;
#elif __CUDA_ARCH__ == 750
constexpr int kSharedKiB = 64;
#elif __CUDA_ARCH__ == 800
constexpr int kSharedKiB = 164;
#else
constexpr int kSharedKiB = 100;
#endif

// Blocks whose tiles fit a multiprocessor: no more need to share its registers. Chunks of states need registers more
// than company.
template <int N>
constexpr int kBlocks = N == 0 && kSharedKiB == 228 ? 3 : kSharedKiB * 1024 / (sizeof(AdjointTile<N>) + 1024);

template <class IO, int N>
__global__ void __launch_bounds__(Layout<N>::warps* kWarp, kBlocks<N>) adjoint_kernel(const BackwardWork w) {
  using L = Layout<N>;
  constexpr int S = L::per_lane;
  MMVIM_SHARED(AdjointTile<N>, tile);
  const ScanBackward& p = w.p;
  const Site& at = tile->at;
  if (threadIdx.x == 0) tile->at = find_site(w, blockIdx.x, 0);
  __syncthreads();
  const Part<N> part;
  tile->dskip[threadIdx.x] = tile->dbias[threadIdx.x] = 0.0f;
  const float skip = L::lanes == 1 ? load_skip(p, at, smaller(at.channel + part.slot, p.channels - 1)) : 0.0f;

  float carry[S], a[S], da[S];
  if constexpr (N != 0) {
    const Home<N> home(w, at, part, 0);
    load_a(w, home, a);
    load_carry(w, home, false, carry);
    for (int n = 0; n < S; ++n) da[n] = 0.0f;
  }
  for (int turn = at.end - 1; turn >= at.begin; --turn) {
    if (threadIdx.x < kTile) find_step(w, at, turn, threadIdx.x, tile->rows);
    __syncthreads();
    stage_steps<IO, L::warps, true>(w, at, tile->rows, tile->sums, tile->step);
    const int from = padding(w, at.path, turn);
    for (int chunk = 0; chunk < (N ? L::chunk : static_cast<int>(p.states)); chunk += L::chunk) {
      const Home<N> home(w, at, part, chunk);
      if constexpr (!N) {
        const bool resumed = turn < at.end - 1;
        load_a(w, home, a);
        load_carry(w, home, resumed, carry);
        load_states<N>(w.da + home.da, 1, resumed ? home.count : 0, da);
      }
      Own<N> h;
      load_saved(w, at, home, turn, h.v);
      stage_b_c<IO>(w, chunk, *tile);
      __syncthreads();
      sweep(*tile, part, from, a, h);
#pragma unroll 1
      for (int micro = kMicros - 1;; --micro) {
        const bool add = N == 0 && chunk > 0;
        if (micro * kMicro >= from && at.channel + kGroup <= p.channels)
          adjoint<true>(p, *tile, part, micro, home.count, add, skip, a, h, carry, da);
        else
          adjoint<false>(p, *tile, part, micro, home.count, add, skip, a, h, carry, da);
        __syncthreads();
        deliver_b_c(w, at, *tile, micro, chunk);
        if (micro == from / kMicro) break;
        h = read<N>(tile->before[micro - 1][threadIdx.x]);
      }
      if constexpr (!N) {
        store_states<N>(carry, p.channels, home.count, w.carry + home.carry);
        store_da<N>(w, home, da, turn == at.begin);
      }
    }
    deliver_rows<IO>(w, at, *tile, from);
    __syncthreads();
  }
  if constexpr (N != 0) {
    const Home<N> home(w, at, part, 0);
    store_da<N>(w, home, da, true);
  }
  deliver_channels(w, at, *tile);
}

}  // namespace mmvim::cuda
