// Depthwise causal convolution along walks: how the work is cut, and the launches.
#include "walk_conv.cuh"

#include <type_traits>

#include "reduce.cuh"

namespace mmvim::cuda {

namespace {

#define MMVIM_TRY(call)                                                \
  do {                                                                 \
    if (const cudaError_t error = (call); error != cudaSuccess) return error; \
  } while (0)

template <class IO>
__global__ void convert(const float* from, IO* to, int64_t count) {
  const int64_t at = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (at < count) store(to + at, from[at]);
}

// Calls `body` with the number of taps that kernels are compiled for: 4 (Mamba's), 3, or 0 for any other.
template <class Body>
cudaError_t with_taps(int64_t taps, Body body) {
  if (taps == 4) return body(States<4>{});
  if (taps == 3) return body(States<3>{});
  return body(States<0>{});
}

bool even(const Rows& rows, DType type) {
  const uintptr_t pair = type == DType::kFloat32 ? 8 : 4;
  return reinterpret_cast<uintptr_t>(rows.data) % pair == 0 && (rows.batch | rows.walk | rows.row) % 2 == 0;
}

// Long stretches where there are enough of them to fill the card: less is loaded twice, and there are fewer sums to add.
template <int Taps>
ConvCut cut(const ConvInputs& p, const Device& device, int longest) {
  using Shape = ConvShape<Taps>;
  const int64_t groups = ceil_div(p.channels, kWarp * Shape::channels);
  int length = longest;
  const auto blocks = [&] { return ceil_div(p.walks.steps, int64_t{length} * Shape::warps); };
  while (length > kTile && p.batch * groups * blocks() < 8 * int64_t{device.multiprocessors}) length /= 2;
  return {length, static_cast<int>(blocks()), static_cast<int>(groups), p.channels % 2 == 0 && even(p.x, p.io)};
}

constexpr int kLongestForward = 64, kLongestBackward = 256;

// Positions are counted in 32 bits, and so are those that a block's warps would have beyond the end of a walk.
bool fits(const ConvInputs& p) {
  return larger(p.walks.tokens, p.walks.steps) <= INT32_MAX - 8 * kLongestBackward && p.channels <= INT32_MAX / 4;
}

// Bytes of the sum that dx becomes over several routes: all routes of a table, since they may leave tokens out.
size_t bytes_of_sum(const ConvInputs& p) {
  const bool needed = p.walks.table || find_routes(p.walks, true).size() > 1;
  return needed ? sizeof(float) * p.batch * p.walks.tokens * p.channels : 0;
}

// Bytes of shared memory of a block that keeps `per_lane` rings of taps and sums over its warps with `sums` floats.
template <int Taps>
size_t shared_bytes(const ConvInputs& p, const ConvCut& cut, int rings, int sums) {
  const int tokens = ConvWork<Taps>::token_count(static_cast<int>(p.taps), cut.length);
  return sizeof(float) * (tokens + (Taps ? sums : rings * p.taps * kWarp));
}

}  // namespace

cudaError_t walk_conv(const ConvForward& p, const Device& device, cudaStream_t stream) {
  if (!fits(p)) return cudaErrorInvalidValue;
  const int64_t bytes = p.batch * p.walks.count * p.walks.tokens * p.channels * (p.io == DType::kFloat32 ? 4 : 2);
  if (p.walks.table && !p.step) MMVIM_TRY(cudaMemsetAsync(p.y, 0, bytes, stream));  // tokens may be left out
  return with_taps(p.taps, [&](auto taps) {
    constexpr int kTaps = decltype(taps)::value;
    const ConvCut shares = cut<kTaps>(p, device, kLongestForward);
    const size_t shared = shared_bytes<kTaps>(p, shares, 3, 0);
    for (const Route& route : find_routes(p.walks, true))
      MMVIM_TRY(with_type(p.io, [&](auto* type) {
        using IO = std::remove_pointer_t<decltype(type)>;
        return launch_blocks(conv_forward<kTaps, IO>, p.batch * shares.blocks * shares.groups, ConvShape<kTaps>::threads,
                             shared, stream, p, route, shares);
      }));
    return cudaSuccess;
  });
}

// What the backward pass keeps in its workspace, in this order.
struct Scratch {
  int64_t parts;  // of the weights' and the bias' gradients
  size_t sum, weights, biases;  // bytes

  Scratch(const ConvBackward& p, const Device& device) : sum(bytes_of_sum(p)) {
    with_taps(p.taps, [&](auto taps) {
      parts = p.batch * cut<decltype(taps)::value>(p, device, kLongestBackward).blocks;
      return cudaSuccess;
    });
    biases = sizeof(float) * parts * p.walks.count * p.channels;
    weights = biases * p.taps;
  }
};

size_t walk_conv_backward_workspace(const ConvBackward& p, const Device& device) {
  const Scratch scratch(p, device);
  return scratch.sum + scratch.weights + scratch.biases;
}

cudaError_t walk_conv_backward(const ConvBackward& p, const Device& device, void* workspace, cudaStream_t stream) {
  if (!fits(p)) return cudaErrorInvalidValue;
  const Scratch scratch(p, device);
  float* const sum = scratch.sum ? static_cast<float*>(workspace) : nullptr;
  float* const weights = static_cast<float*>(workspace) + scratch.sum / sizeof(float);
  float* const biases = weights + scratch.weights / sizeof(float);
  const int64_t elements = p.batch * p.walks.tokens * p.channels;
  if (p.walks.table) MMVIM_TRY(cudaMemsetAsync(sum, 0, elements * sizeof(float), stream));
  const std::vector<Route> routes = find_routes(p.walks, true);
  MMVIM_TRY(with_taps(p.taps, [&](auto taps) {
    constexpr int kTaps = decltype(taps)::value;
    ConvCut shares = cut<kTaps>(p, device, kLongestBackward);
    shares.pairs = shares.pairs && even(p.grad, p.io);
    const int sums = ConvShape<kTaps>::threads * 2 * (kTaps + 1) * ConvShape<kTaps>::channels;
    const size_t shared = shared_bytes<kTaps>(p, shares, 7, sums);
    for (size_t i = 0; i < routes.size(); ++i) {
      const ConvSum target{sum, p.walks.table || i > 0, !p.walks.table && i + 1 == routes.size()};
      MMVIM_TRY(with_type(p.io, [&](auto* type) {
        using IO = std::remove_pointer_t<decltype(type)>;
        return launch_blocks(conv_backward<kTaps, IO>, p.batch * shares.blocks * shares.groups, ConvShape<kTaps>::threads,
                             shared, stream, p, routes[i], shares, target, weights, biases);
      }));
    }
    return cudaSuccess;
  }));
  if (p.walks.table)
    MMVIM_TRY(with_type(p.io, [&](auto* type) {
      using IO = std::remove_pointer_t<decltype(type)>;
      return launch_blocks(convert<IO>, ceil_div(elements, 256), 256, 0, stream, sum, static_cast<IO*>(p.dx), elements);
    }));
  const int64_t channels = p.walks.count * p.channels;
  if (p.dweight)
    MMVIM_TRY(sum_parts(Parts{weights, scratch.parts, 1, 1, channels * p.taps, false}, static_cast<float*>(p.dweight), stream));
  if (!p.dbias) return cudaSuccess;
  return sum_parts(Parts{biases, scratch.parts, 1, 1, channels, false}, static_cast<float*>(p.dbias), stream);
}

}  // namespace mmvim::cuda
