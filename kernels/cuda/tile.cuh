// What the kernels share: routes, where states lie in lanes, and how a walk is cut into segments and tiles.
//
// A route is an order of positions 0 .. S-1 that one ascending walk, one descending walk or both follow: a block that
// holds both halves loads the same rows for both and meets in the middle of its segment. Tiles are kTile positions.
// Inside shared memory the rows of a tile are in walking order, so the loops over them know no direction.
#pragma once
#include <type_traits>
#include <vector>

#include "../core/arguments.h"
#include "../core/walk.h"
#include "api.h"
#include "math.cuh"

namespace mmvim::cuda {

constexpr int kWarp = 32;
constexpr int kGroup = 32;  // channels of a block; a lane loads the same channel of every row
constexpr unsigned kAllLanes = 0xffffffffu;

// ---- routes (host) ----------------------------------------------------------------------------------------------------

struct Route {
  bool column;
  int ascending = -1, descending = -1;  // walks; -1: none
  __host__ __device__ int halves() const { return (ascending >= 0) + (descending >= 0); }
};

// Every walk in one route, in a fixed order. Two directions share a route only if `paired`.
inline std::vector<Route> find_routes(const Walks& walks, bool paired) {
  std::vector<Route> routes;
  for (int k = 0; k < walks.count; ++k) {
    const int kind = walks.table ? 0 : static_cast<int>(walks.kinds[k]);
    const bool column = kind & 1, descending = kind & 2;
    Route* found = nullptr;
    for (Route& r : routes)
      if (paired && !walks.table && r.column == column && (descending ? r.descending : r.ascending) < 0) {
        found = &r;
        break;
      }
    if (!found) routes.push_back({column}), found = &routes.back();
    (descending ? found->descending : found->ascending) = k;
  }
  return routes;
}

// ---- states and lanes -------------------------------------------------------------------------------------------------

// A channel's N states lie in `lanes` neighbouring lanes, `per_lane` in each; N = 0 stands for any number of states,
// which are gone through in chunks of `lanes * per_lane`.
template <int N>
struct Layout {
  static constexpr int per_lane = N == 0 || N > 4 ? 4 : N;
  static constexpr int lanes = N == 0 ? 4 : (N + per_lane - 1) / per_lane;
  static constexpr int chunk = lanes * per_lane;
  static constexpr int channels_per_warp = kWarp / lanes;
  static constexpr int warps = kGroup / channels_per_warp;  // of one half
};

// Numbers of states that have kernels of their own.
MMVIM_HD bool is_special(int64_t states) {
  return states == 1 || states == 2 || states == 4 || states == 8 || states == 16;
}

// Calls `body` with std::integral_constant-like N for the number of states: its own, or 0.
template <int N>
struct States {
  static constexpr int value = N;
};
template <class Body>
auto with_states(int64_t states, Body body) {
  switch (states) {
    case 1:
      return body(States<1>{});
    case 2:
      return body(States<2>{});
    case 4:
      return body(States<4>{});
    case 8:
      return body(States<8>{});
    case 16:
      return body(States<16>{});
    default:
      return body(States<0>{});
  }
}

// ---- walks and tiles (device) -----------------------------------------------------------------------------------------

// The walk that a half of a block follows.
struct Path {
  int walk;
  bool column, descending;
};

// Token at a position of a route, -1 where a table has none, or what is no token of the grid.
MMVIM_DEVICE int token_at(const Walks& walks, const Path& path, int64_t position) {
  if (walks.table) {
    const int token = walks.table[path.walk * walks.steps + position];
    return static_cast<uint32_t>(token) < static_cast<uint32_t>(walks.tokens) ? token : -1;
  }
  if (!path.column) return static_cast<int>(position);
  const uint32_t p = static_cast<uint32_t>(position), height = static_cast<uint32_t>(walks.height);
  return static_cast<int>(p % height * static_cast<uint32_t>(walks.width) + p / height);
}

constexpr int kPadding = -2;  // instead of a token: a row beyond the walk's end, which must change no state

// First element of the slice of a tensor that belongs to a batch element and walk.
template <class IO>
MMVIM_HD const IO* slice(const Rows& rows, int64_t batch, int64_t walk) {
  return static_cast<const IO*>(rows.data) + batch * rows.batch + walk * rows.walk;
}

// Columns of a low-rank delta in shared memory: a multiple of 4, so that four are read at once; the rest are 0.
MMVIM_HD int padded_rank(int64_t rank) { return static_cast<int>((rank + 3) / 4 * 4); }

// ---- sums over lanes --------------------------------------------------------------------------------------------------

// Adds up each of `Lanes` values over groups of `Lanes` neighbouring lanes; lane l of a group gets the sum of value l.
// Takes Lanes - 1 shuffles where one sum at a time would take Lanes log2(Lanes).
template <int Lanes>
MMVIM_DEVICE float transpose_sum(const float (&v)[Lanes], int lane) {
  static_assert(Lanes == 1 || Lanes == 2 || Lanes == 4);
  if constexpr (Lanes == 1) {
    return v[0];
  } else if constexpr (Lanes == 2) {
    const bool odd = lane & 1;
    const float keep = odd ? v[1] : v[0], give = odd ? v[0] : v[1];
    return keep + __shfl_xor_sync(kAllLanes, give, 1);
  } else {
    const bool odd = lane & 1, high = lane & 2;
    const float keep0 = high ? v[2] : v[0], give0 = high ? v[0] : v[2];
    const float keep1 = high ? v[3] : v[1], give1 = high ? v[1] : v[3];
    const float sum0 = keep0 + __shfl_xor_sync(kAllLanes, give0, 2);
    const float sum1 = keep1 + __shfl_xor_sync(kAllLanes, give1, 2);
    const float keep = odd ? sum1 : sum0, give = odd ? sum0 : sum1;
    return keep + __shfl_xor_sync(kAllLanes, give, 1);
  }
}

// ---- segments (host) --------------------------------------------------------------------------------------------------

struct Segments {
  int64_t tiles;   // of a whole walk
  int64_t length;  // tiles per segment; the last one may have fewer
  int64_t count;
};

// How a walk is cut, from shapes and the card alone: whole where that gives `wanted` warps to each of a
// multiprocessor's four schedulers, otherwise into pieces of `shortest` tiles or more.
inline Segments cut_walk(const ScanInputs& p, const Device& device, int64_t warps, double wanted, int64_t shortest) {
  const int64_t tiles = ceil_div(p.walks.steps, kTile);
  const double schedulers = 4.0 * device.multiprocessors;
  const int64_t pieces = warps >= wanted * schedulers ? 1 : static_cast<int64_t>(wanted * schedulers / warps) + 1;
  const int64_t length = larger(ceil_div(tiles, pieces), smaller(shortest, tiles));
  return {tiles, length, ceil_div(tiles, length)};
}

}  // namespace mmvim::cuda
