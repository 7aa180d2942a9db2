// Runs the passes of a policy that looks across units over one row in memory.
#pragma once
#include <cstdint>
#include <type_traits>
#include <vector>

namespace fastrnn {
namespace FASTRNN_ISA {

// Arrays [count, n] of numbers N; T: the type that a policy computes with, W numbers at a time.
template <class T, class N>
struct Columns {
  N* data;
  int64_t n;
  T get(int k, int64_t i) const {
    if constexpr (std::is_same_v<T, N>)
      return data[k * n + i];
    else
      return T::load(data + k * n + i);
  }
  void set(int k, int64_t i, T value) const {
    if constexpr (std::is_same_v<T, N>)
      data[k * n + i] = value;
    else
      value.store(data + k * n + i);
  }
  void read(int count, int64_t i, T* to) const {
    for (int k = 0; k < count; ++k) to[k] = get(k, i);
  }
  void write(int count, int64_t i, const T* from) const {
    for (int k = 0; k < count; ++k) set(k, i, from[k]);
  }
  // Those that pass `now` writes.
  void write(int count, int64_t i, const T* from, const int* in, int now) const {
    for (int k = 0; k < count; ++k) {
      if (in[k] == now) set(k, i, from[k]);
    }
  }
  N sum(int k) const {
    N sum(0);
    for (int64_t i = 0; i < n; ++i) sum += data[k * n + i];
    return sum;
  }
};

// columns: as run_policy has them.
template <class Cell, int P, class T, class N, int W>
struct Row {
  static constexpr int G = Cell::kGates, S = Cell::kStates, K = Cell::kSaved;
  const Columns<T, N>* column;
  const int64_t n;
  std::vector<N> memory;
  Columns<T, N> saved, temps, totals;
  N total[Cell::kForwardTotals + Cell::kBackwardTotals + 1], row[64];

  Row(const Columns<T, N>* column, int64_t n) : column(column), n(n) {
    const int temp = Cell::kForwardTemps + Cell::kBackwardTemps;
    const int sums = Cell::kForwardTotals + Cell::kBackwardTotals;
    memory.resize((K + temp + sums) * n);
    saved = {memory.data(), n}, temps = {saved.data + K * n, n};
    totals = {temps.data + temp * n, n};
  }

  void run() {
    static_assert(Cell::kForwardRows <= 64 && Cell::kBackwardRows <= 64, "row has less room");
    forward<0>();
    for (int k = 0; k < Cell::kSavedRows; ++k) {
      row[k] = saved.data[(K - Cell::kSavedRows + k) * n + n / 2];
    }
    backward<0>();
  }

  template <int kPass>
  void forward() {
    Cell::template forward_rows<kPass>(total, N(n), row);
    T rows[64], x[G], r[G], prev[S], p[P + 1], next[S], keep[K + 1] = {};
    T temp[Cell::kForwardTemps + 1] = {}, sums[Cell::kForwardTotals + 1] = {};
    for (int k = 0; k < 64; ++k) rows[k] = T(row[k]);
    for (int64_t i = 0; i < n; i += W) {
      column[0].read(G, i, x), column[1].read(G, i, r), column[2].read(S, i, prev);
      column[3].read(P, i, p), temps.read(Cell::kForwardTemps, i, temp);
      Cell::template forward<kPass>(x, r, prev, p, rows, temp, sums, next, keep);
      temps.write(Cell::kForwardTemps, i, temp, Cell::kForwardTempIn, kPass);
      totals.write(Cell::kForwardTotals, i, sums, Cell::kForwardTotalIn, kPass);
      saved.write(K, i, keep, Cell::kForwardSavedIn, kPass);
      if (kPass + 1 == Cell::kForwardPasses) column[5].write(S, i, next);
    }
    for (int k = 0; k < Cell::kForwardTotals; ++k) total[k] = totals.sum(k);
    if constexpr (kPass + 1 < Cell::kForwardPasses) forward<kPass + 1>();
  }

  template <int kPass>
  void backward() {
    Cell::template backward_rows<kPass>(total, N(n), row);
    T rows[64], keep[K + 1], prev[S], next[S], p[P + 1], d[S], dx[G], dr[G], dp[P + 1] = {};
    T temp[Cell::kBackwardTemps + 1] = {}, sums[Cell::kBackwardTotals + 1] = {};
    for (int k = 0; k < 64; ++k) rows[k] = T(row[k]);
    for (int64_t i = 0; i < n; i += W) {
      saved.read(K, i, keep), column[2].read(S, i, prev), column[5].read(S, i, next);
      column[3].read(P, i, p), column[4].read(S, i, d), temps.read(Cell::kBackwardTemps, i, temp);
      Cell::template backward<kPass>(keep, prev, next, p, rows, temp, sums, d, dx, dr, dp);
      temps.write(Cell::kBackwardTemps, i, temp, Cell::kBackwardTempIn, kPass);
      totals.write(Cell::kBackwardTotals, i, sums, Cell::kBackwardTotalIn, kPass);
      column[9].write(P, i, dp, Cell::kBackwardDpIn, kPass);
      if (kPass + 1 < Cell::kBackwardPasses) continue;
      column[6].write(G, i, dx), column[7].write(G, i, Cell::kSplit ? dr : dx);
      column[8].write(S, i, d);
    }
    for (int k = 0; k < Cell::kBackwardTotals; ++k) total[k] = totals.sum(k);
    if constexpr (kPass + 1 < Cell::kBackwardPasses) backward<kPass + 1>();
  }
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
