// The forward engine: T steps of any cell. A thread owns some batch rows, all units, and walks all
// steps with no barrier; or, where rows are few, all rows and some units, with a barrier a step if
// the cell has a recurrent product, in which units meet. Two directions share the threads. Time
// goes in blocks: the input projection first, then the steps, so that it never leaves the cache.
#pragma once
#include "cpu/threads/interruption.h"
#include "cpu/threads/team.h"
#include "forward_worker.h"
#include "heads.h"
#include "projection.h"
#include "saved.h"
#include "shares.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class T, class Weights = WeightsOf<Cell, T>>
class Forward {
 public:
  static int64_t workspace(const ScanParams& s) { return Forward(s, nullptr).arena_.used(); }

  static bool run(const ScanParams& s) {
    Forward self(s, s.workspace);
    *s.waited = Team<Forward>::run(s.parallel, s.threads, self);
    for (const Barrier& half : self.halves_) *s.waited += half.waited();
    return !self.interruption_.stopped();
  }

  void operator()(int rank, int size, Barrier& barrier) {
    // Two directions get half of an even number of threads each.
    const bool apart = s_.directions == 2 && size % 2 == 0;
    const int team = apart ? size / 2 : size, member = rank % team;
    const int first = apart ? rank / team : 0, last = apart ? first + 1 : s_.directions;
    for (int d = first; d < last; ++d) {
      const Range mine = unit_share(panels_, member, team);  // the thread's own, if it has units
      for (int64_t p = mine.begin; p < mine.end; ++p) weights_[d].pack(p);
      projection_.pack(d, member, team);
    }
    barrier.wait(size);
    for (int d = first; d < last; ++d) {
      if (!run_direction(d, member, team, scratch_[rank], apart ? halves_[d] : barrier)) return;
    }
  }

 private:
  friend ForwardParts<Cell, T, Weights>;
  static constexpr int G = Cell::kGates, S = Cell::kStates, K = Cell::kSaved;
  static constexpr int R = recurrent<Cell>, E = extra<Cell>;
  static constexpr bool kProduct = R > 0;
  static constexpr int kFed = feeds<Cell>;  // the state that the product multiplies
  using A = Sum<T>;
  using Units = typename Weights::Units;
  static constexpr int W = Vec<A>::W;
  static constexpr int kPanelVectors =
      early_slots<Cell> * Panels<A>::together(most_slots<Cell> > 0 ? most_slots<Cell> : G);
  static constexpr bool kOneRow =  // do its sums stay in registers?
      kProduct && (Weights::kRowOfAnyWidth || kPanelVectors <= 8);
  enum { kNothing, kPartial, kAll };
  // Carried states live in the final states' memory, and h in the output: where those are rounded,
  // in memory of their own. So do carried states whose rows lie there in the caller's order.
  static constexpr bool kRounded = Storage<T>::kPair > 1;
  static constexpr int kFirstCarried = kRounded && !projects<Cell> ? 0 : 1;
  static constexpr int64_t kMaxRows = 192;           // rows a thread walks through time together
  static constexpr int64_t kBlockBytes = 512 << 10;  // of projected input
  using Scratch = ForwardScratch<Cell, T, Weights>;

  Forward(const ScanParams& s, void* memory)
      : s_(s),
        rows_{s},
        saved_{s},
        panels_(panels_of<Units>(s, G, -1, most_slots<Cell>)),
        hidden_panels_(panels_of<Units>(s, early_slots<Cell>, -1, most_slots<Cell>)),
        most_(s.B < kMaxRows ? s.B : kMaxRows),
        arena_(memory),
        projection_(arena_, s, most_),
        interruption_(s.interrupted) {
    const int64_t row_bytes = panels_.width() * sizeof(A);
    block_rows_ = kBlockBytes / row_bytes < 48 ? 48 : kBlockBytes / row_bytes;
    if (block_rows_ > s.T * s.B) block_rows_ = s.T * s.B;
    if (block_rows_ < most_) block_rows_ = most_;
    for (int d = 0; d < s.directions; ++d) weights_[d] = {arena_, panels_, hidden_panels_, s, d};
    scratch_ = arena_.take<Scratch>(s.threads);
    for (int i = 0; i < s.threads; ++i) {
      Scratch w = Scratch::take(arena_, s, block_rows_, most_, apart(), panels_, hidden_panels_);
      w.weights = Weights::take_scratch(arena_, panels_, hidden_panels_, s, block_rows_, most_);
      w.projection = projection_.scratch(arena_);
      if (memory) scratch_[i] = w;
    }
  }

