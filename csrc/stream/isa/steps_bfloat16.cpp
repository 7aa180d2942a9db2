#include "cells/registry.h"
#include "stream/engine/layer.h"

namespace fastrnn {
namespace FASTRNN_ISA {
#define FASTRNN_LAYER(name, ...) stream::layer_kernels<__VA_ARGS__, Bf16>(),
extern const ::fastrnn::stream::LayerKernels bfloat16_steps[] = {
    FASTRNN_CELLS(FASTRNN_LAYER) stream::layer_kernels<stream::Linear, Bf16>()};
}  // namespace FASTRNN_ISA
}  // namespace fastrnn
