#include "instances.cuh"

#define FASTRNN_STEP ForwardStep
#define FASTRNN_NUMBERS Tf32Numbers
#define FASTRNN_MATH Tf32

namespace fastrnn {
namespace cuda {
FASTRNN_PASSES(tf32_forward)
}  // namespace cuda
}  // namespace fastrnn
