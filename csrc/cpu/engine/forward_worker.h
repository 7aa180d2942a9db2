// What one thread of the forward engine has.
#pragma once
#include "forward_across.h"
#include "projection.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class T>
struct ForwardScratch {
  using A = Sum<T>;
  A* gates;        // projected input of a block [rows][columns of the thread's panels]
  A* recurrent;    // r = W_hh h + b_hh of one group of rows and one panel, or one row and all
                   // panels
  A* zeros;        // [H]; as T it is zeros too
  A* carried;      // where states live apart: [S][rows, H]
  Lane<T>* panel;  // of a weight, where GateWeights packs one at a time
  const T **input, **h, **h_in;  // rows by pointer: of the block; of the previous and this step
  T** out;                       // where this step's h goes, or what is to be projected
  Range rows;                    // of the batch
  typename Projection<Cell, T>::Scratch projection;
  ForwardAcross<Cell, T> across;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
