// Runs a cell's policy over numbers in memory: what the engines do for one unit, without engines.
#pragma once
#include <cstdint>

#include "cpu/engine/instances.h"
#include "passes.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// arrays: x, r, prev, p, d in; next, dx, dr, dprev, dp out. n: a multiple of W.
template <class Cell, int P, class T, class N, int W>
void run_policy(N** arrays, int64_t n) {
  constexpr int G = Cell::kGates, S = Cell::kStates, K = Cell::kSaved;
  Columns<T, N> column[10];
  for (int a = 0; a < 10; ++a) column[a] = {arrays[a], n};
  if constexpr (across<Cell>) {
    Row<Cell, P, T, N, W>(column, n).run();
    return;
  } else {
    for (int64_t i = 0; i < n; i += W) {
      T x[G], r[G], prev[S], p[P + 1], d[S], next[S], saved[K + 1], dx[G], dr[G], dp[P + 1];
      column[0].read(G, i, x), column[1].read(G, i, r), column[2].read(S, i, prev);
      column[3].read(P, i, p), column[4].read(S, i, d);
      if constexpr (P > 0) {
        Cell::forward(x, r, prev, p, next, saved);
        Cell::backward(saved, prev, next, p, d, dx, dr, dp);
      } else {
        Cell::forward(x, r, prev, next, saved);
        Cell::backward(saved, prev, next, d, dx, dr);
      }
      column[5].write(S, i, next), column[6].write(G, i, dx);
      column[7].write(G, i, Cell::kSplit ? dr : dx), column[8].write(S, i, d);
      if constexpr (P > 0) column[9].write(P, i, dp);
    }
  }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn

#define RUN_POLICY(number, Policy, P)                                                   \
  extern "C" void scalar_##number(double** arrays, int64_t n) {                         \
    fastrnn::FASTRNN_ISA::run_policy<fastrnn::Policy, P, double, double, 1>(arrays, n); \
  }                                                                                     \
  extern "C" void vector_##number(double** arrays, int64_t n) {                         \
    using V = fastrnn::FASTRNN_ISA::Vec<double>;                                        \
    fastrnn::FASTRNN_ISA::run_policy<fastrnn::Policy, P, V, double, V::W>(arrays, n);   \
  }                                                                                     \
  extern "C" void float_##number(float** arrays, int64_t n) {                           \
    using V = fastrnn::FASTRNN_ISA::Vec<float>;                                         \
    fastrnn::FASTRNN_ISA::run_policy<fastrnn::Policy, P, V, float, V::W>(arrays, n);    \
  }
