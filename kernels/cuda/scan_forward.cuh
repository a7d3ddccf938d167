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

// Blocks with two halves that a multiprocessor shall hold: what bounds the registers of a thread. No card may be asked
// for more than 16.
template <int N>
constexpr int kBlocksWanted = N == 0 ? 2 : Layout<N>::lanes == 1 ? 10 : 12 / Layout<N>::warps;

struct ForwardArguments {
  ScanForward p;
  Segments segments;
  int64_t groups;  // of kGroup channels
  // Bytes from one row to the next; those of sums are float32, those of y of its own type.
  uint32_t u_row, delta_row, b_row, c_row, z_row, sum_row, y_row;
  int staged_rank;  // columns of a low-rank delta in shared memory; 0 where it has none or too many
  float* sum;     // (batch, tokens, channels): where walks add up; may be y itself
  float* states;  // (batch, walks, segments, states, channels), segments in walking order: of their ends, or beginnings
  float* totals;  // (batch, walks, segments, channels): sum of delta log2 e
  // With outputs: the route, and whether it is the first or the last to add to `sum`.
  Route route;
  bool first, last;
  // Without: the walks, and which of them goes how.
  int first_walk, walks;
  uint8_t kinds[kMostPaths];
};

// Row `row` of memory whose first row is at `base`: one multiply-add.
template <class T>
MMVIM_DEVICE const T* at_row(const T* base, int row, uint32_t bytes) {
  return reinterpret_cast<const T*>(reinterpret_cast<const char*>(base) + uint64_t{static_cast<uint32_t>(row)} * bytes);
}
template <class T>
MMVIM_DEVICE T* at_row(T* base, int row, uint32_t bytes) {
  return const_cast<T*>(at_row(static_cast<const T*>(base), row, bytes));
}

// Rows of a tile in walking order: of u, of delta, B and C, and the token; negative where there is none.
struct ForwardRows {
  int u[kTile], param[kTile], token[kTile];
};

// What a half works on. In shared memory, since the compiler would spend registers on all of it all the time.
struct __align__(16) Place {
  // Where its slices of the tensors begin, in elements.
  int64_t u, delta, b, c, z;
  int64_t sum, y;              // token 0
  int64_t saved, last, begin;  // state 0 of the first boundary, of the walk's end, of the segment's beginning
  int walk, column, descending;
  int first_tile, tiles, order;  // of the segment, which is the order-th on the walk
};

// What a half of a block has in shared memory.
template <int N, bool kOutputs>
struct ForwardMemory {
  using L = Layout<N>;
  static constexpr bool direct = L::lanes == 1;  // a lane keeps delta and u to itself
  // Lanes of a warp write y in `lanes` rows at once, of channels_per_warp channels each: in different banks.
  static constexpr int y_stride = kGroup + (direct ? 0 : L::channels_per_warp);

  Place* at;
  float *skip, *bias2;  // [channel]; the bias in base 2
  ForwardRows* rows;  // of this tile and of the next, by turns
  float* bc;          // [B, C][row][chunk]
  float* y;           // [row][y_stride]; without outputs a row for each warp
  float2* input;      // [row][channel]: delta log2 e and delta u
  float* weight;      // [rank][channel]
  float4* low;        // [rank / 4][row]: four ranks of one row
  float* h;           // [chunk][channel][state in chunk], for any number of states

  MMVIM_HD int chunks(const ScanInputs& p) { return N ? 1 : static_cast<int>(ceil_div(p.states, L::chunk)); }

  // Lays it out from `base` on; returns its size.
  MMVIM_HD unsigned lay(char* base, const ForwardArguments& a, ForwardMemory& m) {
    unsigned used = 0;
    const auto take = [&](unsigned bytes) {
      used += bytes;
      return base + (used - bytes);
    };
    constexpr int kFloat = sizeof(float);
    m.at = reinterpret_cast<Place*>(take(sizeof(Place)));
    m.skip = reinterpret_cast<float*>(take(kGroup * kFloat));
    m.bias2 = reinterpret_cast<float*>(take(kGroup * kFloat));
    m.rows = reinterpret_cast<ForwardRows*>(take(2 * sizeof(ForwardRows)));
    m.bc = reinterpret_cast<float*>(take((kOutputs ? 2 : 1) * kTile * L::chunk * kFloat));
    m.y = reinterpret_cast<float*>(take((kOutputs ? kTile * y_stride : L::warps * kGroup) * kFloat));
    m.input = reinterpret_cast<float2*>(take(direct ? 0 : 2 * kTile * kGroup * kFloat));
    m.weight = reinterpret_cast<float*>(take(a.staged_rank * kGroup * kFloat));
    m.low = reinterpret_cast<float4*>(take(a.staged_rank * kTile * kFloat));
    m.h = reinterpret_cast<float*>(take(N ? 0 : chunks(a.p) * L::chunk * kGroup * kFloat));
    return used;
  }

