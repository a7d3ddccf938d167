// What follows the adjoint: the gate's gradient, and those of a low-rank delta and of its projection.
#pragma once
#include "reduce.cuh"
#include "tile.cuh"

namespace mmvim::cuda {

constexpr int kFinishThreads = 256;

// dz = (sum over walks of grad y) scale silu'(z); y is (batch, walk, token, channel). Rows by warps, channels by lanes.
template <class IO>
__global__ void __launch_bounds__(kFinishThreads) gate_kernel(const ScanBackward p, const float* y) {
  const int lane = threadIdx.x % kWarp;
  const int64_t row = int64_t{blockIdx.x} * (kFinishThreads / kWarp) + threadIdx.x / kWarp;
  if (row >= p.batch * p.walks.tokens) return;
  const int64_t batch = row / p.walks.tokens, token = row % p.walks.tokens;
  const IO* z = slice<IO>(p.z, batch, 0) + token * p.z.row;
  const int64_t grad = batch * p.grad.batch + token * p.grad.row, walks = p.walks.count;
  const float scale = static_cast<float>(p.scale);
  for (int64_t c = lane; c < p.channels; c += kWarp) {
    float sum = 0.0f;
#pragma unroll 4
    for (int64_t k = 0; k < walks; ++k)
      sum += load_as(p.grad_type, p.grad.data, grad + k * p.grad.walk + c) *
             y[((batch * walks + k) * p.walks.tokens + token) * p.channels + c];
    const float x = to_float(z[c]), s = sigmoid2(x * kLog2e);
    store(static_cast<IO*>(p.dz) + row * p.channels + c, sum * scale * (s * (1.0f + x * (1.0f - s))));
  }
}

// Tiles of the two products below.
constexpr int kRankTile = 16, kRowTile = 64, kDepth = 32;
constexpr int kProductThreads = 256, kPerThread = kRowTile * kRankTile / kProductThreads;

struct LowRankTile {
  __align__(16) float gradient[kRowTile][kDepth + 4];  // rows of which four channels are read at once
  float weight[kDepth][kRankTile + 1];
};
struct WeightTile {
  float gradient[kDepth][kRowTile + 1];
  float low[kDepth][kRankTile + 1];
};

// out[batch][walk or 1][row][rank] = sum over channels, and walks where they share it, of ddelta * dt_weight. ddelta is
// (batch, walk, row, channel). One block for kRowTile rows x kRankTile ranks of one (batch, walk or 1).
template <class IO>
__global__ void __launch_bounds__(kProductThreads, 2)
    low_rank_kernel(const ScanBackward p, const float* ddelta, int64_t rows) {
  MMVIM_SHARED(LowRankTile, tile);
  const int64_t rank_tiles = ceil_div(p.rank, kRankTile), row_tiles = ceil_div(rows, kRowTile);
  const int64_t first_rank = blockIdx.x % rank_tiles * kRankTile;
  const int64_t first_row = blockIdx.x / rank_tiles % row_tiles * kRowTile;
  const int64_t part = blockIdx.x / rank_tiles / row_tiles;  // of the result
  const int64_t walks = p.walks.count, shared = p.delta_shared ? walks : 1;
  const int r = threadIdx.x % kRankTile, group = threadIdx.x / kRankTile;
  constexpr int kGroups = kProductThreads / kRankTile;
  float sum[kPerThread] = {};
  for (int64_t s = part * shared; s < (part + 1) * shared; ++s) {
    const float* gradient = ddelta + (s * rows + first_row) * p.channels;
    const float* weight = static_cast<const float*>(p.dt_weight.data) + s % walks * p.dt_weight.walk + first_rank;
    for (int64_t c0 = 0; c0 < p.channels; c0 += kDepth) {
      for (int e = threadIdx.x; e < kRowTile * kDepth; e += kProductThreads) {
        const int row = e / kDepth, c = e % kDepth;
        const bool here = first_row + row < rows && c0 + c < p.channels;
        tile->gradient[row][c] = here ? gradient[row * p.channels + c0 + c] : 0.0f;
      }
      for (int e = threadIdx.x; e < kDepth * kRankTile; e += kProductThreads) {
        const int c = e / kRankTile, j = e % kRankTile;
        const bool here = c0 + c < p.channels && first_rank + j < p.rank;
        tile->weight[c][j] = here ? weight[(c0 + c) * p.rank + j] : 0.0f;
      }
      __syncthreads();
#pragma unroll
      for (int c = 0; c < kDepth; c += 4) {
        const float w0 = tile->weight[c][r], w1 = tile->weight[c + 1][r];
        const float w2 = tile->weight[c + 2][r], w3 = tile->weight[c + 3][r];
#pragma unroll
        for (int j = 0; j < kPerThread; ++j) {
          const float4 x = *reinterpret_cast<const float4*>(&tile->gradient[group + j * kGroups][c]);
          sum[j] += x.x * w0 + x.y * w1 + x.z * w2 + x.w * w3;
        }
      }
      __syncthreads();
    }
  }
  if (first_rank + r >= p.rank) return;
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) {
    const int64_t row = first_row + group + j * kGroups;
    if (row < rows) store(static_cast<IO*>(p.ddelta) + (part * rows + row) * p.rank + first_rank + r, sum[j]);
  }
}

