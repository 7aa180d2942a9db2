// What a device allows.
#pragma once
#include <cstdint>

namespace fastrnn {
namespace cuda {

struct Limits {
  int sms;          // multiprocessors
  int arch;         // compute capability as 80, 90
  int64_t shared;   // bytes of shared memory that a block may have
  int max_cluster;  // blocks of a cluster: 1, 8 or 16
};

constexpr int kClusterArch = 90;  // clusters begin with it

// 8 is portable; the data-centre GPUs (compute capability 9 to 11) take 16.
constexpr int max_cluster(int arch) { return arch < kClusterArch ? 1 : arch < 120 ? 16 : 8; }

}  // namespace cuda
}  // namespace fastrnn
