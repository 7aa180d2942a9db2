#include "instances.cuh"

#define FASTRNN_STEP ForwardStep
#define FASTRNN_NUMBERS DoubleNumbers
#define FASTRNN_MATH None

namespace fastrnn {
namespace cuda {
FASTRNN_PASSES(float64_forward)
}  // namespace cuda
}  // namespace fastrnn
