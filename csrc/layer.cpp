#include "layer.h"

namespace fastrnn {
namespace {

int find_cell(std::string_view name) {
  for (int i = 0; i < kCellCount; ++i) {
    if (name == kCells[i].name) return i;
  }
  std::string known;
  for (const CellInfo& c : kCells) known += std::string(known.empty() ? "" : ", ") + c.name;
  throw std::runtime_error("cell must be one of " + known + ", got " + std::string(name));
}

void check_like(const char* name, const Tensor& t, const Tensor& input) {
  if (alike(t, input)) return;  // in fewer calls of the ABI than what puts the words together
  STD_TORCH_CHECK(t.scalar_type() == input.scalar_type(), name, " must have input's dtype ",
                  torch::headeronly::toString(input.scalar_type()), ", got ",
                  torch::headeronly::toString(t.scalar_type()));
  STD_TORCH_CHECK(t.is_cpu() == input.is_cpu(), name, " must be on input's device");
}

}  // namespace

Layer::Layer(std::string_view name, const Tensor& input, const Tensors& weights,
             const Tensors& state, const std::optional<Tensor>& batch_sizes,
             const std::optional<Tensor>& resets, int64_t directions, bool project)
    : cell(find_cell(name)), packed(batch_sizes.has_value()), input_(input) {
  const int64_t dims = packed ? 2 : 3;
  STD_TORCH_CHECK(input.dim() == dims, "input must have ", dims, " dimensions, got ", shape(input));
  const bool given = packed || !state.empty();
  STD_TORCH_CHECK(!given || int64_t(state.size()) == info().states, "state must be ", info().states,
                  " tensors", packed ? "" : " or none", ", got ", state.size());
  if (input.stride(dims - 1) != 1 && input.size(dims - 1) != 1) {
    input_ = torch::stable::contiguous(input);
  }
  read_sizes(weights, directions, project);
  read_rows(batch_sizes, state);
  read_resets(resets);
  params.input = input_.data_ptr();
  for (int d = 0; d < params.directions; ++d) {
    read_direction(d, directions == kReverse || d == 1, weights, state, project);
  }
}

void Layer::read_sizes(const Tensors& weights, int64_t directions, bool project) {
  STD_TORCH_CHECK(directions >= kForward && directions <= (kForward | kReverse),
                  "directions must be 1 (forward), 2 (reverse) or 3 (both), got ", directions);
  params.directions = directions == (kForward | kReverse) ? 2 : 1;
  STD_TORCH_CHECK(project || params.directions == 1, "a ready projection has one direction");
  const int least = project ? 2 : 1;
  per_direction = int(weights.size()) / params.directions;
  bias = per_direction == 2 * least;
  STD_TORCH_CHECK(int64_t(weights.size()) == params.directions * per_direction &&
                      (bias || per_direction == least),
                  "weights must be ", least, " or ", 2 * least, " tensors for each of ",
                  params.directions, " directions, got ", weights.size());
  params.H = weights[project ? 1 : 0].size(1);
  params.I = input_.size(packed ? 1 : 2);
}

void Layer::read_rows(const std::optional<Tensor>& batch_sizes, const Tensors& state) {
  if (state.empty()) {
    params.B = input_.size(1);
  } else {
    STD_TORCH_CHECK(state[0].dim() == 3, "state must be [D, B, H], got ", shape(state[0]));
    params.B = state[0].size(1);
  }
  if (!packed) {
    params.T = input_.size(0);
    params.N = params.T * params.B;
    params.input_t = input_.stride(0);
    params.input_b = input_.stride(1);
    STD_TORCH_CHECK(input_.size(1) == params.B, "state must have input's ", input_.size(1),
                    " rows, got ", params.B);
    return;
  }
  const Tensor& sizes = *batch_sizes;
  STD_TORCH_CHECK(sizes.is_cpu() && sizes.scalar_type() == ScalarType::Long && sizes.dim() == 1,
                  "batch_sizes must be an int64 CPU tensor [T]");
  params.batch_sizes = static_cast<const int64_t*>(keep(sizes));
  params.T = sizes.size(0);
  params.input_b = input_.stride(0);
  int64_t rows = params.B;
  for (int64_t t = 0; t < params.T; ++t) {
    step_begin_.push_back(params.N);
    STD_TORCH_CHECK(params.batch_sizes[t] >= 0 && params.batch_sizes[t] <= rows,
                    "batch_sizes must fall from at most ", params.B, " to 0, got ",
                    params.batch_sizes[t], " at step ", t);
    rows = params.batch_sizes[t];
    params.N += rows;
  }
  STD_TORCH_CHECK(params.N == input_.size(0), "input must have the ", params.N,
                  " rows of batch_sizes, got ", input_.size(0));
  params.step_begin = step_begin_.data();
}

void Layer::read_resets(const std::optional<Tensor>& resets) {
  if (!resets) return;
  STD_TORCH_CHECK(resets->scalar_type() == ScalarType::Bool, "resets must be bool");
  if (packed) {
    check_shape("resets", *resets, {params.N});
  } else {
    check_shape("resets", *resets, {params.T, params.B});
  }
  params.resets = static_cast<const bool*>(keep(*resets));
}

void Layer::read_direction(int d, bool reverse, const Tensors& weights, const Tensors& state,
                           bool project) {
  const int64_t H = params.H, GH = H * info().gates;
  const Tensor* w = &weights[d * per_direction];
  for (int i = 0; i < per_direction; ++i) check_like("weights", w[i], input_);
  for (const Tensor& s : state) {
    check_like("state", s, input_);
    check_shape("state", s, {params.directions, params.B, H});
  }
  Direction& dir = params.dir[d];
  dir.reverse = reverse;
  if (project) {
    check_shape("weight_ih", *w, {GH, params.I});
    dir.w_ih = keep(*w++);
  } else {
    STD_TORCH_CHECK(params.I == GH, "gx must have ", GH, " columns (gates x hidden), got ",
                    params.I);
  }
  check_shape("weight_hh", *w, {GH, H});
  dir.w_hh = keep(*w++);
  if (bias && project) {
    check_shape("bias_ih", *w, {GH});
    dir.b_ih = keep(*w++);
  }
  if (bias) {
    check_shape("bias_hh", *w, {GH});
    dir.b_hh = keep(*w);
  }
  for (size_t k = 0; k < state.size(); ++k) {
    const char* data = static_cast<const char*>(keep(state[k]));
    dir.state0[k] = data + d * params.B * H * input_.element_size();
  }
}

const void* Layer::keep(const Tensor& t) {
  if (t.is_contiguous()) return t.data_ptr();
  kept_.push_back(torch::stable::contiguous(t));
  return kept_.back().data_ptr();
}

Tensor Layer::like_input(int64_t columns) const {
  return packed ? allocate(input_, {params.N, columns})
                : allocate(input_, {params.T, params.B, columns});
}

}  // namespace fastrnn
