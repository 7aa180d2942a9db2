// One call of the CPU ops: the engine's parameters, and the memory of the results. What form the
// results have is the ops' business.
#pragma once
#include "layer.h"

namespace fastrnn {

// forward's argument `save`: nothing, all that backward can use, or what it cannot recompute.
constexpr int64_t kSaveNothing = 0, kSavePartial = 2;

// backward's argument `needs`: a bit for the input, the states, and each kind of weight.
constexpr int64_t kInput = 1, kState = 2;
constexpr int64_t need(Weight kind) { return int64_t(4) << kind; }

// Element `index` of a tensor's data.
inline void* at(const Tensor& t, int64_t index) {
  return static_cast<char*>(t.data_ptr()) + index * int64_t(t.element_size());
}

// A stacked tensor [S, ..] as S tensors; none of no tensor.
inline Tensors unstacked(const MaybeTensor& stacked) {
  Tensors parts;
  for (int64_t k = 0; stacked && k < stacked->size(0); ++k) {
    parts.push_back(torch::stable::select(*stacked, 0, k));
  }
  return parts;
}

// One call of forward: what it reads, and the memory of its results.
struct ForwardCall {
  Layer layer;
  Tensor output, saved;
  Tensor fed;  // what a product is to read of, where nothing else is saved

  ForwardCall(std::string_view cell, const Tensor& input, const Tensors& weights,
              const Tensors& state, const MaybeTensor& batch_sizes, const MaybeTensor& resets,
              int64_t directions, bool project, int64_t save, bool stacked = false)
      : layer(cell, input, weights, state, batch_sizes, resets, directions, project, stacked) {
    FASTRNN_CHECK(save >= kSaveNothing && save <= kSavePartial,
                  "save must be 0 (nothing), 1 (all) or 2 (partial), got " + std::to_string(save));
    ScanParams& s = layer.params;
    s.partial = save == kSavePartial;
    const int64_t stored = layer.stored(s.partial), size = layer.lines() * stored * s.H;
    output = layer.like_input(s.directions * s.P);
    const bool feeds = !save && layer.info().feeds > 0;
    saved = save ? room(s, stored) : allocate(input, {0});
    if (feeds) fed = room(s, stored);
    s.output = output.data_ptr();
    for (int64_t d = 0; (save || feeds) && d < s.directions; ++d) {
      s.dir[d].saved = at(save ? saved : fed, d * size);
    }
  }

  Tensor room(const ScanParams& s, int64_t stored) const {
    return allocate(output, {s.directions, layer.lines(), stored, s.H}, true);
  }
  // State k's final values [D, B, state_row(k)] go to element `index` of a tensor.
  void final_to(int k, const Tensor& to, int64_t index) {
    ScanParams& s = layer.params;
    for (int64_t d = 0; d < s.directions; ++d) {
      s.dir[d].state_n[k] = at(to, index + d * s.B * s.state_row(k));
    }
  }
};

// One call of backward, likewise. The caller says where the gradients of weights and states go.
struct BackwardCall {
  Layer layer;
  const int64_t needs;
  Tensor output, saved, d_output, d_input;
  Tensors d_final;  // contiguous

  BackwardCall(std::string_view cell, const MaybeTensor& grad_output, const Tensors& grad_final,
               const Tensor& input, const Tensors& weights, const Tensors& state, const Tensor& out,
               const Tensor& kept, const MaybeTensor& batch_sizes, const MaybeTensor& resets,
               int64_t directions, bool project, int64_t needs, bool stacked = false)
      : layer(cell, input, weights, state, batch_sizes, resets, directions, project, stacked),
        needs(needs),
        output(as_contiguous(out)),
        saved(as_contiguous(kept)),
        d_input(needs & kInput ? layer.like_input(layer.params.I) : allocate(input, {0})) {
    ScanParams& s = layer.params;
    s.partial = saved.dim() == 4 && saved.size(2) != layer.stored(false);
    const int64_t stored = layer.stored(s.partial), states = layer.info().states;
    check_shape("saved", saved, {s.directions, layer.lines(), stored, s.H});
    FASTRNN_CHECK(grad_final.empty() || int64_t(grad_final.size()) == states,
                  "grad_final must be " + std::to_string(states) + " tensors or none, got " +
                      std::to_string(grad_final.size()));
    if (grad_output) read_grad_output(*grad_output);
    s.output = output.data_ptr();
    s.d_input = needs & kInput ? d_input.data_ptr() : nullptr;
    if (s.H == 0) FASTRNN_SHIM(aoti_torch_zero_(d_input.get()));  // no kernel runs
    d_final.reserve(grad_final.size());
    for (size_t k = 0; k < grad_final.size(); ++k) {
      layer.check_state("grad_final", grad_final[k], int(k));
      d_final.push_back(as_contiguous(grad_final[k]));
    }
    for (int64_t d = 0; d < s.directions; ++d) {
      s.dir[d].saved = at(saved, d * layer.lines() * stored * s.H);
      for (size_t k = 0; k < d_final.size(); ++k) {
        s.dir[d].d_state_n[k] = at(d_final[k], d * s.B * s.state_row(int(k)));
      }
    }
  }

  // The gradient of output's row (t, b) is read where it lies, expanded ones too.
  void read_grad_output(const Tensor& grad) {
    ScanParams& s = layer.params;
    FASTRNN_CHECK(grad.sizes() == output.sizes(),
                  "grad_output must be " + shape(output) + ", got " + shape(grad));
    const StridedRows rows = strided_rows(grad);
    d_output = rows.tensor;
    s.d_output = d_output.data_ptr();
    s.d_output_t = rows.strides[0], s.d_output_b = rows.strides[1];
  }

  // Where the gradient of weight i of a direction goes; null: not wanted.
  void weight_to(int64_t d, Weight i, void* to) {
    Direction& dir = layer.params.dir[d];
    if (i == kExtra && dir.draws) return;  // which has no gradient
    void** const places[] = {&dir.d_w_ih,   &dir.d_w_hh, &dir.d_b_ih, &dir.d_b_hh,
                             &dir.d_params, &dir.d_w_hr, &dir.d_extra};
    *places[i] = to;
  }
  // State k's gradient [D, B, state_row(k)] goes to element `index` of a tensor.
  void state_to(int k, const Tensor& to, int64_t index) {
    ScanParams& s = layer.params;
    for (int64_t d = 0; d < s.directions; ++d) {
      s.dir[d].d_state0[k] = at(to, index + d * s.B * s.state_row(k));
    }
  }
};

}  // namespace fastrnn
