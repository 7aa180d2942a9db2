// One pass of all cells for one kind of numbers; each <numbers>_<pass>.cu is one such table, so
// that they compile side by side.
#pragma once
#include "cuda/kernels.h"
#include "resident.cuh"
#include "stepwise.cuh"

namespace fastrnn {
namespace cuda {

struct Fma {};   // exact float32
struct None {};  // no resident kernels

constexpr int at_most(int n, int most) { return n < most ? n : most; }

// Row tiles of a warp: all gates of 16 units, up to four. With one sum a unit, four times 16 units
// in a block or cluster, which then reads its operand a quarter as often; on the grid a block has
// few units.
template <class Step, class Math>
struct Products {
  static constexpr int kNear = at_most(Step::kSums == 1 ? 4 : Step::kSums, 4);
  static constexpr int kFar = at_most(Step::kSums, 4);
  using Near = MmaProduct<Step, Math, kNear, 16>;
  using Far = MmaProduct<Step, Math, kFar, 12>;  // GridExchange needs registers too
};
template <class Step>
struct Products<Step, Fma> {
  using Near = FmaProduct<Step, 32>;
  using Far = FmaProduct<Step, 20>;
};

template <class Step, class Math>
void launch_resident(const Resident& r, void* stream) {
  using Near = typename Products<Step, Math>::Near;
  using Far = typename Products<Step, Math>::Far;
  using T = typename Step::T;
  const Plan& p = r.plan;
  Launch l{dim3(unsigned(p.blocks * p.groups), unsigned(r.scan.D)), p.threads, size_t(p.shared)};
  l.stream = stream;
  if (p.exchange == Exchange::kBlock) {
    launch(&scan_resident<Step, Near, BlockExchange<T>>, l, r);
  } else if (p.exchange == Exchange::kCluster) {
    l.cluster = p.blocks;
    launch(&scan_resident<Step, Near, ClusterExchange<T>>, l, r);
  } else {
    l.cooperative = true;
    launch(&scan_resident<Step, Far, GridExchange<T>>, l, r);
  }
}

template <class Step, class Math>
constexpr PassKernels pass() {
  constexpr bool exact = std::is_same<Math, Fma>::value;
  if constexpr (std::is_same<Math, None>::value) {
    const StepShape shape{Step::kSums, Step::kIn, 1, true, {}, {}, false};
    return {shape, Step::kCarried, Step::kSplit, &launch_step<Step>, nullptr};
  } else {
    using P = Products<Step, Math>;
    const StepShape shape{Step::kSums,   Step::kIn, pairs_per_thread<Step>(), exact, P::Near::kTile,
                          P::Far::kTile, true};
    return {shape, Step::kCarried, Step::kSplit, &launch_step<Step>, &launch_resident<Step, Math>};
  }
}

// The table `name` of Step over the cell list.
#define FASTRNN_PASS(cell, ...) pass<FASTRNN_STEP<__VA_ARGS__, FASTRNN_NUMBERS>, FASTRNN_MATH>(),
#define FASTRNN_PASSES(name) extern const PassKernels name[] = {FASTRNN_CELLS(FASTRNN_PASS)};

}  // namespace cuda
}  // namespace fastrnn
