// The operators that mmvim/ops/library.py declares, for any device, through PyTorch's stable ABI (>= 2.10): checks,
// allocation, and the arguments of the kernels. A device's binding hands in a class with
//
//   explicit Device(const Tensor& like)                     makes the device of a tensor the current one
//   Tensor empty(const Sizes&, ScalarType)                  fresh memory there, of at least one element
//   static void require(ScalarType io, ScalarType out)      raises where the kernels do not take these types
//   static ScalarType gradient_type(ScalarType io)          of the gradients that the kernels write for inputs of type io
//   kHost                                                   whether its memory is the host's
//   kWritesRows                                             whether they write du, ddelta and dx even if nobody wants them
//   void run(const ScanForward&), ... one for every operator
#pragma once
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdlib>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "../core/arguments.h"
#include "../core/poison.h"
#include "../core/walk.h"

namespace mmvim::binding {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Optional = std::optional<Tensor>;
using Sizes = std::vector<int64_t>;

inline DType dtype(ScalarType type) {
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

inline size_t bytes_of(ScalarType type) {
  return type == ScalarType::Double ? 8 : type == ScalarType::Float ? 4 : type == ScalarType::Byte ? 1 : 2;
}

inline ScalarType state_type(ScalarType io) {
  return io == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline Sizes sizes(const Tensor& t) { return Sizes(t.sizes().begin(), t.sizes().end()); }

// A walk dimension of size 1 is shared between all walks.
inline int64_t walk_stride(const Tensor& t, int64_t dim) { return t.size(dim) == 1 ? 0 : t.stride(dim); }

inline Rows rows(const Tensor& t) {
  if (t.dim() == 3) return {t.const_data_ptr(), t.stride(0), 0, t.stride(1)};
  return {t.const_data_ptr(), t.stride(0), walk_stride(t, 1), t.stride(2)};
}

inline Parameter parameter(const Tensor& t) { return {t.const_data_ptr(), walk_stride(t, 0)}; }

// A kernel would take an address of another device's memory for one of its own.
inline void check_device(const char* name, const Optional& t, const Tensor& like) {
  STD_TORCH_CHECK(!t || (t->is_cuda() == like.is_cuda() && t->get_device_index() == like.get_device_index()),
                  "mmvim kernels: ", name, " is on another device than the input");
}

// Last stride 1, which the kernels rely on; a copy where that is not so.
inline Tensor with_unit_stride(const Tensor& t) {
  return t.size(t.dim() - 1) <= 1 || t.stride(t.dim() - 1) == 1 ? t : torch::stable::contiguous(t);
}
inline Optional with_unit_stride(const Optional& t) { return t ? Optional(with_unit_stride(*t)) : t; }

// The walks of an operator. `readable`: whether the table is in the host's memory, and its values can be looked at here;
// kernels that read it elsewhere take what is outside of the grid for no token.
inline Walks walks(const Optional& table, const Sizes& kinds, int64_t height, int64_t width, bool readable) {
  STD_TORCH_CHECK(height >= 0 && width >= 0 && height <= INT32_MAX && width <= INT32_MAX &&
                      height * width <= INT32_MAX,
                  "mmvim kernels: no grid of tokens has height ", height, " and width ", width);
  const int64_t tokens = height * width;
  if (table) {
    STD_TORCH_CHECK(table->scalar_type() == ScalarType::Int && table->dim() == 2 && table->is_contiguous(),
                    "mmvim kernels: table must be a contiguous int32 tensor (walks, steps)");
    const int32_t* data = static_cast<const int32_t*>(table->const_data_ptr());
    bool inside = true;
    for (int64_t i = 0; readable && i < table->numel(); ++i) inside &= data[i] >= -1 && data[i] < tokens;
    STD_TORCH_CHECK(inside, "mmvim kernels: walks leave the grid: the table must hold tokens 0 to ", tokens - 1,
                    " and -1 for none");
    return {table->size(0), table->size(1), tokens, height, width, nullptr, data};
  }
  for (const int64_t kind : kinds)
    STD_TORCH_CHECK(kind >= kRow && kind <= kColumnReversed, "mmvim kernels: kinds of walks are 0 to 3, got ", kind);
  return {static_cast<int64_t>(kinds.size()), tokens, tokens, height, width, kinds.data(), nullptr};
}

inline void check_rows(const char* name, const Tensor& t, int64_t batch, int64_t walks, int64_t rows, int64_t last) {
  STD_TORCH_CHECK(t.dim() == 4 && t.size(0) == batch && (t.size(1) == 1 || t.size(1) == walks) && t.size(2) == rows &&
                      t.size(3) == last,
                  "mmvim kernels: ", name, " must be (", batch, ", 1 or ", walks, ", ", rows, ", ", last, ")");
}

inline void check_parameter(const char* name, const Tensor& t, int64_t walks, const Sizes& rest, ScalarType type) {
  bool fits = t.dim() == static_cast<int64_t>(rest.size()) + 1 && (t.size(0) == 1 || t.size(0) == walks);
  for (size_t i = 0; fits && i < rest.size(); ++i) fits = t.size(i + 1) == rest[i];
  STD_TORCH_CHECK(fits && t.is_contiguous() && t.scalar_type() == type, "mmvim kernels: ", name,
                  " must be contiguous, in the state type, one slice or ", walks, " slices of the right shape");
}

// Fills what forward and backward share. The tensors must outlive the kernels' run.
inline void fill(ScanInputs& p, const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B, const Tensor& C,
                 const Optional& D, const Optional& z, const Optional& delta_bias, const Optional& dt_weight,
                 const Optional& table, const Sizes& kinds, int64_t height, int64_t width, bool delta_softplus,
                 bool u_step, bool param_step, bool merge, double scale, bool readable) {
  check_device("delta", delta, u), check_device("A", A, u), check_device("B", B, u), check_device("C", C, u);
  check_device("D", D, u), check_device("z", z, u), check_device("delta_bias", delta_bias, u);
  check_device("dt_weight", dt_weight, u), check_device("table", table, u);
  p.walks = walks(table, kinds, height, width, readable);
  const int64_t K = p.walks.count, L = p.walks.tokens, S = p.walks.steps;
  p.batch = u.size(0), p.channels = u.size(3), p.states = A.size(2), p.rank = dt_weight ? dt_weight->size(2) : 0;
  p.delta_softplus = delta_softplus, p.u_step = u_step, p.param_step = param_step, p.merge = merge, p.scale = scale;
  p.io = dtype(u.scalar_type());
  const ScalarType state = state_type(u.scalar_type());
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

inline void fill(ConvInputs& p, const Tensor& x, const Tensor& weight, const Optional& bias, const Optional& table,
                 const Sizes& kinds, int64_t height, int64_t width, bool silu, bool step, bool readable) {
  check_device("weight", weight, x), check_device("bias", bias, x), check_device("table", table, x);
  p.walks = walks(table, kinds, height, width, readable);
  p.batch = x.size(0), p.channels = x.size(2), p.taps = weight.size(2), p.silu = silu, p.step = step;
  p.io = dtype(x.scalar_type());
  const ScalarType state = state_type(x.scalar_type());
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

template <class Inputs>
bool nothing_to_do(const Inputs& p) {
  return !p.batch || !p.channels || !p.walks.count || !p.walks.steps || !p.walks.tokens;
}

// Allocates the results of one call: for the kernels to write, or zeros where there is nothing to compute.
template <class Device>
class Results {
 public:
  Results(Device& device, const Tensor& like, bool zero) : device_(device), like_(like), zero_(zero) {}

  Tensor operator()(const Sizes& sizes, ScalarType type) {
    const bool elements = std::all_of(sizes.begin(), sizes.end(), [](int64_t size) { return size > 0; });
    if (elements && !zero_) return device_.empty(sizes, type);
    Tensor result = torch::stable::new_empty(like_, sizes, type);
    return elements ? torch::stable::zero_(result) : result;
  }

 private:
  Device& device_;
  const Tensor& like_;
  const bool zero_;
};

template <class Device>
std::tuple<Tensor, Tensor, Tensor> scan(Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Optional D, Optional z,
                                        Optional delta_bias, Optional dt_weight, Optional table, Sizes kinds,
                                        int64_t height, int64_t width, bool delta_softplus, bool u_step,
                                        bool param_step, bool merge, double scale, ScalarType out_dtype, bool save) {
  Device::require(u.scalar_type(), out_dtype);
  Device device(u);
  u = with_unit_stride(u), delta = with_unit_stride(delta), B = with_unit_stride(B), C = with_unit_stride(C);
  z = with_unit_stride(z);
  ScanForward p;
  fill(p, u, delta, A, B, C, D, z, delta_bias, dt_weight, table, kinds, height, width, delta_softplus, u_step,
       param_step, merge, scale, Device::kHost);
  const ScalarType state = state_type(u.scalar_type());
  const int64_t K = p.walks.count, L = p.walks.tokens, S = p.walks.steps;
  const int64_t saved = std::max<int64_t>((S + kTile - 1) / kTile - 1, 0);
  p.out = dtype(out_dtype);
  STD_TORCH_CHECK(state == ScalarType::Float || p.out == DType::kFloat64 || p.out == DType::kFloat32,
                  "mmvim kernels: out_dtype of float64 inputs must be float64 or float32");
  Results<Device> make(device, u, nothing_to_do(p));
  Tensor y = make(merge ? Sizes{p.batch, L, p.channels} : Sizes{p.batch, K, L, p.channels}, out_dtype);
  Tensor states = make(save ? Sizes{p.batch, K, saved, p.states, p.channels} : Sizes{0}, state);
  Tensor last = make({p.batch, K, p.channels, p.states}, state);
  if (!nothing_to_do(p)) {
    p.y = y.mutable_data_ptr();
    p.saved = save ? states.mutable_data_ptr() : nullptr;
    p.last_state = last.mutable_data_ptr();
    device.run(p);
  }
  return {y, states, last};
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

inline Tensor cast(const Tensor& t, ScalarType type) {
  return t.scalar_type() == type ? t : torch::stable::to(t, type);
}

// Which of `count` gradients are wanted; all by default.
inline std::vector<bool> wanted_of(const std::optional<std::vector<bool>>& output_mask, size_t count) {
  if (!output_mask) return std::vector<bool>(count, true);
  STD_TORCH_CHECK(output_mask->size() == count, "mmvim kernels: output_mask must have ", count, " values");
  return *output_mask;
}

template <class Device>
Gradients scan_backward(Tensor grad, Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Optional D, Optional z,
                        Optional delta_bias, Optional dt_weight, Optional table, Tensor states, Sizes kinds,
                        int64_t height, int64_t width, bool delta_softplus, bool u_step, bool param_step, bool merge,
                        double scale, std::optional<std::vector<bool>> output_mask) {
  Device::require(u.scalar_type(), grad.scalar_type());
  Device device(u);
  u = with_unit_stride(u), delta = with_unit_stride(delta), B = with_unit_stride(B), C = with_unit_stride(C);
  z = with_unit_stride(z), grad = with_unit_stride(grad), states = torch::stable::contiguous(states);
  ScanBackward p;
  fill(p, u, delta, A, B, C, D, z, delta_bias, dt_weight, table, kinds, height, width, delta_softplus, u_step,
       param_step, merge, scale, Device::kHost);
  const ScalarType io = u.scalar_type(), state = state_type(io), slope = Device::gradient_type(io);
  const int64_t K = p.walks.count, L = p.walks.tokens, S = p.walks.steps;
  const int64_t saved = std::max<int64_t>((S + kTile - 1) / kTile - 1, 0);
  check_device("states", states, u), check_device("grad", grad, u);
  STD_TORCH_CHECK(states.numel() == p.batch * K * saved * p.states * p.channels && states.scalar_type() == state,
                  "mmvim kernels: states must come from the forward pass with save=True");
  STD_TORCH_CHECK(grad.numel() == p.batch * (merge ? 1 : K) * L * p.channels && grad.dim() == (merge ? 3 : 4),
                  "mmvim kernels: grad must have the shape of the output");
  Results<Device> make(device, u, nothing_to_do(p));
  const std::vector<bool> wanted = wanted_of(output_mask, 9);
  // What is written in any case is made in any case, and left out of the result.
  const auto gradient = [&](int index, const Optional& of, ScalarType type, bool always = false) {
    return make(of && (wanted[index] || always) ? sizes(*of) : Sizes{0}, type);
  };
  Tensor du = gradient(0, u, slope, Device::kWritesRows), ddelta = gradient(1, delta, slope, Device::kWritesRows);
  Tensor dA = gradient(2, A, state), dB = gradient(3, B, slope), dC = gradient(4, C, slope);
  Tensor dD = gradient(5, D, state), dz = gradient(6, z, slope), dbias = gradient(7, delta_bias, state);
  Tensor dweight = gradient(8, dt_weight, state);
  if (!nothing_to_do(p)) {
    const auto data = [](Tensor& t) { return t.numel() ? t.mutable_data_ptr() : nullptr; };
    p.grad_type = dtype(grad.scalar_type()), p.grad = rows(grad), p.saved = states.const_data_ptr();
    if (merge) p.grad.walk = 0;
    p.du = data(du), p.ddelta = data(ddelta), p.da = data(dA), p.db = data(dB), p.dc = data(dC);
    p.dskip = data(dD), p.dz = data(dz), p.dbias = data(dbias), p.ddt_weight = data(dweight);
    p.u_shared = u.size(1) == 1, p.delta_shared = delta.size(1) == 1, p.b_shared = B.size(1) == 1;
    p.c_shared = C.size(1) == 1, p.a_shared = A.size(0) == 1, p.skip_shared = D && D->size(0) == 1;
    p.bias_shared = delta_bias && delta_bias->size(0) == 1, p.dt_weight_shared = dt_weight && dt_weight->size(0) == 1;
    device.run(p);
  }
  const auto result = [&](int index, const Tensor& t) { return wanted[index] ? cast(t, io) : make({0}, io); };
  return {result(0, du), result(1, ddelta), dA, cast(dB, io), cast(dC, io), dD, cast(dz, io), dbias, dweight};
}

template <class Device>
Tensor walk_conv(Tensor x, Tensor weight, Optional bias, Optional table, Sizes kinds, int64_t height, int64_t width,
                 bool silu, bool step) {
  Device::require(x.scalar_type(), x.scalar_type());
  Device device(x);
  x = with_unit_stride(x);
  ConvForward p;
  fill(p, x, weight, bias, table, kinds, height, width, silu, step, Device::kHost);
  Results<Device> make(device, x, nothing_to_do(p));
  Tensor y = make({p.batch, p.walks.count, step ? p.walks.steps : p.walks.tokens, p.channels}, x.scalar_type());
  if (nothing_to_do(p)) return y;
  p.y = y.mutable_data_ptr();
  device.run(p);
  return y;
}

template <class Device>
std::tuple<Tensor, Tensor, Tensor> walk_conv_backward(Tensor grad, Tensor x, Tensor weight, Optional bias,
                                                      Optional table, Sizes kinds, int64_t height, int64_t width,
                                                      bool silu, bool step,
                                                      std::optional<std::vector<bool>> output_mask) {
  Device::require(x.scalar_type(), x.scalar_type());
  Device device(x);
  x = with_unit_stride(x), grad = with_unit_stride(grad);
  ConvBackward p;
  fill(p, x, weight, bias, table, kinds, height, width, silu, step, Device::kHost);
  check_device("grad", grad, x);
  STD_TORCH_CHECK(grad.dim() == 4 && grad.scalar_type() == x.scalar_type() &&
                      grad.numel() == p.batch * p.walks.count * (step ? p.walks.steps : p.walks.tokens) * p.channels,
                  "mmvim kernels: grad must have the shape and dtype of the output");
  const ScalarType state = state_type(x.scalar_type());
  Results<Device> make(device, x, nothing_to_do(p));
  const std::vector<bool> wanted = wanted_of(output_mask, 3);
  const auto gradient = [&](const Optional& of, bool want, ScalarType type) {
    return make(of && want ? sizes(*of) : Sizes{0}, type);
  };
  Tensor dx = gradient(x, wanted[0] || Device::kWritesRows, Device::gradient_type(x.scalar_type()));
  Tensor dweight = gradient(weight, wanted[1], state), dbias = gradient(bias, wanted[2], state);
  if (!nothing_to_do(p)) {
    const auto data = [](Tensor& t) { return t.numel() ? t.mutable_data_ptr() : nullptr; };
    p.grad = rows(grad), p.dx = data(dx), p.dweight = data(dweight), p.dbias = data(dbias);
    device.run(p);
  }
  return {wanted[0] ? cast(dx, x.scalar_type()) : make({0}, x.scalar_type()), dweight, dbias};
}

template <class Device, class Library>
void add_operators(Library& library) {
  library.impl("scan", TORCH_BOX(&scan<Device>));
  library.impl("scan_backward", TORCH_BOX(&scan_backward<Device>));
  library.impl("walk_conv", TORCH_BOX(&walk_conv<Device>));
  library.impl("walk_conv_backward", TORCH_BOX(&walk_conv_backward<Device>));
}

}  // namespace mmvim::binding
