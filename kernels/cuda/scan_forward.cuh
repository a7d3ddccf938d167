// The scan, forward. A block takes 32 channels of one batch element along one segment of a route; its halves are the
// route's ascending and descending walk. Each tile is gone through in three phases:
//   load     rows of u and delta, one lane per channel; softplus
//   recur    N states of a channel in Layout<N>::lanes lanes; with one lane per channel this is one phase with `load`
//   deliver  rows of outputs, one lane per channel: into the sum over walks, or gated into y
// Walks that are cut into segments are gone through twice: `kOutputs` = false finds each segment's end state from zero
// and the sum of its delta; a small kernel in scan_forward.cu turns these into the states at the segments' beginnings.
#pragma once
#include "tile.cuh"

namespace mmvim::cuda {

constexpr int kMostPaths = 32;

struct ForwardArguments {
  ScanForward p;
  Segments segments;
  int64_t groups;  // of kGroup channels
  float* sum;      // (batch, tokens, channels): where walks add up; may be y itself
  float* states;   // (batch, walks, segments, states, channels), segments in walking order: of their ends, or beginnings
  float* totals;   // (batch, walks, segments, channels): sum of delta log2 e
  // With outputs: the route, and whether it is the first or the last to add to `sum`.
  Route route;
  bool first, last;
  // Without: the walks, and which of them goes how.
  int first_walk, walks;
  uint8_t kinds[kMostPaths];
};

// What a half of a block has in shared memory.
template <int N>
struct ForwardMemory {
  using L = Layout<N>;
  static constexpr bool direct = L::lanes == 1;  // a lane keeps delta and u to itself
  // Lanes of a warp write y in `lanes` rows at once, of channels_per_warp channels each: in different banks.
  static constexpr int y_stride = kGroup + (direct ? 0 : L::channels_per_warp);

  TileRows* rows;  // of this tile and of the next, by turns
  float* bc;       // [B, C][row][chunk]
  float* y;        // [row][y_stride]
  float2* input;   // [row][channel]: delta log2 e and delta u
  float* weight;   // [rank][channel]
  float* low;      // [row][rank]
  float* h;        // [chunk][channel][state in chunk], for any number of states

  MMVIM_HD int64_t chunks(const ScanInputs& p) { return N ? 1 : ceil_div(p.states, L::chunk); }

  // Lays it out from `base` on; returns its size.
  MMVIM_HD size_t lay(char* base, const ScanInputs& p, ForwardMemory& m) {
    const int padded = padded_rank(p.rank);
    size_t used = 0;
    const auto take = [&](size_t bytes) {
      used += bytes;
      return base + (used - bytes);
    };
    m.rows = reinterpret_cast<TileRows*>(take(2 * sizeof(TileRows)));
    m.bc = reinterpret_cast<float*>(take(2 * kTile * L::chunk * sizeof(float)));
    m.y = reinterpret_cast<float*>(take(kTile * y_stride * sizeof(float)));
    m.input = reinterpret_cast<float2*>(take(direct ? 0 : kTile * kGroup * sizeof(float2)));
    m.weight = reinterpret_cast<float*>(take(padded * kGroup * sizeof(float)));
    m.low = reinterpret_cast<float*>(take(padded * kTile * sizeof(float)));
    m.h = reinterpret_cast<float*>(take(N ? 0 : chunks(p) * L::chunk * kGroup * sizeof(float)));
    return used;
  }

  MMVIM_HD size_t bytes(const ScanInputs& p) {
    char nowhere;
    ForwardMemory unused;
    return lay(&nowhere, p, unused);
  }
};

// A half of a block: one walk, one group of channels, one segment.
template <int N, class IO, bool kOutputs>
class ForwardHalf {
 public:
  using L = Layout<N>;
  using Memory = ForwardMemory<N>;
  static constexpr int kThreads = L::warps * kWarp;
  static constexpr bool kDirect = Memory::direct;

