// W_hh of a cell with late slots, as backward's products want it: the slots that a step begins
// with, and the late ones, which are multiplied apart.
#pragma once
#include "cells/traits.h"
#include "cpu/gemm/matrix.h"
#include "cpu/params.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class T>
class LateMatrix : public Matrix<T> {
 public:
  LateMatrix(Arena& arena, const ScanParams& s, Packing packing, bool lent)
      : Matrix<T>(arena, early_slots<Cell> * s.H, s.H, packing, s.threads, lent),
        late(arena, fastrnn::late<Cell> * s.H, s.H, packing, s.threads),
        late_from_(early_slots<Cell> * s.H * s.H) {}

  void set(const T* w_hh, int rank, int size, void* lent = nullptr) {
    Matrix<T>::set(w_hh, rank, size, lent);
    late.set(w_hh + late_from_, rank, size);
  }

  Matrix<T> late;

 private:
  const int64_t late_from_;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
