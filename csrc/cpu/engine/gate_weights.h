// The weights of one direction as the products x W_ih^T + b_ih and h W_hh^T + b_hh want them, in
// panels that hold all gates of their units, those of W_hh of the same units: packed once; packed
// one at a time right before its use, for one step; or, where neither pays, read as torch keeps
// them. Either weight may be absent. Of HeadPanels a panel of W_hh is one of its head's block, and
// is multiplied by that head's h.
#pragma once
#include "cpu/gemm/direct.h"
#include "cpu/gemm/head_panels.h"
#include "cpu/gemm/residue.h"
#include "cpu/params.h"
#include "cpu/threads/range.h"
#include "cpu/threads/workspace.h"

namespace fastrnn {
namespace FASTRNN_ISA {

constexpr int64_t kFewSteps = 4;  // the order of sums hangs on this, and on no batch size

template <class T, class P = Panels<Sum<T>>>
class GateWeights {
 public:
  using A = Sum<T>;
  using Units = P;
  using Panel = const Lane<T>*;
  using Scratch = Lane<T>*;  // a thread's, for a panel that is packed right before its use
  static constexpr bool kRowOfAnyWidth = false;  // has hidden_row() registers for few columns only?

  GateWeights() = default;
  // panels: of W_ih; hidden_panels: of W_hh
  GateWeights(Arena& arena, const P& panels, const P& hidden_panels, const ScanParams& s, int d)
      : panels_(&panels), hidden_panels_(&hidden_panels), s_(&s), mode_(mode(s)) {
    set(d);
    const bool whole = mode_ == kPacked || mode_ == kResidues;
    const int64_t width = panels.width(), hidden_width = hidden_panels.width();
    w_ih_ = arena.take<Lane<T>>(whole && dir_->w_ih ? offset(width, s.I) : 0);
    w_hh_ = arena.take<Lane<T>>(whole && dir_->w_hh ? offset(hidden_width, depth(s)) : 0);
    b_ih_ = arena.take<A>(width);
    b_hh_ = arena.take<A>(dir_->w_hh ? hidden_width : 0);
  }

  // The same memory for another direction's weights.
  void set(int d) { dir_ = &s_->dir[d]; }
  bool packed() const { return mode_ == kPacked; }
  // Numbers of the memory that a thread gives to input_panel() or hidden_panel().
  static int64_t scratch(const P& panels, const P& hidden_panels, const ScanParams& s) {
    const int a = panels.most_vectors(), b = hidden_panels.most_vectors();
    return mode(s) == kPanelwise ? (a > b ? a : b) * residue_column<T>(deepest(s)) : 0;
  }

  static Scratch take_scratch(Arena& arena, const P& panels, const P& hidden_panels,
                              const ScanParams& s, int64_t, int64_t) {
    return arena.take<Lane<T>>(scratch(panels, hidden_panels, s));
  }

  // Rows as input() and hidden() take them: as they are.
  const T* const* input_rows(const T* const* x, int64_t, Scratch) const { return x; }
  const T* const* hidden_rows(const T* const* h, int64_t, Scratch) const { return h; }

  void pack(int64_t p) {
    const int64_t column = panels_->column(p), hidden_column = hidden_panels_->column(p);
    if (mode_ == kPacked || mode_ == kResidues) {
      if (dir_->w_ih) pack_weight(*panels_, p, dir_->w_ih, s_->I, w_ih_ + offset(column, s_->I));
      if (dir_->w_hh) pack_hidden(p, w_hh_ + offset(hidden_column, depth()));
    }
    pack_bias(*panels_, p, dir_->b_ih, b_ih_ + column);
    if (dir_->w_hh) pack_bias(*hidden_panels_, p, dir_->b_hh, b_hh_ + hidden_column);
  }

  // Panel p of W_ih for input(), of W_hh for hidden(); null where neither is packed.
  const Lane<T>* input_panel(int64_t p, Lane<T>* scratch) const {
    if (mode_ == kDirect || !dir_->w_ih) return nullptr;
    if (mode_ != kPanelwise) return w_ih_ + offset(panels_->column(p), s_->I);
    pack_weight(*panels_, p, dir_->w_ih, s_->I, scratch);
    return scratch;
  }
  const Lane<T>* hidden_panel(int64_t p, Lane<T>* scratch) const {
    if (mode_ == kDirect) return nullptr;
    if (mode_ != kPanelwise) return w_hh_ + offset(hidden_panels_->column(p), depth());
    pack_hidden(p, scratch);
    return scratch;
  }

  // x W_ih^T + b_ih for the columns of panel p, or the ready projection; out rows lie ld apart.
  void input(int64_t p, const Lane<T>* panel, const T* const* x, int64_t count, A* out,
             int64_t ld) const {
    if (dir_->w_ih) {
      const A* bias = b_ih_ + panels_->column(p);
      return multiply(*panels_, p, dir_->w_ih, panel, s_->I, x, count, bias, out, ld);
    }
    for (int64_t r = 0; r < count; ++r) pack_row(*panels_, p, p + 1, x[r], out + r * ld);
  }
  // h W_hh^T + b_hh of at most kGroupRows rows, likewise.
  void hidden(int64_t p, const Lane<T>* panel, const T* const* h, int64_t count, A* out,
              int64_t ld) const {
    const A* bias = hidden_bias(p);
    if constexpr (kHeads) {
      const T* own[kGroupRows];
      const int64_t first = panels_->of(p) * depth();
      for (int64_t i = 0; i < count; ++i) own[i] = h[i] + first;
      multiply(panels_->head, panels_->place(p), block(p), panel, depth(), own, count, bias, out,
               ld);
    } else {
      multiply(*hidden_panels_, p, dir_->w_hh, panel, depth(), h, count, bias, out, ld);
    }
  }
  // What hidden() gives for zeros: b_hh in the order of panel p's columns.
  const A* hidden_bias(int64_t p) const { return b_hh_ + hidden_panels_->column(p); }
  // hidden() of one row for all of some packed panels of NV registers, the last of which may be
  // narrower. back: from the last panel on.
  template <int NV>
  void hidden_row(Range panels, const T* const* h, A* out, bool back) const {
    if constexpr (kHeads) {
      const int64_t each = panels_->each, origin = panels_->column(panels.begin);
      for (int64_t p = panels.begin; p < panels.end; p = p / each * each + each) {
        const int64_t next = p / each * each + each;
        const Range own{p, next < panels.end ? next : panels.end};
        hidden_row_of<NV>(own, *h + panels_->of(p) * depth(), h, out + panels_->column(p) - origin,
                          back);
      }
    } else {
      hidden_row_of<NV>(panels, *h, h, out, back);
    }
  }

