// What rows leave between the passes of a step, of a cell that looks across the units of a row.
#pragma once
#include "cpu/simd/number.h"
#include "cpu/threads/workspace.h"

namespace fastrnn {
namespace FASTRNN_ISA {

// Of some rows that go through the passes together. What is summed goes through memory, so that
// every sum has the order of the units, whoever computed them.
template <class A, int kTotals, int kRows, int kTemps>
class Between {
 public:
  static constexpr int W = Vec<A>::W;

  Between() = default;
  // most: rows, at most. Panels of 16 units have registers that may lie past H, and the last one of
  // a head may be filled in part.
  Between(Arena& arena, int64_t H, int64_t most) : H_(H), most_(most), ld_((H + 15) / 16 * 16 + W) {
    summed_ = arena.take<A>(kTotals * most * H);
    temps_ = arena.take<A>(kTemps * most * ld_);
    totals_ = arena.take<A>(kTotals * most);
    rows_ = arena.take<A>(kRows * most);
  }

  // The same, but for what is summed, which is where another thread has it.
  Between with_sums_of(const Between& other) const {
    Between shared = *this;
    shared.summed_ = other.summed_;
    return shared;
  }

  // [H]: of each unit of row i what sum k is of.
  FASTRNN_INLINE A* summed(int k, int64_t i) const { return summed_ + (k * most_ + i) * H_; }
  // A register from unit j on of what is left of row i: where the last one of a head is filled in
  // part, what follows is of the next one, who comes later.
  FASTRNN_INLINE A* temp(int k, int64_t i, int64_t j) const {
    return temps_ + (k * most_ + i) * ld_ + j;
  }
  FASTRNN_INLINE A* totals(int64_t i) const { return totals_ + i * kTotals; }  // the sums
  FASTRNN_INLINE A* rows(int64_t i) const { return rows_ + i * kRows; }        // the row values

  // Sum k of row i, once what is summed of all units is there.
  void sum(int k, int64_t i) const {
    Vec<A> sums(A(0));
    const A* from = summed(k, i);
    for (int64_t j = 0; j < H_; j += W) sums = sums + Vec<A>::load(from + j, H_ - j);
    A lanes[W];
    sums.store(lanes);
    for (int half = W / 2; half > 0; half /= 2) {
      for (int l = 0; l < half; ++l) lanes[l] += lanes[l + half];
    }
    totals(i)[k] = lanes[0];
  }

 private:
  int64_t H_ = 0, most_ = 0, ld_ = 0;
  A *summed_ = nullptr, *temps_ = nullptr, *totals_ = nullptr, *rows_ = nullptr;
};

}  // namespace FASTRNN_ISA
}  // namespace fastrnn
