// dW = dG^T X over the rows of a time block. The summed axis is outermost in both operands: X is
// packed into panels, dG is read as it lies. Threads own gates, so that every sum has one order.
#pragma once
#include "cpu/gemm/pack.h"
#include "cpu/threads/range.h"
#include "cpu/threads/workspace.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// A gradient that blocks of rows add to. Where it is rounded, the sums of all blocks but the last
// live in memory of their own.
template <class T>
struct Gradient {
  T* out;
  Sum<T>* sums;      // out itself where nothing is rounded
  bool first, last;  // the first, the last block

  // That of what lies `places` on.
  Gradient from(int64_t places) const { return {out + places, sums + places, first, last}; }

  FASTRNN_INLINE void add(Vec<Sum<T>> value, int64_t at, int64_t left) const {
    if (!first) value = value + Vec<Sum<T>>::load(sums + at, left);
    if (Storage<T>::kPair > 1 && last) {
      write(value, out + at, left);
    } else {
      value.store(sums + at, left);
    }
  }
};

// out [columns] (+)= the sums of `count` rows that lie ld apart, this rank's share of them. From:
// T, or the precision of its sums.
template <class T, class From>
void column_sums(const From* rows, int64_t ld, int64_t columns, int64_t count,
                 const Gradient<T>& out, int rank, int size) {
  using A = Sum<T>;
  constexpr int W = Vec<A>::W;
  constexpr int64_t kRows = 32;  // summed before they are added to the rest
  const Range mine = part((columns + W - 1) / W, rank, size);
  for (int64_t c = mine.begin * W; c < mine.end * W && c < columns; c += W) {
    Vec<A> sum(A(0));
    for (int64_t n = 0; n < count; n += kRows) {
      const int64_t end = count - n < kRows ? count : n + kRows;
      Vec<A> part(A(0));
      for (int64_t i = n; i < end; ++i) part = part + read(rows + i * ld + c, columns - c);
      sum = sum + part;
    }
    out.add(sum, c, columns - c);
  }
}

template <class T>
class WeightGrad {
 public:
  using A = Sum<T>;
  static constexpr int W = Vec<A>::W;
  static constexpr int kTile = max_rows<T>(kMaxVectors);  // gates of a register tile
  static constexpr int64_t kGates = 16 * kTile;           // gates that stay in L2 for all of X
  static constexpr int64_t kL2Bytes = 512 << 10;          // of X

  static constexpr int64_t kFewRows = 2;  // up to here a tile costs more than it gives

  // gates: G*H; rows: at most so many a block; widest: the most columns of any X.
  WeightGrad(Arena& arena, int64_t gates, int64_t rows, int64_t widest)
      : gates_(gates), ld_(row_length(gates)) {
    columns_ = arena.take<Lane<T>>(lanes<T>(rows) * Panels<A>(widest, 1).width());
    pairs_ = arena.take<Lane<T>>(Storage<T>::kPair > 1 ? lanes<T>(rows) * ld_ : 0);
  }

  // Numbers from one row of dG to the next: no power of two, whose rows would share a cache set,
  // and room for a tile that reaches past the last gate.
  static int64_t row_length(int64_t gates) { return (gates + 15) / 16 * 16 + 16; }

  // The same memory for some of the gates alone, from `first` on: whose d_gates begin there too.
  WeightGrad of_gates(int64_t first, int64_t gates) const {
    WeightGrad some = *this;
    some.gates_ = gates;
    if (Storage<T>::kPair > 1) some.pairs_ += first;
    return some;
  }

  // Packs this rank's share of the columns of X; all ranks must meet before add().
  void pack(const Panels<A>& panels, T* const* x, int64_t count, int rank, int size) {
    for (int64_t p = rank; p < panels.count(); p += size) {
      pack_columns(panels, p, x, count, columns_ + panels.column(p) * lanes<T>(count));
    }
  }

