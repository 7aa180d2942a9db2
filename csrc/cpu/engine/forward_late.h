// The forward step of a cell with late slots: the recurrent product of a state and what the cell
// asks for of it; then, once all units have asked, the product of that and the rest of the cell.
// Threads that share units meet between the two.
#pragma once
#include <type_traits>

#include "cell_params.h"
#include "cpu/gemm/direct.h"
#include "extra_slots.h"
#include "heads.h"
#include "turn.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class T, class Weights>
class Forward;

// The weights of one direction: those of GateWeights, and the late slots beside them, in panels of
// the same units.
template <class Cell, class T>
class LateWeights : public GateWeights<T> {
 public:
  using A = Sum<T>;
  static constexpr int W = Vec<A>::W, L = late<Cell>;
  static constexpr int kVectors =
      L * Panels<A>::together(most_slots<Cell> > L ? most_slots<Cell> : L);

  LateWeights() = default;
  LateWeights(Arena& arena, const Panels<A>& panels, const Panels<A>& hidden, const ScanParams& s,
              int d)
      : GateWeights<T>(arena, panels, hidden, s, d),
        panels_(s.H, L, -1, most_slots<Cell>),
        packed_(s.T > kFewSteps) {
    const int64_t before = early_slots<Cell> * s.H;
    source_ = static_cast<const T*>(s.dir[d].w_hh) + before * s.H;
    if (s.dir[d].b_hh) given_ = static_cast<const T*>(s.dir[d].b_hh) + before;
    w_ = arena.take<Lane<T>>(packed_ ? panels_.width() * lanes<T>(s.H) : 0);
    bias_ = arena.take<A>(panels_.width());
  }

  void pack(int64_t p) {
    GateWeights<T>::pack(p);
    if (packed_) pack_gates(panels_, p, source_, panels_.H, w_ + at(p));
    if (given_) return pack_row(panels_, p, p + 1, given_, bias_ + panels_.column(p));
    memset(bias_ + panels_.column(p), 0, panels_.vectors(p) * W * sizeof(A));
  }
  const Panels<A>& late_panels() const { return panels_; }

  // The late slots of at most kGroupRows rows for the columns of panel p; out rows lie ld apart.
  void late_slots(int64_t p, const T* const* rows, int64_t count, A* out, int64_t ld) const {
    const A* bias = bias_ + panels_.column(p);
    const int nv = panels_.vectors(p);
    if (!packed_) return direct_gemm(panels_, p, source_, panels_.H, rows, count, bias, out, ld);
    panel_gemm(nv, rows, count, panels_.H, w_ + at(p), int64_t(nv) * W, bias, out, ld);
  }
  // The same of one row for all of some panels that are packed.
  void late_row(Range panels, const T* row, A* out, bool back) const {
    if (panels.end == panels.begin) return;
    const int64_t origin = panels_.column(panels.begin);
    const bool narrow = panels_.vectors(panels.end - 1) < kVectors;
    const int64_t whole = panels.end - narrow;
    row_gemm<T, kVectors>(row, panels_.H, w_ + at(panels.begin), at(1), whole - panels.begin,
                          bias_ + origin, out, back);
    if (narrow) late_slots(whole, &row, 1, out + panels_.column(whole) - origin, 0);
  }

 private:
  // Where panel p is packed.
  int64_t at(int64_t p) const { return panels_.column(p) * lanes<T>(panels_.H); }

  Panels<A> panels_{0, 1};
  bool packed_ = false;  // for few steps W_hh is read as it lies
  const T *source_ = nullptr, *given_ = nullptr;
  Lane<T>* w_ = nullptr;
  A* bias_ = nullptr;
};

// What a cell's products go with, if nothing else is said.
template <class Cell, class T>
using WeightsOf = std::conditional_t<(late<Cell> > 0), LateWeights<Cell, T>,
                                     GateWeights<T, UnitPanels<Cell, Sum<T>>>>;

// What a thread of the forward engine has for it.
template <class Cell, class T, class Weights>
class ForwardLate {
 public:
  using Engine = Forward<Cell, T, Weights>;
  using A = Sum<T>;

