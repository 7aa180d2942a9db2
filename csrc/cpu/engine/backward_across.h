// The backward step of a cell that looks across the units of a row: dL/dh from the step after it
// for all units first, then passes over them, as forward has (forward_across.h).
#pragma once
#include "between.h"
#include "cell_params.h"
#include "cpu/gemm/matrix.h"
#include "cpu/threads/team.h"
#include "extra_slots.h"
#include "heads.h"
#include "rows.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class T>
class Backward;

// What a thread of the backward engine has for it; other cells have nothing.
template <class Cell, class T, bool = across<Cell>>
class BackwardAcross {
 public:
  BackwardAcross() = default;
  template <class P>
  BackwardAcross(Arena&, const ScanParams&, const P&) {}
};

template <class Cell, class T>
class BackwardAcross<Cell, T, true> {
 public:
  using Engine = Backward<Cell, T>;
  using A = Sum<T>;

  BackwardAcross() = default;
  BackwardAcross(Arena& arena, const ScanParams& s, const UnitPanels<Cell, A>& panels) {
    const int64_t most = s.B < kGroupRows ? s.B : kGroupRows;
    products_ = arena.take<A>(kProduct ? most * panels.width() : 0);
    between_ = {arena, s.H, s.threads > 1 ? most : 1};
  }

  // Step t of a thread; at: the block row of the chunk's first batch row.
  static void step(Engine& engine, typename Engine::Worker& w, int64_t t, int64_t at, Sweep sweep) {
    Step step{engine, w, t, at + w.mine.begin - w.rows.begin, sweep, w.scratch.parts.between_};
    if (w.by_units) {
      step.between = step.between.with_sums_of((&w.scratch - w.rank)->parts.between_);
    }
    step.run();
  }

 private:
  static constexpr int G = Cell::kGates, S = Cell::kStates, K = Cell::kSaved, W = Vec<A>::W;
  static constexpr int kTotals = Cell::kBackwardTotals, kRows = Cell::kBackwardRows;
  static constexpr int kTemps = Cell::kBackwardTemps, kPasses = Cell::kBackwardPasses;
  static constexpr int P = params<Cell>, kUnits = K - Cell::kSavedRows;  // saved values of units
  static constexpr bool kProduct = Engine::kProduct;
  static constexpr int E = extra<Cell>;
  using Rest = Between<A, kTotals, kRows, kTemps>;
  using V = Vec<A>;

  struct Step {
    Engine& e;
    typename Engine::Worker& w;
    const int64_t t, at;  // at: the block row of the thread's first row
    const Sweep sweep;
    Rest between;
    int64_t first = 0, count = 0, group = 0;  // of the step's rows: those under way; of a product
    int64_t of_group = 0;                     // the first of the product's rows
    int64_t last = 0;                         // behind the batch rows of the step
    bool any = false;  // is there a row that gets a gradient through the product?

    void run() {
      const int64_t active = e.rows_.active(t, w.mine), n = e.s_.row(t) + w.mine.begin;
      const T** next = w.scratch.next + (w.mine.begin - w.rows.begin);
      ExtraSlots<Cell, T>(e.s_, w.d, w.scratch.extra)
          .enter(t, {w.mine.begin, w.mine.begin + active});
      last = w.mine.begin + active;
      for (int64_t b = 0; kProduct && b < active; ++b) any |= next[b] != e.zeros_;
      for (of_group = 0; of_group < active; of_group += kGroupRows) {
        group = active - of_group < kGroupRows ? active - of_group : kGroupRows;
        for (int64_t u = 0; any && u < sweep.count(); ++u) {
          const int64_t p = sweep.at(u);
          e.w_hh_.multiply(p, e.w_hh_.panel(p, w.rank), next + of_group, group, product(p, 0));
        }
        count = w.by_units ? group : 1;
        for (first = of_group; first < of_group + group; first += count) passes<0>();
      }
      for (int64_t b = 0; kProduct && b < active; ++b) {
        next[b] = e.s_.resets && e.s_.resets[n + b] ? e.zeros_ : e.d_r_ + (at + b) * e.ld_r_;
      }
    }

    // What row i of the product's gets through it, for the units of panel p.
    A* product(int64_t p, int64_t i) const {
      return w.scratch.parts.products_ + e.panels_.column(p) * group + i * e.panels_.vectors(p) * W;
    }

    template <int kPass>
    void passes() {
      for (int64_t i = 0; i < count; ++i) {
        if (kPass == 0) read_rows(i);
        Cell::template backward_rows<kPass>(between.totals(i), A(e.s_.H), between.rows(i));
        pass<kPass>(i);
      }
      if constexpr (kPass + 1 < kPasses) {
        if (w.by_units) w.barrier.wait(w.size);
        for (int k = 0; k < kTotals; ++k) {
          for (int64_t i = 0; Cell::kBackwardTotalIn[k] == kPass && i < count; ++i) {
            between.sum(k, i);
          }
        }
        passes<kPass + 1>();
      }
    }

    // The row values that forward has left.
    void read_rows(int64_t i) const {
      const T* saved = e.saved_.row(w.d, e.s_.row(t) + w.mine.begin + first + i);
      for (int k = 0; k < Cell::kSavedRows; ++k) {
        between.rows(i)[k] = read(saved + (kUnits + k) * e.s_.H, 1).v[0];
      }
    }

