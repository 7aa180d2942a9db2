// The backward engine: the steps of the forward engine in opposite order. Each step first gathers
// dL/dh from the output, from the step after it (its gate gradients times W_hh, fused into the same
// tile loop) and from what the cell passes on directly; then runs the cell's backward. Before a
// block of steps comes the recomputing of what forward did not save; after it, while its gate
// gradients are in cache, the input and the weight gradients.
#pragma once
#include "backward_worker.h"
#include "block_grad.h"
#include "cell_params.h"
#include "cpu/threads/interruption.h"
#include "cpu/threads/team.h"
#include "heads.h"
#include "param_grad.h"
#include "projection_grad.h"
#include "recompute.h"
#include "shares.h"
#include "state_grad.h"

namespace fastrnn {
namespace FASTRNN_ISA {

template <class Cell, class T>
class Backward {
 public:
  static int64_t workspace(const ScanParams& s) { return Backward(s, nullptr).arena_.used(); }

  static bool run(const ScanParams& s) {
    Backward self(s, s.workspace);
    *s.waited = Team<Backward>::run(s.parallel, s.threads, self);
    return !self.interruption_.stopped();
  }

  void operator()(int rank, int size, Barrier& barrier) {
    const int64_t chunks = (s_.B + block_rows_ - 1) / block_rows_;
    for (int d = 0; d < s_.directions; ++d) {
      const T* w_hh = static_cast<const T*>(s_.dir[d].w_hh);
      if (kProduct) w_hh_.set(w_hh, rank, size, lent_ ? s_.dir[d].d_w_hh : nullptr);
      block_grad_.set(d, rank, size);
      recompute_.set(d, rank, size);
      projection_.set(d, rank, size);
      barrier.wait(size);
      for (int64_t i = 0; i < chunks; ++i) {
        const Range rows = part(s_.B, i, chunks);
        const bool units =
            share_units(s_.B, panels_.count(), step_bytes(s_, recurrent<Cell>, sizeof(T)), size);
        const Range mine = units ? rows : row_part_of(s_, rows, rank, size);
        const int parts = units ? size : 1, place = units ? rank : 0;
        const Range panels = unit_share(panels_, place, parts);
        const Range hidden = unit_share(w_hh_.panels, place, parts);
        Worker w{s_.dir[d], d,      rank,   size,           barrier, rows,
                 mine,      panels, hidden, scratch_[rank], units};
        if (!walk(w)) return;
      }
    }
  }

 private:
  friend BackwardParts<Cell, T>;
  static constexpr int G = Cell::kGates, S = Cell::kStates, K = Cell::kSaved, P = params<Cell>;
  static constexpr int R = recurrent<Cell>, E = extra<Cell>, L = late<Cell>;
  static constexpr bool kProduct = R > 0, kHeads = heads<Cell>;
  static constexpr int kFed = feeds<Cell>;  // the state that the product multiplies
  using A = Sum<T>;
  static constexpr int W = Vec<A>::W;
  static constexpr int kFirst = projects<Cell>;  // of the states that the cell looks at
  static constexpr int64_t kDirectSteps = 2;     // up to here packing weights does not pay

  using Scratch = BackwardScratch<Cell, T>;
  using Worker = BackwardWorker<Cell, T>;