  MMVIM_DEVICE ForwardHalf(const ForwardArguments& a, const Memory& m, const Path& path, int64_t batch,
                                  int64_t group, int64_t segment)
      : a(a), p(a.p), m(m), path(path), batch(batch), first_channel(group * kGroup) {
    thread = static_cast<int>(threadIdx.x) % kThreads, lane = thread % kWarp, warp = thread / kWarp;
    first_tile = segment * a.segments.length;
    tiles = static_cast<int>(smaller(a.segments.length, a.segments.tiles - first_tile));
    order = path.descending ? a.segments.count - 1 - segment : segment;
    // Lanes beyond the last channel load the last one's values and store nothing.
    channel = smaller(first_channel + lane, p.channels - 1);
    owned = warp * L::channels_per_warp + lane / L::lanes;
    owned_channel = smaller(first_channel + owned, p.channels - 1);
    skip = kOutputs ? parameter(p.skip) : 0.0f;
    bias2 = parameter(p.bias) * kLog2e;
    if (p.rank) stage_dt_weight(p, path.walk, first_channel, m.weight, thread, kThreads);
    find_rows(0);
    begin_states();
  }

  MMVIM_DEVICE int64_t tile(int visit) const {
    return path.descending ? first_tile + tiles - 1 - visit : first_tile + visit;
  }

  // Where the tile of this visit lies, for whoever stages or loads it.
  MMVIM_DEVICE void find_rows(int visit) {
    if (visit < tiles && thread < kTile) find_row(p, path, batch, tile(visit), thread, m.rows[visit & 1]);
  }

  // What all channels of the tile share. For any number of states, `recur` stages B and C itself.
  MMVIM_DEVICE void stage(int visit) {
    if (visit >= tiles) return;
    const TileRows& rows = m.rows[visit & 1];
    if (p.rank) stage_low_rank<IO>(p, batch, path.walk, rows, m.low, thread, kThreads);
    if (N) stage_chunk(rows, 0);
  }

  MMVIM_DEVICE void load(int visit) {
    constexpr int kRows = kTile / L::warps, kBatch = 8;
    const TileRows& rows = m.rows[visit & 1];
    const IO* u = static_cast<const IO*>(p.u.data) + channel;
    const IO* delta = static_cast<const IO*>(p.delta.data) + channel;
    const float* weight = m.weight + lane;
#pragma unroll 1
    for (int i = warp * kRows; i < (warp + 1) * kRows; i += kBatch) {
      float x[kBatch], v2[kBatch];
      load_u(rows, u, i, x);
      load_raw_delta(p, rows, delta, m.low, weight, i, bias2, v2);
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const float dt2 = finish_delta(p, rows, i + j, v2[j]), dx = dt2 * (kLn2f * x[j]);
        if (!kOutputs) total += dt2;
        if constexpr (kDirect) {
          const float y = step(m.bc + (i + j) * L::chunk, dt2, dx, skip * x[j]);
          if (kOutputs) m.y[(i + j) * Memory::y_stride + lane] = y;
        } else {
          m.input[(i + j) * kGroup + lane] = make_float2(dt2, dx);
          if (kOutputs) m.y[(i + j) * Memory::y_stride + lane] = skip * x[j];
        }
      }
    }
  }

  // The recurrence over a tile, where channels have several lanes.
  MMVIM_DEVICE void recur(int visit) {
    if constexpr (N) {
      recur_chunk();
    } else {
      const TileRows& rows = m.rows[visit & 1];
      for (int chunk = 0; chunk < chunks(); ++chunk) {
        if (chunk) __syncthreads();
        stage_chunk(rows, chunk);
        fetch_chunk(chunk);
        __syncthreads();
        recur_chunk();
        put_back_chunk(chunk);
        keep_states(visit, chunk);
      }
    }
  }

