// What one thread of the forward engine has.
#pragma once
#include "extra_slots.h"
#include "forward_across.h"
#include "forward_late.h"
#include "projection.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Of a cell whose step is in parts: those.
template <class Cell, class T, class Weights>
using ForwardParts = std::conditional_t<(late<Cell> > 0), ForwardLate<Cell, T, Weights>,
                                        ForwardAcross<Cell, T, Weights>>;

template <class Cell, class T, class Weights>
struct ForwardScratch {
  using A = Sum<T>;
  A* gates;      // projected input of a block [rows][columns of the thread's panels]
  A* recurrent;  // r = W_hh h + b_hh of one group of rows and one panel, or one row and all
                 // panels
  A* zeros;      // [H]; as T it is zeros too
  A* carried;    // where states live apart: [S][rows, H]
  typename Weights::Scratch weights;  // what the products need besides
  const T **input, **h, **h_in;  // rows by pointer: of the block; of the previous and this step
  const T **fed, **fed_in;       // of what the product multiplies: h and h_in, or another state's
  ExtraRow<Cell, T>* extra;      // of this step's extra slots
  T** out;                       // where this step's h goes, or what is to be projected
  Range rows;                    // of the batch
  typename Projection<Cell, T>::Scratch projection;
  ForwardParts<Cell, T, Weights> parts;

  // block: rows of projected input; most: batch rows that go through time together; apart: do
  // carried states live here? Of panel and projection the engine knows more.
  template <class Units>
  static ForwardScratch take(Arena& arena, const ScanParams& s, int64_t block, int64_t most,
                             bool apart, const Units& panels, const Units& hidden_panels) {
    const int64_t tile = kGroupRows * hidden_panels.most_vectors() * Vec<A>::W;
    const int64_t all = hidden_panels.width(), fed = feeds<Cell> > 0 ? most : 0;
    ForwardScratch w{};
    w.gates = arena.take<A>(block * panels.width());
    w.recurrent = arena.take<A>(fastrnn::recurrent<Cell> == 0 ? 0 : tile > all ? tile : all);
    w.zeros = arena.take<A>(s.H);
    w.carried = arena.take<A>(apart ? Cell::kStates * most * s.H : 0);
    w.input = arena.take<const T*>(block);
    w.h = arena.take<const T*>(most), w.h_in = arena.take<const T*>(most);
    w.fed = fed > 0 ? arena.take<const T*>(fed) : w.h;
    w.fed_in = fed > 0 ? arena.take<const T*>(fed) : w.h_in;
    w.extra = arena.take<ExtraRow<Cell, T>>(fastrnn::extra<Cell> > 0 ? most : 0);
    w.out = arena.take<T*>(most);
    w.parts = {arena, s, panels, most};
    return w;
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