  // This and walk() are false where the call ends early.
  bool run_direction(int d, int rank, int size, Scratch& w, Barrier& barrier) {
    const bool units = share_forward_units(s_, panels_.count(), kMaxRows,
                                           step_bytes(s_, recurrent<Cell>, sizeof(T)), size);
    const bool barred = units && units_meet<Cell>(s_, size);
    w.projection.m = (units ? &w - rank : &w)->projection.own;
    const Range rows = units ? Range{0, s_.B} : row_part(s_, rank, size);
    const Range panels = units ? unit_share(panels_, rank, size) : Range{0, panels_.count()};
    for (int64_t b = rows.begin; b < rows.end; b += kMaxRows) {
      const Range chunk{b, rows.end - b < kMaxRows ? rows.end : b + kMaxRows};
      if (!walk(d, chunk, panels, w, barred ? &barrier : nullptr, rank, size)) return false;
    }
    return true;
  }

  // What one thread does in direction d: `rows` of the batch, the units of `panels`.
  bool walk(int d, Range rows, Range panels, Scratch& w, Barrier* barrier, int rank, int size) {
    const Direction& dir = s_.dir[d];
    const auto [first, last] = panels_.units(panels);
    const Range hidden = barrier ? projection_.share(rank, size) : projection_.share(0, 1);
    const Range units = projection_.wanted() ? projection_.units(hidden) : Range{first, last};
    memset(w.zeros, 0, s_.H * sizeof(A));
    const T* zeros = reinterpret_cast<const T*>(w.zeros);
    w.rows = rows;
    ExtraSlots<Cell, T>(s_, d, w.extra).begin(rows);
    for (int64_t b = rows.begin; b < rows.end; ++b) {
      w.h[b - rows.begin] = rows_.initial(d, 0, b, zeros);
      if (kFed > 0) w.fed[b - rows.begin] = rows_.initial(d, kFed, b, zeros);
      for (int k = kFirstCarried; k < S; ++k) {
        copy(rows_.initial(d, k, b, zeros), carried(d, k, b, w), {first, last});
      }
    }
    for (int64_t step = 0; step < s_.T;) {
      int64_t begin = step, count = 0;
      for (; step < s_.T; ++step) {
        const int64_t t = rows_.time(d, step), active = rows_.active(t, rows);
        if (count > 0 && count + active > block_rows_) break;
        for (int64_t b = 0; b < active; ++b) w.input[count++] = rows_.input(t, rows.begin + b);
      }
      project(d, count, panels, w);
      const A* gates = w.gates;
      for (int64_t i = begin; i < step; ++i) {
        const int64_t t = rows_.time(d, i);
        if constexpr (in_parts<Cell>) {
          using Parts = ForwardParts<Cell, T, Weights>;
          Parts::step(*this, {d, t, rows, {panels, i}, gates, barrier, rank, size}, w);
        } else {
          time_step(d, t, rows, {panels, i}, gates, w);
        }
        gates += rows_.active(t, rows) * panels_.columns(panels);
        if (projection_.wanted()) {
          if (barrier) barrier->wait(size);
          projection_.step(d, t, rows, {hidden, i}, w.out, w.h, w.projection);
        }
        if (barrier) barrier->wait(size);
      }
      if (step == s_.T) break;
      if (barrier ? interruption_.agreed(rank, size, *barrier, d) : interruption_.seen()) {
        return false;
      }
    }
    for (int64_t b = rows.begin; b < rows.end; ++b) {
      memcpy(rows_.state(dir.state_n[0], 0, b) + units.begin, w.h[b - rows.begin] + units.begin,
             (units.end - units.begin) * sizeof(T));
      for (int k = 1; apart() && k < S; ++k) {
        copy(carried(d, k, b, w), rows_.state(dir.state_n[k], k, b), {first, last});
      }
    }
    return true;
  }

