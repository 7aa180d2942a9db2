// The right operand M [K, n] of rows . M, as torch keeps it, in panels: all packed beforehand;
// packed one at a time, right before it is used; or read where it lies.
#pragma once
#include "cpu/threads/range.h"
#include "cpu/threads/workspace.h"
#include "pack.h"

namespace fastrnn {
namespace FASTRNN_ISA {

enum class Packing { kWhole, kPanelwise, kInPlace };

template <class T>
class Matrix {
 public:
  // Numbers that are multiplied in pairs cannot be read in place; panels are packed then.
  // lent: set() brings the memory of whole packing, [K, n]; n must be whole().
  Matrix(Arena& arena, int64_t K, int64_t n, Packing packing, int threads, bool lent = false)
      : panels(n, 1),
        K_(K),
        packing_(kPairs && packing == Packing::kInPlace ? Packing::kPanelwise : packing) {
    const int64_t panel = kMaxVectors * W, whole = n / panel * panel;
    int64_t width = panels.width();
    if (packing_ == Packing::kPanelwise) width = threads * panel;
    if (packing_ == Packing::kInPlace) width -= whole;
    memory_ = arena.take<Lane<T>>(n > 0 && !lent ? width * lanes<T>(K) : 0);
  }
  // Is a packed [K, n] no larger than [K, n] as torch keeps it?
  static bool whole(int64_t K, int64_t n) { return n % W == 0 && K % Storage<T>::kPair == 0; }

  // Packs this rank's share of the panels of m; all ranks must meet before they use it.
  void set(const T* m, int rank, int size, void* lent = nullptr) {
    Lane<T>* memory = lent ? static_cast<Lane<T>*>(lent) : memory_;
    if (rank == 0) {
      source_ = m;
      packed_ = memory;
    }
    if (packing_ == Packing::kPanelwise) return;
    const Range mine = part(panels.count(), rank, size);
    for (int64_t p = mine.begin; p < mine.end; ++p) {
      if (!in_place(p)) pack_columns(panels, p, m, panels.H, K_, memory + offset(p, rank));
    }
  }

  // Panel p, to multiply by; where panels are packed one at a time, until the rank's next one.
  const Lane<T>* panel(int64_t p, int rank) const {
    if (in_place(p)) return reinterpret_cast<const Lane<T>*>(source_ + panels.unit(p));
    Lane<T>* packed = packed_ + offset(p, rank);
    if (packing_ == Packing::kPanelwise) pack_columns(panels, p, source_, panels.H, K_, packed);
    return packed;
  }

  // out [count, vectors(p) * W] = rows . M's columns of panel p.
  void multiply(int64_t p, const Lane<T>* panel, const T* const* rows, int64_t count,
                Sum<T>* out) const {
    const int nv = panels.vectors(p);
    panel_gemm(nv, rows, count, K_, panel, in_place(p) ? panels.H : int64_t(nv) * W,
               static_cast<const Sum<T>*>(nullptr), out, int64_t(nv) * W);
  }

  // to[i] (+)= from[i] . M for i < count, this rank's share of it; from's rows lie ld apart.
  // tile: memory of a group.
  void multiply_rows(const T* from, int64_t ld, T* const* to, int64_t count, bool add, Sum<T>* tile,
                     int rank, int size) const {
    if (!add && streams(count)) {
      if (rank == 0) stream(from, *to, {0, panels.H});
      return;
    }
    // Each panel that is packed now serves all rows.
    const bool by_panels = packing_ == Packing::kPanelwise;
    const Range mine = by_panels ? Range{0, count} : part(count, rank, size);
    const T* rows[kGroupRows];
    for (int64_t p = by_panels ? rank : 0; p < panels.count(); p += by_panels ? size : 1) {
      const Lane<T>* columns = panel(p, rank);
      for (int64_t r = mine.begin; r < mine.end; r += kGroupRows) {
        const int64_t group = mine.end - r < kGroupRows ? mine.end - r : kGroupRows;
        for (int64_t i = 0; i < group; ++i) rows[i] = from + (r + i) * ld;
        multiply(p, columns, rows, group, tile);
        write_tile(p, tile, to + r, group, add);
      }
    }
  }

  // Whether stream() serves so many rows. (With four, panels take two thirds of its time.)
  bool streams(int64_t count) const { return packing_ == Packing::kInPlace && count == 1; }
  // to = from . M for one row and some columns. M is read once, from end to end, where panels would
  // take it in pieces far apart; every sum has the order of multiply().
  void stream(const T* from, T* to, Range columns) const {
    if constexpr (!kPairs) {
      memset(to + columns.begin, 0, (columns.end - columns.begin) * sizeof(T));
      int64_t k = 0;
      for (; k + kDepth <= K_; k += kDepth) add_depths<kDepth>(from, k, to, columns);
      for (; k < K_; ++k) add_depths<1>(from, k, to, columns);
    }
  }

  const Panels<Sum<T>> panels;  // of M's columns

 private:
  static constexpr int kDepth = 8;  // of stream(): rows of M at a time

  // to[columns] += x[k, k + N) . M[k, k + N)
  template <int N>
  FASTRNN_INLINE void add_depths(const T* x, int64_t k, T* to, Range columns) const {
    using V = Vec<T>;
    typename V::N factor[N];
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) factor[i] = V(x[k + i]).v;
    const T* m = source_ + k * panels.H;
    for (int64_t j = columns.begin; j < columns.end; j += W) {
      const int64_t left = columns.end - j;
      typename V::N sum = V::load(to + j, left).v;
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) {
        sum = fused<T>(factor[i], V::load(m + i * panels.H + j, left).v, sum);
      }
      V(sum).store(to + j, left);
    }
  }

  static constexpr int W = Vec<Sum<T>>::W;
  static constexpr bool kPairs = Storage<T>::kPair > 1;
  bool in_place(int64_t p) const {  // a panel narrower than the others cannot be
    return packing_ == Packing::kInPlace && panels.unit(p + 1) <= panels.H;
  }
  // Where panel p is packed.
  int64_t offset(int64_t p, int rank) const {
    if (packing_ == Packing::kInPlace) return 0;
    return (packing_ == Packing::kWhole ? panels.column(p) : rank * kMaxVectors * W) * lanes<T>(K_);
  }
  void write_tile(int64_t p, const Sum<T>* tile, T* const* to, int64_t count, bool add) const {
    const int nv = panels.vectors(p);
    for (int64_t i = 0; i < count; ++i) {
      for (int v = 0; v < nv; ++v) {
        const int64_t column = panels.unit(p) + v * W, left = panels.H - column;
        Vec<Sum<T>> sum = Vec<Sum<T>>::load(tile + (i * nv + v) * W);
        if (add) sum = sum + read(to[i] + column, left);
        write(sum, to[i] + column, left);
      }
    }
  }

  const int64_t K_;
  const Packing packing_;
  Lane<T>* memory_;
  const T* source_ = nullptr;  // these two the same for every rank
  Lane<T>* packed_ = nullptr;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
