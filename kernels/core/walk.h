// What every kernel agrees on: host/device macro, the size of a tile, the kinds of walks, small sums of integers. No
// torch. Tokens are found by cpu/tile.inl and cuda/tile.cuh, each in the way that is quick there.
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

// Bit 0: down the columns and not along the rows; bit 1: from the last token to the first.
enum WalkKind : int { kRow = 0, kColumn = 1, kRowReversed = 2, kColumnReversed = 3 };
MMVIM_HD bool is_column(int64_t kind) { return kind == kColumn || kind == kColumnReversed; }
MMVIM_HD bool is_reversed(int64_t kind) { return kind == kRowReversed || kind == kColumnReversed; }

MMVIM_HD int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
MMVIM_HD int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
MMVIM_HD int64_t larger(int64_t a, int64_t b) { return a < b ? b : a; }

}  // namespace mmvim
