// fastrnn::quantized: all layers of an inference module whose weights are panels of int8 or
// bfloat16 (cpu/int8_layout.h), in one call.
#include <tuple>

#include "calls.h"
#include "cpu/int8_layout.h"
#include "run.h"

namespace fastrnn {
namespace {

// Scales (of bfloat16 biases alone), W_ih and W_hh, then the parameters of a cell that has some.
int per_direction_of(const CellInfo& cell) { return 3 + (cell.params > 0); }

const Tensor& checked(const char* name, const Tensor& t, ScalarType dtype, int64_t numbers) {
  FASTRNN_CHECK(t.is_cpu() && t.scalar_type() == dtype && t.is_contiguous() && t.dim() == 1 &&
                    t.size(0) == numbers,
                std::string(name) + " must be a contiguous CPU tensor [" + std::to_string(numbers) +
                    "] of " + torch::headeronly::toString(dtype) + ", got " + shape(t) + " of " +
                    torch::headeronly::toString(t.scalar_type()));
  return t;
}

// The cell with kernels for weights of the dtype that the first W_ih has.
KnownCell cell_of(std::string_view name, const Tensors& weights) {
  FASTRNN_CHECK(weights.size() >= 3, "weights must be 3 tensors for each direction, got " +
                                         std::to_string(weights.size()));
  return known_inference_cell(name, weights[1].scalar_type());
}

}  // namespace

Layer::Layer(std::string_view name, const Tensor& input, const Quantized& q,
             const MaybeTensor& batch_sizes, const MaybeTensor& resets, int64_t directions)
    : cell(cell_of(name, q.weights)),
      packed(batch_sizes.has_value() && input.dim() != 3),
      single(false),
      project(true),
      bias(true),
      projected(false),
      per_direction(per_direction_of(*cell.info)),
      input_(input) {
  const int64_t dims = packed ? 2 : 3;
  FASTRNN_CHECK(input.dim() == dims && input.is_cpu() && input.scalar_type() == ScalarType::Float,
                "input must be a float32 CPU tensor of " + std::to_string(dims) +
                    " dimensions, got " + shape(input) + " of " +
                    torch::headeronly::toString(input.scalar_type()));
  FASTRNN_CHECK(cell.kernels->forward && !info().heads && info().extra == 0 && info().feeds == 0,
                "cell " + std::string(name) + " has no kernels for such weights");
  FASTRNN_CHECK(!packed || !q.state.empty(), "state must be given with packed rows");
  if (input.stride(dims - 1) != 1 && input.size(dims - 1) != 1) {
    input_ = torch::stable::contiguous(input);
  }
  params.directions = directions == (kForward | kReverse) ? 2 : 1;
  params.I = input.size(dims - 1);
  params.H = params.P = params.P_row = q.hidden;
  FASTRNN_CHECK(std::max(params.I, params.H) < kInt8Depth,
                "input_size and hidden_size must be below " + std::to_string(kInt8Depth) +
                    " with int8 weights, got " + std::to_string(params.I) + " and " +
                    std::to_string(params.H));
  read_rows(batch_sizes, q.state);
  read_resets(resets);
  params.input = input_.data_ptr();
  for (int d = 0; d < params.directions; ++d) {
    read_quantized(d, directions == kReverse || d == 1, q);
  }
}

void Layer::read_quantized(int d, bool reverse, const Quantized& q) {
  const int64_t place = q.layer * params.directions + d, H = params.H;
  const Tensor* w = q.weights.data() + place * per_direction;
  const ScalarType dtype = q.weights[1].scalar_type();
  const bool int8 = dtype == ScalarType::Char;
  const auto size = int8 ? int8_bytes : bf16_numbers;
  const int64_t each = int8 ? 2 : 1;  // a scale and a bias for each column, or a bias alone
  const int64_t columns = each * int8_columns(info().gates, H),
                back = each * int8_columns(info().recurrent, H);
  Direction& dir = params.dir[d];
  dir.reverse = reverse;
  dir.w_ih = checked("weight_ih", w[1], dtype, size(info().gates, H, params.I)).data_ptr();
  dir.w_hh = checked("weight_hh", w[2], dtype, size(info().recurrent, H, H)).data_ptr();
  const float* scales = static_cast<const float*>(
      checked("scales", w[0], ScalarType::Float, columns + back).data_ptr());
  dir.b_ih = scales;
  dir.b_hh = scales + columns;
  if (info().params > 0) {
    check_shape("params", w[3], {info().params, H});
    FASTRNN_CHECK(w[3].is_cpu() && w[3].scalar_type() == ScalarType::Float,
                  "params must be float32 on the CPU");
    dir.params = keep(w[3]);
  }
  for (size_t k = 0; k < q.state.size(); ++k) {
    dir.state0[k] = static_cast<const float*>(keep(q.state[k])) + place * params.B * H;
  }
}

namespace {

void check_state(const Tensors& state, const CellInfo& cell, int64_t rows, int64_t B, int64_t H) {
  if (state.empty()) return;
  FASTRNN_CHECK(int64_t(state.size()) == cell.states,
                "state must be " + std::to_string(cell.states) + " tensors or none, got " +
                    std::to_string(state.size()));
  for (const Tensor& s : state) {
    check_shape("state", s, {rows, B, H});
    FASTRNN_CHECK(s.is_cpu() && s.scalar_type() == ScalarType::Float,
                  "state must be float32 CPU tensors");
  }
}

// States' final values go to the numbers at final[k], [L*D, B, H] each.
Tensor run_layers(std::string_view cell, const Tensor& input, const Tensors& weights,
                  const Tensors& state, const MaybeTensor& batch_sizes, const MaybeTensor& resets,
                  int64_t directions, int64_t hidden, const std::vector<float*>& final) {
  FASTRNN_CHECK(
      directions >= kForward && directions <= (kForward | kReverse),
      "directions must be 1 (forward), 2 (reverse) or 3 (both), got " + std::to_string(directions));
  const int64_t D = directions == (kForward | kReverse) ? 2 : 1;
  const int64_t each = D * per_direction_of(*cell_of(cell, weights).info);
  const int64_t layers = int64_t(weights.size()) / each;
  FASTRNN_CHECK(layers > 0 && layers * each == int64_t(weights.size()),
                "weights must be " + std::to_string(each) + " tensors for each layer, got " +
                    std::to_string(weights.size()));
  Tensor rows = input;
  for (int64_t i = 0; i < layers; ++i) {
    Layer layer(cell, rows, {weights, state, i, hidden}, batch_sizes, resets, directions);
    ScanParams& s = layer.params;
    check_state(state, layer.info(), layers * D, s.B, s.H);
    Tensor output = layer.like_input(D * s.H);
    s.output = output.data_ptr();
    for (int64_t d = 0; d < D; ++d) {
      for (size_t k = 0; k < final.size(); ++k) {
        s.dir[d].state_n[k] = final[k] + (i * D + d) * s.B * s.H;
      }
    }
    run(layer, input, int64_t(weights[1].element_size()), false);
    rows = output;
  }
  return rows;
}

int64_t batch(const Tensor& input, const Tensors& state) {
  return state.empty() ? input.size(input.dim() == 3 ? 1 : 0) : state[0].size(1);
}

int64_t state_rows(const CellInfo& cell, const Tensors& weights) {
  return int64_t(weights.size()) / per_direction_of(cell);
}

std::tuple<Tensor, Tensors> quantized_cpu(StringHandle cell, const Tensor& input,
                                          const Tensors& weights, const Tensors& state,
                                          const MaybeTensor& batch_sizes, const MaybeTensor& resets,
                                          int64_t directions, int64_t hidden) {
  const Text name(cell);
  Tensors final;
  std::vector<float*> places;
  const CellInfo& info = *cell_of(name.view(), weights).info;
  for (int k = 0; k < info.states; ++k) {
    final.push_back(allocate(input, {state_rows(info, weights), batch(input, state), hidden}));
    places.push_back(static_cast<float*>(final.back().data_ptr()));
  }
  Tensor output = run_layers(name.view(), input, weights, state, batch_sizes, resets, directions,
                             hidden, places);
  return {output, final};
}

// state and final: [S, L*D, B, H].
std::tuple<Tensor, Tensor> quantized_flat_cpu(StringHandle cell, const Tensor& input,
                                              const Tensors& weights, const MaybeTensor& state,
                                              const MaybeTensor& batch_sizes,
                                              const MaybeTensor& resets, int64_t directions,
                                              int64_t hidden) {
  const Text name(cell);
  const Tensors states = unstacked(state);
  const CellInfo& info = *cell_of(name.view(), weights).info;
  const int64_t count = info.states, rows = state_rows(info, weights), B = batch(input, states);
  Tensor final = allocate(input, {count, rows, B, hidden});
  std::vector<float*> places;
  for (int64_t k = 0; k < count; ++k) {
    places.push_back(static_cast<float*>(final.data_ptr()) + k * rows * B * hidden);
  }
  Tensor output = run_layers(name.view(), input, weights, states, batch_sizes, resets, directions,
                             hidden, places);
  return {output, final};
}

}  // namespace
}  // namespace fastrnn

STABLE_TORCH_LIBRARY_FRAGMENT(fastrnn, m) {
  m.def(
      "quantized(str cell, Tensor input, Tensor[] weights, Tensor[] state, Tensor? batch_sizes, "
      "Tensor? resets, int directions, int hidden) -> (Tensor output, Tensor[] final)");
  m.def(
      "quantized_flat(str cell, Tensor input, Tensor[] weights, Tensor? state, "
      "Tensor? batch_sizes, Tensor? resets, int directions, int hidden) -> (Tensor output, "
      "Tensor final)");
}

STABLE_TORCH_LIBRARY_IMPL(fastrnn, CPU, m) {
  m.impl("quantized", TORCH_BOX(&fastrnn::quantized_cpu));
  m.impl("quantized_flat", TORCH_BOX(&fastrnn::quantized_flat_cpu));
}
