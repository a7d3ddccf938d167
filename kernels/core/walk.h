// What every kernel agrees on: host/device macro, tile constants and the token a step of a walk stands on. No torch.
#pragma once
#include <stdint.h>

// Internal linkage matters on the CPU: the same header is compiled for several instruction sets, and a shared
// out-of-line copy could be the one with instructions this machine lacks.
#if defined(__CUDACC__)
#define MMVIM_HD static __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define MMVIM_HD static inline __attribute__((always_inline, unused))
#else
#define MMVIM_HD static inline
#endif

namespace mmvim {

// Steps per tile, and the distance between the states that the forward pass keeps for the backward pass.
constexpr int kTile = 32;

enum WalkKind : int { kRow = 0, kColumn = 1, kRowReversed = 2, kColumnReversed = 3 };

// Token of step `s` of a walk over a grid of height x width tokens stored row by row.
MMVIM_HD int64_t walk_token(int kind, int64_t s, int64_t height, int64_t width) {
  const int64_t forward = kind & 2 ? height * width - 1 - s : s;
  return kind & 1 ? (forward % height) * width + forward / height : forward;
}

}  // namespace mmvim
