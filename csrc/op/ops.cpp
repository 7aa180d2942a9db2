// The private ops: one layer (one or two directions) forward and backward. Python guards autograd.
#include <tuple>

#include "calls.h"
#include "run.h"

namespace fastrnn {
namespace {

void run(Layer& layer, const Tensor& like, bool backward) {
  run(layer, like, like.element_size(), backward);
}

std::tuple<Tensor, Tensors, Tensor> forward_cpu(StringHandle cell, const Tensor& input,
                                                const Tensors& weights, const Tensors& state,
                                                const MaybeTensor& batch_sizes,
                                                const MaybeTensor& resets, int64_t directions,
                                                bool project, int64_t save) {
  const Text name(cell);
  ForwardCall call(name.view(), input, weights, state, batch_sizes, resets, directions, project,
                   save);
  Tensors final;
  final.reserve(call.layer.info().states);
  for (int k = 0; k < call.layer.info().states; ++k) {
    final.push_back(call.layer.like_state(input, k));
    call.final_to(k, final.back(), 0);
  }
  run(call.layer, input, false);
  return {call.output, final, call.saved};
}

// [S, D, B, H], where a projected h leaves zeros behind it.
Tensor stacked_states(const Layer& layer, const Tensor& like) {
  const ScanParams& s = layer.params;
  Tensor states = allocate(like, {layer.info().states, s.directions, s.B, s.H});
  if (layer.projected) FASTRNN_SHIM(aoti_torch_zero_(states.get()));
  return states;
}

// state and final: [S, D, B, H].
std::tuple<Tensor, Tensor, Tensor> forward_flat_cpu(StringHandle cell, const Tensor& input,
                                                    const Tensors& weights,
                                                    const MaybeTensor& state,
                                                    const MaybeTensor& batch_sizes,
                                                    const MaybeTensor& resets, int64_t directions,
                                                    bool project, int64_t save) {
  const Text name(cell);
  ForwardCall call(name.view(), input, weights, unstacked(state), batch_sizes, resets, directions,
                   project, save, true);
  const ScanParams& s = call.layer.params;
  const int64_t states = call.layer.info().states;
  Tensor final = stacked_states(call.layer, input);
  for (int k = 0; k < states; ++k) call.final_to(k, final, k * s.directions * s.B * s.H);
  run(call.layer, input, false);
  return {call.output, final, call.saved};
}

std::tuple<Tensor, Tensors, Tensors> backward_cpu(StringHandle cell, const MaybeTensor& grad_output,
                                                  const Tensors& grad_final, const Tensor& input,
                                                  const Tensors& weights, const Tensors& state,
                                                  const Tensor& output, const Tensor& saved,
                                                  const MaybeTensor& batch_sizes,
                                                  const MaybeTensor& resets, int64_t directions,
                                                  bool project, int64_t needs) {
  const Text name(cell);
  BackwardCall call(name.view(), grad_output, grad_final, input, weights, state, output, saved,
                    batch_sizes, resets, directions, project, needs);
  const Layer& layer = call.layer;
  Tensors d_weights, d_state;
  d_weights.reserve(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    const Weight kind = layer.kind(i);
    const bool wanted = needs & need(kind);
    d_weights.push_back(wanted ? layer.like_weight(weights[i], kind) : allocate(input, {0}));
    if (wanted) call.weight_to(i / layer.per_direction, kind, d_weights.back().data_ptr());
  }
  for (size_t k = 0; needs & kState && k < state.size(); ++k) {
    d_state.push_back(layer.like_state(input, int(k)));
    call.state_to(k, d_state.back(), 0);
  }
  run(call.layer, input, true);
  return {call.d_input, d_weights, d_state};
}

// grad_final, state and the last result: [S, D, B, H]; of the weights each kind's [D, ...].
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>
backward_flat_cpu(StringHandle cell, const MaybeTensor& grad_output, const MaybeTensor& grad_final,
                  const Tensor& input, const Tensors& weights, const MaybeTensor& state,
                  const Tensor& output, const Tensor& saved, const MaybeTensor& batch_sizes,
                  const MaybeTensor& resets, int64_t directions, bool project, int64_t needs) {
  const Text name(cell);
  BackwardCall call(name.view(), grad_output, unstacked(grad_final), input, weights,
                    unstacked(state), output, saved, batch_sizes, resets, directions, project,
                    needs, true);
  Layer& layer = call.layer;
  const ScanParams& s = layer.params;
  const int64_t D = s.directions;
  Tensor kinds[kWeightKinds];
  for (Tensor& t : kinds) t = allocate(input, {0});
  for (int i = 0; i < layer.per_direction; ++i) {
    const Weight kind = layer.kind(i);
    if (!(needs & need(kind))) continue;
    const Tensor& w = weights[i];
    const int64_t size = int64_t(w.numel());
    kinds[kind] =
        layer.zeroed(w.dim() == 1   ? allocate(input, {D, w.size(0)})
                     : w.dim() == 2 ? allocate(input, {D, w.size(0), w.size(1)}, true)
                                    : allocate(input, {D, w.size(0), w.size(1), w.size(2)}, true),
                     kind == kExtra && w.dim() == 1);
    if (kind == kExtra && w.dim() == 3) layer.zero_past(kinds[kind]);
    for (int64_t d = 0; d < D; ++d) call.weight_to(d, kind, at(kinds[kind], d * size));
  }
  const bool want_state = needs & kState && state;
  const int64_t states = layer.info().states;
  Tensor d_state = want_state ? stacked_states(layer, input) : allocate(input, {0});
  for (int k = 0; want_state && k < states; ++k) call.state_to(k, d_state, k * D * s.B * s.H);
  run(layer, input, true);
  return {call.d_input,   kinds[kWih], kinds[kWhh],   kinds[kBih], kinds[kBhh],
          kinds[kParams], kinds[kWhr], kinds[kExtra], d_state};
}

void load_cell_op(StringHandle path) { load_cell(std::string(Text(path).view())); }

#ifndef FASTRNN_CUDA_ARCHS
#define FASTRNN_CUDA_ARCHS ""  // a build without CUDA
#endif

// "a,b" -> ["a", "b"]
std::string json_list(const std::string& names) {
  if (names.empty()) return "[]";
  std::string list;
  for (const char c : names) list += c == ',' ? std::string("\", \"") : std::string(1, c);
  return "[\"" + list + "\"]";
}

// JSON: what this library was built with and which of it runs.
std::string build_info() {
  std::string cells;  // "name": [G, S, K, kept]
  for (const CellInfo& c : kCells) {
    cells += std::string(cells.empty() ? "" : ", ") + "\"" + c.name + "\": [" +
             std::to_string(c.gates) + ", " + std::to_string(c.states) + ", " +
             std::to_string(c.saved) + ", " + std::to_string(c.kept) + "]";
  }
  return std::string("{\"isa\": \"") + cpu_kernels().isa +
         "\", \"isas\": " + json_list(cpu_isas_built()) + ", \"cells\": {" + cells + "}" +
         ", \"cuda_archs\": " + json_list(FASTRNN_CUDA_ARCHS) + ", \"torch_target\": \"2.11\"}";
}

}  // namespace
}  // namespace fastrnn

