// The bugs that the kernels of this folder can be given, and what they share.
#pragma once
#include <map>
#include <string>

#include "cuda/kernel/device.cuh"
#include "cuda/kernel/launch.cuh"

namespace fastrnn {
namespace cuda {

enum class Bug {
  none,
  // of any kernel
  one_slot,    // values are written where those of the step before may still be read
  no_barrier,  // the block's barrier is missing
  early_exit,  // leaves before others are done with its block
  // in a block
  divergent,        // one warp meets the others at another barrier
  skipped_barrier,  // one warp leaves the barrier out, once
  past_end,         // one float behind the end of shared memory
  half_shuffle,     // half of the lanes take part
  // in a cluster
  no_start,    // stores into blocks that may not have started
  read_early,  // reads between cluster_arrive and cluster_wait
  store_late,  // stores between cluster_arrive and cluster_wait
  fragment,    // takes the halves of an operand's columns the wrong way round
  arrive_twice,
  wait_twice,
  wrong_rank,
  rank_left_out,  // one block gets no values
  // in a cluster, with counted stores
  too_few_bytes,  // expects fewer than come
  too_many_bytes,
  wrong_parity,
  // in a grid
  no_tag,       // takes whatever it reads
  half_tag,     // looks at the tag of one word of two
  unpublished,  // one thread leaves out one step
  flag,         // untagged words, then a flag that orders nothing
  plain_data,   // the same with plain stores, which the simulator does not delay
};

struct Params {
  const float* x;   // [steps][batch][units]
  const Bf16* w;    // [units][units]
  float* out;       // [steps][batch][units]
  uint64_t* words;  // for the grid kernel, zero
  int steps;
  Bug bug;
};

// h'[j] = h[j] / 2 + h[j + shift] / 4 + x[j], units modulo n.
FASTRNN_DEVICE float mix(const float* h, int j, int shift, int n, float x) {
  return h[j] / 2 + h[(j + shift) % n] / 4 + x;
}

}  // namespace cuda
}  // namespace fastrnn
