#include "layer.h"

#include <algorithm>
#include <cstring>

namespace fastrnn {
namespace {

void check_like(const char* name, const Tensor& t, const Tensor& input) {
  if (alike(t, input)) return;  // in fewer calls of the ABI than what puts the words together
  const auto dtype = [](const Tensor& tensor) {
    return std::string(torch::headeronly::toString(tensor.scalar_type()));
  };
  FASTRNN_CHECK(
      t.scalar_type() == input.scalar_type(),
      std::string(name) + " must have input's dtype " + dtype(input) + ", got " + dtype(t));
  FASTRNN_CHECK(t.is_cpu() == input.is_cpu(), std::string(name) + " must be on input's device");
}

}  // namespace

Layer::Layer(std::string_view name, const Tensor& input, const Tensors& weights,
             const Tensors& state, const MaybeTensor& batch_sizes, const MaybeTensor& resets,
             int64_t directions, bool project, bool stacked)
    : cell(known_cell(name, input.scalar_type())),
      packed(batch_sizes.has_value() && input.dim() != 3),
      single(!batch_sizes && input.dim() == 2),
      project(project),
      input_(input) {
  const int64_t dims = packed || single ? 2 : 3;
  FASTRNN_CHECK(input.dim() == dims,
                "input must have " + std::to_string(dims) + " dimensions, got " + shape(input));
  const bool given = packed || !state.empty();
  FASTRNN_CHECK(!given || int64_t(state.size()) == info().states,
                "state must be " + std::to_string(info().states) + " tensors" +
                    (packed ? "" : " or none") + ", got " + std::to_string(state.size()));
  if (input.stride(dims - 1) != 1 && input.size(dims - 1) != 1) {
    input_ = torch::stable::contiguous(input);
  }
  read_sizes(weights, directions, stacked);
  read_rows(batch_sizes, state);
  read_resets(resets);
  params.input = input_.data_ptr();
  for (int d = 0; d < params.directions; ++d) {
    read_direction(d, directions == kReverse || d == 1, weights, state);
  }
}

void Layer::read_sizes(const Tensors& weights, int64_t directions, bool stacked) {
  FASTRNN_CHECK(
      directions >= kForward && directions <= (kForward | kReverse),
      "directions must be 1 (forward), 2 (reverse) or 3 (both), got " + std::to_string(directions));
  params.directions = directions == (kForward | kReverse) ? 2 : 1;
  FASTRNN_CHECK((project && !single) || params.directions == 1,
                "a ready projection or a single step has one direction");
  const int products = int(project) + int(product());  // each with a matrix, and perhaps a bias
  const int least = products + (info().params > 0) + (info().extra > 0);
  const int biased = least + products;
  per_direction = int(weights.size()) / params.directions;
  // One more than either number is W_hr, which a ready projection leaves no room to tell from
  // biases.
  projected = info().projects && project && per_direction % 2 != least % 2;
  bias = products > 0 && per_direction - projected == biased;
  FASTRNN_CHECK(int64_t(weights.size()) == params.directions * per_direction &&
                    (bias || per_direction - projected == least),
                "weights must be " + std::to_string(least) + " or " + std::to_string(biased) +
                    " tensors for each of " + std::to_string(params.directions) + " directions" +
                    (info().extra > 0    ? ", the last of them its extra slots"
                     : info().params > 0 ? ", the last of them the cell's parameters"
                                         : "") +
                    ", got " + std::to_string(weights.size()));
  params.I = input_.size(packed || single ? 1 : 2);
  if (product()) {
    const Tensor& w_hh = weights[project ? 1 : 0];
    const bool blocks = info().heads;
    FASTRNN_CHECK(w_hh.dim() == (blocks ? 3 : 2),
                  std::string("weight_hh must be ") +
                      (blocks ? "[heads, gates * H / heads, H / heads]" : "[gates * H, H]") +
                      ", got " + shape(w_hh));
    params.heads = blocks ? w_hh.size(0) : 1;
    params.P = params.heads * w_hh.size(blocks ? 2 : 1);
    params.H = projected ? weights[0].size(0) / info().gates : params.P;
  } else {
    params.P = params.H = (project ? weights[0].size(0) : params.I) / info().gates;
  }
  params.P_row = stacked ? params.H : params.P;
}

void Layer::read_rows(const MaybeTensor& batch_sizes, const Tensors& state) {
  if (!packed) {
    const int64_t rows = single ? 0 : 1;
    params.B = input_.size(rows);
    params.T = single ? 1 : input_.size(0);
    params.N = params.T * params.B;
    params.input_t = single ? 0 : input_.stride(0);
    params.input_b = input_.stride(rows);
    if (batch_sizes) read_lengths(*batch_sizes);
    return;  // read_direction compares the states with B
  }
  FASTRNN_CHECK(state[0].dim() == 3, "state must be [D, B, H], got " + shape(state[0]));
  params.B = state[0].size(1);
  const Tensor& sizes = *batch_sizes;
  FASTRNN_CHECK(sizes.is_cpu() && sizes.scalar_type() == ScalarType::Long && sizes.dim() == 1,
                "batch_sizes must be an int64 CPU tensor [T]");
  params.batch_sizes = static_cast<const int64_t*>(keep(sizes));
  params.T = sizes.size(0);
  params.input_b = input_.stride(0);
  int64_t rows = params.B;
  for (int64_t t = 0; t < params.T; ++t) {
    step_begin_.push_back(params.N);
    FASTRNN_CHECK(params.batch_sizes[t] >= 0 && params.batch_sizes[t] <= rows,
                  "batch_sizes must fall from at most " + std::to_string(params.B) + " to 0, got " +
                      std::to_string(params.batch_sizes[t]) + " at step " + std::to_string(t));
    rows = params.batch_sizes[t];
    params.N += rows;
  }
  FASTRNN_CHECK(params.N == input_.size(0), "input must have the " + std::to_string(params.N) +
                                                " rows of batch_sizes, got " +
                                                std::to_string(input_.size(0)));
  params.step_begin = step_begin_.data();
}

// The engine takes the rows by falling length, those of the same length in the caller's order.
void Layer::read_lengths(const Tensor& lengths) {
  const int64_t T = params.T, B = params.B;
  FASTRNN_CHECK(lengths.is_cpu() && lengths.scalar_type() == ScalarType::Long &&
                    lengths.dim() == 1 && lengths.size(0) == B,
                "lengths must be an int64 CPU tensor [" + std::to_string(B) + "], got " +
                    torch::headeronly::toString(lengths.scalar_type()) + " " + shape(lengths));
  const int64_t* steps = static_cast<const int64_t*>(keep(lengths));
  const auto [least, most] = std::minmax_element(steps, steps + B);
  FASTRNN_CHECK(B == 0 || (*least >= 0 && *most <= T),
                "lengths must lie between 0 and " + std::to_string(T) +
                    " (the time steps of input), got " + std::to_string(*least) + " to " +
                    std::to_string(*most));
  batch_sizes_.assign(T + 1, 0);  // rows longer than t steps: first those of t + 1, then all
  for (int64_t b = 0; b < B; ++b) {
    if (steps[b] > 0) ++batch_sizes_[steps[b] - 1];
  }
  for (int64_t t = T; t > 0; --t) batch_sizes_[t - 1] += batch_sizes_[t];
  std::vector<int64_t> place = batch_sizes_;  // of the next row with t steps, after all longer ones
  order_.resize(B);
  for (int64_t b = 0; b < B; ++b) order_[place[steps[b]]++] = b;
  params.N = 0;
  for (int64_t t = 0; t < T; ++t) {
    step_begin_.push_back(params.N);
    params.N += batch_sizes_[t];
  }
  params.batch_sizes = batch_sizes_.data();
  params.step_begin = step_begin_.data();
  params.order = order_.data();
}

void Layer::read_resets(const MaybeTensor& resets) {
  if (!resets) return;
  FASTRNN_CHECK(resets->scalar_type() == ScalarType::Bool, "resets must be bool");
  if (packed || single) {
    check_shape("resets", *resets, {params.N});
  } else {
    check_shape("resets", *resets, {params.T, params.B});
  }
  params.resets = static_cast<const bool*>(keep(*resets));
  if (!params.order) return;
  for (int64_t t = 0; t < params.T; ++t) {
    for (int64_t b = 0; b < params.rows(t); ++b) {
      resets_.push_back(params.resets[t * params.B + order_[b]]);
    }
  }
  params.resets = reinterpret_cast<const bool*>(resets_.data());
}

void Layer::read_direction(int d, bool reverse, const Tensors& weights, const Tensors& state) {
  const int64_t H = params.H, GH = H * info().gates, RH = H * info().recurrent;
  const Tensor* w = weights.data() + d * per_direction;
  for (int i = 0; i < per_direction; ++i) check_like("weights", w[i], input_);
  for (size_t k = 0; k < state.size(); ++k) {
    check_like("state", state[k], input_);
    check_state("state", state[k], int(k));
  }
  Direction& dir = params.dir[d];
  dir.reverse = reverse;
  if (project) {
    check_shape("weight_ih", *w, {GH, params.I});
    dir.w_ih = keep(*w++);
    if (!dir.w_ih) dir.w_ih = this;  // of no numbers; null would say that there is no projection
  } else {
    FASTRNN_CHECK(params.I == GH, "gx must have " + std::to_string(GH) +
                                      " columns (gates x hidden), got " + std::to_string(params.I));
  }
  if (product()) {
    if (info().heads) {
      const int64_t heads = params.heads, own = heads > 0 ? H / heads : 0;  // units of a head
      check_shape("weight_hh", *w, {heads, own * info().gates, own});
    } else {
      check_shape("weight_hh", *w, {RH, params.P});
    }
    dir.w_hh = keep(*w++);
  }
  if (bias && project) {
    check_shape("bias_ih", *w, {GH});
    dir.b_ih = keep(*w++);
  }
  if (bias && product()) {
    check_shape("bias_hh", *w, {RH});
    dir.b_hh = keep(*w++);
  }
  if (projected) {
    check_shape("weight_hr", *w, {params.P, H});
    dir.w_hr = keep(*w++);
  }
  if (info().params > 0) {
    check_shape("params", *w, {info().params, H});
    dir.params = keep(*w++);
  }
  if (info().extra > 0) read_extra(d, *w);
  for (size_t k = 0; k < state.size(); ++k) {
    const char* data = static_cast<const char*>(keep(state[k]));
    dir.state0[k] = data + d * params.B * params.state_row(int(k)) * input_.element_size();
  }
}

// Read where they lie: rows as the input's. Of those that are drawn, what they are drawn from.
void Layer::read_extra(int d, const Tensor& extra) {
  const int64_t EH = params.H * info().extra;
  Direction& dir = params.dir[d];
  if (extra.dim() == 1) {
    drawn_[d] = std::make_unique<DrawnSlots>(extra, info().extra, params.B);
    dir.draws = &drawn_[d]->draws;
    return;
  }
  if (packed || single) {
    check_shape("extra", extra, {params.N, EH});
  } else {
    check_shape("extra", extra, {params.T, params.B, EH});
  }
  const StridedRows rows = strided_rows(extra);
  kept_.push_back(rows.tensor);
  dir.extra = rows.tensor.data_ptr();
  dir.extra_t = single ? 0 : rows.strides[0], dir.extra_b = rows.strides[1];
}

const void* Layer::keep(const Tensor& t) {
  if (t.is_contiguous()) return t.data_ptr();
  kept_.push_back(torch::stable::contiguous(t));
  return kept_.back().data_ptr();
}

Tensor Layer::like_input(int64_t columns) const {
  if (packed || single) return allocate(input_, {params.N, columns});
  Tensor result = allocate(input_, {params.T, params.B, columns});
  zero_past(result);
  return result;
}

void Layer::zero_past(Tensor& tensor) const {
  if (!params.order) return;
  const size_t bytes = tensor.size(tensor.dim() - 1) * tensor.element_size();
  char* data = static_cast<char*>(tensor.data_ptr());
  const int64_t steps =
      tensor.numel() > 0 ? tensor.numel() * tensor.element_size() / (params.B * int64_t(bytes)) : 0;
  for (int64_t i = 0; i < steps; ++i) {  // T of each direction
    for (int64_t b = params.rows(i % params.T); b < params.B; ++b) {
      memset(data + (i * params.B + order_[b]) * bytes, 0, bytes);
    }
  }
}

Tensor Layer::like_state(const Tensor& like, int k) const {
  const int64_t width = params.state_row(k);
  return single ? allocate(like, {params.B, width})
                : allocate(like, {params.directions, params.B, width});
}

Tensor Layer::like_weight(const Tensor& weight, Weight kind) const {
  if (kind == kExtra && weight.dim() > 1) return like_input(weight.size(weight.dim() - 1));
  const auto size = weight.sizes();
  if (weight.dim() == 1) return zeroed(allocate(input_, {size[0]}), kind == kExtra);
  if (weight.dim() == 2) return zeroed(allocate(input_, {size[0], size[1]}, true));
  return zeroed(allocate(input_, {size[0], size[1], size[2]}, true));
}

Tensor Layer::zeroed(Tensor t, bool unwritten) const {
  if (params.N == 0 || unwritten) FASTRNN_SHIM(aoti_torch_zero_(t.get()));
  return t;
}

void Layer::check_state(const char* name, const Tensor& state, int k) const {
  const int64_t width = params.state_row(k);
  if (single) return check_shape(name, state, {params.B, width});
  check_shape(name, state, {params.directions, params.B, width});
}

}  // namespace fastrnn