  Backward(const ScanParams& s, void* memory)
      : s_(s),
        rows_{s},
        saved_{s},
        arena_(memory),
        block_rows_(block_rows<T>(s, G)),
        ld_(WeightGrad<T>::row_length(G * s.H)),
        ld_r_(WeightGrad<T>::row_length(hidden_slots<Cell> * s.H)),
        several_(s.T * s.B > block_rows_),
        lent_(s.T > kDirectSteps && !several_ && s.dir[0].d_w_hh &&
              Matrix<T>::whole((R - L) * s.H / s.heads, s.P / s.heads)),
        w_hh_(recurrent_matrix<Cell, T>(
            arena_, s, s.T > kDirectSteps ? Packing::kWhole : Packing::kInPlace, lent_)),
        panels_(unit_panels<Cell, A>(s, 1)),
        block_grad_(arena_, s,
                    {G * s.H, R * s.H, kFed, saved_.place(kFed), saved_.width(), L * s.H, K - 1},
                    block_rows_, several_, kDirectSteps),
        param_grad_(arena_, s, block_rows_, several_),
        recompute_(arena_, s, block_rows_),
        projection_(arena_, s, block_rows_, s.B < block_rows_ ? s.B : block_rows_, several_,
                    s.T > kDirectSteps ? Packing::kWhole : Packing::kInPlace),
        interruption_(s.interrupted) {
    const int64_t gates = (G > R ? G : R) * s.H;
    const int64_t chunk = s.B < block_rows_ ? s.B : block_rows_;
    zeros_ = arena_.take<T>(gates);
    if (memory) memset(zeros_, 0, gates * sizeof(T));
    for (int k = 0; k < S; ++k) carry_[k] = arena_.take<A>(chunk * s.H);
    last_ = arena_.take<T>(chunk * R * s.H);
    d_x_ = arena_.take<T>(block_rows_ * ld_);
    d_r_ = Cell::kSplit || kHeads ? arena_.take<T>(block_rows_ * ld_r_) : d_x_;
    values_ = {d_x_, d_r_, nullptr, ld_, ld_r_, s.H};
    if (recompute_.wanted()) values_.more = arena_.take<T>(block_rows_ * values_.kMore * s.H);
    scratch_ = arena_.take<Scratch>(s.threads);
    for (int i = 0; i < s.threads; ++i) {
      Scratch w{arena_.take<A>(kGroupRows * kMaxVectors * W),
                arena_.take<const T*>(chunk),
                arena_.take<ExtraRow<Cell, T>>(E > 0 ? chunk : 0),
                {arena_, s, panels_}};
      if (memory) scratch_[i] = w;
    }
  }

  // False where the call ends early.
  bool walk(Worker& w) {
    begin(w);
    int64_t step = 0;
    do {
      int64_t first = step, count = 0;
      for (; step < s_.T; ++step) {
        const int64_t active = rows_.active(rows_.time_backward(w.d, step), w.rows);
        if (count > 0 && count + active > block_rows_) break;
        count += active;
      }
      const BlockRows block{w.d, first, step, count, w.rows};
      if constexpr (!in_parts<Cell>) {
        if (recompute_.wanted()) {
          recompute_.run(block, values_, zeros_, w.rank, w.size);
          w.barrier.wait(w.size);
        }
      }
      for (int64_t i = first, at = 0; i < step; ++i) {  // at: row of the block, the step's first
        const int64_t t = rows_.time_backward(w.d, i);
        param_grad_.begin(w, i - first, rows_.active(t, w.rows), panels_.units(w.units));
        if constexpr (in_parts<Cell>) {
          BackwardParts<Cell, T>::step(*this, w, t, at, {w.units, i});
        } else {
          time_step(w, t, at, {w.units, i});
        }
        at += rows_.active(t, w.rows);
        if (w.by_units && units_meet<Cell>(s_, w.size)) w.barrier.wait(w.size);
      }
      if (step == s_.T) finish(w);
      w.barrier.wait(w.size);
      const bool start = first == 0 && w.rows.begin == 0;
      const bool end = step == s_.T && w.rows.end == s_.B;
      const Block<T> all{block, d_x_, d_r_, start, end};
      block_grad_.run(all, zeros_, w.scratch.tile, w.rank, w.size, w.barrier);
      projection_.add(all, w.rank, w.size, w.barrier);
      param_grad_.finish(w.slots, w.dir.d_params, start, end, w.rank, w.size);
      if (kProduct) w.keep_last(zeros_, last_, int64_t(R) * s_.H);
      if (interruption_.agreed(w.rank, w.size, w.barrier)) return false;
    } while (step < s_.T);
    return true;
  }

  A* carry(const Worker& w, int k, int64_t b) const {
    return carry_[k] + (b - w.rows.begin) * s_.H;
  }

