#include "instances.cuh"

#define FASTRNN_STEP ForwardStep
#define FASTRNN_NUMBERS Bf16Numbers
#define FASTRNN_MATH Bf16

namespace fastrnn {
namespace cuda {
FASTRNN_PASSES(bfloat16_forward)
}  // namespace cuda
}  // namespace fastrnn
