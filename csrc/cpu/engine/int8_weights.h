// One direction's weights in int8 as the forward engine multiplies by them: in the panels in which
// they come, nothing packed. What is multiplied by them becomes int8 first, a row at a time.
//
// Of such a Direction w_ih and w_hh are int8 panels (cpu/int8_layout.h), b_ih and b_hh [2, columns]
// float32: the scale of each column, then its bias.
#pragma once
#include "cpu/gemm/int8.h"
#include "cpu/gemm/pack.h"
#include "cpu/params.h"
#include "cpu/threads/workspace.h"

namespace fastrnn {
namespace FASTRNN_ISA {

struct Int8 {};  // stands for their dtype

class Int8Weights {
 public:
  using Units = Panels<float, kInt8Units>;
  using Panel = const int8_t*;
  using Scratch = Int8Rows;  // a thread's, for the rows of a block or of a step
  static constexpr bool kRowOfAnyWidth = true;

  Int8Weights() = default;
  Int8Weights(Arena&, const Units& panels, const Units& hidden_panels, const ScanParams& s, int d)
      : panels_(&panels), hidden_panels_(&hidden_panels), I_(s.I), P_(s.P), dir_(&s.dir[d]) {}

  // block: rows of a block; most: rows of a step.
  static Scratch take_scratch(Arena& arena, const Units&, const Units&, const ScanParams& s,
                              int64_t block, int64_t most) {
    const int64_t input = block * Int8Rows::stride(s.I), hidden = most * Int8Rows::stride(s.P);
    const int64_t rows = block > most ? block : most;
    Scratch w{};
    w.q = arena.take<int8_t>(input > hidden ? input : hidden);
    w.scale = arena.take<float>(rows);
    w.sum = arena.take<int32_t>(rows);
    return w;
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
  Int8Rows input_rows(const float* const* x, int64_t count, const Scratch& w) const {
    return quantized(x, count, I_, w);
  }
  Int8Rows hidden_rows(const float* const* h, int64_t count, const Scratch& w) const {
    return quantized(h, count, P_, w);
  }

  // x W_ih^T + b_ih for the columns of panel p; out rows lie ld apart.
  void input(int64_t p, Panel panel, const Int8Rows& x, int64_t count, float* out,
             int64_t ld) const {
    multiply(*panels_, p, panel, I_, dir_->b_ih, x, count, out, ld);
  }
  // h W_hh^T + b_hh, likewise.
  void hidden(int64_t p, Panel panel, const Int8Rows& h, int64_t count, float* out,
              int64_t ld) const {
    multiply(*hidden_panels_, p, panel, P_, dir_->b_hh, h, count, out, ld);
  }
  // What hidden() gives for zeros.
  const float* hidden_bias(int64_t p) const {
    return static_cast<const float*>(dir_->b_hh) + hidden_panels_->width() +
           hidden_panels_->column(p);
  }
  // hidden() of one row for all of some panels. back: from the last panel on.
  template <int>
  void hidden_row(Range panels, const Int8Rows& h, float* out, bool back) const {
    const int64_t origin = hidden_panels_->column(panels.begin);
    for (int64_t i = panels.begin; i < panels.end; ++i) {
      const int64_t p = back ? panels.begin + panels.end - 1 - i : i;
      hidden(p, hidden_panel(p, {}), h, 1, out + hidden_panels_->column(p) - origin, 0);
    }
  }

 private:
  static int64_t at(const Units& panels, int64_t p, int64_t K) {
    return panels.column(p) * int8_quads(K) * kInt8Quad;
  }
  static Int8Rows quantized(const float* const* rows, int64_t count, int64_t K, Scratch w) {
    w.ld = Int8Rows::stride(K);
    for (int64_t r = 0; r < count; ++r) quantize_row(rows[r], K, w + r);
    return w;
  }
  static void multiply(const Units& panels, int64_t p, Panel panel, int64_t K, const void* affine,
                       const Int8Rows& x, int64_t count, float* out, int64_t ld) {
    const int nv = panels.vectors(p);
    const float* scale = static_cast<const float*>(affine) + panels.column(p);
    const Int8Columns columns{panel, int64_t(nv) * kVectorBytes, int8_quads(K), scale,
                              scale + panels.width()};
    int8_panel(nv, x, count, columns, out, ld);
  }

  const Units *panels_ = nullptr, *hidden_panels_ = nullptr;
  int64_t I_ = 0, P_ = 0;
  const Direction* dir_ = nullptr;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
