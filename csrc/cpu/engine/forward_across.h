// The forward step of a cell that looks across the units of a row: the recurrent product of all
// units first, then passes over them, between which sums over the units are taken. A thread that
// has all units of its rows takes them row by row; threads that share units meet at each sum.
#pragma once
#include "between.h"
#include "cell_params.h"
#include "extra_slots.h"
#include "gate_weights.h"
#include "turn.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class T, class Weights>
class Forward;

// What a thread of the forward engine has for it; other cells have nothing.
template <class Cell, class T, class Weights, bool = across<Cell>>
class ForwardAcross {
 public:
  ForwardAcross() = default;
  template <class P>
  ForwardAcross(Arena&, const ScanParams&, const P&, int64_t) {}
};

template <class Cell, class T, class Weights>
class ForwardAcross<Cell, T, Weights, true> {
 public:
  using Engine = Forward<Cell, T, Weights>;
  using A = Sum<T>;

  ForwardAcross() = default;
  // most: batch rows that a thread walks through time together.
  ForwardAcross(Arena& arena, const ScanParams& s, const typename Weights::Units& panels,
                int64_t most) {
    if (most > kGroupRows) most = kGroupRows;
    products_ = arena.take<A>(kProduct ? most * panels.width() : 0);
    between_ = {arena, s.H, s.threads > 1 ? most : 1};
  }

  static void step(Engine& engine, const ForwardTurn<A>& turn, typename Engine::Scratch& w) {
    Step step{engine, turn, w, w.parts.between_};
    if (turn.shared()) step.between = step.between.with_sums_of((&w - turn.rank)->parts.between_);
    step.run();
  }

 private:
  static constexpr int G = Cell::kGates, S = Cell::kStates, K = Cell::kSaved, W = Vec<A>::W;
  static constexpr int kTotals = Cell::kForwardTotals, kRows = Cell::kForwardRows;
  static constexpr int kTemps = Cell::kForwardTemps, kPasses = Cell::kForwardPasses;
  static constexpr bool kProduct = Engine::kProduct;
  static constexpr int E = extra<Cell>;
  using Rest = Between<A, kTotals, kRows, kTemps>;
  using V = Vec<A>;

  struct Step {
    Engine& e;
    const ForwardTurn<A>& turn;
    typename Engine::Scratch& w;
    Rest between;
    int64_t first = 0, count = 0;        // of the step's rows: those under way
    const A *x = nullptr, *r = nullptr;  // of the first of them
    int64_t ld = 0, r_ld = 0;

    void run() {
      const int64_t active = e.rows_.active(turn.t, turn.rows);
      const bool any = e.enter(turn.d, turn.t, turn.rows, w);
      ld = e.panels_.columns(turn.sweep.panels);
      const bool saves = e.s_.dir[turn.d].saved;
      for (int64_t b = 0; b < active; b += kGroupRows) {
        const int64_t group = active - b < kGroupRows ? active - b : kGroupRows;
        if (kProduct) product(b, group, any);
        const int64_t together = turn.shared() ? group : 1;
        const A* products = r;
        for (int64_t i = 0; i < group; i += together) {
          first = b + i, count = together;
          x = turn.gates + first * ld, r = products + i * r_ld;
          saves ? passes<true, 0>() : passes<false, 0>();
        }
      }
      for (int64_t b = 0; b < active; ++b) {
        w.h[b] = w.out[b];
        if (Engine::kFed == 0) continue;
        const int64_t n = e.s_.row(turn.t) + turn.rows.begin + b;
        w.fed[b] = e.saved_.carried(turn.d, n, Engine::kFed);
      }
    }

    // r = the recurrent product of rows b, .. of the step, in the order of the panels' columns.
    // any: is there one whose h is not zeros?
    void product(int64_t b, int64_t group, bool any) {
      const Range panels = turn.sweep.panels;
      const auto& weights = e.weights_[turn.d];
      const auto h = weights.hidden_rows(w.fed_in + b, any ? group : 0, w.weights);
      A* out = w.parts.products_;
      r = out, r_ld = ld;
      if (!any) {  // b_hh, for all rows
        r = weights.hidden_bias(panels.begin), r_ld = 0;
      } else if (Engine::kOneRow && group == 1 && weights.packed()) {
        weights.template hidden_row<Engine::kOneRow ? Engine::kPanelVectors : 1>(panels, h, out,
                                                                                 turn.sweep.back);
      } else {
        for (int64_t i = 0; i < turn.sweep.count(); ++i) {
          const int64_t p = turn.sweep.at(i);
          A* to = out + e.panels_.column(p) - e.panels_.column(panels.begin);
          weights.hidden(p, weights.hidden_panel(p, w.weights), h, group, to, ld);
        }
      }
    }