  bool apart() const { return kRounded || s_.order; }

  // State k of batch row b between its steps; that of the next row follows.
  A* carried(int d, int k, int64_t b, const Scratch& w) const {
    if (apart()) return w.carried + (k * (w.rows.end - w.rows.begin) + b - w.rows.begin) * s_.H;
    return static_cast<A*>(s_.dir[d].state_n[k]) + b * s_.H;
  }

  // gates[row] = W_ih x + b_ih for the block's rows, in the order of the panels' columns.
  void project(int d, int64_t count, Range panels, Scratch& w) {
    const int64_t ld = panels_.columns(panels);
    const auto rows = weights_[d].input_rows(w.input, count, w.weights);
    for (int64_t p = panels.begin; p < panels.end; ++p) {
      A* out = w.gates + panels_.column(p) - panels_.column(panels.begin);
      weights_[d].input(p, weights_[d].input_panel(p, w.weights), rows, count, out, ld);
    }
  }

  // Where h comes from and goes to. Is there a row whose h is not zeros, for a product?
  FASTRNN_INLINE bool enter(int d, int64_t t, Range rows, Scratch& w) {
    const int64_t active = rows_.active(t, rows), n = s_.row(t) + rows.begin;
    const T* zeros = reinterpret_cast<const T*>(w.zeros);
    bool any = false;
    ExtraSlots<Cell, T>(s_, d, w.extra).enter(t, {rows.begin, rows.begin + active});
    for (int64_t b = 0; b < active; ++b) {
      w.out[b] = projection_.wanted() ? projection_.unprojected(d, n + b, b, w.projection)
                                      : rows_.output(d, t, rows.begin + b);
      w.h_in[b] = s_.resets && s_.resets[n + b] ? zeros : w.h[b];
      if (kFed > 0) w.fed_in[b] = s_.resets && s_.resets[n + b] ? zeros : w.fed[b];
      any |= kProduct && w.fed_in[b] != zeros;
    }
    return any;
  }

  void time_step(int d, int64_t t, Range rows, Sweep sweep, const A* gates, Scratch& w) {
    const Range panels = sweep.panels;
    const int64_t active = rows_.active(t, rows), n = s_.row(t) + rows.begin,
                  ld = panels_.columns(panels), origin = panels_.column(panels.begin);
    const bool any = enter(d, t, rows, w);
    const auto fed = weights_[d].hidden_rows(w.fed_in, any ? active : 0, w.weights);
    const bool by_row = kOneRow && any && active == 1 && weights_[d].packed();
    if (by_row) {
      weights_[d].template hidden_row<kOneRow ? kPanelVectors : 1>(panels, fed, w.recurrent,
                                                                   sweep.back);
      for (int64_t p = panels.begin; p < panels.end; ++p) {
        const int64_t column = panels_.column(p) - origin;
        const int64_t first = hidden_panels_.columns({panels.begin, p});
        apply(d, n, rows.begin, 1, p, gates + column, ld, w.recurrent + first, 0, w);
      }
    }
    for (int64_t i = 0; !by_row && i < sweep.count(); ++i) {
      const int64_t p = sweep.at(i);
      const int64_t column = panels_.column(p), width = any ? hidden_panels_.vectors(p) * W : 0;
      const typename Weights::Panel panel = any ? weights_[d].hidden_panel(p, w.weights) : nullptr;
      const A* sums = any || !kProduct ? w.recurrent : weights_[d].hidden_bias(p);  // all rows'
      for (int64_t r = 0; r < active; r += kGroupRows) {
        const int64_t count = active - r < kGroupRows ? active - r : kGroupRows;
        if (any) weights_[d].hidden(p, panel, fed + r, count, w.recurrent, width);
        apply(d, n + r, rows.begin + r, count, p, gates + r * ld + column - origin, ld, sums, width,
              w);
      }
    }
    for (int64_t b = 0; b < active; ++b) {
      w.h[b] = w.out[b];
      if (kFed > 0) w.fed[b] = saved_.carried(d, n + b, kFed);
    }
  }

