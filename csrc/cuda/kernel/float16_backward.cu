#include "instances.cuh"

#define FASTRNN_STEP BackwardStep
#define FASTRNN_NUMBERS HalfNumbers
#define FASTRNN_MATH Half

namespace fastrnn {
namespace cuda {
FASTRNN_PASSES(float16_backward)
}  // namespace cuda
}  // namespace fastrnn