    template <bool kSave, int kPass>
    void passes() {
      for (int64_t i = 0; i < count; ++i) {
        Cell::template forward_rows<kPass>(between.totals(i), A(e.s_.H), between.rows(i));
        pass<kSave, kPass>(i);
      }
      if constexpr (kPass + 1 < kPasses) {
        if (turn.shared()) turn.barrier->wait(turn.size);
        for (int k = 0; k < kTotals; ++k) {
          for (int64_t i = 0; Cell::kForwardTotalIn[k] == kPass && i < count; ++i) {
            between.sum(k, i);
          }
        }
        passes<kSave, kPass + 1>();
      }
    }

    // One pass over the units of row i of those under way.
    template <bool kSave, int kPass>
    [[gnu::noinline]] void pass(int64_t i) {
      // Locals: what is stored below could alias the members that these come from.
      const Rest rest = between;
      const ExtraSlots<Cell, T> slots(e.s_, turn.d, w.extra);
      const typename Weights::Units panels = e.panels_;
      const Range mine = turn.sweep.panels;
      const int64_t H = panels.H, b = turn.rows.begin + first + i;
      const int64_t n = e.s_.row(turn.t) + b;
      const bool reset = e.s_.resets && e.s_.resets[n];
      const A *x_row = x + i * ld, *r_row = r + i * r_ld, *zeros = w.zeros;
      const T* h = w.h_in[first + i];
      T* out = w.out[first + i];
      T* saved = kSave ? e.saved_.row(turn.d, n) : nullptr;
      const void* learned = e.s_.dir[turn.d].params;
      A* state[S];
      for (int k = Engine::kFirstCarried; k < S; ++k) state[k] = e.carried(turn.d, k, b, w);
      V row[kRows + 1];
      for (int k = 0; k < kRows; ++k) row[k] = V(rest.rows(i)[k]);
      for (int64_t p = mine.begin; p < mine.end; ++p) {
        const int nu = panels.registers(p);
        const int64_t column = panels.column(p) - panels.column(mine.begin);
        for (int v = 0; v < nu; ++v) {
          const int64_t j = panels.unit(p) + v * W, left = panels.end(p) - j;
          V xs[G], rs[G], prev[S], ps[params<Cell> + 1], temp[kTemps + 1];
          V total[kTotals + 1], next[S], keep[K + 1];
          for (int g = 0; g < G; ++g) {
            xs[g] = V::load(x_row + column + (g * nu + v) * W);
            if (kProduct) rs[g] = V::load(r_row + column + (g * nu + v) * W);
          }
          if (!Engine::kRounded) prev[0] = read(h + j, left);
          for (int k = Engine::kFirstCarried; k < S; ++k) {
            prev[k] = V::load((reset ? zeros : state[k]) + j, left);
          }
          load_params<Cell, T>(learned, H, j, ps);
          for (int k = 0; k < kTemps; ++k) {
            if (Cell::kForwardTempIn[k] < kPass) temp[k] = V::load(rest.temp(k, i, j));
          }
          if constexpr (E > 0) {
            V es[E];
            slots.load(first + i, j, left, es);
            Cell::template forward<kPass>(xs, rs, prev, ps, es, row, temp, total, next, keep);
          } else {
            Cell::template forward<kPass>(xs, rs, prev, ps, row, temp, total, next, keep);
          }
          for (int k = 0; k < kTotals; ++k) {
            if (Cell::kForwardTotalIn[k] == kPass) total[k].store(rest.summed(k, i) + j, left);
          }
          for (int k = 0; k < kTemps; ++k) {
            if (Cell::kForwardTempIn[k] == kPass) temp[k].store(rest.temp(k, i, j));
          }
          for (int k = 0; kSave && k < K; ++k) {
            if (Cell::kForwardSavedIn[k] == kPass) write(keep[k], saved + k * H + j, left);
          }
          if (kPass + 1 < kPasses) continue;
          write(next[0], out + j, left);
          for (int k = Engine::kFirstCarried; k < S; ++k) next[k].store(state[k] + j, left);
          for (int k = 1; kSave && k < S; ++k) write(next[k], saved + (K + k - 1) * H + j, left);
        }
      }
    }
  };

  A* products_ = nullptr;  // [rows, columns of the thread's panels]
  Rest between_;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