    // One pass over the units of row i of those under way.
    template <int kPass>
    [[gnu::noinline]] void pass(int64_t i) {
      // Locals: what is stored below could alias the members that these come from.
      const Rest rest = between;
      const ExtraSlots<Cell, T> slots(e.s_, w.d, w.scratch.extra);
      const UnitPanels<Cell, A> panels = e.panels_;
      const int64_t H = panels.H, b = w.mine.begin + first + i, n = e.s_.row(t) + b;
      const int64_t row_at = at + first + i, slot = w.slots.begin + b - w.rows.begin;
      const bool reset = e.s_.resets && e.s_.resets[n];
      const T *saved = e.saved_.row(w.d, n), *before[S], *after[S];
      A* carry[S];
      for (int k = 0; k < S; ++k) {
        before[k] = e.saved_.before(w.d, t, b, k, e.zeros_);
        after[k] = k == 0 ? e.rows_.output(w.d, t, b) : e.saved_.carried(w.d, n, k);
        carry[k] = e.carry(w, k, b);
      }
      const T *d_out = e.rows_.d_output(w.d, t, b, e.zeros_), *ahead[S];
      const bool more = kPass == 0 && b + 1 < last;
      if (more) {
        ahead[0] = e.saved_.row(w.d, n + 1);
        for (int k = 1; k < S; ++k) ahead[k] = e.saved_.before(w.d, t, b + 1, k, e.zeros_);
      }
      T *d_x = e.d_x_ + row_at * e.ld_, *d_r = e.d_r_ + row_at * e.ld_r_;
      T* d_extra = E > 0 && w.dir.d_extra ? e.rows_.d_extra(w.d, t, b, E * H) : nullptr;
      const int64_t next_gate = dr_next_gate(panels);
      V row[kRows + 1];
      for (int k = 0; k < kRows; ++k) row[k] = V(rest.rows(i)[k]);
      for (int64_t p = sweep.panels.begin; p < sweep.panels.end; ++p) {
        const A* through = any ? product(p, first - of_group + i) : nullptr;
        for (int v = 0; v < panels.registers(p); ++v) {
          const int64_t j = panels.unit(p) + v * W, left = panels.end(p) - j;
          if (more) {
            for (int k = 0; k < kUnits + S - 1; ++k) {
              __builtin_prefetch(ahead[0] + (k < kUnits ? k : K + k - kUnits) * H + j);
            }
            for (int k = 1; k < S; ++k) __builtin_prefetch(ahead[k] + j);
          }
          V kept[K + 1], prev[S], next[S], d[S], ps[P + 1], temp[kTemps + 1];
          V total[kTotals + 1], dx[G], dr[G], dp[P + 1], de[E + 1];
          for (int k = 0; k < kUnits; ++k) kept[k] = read(saved + k * H + j, left);
          for (int k = 0; k < S; ++k) {
            prev[k] = read(before[k] + j, left);
            next[k] = read(after[k] + j, left);
            d[k] = V::load(carry[k] + j, left);
          }
          d[0] = d[0] + read(d_out + j, left);
          if (through) d[Engine::kFed] = d[Engine::kFed] + V::load(through + v * W);
          load_params<Cell, T>(w.dir.params, H, j, ps);
          for (int k = 0; k < kTemps; ++k) {
            if (Cell::kBackwardTempIn[k] < kPass) temp[k] = V::load(rest.temp(k, i, j));
          }
          if constexpr (E > 0) {
            V es[E];
            slots.load(first + i, j, left, es);
            Cell::template backward<kPass>(kept, prev, next, ps, es, row, temp, total, d, dx, dr,
                                           dp, de);
          } else {
            Cell::template backward<kPass>(kept, prev, next, ps, row, temp, total, d, dx, dr, dp);
          }
          for (int k = 0; k < kTotals; ++k) {
            if (Cell::kBackwardTotalIn[k] == kPass) total[k].store(rest.summed(k, i) + j, left);
          }
          for (int k = 0; k < kTemps; ++k) {
            if (Cell::kBackwardTempIn[k] == kPass) temp[k].store(rest.temp(k, i, j));
          }
          for (int k = 0; k < P; ++k) {
            if (Cell::kBackwardDpIn[k] == kPass) e.param_grad_.add(slot, j, left, k, dp[k]);
          }
          if (kPass + 1 < kPasses) continue;
          for (int k = 0; k < S; ++k) (reset ? V(A(0)) : d[k]).store(carry[k] + j, left);
          for (int k = 0; k < E && d_extra; ++k) write(de[k], d_extra + k * H + j, left);
          for (int g = 0; g < G; ++g) {
            write(dx[g], d_x + g * H + j, left);
            if (!Cell::kSplit && !heads<Cell>) continue;
            T* to = d_r + dr_first<Cell>(panels, p) + g * next_gate + j;
            write(Cell::kSplit ? dr[g] : dx[g], to, left);
          }
        }
      }
    }
  };

  A* products_ = nullptr;  // of each panel [rows, its columns]
  Rest between_;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
