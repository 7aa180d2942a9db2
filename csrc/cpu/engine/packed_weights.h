// One direction's weights as the forward engine multiplies by them for inference: in the panels in
// which they come, nothing packed (cpu/int8_layout.h).
//
// Of such a Direction w_ih and w_hh are those panels, b_ih and b_hh float32 [kVectors, columns]:
// what the format needs of each column besides, its bias the last.
#pragma once
#include "cpu/gemm/pack.h"
#include "cpu/int8_layout.h"
#include "cpu/params.h"
#include "cpu/threads/workspace.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Format: a number of the weights, how many share 32 bits, what rows become before they are
// multiplied, and the product.
template <class Format>
class PackedWeights {
 public:
  using Units = Panels<float, kInt8Units>;
  using Panel = const typename Format::Number*;
  using Rows = typename Format::Rows;
  using Scratch = typename Format::Scratch;  // a thread's, for the rows of a block or of a step
  static constexpr bool kRowOfAnyWidth = true;

  PackedWeights() = default;
  PackedWeights(Arena&, const Units& panels, const Units& hidden_panels, const ScanParams& s, int d)
      : panels_(&panels), hidden_panels_(&hidden_panels), I_(s.I), P_(s.P), dir_(&s.dir[d]) {}

  // block: rows of a block; most: rows of a step.
  static Scratch take_scratch(Arena& arena, const Units&, const Units&, const ScanParams& s,
                              int64_t block, int64_t most) {
    return Format::take_scratch(arena, s, block, most);
  }

  void pack(int64_t) {}
  bool packed() const { return true; }
  Panel input_panel(int64_t p, const Scratch&) const {
    return static_cast<Panel>(dir_->w_ih) + at(*panels_, p, I_);
  }
  Panel hidden_panel(int64_t p, const Scratch&) const {
    return static_cast<Panel>(dir_->w_hh) + at(*hidden_panels_, p, P_);
  }

  // Rows as input() and hidden() take them.
  Rows input_rows(const float* const* x, int64_t count, const Scratch& w) const {
    return Format::rows(x, count, I_, w);
  }
  Rows hidden_rows(const float* const* h, int64_t count, const Scratch& w) const {
    return Format::rows(h, count, P_, w);
  }

  // x W_ih^T + b_ih for the columns of panel p; out rows lie ld apart.
  void input(int64_t p, Panel panel, const Rows& x, int64_t count, float* out, int64_t ld) const {
    multiply(*panels_, p, panel, I_, dir_->b_ih, x, count, out, ld);
  }
  // h W_hh^T + b_hh, likewise.
  void hidden(int64_t p, Panel panel, const Rows& h, int64_t count, float* out, int64_t ld) const {
    multiply(*hidden_panels_, p, panel, P_, dir_->b_hh, h, count, out, ld);
  }
  // What hidden() gives for zeros.
  const float* hidden_bias(int64_t p) const {
    return static_cast<const float*>(dir_->b_hh) +
           (Format::kVectors - 1) * hidden_panels_->width() + hidden_panels_->column(p);
  }
  // hidden() of one row for all of some panels. back: from the last panel on.
  template <int>
  void hidden_row(Range panels, const Rows& h, float* out, bool back) const {
    const int64_t origin = hidden_panels_->column(panels.begin);
    for (int64_t i = panels.begin; i < panels.end; ++i) {
      const int64_t p = back ? panels.begin + panels.end - 1 - i : i;
      hidden(p, hidden_panel(p, {}), h, 1, out + hidden_panels_->column(p) - origin, 0);
    }
  }

 private:
  static int64_t at(const Units& panels, int64_t p, int64_t K) {
    return panels.column(p) * ((K + Format::kLane - 1) / Format::kLane) * Format::kLane;
  }
  static void multiply(const Units& panels, int64_t p, Panel panel, int64_t K, const void* vectors,
                       const Rows& x, int64_t count, float* out, int64_t ld) {
    const float* own = static_cast<const float*>(vectors) + panels.column(p);
    Format::multiply(panels.vectors(p), panel, K, own, panels.width(), x, count, out, ld);
  }

  const Units *panels_ = nullptr, *hidden_panels_ = nullptr;
  int64_t I_ = 0, P_ = 0;
  const Direction* dir_ = nullptr;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
