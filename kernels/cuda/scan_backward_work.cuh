// The plan of a backward pass: how its work is cut, and what lies where in the workspace.
#pragma once
#include "tile.cuh"

namespace mmvim::cuda {

// What all kernels of one backward pass are started with. Where `du` or `ddelta` is null its rows go straight to the
// result in p; otherwise they are (batch, walk, row, channel) in float32, as y is.
struct BackwardWork {
  ScanBackward p;
  Segments cut;
  uint32_t u_row, delta_row, b_row, c_row, z_row, grad_row;  // bytes from one row to the next
  int groups;             // of channels
  int first_walk, walks;  // of this launch
  uint64_t kinds;         // of these walks, two bits each, unless there is a table
  float *du, *ddelta, *y;
  float *db, *dc;              // (group, batch, walk, row, state)
  float *da, *dskip, *dbias;   // (segment, batch, walk, channel[, state])
  float *carry, *total_delta;  // (segment, batch, walk[, state], channel)
  float* dweight;              // (piece, walk, channel, rank); a piece is `weight_rows` of all (batch, row)
  int64_t weight_pieces, weight_rows;
  size_t zeroed;               // bytes at the workspace's beginning: rows that a table may leave out
};

// Rows of u's gradient, and of those of delta, B and C.
MMVIM_HD int64_t u_rows(const ScanInputs& p) { return p.u_step ? p.walks.steps : p.walks.tokens; }
MMVIM_HD int64_t param_rows(const ScanInputs& p) { return p.param_step ? p.walks.steps : p.walks.tokens; }

// All launches, for one type of input.
template <class IO>
cudaError_t run_backward(const BackwardWork& w, void* workspace, cudaStream_t stream);

}  // namespace mmvim::cuda

