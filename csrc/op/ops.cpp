// The private ops: one layer (one or two directions) forward and backward. Python guards autograd.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string_view>
#include <tuple>

#include "calls.h"
#include "pace.h"
#include "python.h"
#include "quota.h"

namespace fastrnn {
namespace {

void parallel_for(int64_t n, void (*fn)(int64_t, int64_t, void*), void* ctx) {
  FASTRNN_SHIM(torch_parallel_for(0, n, 1, fn, ctx));
}

// torch's, but no more than the quota of a container allows to run at once.
int64_t usable_threads() {
  static const int quota = cpu_quota("/sys/fs/cgroup");
  const int64_t threads = torch::stable::get_num_threads();
  return quota > 0 ? std::min<int64_t>(threads, quota) : threads;
}

int64_t nanoseconds() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

// Does a call take all of its threads on a busy machine too?
bool steady_threads() {
  const char* const said = std::getenv("FASTRNN_STEADY_THREADS");
  const std::string_view value = said ? said : "";
  FASTRNN_CHECK(value.empty() || value == "0" || value == "1",
                "FASTRNN_STEADY_THREADS must be 0 or 1, got '" + std::string(value) + "'");
  return value == "1";
}

// Runs an engine; the pace learns how its threads got on. False: interrupted.
bool scan(const ScanParams& s, bool (*engine)(const ScanParams&), Pace& pace) {
  if (s.threads == 1) return engine(s);
  const int64_t start = nanoseconds();
  const bool done = engine(s);
  const int64_t end = nanoseconds();
  pace.note(s.threads, end, end - start, *s.waited);
  return done;
}

// Threads that the work is worth: rows are split among them, or units where rows are too few, which
// costs a barrier a step and so needs a step long enough. A second thread begins 2-20 us late, with
// its cache empty: less work than 8 Mflop was rarely faster on two.
int team_size(const ScanParams& s, const CellInfo& cell, int64_t element_size, bool backward) {
  constexpr double kFlopsPerThread = 8e6;
  constexpr int64_t kBytesToSplit = 256 << 10;
  constexpr int64_t kColumns = 16;  // of a weight, that a cell without a product takes as long as
  const bool product = cell.recurrent > 0;
  const int64_t depth = s.P / s.heads;
  const int64_t recurrent = product ? cell.recurrent * depth : cell.gates * kColumns;
  const double flops =
      2. * s.N * s.directions * s.H * (cell.gates * s.I + recurrent + s.projected() * s.P);
  const int64_t available = usable_threads();
  int64_t threads = std::min<int64_t>(available, 1 + int64_t(flops / kFlopsPerThread));
  // units that do not meet in a product wait for no barrier
  const bool alone = !product || (cell.heads && s.heads >= available);
  const bool by_units = alone || recurrent * s.H * element_size >= kBytesToSplit;
  const bool apart = !backward && s.directions == 2;  // each direction has half of the threads
  if (!by_units) threads = std::min(threads, s.B * (apart ? 2 : 1));
  if (apart && threads > 1) threads -= threads % 2;
  return int(std::max<int64_t>(threads, 1));
}

void run(Layer& layer, const Tensor& like, bool backward) {
  ScanParams& s = layer.params;
  if (s.H == 0 || s.B == 0) return;  // every result is empty, or zeros already
  FASTRNN_CHECK(layer.cell.kernels,
                std::string("the CPU kernels take float32, float64 and bfloat16, got ") +
                    torch::headeronly::toString(like.scalar_type()));
  const CellKernels& kernels = *layer.cell.kernels;
  static Pace pace;
  s.threads = team_size(s, layer.info(), like.element_size(), backward);
  static const bool steady = steady_threads();
  if (s.threads > 1 && !steady) s.threads = pace.threads(s.threads, nanoseconds());
  int64_t waited = 0;
  s.waited = &waited;
  s.parallel = parallel_for;
  s.interrupted = interrupted;
  const int64_t bytes = backward ? kernels.backward_workspace(s) : kernels.forward_workspace(s);
  const auto engine = backward ? kernels.backward : kernels.forward;
  alignas(64) char few[64 << 10];  // a step of one row is over in less time than malloc takes
  if (bytes <= int64_t(sizeof(few))) {
    s.workspace = few;
    FASTRNN_CHECK(scan(s, engine, pace), kInterrupted);
    return;
  }
  Tensor workspace = allocate(like, {bytes / int64_t(like.element_size()) + 1}, true);
  s.workspace = workspace.data_ptr();
  FASTRNN_CHECK(scan(s, engine, pace), kInterrupted);
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
                                    : allocate(input, {D, w.size(0), w.size(1), w.size(2)}, true));
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