  ForwardLate() = default;
  // most: batch rows that a thread walks through time together.
  ForwardLate(Arena& arena, const ScanParams& s, const Panels<A>& panels, int64_t most)
      : ld_((s.H + W - 1) / W * W), most_(most < kGroupRows ? most : kGroupRows) {
    products_ = arena.take<A>(most_ * early_slots<Cell> * ld_);
    late_ = arena.take<A>(most_ * L * ld_);
    temps_ = arena.take<A>(kTemps * most_ * ld_);
    own_ = arena.take<T>(s.dir[0].saved ? 0 : most * s.H);
  }

  static void step(Engine& engine, const ForwardTurn<A>& turn, typename Engine::Scratch& w) {
    Step{engine, turn, w, w.parts, (turn.shared() ? &w - turn.rank : &w)->parts.own_}.run();
  }

 private:
  static constexpr int G = Cell::kGates, S = Cell::kStates, K = Cell::kSaved, W = Vec<A>::W;
  static constexpr int L = late<Cell>, E = extra<Cell>, kEarly = early_slots<Cell>;
  static constexpr int kTemps = Cell::kTemps, kFed = feeds<Cell>;
  using V = Vec<A>;

  struct Step {
    Engine& e;
    const ForwardTurn<A>& turn;
    typename Engine::Scratch& w;
    const ForwardLate& mine;
    T* const own;                  // where what is asked for goes if nothing is saved
    int64_t first = 0, count = 0;  // of the step's rows: those under way
    const A* r = nullptr;          // the product of the first of them
    int64_t r_ld = 0, late_ld = 0;
    const T* asked[kGroupRows] = {};  // [H] each

    void run() {
      const int64_t active = e.rows_.active(turn.t, turn.rows);
      const int64_t n = e.s_.row(turn.t) + turn.rows.begin;
      const bool any = e.enter(turn.d, turn.t, turn.rows, w), saves = e.s_.dir[turn.d].saved;
      for (first = 0; first < active; first += kGroupRows) {
        count = active - first < kGroupRows ? active - first : kGroupRows;
        for (int64_t i = 0; i < count; ++i) {
          asked[i] = saves ? e.saved_.row(turn.d, n + first + i) + (K - 1) * e.s_.H
                           : own + (first + i) * e.s_.H;
        }
        ask(any);
        if (turn.shared()) turn.barrier->wait(turn.size);
        rest(saves);
      }
      for (int64_t b = 0; b < active; ++b) {
        w.h[b] = w.out[b];
        if (kFed > 0) w.fed[b] = e.saved_.carried(turn.d, n + b, kFed);
      }
    }

    // any: is there a row whose state is not zeros?
    void ask(bool any) {
      const auto& weights = e.weights_[turn.d];
      const Range panels = turn.sweep.panels;
      r = mine.products_, r_ld = e.hidden_panels_.columns(panels);
      const bool by_row = Engine::kOneRow && any && count == 1 && weights.packed();
      if (!any) r = weights.hidden_bias(panels.begin), r_ld = 0;
      if (by_row) {
        weights.template hidden_row<Engine::kOneRow ? Engine::kPanelVectors : 1>(
            panels, w.fed_in + first, mine.products_, turn.sweep.back);
      }
      for (int64_t i = 0; i < turn.sweep.count(); ++i) {
        const int64_t p = turn.sweep.at(i);
        if (any && !by_row) {
          weights.hidden(p, weights.hidden_panel(p, w.weights), w.fed_in + first, count,
                         mine.products_ + column(e.hidden_panels_, p), r_ld);
        }
        cells<false, false>(p);
      }
    }

    void rest(bool saves) {
      const auto& weights = e.weights_[turn.d];
      const Panels<A>& panels = weights.late_panels();
      late_ld = panels.columns(turn.sweep.panels);
      constexpr bool kOneRow = Weights::kVectors <= 8;
      const bool by_row = kOneRow && count == 1 && weights.packed();
      if constexpr (kOneRow) {
        if (by_row) weights.late_row(turn.sweep.panels, *asked, mine.late_, turn.sweep.back);
      }
      for (int64_t i = 0; i < turn.sweep.count(); ++i) {
        const int64_t p = turn.sweep.at(i);
        if (!by_row) {
          weights.late_slots(p, asked, count, mine.late_ + column(panels, p), late_ld);
        }
        saves ? cells<true, true>(p) : cells<true, false>(p);
      }
    }

