// launch.cuh's functions, in the simulator.
#pragma once
#include "launch.h"

// The GPU that is simulated: the seed of the threads' order (see schedule.h), its SMs, compute
// capability (80, 90) and the bytes of shared memory a block may have.
extern "C" __attribute__((used, visibility("default"))) inline void fastrnn_sim_configure(
    unsigned seed, int sms, int arch, int64_t shared) {
  fastrnn::cuda::sim::settings = {seed, sms, arch, shared};
}

namespace fastrnn {
namespace cuda {

inline Limits device_limits() {
  const sim::Settings& gpu = sim::settings;
  return {gpu.sms, gpu.arch, gpu.shared, max_cluster(gpu.arch)};
}

// As on a real GPU, less the registers: an SM has 1 KB of shared memory more than a block may use,
// takes 1 KB for each of its blocks, and runs 2048 threads and 32 blocks at most.
template <class P>
int max_blocks(void (*)(P), const Launch& l) {
  const Limits gpu = device_limits();
  if (l.shared > size_t(gpu.shared) || l.cluster > gpu.max_cluster) return 0;
  const int by_shared = int((gpu.shared + 1024) / int64_t(l.shared + 1024));
  const int each = std::min({by_shared, 2048 / l.threads, 32});
  return each * gpu.sms / l.cluster * l.cluster;
}

inline void check_launch(const Launch& l) {
  const Limits gpu = device_limits();
  const auto refuse = [](const char* why) { throw std::runtime_error(why); };
  if (l.grid.x == 0 || l.grid.y == 0 || l.grid.z == 0) refuse("invalid configuration: empty grid");
  if (l.grid.x > 0x7fffffff || l.grid.y > 65535 || l.grid.z > 65535)
    refuse("invalid configuration: grid");
  if (l.threads < 1 || l.threads > 1024) refuse("invalid configuration: threads");
  if (l.threads % 32) refuse("the simulator knows whole warps only");
  if (l.shared > size_t(gpu.shared)) refuse("invalid argument: more shared memory than there is");
  if (l.cluster < 1 || l.cluster > gpu.max_cluster) refuse("invalid cluster size");
  if (l.grid.x % unsigned(l.cluster)) refuse("invalid cluster size: the grid is no multiple of it");
}

// Runs the kernel to its end. Throws std::runtime_error also for what goes wrong in it.
template <class P>
void launch(void (*kernel)(P), const Launch& l, const P& params) {
  static_assert(std::is_trivially_copyable<P>::value, "a kernel's parameters are plain data");
  check_launch(l);
  const int64_t blocks = int64_t(l.grid.x) * l.grid.y * l.grid.z;
  if (l.cooperative && blocks > max_blocks(kernel, l))
    throw std::runtime_error("too many blocks in cooperative launch");
  struct Call {
    void (*kernel)(P);
    const P& params;
    static void run(const void* call) {
      const Call& c = *static_cast<const Call*>(call);
      c.kernel(c.params);
    }
  } call = {kernel, params};
  const unsigned threads = unsigned(l.threads), cluster = unsigned(l.cluster);
  sim::run({l.grid, threads, l.shared, cluster, l.cooperative, Call::run, &call});
}

}  // namespace cuda
}  // namespace fastrnn
