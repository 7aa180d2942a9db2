#include "cells/registry.h"
#include "stream/engine/layer.h"

namespace fastrnn {
namespace FASTRNN_ISA {
#define FASTRNN_LAYER(name, ...) stream::layer_kernels<__VA_ARGS__, int8_t>(),
extern const ::fastrnn::stream::LayerKernels int8_steps[] = {
    FASTRNN_CELLS(FASTRNN_LAYER) stream::layer_kernels<stream::Linear, int8_t>()};
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
