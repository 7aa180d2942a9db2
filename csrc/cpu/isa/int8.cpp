#define FASTRNN_WEIGHTS Int8Weights
#include "cpu/engine/inference_instances.h"

namespace fastrnn {
namespace FASTRNN_ISA {
extern const CellKernels int8_kernels[] = {FASTRNN_CELLS(FASTRNN_INFERENCE_KERNELS)};
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