    int64_t column(const Panels<A>& panels, int64_t p) const {
      return panels.column(p) - panels.column(turn.sweep.panels.begin);
    }

    // The first part of the cell, or the rest, on the units of panel p.
    template <bool kRest, bool kSave>
    [[gnu::noinline]] void cells(int64_t p) {
      // Locals: what is stored below could alias the members that these come from.
      const ExtraSlots<Cell, T> slots(e.s_, turn.d, w.extra);
      const Panels<A> panels = e.panels_;
      const int64_t H = panels.H, b = turn.rows.begin + first, n = e.s_.row(turn.t) + b;
      const int64_t ld = panels.columns(turn.sweep.panels), temp_ld = mine.ld_;
      const int64_t rows = mine.most_, early_ld = r_ld, second_ld = late_ld;
      const int nu = panels.registers(p);
      const A* x = turn.gates + first * ld + column(panels, p);
      const A* early = r + column(e.hidden_panels_, p);
      const A* second = mine.late_ + column(e.weights_[turn.d].late_panels(), p);
      A* const temps = mine.temps_;
      const bool* resets = e.s_.resets ? e.s_.resets + n : nullptr;
      const A* zeros = w.zeros;
      T* saved = kSave ? e.saved_.row(turn.d, n) : nullptr;
      const int64_t saved_ld = kSave ? e.saved_.row(turn.d, n + 1) - saved : 0;
      A* state[S];
      for (int k = Engine::kFirstCarried; k < S; ++k) state[k] = e.carried(turn.d, k, b, w);
      for (int v = 0; v < nu; ++v) {
        const int64_t j = panels.unit(p) + v * W, left = H - j;
        V ps[params<Cell> + 1];
        load_params<Cell, T>(e.s_.dir[turn.d].params, H, j, ps);
        for (int64_t i = 0; i < count; ++i) {
          V xs[G], rs[kEarly + L], prev[S], es[E + 1], temp[kTemps + 1], next[S], keep[K];
          for (int g = 0; g < G; ++g) xs[g] = V::load(x + i * ld + (g * nu + v) * W);
          for (int g = 0; g < kEarly; ++g) rs[g] = V::load(early + i * early_ld + (g * nu + v) * W);
          if constexpr (E > 0) slots.load(first + i, j, left, es);
          if (!Engine::kRounded) prev[0] = read(w.h_in[first + i] + j, left);
          for (int k = Engine::kFirstCarried; k < S; ++k) {
            prev[k] = V::load((resets && resets[i] ? zeros : state[k] + i * H) + j, left);
          }
          if constexpr (!kRest) {
            Cell::ask(xs, rs, prev, ps, es, temp, keep);
            write(keep[0], const_cast<T*>(asked[i]) + j, left);
            for (int k = 0; k < kTemps; ++k) temp[k].store(temps + (k * rows + i) * temp_ld + j);
          } else {
            for (int g = 0; g < L; ++g) {
              rs[kEarly + g] = V::load(second + i * second_ld + (g * nu + v) * W);
            }
            for (int k = 0; k < kTemps; ++k)
              temp[k] = V::load(temps + (k * rows + i) * temp_ld + j);
            Cell::forward(xs, rs, prev, ps, es, temp, next, keep);
            write(next[0], w.out[first + i] + j, left);
            for (int k = Engine::kFirstCarried; k < S; ++k)
              next[k].store(state[k] + i * H + j, left);
            T* to = kSave ? saved + i * saved_ld + j : nullptr;
            for (int k = 0; kSave && k < K - 1; ++k) write(keep[k], to + k * H, left);
            for (int k = 1; kSave && k < S; ++k) write(next[k], to + (K + k - 1) * H, left);
          }
        }
      }
    }
  };

  int64_t ld_ = 0, most_ = 0;                                   // of temps; rows under way, at most
  A *products_ = nullptr, *late_ = nullptr, *temps_ = nullptr;  // both of the thread's panels
  T* own_ = nullptr;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
