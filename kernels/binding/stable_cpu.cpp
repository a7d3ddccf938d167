// The CPU implementations of the operators that mmvim/ops/library.py declares, through PyTorch's stable ABI (>= 2.10).
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "cpu/api.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace {

using mmvim::DType;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Optional = std::optional<Tensor>;
using Sizes = std::vector<int64_t>;

constexpr int64_t kTile = 32;

// torch's intra-op threads, as many as torch.get_num_threads() says.
mmvim::Pool pool() {
  mmvim::Pool result;
  result.threads = torch::stable::get_num_threads();
  result.run = [](int64_t workers, void (*body)(void*), void* context) {
    torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) body(context);
    });
  };
  return result;
}

DType dtype(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return DType::kFloat32;
    case ScalarType::Double:
      return DType::kFloat64;
    case ScalarType::BFloat16:
      return DType::kBFloat16;
    case ScalarType::Half:
      return DType::kFloat16;
    default:
      STD_TORCH_CHECK(false, "mmvim kernels take float32, float64, bfloat16 and float16 tensors");
  }
}

ScalarType state_type(const Tensor& like) {
  return like.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Large results come from the system as pages of 4 KiB that do not exist before they are written to, which takes longer
// than the writing. Asks for pages of 2 MiB instead; a refusal does not matter.
void prefer_large_pages([[maybe_unused]] void* data, [[maybe_unused]] size_t bytes) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t kPage = uintptr_t{2} << 20;
  const uintptr_t address = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = (address + kPage - 1) / kPage * kPage, end = (address + bytes) / kPage * kPage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

Tensor fresh(const Tensor& like, const Sizes& sizes, ScalarType type) {
  Tensor result = torch::stable::new_empty(like, sizes, type);
  if (!result.numel()) return result;
  const size_t bytes =
      static_cast<size_t>(result.numel()) * (type == ScalarType::Double ? 8 : type == ScalarType::Float ? 4 : 2);
  prefer_large_pages(result.mutable_data_ptr(), bytes);
  if (mmvim::poison()) std::memset(result.mutable_data_ptr(), 0xff, bytes);
  return result;
}

Tensor zeros(const Tensor& like, const Sizes& sizes, ScalarType type) {
  Tensor result = torch::stable::new_empty(like, sizes, type);
  return torch::stable::zero_(result);
}

Sizes sizes(const Tensor& t) { return Sizes(t.sizes().begin(), t.sizes().end()); }

// A walk dimension of size 1 is shared between all walks.
int64_t walk_stride(const Tensor& t, int64_t dim) { return t.size(dim) == 1 ? 0 : t.stride(dim); }

mmvim::Rows rows(const Tensor& t) {
  if (t.dim() == 3) return {t.const_data_ptr(), t.stride(0), 0, t.stride(1)};
  return {t.const_data_ptr(), t.stride(0), walk_stride(t, 1), t.stride(2)};
}

mmvim::Parameter parameter(const Tensor& t) { return {t.const_data_ptr(), walk_stride(t, 0)}; }

// Last stride 1, which the kernels rely on; a copy where that is not so.
Tensor with_unit_stride(const Tensor& t) {
  return t.size(t.dim() - 1) <= 1 || t.stride(t.dim() - 1) == 1 ? t : torch::stable::contiguous(t);
}
Optional with_unit_stride(const Optional& t) { return t ? Optional(with_unit_stride(*t)) : t; }

mmvim::Walks walks(const Optional& table, const Sizes& kinds, int64_t height, int64_t width) {
  const int64_t tokens = height * width;
  if (table) {
    STD_TORCH_CHECK(table->scalar_type() == ScalarType::Int && table->is_contiguous(),
                    "mmvim kernels: table must be a contiguous int32 tensor");
    return {table->size(0), table->size(1), tokens, height, width, nullptr,
            static_cast<const int32_t*>(table->const_data_ptr())};
  }
  return {static_cast<int64_t>(kinds.size()), tokens, tokens, height, width, kinds.data(), nullptr};
}

void check_rows(const char* name, const Tensor& t, int64_t batch, int64_t walks, int64_t rows, int64_t last) {
  STD_TORCH_CHECK(t.dim() == 4 && t.size(0) == batch && (t.size(1) == 1 || t.size(1) == walks) && t.size(2) == rows &&
                      t.size(3) == last,
                  "mmvim kernels: ", name, " must be (", batch, ", 1 or ", walks, ", ", rows, ", ", last, ")");
}

void check_parameter(const char* name, const Tensor& t, int64_t walks, const Sizes& rest, ScalarType type) {
  bool fits = t.dim() == static_cast<int64_t>(rest.size()) + 1 && (t.size(0) == 1 || t.size(0) == walks);
  for (size_t i = 0; fits && i < rest.size(); ++i) fits = t.size(i + 1) == rest[i];
  STD_TORCH_CHECK(fits && t.is_contiguous() && t.scalar_type() == type, "mmvim kernels: ", name,
                  " must be contiguous, in the state type, one slice or ", walks, " slices of the right shape");
}

// Fills what forward and backward share. The tensors must outlive the kernels' run.
void fill(mmvim::ScanInputs& p, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
          const Optional& D, const Optional& z, const Optional& delta_bias, const Optional& dt_weight,
          const Optional& table, const Sizes& kinds, int64_t height, int64_t width, bool delta_softplus, bool u_step,
          bool param_step, bool merge, double scale) {
  p.walks = walks(table, kinds, height, width);
  const int64_t K = p.walks.count, L = p.walks.tokens, S = p.walks.steps;
  p.batch = u.size(0), p.channels = u.size(3), p.states = A.size(2), p.rank = dt_weight ? dt_weight->size(2) : 0;
  p.delta_softplus = delta_softplus, p.u_step = u_step, p.param_step = param_step, p.merge = merge, p.scale = scale;
  p.io = dtype(u.scalar_type());
  const ScalarType state = state_type(u);
  for (const Tensor* t : {&delta, &B, &C})
    STD_TORCH_CHECK(t->scalar_type() == u.scalar_type(), "mmvim kernels: u, delta, B, C and z must share one dtype");
  check_rows("u", u, p.batch, K, u_step ? S : L, p.channels);
  check_rows("delta", delta, p.batch, K, param_step ? S : L, p.rank ? p.rank : p.channels);
  check_rows("B", B, p.batch, K, param_step ? S : L, p.states);
  check_rows("C", C, p.batch, K, param_step ? S : L, p.states);
  check_parameter("A", A, K, {p.channels, p.states}, state);
  p.u = rows(u), p.delta = rows(delta), p.b = rows(B), p.c = rows(C), p.a = parameter(A);
  if (D) check_parameter("D", *D, K, {p.channels}, state), p.skip = parameter(*D);
  if (delta_bias) check_parameter("delta_bias", *delta_bias, K, {p.channels}, state), p.bias = parameter(*delta_bias);
  if (dt_weight)
    check_parameter("dt_weight", *dt_weight, K, {p.channels, p.rank}, state), p.dt_weight = parameter(*dt_weight);
  if (z) {
    STD_TORCH_CHECK(z->scalar_type() == u.scalar_type() && z->dim() == 3 && z->size(0) == p.batch && z->size(1) == L &&
                        z->size(2) == p.channels,
                    "mmvim kernels: z must be (batch, tokens, channels) in u's dtype");
    p.z = rows(*z);
  }
}

bool empty(const mmvim::ScanInputs& p) { return !p.batch || !p.channels || !p.walks.steps || !p.walks.tokens; }

std::tuple<Tensor, Tensor, Tensor> scan(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Optional D, Optional z,
                                        Optional delta_bias, Optional dt_weight, Optional table, Sizes kinds,
                                        int64_t height, int64_t width, bool delta_softplus, bool u_step,
                                        bool param_step, bool merge, double scale, ScalarType out_dtype, bool save) {
  u = with_unit_stride(u), delta = with_unit_stride(delta), B = with_unit_stride(B), C = with_unit_stride(C);
  z = with_unit_stride(z);
  mmvim::ScanForward p;
  fill(p, u, delta, A, B, C, D, z, delta_bias, dt_weight, table, kinds, height, width, delta_softplus, u_step,
       param_step, merge, scale);
  const ScalarType state = state_type(u);
  const int64_t K = p.walks.count, L = p.walks.tokens, S = p.walks.steps;
  const int64_t saved = std::max<int64_t>((S + kTile - 1) / kTile - 1, 0);
  p.out = dtype(out_dtype);
  STD_TORCH_CHECK(state == ScalarType::Float || p.out == DType::kFloat64 || p.out == DType::kFloat32,
                  "mmvim kernels: out_dtype of float64 inputs must be float64 or float32");
  if (empty(p))
    return {zeros(u, merge ? Sizes{p.batch, L, p.channels} : Sizes{p.batch, K, L, p.channels}, out_dtype),
            zeros(u, save ? Sizes{p.batch, K, saved, p.states, p.channels} : Sizes{0}, state),
            zeros(u, {p.batch, K, p.channels, p.states}, state)};
  Tensor y = fresh(u, merge ? Sizes{p.batch, L, p.channels} : Sizes{p.batch, K, L, p.channels}, out_dtype);
  Tensor states = fresh(u, save ? Sizes{p.batch, K, saved, p.states, p.channels} : Sizes{0}, state);
  Tensor last = fresh(u, {p.batch, K, p.channels, p.states}, state);
  p.y = y.mutable_data_ptr();
  p.saved = save ? states.mutable_data_ptr() : nullptr;
  p.last_state = last.mutable_data_ptr();
  mmvim::kernels().scan(p, pool());
  return {y, states, last};
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Gradients scan_backward(Tensor grad, Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Optional D, Optional z,
                        Optional delta_bias, Optional dt_weight, Optional table, Tensor states, Sizes kinds,
                        int64_t height, int64_t width, bool delta_softplus, bool u_step, bool param_step, bool merge,
                        double scale) {
  u = with_unit_stride(u), delta = with_unit_stride(delta), B = with_unit_stride(B), C = with_unit_stride(C);
  z = with_unit_stride(z), grad = with_unit_stride(grad), states = torch::stable::contiguous(states);
  mmvim::ScanBackward p;
  fill(p, u, delta, A, B, C, D, z, delta_bias, dt_weight, table, kinds, height, width, delta_softplus, u_step,
       param_step, merge, scale);
  const ScalarType state = state_type(u), io = u.scalar_type();
  const int64_t K = p.walks.count, L = p.walks.tokens, S = p.walks.steps;
  const int64_t saved = std::max<int64_t>((S + kTile - 1) / kTile - 1, 0);
  STD_TORCH_CHECK(states.numel() == p.batch * K * saved * p.states * p.channels && states.scalar_type() == state,
                  "mmvim kernels: states must come from the forward pass with save=True");
  STD_TORCH_CHECK(grad.numel() == p.batch * (merge ? 1 : K) * L * p.channels && grad.dim() == (merge ? 3 : 4),
                  "mmvim kernels: grad must have the shape of the output");
  const auto make = [&](const Tensor& like) {
    return empty(p) ? zeros(u, sizes(like), state) : fresh(u, sizes(like), state);
  };
  const auto make_optional = [&](const Optional& like) { return like ? make(*like) : fresh(u, {0}, state); };
  Tensor du = make(u), ddelta = make(delta), dA = make(A), dB = make(B), dC = make(C), dD = make_optional(D);
  Tensor dz = make_optional(z), dbias = make_optional(delta_bias), dweight = make_optional(dt_weight);
  if (!empty(p)) {
    p.grad_type = dtype(grad.scalar_type()), p.grad = rows(grad), p.saved = states.const_data_ptr();
    if (merge) p.grad.walk = 0;
    p.du = du.mutable_data_ptr(), p.ddelta = ddelta.mutable_data_ptr(), p.da = dA.mutable_data_ptr();
    p.db = dB.mutable_data_ptr(), p.dc = dC.mutable_data_ptr();
    p.dskip = D ? dD.mutable_data_ptr() : nullptr, p.dz = z ? dz.mutable_data_ptr() : nullptr;
    p.dbias = delta_bias ? dbias.mutable_data_ptr() : nullptr;
    p.ddt_weight = dt_weight ? dweight.mutable_data_ptr() : nullptr;
    p.u_shared = u.size(1) == 1, p.delta_shared = delta.size(1) == 1, p.b_shared = B.size(1) == 1;
    p.c_shared = C.size(1) == 1, p.a_shared = A.size(0) == 1, p.skip_shared = D && D->size(0) == 1;
    p.bias_shared = delta_bias && delta_bias->size(0) == 1, p.dt_weight_shared = dt_weight && dt_weight->size(0) == 1;
    mmvim::kernels().scan_backward(p, pool());
  }
  // The kernels write the state type; gradients have the type of their input.
  const auto cast = [&](Tensor t) { return io == state ? t : torch::stable::to(t, io); };
  return {cast(du), cast(ddelta), dA, cast(dB), cast(dC), dD, cast(dz), dbias, dweight};
}

void fill(mmvim::ConvInputs& p, const Tensor& x, const Tensor& weight, const Optional& bias, const Optional& table,
          const Sizes& kinds, int64_t height, int64_t width, bool silu, bool step) {
  p.walks = walks(table, kinds, height, width);
  p.batch = x.size(0), p.channels = x.size(2), p.taps = weight.size(2), p.silu = silu, p.step = step;
  p.io = dtype(x.scalar_type());
  const ScalarType state = state_type(x);
  STD_TORCH_CHECK(x.dim() == 3 && x.size(1) == p.walks.tokens, "mmvim kernels: x must be (batch, tokens, channels)");
  STD_TORCH_CHECK(weight.size(0) == p.walks.count, "mmvim kernels: weight must have one slice per walk");
  STD_TORCH_CHECK(p.taps >= 1 && p.taps <= kTile, "mmvim kernels: the convolution takes 1 to 32 taps, got ", p.taps);
  check_parameter("weight", weight, p.walks.count, {p.channels, p.taps}, state);
  p.x = rows(x), p.weight = weight.const_data_ptr(), p.bias = nullptr;
  if (bias) {
    STD_TORCH_CHECK(bias->size(0) == p.walks.count, "mmvim kernels: bias must have one slice per walk");
    check_parameter("bias", *bias, p.walks.count, {p.channels}, state), p.bias = bias->const_data_ptr();
  }
}

bool empty(const mmvim::ConvInputs& p) { return !p.batch || !p.channels || !p.walks.steps || !p.walks.tokens; }

Tensor walk_conv(Tensor x, Tensor weight, Optional bias, Optional table, Sizes kinds, int64_t height, int64_t width,
                 bool silu, bool step) {
  x = with_unit_stride(x);
  mmvim::ConvForward p;
  fill(p, x, weight, bias, table, kinds, height, width, silu, step);
  const Sizes shape{p.batch, p.walks.count, step ? p.walks.steps : p.walks.tokens, p.channels};
  if (empty(p)) return zeros(x, shape, x.scalar_type());
  Tensor y = fresh(x, shape, x.scalar_type());
  p.y = y.mutable_data_ptr();
  mmvim::kernels().walk_conv(p, pool());
  return y;
}

std::tuple<Tensor, Tensor, Tensor> walk_conv_backward(Tensor grad, Tensor x, Tensor weight, Optional bias,
                                                      Optional table, Sizes kinds, int64_t height, int64_t width,
                                                      bool silu, bool step) {
  x = with_unit_stride(x), grad = with_unit_stride(grad);
  mmvim::ConvBackward p;
  fill(p, x, weight, bias, table, kinds, height, width, silu, step);
  STD_TORCH_CHECK(grad.dim() == 4 && grad.scalar_type() == x.scalar_type() &&
                      grad.numel() == p.batch * p.walks.count * (step ? p.walks.steps : p.walks.tokens) * p.channels,
                  "mmvim kernels: grad must have the shape and dtype of the output");
  const ScalarType state = state_type(x);
  const auto make = [&](const Tensor& like) {
    return empty(p) ? zeros(x, sizes(like), state) : fresh(x, sizes(like), state);
  };
  Tensor dx = make(x), dweight = make(weight), dbias = bias ? make(*bias) : fresh(x, {0}, state);
  if (!empty(p)) {
    p.grad = rows(grad), p.dx = dx.mutable_data_ptr(), p.dweight = dweight.mutable_data_ptr();
    p.dbias = bias ? dbias.mutable_data_ptr() : nullptr;
    mmvim::kernels().walk_conv_backward(p, pool());
  }
  return {x.scalar_type() == state ? dx : torch::stable::to(dx, x.scalar_type()), dweight, dbias};
}

std::string cpu_capability() { return mmvim::kernels().name; }

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(mmvim, m) { m.def("cpu_capability() -> str"); }

STABLE_TORCH_LIBRARY_IMPL(mmvim, CompositeExplicitAutograd, m) { m.impl("cpu_capability", TORCH_BOX(&cpu_capability)); }

STABLE_TORCH_LIBRARY_IMPL(mmvim, CPU, m) {
  m.impl("scan", TORCH_BOX(&scan));
  m.impl("scan_backward", TORCH_BOX(&scan_backward));
  m.impl("walk_conv", TORCH_BOX(&walk_conv));
  m.impl("walk_conv_backward", TORCH_BOX(&walk_conv_backward));
}
