// The plan of a backward pass. It depends on shapes and on the card alone, and with it the order of every sum.
//
// The workspace takes, for every (batch, step, channel, walk), up to 4 bytes each for: du where walks share u, ddelta
// where they share delta or where it is of low rank, y where there is a gate; and N / 4 bytes for dB and dC. Four walks
// over a shared u with N = 1 and a low-rank delta: 33 bytes for every (batch, token, channel).
#include "scan_backward_work.cuh"

namespace mmvim::cuda {

namespace {

// Hands out the workspace piece by piece. Without one it only counts.
class Pieces {
 public:
  explicit Pieces(void* workspace) : data_(static_cast<char*>(workspace)) {}

  float* take(bool wanted, int64_t count) {
    if (!wanted) return nullptr;
    const size_t from = bytes_;
    bytes_ += (static_cast<size_t>(count) * sizeof(float) + 255) / 256 * 256;
    return data_ ? reinterpret_cast<float*>(data_ + from) : nullptr;
  }
  size_t bytes() const { return bytes_; }

 private:
  char* data_;
  size_t bytes_ = 0;
};

struct Planned {
  BackwardWork work;
  size_t bytes;
};

Planned plan(const ScanBackward& p, const Device& device, void* workspace) {
  // Warps for each scheduler below which a walk is cut, although that adds a pass over delta, C and the gradient: fewer
  // leave a scheduler idle most of the time. A segment of 4 tiles is the least that is worth a block.
  constexpr double kWarpsWanted = 2.0;
  constexpr int64_t kShortest = 4;
  BackwardWork w{};
  w.p = p;
  const uint32_t io = p.io == DType::kFloat32 ? 4 : 2, grad = p.grad_type == DType::kFloat32 ? 4 : 2;
  const auto bytes = [](const Rows& rows, uint32_t size) { return static_cast<uint32_t>(rows.row) * size; };
  w.u_row = bytes(p.u, io), w.delta_row = bytes(p.delta, io), w.b_row = bytes(p.b, io), w.c_row = bytes(p.c, io);
  w.z_row = bytes(p.z, io), w.grad_row = bytes(p.grad, grad);
  w.groups = static_cast<int>(ceil_div(p.channels, kGroup));
  const int64_t slices = p.batch * p.walks.count, channels = p.channels, n = p.states;
  const bool special = is_special(n);
  const int warps = special && n <= 4 ? 1 : special && n == 8 ? 2 : 4;
  w.cut = cut_walk(p, device, w.groups * slices * warps, kWarpsWanted, kShortest);

  // More pieces than fill the card are more to add up.
  const int64_t all_rows = p.batch * param_rows(p);
  const int64_t per_piece = p.walks.count * ceil_div(channels, 64) * ceil_div(p.rank, 16);
  const int64_t wanted = p.rank ? larger(4 * device.multiprocessors / per_piece, 1) : 1;
  w.weight_rows = larger(ceil_div(all_rows, wanted), 128);
  w.weight_pieces = ceil_div(all_rows, w.weight_rows);

  Pieces pieces(workspace);
  const bool several = p.walks.count > 1;
  w.du = pieces.take(p.u_shared && several, slices * u_rows(p) * channels);
  w.ddelta = pieces.take(p.rank || (p.delta_shared && several), slices * param_rows(p) * channels);
  w.y = pieces.take(p.dz, slices * p.walks.tokens * channels);
  w.db = pieces.take(true, w.groups * slices * param_rows(p) * n);
  w.dc = pieces.take(true, w.groups * slices * param_rows(p) * n);
  w.zeroed = pieces.bytes();
  w.da = pieces.take(true, w.cut.count * slices * channels * n);
  w.dskip = pieces.take(p.dskip, w.cut.count * slices * channels);
  w.dbias = pieces.take(p.dbias, w.cut.count * slices * channels);
  w.carry = pieces.take(w.cut.count > 1 || !special, w.cut.count * slices * channels * n);
  w.total_delta = pieces.take(w.cut.count > 1, w.cut.count * slices * channels);
  w.dweight = pieces.take(p.rank, w.weight_pieces * p.walks.count * channels * p.rank);
  return {w, pieces.bytes()};
}

// Rows are counted in 32 bits, and so are the bytes from one to the next. Where there is one row, that does not matter.
bool fits(const ScanBackward& p) {
  const auto near = [](const Rows& rows) { return rows.row <= INT32_MAX / 4; };
  const bool rows = near(p.u) && near(p.delta) && near(p.b) && near(p.c) && near(p.z) && near(p.grad);
  const int64_t longest = larger(p.walks.tokens, p.walks.steps);
  return longest <= INT32_MAX - kTile && p.channels <= INT32_MAX / 4 && (rows || longest == 1);
}

}  // namespace

size_t scan_backward_workspace(const ScanBackward& p, const Device& device) { return plan(p, device, nullptr).bytes; }

cudaError_t scan_backward(const ScanBackward& p, const Device& device, void* workspace, cudaStream_t stream) {
  if (!fits(p)) return cudaErrorInvalidValue;
  const BackwardWork w = plan(p, device, workspace).work;
  return with_type(p.io, [&](auto* type) {
    return run_backward<std::remove_pointer_t<decltype(type)>>(w, workspace, stream);
  });
}

}  // namespace mmvim::cuda
