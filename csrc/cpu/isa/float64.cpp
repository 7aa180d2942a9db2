#define FASTRNN_DTYPE double
#include "cpu/engine/instances.h"

namespace fastrnn {
namespace FASTRNN_ISA {
extern const CellKernels float64_kernels[] = {FASTRNN_CELLS(FASTRNN_CELL_KERNELS)};
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
