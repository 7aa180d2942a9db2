// The backward step of a cell with late slots: dL/dh from the step after it and the gradients of
// the late slots; then, once all units have those, their product with W_hh, which is the gradient
// of what the cell asked for, and the rest of the cell.
#pragma once
#include "cell_params.h"
#include "cpu/gemm/matrix.h"
#include "cpu/threads/team.h"
#include "extra_slots.h"
#include "rows.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class T>
class Backward;

template <class Cell, class T>
class BackwardLate {
 public:
  using Engine = Backward<Cell, T>;
  using A = Sum<T>;

  BackwardLate() = default;
  BackwardLate(Arena&, const ScanParams&, const Panels<A>&) {}

  // Step t of a thread; at: the block row of the chunk's first batch row.
  static void step(Engine& engine, typename Engine::Worker& w, int64_t t, int64_t at, Sweep sweep) {
    Step{engine, w, t, at + w.mine.begin - w.rows.begin, sweep}.run();
  }

 private:
  static constexpr int G = Cell::kGates, S = Cell::kStates, K = Cell::kSaved, W = Vec<A>::W;
  static constexpr int L = late<Cell>, E = extra<Cell>, P = params<Cell>;
  static constexpr int kEarly = early_slots<Cell>, kFed = feeds<Cell>;
  using V = Vec<A>;

  struct Step {
    Engine& e;
    typename Engine::Worker& w;
    const int64_t t, at;  // at: the block row of the thread's first row
    const Sweep sweep;

    void run() {
      const int64_t active = e.rows_.active(t, w.mine), n = e.s_.row(t) + w.mine.begin;
      const T** next = w.scratch.next + (w.mine.begin - w.rows.begin);
      ExtraSlots<Cell, T>(e.s_, w.d, w.scratch.extra)
          .enter(t, {w.mine.begin, w.mine.begin + active});
      bool any = false;
      for (int64_t b = 0; b < active; ++b) any |= next[b] != e.zeros_;
      part<false>(e.w_hh_, any, active, [&](int64_t b) { return next[b]; });
      if (w.by_units) w.barrier.wait(w.size);
      part<true>(e.w_hh_.late, true, active, [&](int64_t b) { return d_late(at + b); });
      for (int64_t b = 0; b < active; ++b) {
        next[b] = e.s_.resets && e.s_.resets[n + b] ? e.zeros_ : d_r(at + b);
      }
    }

    T* d_r(int64_t at) const { return e.d_r_ + at * e.ld_r_; }
    T* d_late(int64_t at) const { return d_r(at) + kEarly * e.s_.H; }

    // The first part of the cell's backward, or the rest, on all of the thread's rows and units,
    // with the product of row(b) and the matrix; any: is there one?
    template <bool kRest, class Row>
    void part(const Matrix<T>& matrix, bool any, int64_t active, Row row) {
      const T* rows[kGroupRows];
      for (int64_t u = 0; u < sweep.count(); ++u) {
        const int64_t p = sweep.at(u);
        const Lane<T>* panel = any ? matrix.panel(p, w.rank) : nullptr;
        for (int64_t b = 0; b < active; b += kGroupRows) {
          const int64_t count = active - b < kGroupRows ? active - b : kGroupRows;
          for (int64_t i = 0; i < count; ++i) rows[i] = row(b + i);
          if (any) matrix.multiply(p, panel, rows, count, w.scratch.tile);
          const int64_t ld = matrix.panels.vectors(p) * W;
          for (int64_t i = 0; i < count; ++i) {
            cell<kRest>(p, b + i, any ? w.scratch.tile + i * ld : nullptr);
          }
        }
      }
    }

    // Row i of the thread's; product: what comes of one for the units of panel p, or null.
    template <bool kRest>
    FASTRNN_INLINE void cell(int64_t p, int64_t i, const A* product) {
      const int64_t H = e.s_.H, b = w.mine.begin + i, n = e.s_.row(t) + b, row_at = at + i;
      const bool reset = e.s_.resets && e.s_.resets[n];
      const T *saved = e.saved_.row(w.d, n), *before[S], *after[S];
      A* carry[S];
      for (int k = 0; k < S; ++k) {
        before[k] = e.saved_.before(w.d, t, b, k, e.zeros_);
        after[k] = k == 0 ? e.rows_.output(w.d, t, b) : e.saved_.carried(w.d, n, k);
        carry[k] = e.carry(w, k, b);
      }
      const T* d_out = e.rows_.d_output(w.d, t, b, e.zeros_);
      const ExtraSlots<Cell, T> slots(e.s_, w.d, w.scratch.extra);
      T* d_extra = E > 0 && w.dir.d_extra ? e.rows_.d_extra(w.d, t, b, E * H) : nullptr;
      for (int v = 0; v < e.panels_.registers(p); ++v) {
        const int64_t j = e.panels_.unit(p) + v * W, left = H - j;
        V kept[K], prev[S], next[S], d[S + 1], ps[P + 1], es[E + 1];
        for (int k = 0; k < K; ++k) kept[k] = read(saved + k * H + j, left);
        for (int k = 0; k < S; ++k) {
          prev[k] = read(before[k] + j, left);
          next[k] = read(after[k] + j, left);
          d[k] = V::load(carry[k] + j, left);
        }
        load_params<Cell, T>(w.dir.params, H, j, ps);
        if constexpr (E > 0) slots.load(i, j, left, es);
        const V through = product ? V::load(product + v * W) : V(A(0));
        if constexpr (!kRest) {
          V dlate[L];
          d[0] = d[0] + read(d_out + j, left);
          d[kFed] = d[kFed] + through;
          d[0].store(carry[0] + j, left);
          if (kFed > 0) d[kFed].store(carry[kFed] + j, left);
          Cell::late(kept, prev, next, ps, es, d, dlate);
          for (int g = 0; g < L; ++g) write(dlate[g], d_late(row_at) + g * H + j, left);
        } else {
          V dx[G], dr[kEarly + L], dp[P + 1], de[E + 1];
          d[S] = through;
          Cell::backward(kept, prev, next, ps, es, d, dx, dr, dp, de);
          for (int k = 0; k < S; ++k) (reset ? V(A(0)) : d[k]).store(carry[k] + j, left);
          store(row_at, j, left, dx, dr);
          e.param_grad_.add(w.slots.begin + b - w.rows.begin, j, left, dp);
          for (int k = 0; k < E && d_extra; ++k) write(de[k], d_extra + k * H + j, left);
        }
      }
    }

    // The gradients of x and r but those that are there: of the late slots, which other threads may
    // be reading.
    FASTRNN_INLINE void store(int64_t at, int64_t j, int64_t left, const V* dx, const V* dr) {
      const int64_t H = e.s_.H;
      T* d_x = e.d_x_ + at * e.ld_ + j;
      for (int g = 0; g < (Cell::kSplit ? G : kEarly); ++g) write(dx[g], d_x + g * H, left);
      for (int g = 0; Cell::kSplit && g < kEarly; ++g) write(dr[g], d_r(at) + g * H + j, left);
    }
  };
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
