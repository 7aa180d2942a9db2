#define FASTRNN_WEIGHTS Bf16Weights
#include "cpu/engine/inference_instances.h"

namespace fastrnn {
namespace FASTRNN_ISA {
extern const CellKernels bf16_weights_kernels[] = {FASTRNN_CELLS(FASTRNN_INFERENCE_KERNELS)};
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
