// The persistent scan: a group of blocks owns all units of some batch rows, a block some of the
// units, and keeps their recurrent weights on the chip for all T steps. A step is
//   wait until the operand that all blocks of the group published is here,
//   multiply (product.cuh): partial sums in shared memory,
//   the cell (step.cuh), a thread two neighbouring units of a batch row, and publish.
// What a step reads from device memory is loaded a step ahead.
#pragma once
#include "exchange.cuh"
#include "product.cuh"

namespace fastrnn {
namespace cuda {

// Pairs of units a thread owns: as many as its registers can load ahead for.
template <class Step>
constexpr int pairs_per_thread() {
  return Step::kLoads <= 4 ? 2 : 1;
}

template <class Step, class Product, class Exchange>
class ResidentScan {
 public:
  FASTRNN_DEVICE ResidentScan(const Resident& r, unsigned char* shared)
      : s_(r.scan),
        p_(r.plan),
        d_(int(blockIdx.y)),
        first_(int(blockIdx.x) % r.plan.blocks * r.plan.units),
        exchange_(r.plan, shared, r.workspace, int(blockIdx.x) / r.plan.blocks + d_ * r.plan.groups,
                  Step::kIn),
        partial_(reinterpret_cast<float*>(shared + sums_offset(r.plan))),
        share_(int(threadIdx.x) / 32 / r.plan.row_warps * r.plan.rows * r.plan.sums_row) {
    const auto* w = static_cast<const T*>(s_.w_hh) + int64_t(d_) * Step::G * s_.H * s_.H;
    product_.load({w, p_, s_.H, first_}, shared + sums_offset(p_) + sums_bytes(p_));
    uint32_t* zeros =
        reinterpret_cast<uint32_t*>(shared + kHeader);  // columns past the units stay zero
    const int count = int(operands_bytes(p_) / 4);
    for (int i = int(threadIdx.x); i < count; i += int(blockDim.x)) zeros[i] = 0;
    exchange_.start();
  }

  FASTRNN_DEVICE void run() {
    uint32_t tick = 0;
    const int stride = p_.groups * p_.rows;
    for (int b = int(blockIdx.x) / p_.blocks * p_.rows; b < s_.B; b += stride) {
      tick = walk(b, s_.B - b < p_.rows ? s_.B - b : p_.rows, tick);
      __syncthreads();  // a thread with no row in the next tile may still read this one's sums
    }
  }

 private:
  using T = typename Step::T;
  using Loaded = typename Step::Loaded;
  static constexpr int kPairs = pairs_per_thread<Step>();
  static constexpr int kSums = Step::kSums, kIn = Step::kIn, kCarried = Step::kCarried;
  // Stores come after publishing, which is all that other blocks wait for. Exact float32 has no
  // registers left to keep the values until then.
  static constexpr bool kStoreLast = sizeof(T) == 2 || Product::kTf32;

  struct Element {  // two neighbouring units of a batch row
    int row, unit;  // in the group's rows, the block's units
    int64_t length;
    float carry[2][kCarried];
  };
  struct Ahead {  // what an element needs at the coming step
    Loaded loaded;
    bool active, reset;
  };
  struct Steps {  // the walk, and where the rows of its coming steps lie
    int64_t count, step, offset, second, third;
  };

  FASTRNN_DEVICE bool owned(const Element& e, int i) const {
    return e.row >= 0 && first_ + e.unit + i < s_.H;
  }

  // The steps of batch rows [b, b + rows). Returns the next free tick.
  FASTRNN_DEVICE uint32_t walk(int b, int rows, uint32_t tick) {
    const int64_t count = length(s_, b);  // of the longest row
    const int64_t products = count + (Step::kBackward && count > 0);
    Steps at{count, 0, offset(0, count), offset(1, count), offset(2, count)};
    Element e[kPairs];
    Ahead ahead[kPairs];
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      begin(e[i], i, b, rows, tick, products > 0);
      fetch(ahead[i], e[i], b, at);
    }
    while (at.step < products) {
      multiply(tick++, rows);
#pragma unroll
      for (int i = 0; i < kPairs; ++i) {
        if (e[i].row >= 0 && at.step < count) {
          advance(e[i], ahead[i], b, at, tick, at.step + 1 < products);
        } else if (e[i].row >= 0) {
          finish(e[i], b, true);
        }
      }
      ++at.step;
      at.offset = at.second, at.second = at.third, at.third = offset(at.step + 2, count);
#pragma unroll
      for (int i = 0; i < kPairs; ++i) fetch(ahead[i], e[i], b, at);
    }
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      if (e[i].row >= 0 && products == count) finish(e[i], b, false);
    }
    return tick;
  }

  FASTRNN_DEVICE int64_t time(int64_t step, int64_t steps) const {
    return time_of(s_, d_, Step::kBackward, step, steps);
  }

  FASTRNN_DEVICE int64_t offset(int64_t step, int64_t steps) const {
    return step < steps ? row_offset(s_, time(step, steps)) : 0;
  }

