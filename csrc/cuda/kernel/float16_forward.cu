#include "instances.cuh"

#define FASTRNN_STEP ForwardStep
#define FASTRNN_NUMBERS HalfNumbers
#define FASTRNN_MATH Half

namespace fastrnn {
namespace cuda {
FASTRNN_PASSES(float16_forward)
}  // namespace cuda
}  // namespace fastrnn
