#include "instances.cuh"

#define FASTRNN_STEP ForwardStep
#define FASTRNN_NUMBERS ExactNumbers
#define FASTRNN_MATH Fma

namespace fastrnn {
namespace cuda {
FASTRNN_PASSES(float32_forward)
}  // namespace cuda
}  // namespace fastrnn
