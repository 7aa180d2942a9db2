#include "kernels.h"
#include "launch.cuh"

namespace fastrnn {
namespace cuda {

Limits current_limits() {
  const DeviceLimits l = device_limits();
  return {l.sms, l.arch, l.shared, l.max_cluster};
}

}  // namespace cuda
}  // namespace fastrnn
