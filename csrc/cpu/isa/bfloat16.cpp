#define FASTRNN_DTYPE Bf16
#include "cpu/engine/instances.h"

namespace fastrnn {
namespace FASTRNN_ISA {
extern const CellKernels bfloat16_kernels[] = {FASTRNN_CELLS(FASTRNN_CELL_KERNELS)};
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
