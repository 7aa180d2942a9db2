// One block, a thread a unit; h crosses threads in shared memory.
#pragma once
#include "bugs.h"

namespace fastrnn {
namespace cuda {

__global__ void block_kernel(const __grid_constant__ Params p) {
  const int n = int(blockDim.x), j = int(threadIdx.x);
  float* h = shared_memory<float>();  // [2][n]
  h[j] = 0;
  if (p.bug == Bug::past_end && j == 0) h[2 * n] = 0;
  __syncthreads();
  for (int t = 0; t < p.steps; ++t) {
    float* now = h + (p.bug == Bug::one_slot ? 0 : (t & 1) * n);
    float* next = h + (p.bug == Bug::one_slot ? 0 : (~t & 1) * n);
    if (p.bug == Bug::early_exit && t == 2 && j >= 40) return;
    p.out[t * n + j] = next[j] = mix(now, j, 33, n, p.x[t * n + j]);
    if (p.bug == Bug::half_shuffle && j % 32 < 16) __shfl_xor_sync(~0u, t, 1);
    if (p.bug == Bug::no_barrier || (p.bug == Bug::skipped_barrier && t == 1 && j < 32)) continue;
    if (p.bug == Bug::divergent && j < 32)
      __syncthreads();
    else
      __syncthreads();
  }
}

}  // namespace cuda
}  // namespace fastrnn
