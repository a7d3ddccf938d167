// mmvim's operators for OpenVINO's CPU device: an extension library around cpu/api.h, with OpenVINO's threads. Operators
// and inputs are those of mmvim/ops/library.py, in float32; mmvim/export/nodes.py writes their nodes.
#include <openvino/core/extension.hpp>
#include <openvino/core/op_extension.hpp>
#include <openvino/frontend/onnx/extension/op.hpp>
#include <openvino/op/op.hpp>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <vector>

#include "../core/walk.h"
#include "../cpu/api.h"

namespace {

using Sizes = std::vector<int64_t>;

// As many threads as the compiled model may take: its nodes run in an arena of that size.
mmvim::Pool pool() {
  mmvim::Pool result;
  result.threads = tbb::this_task_arena::max_concurrency();
  result.run = [](int64_t workers, void (*body)(void*), void* context) {
    tbb::parallel_for(int64_t{0}, workers, [&](int64_t) { body(context); }, tbb::static_partitioner());
  };
  return result;
}

int64_t size(const ov::Tensor& t, size_t dim) { return static_cast<int64_t>(t.get_shape()[dim]); }

// What both operators have: walks, and optional inputs. A node has those inputs of the operator that `given` has a bit
// for, in the operator's order; without a table, which is the last one, `kinds` are the walks.
class Operator : public ov::op::Op {
 public:
  bool visit_attributes(ov::AttributeVisitor& visitor) override {
    visitor.on_attribute("given", given_);
    visitor.on_attribute("kinds", kinds_);
    visitor.on_attribute("height", height_);
    visitor.on_attribute("width", width_);
    return true;
  }

  bool has_evaluate() const override { return true; }

 protected:
  int64_t given_ = 0, height_ = 0, width_ = 0;
  Sizes kinds_;  // one number for each walk also where there is a table

  bool has(int input) const { return given_ >> input & 1; }
  size_t place(int input) const { return std::popcount(static_cast<uint64_t>(given_) & ((uint64_t{1} << input) - 1)); }
  int64_t count() const { return static_cast<int64_t>(kinds_.size()); }
  int64_t tokens() const { return height_ * width_; }

  void check_inputs(const Sizes& ranks, int always) const {
    const int table = static_cast<int>(ranks.size()) - 1;
    NODE_VALIDATION_CHECK(this, given_ >= 0 && given_ >> ranks.size() == 0 && std::countr_one(uint64_t(given_)) >= always,
                          "lacks inputs");
    NODE_VALIDATION_CHECK(this, static_cast<size_t>(std::popcount(uint64_t(given_))) == get_input_size(),
                          "has another number of inputs than its attribute `given`");
    NODE_VALIDATION_CHECK(this, height_ > 0 && width_ > 0 && height_ <= INT32_MAX / width_ && count() > 0,
                          "has no walks");
    for (const int64_t kind : kinds_)
      NODE_VALIDATION_CHECK(this, has(table) || (kind >= mmvim::kRow && kind <= mmvim::kColumnReversed),
                            "kinds of walks are 0 to 3, got ", kind);
    for (int i = 0; i <= table; ++i) {
      if (!has(i)) continue;
      const auto type = i == table ? ov::element::i32 : ov::element::f32;
      NODE_VALIDATION_CHECK(this, get_input_element_type(place(i)) == type, "input ", i, " must be of ", type);
      NODE_VALIDATION_CHECK(this, get_input_partial_shape(place(i)).rank().compatible(ranks[i]), "input ", i,
                            " must have ", ranks[i], " dimensions");
    }
  }

  // An input of these sizes; where `walks` is not negative, that dimension may also be 1: shared between all walks.
  const ov::Tensor& input(const ov::TensorVector& inputs, int index, const Sizes& sizes, int walks) const {
    const ov::Tensor& t = inputs[place(index)];
    for (int i = 0; i < static_cast<int>(sizes.size()); ++i)
      NODE_VALIDATION_CHECK(this, size(t, i) == sizes[i] || (i == walks && size(t, i) == 1), "input ", index, " is ",
                            t.get_shape(), ": dimension ", i, " must be ", sizes[i]);
    return t;
  }

