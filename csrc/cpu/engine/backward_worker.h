// What one thread of the backward engine has, and has to do.
#pragma once
#include "backward_across.h"
#include "backward_late.h"
#include "extra_slots.h"
#include "param_grad.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Of a cell whose step is in parts: those.
template <class Cell, class T>
using BackwardParts =
    std::conditional_t<(late<Cell> > 0), BackwardLate<Cell, T>, BackwardAcross<Cell, T>>;

template <class Cell, class T>
struct BackwardScratch {
  Sum<T>* tile;              // dL/dh of one group of rows and one panel
  const T** next;            // gate gradients of the step after, of each batch row
  ExtraRow<Cell, T>* extra;  // of this step's extra slots, likewise
  BackwardParts<Cell, T> parts;
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
  ParamSlots slots = {};  // of the step under way

  // The block's memory is about to be written again: save in `last` [rows, gates] what the next
  // step still needs of it. zeros: what stands for a row that has nothing.
  void keep_last(const T* zeros, T* last, int64_t gates) {
    const int64_t count = mine.end - mine.begin, local = mine.begin - rows.begin;
    const Range copied = by_units ? part(count, rank, size) : Range{0, count};
    for (int64_t b = 0; b < count; ++b) {
      const T*& next = scratch.next[local + b];
      T* to = last + (local + b) * gates;
      if (next == zeros || next == to) continue;
      if (b >= copied.begin && b < copied.end) memcpy(to, next, gates * sizeof(T));
      next = to;
    }
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
