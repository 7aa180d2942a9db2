// The matrix after the cell, forward: h = W_hr m [P], where m [H] is what the cell gives. A step
// first goes through its cells, which leave m; once all of its units are there, h is one product.
#pragma once
#include "gate_weights.h"
#include "saved.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class T>
class Projection {
 public:
  using A = Sum<T>;
  static constexpr int W = Vec<A>::W;

  struct Scratch {  // one thread's
    A* tile;        // h of one group of rows and one panel, or of one row
    T* own;         // [rows, H], where nothing is saved
    T* m;           // that, or of threads that share units the first one's
    T** h;          // where a step's h goes
  };

  // most: batch rows that a thread walks through time together.
  Projection(Arena& arena, const ScanParams& s, int64_t most)
      : s_(s), rows_{s}, saved_{s}, panels_(s.P, 1), packed_(s.T > kFewSteps), most_(most) {
    if (!wanted()) return;
    const int64_t weight = packed_ ? panels_.width() * lanes<T>(s.H) : 0;
    for (int d = 0; d < s.directions; ++d) weights_[d] = arena.take<Lane<T>>(weight);
    zeros_ = arena.take<A>(panels_.width());
  }

  bool wanted() const { return projects<Cell> && s_.projected(); }

  Scratch scratch(Arena& arena) const {
    if (!wanted()) return {};
    const int64_t tile = kGroupRows * kMaxVectors * W;
    const bool saves = s_.dir[0].saved != nullptr;
    return {arena.take<A>(tile > panels_.width() ? tile : panels_.width()),
            arena.take<T>(saves ? 0 : most_ * s_.H), nullptr, arena.take<T*>(most_)};
  }

  // This rank's share of a direction's panels; all ranks must meet before they use any.
  void pack(int d, int rank, int size) {
    if (!wanted()) return;
    if (rank == 0 && d == 0) memset(zeros_, 0, panels_.width() * sizeof(A));
    const Range mine = share(rank, size);
    for (int64_t p = mine.begin; packed_ && p < mine.end; ++p) {
      pack_gates(panels_, p, weight(d), s_.H, weights_[d] + panels_.column(p) * lanes<T>(s_.H));
    }
  }

  Range share(int rank, int size) const { return part(panels_.count(), rank, size); }
  Range units(Range panels) const { return panels_.units(panels); }

  // Where the cell's result of row n of the scan goes, the i-th batch row of the thread's.
  T* unprojected(int d, int64_t n, int64_t i, const Scratch& w) const {
    return s_.dir[d].saved ? saved_.unprojected(d, n) : w.m + i * s_.H;
  }

  // h [P] of each row of step t, where it goes, from m, for the units of some panels.
  void step(int d, int64_t t, Range rows, Sweep sweep, T* const* m, const T** h, Scratch& w) const {
    const int64_t active = rows_.active(t, rows);
    for (int64_t b = 0; b < active; ++b) h[b] = w.h[b] = rows_.output(d, t, rows.begin + b);
    run(d, sweep, m, w.h, active, w.tile);
  }

 private:
  void run(int d, Sweep sweep, T* const* m, T* const* h, int64_t count, A* tile) const {
    if (packed_ && count == 1) return run_row(d, sweep, *m, *h, tile);
    for (int64_t i = 0; i < sweep.count(); ++i) {
      const int64_t p = sweep.at(i), ld = panels_.vectors(p) * W;
      for (int64_t r = 0; r < count; r += kGroupRows) {
        const int64_t some = count - r < kGroupRows ? count - r : kGroupRows;
        if (packed_) {
          const Lane<T>* panel = weights_[d] + panels_.column(p) * lanes<T>(s_.H);
          panel_gemm(panels_.vectors(p), m + r, some, s_.H, panel, ld,
                     static_cast<const A*>(nullptr), tile, ld);
        } else {
          direct_gemm(panels_, p, weight(d), s_.H, m + r, some, zeros_, tile, ld);
        }
        for (int64_t j = 0; j < some; ++j) store(p, tile + j * ld, h[r + j]);
      }
    }
  }

  // The same of one row: two panels at a time, as many sums as hide the FMA's latency.
  void run_row(int d, Sweep sweep, const T* m, T* h, A* sums) const {
    const Range panels = sweep.panels;
    if (panels.end == panels.begin) return;
    const int64_t origin = panels_.column(panels.begin), depth = lanes<T>(s_.H);
    const bool narrow = panels_.vectors(panels.end - 1) < kMaxVectors;
    const int64_t whole = panels.end - narrow;
    row_gemm<T, kMaxVectors>(m, s_.H, weights_[d] + origin * depth, kMaxVectors * W * depth,
                             whole - panels.begin, zeros_, sums, sweep.back);
    if (narrow) {
      const int64_t at = panels_.column(whole), ld = panels_.vectors(whole) * W;
      panel_gemm(panels_.vectors(whole), &m, 1, s_.H, weights_[d] + at * depth, ld,
                 static_cast<const A*>(nullptr), sums + at - origin, ld);
    }
    for (int64_t p = panels.begin; p < panels.end; ++p) {
      store(p, sums + panels_.column(p) - origin, h);
    }
  }

  void store(int64_t p, const A* sums, T* h) const {
    for (int v = 0; v < panels_.vectors(p); ++v) {
      const int64_t j = panels_.unit(p) + v * W;
      write(Vec<A>::load(sums + v * W), h + j, s_.P - j);
    }
  }

  const T* weight(int d) const { return static_cast<const T*>(s_.dir[d].w_hr); }

  const ScanParams& s_;
  const Rows<T> rows_;
  const Saved<Cell, T> saved_;
  const Panels<A> panels_;  // of the units of h
  const bool packed_;       // for few steps W_hr is read as it lies
  const int64_t most_;
  Lane<T>* weights_[2] = {};
  A* zeros_ = nullptr;  // in the order of the panels' columns
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
