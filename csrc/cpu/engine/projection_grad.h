// The matrix after the cell, backward: each step first gathers d_h [P], then d_m = W_hr^T d_h [H]
// is what its cells get for dL/dh; once a block of steps is through, dW_hr = d_h^T m over its rows.
#pragma once
#include "block_grad.h"
#include "saved.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class T>
class ProjectionGrad {
 public:
  using A = Sum<T>;
  static constexpr int W = Vec<A>::W;

  // most: rows of a block, at most; chunk: batch rows of one, at most; several: may a direction
  // have more blocks than one?
  ProjectionGrad(Arena& arena, const ScanParams& s, int64_t most, int64_t chunk, bool several,
                 Packing packing)
      : s_(s),
        rows_{s},
        saved_{s},
        ld_(WeightGrad<T>::row_length(s.P)),
        most_(most),
        w_hr_(arena, s.P, wanted() ? s.H : 0, packing, s.threads),
        weight_grad_(arena, wanted() ? s.P : 0, wanted() ? most : 0, s.H) {
    if (!wanted()) return;
    d_h_ = arena.take<T>(most * ld_);
    carry_ = arena.take<A>(chunk * s.P);
    sums_ = arena.take<A>(Storage<T>::kPair > 1 && several ? s.P * s.H : 0);
    pointers_ = arena.take<T*>(s.threads * most);
  }

  bool wanted() const { return projects<Cell> && s_.projected(); }
  const Matrix<T>& matrix() const { return w_hr_; }
  // [P] of the i-th batch row of a chunk: dL/dh that its next step gets besides.
  A* carry(int64_t i) const { return carry_ + i * s_.P; }

  // Before the first block of a direction; all ranks must meet after it.
  void set(int d, int rank, int size) {
    if (wanted()) w_hr_.set(static_cast<const T*>(s_.dir[d].w_hr), rank, size);
  }

  // What the last steps of some batch rows get from the final states, for some units of h.
  void begin(int d, Range rows, int64_t first, Range units, const T* zeros) {
    const void* given = s_.dir[d].d_state_n[0];
    for (int64_t b = rows.begin; wanted() && b < rows.end; ++b) {
      copy(given ? rows_.state(given, 0, b) : zeros, carry(b - first), units);
    }
  }

  // d_h of `count` batch rows of step t, from row b and row `at` of the block on, for the columns
  // of some panels of W_hh, a tile of which is next[i] . W_hh. next: null where all are zeros.
  // first: the chunk's first batch row.
  void gather(const Matrix<T>& w_hh, Range panels, int d, int64_t t, int64_t b, int64_t count,
              int64_t at, int64_t first, const T* const* next, const T* zeros, A* tile, int rank) {
    for (int64_t p = panels.begin; p < panels.end; ++p) {
      const int nv = w_hh.panels.vectors(p);
      const Lane<T>* panel = next ? w_hh.panel(p, rank) : nullptr;
      for (int64_t r = 0; r < count; r += kGroupRows) {
        const int64_t some = count - r < kGroupRows ? count - r : kGroupRows;
        if (next) {
          w_hh.multiply(p, panel, next + r, some, tile);
        } else {
          memset(tile, 0, some * nv * W * sizeof(A));
        }
        for (int64_t i = 0; i < some; ++i) {
          const T* d_out = rows_.d_output(d, t, b + r + i, zeros);
          A* passed = carry(b + r + i - first);
          T* to = d_h(at + r + i);
          for (int v = 0; v < nv; ++v) {
            const int64_t j = w_hh.panels.unit(p) + v * W, left = s_.P - j;
            const Vec<A> sum = Vec<A>::load(tile + (i * nv + v) * W) + read(d_out + j, left) +
                               Vec<A>::load(passed + j, left);
            write(sum, to + j, left);
            Vec<A>(A(0)).store(passed + j, left);
          }
        }
      }
    }
  }

  // The rows of d_h from row `at` of the block on, by pointer.
  const T* const* rows(int64_t at, int64_t count, int rank) {
    T** list = pointers_ + rank * most_;
    for (int64_t i = 0; i < count; ++i) list[i] = d_h(at + i);
    return list;
  }

  // dW_hr (+)= d_h^T m over the rows of a block; all ranks together, once its steps are through.
  void add(const Block<T>& block, int rank, int size, Barrier& barrier) {
    if (!wanted() || !s_.dir[block.d].d_w_hr) return;
    T** m = pointers_ + rank * most_;
    rows_.each(block, [&](int64_t at, int64_t t, int64_t b) {
      m[at] = saved_.unprojected(block.d, s_.row(t) + b);
    });
    T* to = static_cast<T*>(s_.dir[block.d].d_w_hr);
    A* sums = sums_;
    if constexpr (Storage<T>::kPair == 1) sums = to;
    const Gradient<T> out{to, sums, block.start, block.end};
    const Panels<A>& panels = w_hr_.panels;
    if (block.count <= WeightGrad<T>::kFewRows) {
      return weight_grad_.add_few(panels, m, d_h_, block.count, out, rank, size);
    }
    weight_grad_.pair(d_h_, block.count, rank, size);
    weight_grad_.pack(panels, m, block.count, rank, size);
    barrier.wait(size);
    weight_grad_.add(panels, d_h_, block.count, out, rank, size);
  }

 private:
  T* d_h(int64_t at) const { return d_h_ + at * ld_; }

  const ScanParams& s_;
  const Rows<T> rows_;
  const Saved<Cell, T> saved_;
  const int64_t ld_, most_;  // from one row of d_h to the next; rows of a block
  Matrix<T> w_hr_;
  WeightGrad<T> weight_grad_;
  T* d_h_ = nullptr;    // of the block [rows, ld]
  A* carry_ = nullptr;  // [chunk, P]
  A* sums_ = nullptr;   // of dW_hr, over blocks
  T** pointers_ = nullptr;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