  // Hands this walk's rows [0, count) of the visit's tile on; `other`, where given, is y of the half that goes through
  // the same tile the other way. `read`: others have added to the sum before; `final`: nobody will after.
  MMVIM_DEVICE void deliver(int visit, int count, const float* other, bool read, bool final) {
    constexpr int kBatch = L::warps == 1 ? 8 : 16 / L::warps;
    const TileRows& rows = m.rows[visit & 1];
    if (first_channel + lane >= p.channels) return;
    const int64_t L0 = batch * p.walks.tokens;
    const int64_t out0 = (p.merge ? batch : batch * p.walks.count + path.walk) * p.walks.tokens;
    const float scale = static_cast<float>(p.scale);
    const bool gate = final && p.z.data;
    const IO* z = static_cast<const IO*>(p.z.data) + batch * p.z.batch + channel;
#pragma unroll 1
    for (int i = warp * kBatch; i < count; i += kBatch * L::warps) {
      // All loads before the first store, which the compiler must assume to touch what is loaded.
      float y[kBatch], gates[kBatch];
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const int64_t token = rows.token[i + j];
        y[j] = gates[j] = 0.0f;
        if (token >= 0 && read) y[j] = a.sum[(L0 + token) * p.channels + channel];
        if (token >= 0 && gate) gates[j] = to_float(z[token * p.z.row]);
      }
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const int64_t token = rows.token[i + j];
        if (token < 0) continue;
        y[j] += m.y[(i + j) * Memory::y_stride + lane];
        if (other) y[j] += other[(kTile - 1 - i - j) * Memory::y_stride + lane];
        if (!final) {
          a.sum[(L0 + token) * p.channels + channel] = y[j];
          continue;
        }
        const float gated = y[j] * (gate ? scale * silu(gates[j]) : scale);
        store_as(p.out, p.y, (out0 + token) * p.channels + channel, gated);
      }
    }
  }

  // Stores the state that leaves the visit's tile where somebody wants it.
  MMVIM_DEVICE void keep_states(int visit, int chunk = 0) {
    if (first_channel + owned >= p.channels) return;
    const int64_t at = tile(visit), walk = batch * p.walks.count + path.walk, first = first_state(chunk);
    if (visit == tiles - 1 && !kOutputs) {
      float* to = a.states + (walk * a.segments.count + order) * p.states * p.channels + owned_channel;
      store_states(to, first, p.channels);
    }
    if (!kOutputs) return;
    if (at == (path.descending ? 0 : a.segments.tiles - 1)) {
      store_states(static_cast<float*>(p.last_state) + (walk * p.channels + owned_channel) * p.states, first, 1);
    } else if (p.saved) {
      const int64_t boundary = path.descending ? at - 1 : at;
      float* to = static_cast<float*>(p.saved) + (walk * (a.segments.tiles - 1) + boundary) * p.states * p.channels;
      store_states(to + owned_channel, first, p.channels);
    }
  }

  // Stores the segment's sum of delta, after a barrier that follows the last use of y.
  MMVIM_DEVICE void keep_total() {
    m.y[warp * kGroup + lane] = total;
    __syncthreads();
    if (warp > 0 || first_channel + lane >= p.channels) return;
    float sum = total;
    for (int w = 1; w < L::warps; ++w) sum += m.y[w * kGroup + lane];
    a.totals[((batch * p.walks.count + path.walk) * a.segments.count + order) * p.channels + channel] = sum;
  }

  int tiles;  // of the segment

 private:
  MMVIM_DEVICE float parameter(const Parameter& of) const {
    return of.data ? static_cast<const float*>(of.data)[path.walk * of.walk + channel] : 0.0f;
  }

  MMVIM_DEVICE int chunks() const { return static_cast<int>(m.chunks(p)); }

  // First state of this lane in a chunk.
  MMVIM_DEVICE int64_t first_state(int chunk) const { return chunk * L::chunk + lane % L::lanes * L::per_lane; }

  MMVIM_DEVICE void load_decays(int chunk) {
    const float* from = static_cast<const float*>(p.a.data) + path.walk * p.a.walk + owned_channel * p.states;
#pragma unroll
    for (int q = 0; q < L::per_lane; ++q) {
      const int64_t n = first_state(chunk) + q;
      decay[q] = N || n < p.states ? from[n] : 0.0f;
    }
  }

  // The state in front of the segment.
  MMVIM_DEVICE void load_states(int chunk) {
    const int64_t walk = batch * p.walks.count + path.walk;
    const float* from = a.states + (walk * a.segments.count + order) * p.states * p.channels + owned_channel;
#pragma unroll
    for (int q = 0; q < L::per_lane; ++q) {
      const int64_t n = first_state(chunk) + q;
      h[q] = kOutputs && order > 0 && (N || n < p.states) ? from[n * p.channels] : 0.0f;
    }
  }

  MMVIM_DEVICE void begin_states() {
    if constexpr (N) {
      load_decays(0);
      load_states(0);
    } else {
      for (int chunk = 0; chunk < chunks(); ++chunk) {
        load_states(chunk);
        put_back_chunk(chunk);
      }
    }
  }

  MMVIM_DEVICE float4* chunk_home(int chunk) {
    return reinterpret_cast<float4*>(m.h + (chunk * kGroup + owned) * L::chunk) + lane % L::lanes;
  }
  MMVIM_DEVICE void put_back_chunk(int chunk) { *chunk_home(chunk) = make_float4(h[0], h[1], h[2], h[3]); }
  MMVIM_DEVICE void fetch_chunk(int chunk) {
    const float4 v = *chunk_home(chunk);
    h[0] = v.x, h[1] = v.y, h[2] = v.z, h[3] = v.w;
    load_decays(chunk);
  }

  MMVIM_DEVICE void store_states(float* to, int64_t first, int64_t stride) const {
#pragma unroll
    for (int q = 0; q < L::per_lane; ++q)
      if (N || first + q < p.states) to[(first + q) * stride] = h[q];
  }

  MMVIM_DEVICE void stage_chunk(const TileRows& rows, int chunk) {
    const int first = chunk * L::chunk, states = static_cast<int>(p.states);
    stage_states<L::chunk, IO>(p.b, batch, path.walk, rows, first, states, m.bc, L::chunk, thread, kThreads);
    if (kOutputs)
      stage_states<L::chunk, IO>(p.c, batch, path.walk, rows, first, states, m.bc + kTile * L::chunk, L::chunk, thread,
                                 kThreads);
  }

  // One step of this lane's states; returns y plus their share of the output.
  MMVIM_DEVICE float step(const float* b, float dt2, float dx, float y) {
    const float* c = b + kTile * L::chunk;
    float bs[L::per_lane], cs[L::per_lane];
    load_vector(b, bs);
    if (kOutputs) load_vector(c, cs);
#pragma unroll
    for (int q = 0; q < L::per_lane; ++q) {
      h[q] = exp2_approx(dt2 * decay[q]) * h[q] + dx * bs[q];
      if (kOutputs) y += h[q] * cs[q];
    }
    return y;
  }

  template <int Count>
  MMVIM_DEVICE static void load_vector(const float* from, float (&to)[Count]) {
    static_assert(Count == 1 || Count == 2 || Count == 4);
    if constexpr (Count == 4) {
      const float4 v = *reinterpret_cast<const float4*>(from);
      to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
    } else if constexpr (Count == 2) {
      const float2 v = *reinterpret_cast<const float2*>(from);
      to[0] = v.x, to[1] = v.y;
    } else {
      to[0] = *from;
    }
  }

  // As many steps at once as a channel has lanes: their outputs are then added up together.
  MMVIM_DEVICE void recur_chunk() {
    const int part = lane % L::lanes;
    const float2* input = m.input + owned;
    const float* b = m.bc + part * L::per_lane;
    float* y = m.y + part * Memory::y_stride + owned;
#pragma unroll 2
    for (int i = 0; i < kTile; i += L::lanes) {
      float sums[L::lanes];
#pragma unroll
      for (int j = 0; j < L::lanes; ++j) {
        const float2 in = input[(i + j) * kGroup];
        sums[j] = step(b + (i + j) * L::chunk, in.x, in.y, 0.0f);
      }
      if (kOutputs) y[i * Memory::y_stride] += transpose_sum(sums, lane);
    }
  }

  const ForwardArguments& a;
  const ScanForward& p;
  const Memory& m;
  const Path path;
  const int64_t batch, first_channel;
  int64_t first_tile, order, channel, owned_channel;
  int thread, lane, warp, owned;  // owned: the channel of the group whose states this lane holds
  float skip, bias2, total = 0.0f;
  float decay[L::per_lane], h[L::per_lane];
};

