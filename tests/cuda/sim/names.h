// CUDA's own names, for code that g++ compiles.
#pragma once
#include "traffic.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))

#define threadIdx (::fastrnn::cuda::sim::current->index)
#define blockIdx (::fastrnn::cuda::sim::current->block->index)
#define blockDim (::fastrnn::cuda::sim::machine->block)
#define gridDim (::fastrnn::cuda::sim::machine->job.grid)

struct __align__(8) int2 {
  int x, y;
};
struct __align__(16) int4 {
  int x, y, z, w;
};
struct __align__(8) uint2 {
  unsigned x, y;
};
struct __align__(16) uint4 {
  unsigned x, y, z, w;
};
struct __align__(8) float2 {
  float x, y;
};
struct __align__(16) float4 {
  float x, y, z, w;
};

namespace simulator = fastrnn::cuda::sim;

inline void __syncthreads(simulator::Place here = simulator::Place::here()) {
  simulator::sync_block(here);
}
inline void __syncwarp(unsigned mask = ~0u, simulator::Place here = simulator::Place::here()) {
  simulator::sync_warp(mask, here);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, simulator::Place here = simulator::Place::here()) {
  return simulator::shuffle(mask, value, unsigned(lane), "__shfl_sync", here);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits,
                  simulator::Place here = simulator::Place::here()) {
  const unsigned lane = simulator::current->lane ^ unsigned(bits);
  return simulator::shuffle(mask, value, lane, "__shfl_xor_sync", here);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned n,
                   simulator::Place here = simulator::Place::here()) {
  const unsigned lane = simulator::current->lane;
  return simulator::shuffle(mask, value, lane + n > 31 ? lane : lane + n, "__shfl_down_sync", here);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned n,
                 simulator::Place here = simulator::Place::here()) {
  const unsigned lane = simulator::current->lane;
  return simulator::shuffle(mask, value, lane < n ? lane : lane - n, "__shfl_up_sync", here);
}
inline unsigned __ballot_sync(unsigned mask, int vote,
                              simulator::Place here = simulator::Place::here()) {
  return simulator::ballot(mask, vote != 0, "__ballot_sync", here);
}
inline int __any_sync(unsigned mask, int vote, simulator::Place here = simulator::Place::here()) {
  return simulator::ballot(mask, vote != 0, "__any_sync", here) != 0;
}
inline int __all_sync(unsigned mask, int vote, simulator::Place here = simulator::Place::here()) {
  return simulator::ballot(mask, vote != 0, "__all_sync", here) == ~0u;
}

template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T value) {
  *p = value;
}
