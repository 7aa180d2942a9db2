// What is another where a cell's units lie in heads (traits.h), whose recurrent products know
// nothing of each other: how units are split, who shares them, and W_hh itself.
#pragma once
#include <new>
#include <type_traits>

#include "cells/traits.h"
#include "cpu/gemm/head_panels.h"
#include "cpu/gemm/matrix.h"
#include "cpu/params.h"
#include "gate_weights.h"
#include "late_matrix.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class A>
using UnitPanels = std::conditional_t<heads<Cell>, HeadPanels<A>, Panels<A>>;

// The units of a scan, for so many gates of the cell; arguments as of Panels.
template <class P>
P panels_of(const ScanParams& s, int gates, int left_out = -1, int most = 0) {
  if constexpr (in_heads<P>) {
    return {s.H, s.heads, gates, left_out};
  } else {
    return {s.H, gates, left_out, most};
  }
}
template <class Cell, class A>
UnitPanels<Cell, A> unit_panels(const ScanParams& s, int gates, int left_out = -1, int most = 0) {
  return panels_of<UnitPanels<Cell, A>>(s, gates, left_out, most);
}

// The panels of one of `size` threads that share units: whole heads, if each thread gets some.
template <class P>
Range unit_share(const P& panels, int64_t i, int64_t size) {
  if constexpr (in_heads<P>) {
    if (panels.heads >= size) {
      const Range own = part(panels.heads, i, size);
      return {own.begin * panels.each, own.end * panels.each};
    }
  }
  return part(panels.count(), i, size);
}
// Do threads that share units so wait for each other at every step?
template <class Cell>
bool units_meet(const ScanParams& s, int size) {
  if (heads<Cell> && !across<Cell> && s.heads >= size) return false;
  return recurrent<Cell> > 0 || across<Cell>;
}

// W_hh of a cell with heads, as the product dr . W_hh wants it: a Matrix a head. A row of dr has
// the gates of a head one after the other, as the rows of its block have them.
template <class T>
class HeadMatrix {
 public:
  // K: gates x units of all heads; n: units; others as Matrix's.
  HeadMatrix(Arena& arena, const ScanParams& s, int64_t K, Packing packing, bool lent)
      : panels(s.H, s.heads, 1), K_(K / s.heads), n_(s.H / s.heads) {
    blocks_ = arena.take<Matrix<T>>(s.heads);
    for (int64_t i = 0; i < s.heads; ++i) {
      const Matrix<T> block(arena, K_, n_, packing, s.threads, lent);
      if (blocks_) new (blocks_ + i) Matrix<T>(block);
    }
  }

  void set(const T* m, int rank, int size, void* lent = nullptr) {
    for (int64_t i = 0; i < panels.heads; ++i) {
      T* const own = lent ? static_cast<T*>(lent) + i * K_ * n_ : nullptr;
      blocks_[i].set(m + i * K_ * n_, rank, size, own);
    }
  }
  const Lane<T>* panel(int64_t p, int rank) const {
    return blocks_[panels.of(p)].panel(panels.place(p), rank);
  }
  // At most kGroupRows rows.
  void multiply(int64_t p, const Lane<T>* panel, const T* const* rows, int64_t count,
                Sum<T>* out) const {
    const T* own[kGroupRows];
    const int64_t head = panels.of(p);
    for (int64_t i = 0; i < count; ++i) own[i] = rows[i] + head * K_;
    blocks_[head].multiply(panels.place(p), panel, own, count, out);
  }

  // As Matrix's, for one row and some units.
  bool streams(int64_t count) const { return blocks_->streams(count); }
  void stream(const T* from, T* to, Range units) const {
    for (int64_t i = 0; i < panels.heads; ++i) {
      const int64_t begin = units.begin - i * n_, end = units.end - i * n_;
      const Range own{begin > 0 ? begin : 0, end < n_ ? end : n_};
      if (own.begin < own.end) blocks_[i].stream(from + i * K_, to + i * n_, own);
    }
  }

  const HeadPanels<Sum<T>> panels;  // of units

 private:
  const int64_t K_, n_;  // of a block
  Matrix<T>* blocks_;
};

template <class Cell, class T>
using RecurrentMatrix =
    std::conditional_t<heads<Cell>, HeadMatrix<T>,
                       std::conditional_t<(late<Cell> > 0), LateMatrix<Cell, T>, Matrix<T>>>;
template <class Cell, class T>
RecurrentMatrix<Cell, T> recurrent_matrix(Arena& arena, const ScanParams& s, Packing packing,
                                          bool lent) {
  const int64_t rows = recurrent<Cell> * s.H;
  if constexpr (heads<Cell>) {
    return {arena, s, rows, packing, lent};
  } else if constexpr (late<Cell> > 0) {
    return {arena, s, packing, lent};
  } else {
    return {arena, rows, s.P, packing, s.threads, lent};
  }
}

// Where gate g of unit j of panel p is in a row of dr: first(p) + g * next_gate + j.
template <class Cell, class P>
FASTRNN_INLINE int64_t dr_first(const P& panels, int64_t p) {
  if constexpr (in_heads<P>) return panels.of(p) * panels.head.H * (Cell::kGates - 1);
  return 0;
}
template <class P>
FASTRNN_INLINE int64_t dr_next_gate(const P& panels) {
  if constexpr (in_heads<P>) return panels.head.H;
  return panels.H;
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