template <int N, class IO>
__global__ void __launch_bounds__(2 * Layout<N>::warps* kWarp) scan_kernel(const ForwardArguments a) {
  MMVIM_SHARED(char, shared);
  constexpr int kThreads = Layout<N>::warps * kWarp;
  const int half = static_cast<int>(threadIdx.x) / kThreads;
  const int64_t size = static_cast<int64_t>(ForwardMemory<N>::bytes(a.p));
  ForwardMemory<N> memory;
  ForwardMemory<N>::lay(shared + half * size, a.p, memory);
  const float* const other = reinterpret_cast<float*>(reinterpret_cast<char*>(memory.y) + (half ? -size : size));
  const bool both = a.route.halves() == 2;
  const bool descending = half == 1 || a.route.ascending < 0;
  const Path path{descending ? a.route.descending : a.route.ascending, a.route.column, descending};
  int64_t index = blockIdx.x;
  const int64_t group = index % a.groups;
  index /= a.groups;
  const int64_t segment = index % a.segments.count, batch = index / a.segments.count;
  ForwardHalf<N, IO, true> me(a, memory, path, batch, group, segment);

  __syncthreads();
  me.stage(0);
  __syncthreads();
  for (int visit = 0; visit < me.tiles; ++visit) {
    me.find_rows(visit + 1);
    me.load(visit);
    if constexpr (!ForwardMemory<N>::direct) {
      __syncthreads();
      me.recur(visit);
    }
    if constexpr (N) me.keep_states(visit);
    __syncthreads();
    if (!a.p.merge) {
      me.deliver(visit, kTile, nullptr, false, true);
    } else {
      // Both halves are in one tile where their ways meet: each hands on its first rows, which are the other's last.
      const int met = both ? 2 * visit - (me.tiles - 1) : 0;
      const bool meet = both && met == 0;
      const bool before = both && met > 0, after = both && met < 0;
      me.deliver(visit, meet ? kTile / 2 : kTile, meet ? other : nullptr, before || !a.first,
                 !after && a.last);
    }
    me.stage(visit + 1);
    __syncthreads();
  }
}