  void begin(Worker& w) {
    const Range u = panels_.units(w.units);
    projection_.begin(w.d, w.mine, w.rows.begin, w_hh_.panels.units(w.hidden), zeros_);
    ExtraSlots<Cell, T>(s_, w.d, w.scratch.extra).begin(w.mine);
    for (int64_t b = w.mine.begin; b < w.mine.end; ++b) {
      w.scratch.next[b - w.rows.begin] = zeros_;
      for (int k = 0; k < S; ++k) {
        const void* given = k == 0 && projection_.wanted() ? nullptr : w.dir.d_state_n[k];
        copy(given ? rows_.state(given, k, b) : zeros_, carry(w, k, b), u);
      }
    }
  }

  void time_step(Worker& w, int64_t t, int64_t at, Sweep sweep) {
    const int64_t active = rows_.active(t, w.mine), n = s_.row(t) + w.mine.begin;
    const int64_t local = w.mine.begin - w.rows.begin;
    const T** next = w.scratch.next + local;
    bool any = false;
    for (int64_t b = 0; kProduct && b < active; ++b) any |= next[b] != zeros_;
    const ExtraSlots<Cell, T> slots(s_, w.d, w.scratch.extra);
    slots.enter(t, {w.mine.begin, w.mine.begin + active});
    const auto* matrix = &w_hh_;
    const T* const* rows = next;  // dL/dh of this step comes from matrix times these
    const bool projected = projection_.wanted();
    if constexpr (projects<Cell>)
      if (projected) {
        projection_.gather(w_hh_, w.hidden, w.d, t, w.mine.begin, active, at + local, w.rows.begin,
                           any ? next : nullptr, zeros_, w.scratch.tile, w.rank);
        if (w.by_units) w.barrier.wait(w.size);
        matrix = &projection_.matrix(), rows = projection_.rows(at + local, active, w.rank);
        any = true;
      }
    for (int64_t u = 0; u < sweep.count(); ++u) {
      const int64_t p = sweep.at(u);
      const Lane<T>* panel = any ? matrix->panel(p, w.rank) : nullptr;
      for (int64_t r = 0; r < active; r += kGroupRows) {
        const int64_t count = active - r < kGroupRows ? active - r : kGroupRows;
        if (any) {
          matrix->multiply(p, panel, rows + r, count, w.scratch.tile);
        } else if (kProduct) {
          memset(w.scratch.tile, 0, count * panels_.vectors(p) * W * sizeof(A));
        }
        for (int64_t i = r; i < r + count; ++i) {
          cell(w, slots, t, w.mine.begin + i, n + i, at + local + i, p,
               projected ? zeros_ : rows_.d_output(w.d, t, w.mine.begin + i, zeros_),
               w.scratch.tile + (i - r) * panels_.vectors(p) * W);
        }
      }
    }
    for (int64_t b = 0; kProduct && b < active; ++b) {
      next[b] = s_.resets && s_.resets[n + b] ? zeros_ : d_r_ + (at + local + b) * ld_r_;
    }
  }

