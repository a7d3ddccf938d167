// The launches of a backward pass for one type of input. Included by one source for each type: they compile side by
// side.
#pragma once
#include "scan_backward.cuh"
#include "scan_backward_finish.cuh"

namespace mmvim::cuda {

inline cudaError_t first_error(cudaError_t a, cudaError_t b) { return a != cudaSuccess ? a : b; }

// A token that no walk visits has a gradient of 0.
template <class IO>
cudaError_t clear_rows(const BackwardWork& w, void* workspace, cudaStream_t stream) {
  const ScanBackward& p = w.p;
  if (!p.walks.table) return cudaSuccess;
  const auto clear = [&](void* data, int64_t rows) {
    const size_t count = static_cast<size_t>(p.batch * p.walks.count * rows * p.channels);
    return cudaMemsetAsync(data, 0, count * sizeof(IO), stream);
  };
  cudaError_t error = w.zeroed ? cudaMemsetAsync(workspace, 0, w.zeroed, stream) : cudaSuccess;
  if (!w.du) error = first_error(error, clear(p.du, u_rows(p)));
  if (!w.ddelta) error = first_error(error, clear(p.ddelta, param_rows(p)));
  return error;
}

// Calls `body` with the plan of each launch: of as many walks as `kinds` has room for.
template <class Body>
cudaError_t for_launches(const BackwardWork& w, Body body) {
  const Walks& walks = w.p.walks;
  constexpr int64_t kMost = 32;
  BackwardWork some = w;
  cudaError_t error = cudaSuccess;
  for (int64_t k = 0; k < walks.count && error == cudaSuccess; k += some.walks) {
    some.first_walk = static_cast<int>(k), some.kinds = 0;
    some.walks = static_cast<int>(walks.table ? walks.count : smaller(kMost, walks.count - k));
    for (int i = 0; !walks.table && i < some.walks; ++i)
      some.kinds |= static_cast<uint64_t>(walks.kinds[k + i] & 3) << (2 * i);
    error = body(some);
  }
  return error;
}

template <class IO>
cudaError_t run_walks(const BackwardWork& w, cudaStream_t stream) {
  const ScanBackward& p = w.p;
  return with_states(p.states, [&](auto n) {
    constexpr int N = decltype(n)::value, threads = Layout<N>::warps * kWarp;
    const int64_t slices = p.batch * p.walks.count, segments = w.cut.count;
    cudaError_t error = cudaSuccess;
    if (segments > 1) {
      error = for_launches(w, [&](const BackwardWork& some) {
        return launch_blocks(aggregate_kernel<IO, N>, some.groups * some.walks * p.batch * (segments - 1), threads,
                             sizeof(AggregateTile<N>), stream, some);
      });
      const int64_t blocks = ceil_div(slices * p.states * p.channels, kCarryThreads);
      error = first_error(error, launch_blocks(carry_kernel<IO>, blocks, kCarryThreads, 0, stream, w));
    }
    return first_error(error, for_launches(w, [&](const BackwardWork& some) {
      return launch_blocks(adjoint_kernel<IO, N>, some.groups * some.walks * p.batch * segments, threads,
                           sizeof(AdjointTile<N>), stream, some);
    }));
  });
}

template <class IO>
cudaError_t add_parts(const BackwardWork& w, cudaStream_t stream) {
  const ScanBackward& p = w.p;
  const int64_t walks = p.walks.count, batch = p.batch, channels = p.channels, n = p.states;
  cudaError_t error = cudaSuccess;
  const auto add = [&](auto* out, const float* parts, int64_t outer, int64_t slices, int64_t count, bool shared) {
    if (out && parts)
      error = first_error(error, sum_parts(Parts{parts, outer, slices, walks, count, shared}, out, stream));
  };
  const auto io = [](void* gradient) { return static_cast<IO*>(gradient); };
  const auto state = [](void* gradient) { return static_cast<float*>(gradient); };
  add(io(p.du), w.du, 1, batch, u_rows(p) * channels, true);
  if (!p.rank) add(io(p.ddelta), w.ddelta, 1, batch, param_rows(p) * channels, true);
  add(io(p.db), w.db, w.groups, batch, param_rows(p) * n, p.b_shared);
  add(io(p.dc), w.dc, w.groups, batch, param_rows(p) * n, p.c_shared);
  const int64_t pieces = w.cut.count * batch;
  add(state(p.da), w.da, pieces, 1, channels * n, p.a_shared);
  add(state(p.dskip), w.dskip, pieces, 1, channels, p.skip_shared);
  add(state(p.dbias), w.dbias, pieces, 1, channels, p.bias_shared);
  add(state(p.ddt_weight), w.dweight, w.weight_pieces, 1, channels * p.rank, p.dt_weight_shared);
  return error;
}

template <class IO>
cudaError_t run_backward(const BackwardWork& w, void* workspace, cudaStream_t stream) {
  const ScanBackward& p = w.p;
  cudaError_t error = clear_rows<IO>(w, workspace, stream);
  error = first_error(error, run_walks<IO>(w, stream));
  if (p.dz) {
    const int64_t blocks = ceil_div(p.batch * p.walks.tokens, kFinishThreads / kWarp);
    error = first_error(error, launch_blocks(gate_kernel<IO>, blocks, kFinishThreads, 0, stream, p, w.y));
  }
  if (p.rank) {
    const int64_t rows = param_rows(p), rank_tiles = ceil_div(p.rank, kRankTile);
    const int64_t slices = p.batch * (p.delta_shared ? 1 : p.walks.count);
    error = first_error(error, launch_blocks(low_rank_kernel<IO>, slices * ceil_div(rows, kRowTile) * rank_tiles,
                                             kProductThreads, sizeof(LowRankTile), stream, p, w.ddelta, rows));
    const int64_t tiles = w.weight_pieces * p.walks.count * ceil_div(p.channels, kRowTile) * rank_tiles;
    error = first_error(error, launch_blocks(dt_weight_kernel<IO>, tiles, kProductThreads, sizeof(WeightTile), stream,
                                             p, w.ddelta, rows, w.weight_rows, w.dweight));
  }
  return first_error(error, add_parts<IO>(w, stream));
}

}  // namespace mmvim::cuda
