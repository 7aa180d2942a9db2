// The private ops: one layer (one or two directions) forward and backward. Python guards autograd.
#include <algorithm>
#include <tuple>

#include "cpu/kernels.h"
#include "layer.h"

namespace fastrnn {
namespace {

using MaybeTensor = std::optional<Tensor>;

// forward's argument `save`: nothing, all that backward can use, or what it cannot recompute.
constexpr int64_t kSaveNothing = 0, kSavePartial = 2;

const CellKernels& kernels_for(const Layer& layer, ScalarType dtype) {
  const CpuKernels& kernels = cpu_kernels();
  if (dtype == ScalarType::Float) return kernels.float32[layer.cell];
  if (dtype == ScalarType::Double) return kernels.float64[layer.cell];
  STD_TORCH_CHECK(dtype == ScalarType::BFloat16,
                  "the CPU kernels take float32, float64 and bfloat16, got ",
                  torch::headeronly::toString(dtype));
  return kernels.bfloat16[layer.cell];
}

void parallel_for(int64_t n, void (*fn)(int64_t, int64_t, void*), void* ctx) {
  FASTRNN_SHIM(torch_parallel_for(0, n, 1, fn, ctx));
}

// Threads that the work is worth: rows are split among them, or units where rows are too few, which
// costs a barrier a step and so needs a step long enough. A second thread begins 2-20 us late, with
// its cache empty: less work than 8 Mflop was rarely faster on two.
int team_size(const ScanParams& s, int gates, int64_t element_size, bool backward) {
  constexpr double kFlopsPerThread = 8e6;
  constexpr int64_t kBytesToSplit = 256 << 10;
  const double flops = 2. * s.N * s.directions * gates * s.H * (s.I + s.H);
  const int64_t available = torch::stable::get_num_threads();
  int64_t threads = std::min<int64_t>(available, 1 + int64_t(flops / kFlopsPerThread));
  const bool by_units = gates * s.H * s.H * element_size >= kBytesToSplit;
  const bool apart = !backward && s.directions == 2;  // each direction has half of the threads
  if (!by_units) threads = std::min(threads, s.B * (apart ? 2 : 1));
  if (apart && threads > 1) threads -= threads % 2;
  return int(std::max<int64_t>(threads, 1));
}

void run(Layer& layer, const Tensor& like, bool backward) {
  ScanParams& s = layer.params;
  const CellKernels& kernels = kernels_for(layer, like.scalar_type());
  s.threads = team_size(s, layer.info().gates, like.element_size(), backward);
  s.parallel = parallel_for;
  const int64_t bytes = backward ? kernels.backward_workspace(s) : kernels.forward_workspace(s);
  const auto scan = backward ? kernels.backward : kernels.forward;
  alignas(64) char few[64 << 10];  // a step of one row is over in less time than malloc takes
  if (bytes <= int64_t(sizeof(few))) {
    s.workspace = few;
    return scan(s);
  }
  Tensor workspace = allocate(like, {bytes / int64_t(like.element_size()) + 1}, true);
  s.workspace = workspace.data_ptr();
  scan(s);
}

// Element `index` of a tensor's data.
void* at(const Tensor& t, int64_t index) {
  return static_cast<char*>(t.data_ptr()) + index * int64_t(t.element_size());
}

std::tuple<Tensor, Tensors, Tensor> forward_cpu(StringHandle cell, const Tensor& input,
                                                const Tensors& weights, const Tensors& state,
                                                const MaybeTensor& batch_sizes,
                                                const MaybeTensor& resets, int64_t directions,
                                                bool project, int64_t save) {
  const Text name(cell);
  STD_TORCH_CHECK(save >= kSaveNothing && save <= kSavePartial,
                  "save must be 0 (nothing), 1 (all) or 2 (partial), got ", save);
  Layer layer(name.view(), input, weights, state, batch_sizes, resets, directions, project);
  ScanParams& s = layer.params;
  const int64_t D = s.directions, H = s.H;
  s.partial = save == kSavePartial;
  const int64_t stored = layer.stored(s.partial);
  Tensor output = layer.like_input(D * H);
  Tensor saved = save ? allocate(input, {D, s.N, stored, H}, true) : allocate(input, {0});
  Tensors final;
  final.reserve(layer.info().states);
  for (int k = 0; k < layer.info().states; ++k) final.push_back(allocate(input, {D, s.B, H}));
  s.output = output.data_ptr();
  for (int64_t d = 0; d < D; ++d) {
    for (int k = 0; k < layer.info().states; ++k) s.dir[d].state_n[k] = at(final[k], d * s.B * H);
    s.dir[d].saved = save ? at(saved, d * s.N * stored * H) : nullptr;
  }
  run(layer, input, false);
  return {output, final, saved};
}

std::tuple<Tensor, Tensors, Tensors> backward_cpu(StringHandle cell, const Tensor& grad_output,
                                                  const Tensors& grad_final, const Tensor& input,
                                                  const Tensors& weights, const Tensors& state,
                                                  const Tensor& output, const Tensor& saved,
                                                  const MaybeTensor& batch_sizes,
                                                  const MaybeTensor& resets, int64_t directions,
                                                  bool project, bool need_input, bool need_state) {
  const Text name(cell);
  Layer layer(name.view(), input, weights, state, batch_sizes, resets, directions, project);
  ScanParams& s = layer.params;
  const int64_t D = s.directions, H = s.H;
  s.partial = saved.dim() == 4 && saved.size(2) != layer.stored(false);
  const int64_t stored = layer.stored(s.partial);
  check_shape("saved", saved, {D, s.N, stored, H});
  const Tensor d_output = as_contiguous(grad_output), out = as_contiguous(output);
  const Tensor kept = as_contiguous(saved);
  Tensor d_input = need_input ? layer.like_input(s.I) : allocate(input, {0});
  Tensors d_weights, d_state, d_final;
  const size_t states = layer.info().states;
  STD_TORCH_CHECK(grad_final.empty() || grad_final.size() == states, "grad_final must be ", states,
                  " tensors or none, got ", grad_final.size());
  for (const Tensor& w : weights) {
    d_weights.push_back(w.dim() == 2 ? allocate(input, {w.size(0), w.size(1)}, true)
                                     : allocate(input, {w.size(0)}));
    if (s.N == 0) FASTRNN_SHIM(aoti_torch_zero_(d_weights.back().get()));
  }
  for (const Tensor& g : grad_final) {
    check_shape("grad_final", g, {D, s.B, H});
    d_final.push_back(as_contiguous(g));
  }
  for (size_t k = 0; need_state && k < state.size(); ++k) {
    d_state.push_back(allocate(input, {D, s.B, H}));
  }
  s.d_output = d_output.data_ptr();
  s.output = out.data_ptr();
  s.d_input = need_input ? d_input.data_ptr() : nullptr;
  for (int64_t d = 0; d < D; ++d) {
    Direction& dir = s.dir[d];
    dir.saved = at(kept, d * s.N * stored * H);
    const Tensor* w = &d_weights[d * layer.per_direction];
    if (project) dir.d_w_ih = (w++)->data_ptr();
    dir.d_w_hh = (w++)->data_ptr();
    if (layer.bias && project) dir.d_b_ih = (w++)->data_ptr();
    if (layer.bias) dir.d_b_hh = w->data_ptr();
    for (size_t k = 0; k < d_state.size(); ++k) dir.d_state0[k] = at(d_state[k], d * s.B * H);
    for (size_t k = 0; k < d_final.size(); ++k) dir.d_state_n[k] = at(d_final[k], d * s.B * H);
  }
  run(layer, input, true);
  return {d_input, d_weights, d_state};
}

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
  std::string cells;
  for (const CellInfo& c : kCells) cells += (cells.empty() ? "" : ",") + std::string(c.name);
  return std::string("{\"isa\": \"") + cpu_kernels().isa +
         "\", \"isas\": " + json_list(cpu_isas_built()) + ", \"cells\": " + json_list(cells) +
         ", \"cuda_archs\": " + json_list(FASTRNN_CUDA_ARCHS) + ", \"torch_target\": \"2.11\"}";
}

}  // namespace
}  // namespace fastrnn

STABLE_TORCH_LIBRARY(fastrnn, m) {
  m.def(
      "forward(str cell, Tensor input, Tensor[] weights, Tensor[] state, Tensor? batch_sizes, "
      "Tensor? resets, int directions, bool project, int save) -> (Tensor, Tensor[], Tensor)");
  m.def(
      "backward(str cell, Tensor grad_output, Tensor[] grad_final, Tensor input, Tensor[] weights, "
      "Tensor[] state, Tensor output, Tensor saved, Tensor? batch_sizes, Tensor? resets, "
      "int directions, bool project, bool need_input, bool need_state) "
      "-> (Tensor, Tensor[], Tensor[])");
  m.def("build_info() -> str");
}

STABLE_TORCH_LIBRARY_IMPL(fastrnn, CPU, m) {
  m.impl("forward", TORCH_BOX(&fastrnn::forward_cpu));
  m.impl("backward", TORCH_BOX(&fastrnn::backward_cpu));
}

STABLE_TORCH_LIBRARY_IMPL(fastrnn, CompositeExplicitAutograd, m) {
  m.impl("build_info", TORCH_BOX(&fastrnn::build_info));
}
