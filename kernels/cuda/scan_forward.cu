// The scan, forward: the order of launches, and the two kernels that are the same for all types of inputs.
#include "scan_forward.cuh"

namespace mmvim::cuda {

extern template cudaError_t launch_scan<float>(const ForwardArguments&, cudaStream_t);
extern template cudaError_t launch_scan<__nv_bfloat16>(const ForwardArguments&, cudaStream_t);
extern template cudaError_t launch_scan<__half>(const ForwardArguments&, cudaStream_t);
extern template cudaError_t launch_scan_aggregate<float>(const ForwardArguments&, cudaStream_t);
extern template cudaError_t launch_scan_aggregate<__nv_bfloat16>(const ForwardArguments&, cudaStream_t);
extern template cudaError_t launch_scan_aggregate<__half>(const ForwardArguments&, cudaStream_t);

namespace {

constexpr int kCarryBatch = 8;  // segments whose values are loaded at once
constexpr int kCarryWarps = 16;

// states: from the ends of segments to their beginnings. A block has kGroup channels of one state; its warps take a run
// of segments each, fold it, fold what is before it, and go through it once more.
__global__ void __launch_bounds__(kCarryWarps* kWarp) scan_carry_kernel(const ForwardArguments a) {
  MMVIM_SHARED(float, shared);
  const ScanForward& p = a.p;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warps = static_cast<int>(blockDim.x) / kWarp;
  int64_t index = blockIdx.x;
  const int64_t group = index % a.groups;
  index /= a.groups;
  const int64_t n = index % p.states, walk = index / p.states;  // of batch x walks
  const bool here = group * kGroup + lane < p.channels;
  const int64_t channel = smaller(group * kGroup + lane, p.channels - 1);
  const float decay = static_cast<const float*>(p.a.data)[walk % p.walks.count * p.a.walk + channel * p.states + n];

  const int64_t count = a.segments.count, run = ceil_div(count, warps);
  const int64_t begin = smaller(warp * run, count), end = smaller(begin + run, count);
  const int64_t step = p.states * p.channels;
  float* states = a.states + walk * count * step + n * p.channels + channel;
  const float* totals = a.totals + walk * count * p.channels + channel;

  // A decay may have overflowed to infinity where delta is negative; nothing is still nothing. A sum of finite deltas is
  // not to be infinite.
  const auto pass = [&](float h, float total, float ends) {
    return (h == 0.0f ? 0.0f : exp2_approx(decay * finite(total)) * h) + ends;
  };
  float h = 0.0f, sum = 0.0f;
  const auto go = [&](bool store) {
    for (int64_t s = begin; s < end; s += kCarryBatch) {
      float total[kCarryBatch], ends[kCarryBatch];
#pragma unroll
      for (int j = 0; j < kCarryBatch; ++j) {
        const bool have = s + j < end && s + j < count - 1;  // what the last segment leaves concerns nobody
        total[j] = have ? totals[(s + j) * p.channels] : 0.0f;
        ends[j] = have ? states[(s + j) * step] : 0.0f;
      }
#pragma unroll
      for (int j = 0; j < kCarryBatch; ++j) {
        if (store && here && s + j < end) states[(s + j) * step] = h;
        h = pass(h, total[j], ends[j]);
        sum += total[j];
      }
    }
  };
  go(false);
  float* folded = shared;
  float* sums = shared + warps * kWarp;
  folded[warp * kWarp + lane] = h;
  sums[warp * kWarp + lane] = sum;
  __syncthreads();
  h = 0.0f;
  for (int w = 0; w < warp; ++w) h = pass(h, sums[w * kWarp + lane], folded[w * kWarp + lane]);
  go(true);
}

// y = scale * silu(z) * sum over walks, where walks need not visit every token. A warp has one row of a group.
__global__ void __launch_bounds__(256) scan_finish_kernel(const ForwardArguments a) {
  const ScanForward& p = a.p;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t index = int64_t{blockIdx.x} * (blockDim.x / kWarp) + warp;
  const int64_t channel = index % a.groups * kGroup + lane, row = index / a.groups;  // of batch x tokens
  if (row >= p.batch * p.walks.tokens || channel >= p.channels) return;
  float y = a.sum[row * p.channels + channel] * static_cast<float>(p.scale);
  if (p.z.data) {
    const int64_t batch = row / p.walks.tokens, token = row % p.walks.tokens;
    y *= silu(load_as(p.io, p.z.data, batch * p.z.batch + token * p.z.row + channel));
  }
  store_as(p.out, p.y, row * p.channels + channel, y);
}

struct Plan {
  std::vector<Route> routes;
  int staged_rank;
  Segments segments;
  int64_t groups;
  bool own_sum;  // y itself cannot hold the sum over walks
  int64_t sum, states, totals;  // elements
};

Plan make_plan(const ScanForward& p, const Device& device) {
  Plan plan;
  // What shared memory holds: two halves, or one, or one without the projection to delta.
  ForwardArguments a{};
  a.p = p, a.staged_rank = padded_rank(p.rank);
  const unsigned half =
      with_states(p.states, [&](auto n) { return ForwardMemory<decltype(n)::value, true>::bytes(a); });
  const unsigned limit = static_cast<unsigned>(device.shared_memory_per_block);
  plan.routes = find_routes(p.walks, is_special(p.states) && 2 * half <= limit);
  plan.staged_rank = half <= limit ? a.staged_rank : 0;
  plan.groups = ceil_div(p.channels, kGroup);
  const bool both = plan.routes[0].halves() == 2;
  const int64_t warps = with_states(p.states, [](auto n) { return Layout<decltype(n)::value>::warps; });
  const bool light = p.states == 1 || p.states == 2 || p.states == 4;
  plan.segments = cut_walk(p, device, p.batch * plan.groups * warps * (both ? 2 : 1), light ? 8.0 : 1.2, light ? 1 : 4);
  // A half that has a tile for itself adds to the sum in memory; where both are in one tile always, they do without.
  if (light && plan.segments.count > 1 && both) plan.segments = {plan.segments.tiles, 1, plan.segments.tiles};
  const bool visited_twice = plan.routes.size() > 1 || p.walks.table || (both && plan.segments.length > 1);
  plan.own_sum = p.merge && visited_twice && p.out != DType::kFloat32;
  plan.sum = plan.own_sum ? p.batch * p.walks.tokens * p.channels : 0;
  const int64_t chains = plan.segments.count > 1 ? p.batch * p.walks.count * plan.segments.count * p.channels : 0;
  plan.states = chains * p.states, plan.totals = chains;
  return plan;
}

constexpr int64_t kAlignment = 64;  // elements
int64_t aligned(int64_t elements) { return ceil_div(elements, kAlignment) * kAlignment; }

size_t bytes_of(DType type) { return type == DType::kFloat32 ? 4 : 2; }

// Bytes from one row to the next of a tensor with `rows` rows; false if that is more than kernels can address.
bool row_bytes(const Rows& tensor, int64_t rows, DType type, uint32_t& bytes) {
  const int64_t exact = rows > 1 ? tensor.row * static_cast<int64_t>(bytes_of(type)) : 0;
  bytes = static_cast<uint32_t>(exact);
  return exact >= 0 && exact == static_cast<int64_t>(bytes);
}

// Positions, up to the end of the last tile, and channels are counted in 32 bits.
bool find_row_bytes(ForwardArguments& a) {
  const ScanForward& p = a.p;
  if (larger(p.walks.tokens, p.walks.steps) > INT32_MAX - kTile || p.channels > INT32_MAX / 4) return false;
  const int64_t u_rows = p.u_step ? p.walks.steps : p.walks.tokens;
  const int64_t param_rows = p.param_step ? p.walks.steps : p.walks.tokens;
  const Rows sum{nullptr, 0, 0, p.channels};
  return row_bytes(p.u, u_rows, p.io, a.u_row) && row_bytes(p.delta, param_rows, p.io, a.delta_row) &&
         row_bytes(p.b, param_rows, p.io, a.b_row) && row_bytes(p.c, param_rows, p.io, a.c_row) &&
         row_bytes(p.z, p.walks.tokens, p.io, a.z_row) && row_bytes(sum, 2, DType::kFloat32, a.sum_row) &&
         row_bytes(sum, 2, p.out, a.y_row);
}

// The state at the beginning of each segment.
cudaError_t find_beginnings(ForwardArguments a, cudaStream_t stream) {
  const ScanForward& p = a.p;
  for (a.first_walk = 0; a.first_walk < p.walks.count; a.first_walk += kMostPaths) {
    a.walks = static_cast<int>(smaller(kMostPaths, p.walks.count - a.first_walk));
    for (int i = 0; i < a.walks; ++i)
      a.kinds[i] = p.walks.table ? 0 : static_cast<uint8_t>(p.walks.kinds[a.first_walk + i]);
    const cudaError_t error = with_type(p.io, [&](auto* io) {
      return launch_scan_aggregate<std::remove_pointer_t<decltype(io)>>(a, stream);
    });
    if (error != cudaSuccess) return error;
  }
  const unsigned warps = static_cast<unsigned>(smaller(kCarryWarps, ceil_div(a.segments.count, kCarryBatch)));
  const int64_t blocks = p.batch * p.walks.count * p.states * a.groups;
  return launch_blocks(scan_carry_kernel, blocks, warps * kWarp, 2 * warps * kWarp * sizeof(float), stream, a);
}

}  // namespace

size_t scan_workspace(const ScanForward& p, const Device& device) {
  const Plan plan = make_plan(p, device);
  return static_cast<size_t>(aligned(plan.sum) + aligned(plan.states) + aligned(plan.totals)) * sizeof(float);
}

cudaError_t scan(const ScanForward& p, const Device& device, void* workspace, cudaStream_t stream) {
  const Plan plan = make_plan(p, device);
  ForwardArguments a{};
  a.p = p, a.segments = plan.segments, a.groups = plan.groups, a.staged_rank = plan.staged_rank;
  if (!find_row_bytes(a)) return cudaErrorInvalidValue;
  float* free = static_cast<float*>(workspace);
  a.sum = plan.own_sum ? free : static_cast<float*>(p.y);
  a.states = free + aligned(plan.sum);
  a.totals = a.states + aligned(plan.states);

  cudaError_t error = cudaSuccess;
  const size_t cells = static_cast<size_t>(p.batch * p.walks.tokens * p.channels);
  if (p.walks.table)  // which may leave tokens out
    error = p.merge ? cudaMemsetAsync(a.sum, 0, cells * sizeof(float), stream)
                    : cudaMemsetAsync(p.y, 0, cells * p.walks.count * bytes_of(p.out), stream);
  if (error == cudaSuccess && plan.segments.count > 1) error = find_beginnings(a, stream);
  for (size_t i = 0; i < plan.routes.size() && error == cudaSuccess; ++i) {
    a.route = plan.routes[i];
    a.first = i == 0 && !p.walks.table;
    a.last = i + 1 == plan.routes.size() && !p.walks.table;
    error = with_type(p.io, [&](auto* io) { return launch_scan<std::remove_pointer_t<decltype(io)>>(a, stream); });
  }
  if (error == cudaSuccess && p.walks.table && p.merge) {
    constexpr int kRows = 8;
    const int64_t rows = p.batch * p.walks.tokens * plan.groups;
    error = launch_blocks(scan_finish_kernel, ceil_div(rows, kRows), kRows * kWarp, 0, stream, a);
  }
  return error;
}

}  // namespace mmvim::cuda
