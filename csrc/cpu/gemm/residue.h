// The products of direct.h on packed weights, for calls of few steps with many rows. Every sum has
// the order it has there, so that a row's result does not depend on how many rows run beside it:
// what lane l of a register sums there, the k with k % W == l, is here a part of its own of the
// panel, and the parts are added in the order in which direct.h folds lanes. (Where two numbers
// share a lane, k counts pairs.)
//
// A column of W units is [W residues][residue_steps(K)][W]; a panel is one column after the other.
#pragma once
#include "pack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

constexpr int log2(int n) { return n == 1 ? 0 : 1 + log2(n / 2); }

// Steps of a residue: an odd number, so that W of them do not share a cache set.
template <class T>
constexpr int64_t residue_steps(int64_t K) {
  return (lanes<T>(K) + Vec<Sum<T>>::W - 1) / Vec<Sum<T>>::W | 1;
}
// Lanes of a column of W units.
template <class T>
constexpr int64_t residue_column(int64_t K) {
  return residue_steps<T>(K) * Vec<Sum<T>>::W * Vec<Sum<T>>::W;
}

// weight [G*H, K] -> the columns of panel p.
template <class T, class Units>
void pack_residues(const Units& panels, int64_t p, const T* weight, int64_t K, Lane<T>* out) {
  constexpr int W = Vec<Sum<T>>::W, P = Storage<T>::kPair;
  const int nu = panels.registers(p);
  for (int c = 0; c < panels.vectors(p); ++c) {
    const int64_t unit = panels.unit(p) + c % nu * W;
    const int64_t left = panels.end(p) - unit, rows = left < W ? left : W;
    const T* in = weight + (panels.gate_row(c / nu) + unit) * K;
    Lane<T>* column = out + c * residue_column<T>(K);
    for (int64_t k = 0; k < K; k += W * P) {
      transpose(in + k, K, rows, K - k, column + k / P, residue_steps<T>(K) * W);
    }
  }
}

// MR rows against one column, all in registers: two residues at a time for the FMA's latency, and
// one sum for each level of the tree that adds them.
template <class T, int MR>
struct ResidueTile {
  using V = Vec<Sum<T>>;
  using P = Product<T>;
  using N = typename V::N;
  static constexpr int W = V::W, kPair = Storage<T>::kPair;
  struct Sums {
    N row[MR];
  };

  const T* x[MR];
  const Lane<T>* column;
  int64_t K, steps;

  // The sums over all k with k % 2^kLevel == kFirst.
  template <int kLevel, int kFirst>
  FASTRNN_INLINE Sums sum() const {
    if constexpr (kLevel == log2(W) - 1) {
      return pair<kFirst>();
    } else {
      Sums a = sum<kLevel + 1, kFirst>();
      const Sums b = sum<kLevel + 1, kFirst + (1 << kLevel)>();
#pragma GCC unroll 8
      for (int r = 0; r < MR; ++r) a.row[r] += b.row[r];
      return a;
    }
  }

  // Residues kFirst and kFirst + W/2.
  template <int kFirst>
  FASTRNN_INLINE Sums pair() const {
    const Lane<T>*low = column + kFirst * steps * W, *high = low + W / 2 * steps * W;
    const int64_t whole = K / kPair;
    Sums a = {}, b = {};
    int64_t k = kFirst;
    for (; k + W / 2 < whole; k += W, low += W, high += W) {
      add<0>(a, low, k);
      add<0>(b, high, k + W / 2);
    }
    if (k < whole) add<0>(a, low, k), low += W;
    if (whole < lanes<T>(K)) {  // a last number without a neighbour
      if (whole % W == kFirst) add_last(a, low);
      if (whole % W == kFirst + W / 2) add_last(b, high);
    }
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r) a.row[r] += b.row[r];
    return a;
  }

  template <int kPass>
  FASTRNN_INLINE void add(Sums& sums, const Lane<T>* weights, int64_t k) const {
    const N w = P::template part<kPass>(V::load(weights).v);
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r) {
      P::add(sums.row[r], P::template part<kPass>(P::broadcast(x[r] + k * kPair)), w);
    }
    if constexpr (kPass + 1 < P::kPasses) add<kPass + 1>(sums, weights, k);
  }

  FASTRNN_INLINE void add_last(Sums& sums, const Lane<T>* weights) const {
    if constexpr (kPair == 2) {
      const N w = P::template part<0>(V::load(weights).v);  // in the low half
      for (int r = 0; r < MR; ++r) {
        P::add(sums.row[r], P::template part<0>(P::broadcast_last(x[r] + K - 1)), w);
      }
    }
  }
};

// out[r] [W] = init + rows[r] . column for MR rows; out rows lie ld apart.
template <class T, int MR>
void residue_rows(const T* const* rows, const Lane<T>* column, int64_t K, const Sum<T>* init,
                  Sum<T>* out, int64_t ld) {
  using V = Vec<Sum<T>>;
  ResidueTile<T, MR> tile;
  for (int r = 0; r < MR; ++r) tile.x[r] = rows[r];
  tile.column = column, tile.K = K, tile.steps = residue_steps<T>(K);
  const auto sums = tile.template sum<0, 0>();
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r) (V(sums.row[r]) + V::load(init)).store(out + r * ld);
}

// out[r] = init + rows[r] . panel, a panel of nv columns; out rows lie ld apart.
template <class T>
void residue_gemm(int nv, const T* const* rows, int64_t count, const Lane<T>* panel, int64_t K,
                  const Sum<T>* init, Sum<T>* out, int64_t ld) {
  // Beside the sums: an operand; for pairs also broadcasts, which are no part of the instruction.
  constexpr int W = Vec<Sum<T>>::W, kOthers = Storage<T>::kPair == 1 ? 2 : 8;
  constexpr int kFit = (kRegisters - kOthers) / (log2(W) + 1);
  constexpr int kRows = kFit < 6 ? kFit : 6;
  using Tile = void (*)(const T* const*, const Lane<T>*, int64_t, const Sum<T>*, Sum<T>*, int64_t);
  static constexpr Tile kTiles[] = {
      residue_rows<T, 1>,  residue_rows<T, 2>,  residue_rows<T, 3>,
      residue_rows < T,    kRows < 4 ? 1 : 4 >, residue_rows < T,
      kRows < 5 ? 1 : 5 >, residue_rows < T,    kRows < 6 ? 1 : 6 >,
  };
  const int64_t tiles = (count + kRows - 1) / kRows;
  for (int c = 0; c < nv; ++c) {
    const Lane<T>* column = panel + c * residue_column<T>(K);
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t r = count * i / tiles, some = count * (i + 1) / tiles - r;
      kTiles[some - 1](rows + r, column, K, init + c * W, out + r * ld + c * W, ld);
    }
  }
}

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
