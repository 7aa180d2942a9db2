// The values a cell saves for backward, computed again for a block of steps. Every state is known
// by then, so the rows of all the block's steps go through the products together, in no order, and
// the values never leave the cache.
#pragma once
#include "cell_params.h"
#include "gate_weights.h"
#include "heads.h"
#include "saved.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Where the K values of a block's rows lie: in the memory of their gate gradients, which are
// written once the values have been read, as far as that has room. (With heads, dL/dr has another
// order, in which one unit's gradients would be written over other units' values.)
template <class Cell, class T>
struct BlockValues {
  static constexpr int kGates = Cell::kGates;
  static constexpr int kRoom = kGates + (Cell::kSplit && !heads<Cell> ? hidden_slots<Cell> : 0);
  static constexpr int kMore = Cell::kSaved > kRoom ? Cell::kSaved - kRoom : 0;
  T *d_x, *d_r, *more;  // [rows, ld], [rows, ld_r], [rows, kMore, H]
  int64_t ld, ld_r, H;

  // [H]: value k of row `at` of the block.
  FASTRNN_INLINE T* row(int64_t at, int k) const {
    if (k < kGates) return d_x + at * ld + k * H;
    if (k < kRoom) return d_r + at * ld_r + (k - kGates) * H;
    return more + (at * kMore + k - kRoom) * H;
  }
};

template <class Cell, class T>
class Recompute {
 public:
  // most: rows of a block, at most.
  Recompute(Arena& arena, const ScanParams& s, int64_t most)
      : s_(s),
        rows_{s},
        saved_{s},
        panels_(unit_panels<Cell, A>(s, Cell::kGates, kKept, most_slots<Cell>)),
        hidden_panels_(unit_panels<Cell, A>(s, hidden_slots<Cell>, kKept, most_slots<Cell>)),
        most_(most) {
    if (!wanted()) return;
    for (int d = 0; d < s.directions; ++d) weights_[d] = {arena, panels_, hidden_panels_, s, d};
    tiles_ = arena.take<A>(s.threads * 2 * kTile);
    scratch_ = Weights::scratch(panels_, hidden_panels_, s);
    packed_ = arena.take<Lane<T>>(s.threads * 2 * scratch_);
    pointers_ = arena.take<const T*>(s.threads * kPointers * most);
    extra_ = arena.take<ExtraRow<Cell, T>>(E > 0 ? s.threads * most : 0);
  }

  bool wanted() const { return s_.partial && !in_parts<Cell>; }

  // Before the first block of a direction; all ranks must meet after it.
  void set(int d, int rank, int size) {
    for (int64_t p = rank; wanted() && p < panels_.count(); p += size) weights_[d].pack(p);
  }

  // All ranks together, for the rows of a block; they must meet before they read the values.
  void run(const BlockRows& block, const BlockValues<Cell, T>& values, const T* zeros, int rank,
           int size) {
    const T** list[kPointers];  // of each row: x, the states before, the kept gate's value
    for (int k = 0; k < kPointers; ++k) list[k] = pointers_ + (rank * kPointers + k) * most_;
    ExtraRow<Cell, T>* given = extra_ + (E > 0 ? rank * most_ : 0);
    rows_.each(block, [&](int64_t at, int64_t t, int64_t b) {
      list[0][at] = rows_.input(t, b);
      for (int k = 0; k < S; ++k) list[1 + k][at] = saved_.before(block.d, t, b, k, zeros);
      list[1 + S][at] = saved_.row(block.d, s_.row(t) + b);
      const ExtraSlots<Cell, T> slots(s_, block.d, given + at);
      slots.begin({b, b + 1});
      slots.enter(t, {b, b + 1});
    });
    const Range mine = part(block.count, rank, size);
    A *x = tiles_ + rank * 2 * kTile, *r = x + kTile;
    Lane<T>* packed = packed_ + rank * 2 * scratch_;
    const Weights& weights = weights_[block.d];
    for (int64_t i = mine.begin; i < mine.end; i += kPassRows) {
      const int64_t end = mine.end - i < kPassRows ? mine.end : i + kPassRows;
      for (int64_t p = 0; p < panels_.count(); ++p) {
        const Lane<T>* w_ih = weights.input_panel(p, packed);
        const Lane<T>* w_hh = kProduct ? weights.hidden_panel(p, packed + scratch_) : nullptr;
        for (int64_t at = i; at < end; at += kGroupRows) {
          const int64_t count = end - at < kGroupRows ? end - at : kGroupRows;
          weights.input(p, w_ih, list[0] + at, count, x, panels_.vectors(p) * W);
          if (kProduct) {
            weights.hidden(p, w_hh, list[1 + kFed] + at, count, r, hidden_panels_.vectors(p) * W);
          }
          cells(p, block.d, at, count, list, given, x, r, values);
        }
      }
    }
  }