  // OpenVINO's tensors are dense.
  mmvim::Rows rows(const ov::TensorVector& inputs, int index, const Sizes& sizes) const {
    const bool walked = sizes.size() == 4;
    const ov::Tensor& t = input(inputs, index, sizes, walked ? 1 : -1);
    const int64_t row = sizes.back(), walk = sizes[sizes.size() - 2] * row;
    const bool shared = !walked || size(t, 1) == 1;
    return {t.data(), (walked ? size(t, 1) : 1) * walk, shared ? 0 : walk, row};
  }

  mmvim::Parameter parameter(const ov::TensorVector& inputs, int index, const Sizes& sizes) const {
    if (!has(index)) return {};
    const ov::Tensor& t = input(inputs, index, sizes, 0);
    return {t.data(), size(t, 0) == 1 ? 0 : static_cast<int64_t>(t.get_size()) / size(t, 0)};
  }

  mmvim::Walks walks(const ov::TensorVector& inputs, int table) const {
    if (!has(table)) return {count(), tokens(), tokens(), height_, width_, kinds_.data(), nullptr};
    const int64_t steps = size(inputs[place(table)], 1);
    const ov::Tensor& t = input(inputs, table, {count(), steps}, -1);
    const int32_t* data = t.data<int32_t>();
    NODE_VALIDATION_CHECK(this, std::all_of(data, data + t.get_size(), [&](int32_t x) { return x >= -1 && x < tokens(); }),
                          "walks leave the grid");
    return {count(), steps, tokens(), height_, width_, nullptr, data};
  }
};

class Scan : public Operator {
 public:
  OPENVINO_OP("Scan", "mmvim");

  void validate_and_infer_types() override {
    check_inputs({4, 4, 3, 4, 4, 2, 3, 2, 3, 2}, 5);
    const auto& u = get_input_partial_shape(kU);
    const auto batch = u.rank().is_static() ? u[0] : ov::Dimension(), channels = u.rank().is_static() ? u[3] : batch;
    set_output_type(0, ov::element::f32,
                    merge_ ? ov::PartialShape{batch, tokens(), channels}
                           : ov::PartialShape{batch, count(), tokens(), channels});
  }

  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
    auto node = std::make_shared<Scan>(*this);
    node->set_arguments(inputs);
    node->validate_and_infer_types();
    return node;
  }

  bool visit_attributes(ov::AttributeVisitor& visitor) override {
    visitor.on_attribute("delta_softplus", delta_softplus_);
    visitor.on_attribute("u_step", u_step_);
    visitor.on_attribute("param_step", param_step_);
    visitor.on_attribute("merge", merge_);
    visitor.on_attribute("scale", scale_);
    return Operator::visit_attributes(visitor);
  }

  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
    mmvim::ScanForward p{};
    p.walks = walks(inputs, kTable);
    const int64_t K = p.walks.count, L = p.walks.tokens, S = p.walks.steps;
    p.batch = size(inputs[kU], 0), p.channels = size(inputs[kU], 3), p.states = size(inputs[kA], 2);
    p.rank = has(kWeight) ? size(inputs[place(kWeight)], 2) : 0;
    p.delta_softplus = delta_softplus_, p.u_step = u_step_, p.param_step = param_step_, p.merge = merge_;
    p.scale = scale_, p.io = p.out = mmvim::DType::kFloat32;
    const int64_t B = p.batch, D = p.channels, N = p.states, given = param_step_ ? S : L;
    p.u = rows(inputs, kU, {B, K, u_step_ ? S : L, D});
    p.delta = rows(inputs, kDelta, {B, K, given, p.rank ? p.rank : D});
    p.b = rows(inputs, kB, {B, K, given, N}), p.c = rows(inputs, kC, {B, K, given, N});
    if (has(kZ)) p.z = rows(inputs, kZ, {B, L, D});
    p.a = parameter(inputs, kA, {K, D, N}), p.skip = parameter(inputs, kSkip, {K, D});
    p.bias = parameter(inputs, kBias, {K, D}), p.dt_weight = parameter(inputs, kWeight, {K, D, p.rank});
    outputs[0].set_shape(merge_ ? ov::Shape{size_t(B), size_t(L), size_t(D)}
                                : ov::Shape{size_t(B), size_t(K), size_t(L), size_t(D)});
    if (!outputs[0].get_size()) return true;
    const std::unique_ptr<void, void (*)(void*)> last(mmvim::allocate(sizeof(float) * B * K * D * N), mmvim::release);
    p.y = outputs[0].data(), p.last_state = last.get();
    mmvim::kernels().scan(p, pool());
    return true;
  }

 private:
  enum Input : int { kU, kDelta, kA, kB, kC, kSkip, kZ, kBias, kWeight, kTable };
  int64_t delta_softplus_ = 0, u_step_ = 0, param_step_ = 0, merge_ = 0;  // ONNX has no booleans
  float scale_ = 1;
};

