// What one thread of the backward engine has, and has to do.
#pragma once
#include "backward_across.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class T>
struct BackwardScratch {
  Sum<T>* tile;    // dL/dh of one group of rows and one panel
  const T** next;  // gate gradients of the step after, of each batch row
  BackwardAcross<Cell, T> across;
};

// One thread's share of one direction of a chunk of batch rows: the most that a step of a block
// has.
template <class Cell, class T>
struct BackwardWorker {
  const Direction& dir;
  int d, rank, size;
  Barrier& barrier;
  Range rows, mine;  // the chunk's batch rows; this thread's
  Range units;       // this thread's panels
  Range hidden;      // and those of the columns of W_hh
  BackwardScratch<Cell, T>& scratch;
  bool by_units;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