 private:
  enum Mode { kDirect, kPanelwise, kResidues, kPacked };
  static constexpr bool kHeads = in_heads<P>;

  // hidden_row() of panels that are multiplied by the same numbers, of which row is the first.
  template <int NV>
  FASTRNN_INLINE void hidden_row_of(Range panels, const T* row, const T* const* h, A* out,
                                    bool back) const {
    if (panels.end == panels.begin) return;
    const P& all = *hidden_panels_;
    const int64_t origin = all.column(panels.begin), K = lanes<T>(depth());
    const int64_t end = all.vectors(panels.end - 1) == NV ? panels.end : panels.end - 1;
    const auto narrow = [&] {
      hidden(end, hidden_panel(end, nullptr), h, 1, out + all.column(end) - origin, 0);
    };
    if (back && end < panels.end) narrow();
    row_gemm<T, NV>(row, depth(), w_hh_ + origin * K, int64_t(NV) * Vec<A>::W * K,
                    end - panels.begin, b_hh_ + origin, out, back);
    if (!back && end < panels.end) narrow();
  }

  static Mode mode(const ScanParams& s) {
    if (s.T > kFewSteps) return kPacked;
    if (lanes<T>(deepest(s)) > packed_depth(s)) return kDirect;
    return s.T == 1 ? kPanelwise : kResidues;
  }
  // Packing costs time in proportion to K, whatever the rows; reading weights as they lie costs a
  // sum across registers for each row and unit. The lanes of K up to which packing is faster, as
  // measured:
  static int64_t packed_depth(const ScanParams& s) {
    if (s.T == 1) return s.B < 16 ? s.B * s.B : 16 * s.B;
    return s.N < 51 ? 10 * s.N : 512;
  }
  static int64_t deepest(const ScanParams& s) {
    const int64_t hidden = s.dir[0].w_hh ? depth(s) : 0;
    return s.I > hidden && s.dir[0].w_ih ? s.I : hidden;
  }

  // Where the panel that begins at a column begins in a packed weight [G*H, K].
  int64_t offset(int64_t column, int64_t K) const {
    return mode_ == kPacked ? column * lanes<T>(K) : column / Vec<A>::W * residue_column<T>(K);
  }
  // Columns of W_hh, with heads those of a block.
  static int64_t depth(const ScanParams& s) { return kHeads ? s.P / s.heads : s.P; }
  int64_t depth() const {
    if constexpr (kHeads) {
      return panels_->head.H;
    } else {
      return s_->P;
    }
  }
  // The block of W_hh that has panel p.
  const T* block(int64_t p) const {
    const int64_t rows = panels_->head.gates() * depth();
    return static_cast<const T*>(dir_->w_hh) + panels_->of(p) * rows * depth();
  }
  void pack_hidden(int64_t p, Lane<T>* to) const {
    if constexpr (kHeads) {
      pack_weight(panels_->head, panels_->place(p), block(p), depth(), to);
    } else {
      pack_weight(*hidden_panels_, p, dir_->w_hh, depth(), to);
    }
  }
  template <class Q>
  void pack_weight(const Q& panels, int64_t p, const void* weight, int64_t K, Lane<T>* to) const {
    const T* from = static_cast<const T*>(weight);
    if (mode_ == kPacked) {
      pack_gates(panels, p, from, K, to);
    } else {
      pack_residues(panels, p, from, K, to);
    }
  }
  template <class Q>
  void multiply(const Q& panels, int64_t p, const void* weight, const Lane<T>* panel, int64_t K,
                const T* const* rows, int64_t count, const A* bias, A* out, int64_t ld) const {
    const int nv = panels.vectors(p);
    if (mode_ == kPacked) {
      panel_gemm(nv, rows, count, K, panel, int64_t(nv) * Vec<A>::W, bias, out, ld);
    } else if (mode_ == kDirect) {
      direct_gemm(panels, p, static_cast<const T*>(weight), K, rows, count, bias, out, ld);
    } else {
      residue_gemm<T>(nv, rows, count, panel, K, bias, out, ld);
    }
  }
  void pack_bias(const P& panels, int64_t p, const void* bias, A* out) {
    if (bias) {
      pack_row(panels, p, p + 1, static_cast<const T*>(bias), out);
    } else {
      memset(out, 0, panels.vectors(p) * Vec<A>::W * sizeof(A));
    }
  }

  const P *panels_ = nullptr, *hidden_panels_ = nullptr;
  const ScanParams* s_ = nullptr;
  const Direction* dir_ = nullptr;
  Mode mode_ = kDirect;
  Lane<T>*w_ih_ = nullptr, *w_hh_ = nullptr;  // panel p at column(p) * lanes(I), lanes(P)
  A *b_ih_ = nullptr, *b_hh_ = nullptr;       // in the order of the panels' columns
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