template <int N, class IO>
__global__ void __launch_bounds__(Layout<N>::warps* kWarp) scan_aggregate_kernel(const ForwardArguments a) {
  MMVIM_SHARED(char, shared);
  ForwardMemory<N> memory;
  ForwardMemory<N>::lay(shared, a.p, memory);
  int64_t index = blockIdx.x;
  const int64_t group = index % a.groups;
  index /= a.groups;
  const int64_t order = index % (a.segments.count - 1);
  index /= a.segments.count - 1;
  const int local = static_cast<int>(index % a.walks), kind = a.kinds[local];
  const int64_t batch = index / a.walks;
  const Path path{a.first_walk + local, (kind & 1) != 0, (kind & 2) != 0};
  ForwardHalf<N, IO, false> me(a, memory, path, batch, group, path.descending ? a.segments.count - 1 - order : order);

  __syncthreads();
  me.stage(0);
  __syncthreads();
  for (int visit = 0; visit < me.tiles; ++visit) {
    me.find_rows(visit + 1);
    me.load(visit);
    if constexpr (!ForwardMemory<N>::direct) {
      __syncthreads();
      me.recur(visit);
    }
    if constexpr (N) me.keep_states(visit);
    __syncthreads();
    me.stage(visit + 1);
    __syncthreads();
  }
  me.keep_total();
}

// The launches that depend on the type of the inputs; each is instantiated in a file of its own.
template <class IO>
cudaError_t launch_scan(const ForwardArguments& a, cudaStream_t stream) {
  return with_states(a.p.states, [&](auto n) {
    constexpr int N = decltype(n)::value;
    const unsigned blocks = static_cast<unsigned>(a.p.batch * a.segments.count * a.groups);
    const unsigned halves = static_cast<unsigned>(a.route.halves());
    return launch(scan_kernel<N, IO>, blocks, halves * Layout<N>::warps * kWarp, halves * ForwardMemory<N>::bytes(a.p),
                  stream, a);
  });
}

template <class IO>
cudaError_t launch_scan_aggregate(const ForwardArguments& a, cudaStream_t stream) {
  return with_states(a.p.states, [&](auto n) {
    constexpr int N = decltype(n)::value;
    const unsigned blocks = static_cast<unsigned>(a.p.batch * a.walks * (a.segments.count - 1) * a.groups);
    return launch(scan_aggregate_kernel<N, IO>, blocks, Layout<N>::warps * kWarp, ForwardMemory<N>::bytes(a.p), stream, a);
  });
}

}  // namespace mmvim::cuda