  FASTRNN_DEVICE void multiply(uint32_t tick, int rows) {
    exchange_.wait(tick, rows);
    const int warp = int(threadIdx.x) / 32;
    if (warp < p_.row_warps * p_.column_warps) {
      product_.run(p_, exchange_.operand(tick), partial_ + share_);
    }
    __syncthreads();
  }

  FASTRNN_DEVICE void begin(Element& e, int i, int b, int rows, uint32_t tick, bool publish) {
    const int pair = int(threadIdx.x) + i * int(blockDim.x), half = p_.units / 2;
    e.row = pair / half < rows ? pair / half : -1;
    e.unit = pair % half * 2;
    if (e.row < 0) return;
    e.length = length(s_, b + e.row);
    float published[2][kIn] = {};
    for (int h = 0; h < 2; ++h) {
      for (int k = 0; k < kCarried; ++k) e.carry[h][k] = 0.f;
      if (owned(e, h)) {
        Step::begin(s_, d_, b + e.row, first_ + e.unit + h, e.carry[h], published[h]);
      }
    }
    if (publish) give(e, tick, published);
  }

  // Loads what the coming step needs.
  FASTRNN_DEVICE void fetch(Ahead& a, const Element& e, int b, const Steps& at) {
    a.active = e.row >= 0 && at.step < at.count && time(at.step, at.count) < e.length;
    if (!a.active) return;
    a.reset = s_.resets && s_.resets[at.offset + b + e.row];
    if (!owned(e, 0)) return;
    a.loaded = Step::load(s_, place(a, e, b, at, 0), owned(e, 1) ? 2 : 1, s_.H % 2 == 0);
  }

  FASTRNN_DEVICE Place place(const Ahead& a, const Element& e, int b, const Steps& at,
                             int h) const {
    const int64_t before = time(at.step + 1, at.count);  // in scan order, for a backward walk
    const bool first = !Step::kBackward || before < 0 || before >= e.length;
    const int64_t row = b + e.row;
    return {d_,     int(row), first_ + e.unit + h, at.offset + row, first ? -1 : at.second + row,
            a.reset};
  }

  // The sums of both units, over all shares of the columns.
  FASTRNN_DEVICE void gather(const Element& e, float (&sums)[2][kSums]) const {
    const float* from = partial_ + e.row * p_.sums_row + e.unit;
    for (int k = 0; k < kSums; ++k) sums[0][k] = sums[1][k] = 0.f;
#pragma unroll 2
    for (int share = 0; share < p_.column_warps; ++share, from += p_.rows * p_.sums_row) {
#pragma unroll
      for (int k = 0; k < kSums; ++k) {
        const float2 more = *reinterpret_cast<const float2*>(from + k * p_.units);
        sums[0][k] += more.x, sums[1][k] += more.y;
      }
    }
  }

  FASTRNN_DEVICE void advance(Element& e, const Ahead& a, int b, const Steps& at, uint32_t tick,
                              bool publish) {
    float sums[2][kSums], published[2][kIn] = {};
    typename Step::Stored stored[2];
    gather(e, sums);
    for (int h = 0; h < 2; ++h) {
      if (!owned(e, h)) continue;
      if (a.active) {
        Step::run(s_, place(a, e, b, at, h), a.loaded, h, sums[h], e.carry[h], published[h],
                  stored[h]);
        if (!kStoreLast) Step::store(s_, place(a, e, b, at, h), stored[h]);
      } else {
        Step::idle(time(at.step, at.count) == e.length, sums[h], e.carry[h], published[h]);
      }
    }
    if (publish) give(e, tick, published);
    for (int h = 0; h < 2 && kStoreLast; ++h) {
      if (a.active && owned(e, h)) Step::store(s_, place(a, e, b, at, h), stored[h]);
    }
  }

  FASTRNN_DEVICE void give(const Element& e, uint32_t tick, const float (&published)[2][kIn]) {
    for (int part = 0; part < kIn; ++part) {
      exchange_.publish(tick, e.row, part, first_ + e.unit,
                        Pair<T>::of(published[0][part], published[1][part], Product::kTf32));
    }
  }

  FASTRNN_DEVICE void finish(const Element& e, int b, bool with_sums) {
    float sums[2][kSums] = {};
    if (with_sums) gather(e, sums);
    for (int h = 0; h < 2; ++h) {
      if (owned(e, h)) {
        Step::finish(s_, d_, b + e.row, first_ + e.unit + h, sums[h], e.carry[h]);
      }
    }
  }

  const Scan& s_;
  const Plan& p_;
  const int d_, first_;  // direction; the block's first unit
  Exchange exchange_;
  Product product_;
  float* partial_;  // [column_warps][rows][sums_row]
  int share_;       // where this warp's share of them begins: no division in a step
};

template <class Step, class Product, class Exchange>
__global__ void __launch_bounds__(kMaxThreads, 1)
    scan_resident(const __grid_constant__ Resident resident) {
  ResidentScan<Step, Product, Exchange>(resident, shared_memory<unsigned char>()).run();
}

}  // namespace cuda
}  // namespace fastrnn