  MMVIM_HD unsigned bytes(const ForwardArguments& a) {
    char nowhere;
    ForwardMemory unused;
    return lay(&nowhere, a, unused);
  }
};

// A half of a block: one walk, one group of channels, one segment.
template <int N, class IO, bool kOutputs>
class ForwardHalf {
 public:
  using L = Layout<N>;
  using Memory = ForwardMemory<N, kOutputs>;
  static constexpr int kThreads = L::warps * kWarp;
  static constexpr bool kDirect = Memory::direct;

  // Takes its place, which all threads of the half may ask for after a barrier.
  MMVIM_DEVICE ForwardHalf(const ForwardArguments& a, const Memory& m, const Path& path, int64_t batch, int64_t group,
                           int64_t segment)
      : a(a), p(a.p), m(m), first_channel(static_cast<int>(group) * kGroup) {
    thread = static_cast<int>(threadIdx.x) % kThreads, lane = thread % kWarp, warp = thread / kWarp;
    owned = warp * L::channels_per_warp + lane / L::lanes;
    if (warp > 0) return;
    if (lane == 0) *m.at = find_place(path, batch, segment);
    const int c = channel(lane);
    m.skip[lane] = parameter(p.skip, path.walk, c);
    m.bias2[lane] = parameter(p.bias, path.walk, c) * kLog2e;
  }

  MMVIM_DEVICE void begin() {
    if (a.staged_rank) stage_weight();
    find_rows(0);
    begin_states();
  }

  MMVIM_DEVICE int tiles() const { return m.at->tiles; }

  MMVIM_DEVICE int tile(int visit) const {
    return m.at->descending ? m.at->first_tile + m.at->tiles - 1 - visit : m.at->first_tile + visit;
  }

  // Where the tile of this visit lies, for whoever stages or loads it.
  MMVIM_DEVICE void find_rows(int visit) {
    if (visit >= tiles() || thread >= kTile) return;
    ForwardRows& rows = m.rows[visit & 1];
    const Path path{m.at->walk, m.at->column != 0, m.at->descending != 0};
    const int steps = static_cast<int>(p.walks.steps);
    const int position = tile(visit) * kTile + (path.descending ? kTile - 1 - thread : thread);
    int step = kPadding, token = kPadding;
    if (position < steps) {
      step = path.descending ? steps - 1 - position : position;
      token = token_at(p.walks, path, position);
    }
    rows.u[thread] = p.u_step ? step : token;
    rows.param[thread] = p.param_step ? step : token;
    rows.token[thread] = token;
  }

  // What all channels of the tile share. For any number of states, `recur` stages B and C itself.
  MMVIM_DEVICE void stage(int visit) {
    const ForwardRows& rows = m.rows[visit & 1];
    if (a.staged_rank) stage_low_rank(rows);
    if (N) stage_chunk(rows, 0);
  }

  // Loads a tile's u and delta, and where a channel has one lane, runs the recurrence as well.
  MMVIM_DEVICE void load(int visit) {
    if (is_whole(visit))
      load_rows<true>(m.rows[visit & 1]);
    else
      load_rows<false>(m.rows[visit & 1]);
  }

  // The recurrence over a tile, where channels have several lanes.
  MMVIM_DEVICE void recur(int visit) {
    if constexpr (N) {
      recur_chunk(visit);
    } else {
      const ForwardRows& rows = m.rows[visit & 1];
      for (int chunk = 0; chunk < m.chunks(p); ++chunk) {
        if (chunk) __syncthreads();
        stage_chunk(rows, chunk);
        fetch_chunk(chunk);
        __syncthreads();
        recur_chunk(visit);
        put_back_chunk(chunk);
        keep_states(visit, chunk);
      }
    }
  }

