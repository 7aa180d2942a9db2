#include "cpu/engine/int8_instances.h"

namespace fastrnn {
namespace FASTRNN_ISA {
extern const CellKernels int8_kernels[] = {FASTRNN_CELLS(FASTRNN_INT8_KERNELS)};
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