  void apply(int d, int64_t n, int64_t b, int64_t count, int64_t p, const A* x, int64_t x_ld,
             const A* r, int64_t r_ld, Scratch& w) {
    if (!s_.dir[d].saved) {
      cells<kNothing>(d, n, b, count, p, x, x_ld, r, r_ld, w);
    } else if (s_.partial) {
      cells<kPartial>(d, n, b, count, p, x, x_ld, r, r_ld, w);
    } else {
      cells<kAll>(d, n, b, count, p, x, x_ld, r, r_ld, w);
    }
  }

  // The cell on the units of panel p, for `count` rows of a step from row index n, batch row b on.
  template <int kSave>
  [[gnu::noinline]] void cells(int d, int64_t n, int64_t b, int64_t count, int64_t p, const A* x,
                               int64_t x_ld, const A* r, int64_t r_ld, Scratch& w) {
    using V = Vec<A>;
    const int nu = panels_.registers(p);
    // Locals: what is stored below could alias the members that these come from.
    const int64_t H = s_.H, end = panels_.end(p);
    const T* const* h = w.h_in + (b - w.rows.begin);
    T* const* out = w.out + (b - w.rows.begin);
    const ExtraSlots<Cell, T> slots(s_, d, w.extra + (E > 0 ? b - w.rows.begin : 0));
    const bool* resets = s_.resets ? s_.resets + n : nullptr;
    const A* zeros = w.zeros;
    A* state[S];
    for (int k = kFirstCarried; k < S; ++k) state[k] = carried(d, k, b, w);
    T* saved = kSave == kNothing ? nullptr : saved_.row(d, n);
    const int64_t saved_ld = kSave == kNothing ? 0 : saved_.row(d, n + 1) - saved;
    const int values = saved_.values();
    for (int v = 0; v < nu; ++v) {
      const int64_t j = panels_.unit(p) + v * W, left = end - j;
      V learned[params<Cell> + 1];
      load_params<Cell, T>(s_.dir[d].params, H, j, learned);
      for (int64_t i = 0; i < count; ++i) {
        V xs[G], rs[R + 1], prev[S], next[S], keep[K + 1], es[E + 1];
        for (int g = 0; g < G; ++g) xs[g] = V::load(x + i * x_ld + (g * nu + v) * W);
        for (int g = 0; g < R; ++g) rs[g] = V::load(r + i * r_ld + (g * nu + v) * W);
        if constexpr (E > 0) slots.load(i, j, left, es);
        if (!kRounded && !projects<Cell>) prev[0] = read(h[i] + j, left);
        for (int k = kFirstCarried; k < S; ++k) {
          prev[k] = V::load((resets && resets[i] ? zeros : state[k] + i * H) + j, left);
        }
        cell_forward<Cell>(xs, rs, prev, learned, es, next, keep);
        write(next[0], out[i] + j, left);
        for (int k = kFirstCarried; k < S; ++k) next[k].store(state[k] + i * H + j, left);
        if (kSave == kNothing) continue;
        T* to = saved + i * saved_ld + j;
        for (int k = 1; k < S; ++k) write(next[k], to + (values + k - 1) * H, left);
        if (kSave == kPartial && kept_gate<Cell> >= 0) write(keep[kept_gate<Cell>], to, left);
        for (int k = 0; kSave == kAll && k < K; ++k) write(keep[k], to + k * H, left);
      }
    }
  }

  const ScanParams& s_;
  const Rows<T> rows_;
  const Saved<Cell, T> saved_;
  const Units panels_, hidden_panels_;  // of W_ih and of W_hh: the same units
  const int64_t most_;                  // batch rows that a thread walks through time together
  Arena arena_;
  Projection<Cell, T> projection_;
  int64_t block_rows_ = 0;
  Weights weights_[2];
  Scratch* scratch_ = nullptr;
  Barrier halves_[2];  // of the directions' threads
  Interruption interruption_;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
