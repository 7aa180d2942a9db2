#include "cuda/kernels.h"
#include "launch.cuh"

namespace fastrnn {
namespace cuda {

Limits current_limits() { return device_limits(); }

}  // namespace cuda
}  // namespace fastrnn
