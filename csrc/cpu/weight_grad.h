// dW = dG^T X over the rows of a time block. The summed axis is outermost in both operands: X is
// packed into panels, dG is read as it lies. Threads own gates, so that every sum has one order.
#pragma once
#include "pack.h"
#include "team.h"
#include "workspace.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T>
class WeightGrad {
 public:
  static constexpr int W = Vec<T>::W;
  static constexpr int kTile = max_rows(kMaxVectors);  // gates of a register tile
  static constexpr int64_t kGates = 16 * kTile;        // gates that stay in L2 for all of X

  static constexpr int64_t kFewRows = 2;    // up to here a tile costs more than it gives
  static constexpr int64_t kBiasRows = 32;  // summed before they are added to the rest

  // gates: G*H; rows: at most so many a block; widest: the most columns of any X.
  WeightGrad(Arena& arena, int64_t gates, int64_t rows, int64_t widest)
      : gates_(gates), ld_(row_length(gates)) {
    columns_ = arena.take<T>(rows * Panels<T>(widest, 1).width());
  }

  // Numbers from one row of dG to the next: no power of two, whose rows would share a cache set,
  // and room for a tile that reaches past the last gate.
  static int64_t row_length(int64_t gates) { return (gates + 15) / 16 * 16 + 16; }

  // Packs this rank's share of the columns of X; all ranks must meet before add().
  void pack(const Panels<T>& panels, T* const* x, int64_t count, int rank, int size) {
    for (int64_t p = rank; p < panels.count(); p += size) {
      pack_columns(panels, p, x, count, columns_ + panels.column(p) * count);
    }
  }

  // d_weight [G*H, panels.H] (+)= dG^T X for this rank's gates; d_gates [count, row_length].
  void add(const Panels<T>& panels, const T* d_gates, int64_t count, T* d_weight, bool first,
           int rank, int size) {
    const int64_t tiles = (gates_ + kTile - 1) / kTile;
    const Range mine = part(tiles, rank, size);
    for (int64_t j = mine.begin * kTile; j < mine.end * kTile; j += kGates) {
      int64_t end = j + kGates < mine.end * kTile ? j + kGates : mine.end * kTile;
      if (end > gates_) end = gates_;
      for (int64_t p = 0; p < panels.count(); ++p) {
        for (int64_t g = j; g < end; g += kTile) {
          const int64_t left = end - g < kTile ? end - g : kTile;
          add_tile(panels, p, d_gates + g, count, d_weight + g * panels.H, left, first);
        }
      }
    }
  }

  // The same for few rows, of X as it lies: nothing but a pass over d_weight.
  void add_few(const Panels<T>& panels, T* const* x, const T* d_gates, int64_t count, T* d_weight,
               bool first, int rank, int size) {
    const Range mine = part(gates_, rank, size);
    for (int64_t g = mine.begin; g < mine.end; ++g) {
      T* to = d_weight + g * panels.H;
      for (int64_t j = 0; j < panels.H; j += W) {
        Vec<T> sum(T(0));
        for (int64_t n = 0; n < count; ++n) {
          sum.v += Vec<T>(d_gates[n * ld_ + g]).v * Vec<T>::load(x[n] + j, panels.H - j).v;
        }
        if (!first) sum = sum + Vec<T>::load(to + j, panels.H - j);
        sum.store(to + j, panels.H - j);
      }
    }
  }

  // d_bias [G*H] (+)= column sums of d_gates, for this rank's gates.
  void add_bias(const T* d_gates, int64_t count, T* d_bias, bool first, int rank, int size) {
    const Range mine = part((gates_ + W - 1) / W, rank, size);
    for (int64_t g = mine.begin * W; g < mine.end * W && g < gates_; g += W) {
      Vec<T> sum(T(0));
      for (int64_t n = 0; n < count; n += kBiasRows) {
        const int64_t end = count - n < kBiasRows ? count : n + kBiasRows;
        Vec<T> part(T(0));
        for (int64_t i = n; i < end; ++i) {
          part = part + Vec<T>::load(d_gates + i * ld_ + g, gates_ - g);
        }
        sum = sum + part;
      }
      if (!first) sum = sum + Vec<T>::load(d_bias + g, gates_ - g);
      sum.store(d_bias + g, gates_ - g);
    }
  }

 private:
  void add_tile(const Panels<T>& panels, int64_t p, const T* a, int64_t count, T* out,
                int64_t gates, bool first) {
    T sum[kTile * kMaxVectors * W];
    const T* x = columns_ + panels.column(p) * count;
    const int nv = panels.vectors(p);
    for (int64_t g = 0; g < gates && !first; ++g) {  // on their way while the tile is summed
      for (int v = 0; v < nv; ++v) {
        __builtin_prefetch(out + g * panels.H + panels.unit(p) + v * W, 1);
      }
    }
    switch (nv) {
      case 1:
        tile_transposed<T, kTile, 1>(a, ld_, count, x, sum);
        break;
      case 2:
        tile_transposed<T, kTile, 2>(a, ld_, count, x, sum);
        break;
      case 3:
        tile_transposed<T, kTile, 3>(a, ld_, count, x, sum);
        break;
      default:
        tile_transposed<T, kTile, 4>(a, ld_, count, x, sum);
    }
    for (int64_t g = 0; g < gates; ++g) {
      for (int v = 0; v < nv; ++v) {
        const int64_t column = panels.unit(p) + v * W, left = panels.H - column;
        T* to = out + g * panels.H + column;
        Vec<T> value = Vec<T>::load(sum + (g * nv + v) * W);
        if (!first) value = value + Vec<T>::load(to, left);
        value.store(to, left);
      }
    }
  }

  const int64_t gates_, ld_;
  T* columns_;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
