// The gradients of a cell's parameters: summed unrounded as the steps go, each batch row's by
// itself, so that the order of a sum hangs on no thread; then over the rows, once a block.
#pragma once
#include <cstring>

#include "cells/traits.h"
#include "rows.h"
#include "weight_grad.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Where the sums of the steps under way are: of the block's batch row i at begin + i.
struct ParamSlots {
  int64_t begin = 0, end = 0;
};

template <class Cell, class T>
class ParamGrad {
 public:
  using A = Sum<T>;
  static constexpr int P = params<Cell>;

  // most: rows of a block, at most; several: may a direction have more blocks than one?
  ParamGrad(Arena& arena, const ScanParams& s, int64_t most, bool several)
      : wanted_(P > 0 && s.dir[0].d_params), H_(s.H), ld_(WeightGrad<T>::row_length(P * s.H)) {
    sums_ = arena.take<A>(wanted_ ? slots(s, most) * ld_ : 0);
    total_ = arena.take<A>(wanted_ && several && Storage<T>::kPair > 1 ? P * s.H : 0);
  }

  // Before step i of a block, of `active` batch rows; units: those of the thread.
  template <class Worker>
  void begin(Worker& w, int64_t i, int64_t active, Range units) const {
    if (P == 0 || !wanted_) return;
    ParamSlots& slots = w.slots;
    const Range rows{w.mine.begin - w.rows.begin, w.mine.end - w.rows.begin};
    if (i == 0) slots = {};
    if (i % kSteps == 0) slots.begin = slots.end;
    const int64_t known = slots.end - slots.begin;
    if (active <= known) return;
    slots.end = slots.begin + active;
    for (int64_t b = known > rows.begin ? known : rows.begin; b < active && b < rows.end; ++b) {
      A* row = sums_ + (slots.begin + b) * ld_;
      for (int k = 0; k < P; ++k) {
        memset(row + k * H_ + units.begin, 0, (units.end - units.begin) * sizeof(A));
      }
    }
  }

  // Adds what a step gives for the register from unit j on, `left` units of it: dp [P].
  FASTRNN_INLINE void add(int64_t slot, int64_t j, int64_t left, const Vec<A>* dp) {
    for (int k = 0; k < P && wanted_; ++k) add_to(sums_ + slot * ld_ + k * H_ + j, left, dp[k]);
  }
  // Of parameter k alone.
  FASTRNN_INLINE void add(int64_t slot, int64_t j, int64_t left, int k, Vec<A> dp) {
    if (wanted_) add_to(sums_ + slot * ld_ + k * H_ + j, left, dp);
  }

  // d_params [P, H] (+)= the sums of the block, this rank's share of them. first, last: the first,
  // the last block of its direction.
  void finish(const ParamSlots& slots, void* d_params, bool first, bool last, int rank,
              int size) const {
    if (P == 0 || !wanted_) return;
    T* to = static_cast<T*>(d_params);
    A* total = total_;
    if constexpr (Storage<T>::kPair == 1) total = to;
    column_sums(sums_, ld_, P * H_, slots.end, Gradient<T>{to, total, first, last}, rank, size);
  }

 private:
  static constexpr int64_t kSteps = 32;  // of a row, in one sum: more would cost digits

  // A block's slots, at most. Every kSteps steps have as many as rows at one of them.
  static int64_t slots(const ScanParams& s, int64_t most) {
    const int64_t rows = s.B < most ? s.B : most;
    if (s.batch_sizes || rows == 0) return most;
    return (most / rows + kSteps - 1) / kSteps * rows;
  }
  static FASTRNN_INLINE void add_to(A* sum, int64_t left, Vec<A> value) {
    (Vec<A>::load(sum, left) + value).store(sum, left);
  }

  const bool wanted_;
  const int64_t H_, ld_;
  A *sums_, *total_;  // [slots, ld]: columns [P, H]; [P, H], over blocks
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