STABLE_TORCH_LIBRARY(fastrnn, m) {
  m.def(
      "forward(str cell, Tensor input, Tensor[] weights, Tensor[] state, Tensor? batch_sizes, "
      "Tensor? resets, int directions, bool project, int save) -> (Tensor output, Tensor[] final, "
      "Tensor saved)");
  m.def(
      "backward(str cell, Tensor? grad_output, Tensor[] grad_final, Tensor input, "
      "Tensor[] weights, Tensor[] state, Tensor output, Tensor saved, Tensor? batch_sizes, "
      "Tensor? resets, int directions, bool project, int needs) -> (Tensor grad_input, Tensor[] "
      "grad_weights, Tensor[] grad_state)");
  m.def(
      "forward_flat(str cell, Tensor input, Tensor[] weights, Tensor? state, Tensor? batch_sizes, "
      "Tensor? resets, int directions, bool project, int save) -> (Tensor output, Tensor final, "
      "Tensor saved)");
  m.def(
      "backward_flat(str cell, Tensor? grad_output, Tensor? grad_final, Tensor input, "
      "Tensor[] weights, Tensor? state, Tensor output, Tensor saved, Tensor? batch_sizes, "
      "Tensor? resets, int directions, bool project, int needs) "
      "-> (Tensor grad_input, Tensor grad_w_ih, Tensor grad_w_hh, Tensor grad_b_ih, Tensor "
      "grad_b_hh, Tensor grad_params, Tensor grad_w_hr, Tensor grad_extra, Tensor grad_state)");
  m.def("build_info() -> str");
  m.def("load_cell(str path) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(fastrnn, CPU, m) {
  m.impl("forward", TORCH_BOX(&fastrnn::forward_cpu));
  m.impl("backward", TORCH_BOX(&fastrnn::backward_cpu));
  m.impl("forward_flat", TORCH_BOX(&fastrnn::forward_flat_cpu));
  m.impl("backward_flat", TORCH_BOX(&fastrnn::backward_flat_cpu));
}

STABLE_TORCH_LIBRARY_IMPL(fastrnn, CompositeExplicitAutograd, m) {
  m.impl("build_info", TORCH_BOX(&fastrnn::build_info));
  m.impl("load_cell", TORCH_BOX(&fastrnn::load_cell_op));
}
