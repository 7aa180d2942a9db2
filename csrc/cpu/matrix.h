// The right operand M [K, n] of rows . M, as torch keeps it: in panels, packed where there are
// steps enough to pay for it, else read where it lies; or, where numbers are multiplied in pairs,
// packed a panel at a time, right before it is used.
#pragma once
#include "pack.h"
#include "team.h"
#include "workspace.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class T>
class Matrix {
 public:
  Matrix(Arena& arena, int64_t K, int64_t n, bool packed, int threads)
      : panels(n, 1), K_(K), packed_(packed) {
    const int64_t whole = n / (kMaxVectors * W) * (kMaxVectors * W);
    int64_t width = packed ? panels.width() : panels.width() - whole;
    if (kPairs && !packed) width = threads * kMaxVectors * W;
    memory_ = arena.take<Lane<T>>(width * lanes<T>(K));
  }

  // Packs this rank's share of the panels of m; all ranks must meet before multiply().
  void set(const T* m, int rank, int size) {
    if (rank == 0) source_ = m;
    if (kPairs && !packed_) return;
    for (int64_t p = rank; p < panels.count(); p += size) {
      if (!in_place(p)) pack_columns(panels, p, m, panels.H, K_, packed_panel(p));
    }
  }

  // out [count, vectors(p) * W] = rows . M's columns of panel p.
  void multiply(int64_t p, const T* const* rows, int64_t count, Sum<T>* out, int rank) const {
    const int nv = panels.vectors(p);
    Lane<T>* packed = packed_panel(p);
    const Lane<T>* panel = packed;
    if constexpr (kPairs) {
      if (!packed_) {
        panel = packed += rank * kMaxVectors * W * lanes<T>(K_);
        pack_columns(panels, p, source_, panels.H, K_, packed);
      }
    } else if (in_place(p)) {
      panel = source_ + panels.unit(p);
    }
    panel_gemm(nv, rows, count, K_, panel, in_place(p) ? panels.H : int64_t(nv) * W,
               static_cast<const Sum<T>*>(nullptr), out, int64_t(nv) * W);
  }

  // to[i] (+)= from[i] . M for rows i of `mine`; from's rows lie ld apart. tile: memory of a group.
  void multiply_rows(const T* from, int64_t ld, T* const* to, Range mine, bool add, Sum<T>* tile,
                     int rank) const {
    const T* rows[kGroupRows];
    for (int64_t p = 0; p < panels.count(); ++p) {
      const int nv = panels.vectors(p);
      for (int64_t r = mine.begin; r < mine.end; r += kGroupRows) {
        const int64_t count = mine.end - r < kGroupRows ? mine.end - r : kGroupRows;
        for (int64_t i = 0; i < count; ++i) rows[i] = from + (r + i) * ld;
        multiply(p, rows, count, tile, rank);
        for (int64_t i = 0; i < count; ++i) {
          for (int v = 0; v < nv; ++v) {
            const int64_t column = panels.unit(p) + v * W, left = panels.H - column;
            Vec<Sum<T>> sum = Vec<Sum<T>>::load(tile + (i * nv + v) * W);
            if (add) sum = sum + read(to[r + i] + column, left);
            write(sum, to[r + i] + column, left);
          }
        }
      }
    }
  }

  const Panels<Sum<T>> panels;  // of M's columns

 private:
  static constexpr int W = Vec<Sum<T>>::W;
  static constexpr bool kPairs = Storage<T>::kPair > 1;
  bool in_place(int64_t p) const {  // a panel narrower than the others cannot be
    return !kPairs && !packed_ && panels.unit(p + 1) <= panels.H;
  }
  Lane<T>* packed_panel(int64_t p) const {
    return memory_ + (packed_ ? panels.column(p) * lanes<T>(K_) : 0);
  }

  const int64_t K_;
  const bool packed_;
  Lane<T>* memory_;
  const T* source_ = nullptr;  // the same for every rank
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
