#include "instances.cuh"

#define FASTRNN_STEP BackwardStep
#define FASTRNN_NUMBERS ExactNumbers
#define FASTRNN_MATH Fma

namespace fastrnn {
namespace cuda {
FASTRNN_PASSES(float32_backward)
}  // namespace cuda
}  // namespace fastrnn
