// Blocks anywhere on the device, all running at once: a thread makes two units, and h crosses
// blocks in global memory as 32-bit values with the step's tag beside each.
#pragma once
#include "bugs.h"

namespace fastrnn {
namespace cuda {

FASTRNN_DEVICE uint64_t tagged(float value, int tag) {
  return uint64_t(tag) << 32 | float_bits(value);
}
FASTRNN_DEVICE bool has_tag(uint64_t word, int tag) { return int(word >> 32) == tag; }

// Publishes the thread's units of step t with tag t + 1.
FASTRNN_DEVICE void publish(const Params& p, int n, int unit, int t, const float (&h)[2]) {
  uint64_t* slot = p.words + (p.bug == Bug::one_slot ? 0 : t & 1) * n;
  const int tag = t + 1;
  const bool flag = p.bug == Bug::flag || p.bug == Bug::plain_data;
  if (p.bug == Bug::unpublished && t == 2 && unit == 70) return;
  if (p.bug == Bug::plain_data)
    for (int i = 0; i < 2; ++i) slot[unit + i] = float_bits(h[i]);
  else
    store_words(slot + unit, {tagged(h[0], flag ? 0 : tag), tagged(h[1], flag ? 0 : tag)});
  if (!flag) return;
  __syncthreads();
  if (threadIdx.x == 0) store_word(p.words + 2 * n + 2 * blockIdx.x, uint64_t(tag));
}

// The words of units unit, unit + 1 as step t published them.
FASTRNN_DEVICE Words2 receive(const Params& p, int n, int unit, int t) {
  const uint64_t* slot = p.words + (p.bug == Bug::one_slot ? 0 : t & 1) * n;
  const int tag = t + 1, owner = unit / int(2 * blockDim.x);
  if (p.bug == Bug::flag || p.bug == Bug::plain_data) {
    while (int(load_words(p.words + 2 * n + 2 * owner).a) < tag) spin_pause();
    if (p.bug == Bug::plain_data) return {slot[unit], slot[unit + 1]};
    return load_words(slot + unit);
  }
  Words2 w = load_words(slot + unit);
  if (p.bug == Bug::no_tag) return w;
  while (!has_tag(w.a, tag) || (!has_tag(w.b, tag) && p.bug != Bug::half_tag)) {
    spin_pause();
    w = load_words(slot + unit);
  }
  return w;
}

__global__ void grid_kernel(const __grid_constant__ Params p) {
  const int n = int(2 * gridDim.x * blockDim.x);
  const int unit = 2 * int(blockIdx.x * blockDim.x + threadIdx.x);
  float* h = shared_memory<float>();  // [n]
  for (int t = 0; t < p.steps; ++t) {
    for (int u = 2 * int(threadIdx.x); u < n; u += int(2 * blockDim.x)) {
      Words2 w = {0, 0};
      if (t) w = receive(p, n, u, t - 1);
      h[u] = bits_float(uint32_t(w.a)), h[u + 1] = bits_float(uint32_t(w.b));
    }
    __syncthreads();
    float next[2];
    for (int i = 0; i < 2; ++i)
      p.out[t * n + unit + i] = next[i] = mix(h, unit + i, 97, n, p.x[t * n + unit + i]);
    if (p.bug == Bug::early_exit && t == 2 && blockIdx.x == 1) return;
    if (p.bug != Bug::no_barrier) __syncthreads();
    publish(p, n, unit, t, next);
  }
}

}  // namespace cuda
}  // namespace fastrnn
