// device.cuh's primitives, as the simulator has them.
#pragma once
#include <cmath>

#include "machine.h"
#include "numbers.h"

namespace fastrnn {
namespace cuda {
namespace sim {

inline void sync_block(Place place) {
  Hidden own;
  Block& block = *current->block;
  if (block.ended) fail("__syncthreads after a thread of the block has ended", place);
  char* order = &block.barrier.order[block.barrier.phase & 1];
  release(order);
  arrive_and_wait(block.barrier, "__syncthreads", place);
  acquire(order);
}

// All lanes meet. Only __syncwarp orders memory; shuffles and mma do not.
inline unsigned meet_warp(const char* what, Place place, unsigned mask = ~0u) {
  if (mask != ~0u) fail(std::string(what) + ": the simulator knows whole warps only", place);
  return arrive_and_wait(current->warp->barrier, what, place);
}
inline void sync_warp(unsigned mask, Place place) {
  Hidden own;
  Barrier& barrier = current->warp->barrier;
  char* order = &barrier.order[barrier.phase & 1];
  release(order);
  meet_warp("__syncwarp", place, mask);
  acquire(order);
}

// Every lane gives a value and takes that of lane `source`.
template <class T>
T shuffle(unsigned mask, T value, unsigned source, const char* what, Place place) {
  static_assert(sizeof(T) <= sizeof(Warp::slots[0][0]), "a shuffle moves at most 16 bytes");
  Hidden own;
  Warp& warp = *current->warp;
  std::memcpy(warp.slots[warp.barrier.phase & 1][current->lane], &value, sizeof(T));
  const unsigned parity = meet_warp(what, place, mask);
  std::memcpy(&value, warp.slots[parity][source % 32], sizeof(T));
  return value;
}
inline unsigned ballot(unsigned mask, bool vote, const char* what, Place place) {
  Hidden own;
  Warp& warp = *current->warp;
  warp.slots[warp.barrier.phase & 1][current->lane][0] = vote;
  const unsigned parity = meet_warp(what, place, mask);
  unsigned votes = 0;
  for (unsigned lane = 0; lane < 32; ++lane) votes |= unsigned(warp.slots[parity][lane][0]) << lane;
  return votes;
}

// The numbers in an operand's word, for the types that come two to a word and for tf32.
inline float element(uint32_t word, int i, Bf16) { return bf16_float(uint16_t(word >> 16 * i)); }
inline float element(uint32_t word, int i, Half) { return half_float(uint16_t(word >> 16 * i)); }
inline float element(uint32_t word, int, Tf32) { return bits_float(word & ~0x1fffu); }

// Lane 4 g + t holds, P elements to a word (2, or 1 for tf32):
//   a[i]: row g + 8 (i % 2), columns P t + 4 P (i / 2) ...    [16, 8 P]
//   b[i]: rows P t + 4 P i ..., column g                      [8 P, 8]
//   c[i]: row g + 8 (i / 2), column 2 t + i % 2               [16, 8]
// (PTX ISA, "Matrix Fragments for mma.m16n8k16" and "... mma.m16n8k8".) The lanes spread their
// operands as matrices, b transposed; then each makes its four results.
template <class T>
void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], T tag, Place place) {
  constexpr int P = sizeof(T) == 2 ? 2 : 1;
  Hidden own;
  Warp& warp = *current->warp;
  const int g = int(current->lane / 4), t = int(current->lane % 4);
  const unsigned now = warp.barrier.phase & 1;
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < P; ++j)
      warp.a[now][g + 8 * (i % 2)][P * t + 4 * P * (i / 2) + j] = element(a[i], j, tag);
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < P; ++j) warp.b[now][g][P * t + 4 * P * i + j] = element(b[i], j, tag);
  const unsigned parity = meet_warp("mma", place);
  const float *a0 = warp.a[parity][g], *a1 = warp.a[parity][g + 8];
  const float *b0 = warp.b[parity][2 * t], *b1 = warp.b[parity][2 * t + 1];
  for (int k = 0; k < 8 * P; ++k) {
    c[0] += a0[k] * b0[k], c[1] += a0[k] * b1[k];
    c[2] += a1[k] * b0[k], c[3] += a1[k] * b1[k];
  }
}

inline void cluster_arrive(Place place) {
  Hidden own;
  Thread& me = *current;
  Cluster& cluster = *me.block->cluster;
  if (me.at_cluster) fail("cluster_arrive twice without cluster_wait between", place);
  if (cluster.ended) fail("cluster_arrive after a thread of the cluster has ended", place);
  me.at_cluster = true, me.cluster_phase = cluster.barrier.phase;
  release(&cluster.barrier.order[me.cluster_phase & 1]);
  arrive(cluster.barrier, "cluster_arrive", place);
  maybe_yield(2);
}
inline void cluster_wait(Place place) {
  Hidden own;
  Thread& me = *current;
  Barrier& barrier = me.block->cluster->barrier;
  if (!me.at_cluster) fail("cluster_wait without cluster_arrive", place);
  me.at_cluster = false;
  if (barrier.phase == me.cluster_phase) wait(barrier, "cluster_wait", place);
  acquire(&barrier.order[me.cluster_phase & 1]);
}

// Where block `rank` of the cluster has what the present block has at p.
inline void* cluster_map(const void* p, unsigned rank, Place place) {
  Hidden own;
  const Block& block = *current->block;
  const auto offset = size_t(static_cast<const unsigned char*>(p) - block.shared);
  if (offset >= machine->shared) fail("cluster_map of an address not in shared memory", place);
  if (rank >= machine->job.cluster) fail("cluster_map to a rank outside the cluster", place);
  const Block& peer = (&block)[int(rank) - int(block.rank)];
  if (peer.ended == machine->block.x) fail("cluster_map to a block that has ended", place);
  return peer.shared + offset;
}

}  // namespace sim
}  // namespace cuda
}  // namespace fastrnn
