#include "instances.cuh"

#define FASTRNN_STEP BackwardStep
#define FASTRNN_NUMBERS DoubleNumbers
#define FASTRNN_MATH None

namespace fastrnn {
namespace cuda {
FASTRNN_PASSES(float64_backward)
}  // namespace cuda
}  // namespace fastrnn
