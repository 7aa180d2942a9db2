// Panels of units that lie in heads, H / heads neighbours each: no panel has units of two heads, so
// that it is multiplied by the numbers of its head alone. Registers at the end of a head may be
// filled in part, as those of the last panel of Panels.
#pragma once
#include "pack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T>
struct HeadPanels {
  static constexpr int W = Vec<T>::W;
  Panels<T> head;          // of the units of a head alone
  int64_t H, heads, each;  // units; heads; panels of each
  int G;

  FASTRNN_INLINE HeadPanels(int64_t units, int64_t heads, int gates, int left_out = -1)
      : head(units / heads, gates, left_out),
        H(units),
        heads(heads),
        each(head.count()),
        G(head.G) {}

  // The head of panel p, and which of that head's panels it is.
  FASTRNN_INLINE int64_t of(int64_t p) const { return uint32_t(p) / uint32_t(each); }
  FASTRNN_INLINE int64_t place(int64_t p) const { return p - of(p) * each; }

  FASTRNN_INLINE int64_t gate_row(int g) const { return head.gate(g) * H; }
  FASTRNN_INLINE int64_t count() const { return heads * each; }
  FASTRNN_INLINE int64_t unit(int64_t p) const { return of(p) * head.H + head.unit(place(p)); }
  FASTRNN_INLINE int64_t end(int64_t p) const { return (of(p) + 1) * head.H; }
  FASTRNN_INLINE Range units(Range panels) const { return {unit(panels.begin), unit(panels.end)}; }
  FASTRNN_INLINE int registers(int64_t p) const { return head.registers(place(p)); }
  FASTRNN_INLINE int vectors(int64_t p) const { return head.vectors(place(p)); }
  FASTRNN_INLINE int most_vectors() const { return head.most_vectors(); }
  FASTRNN_INLINE int64_t column(int64_t p) const {
    return of(p) * head.width() + head.column(place(p));
  }
  FASTRNN_INLINE int64_t columns(Range panels) const {
    return column(panels.end) - column(panels.begin);
  }
  FASTRNN_INLINE int64_t width() const { return heads * head.width(); }
};

template <class P>
constexpr bool in_heads = false;
template <class T>
constexpr bool in_heads<HeadPanels<T>> = true;

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
