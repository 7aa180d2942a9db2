#include "instances.cuh"

#define FASTRNN_STEP BackwardStep
#define FASTRNN_NUMBERS Bf16Numbers
#define FASTRNN_MATH Bf16

namespace fastrnn {
namespace cuda {
FASTRNN_PASSES(bfloat16_backward)
}  // namespace cuda
}  // namespace fastrnn
