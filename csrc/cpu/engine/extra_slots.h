// The extra slots of a row at a step: those that the caller brings, or masks that are drawn here
// (cpu/draws.h), in forward and again in backward, so that nobody keeps them. A step's keys are
// made once for a row; each register of units then costs a hash for two masks.
#pragma once
#include "cells/traits.h"
#include "cpu/draws.h"
#include "rows.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// What a row's slots come from, at one step.
template <class Cell, class T>
struct ExtraRow {
  const T* given;                                       // [E*H]
  uint32_t keys[extra<Cell> > 0 ? extra<Cell> : 1][2];  // of masks: of each one's word
};

// As many 32-bit words as a register has numbers.
template <class A>
struct UnitWords;
template <>
struct UnitWords<float> {
  typedef uint32_t U __attribute__((vector_size(kVectorBytes)));
  typedef int32_t I __attribute__((vector_size(kVectorBytes)));
};
template <>
struct UnitWords<double> {
  typedef uint32_t U __attribute__((vector_size(kVectorBytes / 2)));
  typedef int32_t I __attribute__((vector_size(kVectorBytes / 2)));
};

// The slots of some neighbouring batch rows: `rows` has room for each.
template <class Cell, class T>
class ExtraSlots {
 public:
  using Row = ExtraRow<Cell, T>;
  using A = Sum<T>;
  static constexpr int E = extra<Cell>, W = Vec<A>::W;

  FASTRNN_INLINE ExtraSlots(const ScanParams& s, int d, Row* rows)
      : s_(s), d_(d), rows_(rows), draws_(s.dir[d].draws) {
    for (int k = 0; k < E && draws_; ++k) {
      const DrawnMask& mask = draws_->mask[k];
      mask_[k] = {A(mask.below), A(mask.other), int32_t(mask.bound), shares(k)};
    }
  }

  // The rows before their first step: the keys of masks that are the same in every step.
  void begin(Range batch) const {
    for (int64_t b = batch.begin; E > 0 && draws_ && b < batch.end; ++b) {
      keys(kEveryStep, b, rows_[b - batch.begin]);
    }
  }
  // The rows at time t.
  void enter(int64_t t, Range batch) const {
    for (int64_t b = batch.begin; E > 0 && b < batch.end; ++b) {
      Row& row = rows_[b - batch.begin];
      if (draws_) {
        keys(uint64_t(t), b, row);
      } else {
        row.given = Rows<T>{s_}.extra(d_, t, b);
      }
    }
  }
  // e = the register from unit j on of each slot of row i; left: units from j on.
  FASTRNN_INLINE void load(int64_t i, int64_t j, int64_t left, Vec<A>* e) const {
    if (draws_) return draw(rows_[i], j, e);
    for (int k = 0; k < E; ++k) e[k] = read(rows_[i].given + k * s_.H + j, left);
  }

 private:
  struct Mask {  // as in Draws
    A below, other;
    int32_t bound;
    bool shared;
  };
  using Units = typename UnitWords<A>::U;
  using Hits = typename UnitWords<A>::I;

  void keys(uint64_t time, int64_t b, Row& row) const {
    const int64_t own = s_.order ? s_.order[b] : b;
    const uint32_t id = draws_->rows ? draws_->rows[own] : uint32_t(own);
    for (int k = 0; k < E; ++k) {
      if (draws_->mask[k].each_step == (time == kEveryStep)) continue;
      if (shares(k)) {
        memcpy(row.keys[k], row.keys[k - 1], sizeof row.keys[k]);
      } else {
        draw_key(*draws_, time, id, k / 2, row.keys[k]);
      }
    }
  }
  // Is mask k the upper half of the very word whose lower half is the one before?
  FASTRNN_INLINE bool shares(int k) const {
    return k % 2 == 1 && draws_->mask[k].each_step == draws_->mask[k - 1].each_step;
  }

  FASTRNN_INLINE void draw(const Row& row, int64_t j, Vec<A>* e) const {
    using V = Vec<A>;
    Units units, word{};
    for (int i = 0; i < W; ++i) units[i] = uint32_t(i);
    units += uint32_t(j);
#pragma GCC unroll 16
    for (int k = 0; k < E; ++k) {
      const Mask& mask = mask_[k];
      if (!mask.shared) word = draw_word(units, row.keys[k]);
      const Hits hits = Hits(k % 2 == 0 ? word & 0xffffu : word >> 16) < mask.bound;
      const auto lanes = __builtin_convertvector(hits, typename V::I);
      e[k] = V(typename V::N(lanes ? V(mask.below).v : V(mask.other).v));
    }
  }

  const ScanParams& s_;
  const int d_;
  Row* const rows_;
  const Draws* const draws_;
  Mask mask_[E + 1];
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