  // Whether others have added to the sum before (`read`), nobody will after this (`final`), and both halves of the
  // block go through the same tile now (`meet`): each then hands on its first rows, which are the other's last.
  struct Turn {
    bool read, final, meet;
  };

  // Hands the visit's outputs on; `other` is y of the block's other half.
  MMVIM_DEVICE void deliver(int visit, const Turn& turn, const float* other) {
    if (first_channel + lane >= p.channels) return;
    if (is_whole(visit))
      deliver_rows<true>(m.rows[visit & 1], turn, other);
    else
      deliver_rows<false>(m.rows[visit & 1], turn, other);
  }

  // Stores the state that leaves the visit's tile where somebody wants it.
  MMVIM_DEVICE void keep_states(int visit, int chunk = 0) {
    if (first_channel + owned >= p.channels) return;
    const int at = tile(visit), channels = static_cast<int>(p.channels), states = static_cast<int>(p.states);
    if (!kOutputs) {
      if (visit == tiles() - 1) store_states(a.states + m.at->begin + channel(owned), chunk, channels);
    } else if (at == (m.at->descending ? 0 : static_cast<int>(a.segments.tiles) - 1)) {
      store_states(static_cast<float*>(p.last_state) + m.at->last + int64_t{channel(owned)} * states, chunk, 1);
    } else if (p.saved) {
      const int boundary = m.at->descending ? at - 1 : at;
      float* to = static_cast<float*>(p.saved) + m.at->saved + channel(owned);
      store_states(to + int64_t{boundary} * (states * channels), chunk, channels);
    }
  }

  // Stores the segment's sum of delta.
  MMVIM_DEVICE void keep_total() {
    m.y[warp * kGroup + lane] = total;
    __syncthreads();
    if (warp > 0 || first_channel + lane >= p.channels) return;
    float sum = total;
    for (int w = 1; w < L::warps; ++w) sum += m.y[w * kGroup + lane];
    a.totals[m.at->begin / p.states + channel(lane)] = sum;
  }

 private:
  MMVIM_DEVICE Place find_place(const Path& path, int64_t batch, int64_t segment) const {
    const int64_t walk = batch * p.walks.count + path.walk, matrix = p.states * p.channels;
    Place at;
    at.u = batch * p.u.batch + path.walk * p.u.walk;
    at.delta = batch * p.delta.batch + path.walk * p.delta.walk;
    at.b = batch * p.b.batch + path.walk * p.b.walk;
    at.c = batch * p.c.batch + path.walk * p.c.walk;
    at.z = batch * p.z.batch;
    at.sum = batch * p.walks.tokens * p.channels;
    at.y = (p.merge ? batch : walk) * p.walks.tokens * p.channels;
    at.walk = path.walk, at.column = path.column, at.descending = path.descending;
    const int64_t first = segment * a.segments.length;
    at.first_tile = static_cast<int>(first);
    at.tiles = static_cast<int>(smaller(a.segments.length, a.segments.tiles - first));
    at.order = static_cast<int>(path.descending ? a.segments.count - 1 - segment : segment);
    at.saved = walk * (a.segments.tiles - 1) * matrix;
    at.last = walk * matrix;
    at.begin = (walk * a.segments.count + at.order) * matrix;
    return at;
  }

  MMVIM_DEVICE static float parameter(const Parameter& of, int walk, int channel) {
    return of.data ? static_cast<const float*>(of.data)[walk * of.walk + channel] : 0.0f;
  }

  // Channel `i` of the group. Beyond the last one it is the last: lanes without a channel load its values.
  MMVIM_DEVICE int channel(int i) const {
    const int last = static_cast<int>(p.channels) - 1;
    return first_channel + i < last ? first_channel + i : last;
  }

  MMVIM_DEVICE static const IO* typed(const Rows& rows) { return static_cast<const IO*>(rows.data); }

  // Whether every row of the visit's tile is there, and need not be asked one by one.
  MMVIM_DEVICE bool is_whole(int visit) const {
    return !p.walks.table && (tile(visit) + 1) * kTile <= static_cast<int>(p.walks.steps);
  }

  // First state of this lane in a chunk.
  MMVIM_DEVICE int first_state(int chunk) const { return chunk * L::chunk + lane % L::lanes * L::per_lane; }

