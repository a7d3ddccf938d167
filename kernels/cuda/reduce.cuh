// Sums of partial results. Every sum has one fixed order, so that gradients are the same bits on every run.
#pragma once
#include "math.cuh"

namespace mmvim::cuda {

// parts[outer][slices][walks][count], to be added up over `outer`, and over `walks` too where these share a gradient.
struct Parts {
  const float* data;
  int64_t outer, slices, walks, count;
  bool shared;
};

struct PartSums {
  const float* data;
  int64_t outer, outer_stride, walks, walk_stride, slice_stride, count;
};

constexpr int kSumThreads = 256;

// threadIdx.y takes every blockDim.y-th of the outer parts; what they have found is added up in the order of y.
template <class T>
__global__ void __launch_bounds__(kSumThreads) sum_parts_kernel(const PartSums s, T* out) {
  MMVIM_SHARED(float, sums);
  const int64_t pieces = (s.count + blockDim.x - 1) / blockDim.x, slice = blockIdx.x / pieces;
  const int64_t at = blockIdx.x % pieces * blockDim.x + threadIdx.x;
  const bool here = at < s.count;
  float sum = 0.0f;
  if (here)
    for (int64_t i = threadIdx.y; i < s.outer; i += blockDim.y) {
      const float* part = s.data + i * s.outer_stride + slice * s.slice_stride + at;
#pragma unroll 4
      for (int64_t k = 0; k < s.walks; ++k) sum += part[k * s.walk_stride];
    }
  if (blockDim.y > 1) {
    sums[threadIdx.y * blockDim.x + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y) return;
    for (unsigned y = 1; y < blockDim.y; ++y) sum += sums[y * blockDim.x + threadIdx.x];
  }
  if (here) store(out + slice * s.count + at, sum);
}

template <class T>
cudaError_t sum_parts(const Parts& p, T* out, cudaStream_t stream) {
  const int64_t all = p.slices * p.walks * p.count;
  const PartSums s = p.shared ? PartSums{p.data, p.outer, all, p.walks, p.count, p.walks * p.count, p.count}
                              : PartSums{p.data, p.outer, all, 1, 0, 0, all};
  const int64_t slices = p.shared ? p.slices : 1;
  // Many parts of a small result are shared out between threads, few parts of a large one are not.
  unsigned rows = 1;
  while (rows < 32 && rows * 8 <= p.outer && slices * s.count * rows < (1 << 18)) rows *= 2;
  const unsigned lanes = kSumThreads / rows;
  const int64_t blocks = slices * ((s.count + lanes - 1) / lanes);
  if (blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  return launch(sum_parts_kernel<T>, dim3(static_cast<unsigned>(blocks)), dim3(lanes, rows),
                kSumThreads * sizeof(float), stream, s, out);
}

}  // namespace mmvim::cuda
