// Starting a kernel, and what the device can hold: the only calls of the CUDA runtime.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "cuda/device_limits.h"

#ifdef FASTRNN_SIM
#include "sim/launch.h"
#else
#include <cuda_runtime.h>

#include <map>
#include <mutex>
#include <utility>
#endif

namespace fastrnn {
namespace cuda {

struct Launch {
  dim3 grid;
  int threads;    // a block
  size_t shared;  // bytes of dynamic shared memory a block
  int cluster = 1;
  bool cooperative = false;  // all blocks at the same time, or the launch fails
  void* stream = nullptr;
};

}  // namespace cuda
}  // namespace fastrnn

#ifdef FASTRNN_SIM
#include "sim/runtime.h"
#else

namespace fastrnn {
namespace cuda {

inline void check(cudaError_t status) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // or the next call, whoever's, would report it again
  throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(status));
}

inline int current_device() {
  int device = 0;
  check(cudaGetDevice(&device));
  return device;
}

inline Limits read_limits(int device) {
  const auto read = [device](cudaDeviceAttr what) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, what, device));
    return value;
  };
  const int arch =
      10 * read(cudaDevAttrComputeCapabilityMajor) + read(cudaDevAttrComputeCapabilityMinor);
  return {read(cudaDevAttrMultiProcessorCount), arch, read(cudaDevAttrMaxSharedMemoryPerBlockOptin),
          read(cudaDevAttrClusterLaunch) ? max_cluster(arch) : 1};
}

// Of the current device.
inline Limits device_limits() {
  static std::mutex mutex;
  static std::map<int, Limits> known;
  const int device = current_device();
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = known.find(device);
  return found != known.end() ? found->second : (known[device] = read_limits(device));
}

// Lets the kernel have the shared memory and the cluster, once for each kernel and device.
inline void permit(const void* kernel, const Launch& l) {
  struct Permitted {
    size_t shared = 48 << 10;
    int cluster = 8;
  };
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, Permitted> permitted;
  const std::lock_guard<std::mutex> lock(mutex);
  Permitted& now = permitted[{kernel, current_device()}];
  if (l.shared > now.shared) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(l.shared)));
    now.shared = l.shared;
  }
  if (l.cluster > now.cluster) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
    now.cluster = l.cluster;
  }
}

// The runtime's form of a Launch; the attributes live in it, so it does not move.
struct LaunchConfig {
  explicit LaunchConfig(const Launch& l) {
    config.gridDim = l.grid;
    config.blockDim = dim3(unsigned(l.threads));
    config.dynamicSmemBytes = l.shared;
    config.stream = static_cast<cudaStream_t>(l.stream);
    config.attrs = attributes;
    if (l.cluster > 1) {
      cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
      attribute.id = cudaLaunchAttributeClusterDimension;
      attribute.val.clusterDim.x = unsigned(l.cluster);
      attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    }
    if (l.cooperative) {
      cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
      attribute.id = cudaLaunchAttributeCooperative;
      attribute.val.cooperative = 1;
    }
  }
  LaunchConfig(const LaunchConfig&) = delete;

  cudaLaunchConfig_t config = {};
  cudaLaunchAttribute attributes[2] = {};
};

// Starts the kernel; never waits for it, so that it may be captured in a graph. Throws
// std::runtime_error with CUDA's message.
template <class P>
void launch(void (*kernel)(P), const Launch& l, const P& params) {
  const void* function = reinterpret_cast<const void*>(kernel);
  permit(function, l);
  const LaunchConfig config(l);
  void* arguments[] = {const_cast<P*>(&params)};
  check(cudaLaunchKernelExC(&config.config, function, arguments));
}

}  // namespace cuda
}  // namespace fastrnn
#endif