class WalkConv : public Operator {
 public:
  OPENVINO_OP("WalkConv", "mmvim");

  void validate_and_infer_types() override {
    check_inputs({3, 3, 2, 2}, 2);
    const auto& x = get_input_partial_shape(kX);
    ov::Dimension batch, channels, steps = tokens();
    if (x.rank().is_static()) batch = x[0], channels = x[2];
    if (step_ && has(kTable)) {
      const auto& table = get_input_partial_shape(place(kTable));
      steps = table.rank().is_static() ? table[1] : ov::Dimension();
    }
    set_output_type(0, ov::element::f32, {batch, count(), steps, channels});
  }

  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override {
    auto node = std::make_shared<WalkConv>(*this);
    node->set_arguments(inputs);
    node->validate_and_infer_types();
    return node;
  }

  bool visit_attributes(ov::AttributeVisitor& visitor) override {
    visitor.on_attribute("silu", silu_);
    visitor.on_attribute("step", step_);
    return Operator::visit_attributes(visitor);
  }

  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override {
    mmvim::ConvForward p{};
    p.walks = walks(inputs, kTable);
    const int64_t K = p.walks.count, L = p.walks.tokens, rows_out = step_ ? p.walks.steps : L;
    p.batch = size(inputs[kX], 0), p.channels = size(inputs[kX], 2), p.taps = size(inputs[kWeight], 2);
    NODE_VALIDATION_CHECK(this, p.taps >= 1 && p.taps <= mmvim::kTile, "takes 1 to 32 taps, got ", p.taps);
    p.silu = silu_, p.step = step_, p.io = mmvim::DType::kFloat32;
    p.x = rows(inputs, kX, {p.batch, L, p.channels});
    p.weight = input(inputs, kWeight, {K, p.channels, p.taps}, -1).data();
    p.bias = has(kBias) ? input(inputs, kBias, {K, p.channels}, -1).data() : nullptr;
    outputs[0].set_shape({size_t(p.batch), size_t(K), size_t(rows_out), size_t(p.channels)});
    if (!outputs[0].get_size()) return true;
    p.y = outputs[0].data();
    mmvim::kernels().walk_conv(p, pool());
    return true;
  }

 private:
  enum Input : int { kX, kWeight, kBias, kTable };
  int64_t silu_ = 0, step_ = 0;
};

// As an operator of files of OpenVINO's, and as a node of ONNX in the domain `mmvim`.
template <class Op>
std::vector<ov::Extension::Ptr> known(const char* name) {
  return {std::make_shared<ov::OpExtension<Op>>(),
          std::make_shared<ov::frontend::onnx::OpExtension<Op>>(name, "mmvim")};
}

std::vector<ov::Extension::Ptr> all() {
  std::vector<ov::Extension::Ptr> result = known<Scan>("Scan");
  for (const auto& extension : known<WalkConv>("WalkConv")) result.push_back(extension);
  return result;
}

}  // namespace

OPENVINO_CREATE_EXTENSIONS(all());