  MMVIM_DEVICE void load_decays(int chunk) {
    const float* from = static_cast<const float*>(p.a.data) + m.at->walk * p.a.walk + channel(owned) * p.states;
    present = static_cast<int>(p.states) - first_state(chunk);
#pragma unroll
    for (int q = 0; q < L::per_lane; ++q) {
      const int n = first_state(chunk) + q;
      decay[q] = N || q < present ? from[n] : 0.0f;
    }
  }

  MMVIM_DEVICE void load_states(int chunk) {
    const float* from = a.states + m.at->begin + channel(owned);
#pragma unroll
    for (int q = 0; q < L::per_lane; ++q) {
      const int n = first_state(chunk) + q;
      h[q] = kOutputs && m.at->order > 0 && (N || n < p.states) ? from[n * p.channels] : 0.0f;
    }
  }

  MMVIM_DEVICE void begin_states() {
    if constexpr (N) {
      load_decays(0);
      load_states(0);
    } else {
      for (int chunk = 0; chunk < m.chunks(p); ++chunk) {
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

  MMVIM_DEVICE void store_states(float* to, int chunk, int stride) const {
#pragma unroll
    for (int q = 0; q < L::per_lane; ++q) {
      const int n = first_state(chunk) + q;
      if (N || n < p.states) to[int64_t{n} * stride] = h[q];
    }
  }

  // A thread keeps to one state, and neighbouring threads are on neighbouring states.
  MMVIM_DEVICE void stage_states(const IO* from, uint32_t bytes, const ForwardRows& rows, int chunk, float* to) {
    constexpr int kRows = kThreads / L::chunk;  // at once
    const int n = thread % L::chunk, state = chunk * L::chunk + n, first = thread / L::chunk;
    const bool here = N || state < p.states;
    float v[kTile / kRows];
#pragma unroll
    for (int j = 0; j < kTile / kRows; ++j) {
      const int row = rows.param[first + j * kRows];
      v[j] = row >= 0 && here ? to_float(*at_row(from + state, row, bytes)) : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kTile / kRows; ++j) to[(first + j * kRows) * L::chunk + n] = v[j];
  }

  MMVIM_DEVICE void stage_chunk(const ForwardRows& rows, int chunk) {
    stage_states(typed(p.b) + m.at->b, a.b_row, rows, chunk, m.bc);
    if (kOutputs) stage_states(typed(p.c) + m.at->c, a.c_row, rows, chunk, m.bc + kTile * L::chunk);
  }

  // This lane's row of the projection to delta.
  MMVIM_DEVICE const float* weight_row() const {
    return static_cast<const float*>(p.dt_weight.data) + m.at->walk * p.dt_weight.walk + channel(lane) * p.rank;
  }

  // weight = log2 e times the projection to delta; 0 beyond its rank.
  MMVIM_DEVICE void stage_weight() {
    const int rank = static_cast<int>(p.rank), padded = a.staged_rank;
    const float* from = weight_row();
#pragma unroll 4
    for (int r = warp; r < padded; r += L::warps) m.weight[r * kGroup + lane] = r < rank ? from[r] * kLog2e : 0.0f;
  }

  // low = the rows of a low-rank delta.
  MMVIM_DEVICE void stage_low_rank(const ForwardRows& rows) {
    constexpr int kColumns = 8, kRows = kThreads / kColumns;  // neighbouring threads on one row; rows at once
    const int rank = static_cast<int>(p.rank), padded = a.staged_rank, first = thread / kColumns;
    const IO* from = typed(p.delta) + m.at->delta;
#pragma unroll 1
    for (int r = thread % kColumns; r < padded; r += kColumns) {
      float* to = reinterpret_cast<float*>(m.low + r / 4 * kTile) + r % 4;
#pragma unroll
      for (int j = 0; j < kTile / kRows; ++j) {
        const int row = rows.param[first + j * kRows];
        to[(first + j * kRows) * 4] = row >= 0 && r < rank ? to_float(*at_row(from + r, row, a.delta_row)) : 0.0f;
      }
    }
  }

  // v2 = log2 e times what softplus is taken of, for rows from `i` on.
  template <bool kWhole, int Count>
  MMVIM_DEVICE void load_delta(const ForwardRows& rows, int i, float (&v2)[Count]) {
    const float bias2 = m.bias2[lane];
    if (!p.rank) {
      const IO* delta = typed(p.delta) + m.at->delta + channel(lane);
#pragma unroll
      for (int j = 0; j < Count; ++j) {
        const int row = rows.param[i + j];
        const float raw = kWhole || row >= 0 ? to_float(*at_row(delta, row, a.delta_row)) : 0.0f;
        v2[j] = raw * kLog2e + bias2;
      }
      return;
    }
#pragma unroll
    for (int j = 0; j < Count; ++j) v2[j] = bias2;
    if (!a.staged_rank) return project_unstaged(rows, i, v2);
    const float* weight = m.weight + lane;
    const float4* low = m.low + i;
    const float4* const end = low + a.staged_rank / 4 * kTile;
#pragma unroll 1
    for (; low != end; low += kTile, weight += 4 * kGroup) {
      const float w0 = weight[0], w1 = weight[kGroup], w2 = weight[2 * kGroup], w3 = weight[3 * kGroup];
#pragma unroll
      for (int j = 0; j < Count; ++j) {
        const float4 x = low[j];
        v2[j] = v2[j] + w0 * x.x;
        v2[j] = v2[j] + w1 * x.y;
        v2[j] = v2[j] + w2 * x.z;
        v2[j] = v2[j] + w3 * x.w;
      }
    }
  }

  // The projection with a rank that shared memory does not hold: slow, and for no model that is known.
  template <int Count>
  MMVIM_DEVICE void project_unstaged(const ForwardRows& rows, int i, float (&v2)[Count]) {
    const float* weight = weight_row();
    const IO* low = typed(p.delta) + m.at->delta;
#pragma unroll 1
    for (int r = 0; r < static_cast<int>(p.rank); ++r) {
      const float w = weight[r] * kLog2e;
#pragma unroll
      for (int j = 0; j < Count; ++j) {
        const int row = rows.param[i + j];
        if (row >= 0) v2[j] = v2[j] + w * to_float(*at_row(low + r, row, a.delta_row));
      }
    }
  }

  template <bool kWhole>
  MMVIM_DEVICE void load_rows(const ForwardRows& rows) {
    constexpr int kRows = kTile / L::warps, kBatch = L::per_lane < 4 ? 8 : 4;
    const IO* u = typed(p.u) + m.at->u + channel(lane);
    const float skip = kOutputs ? m.skip[lane] : 0.0f;
#pragma unroll 1
    for (int i = warp * kRows; i < (warp + 1) * kRows; i += kBatch) {
      float x[kBatch], dt2[kBatch];
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        const int row = rows.u[i + j];
        x[j] = kWhole || row >= 0 ? to_float(*at_row(u, row, a.u_row)) : 0.0f;
      }
      load_delta<kWhole>(rows, i, dt2);
      if (p.delta_softplus)
#pragma unroll
        for (int j = 0; j < kBatch; ++j) dt2[j] = softplus2(dt2[j]);
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        if (kWhole || rows.param[i + j] != kPadding) take_input(i + j, x[j], dt2[j], skip);
      }
    }
  }

  // D u; nothing where there is no D, even of an infinite u.
  MMVIM_DEVICE float skipped(float skip, float x) const { return p.skip.data ? skip * x : 0.0f; }

  // Has u and delta of one step.
  MMVIM_DEVICE void take_input(int i, float x, float dt2, float skip) {
    const float dx = dt2 * (kLn2f * x);
    if (!kOutputs) total += dt2;
    if constexpr (kDirect) {
      const float y = step(m.bc + i * L::chunk, dt2, dx, skipped(skip, x));
      if (kOutputs) m.y[i * Memory::y_stride + lane] = y;
    } else {
      m.input[i * kGroup + lane] = make_float2(dt2, dx);
      if (kOutputs) m.y[i * Memory::y_stride + lane] = skipped(skip, x);
    }
  }

  // One step of this lane's states; returns y plus their share of the output.
  MMVIM_DEVICE float step(const float* b, float dt2, float dx, float y) {
    const float* c = b + kTile * L::chunk;
    float bs[L::per_lane], cs[L::per_lane];
    load_vector(b, bs);
    if (kOutputs) load_vector(c, cs);
#pragma unroll
    for (int q = 0; q < L::per_lane; ++q) {
      if (!N && q >= present) continue;  // 0 times an infinite u is NaN
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

  // As many steps at once as a channel has lanes: their outputs are then added up together. Padding is left out: where A
  // is infinite it would not let states through.
  MMVIM_DEVICE void recur_chunk(int visit) {
    const int part = lane % L::lanes;
    int count = static_cast<int>(p.walks.steps) - tile(visit) * kTile;
    count = count < kTile ? count : kTile;
    const int first = m.at->descending ? kTile - count : 0;
    const float2* input = m.input + first * kGroup + owned;
    const float* b = m.bc + first * L::chunk + part * L::per_lane;
    float* y = m.y + (first + part) * Memory::y_stride + owned;
    constexpr int kBatch = 2 * L::lanes;
#pragma unroll 1
    for (; count >= kBatch; count -= kBatch) {
#pragma unroll
      for (int i = 0; i < kBatch; i += L::lanes) {
        float sums[L::lanes];
#pragma unroll
        for (int j = 0; j < L::lanes; ++j) {
          const float2 in = input[(i + j) * kGroup];
          sums[j] = step(b + (i + j) * L::chunk, in.x, in.y, 0.0f);
        }
        if (kOutputs) y[i * Memory::y_stride] += transpose_sum(sums, lane);
      }
      input += kBatch * kGroup, b += kBatch * L::chunk, y += kBatch * Memory::y_stride;
    }
#pragma unroll 1
    for (; count > 0; --count) {
      float sums[L::lanes] = {step(b, input->x, input->y, 0.0f)};
      const float sum = kOutputs ? transpose_sum(sums, lane) : 0.0f;
      if (kOutputs && part == 0) *y += sum;
      input += kGroup, b += L::chunk, y += Memory::y_stride;
    }
  }

  // Warps take kBatch rows at a time. All loads come before the first store, which could be to what is loaded for all
  // that the compiler knows.
  template <bool kWhole>
  MMVIM_DEVICE void deliver_rows(const ForwardRows& rows, const Turn& turn, const float* other) {
    constexpr int kBatch = L::warps == 1 ? 8 : 4;
    float* sum = a.sum + m.at->sum + channel(lane);
    const int count = turn.meet ? kTile / 2 : kTile;
#pragma unroll 1
    for (int i = warp * kBatch; i < count; i += kBatch * L::warps) {
      float y[kBatch];
      int token[kBatch];
#pragma unroll
      for (int j = 0; j < kBatch; ++j) {
        token[j] = rows.token[i + j];
        y[j] = m.y[(i + j) * Memory::y_stride + lane];
      }
      if (turn.meet)
#pragma unroll
        for (int j = 0; j < kBatch; ++j) y[j] += other[(kTile - 1 - i - j) * Memory::y_stride + lane];
      if (turn.read)
#pragma unroll
        for (int j = 0; j < kBatch; ++j)
          if (kWhole || token[j] >= 0) y[j] += *at_row(sum, token[j], a.sum_row);
      if (turn.final)
        finish<kWhole>(token, y);
      else
#pragma unroll
        for (int j = 0; j < kBatch; ++j)
          if (kWhole || token[j] >= 0) *at_row(sum, token[j], a.sum_row) = y[j];
    }
  }

  // Gates and writes the output.
  template <bool kWhole, int Count>
  MMVIM_DEVICE void finish(const int (&token)[Count], float (&y)[Count]) {
    const float scale = static_cast<float>(p.scale);
#pragma unroll
    for (int j = 0; j < Count; ++j) y[j] *= scale;
    if (p.z.data) {
      const IO* z = typed(p.z) + m.at->z + channel(lane);
#pragma unroll
      for (int j = 0; j < Count; ++j)
        if (kWhole || token[j] >= 0) y[j] *= silu(to_float(*at_row(z, token[j], a.z_row)));
    }
    const int64_t first = m.at->y + channel(lane);
    const auto write = [&](auto* to) {
#pragma unroll
      for (int j = 0; j < Count; ++j)
        if (kWhole || token[j] >= 0) store(at_row(to, token[j], a.y_row), y[j]);
    };
    if (p.out == DType::kFloat32)
      write(static_cast<float*>(p.y) + first);
    else if (p.out == DType::kBFloat16)
      write(static_cast<__nv_bfloat16*>(p.y) + first);
    else
      write(static_cast<__half*>(p.y) + first);
  }

  const ForwardArguments& a;
  const ScanForward& p;
  const Memory& m;
  const int first_channel;
  int thread, lane, warp;
  int owned;  // the channel of the group whose states this lane holds
  int present;  // of its states of a chunk: 0 or less, or so many that exist
  float total = 0.0f;
  float decay[L::per_lane], h[L::per_lane];
};

template <int N, class IO>
__global__ void __launch_bounds__(2 * Layout<N>::warps* kWarp, kBlocksWanted<N>) scan_kernel(const ForwardArguments a) {
  MMVIM_SHARED(char, shared);
  constexpr int kThreads = Layout<N>::warps * kWarp;
  const int half = static_cast<int>(threadIdx.x) / kThreads;
  using Memory = ForwardMemory<N, true>;
  const int size = static_cast<int>(Memory::bytes(a));
  Memory memory;
  Memory::lay(shared + half * size, a, memory);
  const float* const other = memory.y + (half ? -size : size) / static_cast<int>(sizeof(float));
  const bool both = a.route.halves() == 2;
  const bool descending = half == 1 || a.route.ascending < 0;
  const Path path{descending ? a.route.descending : a.route.ascending, a.route.column, descending};
  int64_t index = blockIdx.x;
  const int64_t group = index % a.groups;
  index /= a.groups;
  const int64_t segment = index % a.segments.count, batch = index / a.segments.count;
  ForwardHalf<N, IO, true> me(a, memory, path, batch, group, segment);
  __syncthreads();
  me.begin();
  __syncthreads();
  for (int visit = 0;; ++visit) {
    if (visit > 0) {
      const int met = both && a.p.merge ? 2 * (visit - 1) - (me.tiles() - 1) : 0;  // how long ago the halves met
      const bool before = met > 0 || !a.first, after = met < 0 || !a.last;
      me.deliver(visit - 1, {a.p.merge && before, !a.p.merge || !after, both && a.p.merge && met == 0}, other);
    }
    if (visit == me.tiles()) break;
    me.stage(visit);
    __syncthreads();
    me.find_rows(visit + 1);
    me.load(visit);
    if constexpr (!Memory::direct) {
      __syncthreads();
      me.recur(visit);
    }
    if constexpr (N) me.keep_states(visit);
    __syncthreads();
  }
}

template <int N, class IO>
__global__ void __launch_bounds__(Layout<N>::warps* kWarp, kBlocksWanted<N>)
    scan_aggregate_kernel(const ForwardArguments a) {
  MMVIM_SHARED(char, shared);
  using Memory = ForwardMemory<N, false>;
  Memory memory;
  Memory::lay(shared, a, memory);
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
  me.begin();
  __syncthreads();
  for (int visit = 0; visit < me.tiles(); ++visit) {
    me.stage(visit);
    __syncthreads();
    me.find_rows(visit + 1);
    me.load(visit);
    if constexpr (!Memory::direct) {
      __syncthreads();
      me.recur(visit);
    }
    if constexpr (N) me.keep_states(visit);
    __syncthreads();
  }
  me.keep_total();
}

// The launches that depend on the type of the inputs; each is instantiated in a file of its own.
template <class IO>
cudaError_t launch_scan(const ForwardArguments& a, cudaStream_t stream) {
  return with_states(a.p.states, [&](auto n) {
    constexpr int N = decltype(n)::value;
    const int64_t blocks = a.p.batch * a.segments.count * a.groups;
    const unsigned halves = static_cast<unsigned>(a.route.halves());
    const unsigned threads = halves * Layout<N>::warps * kWarp;
    return launch_blocks(scan_kernel<N, IO>, blocks, threads, halves * ForwardMemory<N, true>::bytes(a), stream, a);
  });
}

template <class IO>
cudaError_t launch_scan_aggregate(const ForwardArguments& a, cudaStream_t stream) {
  return with_states(a.p.states, [&](auto n) {
    constexpr int N = decltype(n)::value;
    const int64_t blocks = a.p.batch * a.walks * (a.segments.count - 1) * a.groups;
    const unsigned threads = Layout<N>::warps * kWarp;
    return launch_blocks(scan_aggregate_kernel<N, IO>, blocks, threads, ForwardMemory<N, false>::bytes(a), stream, a);
  });
}

}  // namespace mmvim::cuda
