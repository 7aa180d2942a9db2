// The cell list: the one place that names every cell. F(name, policy).
#pragma once
#include "counts.h"
#include "elman.h"
#include "gru.h"
#include "lstm.h"
#include "traits.h"

// A build may bring cells of its own: -DFASTRNN_EXTRA_CELLS="file.h" names a header that defines
// the policies and FASTRNN_EXTRA_CELL_LIST(F); see docs/adding_a_cell.md. A policy may name its
// cell itself, where the name is no identifier; then F's first argument is not used. So a header of
// some derived cells is their policies one after another, and
//   namespace fastrnn {
//   struct Cell0 : LightGru { static constexpr const char* kName = "light_gru@0123456789abcdef"; };
//   struct Cell1 : Peephole { static constexpr const char* kName = "peephole@fedcba9876543210"; };
//   }
//   #define FASTRNN_EXTRA_CELL_LIST(F) F(cell0, Cell0) F(cell1, Cell1)
// A header that defines FASTRNN_CELLS(F) itself leaves the cells below out.
#ifdef FASTRNN_EXTRA_CELLS
#include FASTRNN_EXTRA_CELLS
#else
#define FASTRNN_EXTRA_CELL_LIST(F)
#endif

#ifndef FASTRNN_CELLS
#define FASTRNN_CELLS(F)           \
  F(rnn_tanh, Elman<Tanh>)         \
  F(rnn_relu, Elman<Relu>)         \
  F(rnn_identity, Elman<Identity>) \
  F(lstm, Lstm)                    \
  F(gru, Gru)                      \
  FASTRNN_EXTRA_CELL_LIST(F)
#endif

namespace fastrnn {

struct CellInfo {
  const char* name;
  int gates, states, saved, kept, params, recurrent, extra, feeds;
  bool projects, heads;
};

#define FASTRNN_CELL_INFO(name, ...)                      \
  {own_name<__VA_ARGS__> ? own_name<__VA_ARGS__> : #name, \
   __VA_ARGS__::kGates,                                   \
   __VA_ARGS__::kStates,                                  \
   __VA_ARGS__::kSaved,                                   \
   kept<__VA_ARGS__>,                                     \
   params<__VA_ARGS__>,                                   \
   recurrent<__VA_ARGS__>,                                \
   extra<__VA_ARGS__>,                                    \
   feeds<__VA_ARGS__>,                                    \
   projects<__VA_ARGS__>,                                 \
   heads<__VA_ARGS__>},
constexpr CellInfo kCells[] = {FASTRNN_CELLS(FASTRNN_CELL_INFO)};
#undef FASTRNN_CELL_INFO
constexpr int kCellCount = sizeof(kCells) / sizeof(kCells[0]);

#define FASTRNN_CELL_FITS(name, ...)                                                           \
  static_assert(__VA_ARGS__::kStates <= kMaxStates, #name " has more states than kMaxStates"); \
  static_assert(slots_fit<__VA_ARGS__>, #name " has slots of r that do not fit its gates");
FASTRNN_CELLS(FASTRNN_CELL_FITS)
#undef FASTRNN_CELL_FITS

}  // namespace fastrnn