  // The cell's backward at (t, b) on the units of panel p. n: its row; at: its row of the block.
  FASTRNN_INLINE void cell(Worker& w, const ExtraSlots<Cell, T>& slots, int64_t t, int64_t b,
                           int64_t n, int64_t at, int64_t p, const T* d_out, const A* recurrent) {
    using V = Vec<A>;
    const T *keep[K + 1], *before[S] = {}, *after[S];
    for (int k = 0; k < K; ++k) {
      keep[k] = recompute_.wanted() ? values_.row(at, k) : saved_.row(w.d, n) + k * s_.H;
    }
    for (int k = kFirst; k < S; ++k) {
      before[k] = saved_.before(w.d, t, b, k, zeros_);
      after[k] = k == 0 ? rows_.output(w.d, t, b) : saved_.carried(w.d, n, k);
    }
    T *d_x = d_x_ + at * ld_, *d_r = d_r_ + at * ld_r_ + dr_first<Cell>(panels_, p);
    T* d_extra = E > 0 && w.dir.d_extra ? rows_.d_extra(w.d, t, b, E * s_.H) : nullptr;
    const int64_t next_gate = dr_next_gate(panels_), end = panels_.end(p);
    const bool reset = s_.resets && s_.resets[n];
    for (int v = 0; v < panels_.registers(p); ++v) {
      const int64_t j = panels_.unit(p) + v * W, left = end - j;
      V kept[K + 1], prev[S], next[S], d[S], dx[G], dr[hidden_slots<Cell>];
      V learned[P + 1], dp[P + 1], es[E + 1], de[E + 1];
      for (int k = 0; k < K; ++k) kept[k] = read(keep[k] + j, left);
      for (int k = 0; k < S; ++k) d[k] = V::load(carry(w, k, b) + j, left);
      for (int k = kFirst; k < S; ++k) {
        prev[k] = read(before[k] + j, left);
        next[k] = read(after[k] + j, left);
      }
      d[0] = d[0] + read(d_out + j, left);
      if (kProduct) d[kFed] = d[kFed] + V::load(recurrent + v * W);
      load_params<Cell, T>(w.dir.params, s_.H, j, learned);
      if constexpr (E > 0) slots.load(b - w.mine.begin, j, left, es);
      cell_backward<Cell>(kept, prev, next, learned, es, d, dx, dr, dp, de);
      param_grad_.add(w.slots.begin + b - w.rows.begin, j, left, dp);
      for (int k = 0; k < S; ++k) (reset ? V(A(0)) : d[k]).store(carry(w, k, b) + j, left);
      for (int g = 0; g < G; ++g) write(dx[g], d_x + g * s_.H + j, left);
      for (int g = 0; (Cell::kSplit || kHeads) && g < R; ++g) {
        write(Cell::kSplit ? dr[g] : dx[g], d_r + g * next_gate + j, left);
      }
      for (int k = 0; k < E && d_extra; ++k) write(de[k], d_extra + k * s_.H + j, left);
    }
  }

  // The initial states' gradients.
  void finish(Worker& w) {
    if (!w.dir.d_state0[0]) return;
    const Range u = panels_.units(w.units);
    const int64_t local = w.mine.begin - w.rows.begin;
    if (kProduct) {
      const A* passed =
          projection_.wanted() ? projection_.carry(local) : carry_[kFed] + local * s_.H;
      HiddenStateGrad<T, RecurrentMatrix<Cell, T>>{s_, w_hh_}.run(
          w.mine, w.hidden, w.scratch.next + local, passed, w.dir.d_state0[kFed], w.rank,
          w.scratch.tile);
    }
    for (int64_t b = w.mine.begin; b < w.mine.end; ++b) {
      for (int k = 0; k < S; ++k) {
        if (kProduct && k == kFed) continue;
        copy(carry(w, k, b), rows_.state(w.dir.d_state0[k], k, b), u);
      }
    }
  }

  const ScanParams& s_;
  const Rows<T> rows_;
  const Saved<Cell, T> saved_;
  Arena arena_;
  const int64_t block_rows_, ld_,
      ld_r_;            // rows of a block, at most; from one row of gate gradients to the next
  const bool several_;  // may a direction have more blocks than one?
  const bool lent_;     // is W_hh packed where its gradient, written after its last use, will be?
  RecurrentMatrix<Cell, T> w_hh_;
  const UnitPanels<Cell, A> panels_;  // of units
  BlockGrad<T> block_grad_;
  ParamGrad<Cell, T> param_grad_;
  Recompute<Cell, T> recompute_;
  ProjectionGrad<Cell, T> projection_;
  Interruption interruption_;
  T* zeros_;       // [G*H] or [R*H]
  A* carry_[S];    // dL/dstate passed on directly [chunk, H]
  T* last_;        // gate gradients kept from the block before [chunk, R*H]
  T *d_x_, *d_r_;  // gate gradients of the block [rows, ld]: dL/dx and dL/dr
  BlockValues<Cell, T> values_;
  Scratch* scratch_;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