 private:
  using A = Sum<T>;
  using Units = UnitPanels<Cell, A>;
  using Weights = GateWeights<T, Units>;
  static constexpr int S = Cell::kStates, K = Cell::kSaved, W = Vec<Sum<T>>::W;
  static constexpr int R = recurrent<Cell>, E = extra<Cell>, kFed = feeds<Cell>;
  static constexpr bool kProduct = R > 0;
  static constexpr int kKept = kept_gate<Cell>, kPointers = 2 + S;
  static constexpr int kFirst = projects<Cell>;  // of the states that the cell looks at
  static constexpr int kSlots = Cell::kGates > R ? Cell::kGates : R;
  static constexpr int kWidest = kSlots > kMaxVectors ? kSlots : kMaxVectors;
  static constexpr int64_t kTile = kGroupRows * kWidest * W;
  static constexpr int64_t kPassRows = 4 * kGroupRows;  // rows that stay in L2 for all panels

  [[gnu::noinline]] void cells(int64_t p, int d, int64_t first, int64_t count,
                               const T** const* list, ExtraRow<Cell, T>* given, const A* x,
                               const A* r, const BlockValues<Cell, T>& values) {
    using V = Vec<A>;
    constexpr int G = Cell::kGates;
    const int nu = panels_.registers(p);
    const ExtraSlots<Cell, T> slots(s_, d, given + first);
    for (int64_t i = 0; i < count; ++i) {
      const A* x_row = x + i * panels_.vectors(p) * W;
      const A* r_row = r + i * hidden_panels_.vectors(p) * W;
      for (int v = 0; v < nu; ++v) {
        const int64_t j = panels_.unit(p) + v * W, left = panels_.end(p) - j;
        V xs[G], rs[R + 1], prev[S], next[S], keep[K + 1], ps[params<Cell> + 1], es[E + 1];
        load_params<Cell, T>(s_.dir[d].params, s_.H, j, ps);
        if constexpr (E > 0) slots.load(i, j, left, es);
        load_slots<G>(x_row + v * W, nu, xs);
        load_slots<R>(r_row + v * W, nu, rs);
        for (int k = kFirst; k < S; ++k) prev[k] = read(list[1 + k][first + i] + j, left);
        cell_forward<Cell>(xs, rs, prev, ps, es, next, keep);
        if (kKept >= 0) keep[kKept] = read(list[1 + S][first + i] + j, left);
        for (int k = 0; k < K; ++k) write(keep[k], values.row(first + i, k) + j, left);
      }
    }
  }

  // The slots of one register of units, zeros for a kept gate, which was not computed again.
  template <int N>
  static FASTRNN_INLINE void load_slots(const A* from, int nu, Vec<A>* to) {
    for (int g = 0, at = 0; g < N; ++g) {
      to[g] = Vec<A>(A(0));
      if (g == kKept) continue;
      to[g] = Vec<A>::load(from + at);
      at += nu * W;
    }
  }

  const ScanParams& s_;
  const Rows<T> rows_;
  const Saved<Cell, T> saved_;
  const Units panels_, hidden_panels_;
  const int64_t most_;
  Weights weights_[2];
  int64_t scratch_ = 0;  // numbers of one panel that a thread packs
  Lane<T>* packed_ = nullptr;
  A* tiles_ = nullptr;
  const T** pointers_ = nullptr;
  ExtraRow<Cell, T>* extra_ = nullptr;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
