// A cluster owns all units, a warp 16 of them for 8 batch rows: h' = x + W h by mma. Each block
// keeps all of h in shared memory; its own units go to all blocks.
#pragma once
#include "bugs.h"

namespace fastrnn {
namespace cuda {

constexpr int kBatch = 8;

// The sums of units row ... row + 15: c[i] is unit row + lane / 4 + 8 (i / 2), batch row
// lane % 4 * 2 + i % 2.
FASTRNN_DEVICE void product(const Params& p, const Bf16* h, int n, int row, float (&c)[4]) {
  const int lane = int(threadIdx.x) % 32, g = lane / 4, column = lane % 4 * 2;
  const auto word = [](const Bf16* from) { return *reinterpret_cast<const uint32_t*>(from); };
  for (int k = column; k < n; k += 16) {
    uint32_t a[4], b[2];
    for (int i = 0; i < 4; ++i) a[i] = word(p.w + (row + g + i % 2 * 8) * n + k + i / 2 * 8);
    for (int i = 0; i < 2; ++i)
      b[i] = word(h + g * n + k + (p.bug == Bug::fragment ? 1 - i : i) * 8);
    mma(c, a, b, Bf16{});
  }
}

constexpr int kMaxRanks = 4;

__global__ void cluster_kernel(const __grid_constant__ Params p) {
  const int warps = int(blockDim.x) / 32, n = int(cluster_size()) * warps * 16;
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  const int row = (int(cluster_rank()) * warps + warp) * 16;
  Bf16* h = shared_memory<Bf16>();  // [2][kBatch][n]
  for (int i = int(threadIdx.x); i < kBatch * n; i += int(blockDim.x)) h[i] = from_float<Bf16>(0);
  Bf16* there[kMaxRanks];  // h of each block
  const unsigned ranks = cluster_size() - (p.bug == Bug::rank_left_out);
  for (unsigned r = 0; r < ranks; ++r) there[r] = cluster_map(h, r + (p.bug == Bug::wrong_rank));
  if (p.bug != Bug::no_start) cluster_arrive();
  if (p.bug == Bug::wait_twice) cluster_wait();
  __syncthreads();
  for (int t = 0; t < p.steps; ++t) {
    const Bf16* now = h + (p.bug == Bug::one_slot ? 0 : t & 1) * kBatch * n;
    const int next = (p.bug == Bug::one_slot ? 0 : ~t & 1) * kBatch * n;
    float c[4] = {0, 0, 0, 0};
    if (p.bug == Bug::read_early) product(p, now, n, row, c);
    if (t || p.bug != Bug::no_start) cluster_wait();
    if (p.bug != Bug::read_early) product(p, now, n, row, c);
    if (p.bug == Bug::store_late) cluster_arrive();
    for (int i = 0; i < 4; ++i) {
      const int unit = row + lane / 4 + i / 2 * 8, batch = lane % 4 * 2 + i % 2;
      const int at = (t * kBatch + batch) * n + unit;
      p.out[at] = c[i] + p.x[at];
      const Bf16 value = from_float<Bf16>(p.out[at]);
      for (unsigned r = 0; r < ranks; ++r) there[r][next + batch * n + unit] = value;
    }
    if (p.bug == Bug::early_exit && t == p.steps - 1) return;
    if (p.bug == Bug::arrive_twice) cluster_arrive();
    if (p.bug != Bug::store_late) cluster_arrive();
  }
  cluster_wait();
}

// The same by counted stores: no barrier but the first, for a block has all of a step's values only
// when every warp of every block has read those of the step before.
__global__ void counting_kernel(const __grid_constant__ Params p) {
  const int warps = int(blockDim.x) / 32, n = int(cluster_size()) * warps * 16;
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  const int row = (int(cluster_rank()) * warps + warp) * 16;
  Bf16* h = shared_memory<Bf16>();                                     // [2][kBatch][n]
  Counter* counters = reinterpret_cast<Counter*>(h + 2 * kBatch * n);  // one a slot
  for (int i = int(threadIdx.x); i < kBatch * n; i += int(blockDim.x)) h[i] = from_float<Bf16>(0);
  if (threadIdx.x < 2) make_counter(counters + threadIdx.x);
  if (p.bug != Bug::no_start) cluster_arrive(), cluster_wait();
  __syncthreads();
  const int bytes = kBatch * n * int(sizeof(Bf16));
  for (int t = 0; t < p.steps; ++t) {
    const int now = p.bug == Bug::one_slot ? 0 : t & 1, next = p.bug == Bug::one_slot ? 0 : ~t & 1;
    const int wrong = p.bug == Bug::too_few_bytes ? -4 : p.bug == Bug::too_many_bytes ? 4 : 0;
    if (t && threadIdx.x == 0) expect_bytes(counters + (t & 1), uint32_t(bytes + wrong));
    if (t) wait_bytes(counters + (t & 1), (t - 1) / 2 % 2 ^ (p.bug == Bug::wrong_parity));
    float c[4] = {0, 0, 0, 0};
    product(p, h + now * kBatch * n, n, row, c);
    __syncwarp();  // a lane stores what its neighbour read for, and shuffles order no memory
    for (int i = 0; i < 4; ++i) {
      const int unit = row + lane / 4 + i / 2 * 8, batch = lane % 4 * 2 + i % 2;
      const int at = (t * kBatch + batch) * n + unit;
      p.out[at] = c[i] + p.x[at];
      // units 2 m and 2 m + 1 are in lanes 4 apart; the even one stores both
      const float other = __shfl_xor_sync(~0u, p.out[at], 4);
      if (unit % 2 || (t + 1 == p.steps && p.bug != Bug::early_exit)) continue;
      uint32_t* mine = reinterpret_cast<uint32_t*>(h + (next * kBatch + batch) * n + unit);
      for (unsigned rank = 0; rank < cluster_size(); ++rank)
        store_async(mine, pack2<Bf16>(p.out[at], other), counters + (~t & 1), rank);
    }
  }
}

}  // namespace cuda
}  // namespace fastrnn
