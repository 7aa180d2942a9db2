// The weights of one direction as the products x W_ih^T + b_ih and h W_hh^T + b_hh want them:
// packed into panels that hold all gates of their units or, for calls too short to pay for that, as
// they lie.
#pragma once
#include "direct.h"
#include "workspace.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T>
class GateWeights {
 public:
  static constexpr int64_t kDirectSteps = 4;  // up to here packing weights does not pay

  using A = Sum<T>;

  GateWeights() = default;
  GateWeights(Arena& arena, const Panels<A>& panels, const ScanParams& s, int d)
      : panels_(&panels), s_(&s), direct_(s.T <= kDirectSteps) {
    set(d);
    const int64_t width = panels.width();
    w_ih_ = arena.take<Lane<T>>(!direct_ && dir_->w_ih ? width * lanes<T>(s.I) : 0);
    w_hh_ = arena.take<Lane<T>>(direct_ ? 0 : width * lanes<T>(s.H));
    b_ih_ = arena.take<A>(width);
    b_hh_ = arena.take<A>(width);
  }

  // The same memory for another direction's weights.
  void set(int d) { dir_ = &s_->dir[d]; }
  bool direct() const { return direct_; }

  void pack(int64_t p) {
    const int64_t column = panels_->column(p);
    if (!direct_ && dir_->w_ih) {
      pack_gates(*panels_, p, static_cast<const T*>(dir_->w_ih), s_->I,
                 w_ih_ + column * lanes<T>(s_->I));
    }
    if (!direct_) {
      pack_gates(*panels_, p, static_cast<const T*>(dir_->w_hh), s_->H,
                 w_hh_ + column * lanes<T>(s_->H));
    }
    pack_bias(p, dir_->b_ih, b_ih_ + column);
    pack_bias(p, dir_->b_hh, b_hh_ + column);
  }

  // x W_ih^T + b_ih for the columns of panel p, or the ready projection; out rows lie ld apart.
  void input(int64_t p, const T* const* x, int64_t count, A* out, int64_t ld) const {
    if (dir_->w_ih) {
      return multiply(p, dir_->w_ih, w_ih_, s_->I, x, count, b_ih_, out, ld);
    }
    for (int64_t r = 0; r < count; ++r) pack_row(*panels_, p, p + 1, x[r], out + r * ld);
  }
  // h W_hh^T + b_hh, likewise.
  void hidden(int64_t p, const T* const* h, int64_t count, A* out, int64_t ld) const {
    multiply(p, dir_->w_hh, w_hh_, s_->H, h, count, b_hh_, out, ld);
  }
  // hidden() of one row for all of some panels of NV registers, the last of which may be narrower.
  template <int NV>
  void hidden_row(Range panels, const T* const* h, A* out) const {
    if (panels.end == panels.begin) return;
    const int64_t origin = panels_->column(panels.begin);
    const int64_t end = panels_->vectors(panels.end - 1) == NV ? panels.end : panels.end - 1;
    const int64_t depth = lanes<T>(s_->H);
    row_gemm<T, NV>(*h, s_->H, w_hh_ + origin * depth, int64_t(NV) * Vec<A>::W * depth,
                    end - panels.begin, b_hh_ + origin, out);
    if (end < panels.end) hidden(end, h, 1, out + panels_->column(end) - origin, 0);
  }

 private:
  void multiply(int64_t p, const void* weight, const Lane<T>* packed, int64_t K,
                const T* const* rows, int64_t count, const A* bias, A* out, int64_t ld) const {
    const int64_t column = panels_->column(p);
    if (direct_) {
      direct_gemm(*panels_, p, static_cast<const T*>(weight), K, rows, count, bias + column, out,
                  ld);
    } else {
      panel_gemm(panels_->vectors(p), rows, count, K, packed + column * lanes<T>(K),
                 panels_->vectors(p) * Vec<A>::W, bias + column, out, ld);
    }
  }
  void pack_bias(int64_t p, const void* bias, A* out) {
    if (bias) {
      pack_row(*panels_, p, p + 1, static_cast<const T*>(bias), out);
    } else {
      memset(out, 0, panels_->vectors(p) * Vec<A>::W * sizeof(A));
    }
  }

  const Panels<A>* panels_ = nullptr;
  const ScanParams* s_ = nullptr;
  const Direction* dir_ = nullptr;
  bool direct_ = false;
  Lane<T>*w_ih_ = nullptr, *w_hh_ = nullptr;  // panel p at column(p) * lanes(I), lanes(H)
  A *b_ih_ = nullptr, *b_hh_ = nullptr;       // in the order of the panels' columns
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