// parts[piece][walk][channel][rank] = sum over a piece of all (batch, row) of ddelta * delta. One block for kRowTile
// channels x kRankTile ranks of one (piece, walk).
template <class IO>
__global__ void __launch_bounds__(kProductThreads, 2)
    dt_weight_kernel(const ScanBackward p, const float* ddelta, int64_t rows, int64_t rows_per_piece, float* parts) {
  MMVIM_SHARED(WeightTile, tile);
  const int64_t rank_tiles = ceil_div(p.rank, kRankTile), channel_tiles = ceil_div(p.channels, kRowTile);
  const int64_t first_rank = blockIdx.x % rank_tiles * kRankTile;
  const int64_t first_channel = blockIdx.x / rank_tiles % channel_tiles * kRowTile;
  const int64_t part = blockIdx.x / rank_tiles / channel_tiles;
  const int64_t walk = part % p.walks.count, piece = part / p.walks.count;
  const int64_t end = smaller((piece + 1) * rows_per_piece, p.batch * rows);
  const int r = threadIdx.x % kRankTile, group = threadIdx.x / kRankTile;
  constexpr int kGroups = kProductThreads / kRankTile;
  float sum[kPerThread] = {};
  for (int64_t first = piece * rows_per_piece; first < end; first += kDepth) {
    for (int e = threadIdx.x; e < kDepth * kRowTile; e += kProductThreads) {
      const int i = e / kRowTile, c = e % kRowTile;
      const int64_t row = first + i, batch = row / rows;
      const bool here = row < end && first_channel + c < p.channels;
      const int64_t at = (batch * p.walks.count + walk) * rows + row % rows;
      tile->gradient[i][c] = here ? ddelta[at * p.channels + first_channel + c] : 0.0f;
    }
    for (int e = threadIdx.x; e < kDepth * kRankTile; e += kProductThreads) {
      const int i = e / kRankTile, j = e % kRankTile;
      const int64_t row = first + i;
      const bool here = row < end && first_rank + j < p.rank;
      const IO* low = slice<IO>(p.delta, here ? row / rows : 0, walk) + first_rank;
      tile->low[i][j] = here ? to_float(low[row % rows * p.delta.row + j]) : 0.0f;
    }
    __syncthreads();
#pragma unroll 8
    for (int i = 0; i < kDepth; ++i) {
      const float x = tile->low[i][r];
#pragma unroll
      for (int j = 0; j < kPerThread; ++j) sum[j] += tile->gradient[i][group + j * kGroups] * x;
    }
    __syncthreads();
  }
  if (first_rank + r >= p.rank) return;
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) {
    const int64_t channel = first_channel + group + j * kGroups;
    if (channel < p.channels) parts[(part * p.channels + channel) * p.rank + first_rank + r] = sum[j];
  }
}

}  // namespace mmvim::cuda
