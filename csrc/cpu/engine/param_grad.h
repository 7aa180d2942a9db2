// The gradients of a cell's parameters: what each row of a block gives, kept unrounded until the
// block's rows are summed, in the order in which a bias's gradient is.
#pragma once
#include "cells/traits.h"
#include "rows.h"
#include "weight_grad.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class T>
class ParamGrad {
 public:
  using A = Sum<T>;
  static constexpr int P = params<Cell>;

  // most: rows of a block, at most; several: may a direction have more blocks than one?
  ParamGrad(Arena& arena, const ScanParams& s, int64_t most, bool several)
      : wanted_(P > 0 && s.dir[0].d_params), H_(s.H), ld_(WeightGrad<T>::row_length(P * s.H)) {
    rows_ = arena.take<A>(wanted_ ? most * ld_ : 0);
    sums_ = arena.take<A>(wanted_ && several && Storage<T>::kPair > 1 ? P * s.H : 0);
  }

  // What row `at` of the block gives for the register from unit j on, `left` units of it: dp [P].
  FASTRNN_INLINE void store(int64_t at, int64_t j, int64_t left, const Vec<A>* dp) {
    for (int k = 0; k < P && wanted_; ++k) dp[k].store(rows_ + at * ld_ + k * H_ + j, left);
  }
  // Of parameter k alone.
  FASTRNN_INLINE void store(int64_t at, int64_t j, int64_t left, int k, Vec<A> dp) {
    if (wanted_) dp.store(rows_ + at * ld_ + k * H_ + j, left);
  }

  // d_params [P, H] (+)= the sums of the block's rows, this rank's share of them. first, last: the
  // first, the last block of its direction.
  void add(int64_t count, void* d_params, bool first, bool last, int rank, int size) const {
    if (P == 0 || !wanted_) return;
    T* to = static_cast<T*>(d_params);
    A* sums = sums_;
    if constexpr (Storage<T>::kPair == 1) sums = to;
    column_sums(rows_, ld_, P * H_, count, Gradient<T>{to, sums, first, last}, rank, size);
  }

 private:
  const bool wanted_;
  const int64_t H_, ld_;
  A *rows_, *sums_;  // [rows, ld]: columns [P, H]; [P, H], over blocks
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
