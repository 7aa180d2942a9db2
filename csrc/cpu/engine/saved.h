// What forward leaves for backward: for each row the cell's K values and the S-1 carried states
// after the step [K+S-1, H]; or, if partial, the value of the cell's kept gate (if it has one) and
// the carried states. Where h is projected, what the cell gave follows, [H].
#pragma once
#include "cells/traits.h"
#include "cpu/simd/functions.h"
#include "rows.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class T>
struct Saved {
  const ScanParams& s;

  FASTRNN_INLINE int values() const { return s.partial ? kept<Cell> : Cell::kSaved; }
  FASTRNN_INLINE int width() const {  // in vectors [H]
    return values() + Cell::kStates - 1 + (projects<Cell> && s.projected());
  }
  // [values(), H] of row n.
  FASTRNN_INLINE T* row(int d, int64_t n) const {
    return static_cast<T*>(s.dir[d].saved) + n * width() * s.H;
  }
  // Where carried state k >= 1 lies in what is saved of a row, in vectors [H].
  FASTRNN_INLINE int place(int k) const { return values() + k - 1; }
  // [H]: carried state k >= 1 after the step of row n.
  FASTRNN_INLINE T* carried(int d, int64_t n, int k) const { return row(d, n) + place(k) * s.H; }
  // [H]: what the cell gave in row n, before the projection.
  FASTRNN_INLINE T* unprojected(int d, int64_t n) const {
    return row(d, n) + (values() + Cell::kStates - 1) * s.H;
  }
  // State k that (t, b) started from; zeros where it was reset.
  FASTRNN_INLINE const T* before(int d, int64_t t, int64_t b, int k, const T* zeros) const {
    const Rows<T> rows{s};
    if (k == 0) return rows.hidden_before(d, t, b, zeros);
    if (rows.reset(t, b)) return zeros;
    const int64_t from = rows.before(d, t, b);
    return from < 0 ? rows.initial(d, k, b, zeros) : carried(d, s.row(from) + b, k);
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