  // The same for d_gates [count, row_length], where numbers are multiplied in pairs.
  void pair(const T* d_gates, int64_t count, int rank, int size) {
    if (Storage<T>::kPair == 1) return;
    const Range mine = part(lanes<T>(count), rank, size);
    for (int64_t i = mine.begin; i < mine.end; ++i) {
      const T *low = d_gates + 2 * i * ld_, *high = low + ld_;
      for (int64_t g = 0; g < gates_; g += W) {
        const auto lanes = 2 * i + 1 < count ? interleave(low + g, high + g, gates_ - g)
                                             : alone(low + g, gates_ - g);
        lanes.store(pairs_ + i * ld_ + g);
      }
    }
  }

  // d_weight [gates, panels.H] (+)= dG^T X for this rank's gates; d_gates [count, row_length].
  void add(const Panels<A>& panels, const T* d_gates, int64_t count, const Gradient<T>& d_weight,
           int rank, int size) {
    const Lane<T>* a = pairs_;
    if constexpr (Storage<T>::kPair == 1) a = d_gates;
    const int64_t tiles = (gates_ + kTile - 1) / kTile;
    // Long rows of d_weight are written from end to end where X stays in L2 all the same.
    const bool long_rows = panels.H > 512 && count * panels.width() * sizeof(A) <= kL2Bytes;
    const int64_t group = long_rows ? kTile : kGates;
    const Range mine = part(tiles, rank, size);
    for (int64_t j = mine.begin * kTile; j < mine.end * kTile; j += group) {
      int64_t end = j + group < mine.end * kTile ? j + group : mine.end * kTile;
      if (end > gates_) end = gates_;
      for (int64_t p = 0; p < panels.count(); ++p) {
        for (int64_t g = j; g < end; g += kTile) {
          const int64_t left = end - g < kTile ? end - g : kTile;
          add_tile(panels, p, a + g, count, d_weight, g, left);
        }
      }
    }
  }

  // The same for few rows, of X as it lies: nothing but a pass over d_weight.
  void add_few(const Panels<A>& panels, T* const* x, const T* d_gates, int64_t count,
               const Gradient<T>& d_weight, int rank, int size) {
    const Range mine = part(gates_, rank, size);
    for (int64_t g = mine.begin; g < mine.end; ++g) {
      Vec<A> d[kFewRows];
      for (int64_t n = 0; n < count; ++n) d[n] = Vec<A>(read(d_gates + n * ld_ + g, 1).v[0]);
      for (int64_t j = 0; j < panels.H; j += W) {
        Vec<A> sum(A(0));
        for (int64_t n = 0; n < count; ++n) sum.v += d[n].v * read(x[n] + j, panels.H - j).v;
        d_weight.add(sum, g * panels.H + j, panels.H - j);
      }
    }
  }

  // d_bias [G*H] (+)= column sums of d_gates, for this rank's gates.
  void add_bias(const T* d_gates, int64_t count, const Gradient<T>& d_bias, int rank, int size) {
    column_sums(d_gates, ld_, gates_, count, d_bias, rank, size);
  }

 private:
  // gates: rows of the tile, from `gate` on; a: their column of dG.
  void add_tile(const Panels<A>& panels, int64_t p, const Lane<T>* a, int64_t count,
                const Gradient<T>& out, int64_t gate, int64_t gates) {
    A sum[kTile * kMaxVectors * W];
    const Lane<T>* x = columns_ + panels.column(p) * lanes<T>(count);
    const int nv = panels.vectors(p);
    for (int64_t g = 0; g < gates && !out.first; ++g) {  // on their way while the tile is summed
      for (int v = 0; v < nv; ++v) {
        __builtin_prefetch(out.sums + (gate + g) * panels.H + panels.unit(p) + v * W, 1);
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
        out.add(Vec<A>::load(sum + (g * nv + v) * W), (gate + g) * panels.H + column, left);
      }
    }
  }

  int64_t gates_;
  const int64_t ld_;
  Lane<T>*columns_, *pairs_;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
