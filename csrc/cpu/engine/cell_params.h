// A cell's step on a register of units, with its parameters and extra slots if it has some.
#pragma once
#include "cells/traits.h"
#include "cpu/simd/number.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// p = the register from unit j on of each of one direction's parameters [P, H].
template <class Cell, class T>
FASTRNN_INLINE void load_params(const void* values, int64_t H, int64_t j, Vec<Sum<T>>* p) {
  for (int k = 0; k < params<Cell>; ++k) {
    p[k] = read(static_cast<const T*>(values) + k * H + j, H - j);
  }
}

template <class Cell, class V>
FASTRNN_INLINE void cell_forward(const V* x, const V* r, const V* prev, const V* p, const V* e,
                                 V* next, V* saved) {
  if constexpr (params<Cell> > 0 && extra<Cell> > 0) {
    Cell::forward(x, r, prev, p, e, next, saved);
  } else if constexpr (params<Cell> > 0) {
    Cell::forward(x, r, prev, p, next, saved);
  } else if constexpr (extra<Cell> > 0) {
    Cell::forward(x, r, prev, e, next, saved);
  } else {
    Cell::forward(x, r, prev, next, saved);
  }
}
template <class Cell, class V>
FASTRNN_INLINE void cell_backward(const V* saved, const V* prev, const V* next, const V* p,
                                  const V* e, V* d, V* dx, V* dr, V* dp, V* de) {
  if constexpr (params<Cell> > 0 && extra<Cell> > 0) {
    Cell::backward(saved, prev, next, p, e, d, dx, dr, dp, de);
  } else if constexpr (params<Cell> > 0) {
    Cell::backward(saved, prev, next, p, d, dx, dr, dp);
  } else if constexpr (extra<Cell> > 0) {
    Cell::backward(saved, prev, next, e, d, dx, dr, de);
  } else {
    Cell::backward(saved, prev, next, d, dx, dr);
  }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
