// The scan as one library GEMM and one kernel a step: for sizes whose weights do not fit on the
// chip, for float64, and where the GEMM is compute bound. This is the kernel; host/runs.cpp is the
// loop.
#pragma once
#include "launch.cuh"
#include "step.cuh"

namespace fastrnn {
namespace cuda {

// A thread owns a unit of a batch row of a direction.
template <class Step>
class StepwiseScan {
 public:
  FASTRNN_DEVICE explicit StepwiseScan(const Stepwise& w) : w_(w), s_(w.scan) {
    const int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    d_ = int(blockIdx.y), b_ = int(i / s_.H), u_ = int(i % s_.H);
  }

  FASTRNN_DEVICE void run() {
    if (b_ >= s_.B) return;
    A carry[Step::kCarried], sums[Step::kSums], published[Step::kIn];
    const int64_t line = int64_t(d_) * s_.B + b_;
    A* kept = static_cast<A*>(w_.carry) + (line * s_.H + u_) * Step::kCarried;
    if (w_.step < 0) {
      Step::begin(s_, d_, b_, u_, carry, published);
    } else {
      for (int k = 0; k < Step::kCarried; ++k) carry[k] = kept[k];
      for (int k = 0; k < Step::kSums; ++k) {
        const T* from = static_cast<const T*>(w_.sums) + (line * Step::kSums + k) * s_.H + u_;
        sums[k] = to_float(*from);
      }
      if (w_.step == w_.steps) return Step::finish(s_, d_, b_, u_, sums, carry);
      advance(sums, carry, published);
    }
    for (int k = 0; k < Step::kCarried; ++k) kept[k] = carry[k];
    T* operand = static_cast<T*>(w_.operand) + line * Step::kIn * s_.H + u_;
    for (int i = 0; i < Step::kIn; ++i) operand[int64_t(i) * s_.H] = rounded<T>(published[i]);
  }

 private:
  using T = typename Step::T;
  using A = typename Step::A;

  FASTRNN_DEVICE void advance(const A (&sums)[Step::kSums], A (&carry)[Step::kCarried],
                              A (&published)[Step::kIn]) {
    const int64_t steps = length(s_, b_);
    const int64_t t = time_of(s_, d_, Step::kBackward, w_.step, w_.steps);
    // in scan order, for a backward walk
    const int64_t before = time_of(s_, d_, Step::kBackward, w_.step + 1, w_.steps);
    if (t >= steps) return Step::idle(before > t && t == steps && t > 0, sums, carry, published);
    Place p{d_, b_, u_, row_offset(s_, t) + b_, -1, false};
    if (before >= 0 && before < steps) p.before = row_offset(s_, before) + b_;
    p.reset = s_.resets && s_.resets[p.n];
    typename Step::Stored stored;
    Step::run(s_, p, Step::load(s_, p, 1, false), 0, sums, carry, published, stored);
    Step::store(s_, p, stored);
  }

  const Stepwise& w_;
  const Scan& s_;
  int d_, b_, u_;
};

template <class Step>
__global__ void scan_step(const __grid_constant__ Stepwise stepwise) {
  StepwiseScan<Step>(stepwise).run();
}

template <class Step>
void launch_step(const Stepwise& w, void* stream) {
  constexpr int kThreads = 128;
  const int64_t blocks = (int64_t(w.scan.B) * w.scan.H + kThreads - 1) / kThreads;
  Launch l{dim3(unsigned(blocks), unsigned(w.scan.D)), kThreads, 0};
  l.stream = stream;
  launch(&scan_step<Step>, l, w);
}

}  // namespace cuda
}  // namespace fastrnn
